//! Detection of faces with SCRFD (Guo et al., "Sample and Computation Redistribution for Efficient
//! Face Detection", 2021), in as many passes as a picture needs.
//!
//! Settings of the operator:
//!
//! | setting | value | passes |
//! | --- | --- | --- |
//! | `detector-size` | `auto`, the default | as many as the picture needs ([`scales`]) |
//! | | a multiple of 32 from 32 to 2048 | one, with the longer side at this many pixels ([`Letterbox::frame`]) |
//! | `letterbox` | `frame`, the default | by `detector-size` |
//! | | `square` | one, in a square of `detector-size` pixels, by default 640 ([`Letterbox::square`]), as in insightface |
//! | `closeness` | `auto`, the default | by `detector-size`; a request may choose another |
//! | | `coarse` | one at 320 pixels, if `detector-size` is `auto` |
//! | | `fine` | one at 1920 pixels, if `detector-size` is `auto` |
//!
//! A detector with an input of a fixed size has one pass at that size, regardless of the settings.
//! For a detector other than SCRFD use [`Letterbox::tensor`] and [`Model::run`], and read the
//! outputs yourself.

use crate::analysis::Purpose;
use crate::detect::scales::{self, Pass};
use crate::detect::scrfd::{self, Detection};
use crate::host::{Host, Model, ModelSpec, Output, Setting, SettingKind, Settings, refused};
use crate::image::decode::Rgb;
use crate::image::letterbox::Letterbox;

/// Former names, kept for existing pipelines.
pub use self::{
    longest_pass as longest_look, run_pass as look, uses_insightface_letterbox as is_insightfaces,
};

/// The role of the detector in the packs that come with Rostro: SCRFD with landmarks.
pub const DETECTOR: &str = "detector";

/// The most faces of a picture: the host's limit. Thresholds near zero find more.
const FACES: usize = 1024;

/// The passes over a picture.
enum Passes {
    /// As many passes as the picture needs.
    AsNeeded,
    /// One pass, with the longer side at this many pixels and the shorter padded to a multiple of
    /// 32.
    Frame(usize),
    /// One pass, in an input of this size.
    Fixed(usize, usize),
}

/// Returns the faces of a picture that score at least `floor` (0 to 1), best first, at most 1024.
/// They are in pixels of the picture and not cut to it.
///
/// Runs the model of the role [`DETECTOR`]. `purpose` selects the first pass: the usual one for an
/// enrolment, else the coarse one. Later passes depend on the host's detection threshold, not on
/// `floor`. Times are added to the stages `letterbox`, `detect` and `postprocess`.
///
/// # Errors
///
/// If the detector is not granted, fails or is not SCRFD with landmarks, or a setting is invalid;
/// the text has the cause.
pub fn detect<H: Host>(
    host: &H,
    picture: &Rgb,
    floor: f32,
    purpose: Purpose,
) -> Result<Vec<Detection>, String> {
    let detector = Detector {
        host,
        model: host.load(DETECTOR)?,
        picture,
    };
    let (width, height) = (picture.width, picture.height);
    let mut detections = match passes(host, detector.model.spec())? {
        Passes::Frame(side) => {
            detector
                .run_pass(&Letterbox::frame(width, height, side), floor)?
                .detections
        }
        Passes::Fixed(across, down) => {
            detector
                .run_pass(&Letterbox::fixed(width, height, (across, down)), floor)?
                .detections
        }
        Passes::AsNeeded => detector.detect_as_needed(floor, purpose)?,
    };
    detections.retain(|face| face.score >= floor);
    detections.sort_by(|a, b| b.score.total_cmp(&a.score));
    detections.truncate(FACES);
    Ok(detections)
}

