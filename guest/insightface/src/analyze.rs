//! What is in a picture: decoded, detected, aligned, embedded and measured, by the parts of `rostro-sdk`.

use rostro_sdk::afar::from_afar;
use rostro_sdk::align::{AlignedFace, align};
use rostro_sdk::analysis::{Analysis, AnalyzeError, AnalyzedFace, Purpose};
use rostro_sdk::decode::{Reduced, decode_at_least};
use rostro_sdk::detector::{self, detect};
use rostro_sdk::embed::near_and_far;
use rostro_sdk::geometry::Rect;
use rostro_sdk::host::{Host, Thresholds};
use rostro_sdk::measure::Measures;
use rostro_sdk::recognizer::{RECOGNIZER, embed};
use rostro_sdk::scrfd::Detection;

/// Faces down to this score are shown to the policy when enrolling, so that it can say how far a photo is from good enough.
const ENROLMENT_FLOOR: f32 = 0.3;

/// Faces of an enrolment photo that are also embedded as from afar: one of them is chosen, and a photo of a class must not cost three times
/// what it does.
const SUREST: usize = 4;

/// The shorter side of a face in pixels from which its crop, of 112, loses nothing when a photo is decoded at a part of its size.
const LARGE: f32 = 160.0;

/// A face that was found, with its crop.
struct Found {
    /// In pixels of the whole upright image.
    detection: Detection,
    /// Its box cut to the image, in the same pixels.
    bounds: Rect,
    aligned: AlignedFace,
}

/// Finds the faces in an encoded image (JPEG, PNG, WebP), largest first, in pixels of the whole upright image.
///
/// - To recognise, every face that scores at least the detection threshold, with its raw embedding.
/// - To enrol, also weaker ones down to a score of 0.3, with raw embeddings; those of the four best are [`near_and_far`]'s.
/// - To detect, the same as to recognise without embeddings.
///
/// All are measured ([`Measures`]).
///
/// # Errors
///
/// [`AnalyzeError`]: the image cannot be decoded or is too large, a model failed, or a setting is not understood.
pub fn analyze<H: Host>(host: &H, image: Vec<u8>, purpose: Purpose) -> Result<Analysis, AnalyzeError> {
    let Seen { reduced, detections } = see(host, &image, purpose)?;
    drop(image);
    let found = host.timed("align", || crop(&reduced, detections));
    let embeddings = match purpose {
        Purpose::Detect => Ok(vec![Vec::new(); found.len()]),
        Purpose::Recognize => embed(host, RECOGNIZER, found.iter().map(|face| &face.aligned)),
        Purpose::Enroll if detector::is_insightfaces(host) => embed(host, RECOGNIZER, found.iter().map(|face| &face.aligned)),
        Purpose::Enroll => embed_near_and_far(host, &found),
    };
    let embeddings = embeddings?;
    let faces = host.timed("measure", || found.iter().zip(embeddings).map(|(face, embedding)| face.with(embedding)).collect());
    let (width, height) = reduced.full;
    Ok(Analysis { width, height, faces })
}

/// A picture, perhaps decoded at a part of its size, and where its faces are, in the pixels that were decoded.
struct Seen {
    reduced: Reduced,
    detections: Vec<Detection>,
}

/// Decodes an image no larger than the detector looks at it; whole if there is a face in it that would lose by that.
fn see<H: Host>(host: &H, image: &[u8], purpose: Purpose) -> Result<Seen, AnalyzeError> {
    // Exactly what insightface sees is the whole image.
    let side = match detector::is_insightfaces(host) {
        true => u32::MAX,
        false => u32::try_from(detector::longest_look(host)?).unwrap_or(u32::MAX),
    };
    let reduced = host.timed("decode", || decode_at_least(image, host.max_pixels(), side))?;
    let detections = detect(host, &reduced.picture, threshold(host.thresholds(), purpose), purpose)?;
    if reduced.divisor == 1 || detections.iter().all(|face| face.bounds.shorter_side() >= LARGE) {
        return Ok(Seen { reduced, detections });
    }
    let detections = detections.iter().map(|face| face.scaled(reduced.divisor as f32)).collect();
    drop(reduced);
    let reduced = host.timed("decode", || decode_at_least(image, host.max_pixels(), u32::MAX))?;
    Ok(Seen { reduced, detections })
}

/// Down to which score faces are reported.
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
    let mut embeddings = embed(host, RECOGNIZER, found.iter().map(|face| &face.aligned))?;
    let mut surest: Vec<(&Found, &mut Vec<f32>)> = found.iter().zip(&mut embeddings).collect();
    surest.sort_by(|(a, _), (b, _)| b.detection.score.total_cmp(&a.detection.score));
    surest.truncate(SUREST);
    let soft: Vec<[AlignedFace; 2]> = host.timed("align", || surest.iter().map(|(face, _)| from_afar(&face.aligned)).collect());
    let far = embed(host, RECOGNIZER, soft.iter().flatten())?;
    for ((_, embedding), far) in surest.into_iter().zip(far.chunks(2)) {
        *embedding = near_and_far(embedding, far);
    }
    Ok(embeddings)
}

impl Found {
    fn with(&self, embedding: Vec<f32>) -> AnalyzedFace {
        let Detection { bounds, landmarks, score } = self.detection;
        let measures = Measures::of(&bounds, &landmarks, &self.aligned).named();
        AnalyzedFace { bounds: self.bounds, score, landmarks, measures, embedding }
    }
}
