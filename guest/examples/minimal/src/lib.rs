//! The least pipeline that works: faces are found, aligned and embedded, and the default rules of
//! who is who.

use rostro_sdk::align::align;
use rostro_sdk::analysis::{
    Analysis, AnalyzeError, AnalyzedFace, Description, EmbeddingContract, Purpose,
};
use rostro_sdk::decode::decode;
use rostro_sdk::detector::{DETECTOR, detect};
use rostro_sdk::host::Host;
use rostro_sdk::policy::{Identity, Policy};
use rostro_sdk::recognizer::{RECOGNIZER, embed};
use rostro_sdk::scrfd::Detection;
use rostro_sdk::vision::Vision;

/// The component.
#[derive(Debug)]
pub struct Pipeline;

rostro_sdk::export!(Pipeline);

impl Vision for Pipeline {
    fn describe() -> Description {
        // Embeddings made otherwise than by `embed` need a contract of their own: they cannot be
        // compared with others.
        Description {
            identity: Self::identity(),
            models: vec![DETECTOR, RECOGNIZER],
            contract: EmbeddingContract::arcface(RECOGNIZER),
        }
    }

    fn analyze(
        host: &impl Host,
        image: Vec<u8>,
        purpose: Purpose,
    ) -> Result<Analysis, AnalyzeError> {
        let picture = host.timed("decode", || decode(&image, host.max_pixels()))?;
        let (width, height) = (picture.width, picture.height);
        let mut faces = Vec::new();
        for detection in detect(host, &picture, host.thresholds().detection, purpose)? {
            let Detection {
                bounds,
                landmarks,
                score,
            } = detection;
            // What lies outside the picture, or has landmarks in one point, is no face.
            if let Some((bounds, aligned)) = bounds
                .within(width, height)
                .zip(align(&picture, &landmarks))
            {
                let embedding = embed(host, RECOGNIZER, [&aligned])?.concat();
                faces.push(AnalyzedFace {
                    bounds,
                    score,
                    landmarks: landmarks.into(),
                    measures: Vec::new(),
                    embedding,
                });
            }
        }
        Ok(Analysis::new(width, height, faces))
    }
}

/// The default rules; write `review`, `template` or `decide` here to have your own.
impl Policy for Pipeline {
    fn identity() -> Identity {
        Identity::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
    }
}

#[cfg(test)]
mod tests;
