//! The 8-bit variant of a model, and the kinds of runs in which it is faster.
//!
//! Processors differ: with instructions for 8-bit products (VNNI) a variant takes about half the
//! time of floats, without them more than floats. So the two are timed when the model is loaded.

use std::time::{Duration, Instant};

use ort::environment::Environment;
use ort::session::SessionOutputs;
use prometheus_client::metrics::histogram::Histogram;
use wasmtime_wasi_nn::Tensor;
use wasmtime_wasi_nn::wit::TensorType;

use rostro_common::cancel::CancelScope;

use crate::error::ModelError;
use crate::precision::PrecisionMode;
use crate::sessions::{Sessions, Threads};
use crate::signature::{ModelInput, Signature};
use crate::tensor::{self, TensorError, ValidTensor};

/// Images in a measured run of several. More change the time of an image little.
const SEVERAL: usize = 4;

/// Alternating runs of each precision at least and at most, and the time after which no further
/// ones begin. The shortest run counts, because other work on the machine only adds time.
const MIN_RUNS: usize = 3;
const MAX_RUNS: usize = 9;
const MEASURING_TIME: Duration = Duration::from_millis(60);

/// Timeout for a session, which no other run uses yet.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Factor of the floats' time up to which a variant counts as faster. A smaller gain is within the
/// noise, and not worth the loss of precision.
const WORTHWHILE: f64 = 0.95;

/// Largest measured input in elements, because a model could declare one that no memory holds.
const MAX_ELEMENTS: usize = 16 << 20;

/// Sessions of the variant, and where they are used.
pub(super) struct Int8Variant {
    pub(super) sessions: Sessions,
    faster: FasterRuns,
}

/// Kinds of runs, and whether the variant is used in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FasterRuns {
    /// One image with all cores.
    all_threads: bool,
    /// One image on one thread.
    one_image: bool,
    /// Several images in one run on one thread.
    several_images: bool,
}

/// The model whose variant is loaded.
pub(super) struct Original<'a> {
    pub(super) name: &'a str,
    pub(super) signature: &'a Signature,
    pub(super) sessions: &'a Sessions,
    /// Maximum number of images in a run.
    pub(super) max_images: usize,
}

impl Int8Variant {
    /// Loads the variant of a model and compares it with the model. Returns `None` if it is faster
    /// in no kind of run.
    pub(super) fn load(
        original: &Original<'_>,
        bytes: &[u8],
        mode: PrecisionMode,
        environment: &Environment,
        cores: usize,
        waits: Histogram,
    ) -> Result<Option<Self>, ModelError> {
        let name = || original.name.to_owned();
        let sessions = Sessions::new(environment, bytes, cores, waits).map_err(|cause| {
            ModelError::LoadVariant {
                name: name(),
                cause,
            }
        })?;
        if Signature::of(&sessions, original.name)? != *original.signature
            || !has_equal_shapes(original, &sessions)?
        {
            return Err(ModelError::VariantMismatch { name: name() });
        }
        let faster = match mode {
            PrecisionMode::Auto => FasterRuns::measure(original, &sessions)?,
            PrecisionMode::Float | PrecisionMode::Int8 => {
                FasterRuns::all(mode == PrecisionMode::Int8)
            }
        };
        let is_used = faster != FasterRuns::all(false);
        Ok(is_used.then_some(Self { sessions, faster }))
    }

    /// Returns true if a run of `images` is to use the variant.
    pub(super) fn is_faster(&self, threads: Threads, images: usize) -> bool {
        match threads {
            Threads::All => self.faster.all_threads,
            Threads::One if images >= SEVERAL => self.faster.several_images,
            Threads::One => self.faster.one_image,
        }
    }
}

impl FasterRuns {
    fn all(is_faster: bool) -> Self {
        Self {
            all_threads: is_faster,
            one_image: is_faster,
            several_images: is_faster,
        }
    }

    /// Times both precisions with an image of zeros. A model with inputs of unknown size cannot be
    /// timed and keeps computing in floats.
    fn measure(original: &Original<'_>, variant: &Sessions) -> Result<Self, ModelError> {
        let [input] = original.signature.inputs.as_slice() else {
            return Ok(Self::all(false));
        };
        let Some((one, several)) = zeros(input, 1).zip(zeros(input, SEVERAL)) else {
            return Ok(Self::all(false));
        };
        let ratio = |threads, tensor| ratio(original, variant, threads, &input.name, tensor);
        let (all_threads, one_image) = (ratio(Threads::All, &one)?, ratio(Threads::One, &one)?);
        // A graph for one image at a time has no run of several.
        let several_images = if original.max_images < SEVERAL {
            one_image
        } else {
            ratio(Threads::One, &several)?
        };
        tracing::info!(
            model = original.name,
            all_cores = format!("{all_threads:.2}"),
            one_thread = format!("{one_image:.2}"),
            several_images = format!("{several_images:.2}"),
            "time of the 8-bit variant relative to floats"
        );
        Ok(Self {
            all_threads: all_threads <= WORTHWHILE,
            one_image: one_image <= WORTHWHILE,
            several_images: several_images <= WORTHWHILE,
        })
    }
}

