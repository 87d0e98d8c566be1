//! Where the faces are: SCRFD (Guo et al., "Sample and Computation Redistribution for Efficient
//! Face Detection", 2021), looking as often and as closely as a picture asks for.
//!
//! The operator's settings say otherwise, as in the default pipeline:
//!
//! | setting | value | the detector looks |
//! | --- | --- | --- |
//! | `detector-size` | `auto`, the default | as often and as closely as a picture asks for ([`scales`]) |
//! | | a multiple of 32 from 32 to 2048 | once, with the longer side at so many pixels ([`Letterbox::frame`]) |
//! | `letterbox` | `frame`, the default | as `detector-size` says |
//! | | `square` | once, in a square of `detector-size`, by default 640, pixels ([`Letterbox::square`]): insightface's |
//!
//! A detector whose input has a fixed size looks once in that, whatever they say. For another
//! detector than SCRFD take [`Letterbox::tensor`] and [`Model::run`], and read the outputs
//! yourself.

use crate::analysis::Purpose;
use crate::decode::Rgb;
use crate::host::{Host, Model, ModelSpec, Output, Settings, refused};
use crate::letterbox::Letterbox;
use crate::scales::{self, Look};
use crate::scrfd::{self, Detection};

/// The role of the model that finds faces, in the packs that come with Rostro: SCRFD with
/// landmarks.
pub const DETECTOR: &str = "detector";

/// The most faces of a picture: what the host takes. Thresholds near zero find more.
const FACES: usize = 1024;

/// How the detector looks at a picture.
enum Looks {
    /// As often and as closely as the picture asks for.
    AsNeeded,
    /// Once, with the longer side at so many pixels and the shorter padded to a multiple of 32.
    Frame(usize),
    /// Once, in an input of this size.
    Fixed(usize, usize),
}

/// The faces of a picture that score at least `floor` (0 to 1), best first, in pixels of the
/// picture and not cut to it; at most 1024.
///
/// The model of the role [`DETECTOR`] finds them. `purpose` says which look comes first: for an
/// enrolment the usual one, else the coarse one. Which follow depends on the host's detection
/// threshold, not on `floor`. Times are added to the stages `letterbox`, `detect` and
/// `postprocess`.
///
/// # Errors
///
/// If the detector is not granted, fails or is not SCRFD with landmarks, or a setting is not
/// understood; the text says which.
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
    let mut detections = match looks(host, detector.model.spec())? {
        Looks::Frame(side) => {
            detector
                .look(&Letterbox::frame(width, height, side), floor)?
                .detections
        }
        Looks::Fixed(across, down) => {
            detector
                .look(&Letterbox::fixed(width, height, (across, down)), floor)?
                .detections
        }
        Looks::AsNeeded => detector.look_as_needed(floor, purpose)?,
    };
    detections.retain(|face| face.score >= floor);
    detections.sort_by(|a, b| b.score.total_cmp(&a.score));
    detections.truncate(FACES);
    Ok(detections)
}

/// The most pixels of a picture's longer side that [`detect`] looks at: a larger one is shrunk to
/// so many, and so need not be decoded whole for it
/// ([`decode_at_least`](crate::decode::decode_at_least)).
///
/// # Errors
///
/// If the detector is not granted or a setting is not understood.
pub fn longest_look<H: Host>(host: &H) -> Result<usize, String> {
    Ok(match looks(host, host.load(DETECTOR)?.spec())? {
        Looks::Frame(side) => side,
        Looks::Fixed(across, down) => across.max(down),
        Looks::AsNeeded => scales::LARGEST,
    })
}

/// Whether the operator asks for exactly what insightface does: whether the setting `letterbox` is
/// `square`.
#[must_use]
pub fn is_insightfaces(host: &impl Host) -> bool {
    host.setting("letterbox").as_deref() == Some("square")
}

/// Reads the settings of the detector, and refuses values that cannot be used, whatever the
/// detector's input is: for [`Vision::check_settings`](crate::vision::Vision::check_settings).
pub fn check_settings(settings: &impl Settings) {
    // What is wrong is told by refusing it.
    let _ = (size(settings), is_square(settings));
}

/// What the operator and the model say of it.
fn looks(host: &impl Host, detector: ModelSpec) -> Result<Looks, String> {
    if let Some((width, height)) = detector.size {
        return Ok(Looks::Fixed(width, height));
    }
    Ok(match (is_square(host)?, size(host)?) {
        (false, None) => Looks::AsNeeded,
        (false, Some(side)) => Looks::Frame(side),
        (true, side) => {
            let side = side.unwrap_or(scales::USUAL);
            Looks::Fixed(side, side)
        }
    })
}

/// The setting `detector-size`; none if it is `auto`.
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

/// Whether the setting `letterbox` is `square`.
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

/// A detector before a picture.
struct Detector<'p, H: Host> {
    host: &'p H,
    model: H::Model,
    picture: &'p Rgb,
}

impl<H: Host> Detector<'_, H> {
    /// A coarse look, and after it those that it shows to be worth their time: none, the usual one,
    /// closer ones. Which they are follows from the detection threshold; `floor` may be lower, for
    /// what is shown to a policy all the same.
    fn look_as_needed(&self, floor: f32, purpose: Purpose) -> Result<Vec<Detection>, String> {
        let threshold = self.host.thresholds().detection;
        let (width, height) = (self.picture.width, self.picture.height);
        let longest = width.max(height);
        let at = |side: usize, hint: f32| {
            self.look(&Letterbox::frame(width, height, side), floor.min(hint))
        };
        let is_sure = |look: &Look| look.detections.iter().any(|face| face.score >= threshold);
        let (mut seen, mut next) = match purpose {
            Purpose::Recognize | Purpose::Detect => {
                let coarse = at(scales::COARSE, scales::COARSE_HINT)?;
                let next = coarse.second(longest, threshold);
                (coarse, next)
            }
            // It is worth the usual look at once, which sees what the replaced service saw, unless
            // the photo is all face.
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
        for _ in 1..scales::LOOKS {
            let Some(side) = next else { break };
            let look = at(side, scales::HINT)?;
            next = look.closer(longest, threshold);
            seen = seen.with(look, floor);
        }
        Ok(seen.detections)
    }

    fn look(&self, letterbox: &Letterbox, threshold: f32) -> Result<Look, String> {
        let detections = look(self.host, &self.model, self.picture, letterbox, threshold)?;
        Ok(Look {
            side: letterbox.scaled.0.max(letterbox.scaled.1),
            scale: letterbox.scale,
            detections,
        })
    }
}

/// One look at a picture, laid into the detector's input as `letterbox` says: the faces that score
/// at least `threshold` (0 to 1), in pixels of the picture, best first, overlapping ones
/// suppressed. It is [`Letterbox::tensor`], [`Model::run`] and [`scrfd::detect`].
///
/// Times are added to the stages `letterbox`, `detect` and `postprocess`.
///
/// # Errors
///
/// If the detector fails, or is not SCRFD with landmarks.
pub fn look<H: Host>(
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
    fn bad_settings_are_refused_by_name() {
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
