//! What is in a picture: decoded, detected, aligned, embedded and measured, by the parts of `rostro-sdk`.

use rostro_sdk::analysis::{Analysis, AnalyzeError, Purpose};
use rostro_sdk::detector;
use rostro_sdk::faces::{Seen, crop, embed_near_and_far, see};
use rostro_sdk::host::Host;
use rostro_sdk::recognizer::{RECOGNIZER, embed};

/// Finds the faces in an encoded image (JPEG, PNG, WebP), largest first, in pixels of the whole upright image.
///
/// - To recognise, every face that scores at least the detection threshold, with its raw embedding.
/// - To enrol, also weaker ones down to a score of 0.3, with raw embeddings; those of the four best are [`near_and_far`](rostro_sdk::embed::near_and_far)'s.
/// - To detect, the same as to recognise without embeddings.
///
/// All are measured ([`Measures`](rostro_sdk::measure::Measures)).
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
        Purpose::Enroll => embed_near_and_far(host, RECOGNIZER, &found),
    };
    let embeddings = embeddings?;
    let faces = host.timed("measure", || found.iter().zip(embeddings).map(|(face, embedding)| face.analyzed(embedding)).collect());
    let (width, height) = reduced.full;
    Ok(Analysis::new(width, height, faces))
}
