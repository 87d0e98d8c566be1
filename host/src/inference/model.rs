//! One network and its sessions.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::builder::{GraphOptimizationLevel, PrepackedWeights, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, ValueType};
use wasmtime_wasi_nn::backend::{BackendError, BackendExecutionContext, BackendGraph, Id, NamedTensor};
use wasmtime_wasi_nn::{ExecutionContext, Graph, Tensor};

use super::tensor::{self, TensorError};

/// A network that is ready to run.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    name: String,
    inputs: Vec<Port>,
    outputs: Vec<String>,
    sessions: Pool,
}

/// An input of a network, as its graph declares it.
#[derive(Clone, Debug)]
pub struct Port {
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
    pub(super) fn new(environment: &Environment, name: &str, bytes: &[u8], sessions: usize) -> Result<Self, ModelError> {
        let load = |cause: ort::Error| ModelError::Load { name: name.to_owned(), cause };
        // Sessions of one model share their packed weights, so that a second one costs little memory.
        let weights = PrepackedWeights::new();
        let sessions = (0..sessions.max(1)).map(|_| session(environment, &weights, bytes)).collect::<Result<Vec<_>, _>>().map_err(load)?;
        let (inputs, outputs) = sessions.first().map(ports).unwrap_or_default();
        Ok(Self(Arc::new(Inner { name: name.to_owned(), inputs, outputs, sessions: Pool::new(sessions) })))
    }

    /// The network's inputs, in the graph's order.
    #[must_use]
    pub fn inputs(&self) -> &[Port] {
        &self.0.inputs
    }

    pub(super) fn graph(&self) -> Graph {
        let graph: Box<dyn BackendGraph> = Box::new(self.clone());
        Graph::from(graph)
    }

    /// Runs the network once; outputs come in the graph's order.
    fn run(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ModelError> {
        let model = &*self.0;
        let names = |ports: &[Port]| ports.iter().map(|port| port.name.clone()).collect::<Vec<_>>();
        let known = |input: &NamedTensor| model.inputs.iter().any(|port| port.name == input.name);
        if inputs.len() != model.inputs.len() || !inputs.iter().all(known) {
            let given = inputs.iter().map(|input| input.name.clone()).collect();
            return Err(ModelError::Inputs { model: model.name.clone(), wanted: names(&model.inputs), given });
        }
        let values = inputs
            .iter()
            .map(|input| match tensor::borrow(&input.tensor) {
                Ok(value) => Ok((input.name.as_str(), value)),
                Err(cause) => Err(ModelError::Tensor { name: input.name.clone(), cause }),
            })
            .collect::<Result<Vec<(&str, SessionInputValue<'_>)>, _>>()?;
        let run = |cause: ort::Error| ModelError::Run { name: model.name.clone(), cause };
        model.sessions.with(|session| {
            let outputs = session.run(values).map_err(run)?;
            model.outputs.iter().filter_map(|name| outputs.get(name).map(|value| (name, value))).map(copy_out).collect()
        })
    }
}

fn copy_out((name, value): (&String, &DynValue)) -> Result<NamedTensor, ModelError> {
    match tensor::copy_out(value) {
        Ok(tensor) => Ok(NamedTensor { name: name.clone(), tensor }),
        Err(cause) => Err(ModelError::Tensor { name: name.clone(), cause }),
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("name", &self.0.name).field("inputs", &self.0.inputs).finish_non_exhaustive()
    }
}

fn session(environment: &Environment, weights: &PrepackedWeights, bytes: &[u8]) -> Result<Session, ort::Error> {
    SessionBuilder::new(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_prepacked_weights(weights)?
        // Graphs exported at one size declare fixed output shapes and only warn when run at another.
        .with_log_level(ort::logging::LogLevel::Error)?
        .commit_from_memory(bytes)
}

fn ports(session: &Session) -> (Vec<Port>, Vec<String>) {
    let inputs = session
        .inputs()
        .iter()
        .map(|input| {
            let shape = match input.dtype() {
                ValueType::Tensor { shape, .. } => shape.to_vec(),
                _ => Vec::new(),
            };
            Port { name: input.name().to_owned(), shape }
        })
        .collect();
    (inputs, session.outputs().iter().map(|output| output.name().to_owned()).collect())
}

/// Sessions that are lent one at a time: ONNX Runtime's are used exclusively while they run.
struct Pool {
    idle: Mutex<Vec<Session>>,
    returned: Condvar,
}

impl Pool {
    fn new(sessions: Vec<Session>) -> Self {
        Self { idle: Mutex::new(sessions), returned: Condvar::new() }
    }

    /// Waits for an idle session and uses it. Requests that run at a time are as many as sessions, so waits are rare.
    fn with<T>(&self, work: impl FnOnce(&mut Session) -> T) -> T {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut session = loop {
            match idle.pop() {
                Some(session) => break session,
                None => idle = self.returned.wait(idle).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(idle);
        let result = work(&mut session);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        self.returned.notify_one();
        result
    }
}

impl BackendGraph for Model {
    fn init_execution_context(&self) -> Result<ExecutionContext, BackendError> {
        let context: Box<dyn BackendExecutionContext> = Box::new(self.clone());
        Ok(ExecutionContext::from(context))
    }
}

impl BackendExecutionContext for Model {
    fn set_input(&mut self, _id: Id, _tensor: &Tensor) -> Result<(), BackendError> {
        Err(only_named())
    }

    fn get_output(&mut self, _id: Id) -> Result<Tensor, BackendError> {
        Err(only_named())
    }

    fn compute(&mut self, inputs: Option<Vec<NamedTensor>>) -> Result<Option<Vec<NamedTensor>>, BackendError> {
        let inputs = inputs.ok_or_else(only_named)?;
        let outputs = self.run(&inputs).map_err(|error| BackendError::BackendAccess(error.into()))?;
        Ok(Some(outputs))
    }
}

/// The calls of the older interface for core modules, which the host does not link.
fn only_named() -> BackendError {
    BackendError::BackendAccess(wasmtime::format_err!("only `compute` with named tensors is served"))
}
