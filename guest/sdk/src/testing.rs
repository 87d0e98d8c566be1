//! A host for tests of pipelines and policies, which run natively.
//!
//! [`Fixed`] has settings and no models: it is enough for policies, and for what vision does before and after a model. What runs a model is
//! tested with a host of your own that answers [`Host::load`]:
//!
//! ```
//! use std::time::Duration;
//!
//! use rostro_sdk::align::{TEMPLATE, align};
//! use rostro_sdk::decode::Rgb;
//! use rostro_sdk::host::{Host, Level, Model, ModelSpec, Output, Settings, Thresholds};
//! use rostro_sdk::recognizer::{RECOGNIZER, embed};
//! use rostro_sdk::tensor::{Channels, Normalization};
//! use rostro_sdk::testing::Fixed;
//!
//! /// A recogniser whose embedding of a face is its first red, green and blue.
//! struct Corner;
//!
//! impl Model for Corner {
//!     fn spec(&self) -> ModelSpec {
//!         ModelSpec { size: Some((112, 112)), normalization: Normalization { mean: 0.0, std: 1.0, channels: Channels::Rgb } }
//!     }
//!
//!     fn run(&self, _: &str, input: &[f32], count: usize, width: usize, height: usize) -> Result<Vec<Output>, String> {
//!         let embeddings: Vec<f32> = input.chunks_exact(width * height).map(|plane| plane[0]).collect();
//!         let bytes = embeddings.iter().flat_map(|value| value.to_le_bytes()).collect();
//!         Ok(vec![Output::new(&[count as u32, 3], bytes)])
//!     }
//! }
//!
//! struct WithModel(Fixed);
//!
//! impl Settings for WithModel {
//!     fn thresholds(&self) -> Thresholds {
//!         self.0.thresholds()
//!     }
//!     fn setting(&self, key: &str) -> Option<String> {
//!         self.0.setting(key)
//!     }
//!     fn log(&self, level: Level, message: &str) {
//!         self.0.log(level, message);
//!     }
//! }
//!
//! impl Host for WithModel {
//!     type Model = Corner;
//!
//!     fn max_pixels(&self) -> u64 {
//!         self.0.max_pixels()
//!     }
//!     fn load(&self, role: &str) -> Result<Corner, String> {
//!         if role == RECOGNIZER { Ok(Corner) } else { Err(format!("no model for `{role}`")) }
//!     }
//!     fn stage(&self, _: &str, _: Duration) {}
//! }
//!
//! let picture = Rgb { width: 112, height: 112, pixels: [10, 20, 30].repeat(112 * 112) };
//! let face = align(&picture, &TEMPLATE).unwrap();
//! let embeddings = embed(&WithModel(Fixed::default()), RECOGNIZER, [&face, &face]).unwrap();
//! assert_eq!(embeddings, [[10.0, 20.0, 30.0], [10.0, 20.0, 30.0]]);
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use crate::host::{Host, Level, Model, ModelSpec, Output, Settings, Thresholds};

/// A host with fixed settings and without models: [`Host::load`] fails for every role. It takes images of 40 megapixels, prints what is
/// logged and forgets times.
///
/// ```
/// use rostro_sdk::host::{Host, Settings};
/// use rostro_sdk::testing::Fixed;
///
/// let mut host = Fixed::default();
/// host.thresholds.similarity = 0.4;
/// host.settings.insert("margin".to_owned(), "0.1".to_owned());
/// assert_eq!((host.thresholds().similarity, host.setting("margin").as_deref(), host.setting("other")), (0.4, Some("0.1"), None));
/// assert!(host.load("detector").is_err());
/// ```
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

/// A model that there is not: the type of [`Fixed`]'s models, of which it has none.
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
