//! The smallest working pipeline: it finds, aligns and embeds faces, and keeps the default rules of
//! a policy.

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
        // Embeddings from another function than `embed` need a contract of their own, because they
        // cannot be compared with others.
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
            // Skips faces outside the picture or with coinciding landmarks.
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
                    track: None,
                    embedding,
                });
            }
        }
        Ok(Analysis::new(width, height, faces))
    }
}

/// The default rules. Implement `review`, `template` or `decide` here for your own.
impl Policy for Pipeline {
    fn identity() -> Identity {
        Identity::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
    }
}

#[cfg(test)]
mod tests;
