//! The host's side of a pipeline: settings, models and reports.
//!
//! A component implements these traits with its imports; a test or a benchmark implements them
//! natively. Code written against them runs in both. Policies get [`Settings`] alone, vision all of
//! [`Host`].

use std::borrow::Cow;
use std::time::{Duration, Instant};

use crate::detect::tensor::Normalization;

/// The default memory of a guest, in bytes. The operator's limit `memory-mib` overrides it.
pub const DEFAULT_MEMORY: u64 = 512 << 20;

/// The default size of one state of a stream, in bytes. The operator's limit `state-kib` overrides
/// it.
pub const DEFAULT_STATE: usize = 256 << 10;

/// The operating point: the operator's values, else the model pack's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Faces with a lower detection score are not reported, 0 to 1.
    pub detection: f32,
    /// A face is unknown if its best cosine similarity is not above this, -1 to 1.
    pub similarity: f32,
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For development only.
    Debug,
    /// Normal operation.
    Info,
    /// A problem that does not end the request.
    Warn,
}

/// Strictness of the review of enrolment photos, from lax to strict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReviewLevel {
    /// Take the best face that is above the detection threshold.
    Off,
    /// Reject photos that make a person hard to recognise.
    #[default]
    Standard,
    /// As [`Self::Standard`], with narrower limits.
    Strict,
}

/// What a request is about. It never has the caller's key, nor anything derived from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Name of the stream that the frame belongs to. None outside a session.
    pub stream: Option<String>,
    /// The searched group. None if all people are searched.
    pub group: Option<String>,
    /// When the frame was taken, in milliseconds since 1970-01-01 UTC. It never decreases within a
    /// stream.
    pub time: u64,
    /// Text that the caller passed along for the pipeline, at most 1,024 bytes. Untrusted.
    pub text: String,
}

/// The request and the operator's settings: all that a policy can read of the host.
pub trait Settings {
    /// Returns what the request is about. While a component describes itself, it is empty.
    fn context(&self) -> Context {
        Context::default()
    }

    /// Returns the operating point.
    fn thresholds(&self) -> Thresholds;

    /// Returns the value of a declared [`Setting`]: the request's, for one that requests may choose,
    /// else the revision's, the operator's (`--setting KEY=VALUE`) or the model pack's, in this order,
    /// else its default. None for a setting that the component does not declare.
    fn setting(&self, key: &str) -> Option<String>;

    /// Returns the most bytes of one state of a stream: the operator's limit `state-kib`.
    fn state_limit(&self) -> usize {
        DEFAULT_STATE
    }

    /// Returns the strictness of [`Policy::review`](crate::policy::Policy::review): the operator's,
    /// or a stricter one if the caller asks for it.
    fn review_level(&self) -> ReviewLevel;

    /// Writes a line to the host's log. The host keeps 16 KiB a request by default and drops the
    /// rest. Never put pixels, embeddings or names of people here.
    fn log(&self, level: Level, message: &str);

    /// Adds a warning to the answer of the request, for the caller. `code` is stable, 1 to 64
    /// lower-case letters, digits and `_`; `message` is one sentence of at most 300 characters. The
    /// host keeps the first 8 of each call. Never put pixels, embeddings or names of people here.
    fn warning(&self, _code: &str, _message: &str) {}

    /// Reports that the value of a setting is invalid, with the rule for valid ones. Return an
    /// error afterwards: the operator then sees it as an invalid setting. A refusal while the
    /// component describes itself stops the staging. [`refused`] makes both the message and the
    /// error.
    fn refused(&self, _key: &str, _message: &str) {}
}

/// Setting of a component, as it declares it. The host refuses values that do not follow the type.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// 1 to 64 lower-case letters, digits and `-`.
    pub name: &'static str,
    /// Its values.
    pub kind: SettingKind,
    /// Value if the operator gives none.
    pub default: Cow<'static, str>,
    /// One sentence of at most 300 characters about what it does.
    pub description: &'static str,
    /// Whether a request may choose a value of its own.
    pub by_request: bool,
}

/// Values of a setting.
#[derive(Clone, Debug, PartialEq)]
pub enum SettingKind {
    /// Any text of at most 4,096 bytes.
    Text,
    /// `on` or `off`.
    Flag,
    /// A whole number from the first to the second.
    Integer(f64, f64),
    /// A number from the first to the second.
    Number(f64, f64),
    /// One of these: each 1 to 64 lower-case letters, digits and `-`.
    Choice(&'static [&'static str]),
}

