//! Embeddings of faces, as `ArcFaceONNX.get_feat` of insightface makes them. The model is ArcFace
//! (Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", 2019), or
//! another one that takes faces with ArcFace's alignment.

use crate::host::{Host, Model};
use crate::image::align::{AlignedFace, SIDE};

/// The role of the model that makes embeddings, in the packs that come with Rostro.
pub const RECOGNIZER: &str = "recognizer";

/// Faces in one run of the recogniser. Larger batches are no faster and cost memory.
const BATCH: usize = 16;

/// Returns the raw embeddings of aligned faces, in their order, not normalised: N vectors of D
/// numbers. The model of this role makes them from N×3×112×112.
///
/// The model is loaded once a call and runs on 16 faces at a time, so pass all faces of a picture
/// at once. Without faces it is not loaded. Times are added to the stages `align` and `embed`.
///
/// # Errors
///
/// If the model is not granted, fails, takes another size than 112×112, or returns a fractional
/// number of values a face. The text has the cause.
pub fn embed<'f, H: Host>(
    host: &H,
    role: &str,
    faces: impl IntoIterator<Item = &'f AlignedFace>,
) -> Result<Vec<Vec<f32>>, String> {
    let faces: Vec<&AlignedFace> = faces.into_iter().collect();
    if faces.is_empty() {
        return Ok(Vec::new());
    }
    let recognizer = host.load(role)?;
    let spec = recognizer.spec();
    if spec.size.is_some_and(|size| size != (SIDE, SIDE)) {
        return Err(format!(
            "the recogniser takes faces of another size than {SIDE}×{SIDE} pixels"
        ));
    }
    let mut embeddings = Vec::with_capacity(faces.len());
    let mut input = Vec::new();
    for faces in faces.chunks(BATCH) {
        input.clear();
        host.timed("align", || {
            faces
                .iter()
                .for_each(|face| face.append_to(&mut input, spec.normalization))
        });
        let outputs = recognizer.run("embed", &input, faces.len(), SIDE, SIDE)?;
        let output = outputs.first().ok_or("the recogniser has no output")?;
        let values = output.values();
        let dimension = values.len() / faces.len();
        if dimension == 0 || !values.len().is_multiple_of(faces.len()) {
            return Err(format!(
                "the recogniser gives {:?} numbers for {} faces",
                output.dimensions(),
                faces.len()
            ));
        }
        embeddings.extend(values.chunks_exact(dimension).map(<[f32]>::to_vec));
    }
    Ok(embeddings)
}
