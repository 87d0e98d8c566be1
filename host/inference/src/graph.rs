//! The models of one guest as graphs of `wasi:nn`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime_wasi_nn::backend::{
    BackendError, BackendExecutionContext, BackendGraph, Id, NamedTensor,
};
use wasmtime_wasi_nn::{ExecutionContext, Graph, GraphRegistry, Tensor};

use rostro_common::cancel::CancelScope;

use crate::model::Model;
use crate::model_time::ModelTime;
use crate::precision::PrecisionGrant;

/// Graphs that one store may load.
pub(super) struct ModelRegistry(pub(super) HashMap<String, Graph>);

impl GraphRegistry for ModelRegistry {
    fn get(&self, name: &str) -> Option<&Graph> {
        self.0.get(name)
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut Graph> {
        self.0.get_mut(name)
    }
}

/// Error text of the last failed run. The guest sees only a generic error, because `wasi:nn` does
/// not pass the cause on. Clones share the text.
#[derive(Clone, Debug, Default)]
pub struct LastFailure(Arc<Mutex<Option<String>>>);

impl LastFailure {
    /// Returns the text and clears it.
    pub fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, cause: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
    }
}

/// Context that the models of one store share: the last failure, the time spent, the scope in which
/// runs may begin, and their precision.
#[derive(Clone, Debug)]
pub(super) struct RunContext {
    pub failure: LastFailure,
    pub time: ModelTime,
    pub scope: CancelScope,
    pub precision: PrecisionGrant,
}

/// A model with the context of its store.
#[derive(Clone, Debug)]
struct GrantedModel {
    model: Model,
    context: RunContext,
}

/// Returns the model as a graph of `wasi:nn`.
pub(super) fn graph(model: &Model, context: &RunContext) -> Graph {
    let graph: Box<dyn BackendGraph> = Box::new(GrantedModel {
        model: model.clone(),
        context: context.clone(),
    });
    Graph::from(graph)
}

impl BackendGraph for GrantedModel {
    fn init_execution_context(&self) -> Result<ExecutionContext, BackendError> {
        let context: Box<dyn BackendExecutionContext> = Box::new(self.clone());
        Ok(ExecutionContext::from(context))
    }
}

impl BackendExecutionContext for GrantedModel {
    fn set_input(&mut self, _id: Id, _tensor: &Tensor) -> Result<(), BackendError> {
        Err(unsupported_call())
    }

    fn get_output(&mut self, _id: Id) -> Result<Tensor, BackendError> {
        Err(unsupported_call())
    }

    fn compute(
        &mut self,
        inputs: Option<Vec<NamedTensor>>,
    ) -> Result<Option<Vec<NamedTensor>>, BackendError> {
        let inputs = inputs.ok_or_else(unsupported_call)?;
        let RunContext {
            failure,
            time,
            scope,
            precision,
        } = &self.context;
        match time.time(|| self.model.run(&inputs, scope, precision)) {
            Ok(outputs) => Ok(Some(outputs)),
            Err(error) => {
                failure.set(error.to_string());
                Err(BackendError::BackendAccess(error.into()))
            }
        }
    }
}

/// Returns the error of a call that the component interface does not have.
fn unsupported_call() -> BackendError {
    BackendError::BackendAccess(wasmtime::format_err!(
        "only `compute` with named tensors is supported"
    ))
}
