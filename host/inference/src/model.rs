//! One network: checks its inputs and distributes its runs over the cores.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Instant;

use ort::environment::Environment;
use ort::session::{RunOptions, SessionInputValue, SessionOutputs};
use ort::value::DynValue;
use wasmtime_wasi_nn::backend::NamedTensor;

use rostro_common::cancel::CancelScope;
use rostro_common::cores::Cores;
use rostro_common::parallel::try_run_workers;

use crate::ModelBytes;
use crate::error::ModelError;
use crate::metrics::{ModelMeter, ModelMeters};
use crate::precision::{PrecisionGrant, PrecisionMode};
use crate::sessions::{Sessions, Threads};
use crate::signature::{ModelInput, Signature};
use crate::tensor::{self, TensorError, ValidTensor};
use crate::variant::{Int8Variant, Original};

/// A network that is ready to run. Clones share its sessions.
#[derive(Clone)]
pub struct Model(Arc<LoadedModel>);

/// A weak reference to a model, which does not keep its sessions.
#[derive(Clone)]
pub(super) struct WeakModel(Weak<LoadedModel>);

impl WeakModel {
    pub(super) fn get(&self) -> Option<Model> {
        self.0.upgrade().map(Model)
    }

    pub(super) fn is_used(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl fmt::Debug for WeakModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WeakModel").field(&self.get()).finish()
    }
}

struct LoadedModel {
    name: String,
    batching: Batching,
    signature: Signature,
    sessions: Sessions,
    int8: Option<Int8Variant>,
    cores: Cores,
    meter: ModelMeter,
    /// Options of runs with large inputs.
    shrink_arena: RunOptions,
}

/// Size of inputs in bytes from which runs go one at a time, with all cores, and release their
/// memory.
///
/// A detector takes about five times its input, and the session of every core would keep that. The
/// limit is above an image of 640×640 pixels. Allocating the memory again takes a hundredth of
/// such a run.
const LARGE: usize = 6 << 20;

/// Outputs of a run in the graph's order.
type Outputs = Result<Vec<NamedTensor>, ModelError>;

/// Meaning of a first dimension above one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batching {
    /// Unknown to the host: an input is run as a whole.
    Whole,
    /// Independent images, each with its own row in every output. They are run in parallel.
    Images {
        /// Maximum number of images in one run of the graph; `None` if any number is allowed.
        most: Option<NonZeroUsize>,
    },
}

impl Model {
    pub(super) fn new(
        environment: &Environment,
        cores: Cores,
        meters: &ModelMeters,
        name: &str,
        bytes: ModelBytes<'_>,
        batching: Batching,
        mode: PrecisionMode,
    ) -> Result<Self, ModelError> {
        let load_error = |cause| ModelError::Load {
            name: name.to_owned(),
            cause,
        };
        let waits = meters.waits(name);
        let sessions = Sessions::new(environment, bytes.original, cores.count(), waits.clone())
            .map_err(load_error)?;
        let signature = Signature::of(&sessions, name)?;
        let original = Original {
            name,
            signature: &signature,
            sessions: &sessions,
            max_images: batching.max_images(),
        };
        let load_variant =
            |bytes| Int8Variant::load(&original, bytes, mode, environment, cores.count(), waits);
        let int8 = match bytes.int8.map_or(Ok(None), load_variant) {
            // Floats serve as well, and a variant must not stop the service.
            Err(error) if mode == PrecisionMode::Auto => {
                tracing::warn!(
                    "{error}; frames are computed in floats; make the variant again with \
                     `rostro models quantize --force`"
                );
                None
            }
            variant => variant?,
        };
        Ok(Self(Arc::new(LoadedModel {
            name: name.to_owned(),
            batching,
            signature,
            sessions,
            int8,
            cores,
            meter: meters.model(name),
            shrink_arena: shrink_arena().map_err(load_error)?,
        })))
    }

    /// Returns the network's inputs in the graph's order.
    #[must_use]
    pub fn inputs(&self) -> &[ModelInput] {
        &self.0.signature.inputs
    }

    pub(super) fn weak(&self) -> WeakModel {
        WeakModel(Arc::downgrade(&self.0))
    }

