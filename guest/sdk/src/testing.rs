//! A host for tests of pipelines and policies, which run natively.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::host::{Host, Level, Model, ModelSpec, Output, Settings, Thresholds};

/// A host with fixed settings and without models.
#[derive(Clone, Debug, PartialEq)]
pub struct Fixed {
    /// The operating point; 0.5 and 0.5 by default.
    pub thresholds: Thresholds,
    /// The operator's settings; none by default.
    pub settings: BTreeMap<String, String>,
}

impl Default for Fixed {
    fn default() -> Self {
        Self { thresholds: Thresholds { detection: 0.5, similarity: 0.5 }, settings: BTreeMap::new() }
    }
}

impl Settings for Fixed {
    fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    fn setting(&self, key: &str) -> Option<String> {
        self.settings.get(key).cloned()
    }

    fn log(&self, _level: Level, message: &str) {
        println!("{message}");
    }
}

impl Host for Fixed {
    type Model = NoModel;

    fn max_pixels(&self) -> u64 {
        40_000_000
    }

    fn load(&self, role: &str) -> Result<NoModel, String> {
        Err(format!("this host has no model for the role `{role}`: it is for tests of what goes before and after one"))
    }

    fn stage(&self, _name: &str, _time: Duration) {}
}

/// A model that there is not.
#[derive(Clone, Copy, Debug)]
pub enum NoModel {}

impl Model for NoModel {
    fn spec(&self) -> ModelSpec {
        match *self {}
    }

    fn run(&self, _stage: &str, _input: &[f32], _count: usize, _width: usize, _height: usize) -> Result<Vec<Output>, String> {
        match *self {}
    }
}
