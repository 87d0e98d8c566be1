//! Settings that change answers or what all nodes share, and so must be the same on all nodes of a
//! database. Values that the memory of a machine limits further count as they were set, because an
//! operator can change those.

use std::time::Duration;

use clap::ValueEnum;

use rostro_database::NodeSettings;
use rostro_database::settings::{LEASE, PIPELINE_SETTING};
use rostro_index::Method;
use rostro_inference::precision::PrecisionMode;
use rostro_models::Pack;
use rostro_sandbox::review::Review;

use super::Config;

/// Value of a threshold that the pack defines.
const OF_PACK: &str = "the pack's";

/// Key of the review, which a reload may change.
const REVIEW: &str = "review";

/// Key of the 8-bit models, by which two nodes in one mode may answer differently.
const INT8_MODELS: &str = "int8-models";

/// Returns the settings of a configuration that nodes must share.
pub(super) fn settings(config: &Config) -> NodeSettings {
    let Config {
        fleet,
        pack,
        precision,
        tuning,
        limits,
        review,
        search,
        keep_audit,
        ..
    } = config;
    let threshold =
        |value: Option<f32>| value.map_or_else(|| OF_PACK.to_owned(), |value| value.to_string());
    let fixed = [
        ("detection-threshold", threshold(tuning.detection)),
        ("similarity-threshold", threshold(tuning.similarity)),
        (
            "max-megapixels",
            (tuning.max_pixels / 1_000_000).to_string(),
        ),
        ("pack", pack.clone()),
        ("precision", precision_name(*precision).to_owned()),
        ("search", search_name(*search)),
        (REVIEW, review_name(*review)),
        (LEASE, fleet.lease.as_secs_f64().to_string()),
        // Each node removes the lines of all.
        ("keep-audit", keep_audit.to_string()),
    ];
    let fixed = fixed.map(|(key, value)| (key.to_owned(), value));
    let limits = limits
        .values()
        .map(|(name, value)| (format!("limit.{name}"), value.to_string()));
    let own = tuning
        .own
        .iter()
        .map(|(key, value)| (format!("{PIPELINE_SETTING}{key}"), value.clone()));
    NodeSettings::new(fixed.into_iter().chain(limits).chain(own))
}

/// Adds the digest of the pack's 8-bit models, which belong to no revision.
pub(super) fn add_models(config: &Config) {
    if config.precision != PrecisionMode::Float {
        let digest = Pack::variants_digest(&config.models, &config.pack);
        let digest = digest.map_or_else(|| "none".to_owned(), |digest| digest.short());
        config.fleet.settings.set(INT8_MODELS, &digest);
    }
}

/// Returns true if a deletion waits for a dead node for longer than a request may take.
pub(crate) fn outlasts_deadline(lease: Duration, deadline: Duration) -> bool {
    lease.mul_f64(1.1) >= deadline
}

/// Records a review that a reload changed.
pub(crate) fn set_review(settings: &NodeSettings, review: Review) {
    settings.set(REVIEW, &review_name(review));
}

fn review_name(review: Review) -> String {
    review
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

fn precision_name(precision: PrecisionMode) -> &'static str {
    match precision {
        PrecisionMode::Auto => "auto",
        PrecisionMode::Float => "float",
        PrecisionMode::Int8 => "int8",
    }
}

fn search_name(search: Method) -> String {
    match search {
        Method::Exact => "exact".to_owned(),
        Method::Approximate { above } => format!("approximate above {above}"),
        Method::Int8 { above } => format!("int8 above {above}"),
    }
}
