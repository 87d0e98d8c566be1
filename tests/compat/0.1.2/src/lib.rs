//! A pipeline of the least size that uses everything of `rostro:pipeline@0.1.2`, built against that interface and not against the SDK.
//!
//! It takes the whole picture for one face and embeds it. The interface beside it is frozen: a component that is made of it is what authors
//! have in their hands, and a host of any later 0.1.x must run it as it is.

use std::time::Instant;

wit_bindgen::generate!({ world: "pipeline", path: "wit", generate_all });

use exports::rostro::pipeline::policy::{Decision, Match, Probe, ReviewOutcome};
use exports::rostro::pipeline::vision::{
    Analysis, AnalyzedFace, Description, EmbeddingContract, Oversize, Purpose, VisionError,
};
use exports::rostro::pipeline::{policy, vision};
use rostro::pipeline::samples;
use rostro::pipeline::settings::{self, ChannelOrder, ReviewLevel};
use rostro::pipeline::telemetry::{self, Level};
use rostro::pipeline::types::{BoundingBox, Face, Identity, Measure, Point};
use wasi::nn::graph::load_by_name;
use wasi::nn::tensor::{Tensor, TensorType};

struct Compat;

export!(Compat);

const RECOGNIZER: &str = "recognizer";

fn identity() -> Identity {
    Identity { name: "compat-0-1-2".to_owned(), version: "0.1.2".to_owned() }
}

impl vision::Guest for Compat {
    fn describe() -> Description {
        // New in 0.1.2: it asks for its settings here, and refuses a value that it cannot use.
        if let Some(value) = settings::get("compat").filter(|value| value != "on") {
            settings::refused("compat", &format!("the setting compat is `{value}`; it must be `on`"));
        }
        let contract = EmbeddingContract {
            recognizer: RECOGNIZER.to_owned(),
            alignment: "whole-picture/1".to_owned(),
            preprocessing: "triangle-rgb-mean-std/1".to_owned(),
        };
        Description { identity: identity(), models: vec![RECOGNIZER.to_owned()], contract }
    }

    fn analyze(bytes: Vec<u8>, purpose: Purpose) -> Result<Analysis, VisionError> {
        let begun = Instant::now();
        let reader = || image::ImageReader::new(std::io::Cursor::new(&bytes)).with_guessed_format();
        let undecodable = |error: image::ImageError| VisionError::Undecodable(error.to_string());
        let (width, height) = reader().map_err(|error| VisionError::Undecodable(error.to_string()))?.into_dimensions().map_err(undecodable)?;
        let max_pixels = settings::max_pixels();
        if u64::from(width) * u64::from(height) > max_pixels {
            return Err(VisionError::TooLarge(Oversize { width, height, max_pixels }));
        }
        let picture = image::load_from_memory(&bytes).map_err(undecodable)?.into_rgb8();
        telemetry::stage("decode", u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let embedding = match purpose {
            Purpose::Detect => Vec::new(),
            Purpose::Recognize | Purpose::Enroll => embed(&picture)?,
        };
        let (right, down) = (width as f32, height as f32);
        let face = Face {
            bounds: BoundingBox { x1: 0.0, y1: 0.0, x2: right, y2: down },
            score: 1.0,
            landmarks: [(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]
                .map(|(x, y)| Point { x: x * right, y: y * down })
                .into(),
            measures: vec![Measure { name: "size".to_owned(), value: right.min(down) }],
        };
        telemetry::log(Level::Debug, "the whole picture is one face");
        // New in 0.1.2: a warning, the limit of memory, and the raw output of a photo's face.
        telemetry::warning("whole_picture", &format!("The whole picture is one face, within {} bytes.", settings::memory_limit()));
        if purpose == Purpose::Enroll {
            samples::raw(0, &embedding);
        }
        Ok(Analysis { width, height, faces: vec![AnalyzedFace { face, embedding }] })
    }
}

fn embed(picture: &image::RgbImage) -> Result<Vec<f32>, VisionError> {
    let model = settings::get_model(RECOGNIZER).ok_or_else(|| VisionError::Model("no recogniser is granted".to_owned()))?;
    let (width, height) = (model.width.unwrap_or(112), model.height.unwrap_or(112));
    let small = image::imageops::resize(picture, width, height, image::imageops::FilterType::Triangle);
    let order = match model.channels {
        ChannelOrder::Rgb => [0, 1, 2],
        ChannelOrder::Bgr => [2, 1, 0],
    };
    let plane = |channel: usize| small.pixels().map(move |pixel| (f32::from(pixel.0[channel]) - model.mean) / model.std);
    let input: Vec<u8> = order.into_iter().flat_map(plane).flat_map(f32::to_le_bytes).collect();
    let failed = |error: wasi::nn::errors::Error| VisionError::Model(error.data());
    let context = load_by_name(&model.graph).map_err(failed)?.init_execution_context().map_err(failed)?;
    let begun = Instant::now();
    let tensor = Tensor::new(&[1, 3, height, width], TensorType::Fp32, &input);
    let outputs = context.compute(vec![(model.input.clone(), tensor)]).map_err(failed)?;
    telemetry::stage("embed", u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let (_, output) = outputs.first().ok_or_else(|| VisionError::Model("the recogniser has no output".to_owned()))?;
    Ok(output.data().as_chunks().0.iter().copied().map(f32::from_le_bytes).collect())
}

impl policy::Guest for Compat {
    fn describe() -> Identity {
        identity()
    }

    fn review(faces: Vec<Face>) -> ReviewOutcome {
        // New in 0.1.1: the level of the review. A strict one takes no small picture.
        let small = |face: &Face| face.bounds.x2 - face.bounds.x1 < 64.0;
        if settings::get_review() == ReviewLevel::Strict && faces.iter().any(small) {
            return ReviewOutcome::Reject(vec![policy::Reason {
                code: "too_small".to_owned(),
                message: "The picture is too small.".to_owned(),
                value: None,
                limit: Some(64.0),
            }]);
        }
        match faces.iter().position(|face| face.score >= settings::get_thresholds().detection) {
            Some(index) => ReviewOutcome::Accept(index as u32),
            None => ReviewOutcome::Reject(vec![policy::Reason {
                code: "no_face".to_owned(),
                message: "There is no picture.".to_owned(),
                value: None,
                limit: None,
            }]),
        }
    }

    fn template(samples: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        samples.into_iter().take(16).collect()
    }

    fn decide(probes: Vec<Probe>) -> Vec<Decision> {
        // A key of its own, so that settings are used, too.
        let asked = settings::get("similarity").and_then(|value| value.parse().ok());
        let threshold = asked.unwrap_or(settings::get_thresholds().similarity);
        let decide = |probe: &Probe| match probe.candidates.first() {
            None => Decision::Unknown("no_candidates".to_owned()),
            Some(best) if best.similarity > threshold => {
                Decision::Known(Match { candidate: 0, confidence: best.similarity.clamp(0.0, 1.0) })
            }
            Some(_) => Decision::Unknown("below_threshold".to_owned()),
        };
        probes.iter().map(decide).collect()
    }
}
