//! What a pipeline's review makes of poor enrolment photos: a blurred and a dark one, next to a
//! clear one.

use std::io::Cursor;
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::{ImageFormat, RgbImage, imageops};
use serde::Serialize;

use rostro_sandbox::bindings::{Analysis, Purpose, ReviewOutcome};
use rostro_sandbox::error::RunError;
use rostro_sandbox::pipeline::revision::Revision;
use rostro_sandbox::pipeline::self_test::DRAWN;
use rostro_sandbox::review::Review;

/// Time for each photo.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far the blurred photo is blurred, in pixels: its face is still found.
const BLUR: f32 = 1.5;

/// How many times darker the dark photo is.
const DARKER: u8 = 7;

/// The brightness of a face in the dark photo, 0 to 255, for a detector that finds no face there.
const DARK: f32 = 15.0;

/// What became of one photo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct PhotoReview {
    /// `clear`, `blurred` or `dark`.
    pub photo: &'static str,
    /// Whether its face would be enrolled.
    pub accepted: bool,
    /// The codes of the reasons why not.
    pub reasons: Vec<String>,
}

/// Has a revision review the photos as strictly as a service does by default.
///
/// # Errors
///
/// If it fails on one. Photos of which no face is found tell nothing of the review: the clear one's
/// face is judged as a dark photo has it.
pub(super) fn review(revision: &Arc<Revision>) -> Result<Vec<PhotoReview>, RunError> {
    let Some(&(_, clear)) = DRAWN.first() else {
        return Ok(Vec::new());
    };
    let Ok(picture) = image::load_from_memory(clear).map(|picture| picture.into_rgb8()) else {
        return Ok(Vec::new());
    };
    let judged = |photo: &'static str,
                  png: &[u8],
                  instead: Option<&Analysis>|
     -> Result<(PhotoReview, Analysis), RunError> {
        let mut run = revision
            .begin(Instant::now() + PATIENCE)
            .without_time_limit()
            .with_review(Review::Standard);
        let mut analysis = run.analyze(png, Purpose::Enroll)?;
        if let Some(instead) = instead.filter(|_| analysis.faces.is_empty()) {
            analysis = instead.clone();
        }
        let (accepted, reasons) = match run.review(&analysis)? {
            ReviewOutcome::Accept(_) => (true, Vec::new()),
            ReviewOutcome::Reject(reasons) => (
                false,
                reasons.into_iter().map(|reason| reason.code).collect(),
            ),
        };
        Ok((
            PhotoReview {
                photo,
                accepted,
                reasons,
            },
            analysis,
        ))
    };
    let (clear, analysis) = judged("clear", clear, None)?;
    let (blurred, _) = judged("blurred", &encoded(&imageops::blur(&picture, BLUR)), None)?;
    let (dark, _) = judged(
        "dark",
        &encoded(&darkened(picture)),
        Some(&as_in_the_dark(analysis)),
    )?;
    Ok(vec![clear, blurred, dark])
}

/// The outcomes in words: `clear accepted, blurred refused (blurred), dark refused (too_dark)`.
pub(super) fn words(reviewed: &[PhotoReview]) -> String {
    let word = |PhotoReview {
                    photo,
                    accepted,
                    reasons,
                }: &PhotoReview| match accepted {
        true => format!("{photo} accepted"),
        false => format!("{photo} refused ({})", reasons.join(", ")),
    };
    reviewed.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// Whether a poor photo would be enrolled.
pub(super) fn takes_poor_photos(reviewed: &[PhotoReview]) -> bool {
    reviewed
        .iter()
        .any(|reviewed| reviewed.accepted && reviewed.photo != "clear")
}

fn darkened(mut picture: RgbImage) -> RgbImage {
    for channel in picture.iter_mut() {
        *channel /= DARKER;
    }
    picture
}

/// The faces as they would be measured in the dark.
fn as_in_the_dark(mut analysis: Analysis) -> Analysis {
    for measure in analysis
        .faces
        .iter_mut()
        .flat_map(|face| face.face.measures.iter_mut())
    {
        if measure.name == "brightness" {
            measure.value = DARK;
        }
    }
    analysis
}

fn encoded(picture: &RgbImage) -> Vec<u8> {
    let mut png = Cursor::new(Vec::new());
    // Into memory nothing fails.
    let _ = picture.write_to(&mut png, ImageFormat::Png);
    png.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_told_in_words() {
        let of = |photo, accepted, reasons: &[&str]| PhotoReview {
            photo,
            accepted,
            reasons: reasons.iter().map(|code| (*code).to_owned()).collect(),
        };
        let strict = [
            of("clear", true, &[]),
            of("blurred", false, &["blurred", "too_dark"]),
        ];
        assert_eq!(
            words(&strict),
            "clear accepted, blurred refused (blurred, too_dark)"
        );
        assert!(!takes_poor_photos(&strict) && takes_poor_photos(&[of("dark", true, &[])]));
    }
}
