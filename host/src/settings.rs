//! What a guest can read of the operator's configuration and of the model pack.

use std::collections::{BTreeMap, HashMap};

use crate::bindings::vision::rostro::pipeline::settings::Model;
use crate::models::Thresholds;

/// One revision's view of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The operating point.
    pub(crate) thresholds: Thresholds,
    /// The largest image to decode, in pixels.
    pub(crate) max_pixels: u64,
    /// The models granted, by role.
    pub(crate) models: HashMap<String, Model>,
    /// The operator's own keys.
    pub(crate) own: BTreeMap<String, String>,
}

impl Default for Settings {
    /// What a component sees that is only inspected: no models, and thresholds that nothing depends on.
    fn default() -> Self {
        Self {
            thresholds: Thresholds { detection: 0.5, similarity: 0.5 },
            max_pixels: 40_000_000,
            models: HashMap::new(),
            own: BTreeMap::new(),
        }
    }
}