/// Returns the longer side in pixels of the largest pass of [`detect`]. A picture need not be
/// decoded larger ([`decode_at_least`](crate::decode::decode_at_least)).
///
/// # Errors
///
/// If the detector is not granted or a setting is invalid.
pub fn longest_pass<H: Host>(host: &H) -> Result<usize, String> {
    Ok(match passes(host, host.load(DETECTOR)?.spec())? {
        Passes::Frame(side) => side,
        Passes::Fixed(across, down) => across.max(down),
        Passes::AsNeeded => scales::LARGEST,
    })
}

/// Returns true if the setting `letterbox` is `square`: detection and enrolment exactly as in
/// insightface.
#[must_use]
pub fn uses_insightface_letterbox(host: &impl Host) -> bool {
    host.setting("letterbox").as_deref() == Some("square")
}

/// Returns the settings of the detector, for [`Vision::settings`](crate::vision::Vision::settings).
#[must_use]
pub fn settings() -> Vec<Setting> {
    vec![
        Setting::new(
            "detector-size",
            SettingKind::Text,
            "auto",
            "Passes of the detector: `auto` for as many as a picture needs, or the longer side of one \
             pass in pixels, a multiple of 32.",
        ),
        Setting::new(
            "letterbox",
            SettingKind::Choice(&["frame", "square"]),
            "frame",
            "Padding of a picture: to multiples of 32, or to a square as insightface does.",
        ),
        Setting::new(
            "closeness",
            SettingKind::Choice(&["coarse", "auto", "fine"]),
            "auto",
            "Passes of the detector where `detector-size` is `auto`: one of 320 pixels, as many as the \
             picture needs, or one of 1920 pixels.",
        )
        .chosen_by_request(),
    ]
}

/// Reads the settings of the detector, and refuses invalid values even if the detector's input has
/// a fixed size. For [`Vision::check_settings`](crate::vision::Vision::check_settings).
pub fn check_settings(settings: &impl Settings) {
    // The functions report invalid values by refusing them.
    let _ = (size(settings), is_square(settings));
}

/// Chooses the passes by the model's input and the settings.
fn passes(host: &impl Host, detector: ModelSpec) -> Result<Passes, String> {
    if let Some((width, height)) = detector.size {
        return Ok(Passes::Fixed(width, height));
    }
    let closeness = host.setting("closeness");
    Ok(match (is_square(host)?, size(host)?) {
        (false, None) => match closeness.as_deref() {
            Some("coarse") => Passes::Frame(scales::COARSE),
            Some("fine") => Passes::Frame(scales::LARGEST),
            _ => Passes::AsNeeded,
        },
        (false, Some(side)) => Passes::Frame(side),
        (true, side) => {
            let side = side.unwrap_or(scales::USUAL);
            Passes::Fixed(side, side)
        }
    })
}

/// Reads the setting `detector-size`; None if it is `auto`.
fn size(settings: &impl Settings) -> Result<Option<usize>, String> {
    let Some(text) = settings
        .setting("detector-size")
        .filter(|text| text != "auto")
    else {
        return Ok(None);
    };
    let size = text
        .parse()
        .ok()
        .filter(|size: &usize| (32..=2048).contains(size) && size.is_multiple_of(32));
    let refused = || {
        refused(
            settings,
            "detector-size",
            &text,
            "must be `auto` or a multiple of 32 from 32 to 2048",
        )
    };
    size.map(Some).ok_or_else(refused)
}

/// Returns true if the setting `letterbox` is `square`.
fn is_square(settings: &impl Settings) -> Result<bool, String> {
    match settings.setting("letterbox").as_deref() {
        None | Some("frame") => Ok(false),
        Some("square") => Ok(true),
        Some(other) => Err(refused(
            settings,
            "letterbox",
            other,
            "must be `frame` or `square`",
        )),
    }
}

/// A detector and its picture.
struct Detector<'p, H: Host> {
    host: &'p H,
    model: H::Model,
    picture: &'p Rgb,
}

