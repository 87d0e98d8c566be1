//! Where the faces are.

use rostro_sdk::decode::Rgb;
use rostro_sdk::letterbox::Letterbox;
use rostro_sdk::scales::{self, Look};
use rostro_sdk::scrfd::{self, Detection};

use crate::bindings::rostro::pipeline::settings;
use crate::models::{Model, Output};
use crate::vision::timed;

/// The role of the model that finds faces.
pub(crate) const DETECTOR: &str = "detector";

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

/// The faces of a picture that score at least `threshold`, best first.
pub(crate) fn detect(picture: &Rgb, threshold: f32) -> Result<Vec<Detection>, String> {
    let detector = Detector { model: Model::load(DETECTOR)?, picture };
    let (width, height) = (picture.width, picture.height);
    let mut detections = match looks(&detector.model)? {
        Looks::Frame(side) => detector.look(&Letterbox::frame(width, height, side), threshold)?.detections,
        Looks::Fixed(across, down) => detector.look(&Letterbox::fixed(width, height, (across, down)), threshold)?.detections,
        Looks::AsNeeded => detector.look_as_needed(threshold)?,
    };
    detections.retain(|face| face.score >= threshold);
    detections.sort_by(|a, b| b.score.total_cmp(&a.score));
    detections.truncate(FACES);
    Ok(detections)
}

/// What the operator and the model say of it.
fn looks(model: &Model) -> Result<Looks, String> {
    if let (Some(width), Some(height)) = (model.spec.width, model.spec.height) {
        return Ok(Looks::Fixed(width as usize, height as usize));
    }
    let size = settings::get("detector-size").filter(|text| text != "auto").map(|text| {
        let size = text.parse().ok().filter(|size: &usize| (32..=2048).contains(size) && size.is_multiple_of(32));
        size.ok_or_else(|| format!("the setting detector-size is `{text}`; it must be `auto` or a multiple of 32 from 32 to 2048"))
    });
    match (settings::get("letterbox").as_deref(), size.transpose()?) {
        (None | Some("frame"), None) => Ok(Looks::AsNeeded),
        (None | Some("frame"), Some(side)) => Ok(Looks::Frame(side)),
        (Some("square"), side) => {
            let side = side.unwrap_or(scales::FIRST);
            Ok(Looks::Fixed(side, side))
        }
        (Some(other), _) => Err(format!("the setting letterbox is `{other}`; it must be `frame` or `square`")),
    }
}

/// A detector before a picture.
struct Detector<'p> {
    model: Model,
    picture: &'p Rgb,
}

impl Detector<'_> {
    /// Once at a usual size; where that sees nothing for sure, from farther away; where it sees too little, from nearer.
    fn look_as_needed(&self, threshold: f32) -> Result<Vec<Detection>, String> {
        let hint = threshold.min(scales::HINT);
        let (width, height) = (self.picture.width, self.picture.height);
        let at = |side: usize| self.look(&Letterbox::frame(width, height, side), hint);
        let first = at(scales::FIRST)?;
        if first.detections.iter().all(|face| face.score < threshold) {
            let small = at(scales::SMALL)?;
            if small.detections.iter().any(|face| face.score >= threshold) {
                return Ok(small.detections);
            }
        }
        match first.closer(width.max(height), threshold) {
            Some(side) => Ok(first.with(at(side)?)),
            None => Ok(first.detections),
        }
    }

    fn look(&self, letterbox: &Letterbox, threshold: f32) -> Result<Look, String> {
        let tensor = timed("letterbox", || letterbox.tensor(self.picture, self.model.normalization()));
        let (width, height) = letterbox.input;
        let outputs = timed("detect", || self.model.run(&tensor, 1, width, height))?;
        let outputs: Vec<scrfd::Output<'_>> = outputs.iter().filter_map(scrfd_output).collect();
        let detections = timed("postprocess", || scrfd::detect(&outputs, letterbox, threshold)).map_err(|error| error.to_string())?;
        Ok(Look { scale: letterbox.scale, detections })
    }
}

fn scrfd_output(output: &Output) -> Option<scrfd::Output<'_>> {
    let columns = usize::try_from(*output.dimensions.last()?).ok()?;
    Some(scrfd::Output { columns, values: &output.values })
}
