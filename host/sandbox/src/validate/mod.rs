//! Validation of the output of guests before it is stored, matched or answered.
//!
//! Each function returns the guest's value unchanged, or an error that names the broken rule. The
//! rules are those of `wit/rostro.wit`.

pub mod identifiers;

use std::collections::HashSet;

use crate::bindings::{
    Analysis, AnalyzedFace, BoundingBox, Decision, Description, Face, Identity, Probe, Purpose,
    Reason, ReviewOutcome,
};
use crate::guest::report::RawSamples;
use identifiers::{is_code, is_name};

/// Faces of one image at most: four times the largest class photo in the tests.
const FACES: usize = 1024;

/// Measures of one face at most.
const MEASURES: usize = 32;

/// Reasons for rejecting a photo at most.
const REASONS: usize = 32;

/// Templates of a person at most.
const TEMPLATES: usize = 16;

/// Models of one pipeline at most.
const MODELS: usize = 16;

/// Longest text of a reason, in bytes.
const TEXT: usize = 500;

/// Rule of the interface that a guest's output breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{function}` returned {what}")]
pub struct InvalidOutput {
    /// Function of the guest.
    function: &'static str,
    /// Description of the invalid value.
    what: String,
}

impl InvalidOutput {
    pub(crate) fn new(function: &'static str, what: impl Into<String>) -> Self {
        Self {
            function,
            what: what.into(),
        }
    }
}

/// Validates the analysis of an image. Only recognition requires an embedding of each face.
pub fn analysis(
    raw: Analysis,
    dimension: usize,
    purpose: Purpose,
) -> Result<Analysis, InvalidOutput> {
    let invalid = |what: String| InvalidOutput::new("vision.analyze", what);
    if raw.width == 0 || raw.height == 0 {
        return Err(invalid(format!(
            "an image of {}×{} pixels",
            raw.width, raw.height
        )));
    }
    if raw.faces.len() > FACES {
        return Err(invalid(format!(
            "{} faces; at most {FACES} are taken",
            raw.faces.len()
        )));
    }
    for (index, analyzed) in raw.faces.iter().enumerate() {
        let invalid = |what: String| invalid(format!("face {index} with {what}"));
        face(&analyzed.face, raw.width, raw.height).map_err(invalid)?;
        let is_required = purpose == Purpose::Recognize;
        if is_required || !analyzed.embedding.is_empty() {
            vector(&analyzed.embedding, dimension).map_err(invalid)?;
        }
    }
    if !raw
        .faces
        .is_sorted_by(|larger, smaller| area(larger) >= area(smaller))
    {
        return Err(invalid(
            "faces that are not in order of box area, largest first".to_owned(),
        ));
    }
    Ok(raw)
}

/// Validates the raw samples of an analysis with `faces` faces. `None` means that the guest passed
/// more than the host keeps.
pub(crate) fn raw_samples(
    raw: Option<RawSamples>,
    faces: usize,
    dimension: usize,
) -> Result<RawSamples, InvalidOutput> {
    let invalid = |what: String| InvalidOutput {
        function: "samples.raw",
        what,
    };
    let raw =
        raw.ok_or_else(|| invalid("more samples or numbers than the host keeps".to_owned()))?;
    for (&face, embedding) in &raw {
        if usize::try_from(face).is_ok_and(|face| face >= faces) {
            return Err(invalid(format!("a sample for face {face} of {faces}")));
        }
        vector(embedding, dimension).map_err(|what| invalid(format!("face {face} with {what}")))?;
    }
    Ok(raw)
}

fn area(analyzed: &AnalyzedFace) -> f32 {
    let BoundingBox { x1, y1, x2, y2 } = analyzed.face.bounds;
    (x2 - x1) * (y2 - y1)
}

