//! One network: how its inputs are checked, and how its runs share the cores.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ort::environment::Environment;
use ort::session::{RunOptions, Session, SessionInputValue, SessionOutputs};
use ort::value::{DynValue, ValueType};
use wasmtime_wasi_nn::backend::NamedTensor;

use rostro_common::cancel::CancelScope;
use rostro_common::cores::Cores;
use rostro_common::parallel::try_run_workers;

use super::sessions::Sessions;
use super::tensor::{self, TensorError, ValidTensor};
use crate::metrics::{ModelMeter, ModelMeters};

pub(crate) use std::fmt;

/// A network that is ready to run.
#[derive(Clone)]
pub struct Model(Arc<LoadedModel>);

/// A model that is kept only while somebody uses it.
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
    inputs: Vec<ModelInput>,
    outputs: Vec<String>,
    sessions: Sessions,
    cores: Cores,
    meter: ModelMeter,
    /// What a run of large inputs is told: to give its memory back.
    frugal: RunOptions,
}

/// From so many bytes of inputs on, runs of a network go one at a time, with all cores, and give
/// their memory back: a detector takes some five times its input, which every core's session would
/// come to hold. More than a look at 640×640 pixels; getting the memory anew takes a hundredth of
/// such a run.
const LARGE: usize = 6 << 20;

/// How long a new model's session may take to be free: nobody else has it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a run gives: the outputs in the graph's order.
type Outputs = Result<Vec<NamedTensor>, ModelError>;

/// What a first dimension above one means to a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batching {
    /// Nothing that the host knows of: an input is run as it comes.
    Whole,
    /// Images that have nothing to do with each other, each with a row of its own in every output.
    /// They are run side by side.
    Images {
        /// The most that the graph takes in one run; none if any number.
        most: Option<NonZeroUsize>,
    },
}

/// An input of a network, as its graph declares it.
#[derive(Clone, Debug)]
pub struct ModelInput {
    /// The tensor's name.
    pub name: String,
    /// Its dimensions; -1 where any length will do.
    pub shape: Vec<i64>,
}

/// Why a model cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// ONNX Runtime does not take the bytes.
    #[error("model `{name}` cannot be loaded: {cause}")]
    Load {
        /// Which model.
        name: String,
        /// What ONNX Runtime says.
        cause: ort::Error,
    },
    /// The inputs given are not those of the model.
    #[error("model `{model}` takes the inputs {wanted:?}, not {given:?}")]
    Inputs {
        /// Which model.
        model: String,
        /// The names of its inputs.
        wanted: Vec<String>,
        /// The names that were given.
        given: Vec<String>,
    },
    /// A tensor is malformed.
    #[error("tensor `{name}`: {cause}")]
    Tensor {
        /// Which tensor.
        name: String,
        /// What is wrong with it.
        cause: TensorError,
    },
    /// It did not get to run before the deadline, or before nobody waited for it any more.
    #[error("model `{name}` did not get to run while it was wanted")]
    Late {
        /// Which model.
        name: String,
    },
    /// ONNX Runtime failed the run.
    #[error("model `{name}` failed: {cause}")]
    Run {
        /// Which model.
        name: String,
        /// What ONNX Runtime says.
        cause: ort::Error,
    },
}

impl Model {
    pub(super) fn new(
        environment: &Environment,
        cores: Cores,
        meters: &ModelMeters,
        name: &str,
        bytes: &[u8],
        batching: Batching,
    ) -> Result<Self, ModelError> {
        let sessions = Sessions::new(environment, bytes, cores.count(), meters.waits(name))
            .map_err(|cause| ModelError::Load {
                name: name.to_owned(),
                cause,
            })?;
        let ports = sessions
            .multi_threaded(&CancelScope::from(Instant::now() + PATIENCE), |session| {
                ports(session)
            });
        let (inputs, outputs) = ports.ok_or_else(|| ModelError::Late {
            name: name.to_owned(),
        })?;
        let frugal = frugal().map_err(|cause| ModelError::Load {
            name: name.to_owned(),
            cause,
        })?;
        let (name, meter) = (name.to_owned(), meters.of(name));
        Ok(Self(Arc::new(LoadedModel {
            name,
            batching,
            inputs,
            outputs,
            sessions,
            cores,
            meter,
            frugal,
        })))
    }

    /// The network's inputs, in the graph's order.
    #[must_use]
    pub fn inputs(&self) -> &[ModelInput] {
        &self.0.inputs
    }

    pub(super) fn weak(&self) -> WeakModel {
        WeakModel(Arc::downgrade(&self.0))
    }

    /// Runs the network; outputs come in the graph's order. No run begins that is not wanted any
    /// more; one that has begun is not interrupted.
    ///
    /// # Errors
    ///
    /// If the inputs are not the network's, if it does not get to run in time, or if ONNX Runtime
    /// fails.
    pub fn run(
        &self,
        inputs: &[NamedTensor],
        scope: &CancelScope,
    ) -> Result<Vec<NamedTensor>, ModelError> {
        let model = &*self.0;
        let begun = Instant::now();
        let inputs = model
            .check(inputs)
            .inspect_err(|_| model.meter.note_refusal())?;
        let (images, ran) = match (model.batching, inputs.as_slice()) {
            (Batching::Images { most }, [(_, images)]) if images.rows() > 1 => (
                images.rows(),
                model.run_images(&inputs, images.rows(), most, scope),
            ),
            _ => (1, model.run_whole(&inputs, scope)),
        };
        match &ran {
            Ok(_) => model.meter.note(images, begun.elapsed()),
            Err(error) => model.meter.note_failure(error, scope),
        }
        ran
    }
}

