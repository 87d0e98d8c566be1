//! A pipeline with a third model. A face that MiniFASNetV2 takes for printed or shown on a screen
//! is unknown, with the code `not_live`.
//!
//! The model (Minivision, "Silent-Face-Anti-Spoofing", 2020) takes 2.7 times the face's box
//! (1×3×80×80 in the pack `mobile-liveness`) and returns three logits, the second for a living
//! face. The setting `live` is the least probability, 0 to 1, by default 0.4. All 30 test photos
//! are above it. Of the same photos on a simulated screen, all but 2 are below it. One model judges
//! one picture, so it stops careless attacks, but not determined ones.

mod surroundings;

use rostro_sdk::align::align;
use rostro_sdk::analysis::{
    Analysis, AnalyzeError, AnalyzedFace, Description, EmbeddingContract, Measure, Purpose,
};
use rostro_sdk::decide::Rule;
use rostro_sdk::decode::{Rgb, decode};
use rostro_sdk::detector::{DETECTOR, detect};
use rostro_sdk::geometry::Rect;
use rostro_sdk::host::{Host, Model, Setting, SettingKind, Settings};
use rostro_sdk::measure::Measures;
use rostro_sdk::policy::{Decision, Face, Identity, Policy, Probe, Reason, Review, assigned};
use rostro_sdk::recognizer::{RECOGNIZER, embed};
use rostro_sdk::region;
use rostro_sdk::scrfd::Detection;
use rostro_sdk::vision::Vision;

/// The role of the model that separates living faces from pictures of faces.
const LIVENESS: &str = "liveness";

/// The name of the measure for the policy: the probability that the face is alive.
const LIVE: &str = "live";

/// Side of the model's region, in sides of the face's box.
const SURROUNDINGS: f32 = 2.7;

/// The component.
#[derive(Debug)]
pub struct Liveness;

rostro_sdk::export!(Liveness);

impl Vision for Liveness {
    fn describe() -> Description {
        Description {
            identity: Self::identity(),
            models: vec![DETECTOR, RECOGNIZER, LIVENESS],
            contract: EmbeddingContract::arcface(RECOGNIZER),
        }
    }

    fn analyze(
        host: &impl Host,
        image: Vec<u8>,
        purpose: Purpose,
    ) -> Result<Analysis, AnalyzeError> {
        let picture = host.timed("decode", || decode(&image, host.max_pixels()))?;
        let (width, height) = (picture.width, picture.height);
        let liveness = host.load(LIVENESS)?;
        let mut faces = Vec::new();
        for Detection {
            bounds,
            landmarks,
            score,
        } in detect(host, &picture, host.thresholds().detection, purpose)?
        {
            if let Some((inside, aligned)) = bounds
                .within(width, height)
                .zip(align(&picture, &landmarks))
            {
                let embedding = embed(host, RECOGNIZER, [&aligned])?.concat();
                let mut measures = Measures::of(&bounds, &landmarks, &aligned).named();
                measures.push(Measure::new(
                    LIVE,
                    live(host, &liveness, &picture, &inside)?,
                ));
                faces.push(AnalyzedFace {
                    bounds: inside,
                    score,
                    landmarks: landmarks.into(),
                    measures,
                    track: None,
                    embedding,
                });
            }
        }
        Ok(Analysis::new(width, height, faces))
    }
}

/// Returns the probability that a face is alive, 0 to 1: the softmax of the model's 1×3 output, at
/// the middle number.
fn live<H: Host>(host: &H, model: &H::Model, picture: &Rgb, face: &Rect) -> Result<f32, String> {
    let spec = model.spec();
    let (width, height) = spec
        .size
        .ok_or("the model for liveness must have an input of a fixed size")?;
    let tensor = host.timed("crop", || {
        let region = surroundings::of(face, SURROUNDINGS, picture.width, picture.height);
        region::tensor(picture, &region, (width, height), spec.normalization)
    });
    let outputs = model.run(LIVENESS, &tensor, 1, width, height)?;
    let logits = outputs
        .first()
        .map(|output| output.values().into_owned())
        .unwrap_or_default();
    let [_, alive, _] = logits.as_slice() else {
        return Err(format!(
            "the model for liveness gives {} numbers, not 3",
            logits.len()
        ));
    };
    let sum: f32 = logits.iter().map(|logit| (logit - alive).exp()).sum();
    Ok(sum.recip())
}