impl Setting {
    /// Creates a setting that only the operator chooses.
    #[must_use]
    pub fn new(
        name: &'static str,
        kind: SettingKind,
        default: impl Into<Cow<'static, str>>,
        description: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            default: default.into(),
            description,
            by_request: false,
        }
    }

    /// Lets requests choose a value of their own.
    #[must_use]
    pub fn chosen_by_request(self) -> Self {
        Self {
            by_request: true,
            ..self
        }
    }
}

/// Refuses the value of a setting: reports the rule `must` to the host, and returns the error text.
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

/// Services of the host for vision.
pub trait Host: Settings {
    /// A model that the host grants.
    type Model: Model;

    /// Returns the largest image to decode, in pixels (width × height), for
    /// [`crate::decode::decode`].
    fn max_pixels(&self) -> u64;

    /// Returns the memory limit of this guest in bytes, for [`crate::decode::decode_within`]: the
    /// operator's `memory-mib`.
    fn memory(&self) -> u64 {
        DEFAULT_MEMORY
    }

    /// Loads the model of the pack for a role of
    /// [`Description::models`](crate::analysis::Description::models). Load it once and keep it for
    /// all faces of a request.
    ///
    /// # Errors
    ///
    /// If the pack has none, or if it cannot be loaded; the text has the role.
    fn load(&self, role: &str) -> Result<Self::Model, String>;

    /// Adds time to a stage of the request, shown in the answer's `timings_ms`. Names are 1 to 32
    /// lower-case letters, digits and `-`; the host keeps the first 16 of a request.
    fn stage(&self, name: &str, time: Duration);

    /// Reports the recogniser's raw output for the face at this index of the analysis. Needed only
    /// for an enrolment, if its [`embedding`](crate::analysis::AnalyzedFace::embedding) is not the
    /// raw output, for example a mean.
    fn raw_sample(&self, _face: usize, _embedding: &[f32]) {}

    /// Runs `work` and adds its wall-clock time to a stage.
    fn timed<T>(&self, stage: &str, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = work();
        self.stage(stage, begun.elapsed());
        result
    }
}

/// Input of a model, as the pack's manifest defines it: an N×3×H×W tensor of 32-bit floats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelSpec {
    /// Width and height of its input in pixels; None if it takes any multiples of 32.
    pub size: Option<(usize, usize)>,
    /// Conversion of a pixel's bytes to numbers.
    pub normalization: Normalization,
}

/// A loaded model. It has one input, of images.
pub trait Model {
    /// Returns the input's size and normalisation.
    fn spec(&self) -> ModelSpec;

    /// Runs it on `count` images of `width` × `height` pixels. `input` is a
    /// `count`×3×`height`×`width` tensor, normalised by [`Self::spec`]: exactly 3 × `count` ×
    /// `height` × `width` values. Outputs come in the graph's order, without their names.
    ///
    /// The time of the run is added to `stage`, and that of the transfer of tensors to `copy-in`
    /// and `copy-out`.
    ///
    /// # Errors
    ///
    /// If the model fails or returns other than 32-bit floats; the text has the model's role.
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
    /// Creates an output of these dimensions from the host's bytes: 32-bit floats, little-endian.
    ///
    /// A model of a test has the bytes `values.iter().flat_map(|value|
    /// value.to_le_bytes()).collect()`.
    #[must_use]
    pub fn new(dimensions: &[u32], bytes: Vec<u8>) -> Self {
        Self {
            dimensions: dimensions.iter().map(|&length| length as usize).collect(),
            bytes,
        }
    }

    /// Creates an output of these values, for tests.
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

    /// Returns its dimensions, outermost first: `[16, 512]` for 16 embeddings of 512 numbers.
    #[must_use]
    pub fn dimensions(&self) -> &[usize] {
        &self.dimensions
    }

    /// Returns its values, row by row: the last dimension runs fastest. Ignores bytes at the end
    /// that are no whole value.
    #[must_use]
    pub fn values(&self) -> Cow<'_, [f32]> {
        // Allocators align more than bytes need, so the values can nearly always be borrowed.
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
    fn output_values_match_bytes() {
        let bytes: Vec<u8> = [1.5_f32, -2.0, f32::MAX]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let output = Output::new(&[1, 3], bytes);
        assert_eq!(
            (output.dimensions(), &*output.values()),
            ([1, 3].as_slice(), [1.5, -2.0, f32::MAX].as_slice())
        );
        // Seven bytes: one float, and three bytes that are ignored.
        assert_eq!(Output::new(&[2], vec![0; 7]).values().len(), 1);
    }
}
