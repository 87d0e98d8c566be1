//! Checks of answers that hold for any picture.

use rostro_common::vector::cosine;

use crate::bindings::{Decision, Face, Match, Probe, Ruling};
use crate::types::Analysis;

/// Lowest cosine of two embeddings of one face, because other cores may round differently.
const STABLE: f32 = 0.999;

/// Distance of a landmark from its face's box, in parts of the longer side.
const MARGIN: f32 = 0.1;

/// Fails if two analyses of one picture differ by more than rounding.
pub(super) fn check_stable(first: &Analysis, second: &Analysis) -> Result<(), String> {
    if first.faces.len() != second.faces.len() {
        return Err(format!(
            "{} faces in the first analysis and {} in the second",
            first.faces.len(),
            second.faces.len()
        ));
    }
    for (index, (a, b)) in first.faces.iter().zip(&second.faces).enumerate() {
        let similarity = cosine(&a.embedding, &b.embedding);
        if similarity < STABLE {
            return Err(format!(
                "face {index} has another embedding in a second analysis (cosine {similarity:.4})"
            ));
        }
        let (a, b) = (coordinates(&a.face), coordinates(&b.face));
        let has_moved = a.iter().zip(&b).any(|(a, b)| (a - b).abs() > 1.0);
        if a.len() != b.len() || has_moved {
            return Err(format!("face {index} moved in a second analysis"));
        }
    }
    Ok(())
}

/// Returns the coordinates of the box and the landmarks.
fn coordinates(face: &Face) -> Vec<f32> {
    let bounds = &face.bounds;
    let points = face.landmarks.iter().flat_map(|point| [point.x, point.y]);
    [bounds.x1, bounds.y1, bounds.x2, bounds.y2]
        .into_iter()
        .chain(points)
        .collect()
}

/// Fails unless landmarks are in their box, the eyes above the mouth, and in order from left to
/// right.
pub(super) fn check_landmarks(face: &Face) -> Result<(), String> {
    let [left_eye, right_eye, _, left_mouth, right_mouth] = face.landmarks.as_slice() else {
        return Ok(());
    };
    let bounds = &face.bounds;
    let margin = MARGIN * (bounds.x2 - bounds.x1).max(bounds.y2 - bounds.y1);
    let is_inside = |x: f32, y: f32| {
        (bounds.x1 - margin..=bounds.x2 + margin).contains(&x)
            && (bounds.y1 - margin..=bounds.y2 + margin).contains(&y)
    };
    if face
        .landmarks
        .iter()
        .any(|point| !is_inside(point.x, point.y))
    {
        return Err("a landmark lies outside of its face".to_owned());
    }
    // The direction from mouth to eyes defines up, because a face may be rotated.
    let (up_x, up_y) = (
        left_eye.x + right_eye.x - left_mouth.x - right_mouth.x,
        left_eye.y + right_eye.y - left_mouth.y - right_mouth.y,
    );
    let rightwards = |x: f32, y: f32| x * -up_y + y * up_x;
    let eyes = rightwards(right_eye.x - left_eye.x, right_eye.y - left_eye.y);
    let mouth = rightwards(right_mouth.x - left_mouth.x, right_mouth.y - left_mouth.y);
    if eyes < 0.0 || mouth < 0.0 {
        return Err(
            "landmarks are not in the order left eye, right eye, nose, left and right corner of \
             the mouth"
                .to_owned(),
        );
    }
    Ok(())
}

/// Fails if the decisions assign one person to two faces.
pub(super) fn check_people_once(probes: &[Probe], rulings: &[Ruling]) -> Result<(), String> {
    let person = |(probe, ruling): (&Probe, &Ruling)| match &ruling.decision {
        Decision::Known(Match { candidate, .. }) => probe
            .candidates
            .get(*candidate as usize)
            .map(|candidate| candidate.id.clone()),
        Decision::Unknown(_) => None,
    };
    let mut people: Vec<String> = probes.iter().zip(rulings).filter_map(person).collect();
    people.sort();
    match people.windows(2).any(|pair| pair.first() == pair.last()) {
        true => Err("decide assigned one person to two faces of a frame".to_owned()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::{BoundingBox, Candidate, Point};

    fn face(landmarks: [(f32, f32); 5]) -> Face {
        let landmarks = landmarks.into_iter().map(|(x, y)| Point { x, y }).collect();
        Face {
            bounds: BoundingBox {
                x1: 0.0,
                y1: 0.0,
                x2: 100.0,
                y2: 100.0,
            },
            score: 0.9,
            landmarks,
            measures: Vec::new(),
        }
    }

    #[test]
    fn landmarks_must_be_ordered_inside() {
        let upright = [
            (30.0, 30.0),
            (70.0, 30.0),
            (50.0, 50.0),
            (35.0, 75.0),
            (65.0, 75.0),
        ];
        check_landmarks(&face(upright)).unwrap();
        // A rotated face has its landmarks in order.
        check_landmarks(&face(upright.map(|(x, y)| (100.0 - y, x)))).unwrap();
        check_landmarks(&face(upright.map(|(x, y)| (100.0 - x, 100.0 - y)))).unwrap();
        let mut swapped = upright;
        swapped.swap(0, 1);
        assert!(
            check_landmarks(&face(swapped))
                .unwrap_err()
                .contains("order")
        );
        let mut outside = upright;
        outside[2] = (150.0, 50.0);
        assert!(
            check_landmarks(&face(outside))
                .unwrap_err()
                .contains("outside")
        );
    }

    #[test]
    fn person_with_two_faces_fails() {
        let candidate = |id: &str| Candidate {
            id: id.to_owned(),
            similarity: 0.5,
        };
        let probe = Probe {
            face: face([(0.0, 0.0); 5]),
            track: None,
            is_fresh: true,
            candidates: vec![candidate("a"), candidate("b")],
        };
        let probes = [probe.clone(), probe];
        let ruling = |decision| Ruling {
            decision,
            candidates: Vec::new(),
        };
        let known = |candidate| {
            ruling(Decision::Known(Match {
                candidate,
                confidence: 0.9,
            }))
        };
        let unknown = ruling(Decision::Unknown("ambiguous".to_owned()));
        check_people_once(&probes, &[known(0), known(1)]).unwrap();
        check_people_once(&probes, &[known(0), unknown]).unwrap();
        check_people_once(&probes, &[known(0), known(0)]).unwrap_err();
    }
}
