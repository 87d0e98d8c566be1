//! What is in a picture.

use rostro_sdk::afar::from_afar;
use rostro_sdk::align::{AlignedFace, SIDE, align};
use rostro_sdk::analysis::{Analysis, AnalyzeError, AnalyzedFace, Purpose};
use rostro_sdk::decode::{Reduced, decode_at_least};
use rostro_sdk::embed::near_and_far;
use rostro_sdk::geometry::Rect;
use rostro_sdk::host::{Host, Model, Thresholds};
use rostro_sdk::measure::Measures;
use rostro_sdk::scrfd::Detection;

use crate::detect::{self, detect};

/// The role of the model that makes embeddings.
pub const RECOGNIZER: &str = "recognizer";

/// Faces down to this score are shown to the policy when enrolling, so that it can say how far a photo is from good enough.
const ENROLMENT_FLOOR: f32 = 0.3;

/// Faces in one run of the recogniser: more gain nothing and cost memory.
const BATCH: usize = 16;

/// Faces of an enrolment photo that are also embedded as from afar: one of them is chosen, and a photo of a class must not cost three times
/// what it does.
const SUREST: usize = 4;

/// The shorter side of a face in pixels from which its crop, of 112, loses nothing when a photo is decoded at a part of its size.
const LARGE: f32 = 160.0;

/// A face that was found, with its crop.
struct Found {
    /// In pixels of the image.
    detection: Detection,
    /// Its box cut to the image.
    bounds: Rect,
    aligned: AlignedFace,
}

/// Finds the faces in an encoded image (JPEG, PNG, WebP).
///
/// # Errors
///
/// [`AnalyzeError`]: the image cannot be decoded, or a model failed.
pub fn analyze<H: Host>(host: &H, image: Vec<u8>, purpose: Purpose) -> Result<Analysis, AnalyzeError> {
    let Seen { reduced, detections } = see(host, &image, purpose)?;
    drop(image);
    let found = host.timed("align", || crop(&reduced, detections));
    let embeddings = match purpose {
        Purpose::Detect => Ok(vec![Vec::new(); found.len()]),
        Purpose::Recognize => embed(host, found.iter().map(|face| &face.aligned)),
        Purpose::Enroll if detect::is_insightfaces(host) => embed(host, found.iter().map(|face| &face.aligned)),
        Purpose::Enroll => embed_near_and_far(host, &found),
    };
    let embeddings = embeddings.map_err(AnalyzeError::Model)?;
    let faces = host.timed("measure", || found.iter().zip(embeddings).map(|(face, embedding)| face.with(embedding)).collect());
    let (width, height) = reduced.full;
    Ok(Analysis { width, height, faces })
}

/// A picture and where its faces are, in its pixels.
struct Seen {
    reduced: Reduced,
    detections: Vec<Detection>,
}

/// Decodes an image no larger than the detector looks at it; whole if there is a face in it that would lose by that.
fn see<H: Host>(host: &H, image: &[u8], purpose: Purpose) -> Result<Seen, AnalyzeError> {
    // Exactly what insightface sees is the whole image.
    let side = match detect::is_insightfaces(host) {
        true => u32::MAX,
        false => u32::try_from(detect::longest_look(host).map_err(AnalyzeError::Model)?).unwrap_or(u32::MAX),
    };
    let reduced = host.timed("decode", || decode_at_least(image, host.max_pixels(), side))?;
    let detections = detect(host, &reduced.picture, threshold(host.thresholds(), purpose), purpose).map_err(AnalyzeError::Model)?;
    if reduced.divisor == 1 || detections.iter().all(|face| face.bounds.shorter_side() >= LARGE) {
        return Ok(Seen { reduced, detections });
    }
    let detections = detections.iter().map(|face| face.scaled(reduced.divisor as f32)).collect();
    drop(reduced);
    let reduced = host.timed("decode", || decode_at_least(image, host.max_pixels(), u32::MAX))?;
    Ok(Seen { reduced, detections })
}

fn threshold(configured: Thresholds, purpose: Purpose) -> f32 {
    match purpose {
        Purpose::Enroll => configured.detection.min(ENROLMENT_FLOOR),
        Purpose::Recognize | Purpose::Detect => configured.detection,
    }
}

/// Cuts faces out, largest first. One that lies outside the picture, or whose landmarks coincide, is none.
fn crop(reduced: &Reduced, detections: Vec<Detection>) -> Vec<Found> {
    let found = |detection: Detection| {
        let aligned = align(&reduced.picture, &detection.landmarks)?;
        let detection = detection.scaled(reduced.divisor as f32);
        Some(Found { bounds: detection.bounds.within(reduced.full.0, reduced.full.1)?, detection, aligned })
    };
    let mut faces: Vec<Found> = detections.into_iter().filter_map(found).collect();
    faces.sort_by(|a, b| b.bounds.area().total_cmp(&a.bounds.area()));
    faces
}

/// Embeds faces, the most certain of them also as they would look from afar, so that whoever is enrolled from near is recognised in the
/// back row.
fn embed_near_and_far<H: Host>(host: &H, found: &[Found]) -> Result<Vec<Vec<f32>>, String> {
    let mut embeddings = embed(host, found.iter().map(|face| &face.aligned))?;
    let mut surest: Vec<(&Found, &mut Vec<f32>)> = found.iter().zip(&mut embeddings).collect();
    surest.sort_by(|(a, _), (b, _)| b.detection.score.total_cmp(&a.detection.score));
    surest.truncate(SUREST);
    let soft: Vec<[AlignedFace; 2]> = host.timed("align", || surest.iter().map(|(face, _)| from_afar(&face.aligned)).collect());
    let far = embed(host, soft.iter().flatten())?;
    for ((_, embedding), far) in surest.into_iter().zip(far.chunks(2)) {
        *embedding = near_and_far(embedding, far);
    }
    Ok(embeddings)
}

/// The recogniser's raw outputs for faces.
fn embed<'f, H: Host>(host: &H, faces: impl Iterator<Item = &'f AlignedFace>) -> Result<Vec<Vec<f32>>, String> {
    let faces: Vec<&AlignedFace> = faces.collect();
    if faces.is_empty() {
        return Ok(Vec::new());
    }
    let recognizer = host.load(RECOGNIZER)?;
    let spec = recognizer.spec();
    if spec.size.is_some_and(|size| size != (SIDE, SIDE)) {
        return Err(format!("the recogniser takes faces of another size than {SIDE}×{SIDE} pixels"));
    }
    let mut embeddings = Vec::with_capacity(faces.len());
    let mut input = Vec::new();
    for faces in faces.chunks(BATCH) {
        input.clear();
        host.timed("align", || faces.iter().for_each(|face| face.append_to(&mut input, spec.normalization)));
        let outputs = recognizer.run("embed", &input, faces.len(), SIDE, SIDE)?;
        let output = outputs.first().ok_or("the recogniser has no output")?;
        let values = output.values();
        let dimension = values.len() / faces.len();
        if dimension == 0 || !values.len().is_multiple_of(faces.len()) {
            return Err(format!("the recogniser gives {:?} numbers for {} faces", output.dimensions(), faces.len()));
        }
        embeddings.extend(values.chunks_exact(dimension).map(<[f32]>::to_vec));
    }
    Ok(embeddings)
}

impl Found {
    fn with(&self, embedding: Vec<f32>) -> AnalyzedFace {
        let Detection { bounds, landmarks, score } = self.detection;
        let measures = Measures::of(&bounds, &landmarks, &self.aligned);
        AnalyzedFace { bounds: self.bounds, score, landmarks, measures, embedding }
    }
}
