//! What is in a picture: decoded, detected, aligned, embedded and measured, by the parts of
//! `rostro-sdk`.

use rostro_sdk::analysis::{Analysis, AnalyzeError, Purpose};
use rostro_sdk::detector;
use rostro_sdk::faces::{FoundFace, Seen, crop, see, with_far};
use rostro_sdk::host::Host;
use rostro_sdk::recognizer::{RECOGNIZER, embed};

/// Finds the faces in an encoded image, largest first, in pixels of the whole upright image.
///
/// - To recognise, every face that scores at least the detection threshold, with its raw embedding.
/// - To enrol, also weaker ones down to a score of 0.3, with raw embeddings; those of the four best
///   are [`near_and_far`](rostro_sdk::embed::near_and_far)'s, and the host gets their raw ones by
///   [`Host::raw_sample`].
/// - To detect, the same as to recognise without embeddings.
///
/// All are measured ([`Measures`](rostro_sdk::measure::Measures)).
///
/// # Errors
///
/// [`AnalyzeError`]: the image cannot be decoded or is too large, a model failed, or a setting is not understood.
pub fn analyze<H: Host>(
    host: &H,
    image: Vec<u8>,
    purpose: Purpose,
) -> Result<Analysis, AnalyzeError> {
    let Seen {
        reduced,
        detections,
    } = see(host, &image, purpose)?;
    drop(image);
    let found = host.timed("align", || crop(&reduced, detections));
    let embeddings = match purpose {
        Purpose::Detect => Ok(vec![Vec::new(); found.len()]),
        Purpose::Recognize => embed(host, RECOGNIZER, found.iter().map(|face| &face.aligned)),
        Purpose::Enroll if detector::is_insightfaces(host) => {
            embed(host, RECOGNIZER, found.iter().map(|face| &face.aligned))
        }
        Purpose::Enroll => embed_to_enroll(host, &found),
    };
    let embeddings = embeddings?;
    let faces = host.timed("measure", || {
        found
            .iter()
            .zip(embeddings)
            .map(|(face, embedding)| face.analyzed(embedding))
            .collect()
    });
    let (width, height) = reduced.full;
    Ok(Analysis::new(width, height, faces))
}

/// The embeddings of faces near and far; the raw ones that differ from them are handed over.
fn embed_to_enroll<H: Host>(host: &H, found: &[FoundFace]) -> Result<Vec<Vec<f32>>, String> {
    let near = embed(host, RECOGNIZER, found.iter().map(|face| &face.aligned))?;
    let both = with_far(host, RECOGNIZER, found, near.clone())?;
    // `found` is in the order of the analysis: by the area of the same boxes.
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