fn face(face: &Face, width: u32, height: u32) -> Result<(), String> {
    bounds(&face.bounds, width, height)?;
    if !(0.0..=1.0).contains(&face.score) {
        return Err(format!("a score of {}, not within 0 to 1", face.score));
    }
    if !matches!(face.landmarks.len(), 0 | 5) {
        return Err(format!(
            "{} landmarks, neither none nor five",
            face.landmarks.len()
        ));
    }
    if face
        .landmarks
        .iter()
        .any(|point| !point.x.is_finite() || !point.y.is_finite())
    {
        return Err("a landmark that is not finite".to_owned());
    }
    if face.measures.len() > MEASURES {
        return Err(format!(
            "{} measures; at most {MEASURES} are taken",
            face.measures.len()
        ));
    }
    let mut names = HashSet::new();
    for measure in &face.measures {
        if measure.name.len() > 32 || !is_name(&measure.name) {
            return Err(
                "a measure whose name is not 1 to 32 lower-case letters, digits and `-`".to_owned(),
            );
        }
        if !names.insert(measure.name.as_str()) {
            return Err(format!("the measure `{}` twice", measure.name));
        }
        if !measure.value.is_finite() {
            return Err(format!(
                "the measure `{}` of {}, not a finite number",
                measure.name, measure.value
            ));
        }
    }
    Ok(())
}

fn bounds(bounds: &BoundingBox, width: u32, height: u32) -> Result<(), String> {
    let BoundingBox { x1, y1, x2, y2 } = *bounds;
    // u32 to f64 is exact, and comparisons with NaN are false.
    let is_inside = 0.0 <= x1
        && x1 < x2
        && f64::from(x2) <= f64::from(width)
        && 0.0 <= y1
        && y1 < y2
        && f64::from(y2) <= f64::from(height);
    if is_inside {
        Ok(())
    } else {
        Err(format!(
            "the box [{x1}, {y1}, {x2}, {y2}], empty or outside the {width}×{height} image"
        ))
    }
}

fn vector(vector: &[f32], dimension: usize) -> Result<(), String> {
    if vector.len() != dimension {
        return Err(format!(
            "an embedding of {} numbers, not {dimension}",
            vector.len()
        ));
    }
    if let Some(odd) = vector.iter().find(|value| !value.is_finite()) {
        return Err(format!("an embedding that contains {odd}"));
    }
    let norm = vector.iter().map(|value| value * value).sum::<f32>();
    if !norm.is_finite() || norm == 0.0 {
        return Err("an embedding whose length is zero or not finite".to_owned());
    }
    Ok(())
}

/// Validates the outcome of a review. `embedded` says which faces have an embedding.
pub fn review(raw: ReviewOutcome, embedded: &[bool]) -> Result<ReviewOutcome, InvalidOutput> {
    let invalid = |what: String| InvalidOutput::new("policy.review", what);
    match &raw {
        ReviewOutcome::Accept(index) => match usize::try_from(*index)
            .ok()
            .and_then(|index| embedded.get(index))
        {
            Some(true) => {}
            Some(false) => {
                return Err(invalid(format!(
                    "face {index}, which vision gave no embedding"
                )));
            }
            None => return Err(invalid(format!("face {index} of {}", embedded.len()))),
        },
        ReviewOutcome::Reject(reasons) => {
            if reasons.is_empty() || reasons.len() > REASONS {
                return Err(invalid(format!(
                    "{} reasons; 1 to {REASONS} are taken",
                    reasons.len()
                )));
            }
            reasons.iter().try_for_each(reason).map_err(invalid)?;
        }
    }
    Ok(raw)
}

fn reason(reason: &Reason) -> Result<(), String> {
    if !is_code(&reason.code) {
        return Err(
            "a reason whose code is not 1 to 64 lower-case letters, digits and `_`".to_owned(),
        );
    }
    if reason.message.is_empty()
        || reason.message.len() > TEXT
        || reason.message.chars().any(char::is_control)
    {
        return Err(format!(
            "the reason `{}` without a message of 1 to {TEXT} bytes on one line",
            reason.code
        ));
    }
    if [reason.value, reason.limit]
        .into_iter()
        .flatten()
        .any(|number| !number.is_finite())
    {
        return Err(format!(
            "the reason `{}` with a number that is not finite",
            reason.code
        ));
    }
    Ok(())
}

