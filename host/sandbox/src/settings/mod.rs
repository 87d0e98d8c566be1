//! Configuration and model settings that a guest can read.

pub mod declared;
pub mod names;

use std::collections::{BTreeMap, HashMap};

use rostro_models::Thresholds;

use crate::bindings::Model;

/// Configuration as the guests of one revision read it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Thresholds in force.
    pub thresholds: Thresholds,
    /// Largest image to decode, in pixels.
    pub(crate) max_pixels: u64,
    /// Granted models by role.
    pub(crate) models: HashMap<String, Model>,
    /// Settings of the pipeline by key.
    pub own: BTreeMap<String, String>,
}

impl Default for Settings {
    /// Returns settings for inspecting a component: no models, and arbitrary thresholds.
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
