//! What a pipeline asks of the host that runs it.
//!
//! A component answers these traits with the interfaces that it imports; a test or a benchmark
//! answers them natively. What is written against them runs in both. Policies get [`Settings`]
//! alone, vision all of [`Host`].

use std::borrow::Cow;
use std::time::{Duration, Instant};

use crate::tensor::Normalization;

/// The memory that a guest has unless the operator says otherwise, in bytes.
pub const DEFAULT_MEMORY: u64 = 512 << 20;

/// The operating point: the operator's, else what the model pack recommends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Faces with a lower detection score are not reported, 0 to 1.
    pub detection: f32,
    /// A face whose best cosine similarity is not above this belongs to nobody known, -1 to 1.
    pub similarity: f32,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Only while developing.
    Debug,
    /// Worth knowing.
    Info,
    /// Something is off and the request goes on.
    Warn,
}

/// How strictly enrolment photos are to be judged, the laxest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReviewLevel {
    /// Take the best face that is above the detection threshold.
    Off,
    /// Refuse what makes a person hard to recognise.
    #[default]
    Standard,
    /// The same with narrower limits.
    Strict,
}

/// What the operator set: all that a policy may know of the host.
pub trait Settings {
    /// The operating point.
    fn thresholds(&self) -> Thresholds;

    /// The operator's own value for a key of this pipeline (`--setting KEY=VALUE`), else the model
    /// pack's.
    fn setting(&self, key: &str) -> Option<String>;

    /// How strictly [`Policy::review`](crate::policy::Policy::review) is to judge: what the
    /// operator set, or stricter if the caller asks for it.
    fn review_level(&self) -> ReviewLevel;

    /// Writes a line to the host's log, of which it keeps 16 KiB a request unless the operator says
    /// otherwise, and drops the rest. Never put pixels, embeddings or names of people here.
    fn log(&self, level: Level, message: &str);

    /// Adds a warning to the answer of the request, for the caller. `code` is stable, 1 to 64
    /// lower-case letters, digits and `_`; `message` is one sentence of at most 300 characters. The
    /// host keeps the first 8 of each call. Never put pixels, embeddings or names of people here.
    fn warning(&self, _code: &str, _message: &str) {}

    /// Says that the value of a setting cannot be used, and what it must be. It changes nothing by
    /// itself: return an error after it, which the operator is then told as a bad setting. Called
    /// while the component describes itself it stops the staging. [`refused`] makes both the
    /// message and the error.
    fn refused(&self, _key: &str, _message: &str) {}
}

/// Refuses the value of a setting: tells the host what it must be, and returns the text of the
/// error to return.
///
/// ```
/// use rostro_sdk::host::{Settings, refused};
/// use rostro_sdk::testing::Fixed;
///
/// let mut host = Fixed::default();
/// host.settings.insert("roi".to_owned(), "left".to_owned());
/// let error = refused(&host, "roi", "left", "must be four numbers from 0 to 1");
/// assert_eq!(error, "the setting roi is `left`; it must be four numbers from 0 to 1");
/// assert_eq!(host.refusals(), [("roi".to_owned(), error)]);
/// ```
#[must_use]
pub fn refused(settings: &impl Settings, key: &str, value: &str, must: &str) -> String {
    let message = format!("the setting {key} is `{value}`; it {must}");
    settings.refused(key, &message);
    message
}

/// The host.
pub trait Host: Settings {
    /// A model that it grants.
    type Model: Model;

    /// The largest image to decode, in pixels (width × height): for [`crate::decode::decode`].
    fn max_pixels(&self) -> u64;

    /// The memory that this guest may use, in bytes: the operator's limit `memory-mib`, for
    /// [`crate::decode::decode_within`].
    fn memory(&self) -> u64 {
        DEFAULT_MEMORY
    }

    /// The model that the pack grants for a role, of those that
    /// [`Description::models`](crate::analysis::Description::models) names. Load it once and keep
    /// it for all faces of a request.
    ///
    /// # Errors
    ///
    /// If there is none, or if it cannot be loaded; the text says which role.
    fn load(&self, role: &str) -> Result<Self::Model, String>;

