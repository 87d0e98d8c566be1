//! Output of a guest. The host accepts it only if it follows the rules of `wit/rostro.wit`, which
//! are repeated here.
#![no_main]

use std::collections::HashSet;

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::{arbitrary, fuzz_target};
use rostro_sandbox::bindings::policy::exports::rostro::pipeline::policy::{
    Candidate, Decision, Match, Probe, Reason, ReviewOutcome,
};
use rostro_sandbox::bindings::vision::exports::rostro::pipeline::vision::{
    Description, EmbeddingContract,
};
use rostro_sandbox::bindings::vision::rostro::pipeline::types::Identity;
use rostro_sandbox::bindings::{
    Analysis, AnalyzedFace, BoundingBox, Face, Measure, Point, Purpose,
};
use rostro_sandbox::validate;

/// Length of an embedding.
const DIMENSION: usize = 3;

/// Returns numbers of all kinds, valid ones more often.
fn number(from: &mut Unstructured<'_>) -> Result<f32> {
    Ok(match from.int_in_range(0..=9)? {
        0..=6 => f32::from(from.arbitrary::<u8>()?) / 8.0,
        7 => from.arbitrary::<u8>().map(|odd| {
            [
                f32::NAN,
                f32::INFINITY,
                -0.0,
                -1.0,
                f32::MIN_POSITIVE,
                f32::MAX,
                1.0,
                0.0,
            ][usize::from(odd) % 8]
        })?,
        _ => from.arbitrary()?,
    })
}

/// Returns a share from 0 to 1, or another number.
fn share(from: &mut Unstructured<'_>) -> Result<f32> {
    if from.ratio(7, 8)? {
        Ok(f32::from(from.arbitrary::<u8>()?) / 255.0)
    } else {
        number(from)
    }
}

fn several<T>(
    from: &mut Unstructured<'_>,
    most: usize,
    one: impl Fn(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let count = from.int_in_range(0..=most)?;
    (0..count).map(|_| one(from)).collect()
}

/// Returns a word of few letters, so that words repeat, or any text.
fn word(from: &mut Unstructured<'_>) -> Result<String> {
    if from.ratio(1, 8)? {
        return from.arbitrary();
    }
    let letters = several(from, 70, |from| {
        from.choose(&['a', 'b', '0', '_', '-', '.']).copied()
    })?;
    let short = from.ratio(3, 4)?;
    Ok(letters
        .into_iter()
        .take(if short { 2 } else { 70 })
        .collect())
}

fn embedding(from: &mut Unstructured<'_>) -> Result<Vec<f32>> {
    let length = if from.ratio(1, 8)? {
        from.int_in_range(0..=DIMENSION + 1)?
    } else {
        DIMENSION
    };
    (0..length).map(|_| number(from)).collect()
}

fn face(from: &mut Unstructured<'_>) -> Result<Face> {
    let (x1, y1) = (number(from)?, number(from)?);
    let bounds = BoundingBox {
        x1,
        y1,
        x2: x1 + number(from)?,
        y2: y1 + number(from)?,
    };
    let landmarks = if from.ratio(1, 8)? {
        from.int_in_range(0..=6)?
    } else {
        5
    };
    let landmarks = (0..landmarks)
        .map(|_| {
            Ok(Point {
                x: number(from)?,
                y: number(from)?,
            })
        })
        .collect::<Result<_>>()?;
    let measures = several(from, 40, |from| {
        Ok(Measure {
            name: word(from)?,
            value: number(from)?,
        })
    })?;
    Ok(Face {
        bounds,
        score: share(from)?,
        landmarks,
        measures,
    })
}

fn analysis(from: &mut Unstructured<'_>) -> Result<Analysis> {
    let side = |from: &mut Unstructured<'_>| {
        if from.ratio(1, 8)? {
            from.arbitrary()
        } else {
            Ok(64)
        }
    };
    let (width, height) = (side(from)?, side(from)?);
    let mut faces = several(from, 6, |from| {
        Ok(AnalyzedFace {
            face: face(from)?,
            embedding: embedding(from)?,
        })
    })?;
    if from.ratio(7, 8)? {
        faces.sort_by(|a, b| area(&b.face.bounds).total_cmp(&area(&a.face.bounds)));
    }
    // More faces than an input can describe.
    if let (true, Some(last)) = (from.ratio(1, 16)?, faces.last().cloned()) {
        faces.resize(from.int_in_range(1020..=1030)?, last);
    }
    Ok(Analysis {
        width,
        height,
        faces,
    })
}

