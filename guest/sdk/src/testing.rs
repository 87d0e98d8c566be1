//! A host for native tests of pipelines and policies.
//!
//! ```
//! use rostro_sdk::align::{TEMPLATE, align};
//! use rostro_sdk::decode::Rgb;
//! use rostro_sdk::host::Output;
//! use rostro_sdk::recognizer::{RECOGNIZER, embed};
//! use rostro_sdk::testing::Fixed;
//!
//! // A recogniser that returns the first red, green and blue value as the embedding.
//! let size = Some((112, 112));
//! let host = Fixed::default().with_model(RECOGNIZER, size, |input, [n, channels, height, width]| {
//!     let corners: Vec<f32> = input.chunks_exact(width * height).map(|plane| plane[0]).collect();
//!     Ok(vec![Output::of(&[n, channels], &corners)])
//! });
//!
//! let picture = Rgb { width: 112, height: 112, pixels: [10, 20, 30].repeat(112 * 112) };
//! let face = align(&picture, &TEMPLATE).unwrap();
//! let embeddings = embed(&host, RECOGNIZER, [&face, &face]).unwrap();
//! assert_eq!(embeddings, [[10.0, 20.0, 30.0], [10.0, 20.0, 30.0]]);
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::detect::tensor::{Channels, Normalization};
use crate::host::{
    Context, Host, Level, Model, ModelSpec, Output, ReviewLevel, Settings, Thresholds,
};

/// A host with fixed settings and the models of a test. It takes images of 40 megapixels, prints
/// log lines, and ignores times. It records warnings, refused settings and raw samples.
///
/// ```
/// use rostro_sdk::host::{Host, Settings};
/// use rostro_sdk::testing::Fixed;
///
/// let mut host = Fixed::default();
/// host.thresholds.similarity = 0.4;
/// host.settings.insert("margin".to_owned(), "0.1".to_owned());
/// assert_eq!(host.thresholds().similarity, 0.4);
/// assert_eq!(host.setting("margin").as_deref(), Some("0.1"));
/// assert_eq!(host.setting("other"), None);
/// assert!(host.load("detector").is_err());
/// ```
#[derive(Clone, Debug)]
pub struct Fixed {
    /// The operating point; 0.5 and 0.5 by default.
    pub thresholds: Thresholds,
    /// The operator's settings; none by default.
    pub settings: BTreeMap<String, String>,
    /// Strictness of the review of photos; [`ReviewLevel::Standard`] by default.
    pub review_level: ReviewLevel,
    /// What the request is about; empty by default.
    pub context: Context,
    /// The models by role; none by default. [`Fixed::with_model`] adds one.
    pub models: BTreeMap<String, FixedModel>,
    /// The reports so far, for [`Fixed::warnings`], [`Fixed::refusals`] and [`Fixed::raw_samples`].
    /// Public so that tests can write `..Fixed::default()`.
    #[doc(hidden)]
    pub reported: SharedReport,
}

/// SharedReport of a pipeline in addition to its results.
#[derive(Clone, Debug, Default)]
struct Report {
    warnings: Vec<(String, String)>,
    refusals: Vec<(String, String)>,
    raw_samples: BTreeMap<usize, Vec<f32>>,
}

/// A [`Report`] behind a lock, so that threads of a test can share a host. A clone has a copy.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct SharedReport(Mutex<Report>);

impl SharedReport {
    fn get(&self) -> MutexGuard<'_, Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for SharedReport {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.get().clone()))
    }
}

impl Default for Fixed {
    fn default() -> Self {
        Self {
            thresholds: Thresholds {
                detection: 0.5,
                similarity: 0.5,
            },
            settings: BTreeMap::new(),
            review_level: ReviewLevel::default(),
            context: Context::default(),
            models: BTreeMap::new(),
            reported: SharedReport::default(),
        }
    }
}

impl Fixed {
    /// Returns the code and message of each warning so far.
    #[must_use]
    pub fn warnings(&self) -> Vec<(String, String)> {
        self.reported.get().warnings.clone()
    }

    /// Returns the key and message of each refused setting so far.
    #[must_use]
    pub fn refusals(&self) -> Vec<(String, String)> {
        self.reported.get().refusals.clone()
    }

    /// Returns the raw samples so far, by the index of their face.
    #[must_use]
    pub fn raw_samples(&self) -> BTreeMap<usize, Vec<f32>> {
        self.reported.get().raw_samples.clone()
    }

    /// Adds a model for a role. `run` gets an N×C×H×W tensor of channel values from 0 to 255 (red,
    /// green, blue) and these four lengths, and returns the outputs. `size` is the width and height
    /// of its input; None accepts any multiples of 32.
    #[must_use]
    pub fn with_model(
        mut self,
        role: &str,
        size: Option<(usize, usize)>,
        run: impl Fn(&[f32], [usize; 4]) -> Result<Vec<Output>, String> + Send + Sync + 'static,
    ) -> Self {
        let normalization = Normalization {
            mean: 0.0,
            std: 1.0,
            channels: Channels::Rgb,
        };
        self.models.insert(
            role.to_owned(),
            FixedModel {
                spec: ModelSpec {
                    size,
                    normalization,
                },
                run: Arc::new(run),
            },
        );
        self
    }
}

impl Settings for Fixed {
    fn context(&self) -> Context {
        self.context.clone()
    }

    fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    fn setting(&self, key: &str) -> Option<String> {
        self.settings.get(key).cloned()
    }

    fn review_level(&self) -> ReviewLevel {
        self.review_level
    }

    fn log(&self, _level: Level, message: &str) {
        println!("{message}");
    }

    fn warning(&self, code: &str, message: &str) {
        self.reported
            .get()
            .warnings
            .push((code.to_owned(), message.to_owned()));
    }

    fn refused(&self, key: &str, message: &str) {
        self.reported
            .get()
            .refusals
            .push((key.to_owned(), message.to_owned()));
    }
}

impl Host for Fixed {
    type Model = FixedModel;

    fn max_pixels(&self) -> u64 {
        40_000_000
    }

    fn load(&self, role: &str) -> Result<FixedModel, String> {
        self.models.get(role).cloned().ok_or_else(|| {
            format!("this host has no model for the role `{role}`: give it one with `with_model`")
        })
    }

    fn stage(&self, _name: &str, _time: Duration) {}

    fn raw_sample(&self, face: usize, embedding: &[f32]) {
        self.reported
            .get()
            .raw_samples
            .insert(face, embedding.to_vec());
    }
}

/// The function of a test's model.
type Run = dyn Fn(&[f32], [usize; 4]) -> Result<Vec<Output>, String> + Send + Sync;

/// A model that calls a function of the test.
#[derive(Clone)]
pub struct FixedModel {
    /// Its input's size and normalisation.
    pub spec: ModelSpec,
    run: Arc<Run>,
}

impl fmt::Debug for FixedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FixedModel")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl Model for FixedModel {
    fn spec(&self) -> ModelSpec {
        self.spec
    }

    fn run(
        &self,
        _stage: &str,
        input: &[f32],
        count: usize,
        width: usize,
        height: usize,
    ) -> Result<Vec<Output>, String> {
        (self.run)(input, [count, 3, height, width])
    }
}