impl<H: Host> Detector<'_, H> {
    /// Runs a coarse pass and the passes that its result calls for: none, the usual one, or closer
    /// ones. They depend on the detection threshold. `floor` may be lower, because a policy also
    /// gets weak faces.
    fn detect_as_needed(&self, floor: f32, purpose: Purpose) -> Result<Vec<Detection>, String> {
        let threshold = self.host.thresholds().detection;
        let (width, height) = (self.picture.width, self.picture.height);
        let longest = width.max(height);
        let at = |side: usize, hint: f32| {
            self.run_pass(&Letterbox::frame(width, height, side), floor.min(hint))
        };
        let is_sure = |pass: &Pass| pass.detections.iter().any(|face| face.score >= threshold);
        let (mut found, mut next) = match purpose {
            Purpose::Recognize | Purpose::Detect => {
                let coarse = at(scales::COARSE, scales::COARSE_HINT)?;
                let next = coarse.second(longest, threshold);
                (coarse, next)
            }
            // An enrolment begins with the usual pass, as in the replaced service. A face that
            // fills the photo is found only by the coarse one.
            Purpose::Enroll => {
                let usual = at(scales::USUAL, scales::HINT)?;
                if !is_sure(&usual) {
                    let coarse = at(scales::COARSE, scales::HINT)?;
                    if is_sure(&coarse) {
                        return Ok(coarse.detections);
                    }
                }
                let next = usual.closer(longest, threshold);
                (usual, next)
            }
        };
        for _ in 1..scales::MAX_PASSES {
            let Some(side) = next else { break };
            let pass = at(side, scales::HINT)?;
            next = pass.closer(longest, threshold);
            found = found.with(pass, floor);
        }
        Ok(found.detections)
    }

    fn run_pass(&self, letterbox: &Letterbox, threshold: f32) -> Result<Pass, String> {
        let detections = run_pass(self.host, &self.model, self.picture, letterbox, threshold)?;
        Ok(Pass {
            side: letterbox.scaled.0.max(letterbox.scaled.1),
            scale: letterbox.scale,
            detections,
        })
    }
}

/// Runs one pass of the detector, with the letterbox `letterbox`. Returns the faces that score at
/// least `threshold` (0 to 1), in pixels of the picture, best first, without overlapping ones. It
/// combines [`Letterbox::tensor`], [`Model::run`] and [`scrfd::detect`].
///
/// Times are added to the stages `letterbox`, `detect` and `postprocess`.
///
/// # Errors
///
/// If the detector fails, or is not SCRFD with landmarks.
pub fn run_pass<H: Host>(
    host: &H,
    detector: &H::Model,
    picture: &Rgb,
    letterbox: &Letterbox,
    threshold: f32,
) -> Result<Vec<Detection>, String> {
    let tensor = host.timed("letterbox", || {
        letterbox.tensor(picture, detector.spec().normalization)
    });
    let (width, height) = letterbox.input;
    let outputs = detector.run("detect", &tensor, 1, width, height)?;
    host.timed("postprocess", || {
        let values: Vec<_> = outputs.iter().map(Output::values).collect();
        let outputs = outputs.iter().zip(&values);
        let outputs = outputs.filter_map(|(output, values)| {
            Some(scrfd::Output {
                columns: *output.dimensions().last()?,
                values,
            })
        });
        let outputs: Vec<scrfd::Output<'_>> = outputs.collect();
        scrfd::detect(&outputs, letterbox, threshold).map_err(|error| error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixed;

    #[test]
    fn invalid_settings_are_refused() {
        let mut host = Fixed::default();
        check_settings(&host);
        host.settings = [("detector-size", "640"), ("letterbox", "square")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        check_settings(&host);
        assert!(host.refusals().is_empty(), "{:?}", host.refusals());
        host.settings = [("detector-size", "100"), ("letterbox", "sqare")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        check_settings(&host);
        let refused: Vec<String> = host.refusals().into_iter().map(|(key, _)| key).collect();
        assert_eq!(refused, ["detector-size", "letterbox"]);
    }
}