fn area(bounds: &BoundingBox) -> f32 {
    (bounds.x2 - bounds.x1) * (bounds.y2 - bounds.y1)
}

fn assert_name(text: &str, most: usize) {
    assert!(
        (1..=most).contains(&text.len())
            && text
                .chars()
                .all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-')),
        "{text:?}"
    );
}

fn assert_code(text: &str) {
    assert!(
        (1..=64).contains(&text.len())
            && text
                .chars()
                .all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_')),
        "{text:?}"
    );
}

fn assert_vector(vector: &[f32]) {
    assert_eq!(vector.len(), DIMENSION);
    assert!(
        vector.iter().all(|number| number.is_finite())
            && vector.iter().any(|number| *number != 0.0),
        "{vector:?}"
    );
}

fn assert_analysis(analysis: &Analysis, purpose: Purpose) {
    assert!(analysis.width > 0 && analysis.height > 0 && analysis.faces.len() <= 1024);
    for AnalyzedFace { face, embedding } in &analysis.faces {
        let BoundingBox { x1, y1, x2, y2 } = face.bounds;
        assert!(
            [x1, y1, x2, y2].into_iter().all(f32::is_finite) && x1 < x2 && y1 < y2,
            "{:?}",
            face.bounds
        );
        assert!(
            x1 >= 0.0
                && y1 >= 0.0
                && f64::from(x2) <= f64::from(analysis.width)
                && f64::from(y2) <= f64::from(analysis.height)
        );
        assert!(face.score >= 0.0 && face.score <= 1.0);
        assert!(face.landmarks.is_empty() || face.landmarks.len() == 5);
        assert!(
            face.landmarks
                .iter()
                .all(|point| point.x.is_finite() && point.y.is_finite())
        );
        assert!(
            face.measures.len() <= 32
                && face
                    .measures
                    .iter()
                    .all(|measure| measure.value.is_finite())
        );
        face.measures
            .iter()
            .for_each(|measure| assert_name(&measure.name, 32));
        let names: HashSet<&str> = face
            .measures
            .iter()
            .map(|measure| measure.name.as_str())
            .collect();
        assert_eq!(names.len(), face.measures.len());
        assert!(purpose != Purpose::Recognize || !embedding.is_empty());
        if !embedding.is_empty() {
            assert_vector(embedding);
        }
    }
    let areas: Vec<f32> = analysis
        .faces
        .iter()
        .map(|analyzed| area(&analyzed.face.bounds))
        .collect();
    assert!(
        areas.iter().all(|area| area.is_finite())
            && areas.windows(2).all(|pair| pair[0] >= pair[1]),
        "{areas:?}"
    );
}

fn decisions(from: &mut Unstructured<'_>) -> Result<()> {
    let candidate = |from: &mut Unstructured<'_>| {
        Ok(Candidate {
            id: word(from)?,
            similarity: share(from)?,
        })
    };
    let probes = several(from, 5, |from| {
        Ok(Probe {
            face: face(from)?,
            candidates: several(from, 4, candidate)?,
        })
    })?;
    let decision = |from: &mut Unstructured<'_>| {
        Ok(if from.arbitrary()? {
            let candidate = if from.ratio(7, 8)? {
                from.int_in_range(0..=4)?
            } else {
                from.arbitrary()?
            };
            Decision::Known(Match {
                candidate,
                confidence: share(from)?,
            })
        } else {
            Decision::Unknown(word(from)?)
        })
    };
    let count = if from.ratio(1, 8)? {
        from.int_in_range(0..=6)?
    } else {
        probes.len()
    };
    let raw = (0..count)
        .map(|_| decision(from))
        .collect::<Result<Vec<_>>>()?;
    let Ok(decisions) = validate::decisions(raw, &probes) else {
        return Ok(());
    };
    assert_eq!(decisions.len(), probes.len());
    let mut identities = HashSet::new();
    for (decision, probe) in decisions.iter().zip(&probes) {
        match decision {
            Decision::Known(known) => {
                assert!(known.confidence >= 0.0 && known.confidence <= 1.0);
                assert!(
                    identities.insert(&probe.candidates[known.candidate as usize].id),
                    "one person twice"
                );
            }
            Decision::Unknown(code) => assert_code(code),
        }
    }
    Ok(())
}