/// Returns true if both give outputs of equal shapes and finite numbers for an image of zeros. An
/// input of unknown size cannot be tried.
fn has_equal_shapes(original: &Original<'_>, variant: &Sessions) -> Result<bool, ModelError> {
    let [input] = original.signature.inputs.as_slice() else {
        return Ok(true);
    };
    let Some(tensor) = zeros(input, 1) else {
        return Ok(true);
    };
    let outputs = |sessions| {
        with_run(
            original.name,
            sessions,
            Threads::One,
            &input.name,
            &tensor,
            |ran| {
                let copied = ran.values().map(|value| tensor::copy_out(&value));
                copied.collect::<Result<Vec<Tensor>, TensorError>>()
            },
        )
    };
    let (Ok(expected), Ok(actual)) = (outputs(original.sessions)?, outputs(variant)?) else {
        return Ok(false);
    };
    let is_equal = |(expected, actual): (&Tensor, &Tensor)| {
        expected.dimensions == actual.dimensions
            && expected.ty == actual.ty
            && (actual.ty != TensorType::Fp32 || is_finite(actual))
    };
    Ok(expected.len() == actual.len() && expected.iter().zip(&actual).all(is_equal))
}

fn is_finite(tensor: &Tensor) -> bool {
    let numbers = tensor.data.as_chunks::<4>().0.iter();
    numbers.copied().map(f32::from_le_bytes).all(f32::is_finite)
}

/// Returns the variant's shortest time divided by the floats'.
fn ratio(
    original: &Original<'_>,
    variant: &Sessions,
    threads: Threads,
    input: &str,
    tensor: &Tensor,
) -> Result<f64, ModelError> {
    let time = |sessions| run_time(original.name, sessions, threads, input, tensor);
    // The first run allocates.
    time(original.sessions)?;
    time(variant)?;
    let begun = Instant::now();
    let (mut float, mut int8) = (Duration::MAX, Duration::MAX);
    for run in 0..MAX_RUNS {
        if run >= MIN_RUNS && begun.elapsed() >= MEASURING_TIME {
            break;
        }
        float = float.min(time(original.sessions)?);
        int8 = int8.min(time(variant)?);
    }
    Ok(int8.as_secs_f64() / float.as_secs_f64().max(f64::MIN_POSITIVE))
}

fn run_time(
    model: &str,
    sessions: &Sessions,
    threads: Threads,
    input: &str,
    tensor: &Tensor,
) -> Result<Duration, ModelError> {
    let begun = Instant::now();
    with_run(model, sessions, threads, input, tensor, |_| begun.elapsed())
}

/// Runs the model on a tensor, and returns what `read` makes of the outputs.
fn with_run<T>(
    model: &str,
    sessions: &Sessions,
    threads: Threads,
    input: &str,
    tensor: &Tensor,
    read: impl FnOnce(SessionOutputs<'_>) -> T,
) -> Result<T, ModelError> {
    let malformed = |cause| ModelError::Tensor {
        name: input.to_owned(),
        cause,
    };
    let value = ValidTensor::new(tensor)
        .and_then(|tensor| tensor.whole())
        .map_err(malformed)?;
    let scope = CancelScope::from(Instant::now() + TIMEOUT);
    let ran = sessions.run(threads, &scope, |session| {
        session.run(vec![(input, value)]).map(read)
    });
    match ran {
        Some(Ok(read)) => Ok(read),
        Some(Err(cause)) => Err(ModelError::Run {
            name: model.to_owned(),
            cause,
        }),
        None => Err(ModelError::Late {
            name: model.to_owned(),
        }),
    }
}

/// Returns `images` of zeros for an input of known size, N×C×H×W floats.
fn zeros(input: &ModelInput, images: usize) -> Option<Tensor> {
    let [_, image @ ..] = input.shape.as_slice() else {
        return None;
    };
    let image = image
        .iter()
        .map(|&length| u32::try_from(length).ok().filter(|&length| length > 0))
        .collect::<Option<Vec<u32>>>()?;
    let dimensions: Vec<u32> = [u32::try_from(images).ok()?]
        .into_iter()
        .chain(image)
        .collect();
    let elements = dimensions
        .iter()
        .try_fold(1_usize, |product, &length| {
            product.checked_mul(length as usize)
        })
        .filter(|&elements| elements <= MAX_ELEMENTS)?;
    Some(Tensor {
        dimensions,
        ty: TensorType::Fp32,
        data: vec![0; elements * size_of::<f32>()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(shape: &[i64]) -> ModelInput {
        ModelInput {
            name: "data".to_owned(),
            shape: shape.to_vec(),
        }
    }

    #[test]
    fn zeros_follow_known_shape() {
        let tensor = zeros(&input(&[-1, 3, 112, 112]), 4).unwrap();
        assert_eq!(tensor.dimensions, [4, 3, 112, 112]);
        assert_eq!(tensor.data.len(), 4 * 3 * 112 * 112 * 4);
    }

    #[test]
    fn zeros_need_known_bounded_shape() {
        for shape in [
            [1, 3, -1, 112].as_slice(),
            &[1, 3, 0, 112],
            &[],
            &[1, i64::MAX],
            &[1, 1 << 30, 1 << 30, 1 << 30],
        ] {
            assert!(zeros(&input(shape), 1).is_none(), "{shape:?}");
        }
    }
}
