//! Inputs and outputs that a network declares.

use std::time::{Duration, Instant};

use ort::session::Session;
use ort::value::{Outlet, ValueType};

use rostro_common::cancel::CancelScope;

use crate::error::ModelError;
use crate::sessions::{Sessions, Threads};

/// Timeout for the session of a new model, which no other run uses yet.
const NEW_SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// Declared inputs, and names of outputs, in the graph's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) inputs: Vec<ModelInput>,
    pub(super) outputs: Vec<String>,
}

/// Declared input of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInput {
    /// Name of the tensor.
    pub name: String,
    /// Dimensions; -1 where any length is allowed.
    pub shape: Vec<i64>,
}

impl Signature {
    /// Returns the signature of the network `name`, whose sessions no run uses yet.
    pub(super) fn of(sessions: &Sessions, name: &str) -> Result<Self, ModelError> {
        let scope = CancelScope::from(Instant::now() + NEW_SESSION_TIMEOUT);
        sessions
            .run(Threads::All, &scope, |session| Self::of_session(session))
            .ok_or_else(|| ModelError::Late {
                name: name.to_owned(),
            })
    }

    fn of_session(session: &Session) -> Self {
        let input = |input: &Outlet| ModelInput {
            name: input.name().to_owned(),
            shape: match input.dtype() {
                ValueType::Tensor { shape, .. } => shape.to_vec(),
                _ => Vec::new(),
            },
        };
        let outputs = session.outputs().iter();
        Self {
            inputs: session.inputs().iter().map(input).collect(),
            outputs: outputs.map(|output| output.name().to_owned()).collect(),
        }
    }
}
