//! The faces of a picture and their crops, as the default pipeline combines
//! [`decode`](crate::decode), [`detector`], [`align`](crate::align) and
//! [`recognizer`](crate::recognizer).

use crate::analysis::{AnalyzeError, AnalyzedFace, Purpose};
use crate::detect::detector::{self, detect};
use crate::detect::embed::near_and_far;
use crate::detect::recognizer::embed;
use crate::detect::scrfd::Detection;
use crate::host::{Host, Thresholds};
use crate::image::align::{AlignedFace, align};
use crate::image::decode::{Budget, Reduced, decode_within};
use crate::image::distance::simulate_distance;
use crate::image::geometry::Rect;
use crate::policy::measure::Measures;

/// Former names, kept for existing pipelines.
pub use self::{DetectedFaces as Seen, FaceCrop as FoundFace, detect_faces as see};

/// Enrolment reports faces down to this score to the policy, so that it can report how far a photo
/// misses the threshold.
const ENROLMENT_FLOOR: f32 = 0.3;

/// Faces of an enrolment photo that are also embedded as from a distance. Only one face is chosen,
/// and a photo of a class must not cost three times as much.
const DISTANT_VIEWS: usize = 4;

/// The shorter side in pixels from which a face's crop, of 112, loses nothing in a reduced decode.
const LARGE: f32 = 160.0;

/// A face and its crop.
#[derive(Clone, Debug)]
pub struct FaceCrop {
    /// The detection, in pixels of the whole upright image.
    pub detection: Detection,
    /// Its box cut to the image, in the same pixels.
    pub bounds: Rect,
    /// The recogniser's input.
    pub aligned: AlignedFace,
}

/// A picture, perhaps reduced, and its faces in the pixels of the reduced picture.
#[derive(Clone, Debug)]
pub struct DetectedFaces {
    /// The picture.
    pub reduced: Reduced,
    /// Its faces, best first.
    pub detections: Vec<Detection>,
}

/// Decodes an image and finds its faces. The image is reduced to the size that the detector needs,
/// unless a face would lose detail by it. Faces score at least the detection threshold; for
/// enrolment also weaker ones, down to 0.3.
///
/// A JPEG beyond the host's limits is decoded at a reduced size. A damaged one is decoded as far as
/// possible, and the host gets a [warning](crate::host::Settings::warning). Enrolment refuses a
/// JPEG that lacks rows.
///
/// # Errors
///
/// [`AnalyzeError::Image`] if the image cannot be decoded or is too large, [`AnalyzeError::Model`]
/// if the detector failed or a setting is invalid.
pub fn detect_faces<H: Host>(
    host: &H,
    image: &[u8],
    purpose: Purpose,
) -> Result<DetectedFaces, AnalyzeError> {
    // insightface always detects on the whole image.
    let side = match detector::uses_insightface_letterbox(host) {
        true => u32::MAX,
        false => u32::try_from(detector::longest_pass(host)?).unwrap_or(u32::MAX),
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
        return Ok(DetectedFaces {
            reduced,
            detections,
        });
    }
    let before = reduced.divisor;
    drop(reduced);
    let reduced = decode(u32::MAX)?;
    let factor = before as f32 / reduced.divisor as f32;
    let detections = detections.iter().map(|face| face.scaled(factor)).collect();
    Ok(DetectedFaces {
        reduced,
        detections,
    })
}

/// Returns the least score of faces to report.
fn threshold(configured: Thresholds, purpose: Purpose) -> f32 {
    match purpose {
        Purpose::Enroll => configured.detection.min(ENROLMENT_FLOOR),
        Purpose::Recognize | Purpose::Detect => configured.detection,
    }
}

/// Crops the faces, largest first, to 112 × 112 pixels each. Drops faces outside the picture or
/// with coinciding landmarks.
#[must_use]
pub fn crop(reduced: &Reduced, detections: Vec<Detection>) -> Vec<FaceCrop> {
    let cut = |detection: Detection| {
        let aligned = align(&reduced.picture, &detection.landmarks)?;
        let detection = detection.scaled(reduced.divisor as f32);
        Some(FaceCrop {
            bounds: detection.bounds.within(reduced.full.0, reduced.full.1)?,
            detection,
            aligned,
        })
    };
    let mut faces: Vec<FaceCrop> = detections.into_iter().filter_map(cut).collect();
    faces.sort_by(|a, b| b.bounds.area().total_cmp(&a.bounds.area()));
    faces
}

/// Returns the raw embeddings of faces by the model of this role. Those of the four best-scoring
/// faces are combined [near and at a distance](near_and_far), because people enrolled from near
/// must be recognised in the back row.
///
/// # Errors
///
/// As [`embed`].
pub fn embed_near_and_far<H: Host>(
    host: &H,
    role: &str,
    crops: &[FaceCrop],
) -> Result<Vec<Vec<f32>>, String> {
    let near = embed(host, role, crops.iter().map(|face| &face.aligned))?;
    with_far(host, role, crops, near)
}

/// As [`embed_near_and_far`], from the faces' raw embeddings `near` that [`embed`] returned, for
/// callers that need both.
///
/// # Errors
///
/// As [`embed`].
pub fn with_far<H: Host>(
    host: &H,
    role: &str,
    crops: &[FaceCrop],
    near: Vec<Vec<f32>>,
) -> Result<Vec<Vec<f32>>, String> {
    let mut embeddings = near;
    let mut best: Vec<(&FaceCrop, &mut Vec<f32>)> = crops.iter().zip(&mut embeddings).collect();
    best.sort_by(|(a, _), (b, _)| b.detection.score.total_cmp(&a.detection.score));
    best.truncate(DISTANT_VIEWS);
    let distant: Vec<[AlignedFace; 2]> = host.timed("align", || {
        best.iter()
            .map(|(face, _)| simulate_distance(&face.aligned))
            .collect()
    });
    let far = embed(host, role, distant.iter().flatten())?;
    for ((_, embedding), far) in best.into_iter().zip(far.chunks(2)) {
        *embedding = near_and_far(embedding, far);
    }
    Ok(embeddings)
}

impl FaceCrop {
    /// Returns the face of an analysis, with its measures and this embedding.
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
            track: None,
            embedding,
        }
    }
}
