//! The host of a component: its imports.

use std::time::Duration;

use crate::bindings::rostro::pipeline::{samples, settings, telemetry};
use crate::bindings::wasi::nn::errors::Error;
use crate::bindings::wasi::nn::graph::load_by_name;
use crate::bindings::wasi::nn::inference::GraphExecutionContext;
use crate::bindings::wasi::nn::tensor::{Tensor, TensorType};
use crate::detect::tensor::{Channels, Normalization};
use crate::host::{
    self, Context, Host, Level, ModelSpec, Output, ReviewLevel, Settings, Thresholds,
};

/// The host, through the imports of a component.
#[derive(Debug, Default)]
pub(super) struct HostImports {
    pub(super) context: Context,
}

impl Settings for HostImports {
    fn context(&self) -> Context {
        self.context.clone()
    }

    fn thresholds(&self) -> Thresholds {
        let settings::Thresholds {
            detection,
            similarity,
        } = settings::get_thresholds();
        Thresholds {
            detection,
            similarity,
        }
    }

    fn setting(&self, key: &str) -> Option<String> {
        settings::get(key)
    }

    fn state_limit(&self) -> usize {
        usize::try_from(settings::state_limit()).unwrap_or(usize::MAX)
    }

    fn review_level(&self) -> ReviewLevel {
        match settings::get_review() {
            settings::ReviewLevel::Off => ReviewLevel::Off,
            settings::ReviewLevel::Standard => ReviewLevel::Standard,
            settings::ReviewLevel::Strict => ReviewLevel::Strict,
        }
    }

    fn log(&self, level: Level, message: &str) {
        let level = match level {
            Level::Debug => telemetry::Level::Debug,
            Level::Info => telemetry::Level::Info,
            Level::Warn => telemetry::Level::Warn,
        };
        telemetry::log(level, message);
    }

    fn warning(&self, code: &str, message: &str) {
        telemetry::warning(code, message);
    }

    fn refused(&self, key: &str, message: &str) {
        settings::refused(key, message);
    }
}

impl Host for HostImports {
    type Model = Model;

    fn max_pixels(&self) -> u64 {
        settings::max_pixels()
    }

    fn memory(&self) -> u64 {
        settings::memory_limit()
    }

    fn load(&self, role: &str) -> Result<Model, String> {
        let granted = settings::get_model(role).ok_or_else(|| {
            format!("the host grants no model for the role `{role}`; name it in `describe`, and run on a pack that fills it")
        })?;
        let to_text = |error: Error| format!("{role}: {}", error.data());
        let context = load_by_name(&granted.graph)
            .map_err(to_text)?
            .init_execution_context()
            .map_err(to_text)?;
        Ok(Model {
            role: role.to_owned(),
            granted,
            context,
        })
    }

    fn stage(&self, name: &str, time: Duration) {
        telemetry::stage(name, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    fn raw_sample(&self, face: usize, embedding: &[f32]) {
        samples::raw(index_of(face), embedding);
    }
}

/// A model of the pack that runs through `wasi:nn`.
#[derive(Debug)]
pub(super) struct Model {
    role: String,
    granted: settings::Model,
    context: GraphExecutionContext,
}

impl host::Model for Model {
    fn spec(&self) -> ModelSpec {
        let settings::Model {
            width,
            height,
            mean,
            std,
            channels,
            ..
        } = self.granted;
        let channels = match channels {
            settings::ChannelOrder::Rgb => Channels::Rgb,
            settings::ChannelOrder::Bgr => Channels::Bgr,
        };
        ModelSpec {
            size: width
                .zip(height)
                .map(|(width, height)| (width as usize, height as usize)),
            normalization: Normalization {
                mean,
                std,
                channels,
            },
        }
    }

    fn run(
        &self,
        stage: &str,
        input: &[f32],
        count: usize,
        width: usize,
        height: usize,
    ) -> Result<Vec<Output>, String> {
        let dimensions =
            [count, 3, height, width].map(|length| u32::try_from(length).unwrap_or(u32::MAX));
        // Tensors are little-endian, as is the memory of WebAssembly.
        let tensor = HostImports::default().timed("copy-in", || {
            Tensor::new(&dimensions, TensorType::Fp32, bytemuck::cast_slice(input))
        });
        let outputs = HostImports::default().timed(stage, || {
            self.context
                .compute(vec![(self.granted.input.clone(), tensor)])
        });
        let outputs = outputs.map_err(|error| format!("{}: {}", self.role, error.data()))?;
        HostImports::default().timed("copy-out", || {
            outputs
                .into_iter()
                .map(|(name, tensor)| self.read(&name, &tensor))
                .collect()
        })
    }
}

impl Model {
    fn read(&self, name: &str, tensor: &Tensor) -> Result<Output, String> {
        if tensor.ty() != TensorType::Fp32 {
            return Err(format!(
                "{}: the output `{name}` is not of 32-bit floats",
                self.role
            ));
        }
        Ok(Output::new(&tensor.dimensions(), tensor.data()))
    }
}

/// Converts an index. One that is too large for the interface becomes the largest, which the host
/// refuses.
pub(super) fn index_of(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
