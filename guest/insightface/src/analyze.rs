//! Analysis of a picture: decoding, detection, alignment, embedding and measures, by the parts of
//! `rostro-sdk`.

use rostro_sdk::analysis::{Analysis, AnalyzeError, Purpose};
use rostro_sdk::detector;
use rostro_sdk::faces::{DetectedFaces, FaceCrop, crop, detect_faces, with_far};
use rostro_sdk::host::Host;
use rostro_sdk::recognizer::{RECOGNIZER, embed};

/// Finds the faces of an encoded image, largest first, in pixels of the whole upright image.
///
/// - For recognition, every face that scores at least the detection threshold, with its raw
///   embedding.
/// - For enrolment, also weaker ones down to a score of 0.3. The four best have embeddings of
///   [`near_and_far`](rostro_sdk::embed::near_and_far), and the host gets their raw ones by
///   [`Host::raw_sample`].
/// - For detection, as for recognition without embeddings.
///
/// All have [`Measures`](rostro_sdk::measure::Measures).
///
/// # Errors
///
/// [`AnalyzeError::Image`] if the image cannot be decoded or is too large, [`AnalyzeError::Model`]
/// if a model failed or a setting is invalid.
pub fn analyze<H: Host>(
    host: &H,
    image: Vec<u8>,
    purpose: Purpose,
) -> Result<Analysis, AnalyzeError> {
    let DetectedFaces {
        reduced,
        detections,
    } = detect_faces(host, &image, purpose)?;
    drop(image);
    let crops = host.timed("align", || crop(&reduced, detections));
    let embeddings = match purpose {
        Purpose::Detect => Ok(vec![Vec::new(); crops.len()]),
        Purpose::Recognize => embed(host, RECOGNIZER, crops.iter().map(|face| &face.aligned)),
        Purpose::Enroll if detector::uses_insightface_letterbox(host) => {
            embed(host, RECOGNIZER, crops.iter().map(|face| &face.aligned))
        }
        Purpose::Enroll => embed_to_enroll(host, &crops),
    };
    let embeddings = embeddings?;
    let faces = host.timed("measure", || {
        crops
            .iter()
            .zip(embeddings)
            .map(|(face, embedding)| face.analyzed(embedding))
            .collect()
    });
    let (width, height) = reduced.full;
    Ok(Analysis::new(width, height, faces))
}

/// Returns the embeddings of faces near and at a distance, and reports the raw ones that differ.
fn embed_to_enroll<H: Host>(host: &H, crops: &[FaceCrop]) -> Result<Vec<Vec<f32>>, String> {
    let near = embed(host, RECOGNIZER, crops.iter().map(|face| &face.aligned))?;
    let both = with_far(host, RECOGNIZER, crops, near.clone())?;
    // `crops` is in the order of the analysis: by the area of the same boxes.
    for (face, (raw, _)) in near
        .iter()
        .zip(&both)
        .enumerate()
        .filter(|(_, (raw, embedding))| raw != embedding)
    {
        host.raw_sample(face, raw);
    }
    Ok(both)
}
