//! Settings that change answers, and so must be the same on all nodes of a database. Values that the
//! memory of a machine limits further count as they were set, because an operator can change those.

use clap::ValueEnum;

use rostro_database::NodeSettings;
use rostro_database::settings::{LEASE, PIPELINE_SETTING};
use rostro_index::Method;
use rostro_inference::precision::PrecisionMode;
use rostro_sandbox::review::Review;

use super::Config;

/// Value of a threshold that the pack defines.
const OF_PACK: &str = "the pack's";

/// Key of the review, which a reload may change.
const REVIEW: &str = "review";

/// Returns the settings of a configuration that change answers.
pub(super) fn settings(config: &Config) -> NodeSettings {
    let Config {
        fleet,
        pack,
        precision,
        tuning,
        limits,
        review,
        search,
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
