//! A model as one guest holds it, through `wasi:nn`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime_wasi_nn::backend::{
    BackendError, BackendExecutionContext, BackendGraph, Id, NamedTensor,
};
use wasmtime_wasi_nn::{ExecutionContext, Graph, GraphRegistry, Tensor};

use rostro_common::cancel::CancelScope;

use super::Model;
use crate::model_time::ModelTime;

/// The graphs that one store may load.
pub(super) struct ModelRegistry(pub(super) HashMap<String, Graph>);

impl GraphRegistry for ModelRegistry {
    fn get(&self, name: &str) -> Option<&Graph> {
        self.0.get(name)
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut Graph> {
        self.0.get_mut(name)
    }
}

/// What the last run that failed said. The guest is told only that something failed: `wasi:nn`
/// passes no cause on.
#[derive(Clone, Debug, Default)]
pub struct LastFailure(Arc<Mutex<Option<String>>>);

impl LastFailure {
    /// Takes it.
    pub fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, cause: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
    }
}

/// What one store's models have in common: where their failures are told, where their time is
/// counted, and for how long runs are wanted.
#[derive(Clone, Debug)]
pub(super) struct RunContext {
    pub failure: LastFailure,
    pub time: ModelTime,
    pub scope: CancelScope,
}

/// A model in a store.
#[derive(Clone, Debug)]
struct GrantedModel {
    model: Model,
    lent: RunContext,
}

/// The model as a graph of `wasi:nn`.
pub(super) fn graph(model: &Model, lent: &RunContext) -> Graph {
    let graph: Box<dyn BackendGraph> = Box::new(GrantedModel {
        model: model.clone(),
        lent: lent.clone(),
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
        Err(only_named())
    }

    fn get_output(&mut self, _id: Id) -> Result<Tensor, BackendError> {
        Err(only_named())
    }

    fn compute(
        &mut self,
        inputs: Option<Vec<NamedTensor>>,
    ) -> Result<Option<Vec<NamedTensor>>, BackendError> {
        let inputs = inputs.ok_or_else(only_named)?;
        let RunContext {
            failure,
            time,
            scope,
        } = &self.lent;
        match time.time(|| self.model.run(&inputs, scope)) {
            Ok(outputs) => Ok(Some(outputs)),
            Err(error) => {
                failure.set(error.to_string());
                Err(BackendError::BackendAccess(error.into()))
            }
        }
    }
}

/// The calls of the older interface for core modules, which the host does not link.
fn only_named() -> BackendError {
    BackendError::BackendAccess(wasmtime::format_err!(
        "only `compute` with named tensors is served"
    ))
}
