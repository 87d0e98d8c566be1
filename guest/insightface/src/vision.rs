//! What is in a picture.

use std::time::Instant;

use crate::bindings::exports::rostro::pipeline::vision::{
    Analysis, AnalyzedFace, Description, EmbeddingContract, Guest, Oversize, Purpose, VisionError,
};
use crate::bindings::rostro::pipeline::types::{BoundingBox, Face, Identity, Measure, Point};
use crate::bindings::rostro::pipeline::{settings, telemetry};
use rostro_sdk::align::{AlignedFace, SIDE, align};
use rostro_sdk::decode::{DecodeError, Rgb, decode};
use rostro_sdk::geometry::Rect;
use rostro_sdk::measure::Measures;
use rostro_sdk::scrfd::Detection;

use crate::Insightface;
use crate::detect::{DETECTOR, detect};
use crate::models::Model;

const RECOGNIZER: &str = "recognizer";

/// Faces down to this score are shown to the policy when enrolling, so that it can say how far a photo is from good enough.
const ENROLMENT_FLOOR: f32 = 0.3;

/// Faces in one run of the recogniser: more gain nothing and cost memory.
const BATCH: usize = 16;

/// A face that was found, with its crop.
struct Found {
    detection: Detection,
    /// Its box cut to the picture.
    bounds: Rect,
    aligned: AlignedFace,
}

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
        let picture = timed("decode", || decode(&image, settings::max_pixels())).map_err(refusal)?;
        drop(image);
        let detections = detect(&picture, threshold(purpose)).map_err(VisionError::Model)?;
        let found = timed("align", || crop(&picture, detections));
        let embeddings = match purpose {
            Purpose::Detect => vec![Vec::new(); found.len()],
            Purpose::Recognize | Purpose::Enroll => embed(&found).map_err(VisionError::Model)?,
        };
        let faces = timed("measure", || found.iter().zip(embeddings).map(|(face, embedding)| face.with(embedding)).collect());
        Ok(Analysis { width: picture.width, height: picture.height, faces })
    }
}

/// Who this is.
pub(crate) fn identity() -> Identity {
    Identity { name: "insightface".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
}

fn threshold(purpose: Purpose) -> f32 {
    let configured = settings::get_thresholds().detection;
    match purpose {
        Purpose::Enroll => configured.min(ENROLMENT_FLOOR),
        Purpose::Recognize | Purpose::Detect => configured,
    }
}

/// Cuts faces out, largest first. One that lies outside the picture, or whose landmarks coincide, is none.
fn crop(picture: &Rgb, detections: Vec<Detection>) -> Vec<Found> {
    let found = |detection: Detection| {
        let bounds = detection.bounds.within(picture.width, picture.height)?;
        Some(Found { detection, bounds, aligned: align(picture, &detection.landmarks)? })
    };
    let mut faces: Vec<Found> = detections.into_iter().filter_map(found).collect();
    faces.sort_by(|a, b| b.bounds.area().total_cmp(&a.bounds.area()));
    faces
}

fn embed(faces: &[Found]) -> Result<Vec<Vec<f32>>, String> {
    if faces.is_empty() {
        return Ok(Vec::new());
    }
    let recognizer = Model::load(RECOGNIZER)?;
    if [recognizer.spec.width, recognizer.spec.height].iter().flatten().any(|&side| side as usize != SIDE) {
        return Err(format!("the recogniser takes faces of another size than {SIDE}×{SIDE} pixels"));
    }
    let mut embeddings = Vec::with_capacity(faces.len());
    let mut input = Vec::new();
    for faces in faces.chunks(BATCH) {
        input.clear();
        timed("align", || faces.iter().for_each(|face| face.aligned.append_to(&mut input, recognizer.normalization())));
        let outputs = timed("embed", || recognizer.run(&input, faces.len(), SIDE, SIDE))?;
        let output = outputs.first().ok_or("the recogniser has no output")?;
        let dimension = output.values.len() / faces.len();
        if dimension == 0 || output.values.len() % faces.len() != 0 {
            return Err(format!("the recogniser gives {:?} numbers for {} faces", output.dimensions, faces.len()));
        }
        embeddings.extend(output.values.chunks_exact(dimension).map(<[f32]>::to_vec));
    }
    Ok(embeddings)
}

impl Found {
    fn with(&self, embedding: Vec<f32>) -> AnalyzedFace {
        let Rect { x1, y1, x2, y2 } = self.bounds;
        let measures = Measures::of(&self.detection.bounds, &self.detection.landmarks, &self.aligned);
        let face = Face {
            bounds: BoundingBox { x1, y1, x2, y2 },
            score: self.detection.score,
            landmarks: self.detection.landmarks.iter().map(|point| Point { x: point.x, y: point.y }).collect(),
            measures: measures.named().map(|(name, value)| Measure { name: name.to_owned(), value }).into(),
        };
        AnalyzedFace { face, embedding }
    }
}

fn refusal(error: DecodeError) -> VisionError {
    match error {
        DecodeError::Undecodable(cause) => VisionError::Undecodable(cause),
        DecodeError::TooLarge { width, height, max_pixels } => VisionError::TooLarge(Oversize { width, height, max_pixels }),
    }
}

/// Does the work and tells the host what time it took.
pub(crate) fn timed<T>(stage: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = work();
    telemetry::stage(stage, u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
    result
}
