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
//! - `tracking`: `on`, the default, tracks the faces of a stream. `off` recognises each frame alone.
//! - `closeness`: passes of the detector, which a request may choose.

pub mod analyze;
pub mod track;

use rostro_sdk::analysis::{Analysis, AnalyzeError, Description, EmbeddingContract, Purpose};
use rostro_sdk::decide::Rule;
use rostro_sdk::detector::{self, DETECTOR};
use rostro_sdk::host::{Host, Setting, SettingKind, Settings};
use rostro_sdk::policy::{Decision, Identity, Outcome, Policy, Probe, assigned};
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

    fn settings() -> Vec<Setting> {
        let mut settings = detector::settings();
        settings.push(Setting::new(
            "tracking",
            SettingKind::Flag,
            "on",
            "Tracks faces in a stream, embeds few of them, and identifies tracks by votes.",
        ));
        settings
    }

    const STATE_VERSION: u32 = 2;

    fn analyze_frame(
        host: &impl Host,
        image: Vec<u8>,
        state: &[u8],
    ) -> Result<Analysis, AnalyzeError> {
        if is_tracking(host) {
            track::analyze_frame(host, image, state)
        } else {
            analyze::analyze(host, image, Purpose::Recognize)
        }
    }
}

impl Policy for Insightface {
    fn identity() -> Identity {
        Identity::new("insightface", env!("CARGO_PKG_VERSION"))
    }

    fn settings() -> Vec<Setting> {
        vec![rivals()]
    }

    fn decide(settings: &impl Settings, probes: &[Probe]) -> Vec<Decision> {
        assigned(probes, rule(settings))
    }

    const STATE_VERSION: u32 = 1;

    fn decide_frame(settings: &impl Settings, probes: &[Probe], state: Option<&[u8]>) -> Outcome {
        let tracks: Option<Vec<u32>> = probes.iter().map(|probe| probe.track).collect();
        match (state, tracks) {
            (Some(state), Some(tracks)) if is_tracking(settings) => {
                track::decide_frame(settings, probes, &tracks, state)
            }
            _ => Outcome::new(Self::decide(settings, probes), probes),
        }
    }
}

/// Returns true unless the operator turned tracking off.
fn is_tracking(settings: &impl Settings) -> bool {
    settings.setting("tracking").as_deref() != Some("off")
}

/// Returns the setting of the matching rule.
fn rivals() -> Setting {
    Setting::new(
        "rivals",
        SettingKind::Flag,
        "on",
        "Requires more similarity of a face if another person is nearly as similar.",
    )
}

/// Returns the matching rule of the operator's settings.
fn rule(settings: &impl Settings) -> Rule {
    let threshold = settings.thresholds().similarity;
    match settings.setting("rivals").as_deref() {
        Some("off") => Rule::plain(threshold),
        _ => Rule::against_rivals(threshold),
    }
}