    /// Runs the network and returns the outputs in the graph's order. No run begins after the
    /// scope ends; a run that has begun is not interrupted. Where the grant permits it, runs use
    /// the 8-bit variant.
    ///
    /// # Errors
    ///
    /// If the inputs do not match the network, if no session is free in time, or if ONNX Runtime
    /// fails.
    pub fn run(
        &self,
        inputs: &[NamedTensor],
        scope: &CancelScope,
        precision: &PrecisionGrant,
    ) -> Result<Vec<NamedTensor>, ModelError> {
        let model = &*self.0;
        let start = Instant::now();
        let inputs = model
            .check(inputs)
            .inspect_err(|_| model.meter.record_refusal())?;
        let (images, result) = match (model.batching, inputs.as_slice()) {
            (Batching::Images { most }, [(_, images)]) if images.rows() > 1 => (
                images.rows(),
                model.run_images(&inputs, images.rows(), most, scope, precision),
            ),
            _ => (1, model.run_whole(&inputs, scope, precision)),
        };
        match &result {
            Ok(_) => model.meter.record_answer(images, start.elapsed()),
            Err(error) => model.meter.record_failure(error, scope),
        }
        result
    }
}

impl LoadedModel {
    /// Returns the inputs with their names, if they match the graph and are well-formed.
    fn check<'t>(
        &self,
        inputs: &'t [NamedTensor],
    ) -> Result<Vec<(&'t str, ValidTensor<'t>)>, ModelError> {
        let is_known = |input: &NamedTensor| {
            let mut own = self.signature.inputs.iter();
            own.any(|own| own.name == input.name)
        };
        let own = &self.signature.inputs;
        if inputs.len() != own.len() || !inputs.iter().all(is_known) {
            return Err(ModelError::Inputs {
                model: self.name.clone(),
                expected: own.iter().map(|own| own.name.clone()).collect(),
                actual: inputs.iter().map(|input| input.name.clone()).collect(),
            });
        }
        let check = |input: &'t NamedTensor| match ValidTensor::new(&input.tensor) {
            Ok(tensor) => Ok((input.name.as_str(), tensor)),
            Err(cause) => Err(ModelError::Tensor {
                name: input.name.clone(),
                cause,
            }),
        };
        inputs.iter().map(check).collect()
    }

    /// Runs all inputs at once: with all cores if these are idle or the input is large, otherwise
    /// on this thread.
    fn run_whole(
        &self,
        inputs: &[(&str, ValidTensor<'_>)],
        scope: &CancelScope,
        precision: &PrecisionGrant,
    ) -> Outputs {
        let values = self.values(inputs, ValidTensor::whole)?;
        if inputs
            .iter()
            .map(|(_, tensor)| tensor.byte_len())
            .sum::<usize>()
            >= LARGE
        {
            let ran = self.sessions.run(Threads::All, scope, |session| {
                self.outputs(session.run_with_options(values, &self.shrink_arena))
            });
            return ran.unwrap_or_else(|| Err(self.late()));
        }
        let others = self.cores.count() - 1;
        let borrowed = self.cores.borrow(others);
        if borrowed.len() == others {
            return self.run_session(Threads::All, 1, values, scope, precision);
        }
        drop(borrowed);
        self.run_session(Threads::One, 1, values, scope, precision)
    }

    /// Runs some images in a session: of the 8-bit variant if that is permitted and faster,
    /// otherwise in floats.
    fn run_session(
        &self,
        threads: Threads,
        images: usize,
        values: Vec<(&str, SessionInputValue<'_>)>,
        scope: &CancelScope,
        precision: &PrecisionGrant,
    ) -> Outputs {
        let variant = self
            .int8
            .as_ref()
            .filter(|variant| precision.permits_int8() && variant.is_faster(threads, images));
        let sessions = variant.map_or(&self.sessions, |variant| &variant.sessions);
        let ran = sessions.run(threads, scope, |session| self.outputs(session.run(values)));
        let outputs = ran.unwrap_or_else(|| Err(self.late()))?;
        if variant.is_some() {
            precision.record_int8();
            self.meter.record_int8(images);
        }
        Ok(outputs)
    }

    /// Returns the error of a run without a session.
    fn late(&self) -> ModelError {
        ModelError::Late {
            name: self.name.clone(),
        }
    }

    /// Runs `count` images in parts on this thread and on the idle cores. Each thread takes the
    /// next part when it has finished one.
    fn run_images(
        &self,
        inputs: &[(&str, ValidTensor<'_>)],
        count: usize,
        most: Option<NonZeroUsize>,
        scope: &CancelScope,
        precision: &PrecisionGrant,
    ) -> Outputs {
        let borrowed = self.cores.borrow(count.min(self.cores.count()) - 1);
        // As large as the graph allows, but small enough for every core to get a part.
        let size = count
            .div_ceil(borrowed.len() + 1)
            .min(most.map_or(usize::MAX, NonZeroUsize::get));
        let parts = count.div_ceil(size);
        let results = try_run_workers(&self.cores, borrowed, parts, |next| {
            std::iter::from_fn(next)
                .map(|part| {
                    let begin = part * size;
                    let rows = begin..count.min(begin + size);
                    Ok((part, self.run_part(inputs, rows, scope, precision)?))
                })
                .collect::<Result<Vec<_>, ModelError>>()
        })?;
        let mut results: Vec<_> = results.into_iter().flatten().collect();
        results.sort_by_key(|(part, _)| *part);
        tensor::concat(results.into_iter().map(|(_, outputs)| outputs).collect()).map_err(|cause| {
            ModelError::Tensor {
                name: self.name.clone(),
                cause,
            }
        })
    }

    /// Runs some of the images in the single-threaded session, and checks that every output has a
    /// row for each.
    fn run_part(
        &self,
        inputs: &[(&str, ValidTensor<'_>)],
        rows: Range<usize>,
        scope: &CancelScope,
        precision: &PrecisionGrant,
    ) -> Outputs {
        let values = self.values(inputs, |tensor| tensor.part(rows.clone()))?;
        let outputs = self.run_session(Threads::One, rows.len(), values, scope, precision)?;
        match outputs.iter().find(|output| {
            output
                .tensor
                .dimensions
                .first()
                .is_none_or(|&length| length as usize != rows.len())
        }) {
            None => Ok(outputs),
            Some(odd) => {
                let cause = TensorError::Rows {
                    dimensions: odd.tensor.dimensions.clone(),
                    images: rows.len(),
                };
                Err(ModelError::Tensor {
                    name: odd.name.clone(),
                    cause,
                })
            }
        }
    }

    /// Converts the inputs for ONNX Runtime.
    fn values<'t>(
        &self,
        inputs: &[(&'t str, ValidTensor<'t>)],
        convert: impl Fn(&ValidTensor<'t>) -> Result<SessionInputValue<'t>, TensorError>,
    ) -> Result<Vec<(&'t str, SessionInputValue<'t>)>, ModelError> {
        let value = |(name, tensor): &(&'t str, ValidTensor<'t>)| match convert(tensor) {
            Ok(value) => Ok((*name, value)),
            Err(cause) => Err(ModelError::Tensor {
                name: (*name).to_owned(),
                cause,
            }),
        };
        inputs.iter().map(value).collect()
    }

    /// Copies the outputs of a run out of the session.
    fn outputs(&self, result: Result<SessionOutputs<'_>, ort::Error>) -> Outputs {
        let outputs = result.map_err(|cause| ModelError::Run {
            name: self.name.clone(),
            cause,
        })?;
        self.signature
            .outputs
            .iter()
            .filter_map(|name| outputs.get(name).map(|value| (name, value)))
            .map(copy_out)
            .collect()
    }
}

/// Returns options that make ONNX Runtime release a run's memory.
fn shrink_arena() -> Result<RunOptions, ort::Error> {
    let mut options = RunOptions::new()?;
    options.set("memory.enable_memory_arena_shrinkage", "cpu:0")?;
    Ok(options)
}

fn copy_out((name, value): (&String, &DynValue)) -> Result<NamedTensor, ModelError> {
    match tensor::copy_out(value) {
        Ok(tensor) => Ok(NamedTensor {
            name: name.clone(),
            tensor,
        }),
        Err(cause) => Err(ModelError::Tensor {
            name: name.clone(),
            cause,
        }),
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("name", &self.0.name)
            .field("inputs", &self.0.signature.inputs)
            .finish_non_exhaustive()
    }
}

impl Batching {
    /// Returns the maximum number of images in one run.
    fn max_images(self) -> usize {
        match self {
            Self::Whole => 1,
            Self::Images { most } => most.map_or(usize::MAX, NonZeroUsize::get),
        }
    }
}
