//! The component: the pipeline behind the interfaces of `wit/`.

use std::time::Duration;

use rostro_sdk::analysis::{self, AnalyzeError};
use rostro_sdk::decode::DecodeError;
use rostro_sdk::geometry::Rect;
use rostro_sdk::host::{self, Host, ModelSpec, Output, Thresholds};
use rostro_sdk::tensor::{Channels, Normalization};

use crate::Insightface;
use crate::analyze::{RECOGNIZER, analyze};
use crate::bindings::exports::rostro::pipeline::vision::{
    Analysis, AnalyzedFace, Description, EmbeddingContract, Guest, Oversize, Purpose, VisionError,
};
use crate::bindings::rostro::pipeline::types::{BoundingBox, Face, Identity, Measure, Point};
use crate::bindings::rostro::pipeline::{settings, telemetry};
use crate::bindings::wasi::nn::errors::Error;
use crate::bindings::wasi::nn::graph::load_by_name;
use crate::bindings::wasi::nn::inference::GraphExecutionContext;
use crate::bindings::wasi::nn::tensor::{Tensor, TensorType};
use crate::detect::DETECTOR;
use crate::policy;

impl Guest for Insightface {
    fn describe() -> Description {
        Description {
            identity: identity(),
            models: vec![DETECTOR.to_owned(), RECOGNIZER.to_owned()],
            contract: EmbeddingContract {
                recognizer: RECOGNIZER.to_owned(),
                alignment: "arcface-5-point-112/1".to_owned(),
                preprocessing: "bilinear-mean-std/1".to_owned(),
            },
        }
    }

    fn analyze(image: Vec<u8>, purpose: Purpose) -> Result<Analysis, VisionError> {
        let purpose = match purpose {
            Purpose::Recognize => analysis::Purpose::Recognize,
            Purpose::Enroll => analysis::Purpose::Enroll,
            Purpose::Detect => analysis::Purpose::Detect,
        };
        // The policy has no way to say that a setting of its own is wrong.
        policy::rule(settings::get_thresholds().similarity).map_err(VisionError::Model)?;
        analyze(&Outside, image, purpose).map(answer).map_err(refusal)
    }
}

/// Who this is.
pub(crate) fn identity() -> Identity {
    Identity { name: "insightface".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
}

fn answer(analysis: analysis::Analysis) -> Analysis {
    Analysis { width: analysis.width, height: analysis.height, faces: analysis.faces.into_iter().map(answer_face).collect() }
}

fn answer_face(face: analysis::AnalyzedFace) -> AnalyzedFace {
    let Rect { x1, y1, x2, y2 } = face.bounds;
    let known = Face {
        bounds: BoundingBox { x1, y1, x2, y2 },
        score: face.score,
        landmarks: face.landmarks.iter().map(|point| Point { x: point.x, y: point.y }).collect(),
        measures: face.measures.named().map(|(name, value)| Measure { name: name.to_owned(), value }).into(),
    };
    AnalyzedFace { face: known, embedding: face.embedding }
}

fn refusal(error: AnalyzeError) -> VisionError {
    match error {
        AnalyzeError::Image(DecodeError::Undecodable(cause)) => VisionError::Undecodable(cause),
        AnalyzeError::Image(DecodeError::TooLarge { width, height, max_pixels }) => {
            VisionError::TooLarge(Oversize { width, height, max_pixels })
        }
        AnalyzeError::Model(cause) => VisionError::Model(cause),
    }
}

/// The host, through what the component imports.
struct Outside;

impl Host for Outside {
    type Model = Model;

    fn thresholds(&self) -> Thresholds {
        let settings::Thresholds { detection, similarity } = settings::get_thresholds();
        Thresholds { detection, similarity }
    }

    fn max_pixels(&self) -> u64 {
        settings::max_pixels()
    }

    fn setting(&self, key: &str) -> Option<String> {
        settings::get(key)
    }

    fn load(&self, role: &str) -> Result<Model, String> {
        let granted = settings::get_model(role).ok_or_else(|| format!("the host grants no model for the role `{role}`"))?;
        let said = |error: Error| format!("{role}: {}", error.data());
        let context = load_by_name(&granted.graph).map_err(said)?.init_execution_context().map_err(said)?;
        Ok(Model { role: role.to_owned(), granted, context })
    }

    fn stage(&self, name: &str, time: Duration) {
        telemetry::stage(name, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// A model of the pack, run through `wasi:nn`.
struct Model {
    role: String,
    granted: settings::Model,
    context: GraphExecutionContext,
}

impl host::Model for Model {
    fn spec(&self) -> ModelSpec {
        let settings::Model { width, height, mean, std, channels, .. } = self.granted;
        let channels = match channels {
            settings::ChannelOrder::Rgb => Channels::Rgb,
            settings::ChannelOrder::Bgr => Channels::Bgr,
        };
        ModelSpec {
            size: width.zip(height).map(|(width, height)| (width as usize, height as usize)),
            normalization: Normalization { mean, std, channels },
        }
    }

    fn run(&self, stage: &str, input: &[f32], count: usize, width: usize, height: usize) -> Result<Vec<Output>, String> {
        let dimensions = [count, 3, height, width].map(|length| u32::try_from(length).unwrap_or(u32::MAX));
        // The bytes of numbers, as they lie in memory: WebAssembly is little-endian, as tensors are.
        let tensor = Outside.timed("copy-in", || Tensor::new(&dimensions, TensorType::Fp32, bytemuck::cast_slice(input)));
        let outputs = Outside.timed(stage, || self.context.compute(vec![(self.granted.input.clone(), tensor)]));
        let outputs = outputs.map_err(|error| format!("{}: {}", self.role, error.data()))?;
        Outside.timed("copy-out", || outputs.into_iter().map(|(name, tensor)| self.read(&name, &tensor)).collect())
    }
}

impl Model {
    fn read(&self, name: &str, tensor: &Tensor) -> Result<Output, String> {
        if tensor.ty() != TensorType::Fp32 {
            return Err(format!("{}: the output `{name}` is not of 32-bit floats", self.role));
        }
        Ok(Output::new(&tensor.dimensions(), tensor.data()))
    }
}
