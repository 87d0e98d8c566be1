//! The faces of a picture with what is cut out for the recogniser: how the default pipeline puts
//! [`decode`](crate::decode), [`detector`], [`align`](crate::align) and
//! [`recognizer`](crate::recognizer) together.

use crate::afar::from_afar;
use crate::align::{AlignedFace, align};
use crate::analysis::{AnalyzeError, AnalyzedFace, Purpose};
use crate::decode::{Budget, Reduced, decode_within};
use crate::detector::{self, detect};
use crate::embed::near_and_far;
use crate::geometry::Rect;
use crate::host::{Host, Thresholds};
use crate::measure::Measures;
use crate::recognizer::embed;
use crate::scrfd::Detection;

/// Faces down to this score are shown to the policy when enrolling, so that it can say how far a
/// photo is from good enough.
const ENROLMENT_FLOOR: f32 = 0.3;

/// Faces of an enrolment photo that are also embedded as from afar: one of them is chosen, and a
/// photo of a class must not cost three times what it does.
const SUREST: usize = 4;

/// The shorter side of a face in pixels from which its crop, of 112, loses nothing when a photo is
/// decoded at a part of its size.
const LARGE: f32 = 160.0;

/// A face that was found, with its crop.
#[derive(Clone, Debug)]
pub struct FoundFace {
    /// In pixels of the whole upright image.
    pub detection: Detection,
    /// Its box cut to the image, in the same pixels.
    pub bounds: Rect,
    /// What the recogniser sees.
    pub aligned: AlignedFace,
}

/// A picture, perhaps decoded at a part of its size, and where its faces are, in the pixels that
/// were decoded.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The picture.
    pub reduced: Reduced,
    /// Its faces, best first.
    pub detections: Vec<Detection>,
}

/// Decodes an image no larger than the detector looks at it, or whole if there is a face in it that
/// would lose by that, and finds its faces: those that score at least the detection threshold, and
/// to enrol weaker ones, too, down to 0.3.
///
/// A JPEG that is too large for the host's limits is decoded at a part of its size. A damaged one
/// is taken as far as it can be decoded, and the host is told what is wrong
/// ([`Settings::warning`](crate::host::Settings::warning)); to enrol, one that lacks rows is
/// refused.
///
/// # Errors
///
/// [`AnalyzeError`]: the image cannot be decoded or is too large, the detector failed, or a setting is not understood.
pub fn see<H: Host>(host: &H, image: &[u8], purpose: Purpose) -> Result<Seen, AnalyzeError> {
    // Exactly what insightface sees is the whole image.
    let side = match detector::is_insightfaces(host) {
        true => u32::MAX,
        false => u32::try_from(detector::longest_look(host)?).unwrap_or(u32::MAX),
    };
    let budget = Budget {
        max_pixels: host.max_pixels(),
        memory: host.memory(),
    };
    let decode = |side: u32| host.timed("decode", || decode_within(image, budget, side));
    let reduced = match purpose {
        Purpose::Enroll => decode(side)?.whole()?,
        Purpose::Recognize | Purpose::Detect => decode(side)?,
    };
    for flaw in &reduced.flaws {
        host.warning(flaw.code(), &flaw.message());
    }
    let detections = detect(
        host,
        &reduced.picture,
        threshold(host.thresholds(), purpose),
        purpose,
    )?;
    let is_large = |face: &Detection| face.bounds.shorter_side() >= LARGE;
    if reduced.divisor == reduced.least_divisor || detections.iter().all(is_large) {
        return Ok(Seen {
            reduced,
            detections,
        });
    }
    let before = reduced.divisor;
    drop(reduced);
    let reduced = decode(u32::MAX)?;
    let factor = before as f32 / reduced.divisor as f32;
    let detections = detections.iter().map(|face| face.scaled(factor)).collect();
    Ok(Seen {
        reduced,
        detections,
    })
}

/// Down to which score faces are reported.
fn threshold(configured: Thresholds, purpose: Purpose) -> f32 {
    match purpose {
        Purpose::Enroll => configured.detection.min(ENROLMENT_FLOOR),
        Purpose::Recognize | Purpose::Detect => configured.detection,
    }
}

/// Cuts faces out, largest first: 112 × 112 pixels each. One that lies outside the picture, or
/// whose landmarks coincide, is none.
#[must_use]
pub fn crop(reduced: &Reduced, detections: Vec<Detection>) -> Vec<FoundFace> {
    let found = |detection: Detection| {
        let aligned = align(&reduced.picture, &detection.landmarks)?;
        let detection = detection.scaled(reduced.divisor as f32);
        Some(FoundFace {
            bounds: detection.bounds.within(reduced.full.0, reduced.full.1)?,
            detection,
            aligned,
        })
    };
    let mut faces: Vec<FoundFace> = detections.into_iter().filter_map(found).collect();
    faces.sort_by(|a, b| b.bounds.area().total_cmp(&a.bounds.area()));
    faces
}

/// The raw embeddings of faces by the model of this role, those of the four that score best [as
/// they look from near and afar](near_and_far), so that whoever is enrolled from near is recognised
/// in the back row.
///
/// # Errors
///
/// As [`embed`].
pub fn embed_near_and_far<H: Host>(
    host: &H,
    role: &str,
    found: &[FoundFace],
) -> Result<Vec<Vec<f32>>, String> {
    let near = embed(host, role, found.iter().map(|face| &face.aligned))?;
    with_far(host, role, found, near)
}

/// The same from the raw embeddings of the faces as they are, for who needs both:
/// [`embed_near_and_far`] is this after [`embed`].
///
/// # Errors
///
/// As [`embed`].
pub fn with_far<H: Host>(
    host: &H,
    role: &str,
    found: &[FoundFace],
    near: Vec<Vec<f32>>,
) -> Result<Vec<Vec<f32>>, String> {
    let mut embeddings = near;
    let mut surest: Vec<(&FoundFace, &mut Vec<f32>)> = found.iter().zip(&mut embeddings).collect();
    surest.sort_by(|(a, _), (b, _)| b.detection.score.total_cmp(&a.detection.score));
    surest.truncate(SUREST);
    let soft: Vec<[AlignedFace; 2]> = host.timed("align", || {
        surest
            .iter()
            .map(|(face, _)| from_afar(&face.aligned))
            .collect()
    });
    let far = embed(host, role, soft.iter().flatten())?;
    for ((_, embedding), far) in surest.into_iter().zip(far.chunks(2)) {
        *embedding = near_and_far(embedding, far);
    }
    Ok(embeddings)
}

impl FoundFace {
    /// What the pipeline answers of it: with its measures, and this embedding.
    #[must_use]
    pub fn analyzed(&self, embedding: Vec<f32>) -> AnalyzedFace {
        let Detection {
            bounds,
            landmarks,
            score,
        } = self.detection;
        let measures = Measures::of(&bounds, &landmarks, &self.aligned).named();
        AnalyzedFace {
            bounds: self.bounds,
            score,
            landmarks: landmarks.into(),
            measures,
            embedding,
        }
    }
}
