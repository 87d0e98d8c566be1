//! Running models through `wasi:nn`.

use crate::bindings::rostro::pipeline::settings::{self, ChannelOrder, Model as Spec};
use crate::bindings::wasi::nn::errors::Error;
use crate::bindings::wasi::nn::graph::load_by_name;
use crate::bindings::wasi::nn::inference::GraphExecutionContext;
use crate::bindings::wasi::nn::tensor::{Tensor, TensorType};
use rostro_sdk::tensor::{Channels, Normalization};

/// A model of the pack, ready to run.
pub(crate) struct Model {
    role: &'static str,
    pub(crate) spec: Spec,
    context: GraphExecutionContext,
}

/// One output of a run.
pub(crate) struct Output {
    pub(crate) dimensions: Vec<u32>,
    pub(crate) values: Vec<f32>,
}

impl Model {
    /// Loads the model that the pack grants for a role.
    pub(crate) fn load(role: &'static str) -> Result<Self, String> {
        let spec = settings::get_model(role).ok_or_else(|| format!("the host grants no model for the role `{role}`"))?;
        let said = |error: Error| format!("{role}: {}", error.data());
        let context = load_by_name(&spec.graph).map_err(said)?.init_execution_context().map_err(said)?;
        Ok(Self { role, spec, context })
    }

    /// How it wants its pixels.
    pub(crate) fn normalization(&self) -> Normalization {
        let channels = match self.spec.channels {
            ChannelOrder::Rgb => Channels::Rgb,
            ChannelOrder::Bgr => Channels::Bgr,
        };
        Normalization { mean: self.spec.mean, std: self.spec.std, channels }
    }

    /// Runs it on a batch of `count` pictures of `width` × `height`; outputs come in the graph's order.
    pub(crate) fn run(&self, input: &[f32], count: usize, width: usize, height: usize) -> Result<Vec<Output>, String> {
        let dimensions = [count, 3, height, width].map(|length| u32::try_from(length).unwrap_or(u32::MAX));
        let tensor = Tensor::new(&dimensions, TensorType::Fp32, bytes(input));
        let outputs =
            self.context.compute(vec![(self.spec.input.clone(), tensor)]).map_err(|error| format!("{}: {}", self.role, error.data()))?;
        outputs.into_iter().map(|(name, tensor)| self.read(&name, &tensor)).collect()
    }

    fn read(&self, name: &str, tensor: &Tensor) -> Result<Output, String> {
        if tensor.ty() != TensorType::Fp32 {
            return Err(format!("{}: the output `{name}` is not of 32-bit floats", self.role));
        }
        let values = tensor.data().as_chunks().0.iter().copied().map(f32::from_le_bytes).collect();
        Ok(Output { dimensions: tensor.dimensions(), values })
    }
}

/// The bytes of numbers, as they lie in memory: WebAssembly is little-endian, as tensors are.
fn bytes(numbers: &[f32]) -> &[u8] {
    bytemuck::cast_slice(numbers)
}