fn review(from: &mut Unstructured<'_>) -> Result<()> {
    let embedded = several(from, 4, |from| from.arbitrary())?;
    let raw = if from.arbitrary()? {
        ReviewOutcome::Accept(if from.ratio(7, 8)? {
            from.int_in_range(0..=4)?
        } else {
            from.arbitrary()?
        })
    } else {
        let optional = |from: &mut Unstructured<'_>| {
            if from.arbitrary()? {
                number(from).map(Some)
            } else {
                Ok(None)
            }
        };
        ReviewOutcome::Reject(several(from, 40, |from| {
            // Sometimes more bytes than the limit.
            let message = word(from)?.repeat(if from.ratio(1, 8)? { 300 } else { 1 });
            Ok(Reason {
                code: word(from)?,
                message,
                value: optional(from)?,
                limit: optional(from)?,
            })
        })?)
    };
    match validate::review(raw, &embedded) {
        Ok(ReviewOutcome::Accept(index)) => assert!(embedded[index as usize]),
        Ok(ReviewOutcome::Reject(reasons)) => {
            assert!((1..=32).contains(&reasons.len()));
            for reason in &reasons {
                assert_code(&reason.code);
                assert!(
                    (1..=500).contains(&reason.message.len())
                        && !reason.message.contains(char::is_control)
                );
                assert!(
                    [reason.value, reason.limit]
                        .into_iter()
                        .flatten()
                        .all(f32::is_finite)
                );
            }
        }
        Err(_) => {}
    }
    Ok(())
}

fn description(from: &mut Unstructured<'_>) -> Result<()> {
    let identity = Identity {
        name: word(from)?,
        version: word(from)?,
    };
    let models = several(from, 20, word)?;
    let recognizer = match models.first() {
        Some(first) if from.ratio(7, 8)? => first.clone(),
        _ => word(from)?,
    };
    let contract = EmbeddingContract {
        recognizer,
        alignment: word(from)?,
        preprocessing: word(from)?,
    };
    let Ok(description) = validate::description(Description {
        identity,
        models,
        contract,
    }) else {
        return Ok(());
    };
    assert_name(&description.identity.name, 64);
    let version = &description.identity.version;
    assert!(
        (1..=64).contains(&version.len())
            && version
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-+".contains(c)),
        "{version:?}"
    );
    assert!(
        description.models.len() <= 16
            && description
                .models
                .contains(&description.contract.recognizer)
    );
    description
        .models
        .iter()
        .for_each(|role| assert_name(role, 32));
    assert_eq!(
        description.models.iter().collect::<HashSet<_>>().len(),
        description.models.len()
    );
    for text in [
        &description.contract.alignment,
        &description.contract.preprocessing,
    ] {
        assert!(
            (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()),
            "{text:?}"
        );
    }
    Ok(())
}

fn one(from: &mut Unstructured<'_>) -> Result<()> {
    match from.int_in_range(0..=4)? {
        0 => {
            let purpose = *from.choose(&[Purpose::Recognize, Purpose::Enroll, Purpose::Detect])?;
            if let Ok(taken) = validate::analysis(analysis(from)?, DIMENSION, purpose) {
                assert_analysis(&taken, purpose);
            }
        }
        1 => decisions(from)?,
        2 => review(from)?,
        3 => description(from)?,
        _ => {
            if let Ok(taken) = validate::templates(several(from, 20, embedding)?, DIMENSION) {
                assert!((1..=16).contains(&taken.len()));
                taken.iter().for_each(|template| assert_vector(template));
            }
        }
    }
    Ok(())
}

fuzz_target!(|input: &[u8]| {
    // Missing bytes give zeros and not an error; other errors have no meaning.
    let _ = one(&mut Unstructured::new(input));
});
