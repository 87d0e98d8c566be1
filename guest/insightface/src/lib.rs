//! The default pipeline: SCRFD finds faces, five landmarks align them, ArcFace embeds them, and
//! each is the most similar person above a threshold. The parts are `rostro-sdk`'s; this crate
//! combines them ([`analyze`]) and exports a component.
//!
//! Settings:
//!
//! - `detector-size`: `auto`, the default, runs as many passes as a picture needs. A number of
//!   pixels runs one, with the longer side of that length.
//! - `letterbox`: `frame`, the default, pads a picture only to multiples of 32. `square` runs one
//!   pass and enrols faces only as they are, exactly as insightface does.
//! - `rivals`: `on`, the default, requires more similarity if a rival is nearly as similar. `off`
//!   applies only the threshold.

pub mod analyze;

use rostro_sdk::analysis::{Analysis, AnalyzeError, Description, EmbeddingContract, Purpose};
use rostro_sdk::decide::Rule;
use rostro_sdk::detector::DETECTOR;
use rostro_sdk::host::{Host, Settings, refused};
use rostro_sdk::policy::{Decision, Identity, Policy, Probe, assigned};
use rostro_sdk::recognizer::RECOGNIZER;
use rostro_sdk::vision::Vision;

/// The component.
#[derive(Debug)]
pub struct Insightface;

rostro_sdk::export!(Insightface);

impl Vision for Insightface {
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

impl Policy for Insightface {
    fn identity() -> Identity {
        Identity::new("insightface", env!("CARGO_PKG_VERSION"))
    }

    fn check_settings(settings: &impl Settings) {
        // `rule` reports an invalid value by refusing it.
        let _ = rule(settings);
    }

    fn decide(settings: &impl Settings, probes: &[Probe]) -> Vec<Decision> {
        // An invalid setting stopped the component when it was staged.
        let rule = rule(settings).unwrap_or(Rule::against_rivals(settings.thresholds().similarity));
        assigned(probes, rule)
    }
}

/// Returns the matching rule of the operator's settings.
fn rule(settings: &impl Settings) -> Result<Rule, String> {
    let threshold = settings.thresholds().similarity;
    match settings.setting("rivals").as_deref() {
        None | Some("on") => Ok(Rule::against_rivals(threshold)),
        Some("off") => Ok(Rule::plain(threshold)),
        Some(other) => Err(refused(settings, "rivals", other, "must be `on` or `off`")),
    }
}