/// Validates the templates of a person.
pub fn templates(raw: Vec<Vec<f32>>, dimension: usize) -> Result<Vec<Vec<f32>>, InvalidOutput> {
    let invalid = |what: String| InvalidOutput::new("policy.template", what);
    if raw.is_empty() || raw.len() > TEMPLATES {
        return Err(invalid(format!(
            "{} templates; 1 to {TEMPLATES} are taken",
            raw.len()
        )));
    }
    raw.iter()
        .try_for_each(|template| vector(template, dimension))
        .map_err(invalid)?;
    Ok(raw)
}

/// Validates the decisions: one for each probe, about a candidate of it, and each person at most
/// once.
pub fn decisions(raw: Vec<Decision>, probes: &[Probe]) -> Result<Vec<Decision>, InvalidOutput> {
    let invalid = |what: String| InvalidOutput::new("policy.decide", what);
    if raw.len() != probes.len() {
        return Err(invalid(format!(
            "{} decisions on {} faces",
            raw.len(),
            probes.len()
        )));
    }
    let mut people = HashSet::new();
    for (face, (decision, probe)) in raw.iter().zip(probes).enumerate() {
        match decision {
            Decision::Known(known) => {
                let candidate = usize::try_from(known.candidate)
                    .ok()
                    .and_then(|index| probe.candidates.get(index));
                let Some(candidate) = candidate else {
                    return Err(invalid(format!(
                        "candidate {} of {} for face {face}",
                        known.candidate,
                        probe.candidates.len()
                    )));
                };
                if !(0.0..=1.0).contains(&known.confidence) {
                    return Err(invalid(format!(
                        "a confidence of {} for face {face}, not within 0 to 1",
                        known.confidence
                    )));
                }
                if !people.insert(candidate.id.as_str()) {
                    return Err(invalid(format!(
                        "one person for face {face} and for another"
                    )));
                }
            }
            Decision::Unknown(code) if is_code(code) => {}
            Decision::Unknown(_) => {
                return Err(invalid(format!(
                    "a code for face {face} that is not 1 to 64 lower-case letters, digits and `_`"
                )));
            }
        }
    }
    Ok(raw)
}

/// Validates the description of a vision component. The error lists all faults, so that authors
/// can correct them together.
pub fn description(raw: Description) -> Result<Description, InvalidOutput> {
    let mut faults = identity_faults(&raw.identity);
    if raw.models.len() > MODELS {
        faults.push(format!(
            "{} models; at most {MODELS} are granted",
            raw.models.len()
        ));
    }
    let mut roles = HashSet::new();
    for role in raw.models.iter().take(MODELS) {
        if role.len() > 32 || !is_name(role) {
            faults.push(
                "a model's role that is not 1 to 32 lower-case letters, digits and `-`".to_owned(),
            );
        } else if !roles.insert(role.as_str()) {
            faults.push(format!("the model `{role}` twice"));
        }
    }
    let contract = &raw.contract;
    if !roles.contains(contract.recognizer.as_str()) {
        faults.push("a recogniser that is not one of its models".to_owned());
    }
    let is_identifier =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '/');
    if [&contract.alignment, &contract.preprocessing]
        .iter()
        .any(|text| !(1..=64).contains(&text.len()) || !text.chars().all(is_identifier))
    {
        faults.push(
            "an identifier of its contract that is not 1 to 64 lower-case letters, digits, `-`, `.` \
             and `/`"
                .to_owned(),
        );
    }
    if faults.is_empty() {
        Ok(raw)
    } else {
        Err(InvalidOutput::new("vision.describe", faults.join("; and ")))
    }
}

/// Validates the name and version of a component.
pub fn identity(raw: Identity) -> Result<Identity, InvalidOutput> {
    let faults = identity_faults(&raw);
    if faults.is_empty() {
        Ok(raw)
    } else {
        Err(InvalidOutput::new("describe", faults.join("; and ")))
    }
}

fn identity_faults(raw: &Identity) -> Vec<String> {
    let is_version = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    let mut faults = Vec::new();
    if raw.name.len() > 64 || !is_name(&raw.name) {
        faults.push("a name that is not 1 to 64 lower-case letters, digits and `-`".to_owned());
    }
    if raw.version.is_empty() || raw.version.len() > 64 || !raw.version.chars().all(is_version) {
        faults.push("a version that is not 1 to 64 letters, digits, `.`, `-` and `+`".to_owned());
    }
    faults
}

#[cfg(test)]
mod tests;