impl LoadedModel {
    /// The inputs with their names, if they are those of the graph and hold what they say.
    fn check<'t>(
        &self,
        inputs: &'t [NamedTensor],
    ) -> Result<Vec<(&'t str, ValidTensor<'t>)>, ModelError> {
        let known = |input: &NamedTensor| self.inputs.iter().any(|port| port.name == input.name);
        if inputs.len() != self.inputs.len() || !inputs.iter().all(known) {
            let wanted = self.inputs.iter().map(|port| port.name.clone()).collect();
            let given = inputs.iter().map(|input| input.name.clone()).collect();
            return Err(ModelError::Inputs {
                model: self.name.clone(),
                wanted,
                given,
            });
        }
        let checked = |input: &'t NamedTensor| match ValidTensor::new(&input.tensor) {
            Ok(tensor) => Ok((input.name.as_str(), tensor)),
            Err(cause) => Err(ModelError::Tensor {
                name: input.name.clone(),
                cause,
            }),
        };
        inputs.iter().map(checked).collect()
    }

    /// One run, with all cores if they are idle or the input is large, and with this thread alone
    /// if not.
    fn run_whole(&self, inputs: &[(&str, ValidTensor<'_>)], scope: &CancelScope) -> Outputs {
        let values = self.values(inputs, ValidTensor::whole)?;
        if inputs
            .iter()
            .map(|(_, tensor)| tensor.bytes())
            .sum::<usize>()
            >= LARGE
        {
            let ran = self.sessions.multi_threaded(scope, |session| {
                self.outputs(session.run_with_options(values, &self.frugal))
            });
            return ran.unwrap_or_else(|| Err(self.late()));
        }
        let others = self.cores.count() - 1;
        let borrowed = self.cores.borrow(others);
        if borrowed.len() == others {
            let ran = self
                .sessions
                .multi_threaded(scope, |session| self.outputs(session.run(values)));
            return ran.unwrap_or_else(|| Err(self.late()));
        }
        drop(borrowed);
        self.sessions
            .single_threaded(scope, |session| self.outputs(session.run(values)))
            .unwrap_or_else(|| Err(self.late()))
    }

    fn late(&self) -> ModelError {
        ModelError::Late {
            name: self.name.clone(),
        }
    }

    /// Runs `count` images side by side on this thread and the cores that are idle, each taking the
    /// next when it is done with one.
    fn run_images(
        &self,
        inputs: &[(&str, ValidTensor<'_>)],
        count: usize,
        most: Option<NonZeroUsize>,
        scope: &CancelScope,
    ) -> Outputs {
        let borrowed = self.cores.borrow(count.min(self.cores.count()) - 1);
        // Parts as large as the graph takes, but no larger than leaves one for each core.
        let size = count
            .div_ceil(borrowed.len() + 1)
            .min(most.map_or(usize::MAX, NonZeroUsize::get));
        let parts = count.div_ceil(size);
        let results = try_run_workers(&self.cores, borrowed, parts, |next| {
            std::iter::from_fn(next)
                .map(|part| {
                    let begin = part * size;
                    let rows = begin..count.min(begin + size);
                    Ok((part, self.run_part(inputs, rows, scope)?))
                })
                .collect::<Result<Vec<_>, ModelError>>()
        })?;
        let mut results: Vec<_> = results.into_iter().flatten().collect();
        results.sort_by_key(|(part, _)| *part);
        tensor::join(results.into_iter().map(|(_, outputs)| outputs).collect()).map_err(|cause| {
            ModelError::Tensor {
                name: self.name.clone(),
                cause,
            }
        })
    }

    fn run_part(
        &self,
        inputs: &[(&str, ValidTensor<'_>)],
        rows: Range<usize>,
        scope: &CancelScope,
    ) -> Outputs {
        let values = self.values(inputs, |tensor| tensor.part(rows.clone()))?;
        let ran = self
            .sessions
            .single_threaded(scope, |session| self.outputs(session.run(values)));
        let outputs = ran.unwrap_or_else(|| Err(self.late()))?;
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

    /// The inputs as ONNX Runtime takes them.
    fn values<'t>(
        &self,
        inputs: &[(&'t str, ValidTensor<'t>)],
        lend: impl Fn(&ValidTensor<'t>) -> Result<SessionInputValue<'t>, TensorError>,
    ) -> Result<Vec<(&'t str, SessionInputValue<'t>)>, ModelError> {
        let value = |(name, tensor): &(&'t str, ValidTensor<'t>)| match lend(tensor) {
            Ok(value) => Ok((*name, value)),
            Err(cause) => Err(ModelError::Tensor {
                name: (*name).to_owned(),
                cause,
            }),
        };
        inputs.iter().map(value).collect()
    }

    /// What a run gave, copied out of the session.
    fn outputs(&self, ran: Result<SessionOutputs<'_>, ort::Error>) -> Outputs {
        let outputs = ran.map_err(|cause| ModelError::Run {
            name: self.name.clone(),
            cause,
        })?;
        self.outputs
            .iter()
            .filter_map(|name| outputs.get(name).map(|value| (name, value)))
            .map(copy_out)
            .collect()
    }
}

/// Has ONNX Runtime give a run's memory back.
fn frugal() -> Result<RunOptions, ort::Error> {
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
            .field("inputs", &self.0.inputs)
            .finish_non_exhaustive()
    }
}

fn ports(session: &Session) -> (Vec<ModelInput>, Vec<String>) {
    let inputs = session
        .inputs()
        .iter()
        .map(|input| {
            let shape = match input.dtype() {
                ValueType::Tensor { shape, .. } => shape.to_vec(),
                _ => Vec::new(),
            };
            ModelInput {
                name: input.name().to_owned(),
                shape,
            }
        })
        .collect();
    (
        inputs,
        session
            .outputs()
            .iter()
            .map(|output| output.name().to_owned())
            .collect(),
    )
}
