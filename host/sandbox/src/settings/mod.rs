//! What a guest can read of the operator's configuration and of the model pack.

pub mod names;

use std::collections::{BTreeMap, HashMap};

use rostro_models::Thresholds;

use crate::bindings::vision::rostro::pipeline::settings::Model;

/// One revision's view of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The operating point.
    pub thresholds: Thresholds,
    /// The largest image to decode, in pixels.
    pub(crate) max_pixels: u64,
    /// The models granted, by role.
    pub(crate) models: HashMap<String, Model>,
    /// The operator's own keys.
    pub own: BTreeMap<String, String>,
}

impl Default for Settings {
    /// What a component sees that is only inspected: no models, and thresholds that nothing depends
    /// on.
    fn default() -> Self {
        Self {
            thresholds: Thresholds {
                detection: 0.5,
                similarity: 0.5,
            },
            max_pixels: 40_000_000,
            models: HashMap::new(),
            own: BTreeMap::new(),
        }
    }
}