impl Policy for Liveness {
    fn identity() -> Identity {
        Identity::new("liveness", env!("CARGO_PKG_VERSION"))
    }

    fn review(settings: &impl Settings, faces: &[Face]) -> Review {
        let scores = faces
            .iter()
            .enumerate()
            .max_by(|a, b| a.1.score.total_cmp(&b.1.score));
        match scores {
            Some((_, face)) if !is_live(settings, face) => {
                let advice = "This looks like a picture of a face; take the photo of the person.";
                Review::Reject(vec![
                    Reason::new("not_live", advice)
                        .measured(face.measure(LIVE).unwrap_or(0.0), least(settings)),
                ])
            }
            Some((index, face)) if face.score >= settings.thresholds().detection => {
                Review::Accept(index)
            }
            _ => Review::Reject(vec![Reason::new(
                "no_face",
                "No clear face was found; take the photo from nearer, in better light.",
            )]),
        }
    }

    fn settings() -> Vec<Setting> {
        vec![Setting::new(
            "live",
            SettingKind::Number(0.0, 1.0),
            LEAST.to_string(),
            "Least probability that a face is alive.",
        )]
    }

    fn decide(settings: &impl Settings, probes: &[Probe]) -> Vec<Decision> {
        // Faces that are not alive must not take a person's place.
        let (alive, places): (Vec<Probe>, Vec<usize>) = probes
            .iter()
            .enumerate()
            .filter(|(_, probe)| is_live(settings, &probe.face))
            .map(|(place, probe)| (probe.clone(), place))
            .unzip();
        let mut decisions = vec![Decision::unknown("not_live"); probes.len()];
        let decided = assigned(
            &alive,
            Rule::against_rivals(settings.thresholds().similarity),
        );
        for (place, decision) in places.into_iter().zip(decided) {
            if let Some(slot) = decisions.get_mut(place) {
                *slot = decision;
            }
        }
        decisions
    }
}

/// The default of the least probability of a living face.
const LEAST: f32 = 0.4;

/// Reads the least probability of a living face, 0 to 1: the setting `live`.
fn least(settings: &impl Settings) -> f32 {
    // The host refuses values that do not follow the type.
    let value = settings.setting("live");
    value.and_then(|text| text.parse().ok()).unwrap_or(LEAST)
}

/// Returns true if vision judged the face as alive; false if it has no measure.
fn is_live(settings: &impl Settings, face: &Face) -> bool {
    face.measure(LIVE)
        .is_some_and(|live| live >= least(settings))
}

#[cfg(test)]
mod tests {
    use rostro_sdk::policy::Candidate;
    use rostro_sdk::testing::Fixed;

    use super::*;

    fn probe(live: f32, similarity: f32) -> Probe {
        let bounds = Rect {
            x1: 0.0,
            y1: 0.0,
            x2: 100.0,
            y2: 100.0,
        };
        let face = Face {
            bounds,
            score: 0.9,
            landmarks: Vec::new(),
            measures: vec![Measure::new(LIVE, live)],
        };
        let alice = Candidate {
            id: "alice".to_owned(),
            similarity,
        };
        Probe::new(face, vec![alice])
    }

    /// A picture of a person is unknown, and does not take the person's place.
    #[test]
    fn picture_of_face_is_unknown() {
        let decisions = Liveness::decide(&Fixed::default(), &[probe(0.1, 0.9), probe(0.9, 0.7)]);
        assert_eq!(
            decisions,
            [
                Decision::unknown("not_live"),
                Decision::Known {
                    candidate: 0,
                    confidence: 0.7
                }
            ]
        );
    }

    #[test]
    fn picture_of_face_is_not_enrolled() {
        let review = |live| Liveness::review(&Fixed::default(), &[probe(live, 0.0).face]);
        assert_eq!(review(0.9), Review::Accept(0));
        assert!(
            matches!(review(0.2), Review::Reject(reasons) if reasons[0].measured == Some((0.2, 0.4)))
        );
    }
}
