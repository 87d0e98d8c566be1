//! The default pipeline with a policy that names no one, because tests need a second pipeline with
//! equal embeddings and other answers.

// Compiled in rather than depended on, because a component can have the exports of one crate only.
#[path = "../../insightface/src/analyze.rs"]
pub mod analyze;

use rostro_sdk::analysis::{Analysis, AnalyzeError, Description, EmbeddingContract, Purpose};
use rostro_sdk::decide::Rule;
use rostro_sdk::detector::DETECTOR;
use rostro_sdk::host::{Host, Settings};
use rostro_sdk::policy::{Decision, Identity, Policy, Probe, assigned};
use rostro_sdk::recognizer::RECOGNIZER;
use rostro_sdk::vision::Vision;

/// Similarity that no two embeddings have.
const UNREACHABLE: f32 = 1.5;

/// The component.
#[derive(Debug)]
pub struct Variant;

rostro_sdk::export!(Variant);

impl Vision for Variant {
    fn describe() -> Description {
        Description {
            identity: Self::identity(),
            models: vec![DETECTOR, RECOGNIZER],
            contract: EmbeddingContract::arcface(RECOGNIZER),
        }
    }

    fn analyze(
        host: &impl Host,
        image: Vec<u8>,
        purpose: Purpose,
    ) -> Result<Analysis, AnalyzeError> {
        analyze::analyze(host, image, purpose)
    }
}

impl Policy for Variant {
    fn identity() -> Identity {
        // The name of the default pipeline, as a later version of it would have.
        Identity::new("insightface", env!("CARGO_PKG_VERSION"))
    }

    fn decide(_: &impl Settings, probes: &[Probe]) -> Vec<Decision> {
        assigned(probes, Rule::plain(UNREACHABLE))
    }
}