    /// Adds time to a stage of the request, shown in the answer's `timings_ms`. Names are 1 to 32
    /// lower-case letters, digits and `-`; the host keeps the first 16 of a request.
    fn stage(&self, name: &str, time: Duration);

    /// Hands over the recogniser's raw output for the face at this index of the analysis that is
    /// returned, where its [`embedding`](crate::analysis::AnalyzedFace::embedding) is something
    /// else, such as a mean. Only enrolments have a use for it.
    fn raw_sample(&self, _face: usize, _embedding: &[f32]) {}

    /// Does the work and adds the wall-clock time that it took to a stage.
    fn timed<T>(&self, stage: &str, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = work();
        self.stage(stage, begun.elapsed());
        result
    }
}

/// How a model wants to be fed, as the pack's manifest says: with a N×3×H×W tensor of 32-bit
/// floats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelSpec {
    /// Width and height of its input in pixels, in this order; none where any multiples of 32 will
    /// do.
    pub size: Option<(usize, usize)>,
    /// What becomes of a pixel's bytes.
    pub normalization: Normalization,
}

/// A model that is ready to run. It has one input, of images.
pub trait Model {
    /// How it wants to be fed.
    fn spec(&self) -> ModelSpec;

    /// Runs it on `count` images of `width` × `height` pixels: `input` is a
    /// `count`×3×`height`×`width` tensor, normalised as [`Self::spec`] says, of exactly 3 × `count`
    /// × `height` × `width` values. Outputs come in the graph's order, without their names.
    ///
    /// The time of the run is added to `stage`, and that of bringing tensors to the host and back
    /// to `copy-in` and `copy-out`.
    ///
    /// # Errors
    ///
    /// If the model fails or gives other than 32-bit floats; the text says which model.
    fn run(
        &self,
        stage: &str,
        input: &[f32],
        count: usize,
        width: usize,
        height: usize,
    ) -> Result<Vec<Output>, String>;
}

/// One output of a run: a tensor of 32-bit floats.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    dimensions: Vec<usize>,
    bytes: Vec<u8>,
}

impl Output {
    /// An output of these dimensions, as the host hands it out: `bytes` are 32-bit floats,
    /// little-endian, four for each value.
    ///
    /// A model made up for a test gives `values.iter().flat_map(|value|
    /// value.to_le_bytes()).collect()`.
    #[must_use]
    pub fn new(dimensions: &[u32], bytes: Vec<u8>) -> Self {
        Self {
            dimensions: dimensions.iter().map(|&length| length as usize).collect(),
            bytes,
        }
    }

    /// An output of these values, for tests.
    #[must_use]
    pub fn of(dimensions: &[usize], values: &[f32]) -> Self {
        Self {
            dimensions: dimensions.to_vec(),
            bytes: values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        }
    }

    /// Its dimensions, outermost first: `[16, 512]` for 16 embeddings of 512 numbers.
    #[must_use]
    pub fn dimensions(&self) -> &[usize] {
        &self.dimensions
    }

    /// Its values, row by row: the last dimension runs fastest. Bytes that are no whole value at
    /// the end are not read.
    #[must_use]
    pub fn values(&self) -> Cow<'_, [f32]> {
        // Allocators align more than bytes need, so that the values are nearly always read where
        // they lie.
        match bytemuck::try_cast_slice(&self.bytes) {
            Ok(values) if cfg!(target_endian = "little") => Cow::Borrowed(values),
            _ => Cow::Owned(
                self.bytes
                    .as_chunks()
                    .0
                    .iter()
                    .copied()
                    .map(f32::from_le_bytes)
                    .collect(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_wherever_the_bytes_lie() {
        let bytes: Vec<u8> = [1.5_f32, -2.0, f32::MAX]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let output = Output::new(&[1, 3], bytes);
        assert_eq!(
            (output.dimensions(), &*output.values()),
            ([1, 3].as_slice(), [1.5, -2.0, f32::MAX].as_slice())
        );
        // Bytes that are no whole number of floats: what is left over is not read.
        assert_eq!(Output::new(&[2], vec![0; 7]).values().len(), 1);
    }
}
