//! Trial of a pipeline's review on a clear, a blurred and a dark enrolment photo.

use std::io::Cursor;
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::{ImageFormat, RgbImage, imageops};
use serde::Serialize;

use rostro_sandbox::bindings::{Purpose, ReviewOutcome};
use rostro_sandbox::error::RunError;
use rostro_sandbox::pipeline::revision::Revision;
use rostro_sandbox::pipeline::self_test::DRAWN;
use rostro_sandbox::review::Review;
use rostro_sandbox::types::Analysis;

/// Timeout of each photo.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Blur of the blurred photo in pixels. Its face is still found.
const BLUR: f32 = 1.5;

/// Divisor of the dark photo's brightness.
const DARKENING: u8 = 7;

/// Brightness of the face in the dark photo, 0 to 255, if the detector finds no face there.
const DARK_BRIGHTNESS: f32 = 15.0;

/// Review of one photo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct PhotoReviewOutcome {
    /// `clear`, `blurred` or `dark`.
    pub photo: &'static str,
    /// True if its face would be enrolled.
    pub accepted: bool,
    /// Codes of the reasons for a rejection.
    pub reasons: Vec<String>,
}

/// Reviews the photos with a revision, at a service's default strictness.
///
/// If no face is found in the dark photo, the clear photo's face is reviewed with a dark
/// brightness. A photo without a face would not test the review.
///
/// # Errors
///
/// If the pipeline fails on a photo.
pub(super) fn review(revision: &Arc<Revision>) -> Result<Vec<PhotoReviewOutcome>, RunError> {
    let Some(&(_, clear)) = DRAWN.first() else {
        return Ok(Vec::new());
    };
    let Ok(picture) = image::load_from_memory(clear).map(|picture| picture.into_rgb8()) else {
        return Ok(Vec::new());
    };
    let review_photo = |photo: &'static str,
                        png: &[u8],
                        fallback: Option<&Analysis>|
     -> Result<(PhotoReviewOutcome, Analysis), RunError> {
        let mut run = revision
            .begin(Instant::now() + TIMEOUT)
            .without_time_limit()
            .with_review(Review::Standard);
        let mut analysis = run.analyze(png, Purpose::Enroll)?;
        if let Some(fallback) = fallback.filter(|_| analysis.faces.is_empty()) {
            analysis = fallback.clone();
        }
        let (accepted, reasons) = match run.review(&analysis)? {
            ReviewOutcome::Accept(_) => (true, Vec::new()),
            ReviewOutcome::Reject(reasons) => (
                false,
                reasons.into_iter().map(|reason| reason.code).collect(),
            ),
        };
        Ok((
            PhotoReviewOutcome {
                photo,
                accepted,
                reasons,
            },
            analysis,
        ))
    };
    let (clear, analysis) = review_photo("clear", clear, None)?;
    let (blurred, _) = review_photo(
        "blurred",
        &encode_png(&imageops::blur(&picture, BLUR)),
        None,
    )?;
    let (dark, _) = review_photo(
        "dark",
        &encode_png(&darken(picture)),
        Some(&with_dark_faces(analysis)),
    )?;
    Ok(vec![clear, blurred, dark])
}

/// Renders the outcomes: `clear accepted, blurred refused (blurred), dark refused (too_dark)`.
pub(super) fn summary(reviewed: &[PhotoReviewOutcome]) -> String {
    let word = |PhotoReviewOutcome {
                    photo,
                    accepted,
                    reasons,
                }: &PhotoReviewOutcome| match accepted {
        true => format!("{photo} accepted"),
        false => format!("{photo} refused ({})", reasons.join(", ")),
    };
    reviewed.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// Returns true if a poor photo would be enrolled.
pub(super) fn accepts_poor_photos(reviewed: &[PhotoReviewOutcome]) -> bool {
    reviewed
        .iter()
        .any(|reviewed| reviewed.accepted && reviewed.photo != "clear")
}

fn darken(mut picture: RgbImage) -> RgbImage {
    for channel in picture.iter_mut() {
        *channel /= DARKENING;
    }
    picture
}

/// Sets the measured brightness of all faces to a dark one.
fn with_dark_faces(mut analysis: Analysis) -> Analysis {
    for measure in analysis
        .faces
        .iter_mut()
        .flat_map(|face| face.face.measures.iter_mut())
    {
        if measure.name == "brightness" {
            measure.value = DARK_BRIGHTNESS;
        }
    }
    analysis
}

fn encode_png(picture: &RgbImage) -> Vec<u8> {
    let mut png = Cursor::new(Vec::new());
    // Writing to memory cannot fail.
    let _ = picture.write_to(&mut png, ImageFormat::Png);
    png.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_lists_outcomes() {
        let of = |photo, accepted, reasons: &[&str]| PhotoReviewOutcome {
            photo,
            accepted,
            reasons: reasons.iter().map(|code| (*code).to_owned()).collect(),
        };
        let strict = [
            of("clear", true, &[]),
            of("blurred", false, &["blurred", "too_dark"]),
        ];
        assert_eq!(
            summary(&strict),
            "clear accepted, blurred refused (blurred, too_dark)"
        );
        assert!(!accepts_poor_photos(&strict) && accepts_poor_photos(&[of("dark", true, &[])]));
    }
}
