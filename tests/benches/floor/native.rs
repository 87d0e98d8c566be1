//! The default pipeline compiled natively, with the inference of the component.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use rostro_common::cores::Cores;
use rostro_inference::precision::PrecisionGrant;
use rostro_inference::{Batching, ModelBytes, NamedTensor, OnnxRuntime, Tensor, TensorType};
use rostro_models::{Channels, ModelSpec, Pack};
use rostro_sdk::host::{self, Host, Level, Output, ReviewLevel, Settings, Thresholds};
use rostro_sdk::tensor::{self, Normalization};

/// Recorded input of a model.
#[derive(Clone)]
pub(crate) struct Fed {
    pub(crate) role: &'static str,
    /// Images, channels, height and width.
    pub(crate) shape: [usize; 4],
    pub(crate) values: Vec<f32>,
}

/// Host of a native pipeline.
pub(crate) struct Native {
    models: BTreeMap<&'static str, (rostro_inference::Model, ModelSpec)>,
    thresholds: Thresholds,
    stages: RefCell<Vec<(String, Duration)>>,
    fed: RefCell<Vec<Fed>>,
    keeps: Cell<bool>,
}

impl Native {
    pub(crate) fn new(runtime: &OnnxRuntime, pack: &Pack) -> anyhow::Result<Self> {
        let mut models = BTreeMap::new();
        for role in ["detector", "recognizer"] {
            let (spec, bytes) = pack
                .model(role)
                .ok_or_else(|| anyhow::anyhow!("the pack has no {role}"))?;
            let batching = if spec.dimension.is_some() {
                Batching::Images {
                    most: std::num::NonZeroUsize::new(1),
                }
            } else {
                Batching::Whole
            };
            let bytes = ModelBytes {
                original: bytes,
                int8: None,
            };
            models.insert(role, (runtime.model(role, bytes, batching)?, spec.clone()));
        }
        let recommended = pack.manifest().thresholds;
        let thresholds = Thresholds {
            detection: recommended.detection,
            similarity: recommended.similarity,
        };
        Ok(Self {
            models,
            thresholds,
            stages: RefCell::default(),
            fed: RefCell::default(),
            keeps: Cell::new(false),
        })
    }

    /// Returns the inputs of models during `work`.
    pub(crate) fn fed_by<T>(&self, work: impl FnOnce() -> T) -> Vec<Fed> {
        self.keeps.set(true);
        work();
        self.keeps.set(false);
        self.fed.take()
    }

    /// Returns and clears the stages since the last call.
    pub(crate) fn take_stages(&self) -> Vec<(String, Duration)> {
        self.stages.take()
    }
}

impl Settings for &Native {
    fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    fn setting(&self, _key: &str) -> Option<String> {
        None
    }

    fn review_level(&self) -> ReviewLevel {
        ReviewLevel::Off
    }

    fn log(&self, _level: Level, _message: &str) {}
}

impl<'n> Host for &'n Native {
    type Model = Model<'n>;

    fn max_pixels(&self) -> u64 {
        40_000_000
    }

    fn load(&self, role: &str) -> Result<Model<'n>, String> {
        let (role, (model, spec)) = self
            .models
            .get_key_value(role)
            .ok_or_else(|| format!("no model for {role}"))?;
        Ok(Model {
            role,
            model,
            spec,
            native: self,
        })
    }

    fn stage(&self, name: &str, time: Duration) {
        let mut stages = self.stages.borrow_mut();
        match stages.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += time,
            None => stages.push((name.to_owned(), time)),
        }
    }
}

/// Model that is called without a sandbox.
pub(crate) struct Model<'n> {
    role: &'static str,
    model: &'n rostro_inference::Model,
    spec: &'n ModelSpec,
    native: &'n Native,
}

impl host::Model for Model<'_> {
    fn spec(&self) -> host::ModelSpec {
        let channels = match self.spec.channels {
            Channels::Rgb => tensor::Channels::Rgb,
            Channels::Bgr => tensor::Channels::Bgr,
        };
        host::ModelSpec {
            size: self
                .spec
                .width
                .zip(self.spec.height)
                .map(|(width, height)| (width as usize, height as usize)),
            normalization: Normalization {
                mean: self.spec.mean,
                std: self.spec.std,
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
        let shape = [count, 3, height, width];
        if self.native.keeps.get() {
            self.native.fed.borrow_mut().push(Fed {
                role: self.role,
                shape,
                values: input.to_vec(),
            });
        }
        let dimensions = shape.map(|length| length as u32).to_vec();
        let name = self
            .model
            .inputs()
            .first()
            .map(|port| port.name.clone())
            .unwrap_or_default();
        let tensor = self.native.timed("copy-in", || Tensor {
            dimensions,
            ty: TensorType::Fp32,
            data: bytemuck::cast_slice(input).to_vec(),
        });
        let outputs = self
            .native
            .timed(stage, || {
                self.model.run(
                    &[NamedTensor { name, tensor }],
                    &crate::later().into(),
                    &PrecisionGrant::default(),
                )
            })
            .map_err(|error| error.to_string())?;
        let output =
            |output: NamedTensor| Output::new(&output.tensor.dimensions, output.tensor.data);
        Ok(self
            .native
            .timed("copy-out", || outputs.into_iter().map(output).collect()))
    }
}

/// Holds the core of a request during `work`, as the service does.
pub(crate) fn occupied<T>(cores: &Cores, work: impl FnOnce() -> T) -> T {
    let _core = cores.occupy();
    work()
}
