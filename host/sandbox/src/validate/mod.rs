//! Validation of the output of guests before it is stored, matched or answered.
//!
//! Each function returns the guest's value unchanged, or an error that names the broken rule. The
//! rules are those of `wit/`.

pub mod description;
pub mod identifiers;

use std::collections::HashSet;

use crate::bindings::{
    BoundingBox, Decision, Event, Face, Outcome, Probe, Purpose, RawAnalysis, RawFace, Reason,
    ReviewOutcome, Ruling,
};
use crate::guest::report::RawSamples;
use crate::stream::StreamMemory;
use crate::types::{Analysis, AnalyzedFace, Decisions};
use identifiers::{is_code, is_name};

/// Faces of one image at most: four times the largest class photo in the tests.
const FACES: usize = 1024;

/// Measures of one face at most.
const MEASURES: usize = 32;

/// Reasons for rejecting a photo at most.
const REASONS: usize = 32;

/// Templates of a person at most.
const TEMPLATES: usize = 16;

/// Events of one frame at most.
const EVENTS: usize = 64;

/// Longest message of an event, in characters.
const EVENT_MESSAGE: usize = 300;

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

/// Validates the analysis of an image. Only recognition requires an embedding of each face, and a
/// track of the stream may have one of an earlier frame.
pub fn analysis(
    raw: RawAnalysis,
    dimension: usize,
    purpose: Purpose,
    stream: Option<&StreamMemory>,
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
    let mut tracks = HashSet::new();
    for (index, analyzed) in raw.faces.iter().enumerate() {
        let invalid = |what: String| invalid(format!("face {index} with {what}"));
        face(&analyzed.face, raw.width, raw.height).map_err(invalid)?;
        if let Some(track) = analyzed.track {
            if stream.is_none() {
                return Err(invalid(format!("track {track} outside a stream")));
            }
            if !tracks.insert(track) {
                return Err(invalid(format!("track {track} of another face")));
            }
        }
        let is_required = purpose == Purpose::Recognize && analyzed.track.is_none();
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
    let faces = raw.faces.into_iter().enumerate();
    let faces = faces
        .map(|(index, raw)| {
            with_embedding(raw, purpose, stream).map_err(|track| {
                invalid(format!(
                    "face {index} on track {track} without an embedding, which no earlier frame of \
                     this stream has either"
                ))
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(Analysis {
        width: raw.width,
        height: raw.height,
        faces,
    })
}

/// Returns a face with the embedding that stands for it. The error is a track without one.
fn with_embedding(
    RawFace {
        face,
        track,
        embedding,
    }: RawFace,
    purpose: Purpose,
    stream: Option<&StreamMemory>,
) -> Result<AnalyzedFace, u32> {
    let is_fresh = !embedding.is_empty();
    let embedding = match (track, stream) {
        (Some(track), Some(stream)) if !is_fresh && purpose == Purpose::Recognize => {
            stream.embedding(track).ok_or(track)?.to_vec()
        }
        _ => embedding,
    };
    Ok(AnalyzedFace {
        face,
        track,
        is_fresh,
        embedding,
    })
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

fn area(analyzed: &RawFace) -> f32 {
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
    let invalid = |what: String| InvalidOutput::new("review", what);
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
    let invalid = |what: String| InvalidOutput::new("template", what);
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

/// Validates the answer about a frame: one ruling for each probe, about a candidate of it, and each
/// person at most once.
pub fn decisions(raw: Outcome, probes: &[Probe]) -> Result<Decisions, InvalidOutput> {
    let invalid = |what: String| InvalidOutput::new("decide", what);
    let Outcome {
        rulings, events, ..
    } = raw;
    if rulings.len() != probes.len() {
        return Err(invalid(format!(
            "{} decisions on {} faces",
            rulings.len(),
            probes.len()
        )));
    }
    let mut people = HashSet::new();
    for (face, (ruling, probe)) in rulings.iter().zip(probes).enumerate() {
        if let Some(person) = known_person(ruling, probe)
            .map_err(|what| invalid(format!("{what} for face {face}")))?
            && !people.insert(person)
        {
            return Err(invalid(format!(
                "one person for face {face} and for another"
            )));
        }
        shown_candidates(ruling, probe)
            .map_err(|what| invalid(format!("{what} for face {face}")))?;
    }
    if events.len() > EVENTS {
        return Err(invalid(format!(
            "{} events; at most {EVENTS} are taken",
            events.len()
        )));
    }
    for shown in &events {
        event(shown, probes.len()).map_err(invalid)?;
    }
    Ok(Decisions { rulings, events })
}

/// Returns the person of a ruling, if it names one.
fn known_person<'p>(ruling: &Ruling, probe: &'p Probe) -> Result<Option<&'p str>, String> {
    match &ruling.decision {
        Decision::Known(known) => {
            let candidate = usize::try_from(known.candidate)
                .ok()
                .and_then(|index| probe.candidates.get(index));
            let Some(candidate) = candidate else {
                return Err(format!(
                    "candidate {} of {}",
                    known.candidate,
                    probe.candidates.len()
                ));
            };
            if !(0.0..=1.0).contains(&known.confidence) {
                return Err(format!(
                    "a confidence of {}, not within 0 to 1,",
                    known.confidence
                ));
            }
            Ok(Some(candidate.id.as_str()))
        }
        Decision::Unknown(code) if is_code(code) => Ok(None),
        Decision::Unknown(_) => {
            Err("a code that is not 1 to 64 lower-case letters, digits and `_`".to_owned())
        }
    }
}

fn shown_candidates(ruling: &Ruling, probe: &Probe) -> Result<(), String> {
    let mut shown = HashSet::new();
    for &candidate in &ruling.candidates {
        if usize::try_from(candidate).is_ok_and(|index| index >= probe.candidates.len()) {
            return Err(format!(
                "candidate {candidate} of {} to show",
                probe.candidates.len()
            ));
        }
        if !shown.insert(candidate) {
            return Err(format!("candidate {candidate} to show twice"));
        }
    }
    Ok(())
}

fn event(event: &Event, faces: usize) -> Result<(), String> {
    if !is_code(&event.code) {
        return Err(
            "an event whose code is not 1 to 64 lower-case letters, digits and `_`".to_owned(),
        );
    }
    if let Some(face) = event.face
        && usize::try_from(face).is_ok_and(|face| face >= faces)
    {
        return Err(format!(
            "the event `{}` on face {face} of {faces}",
            event.code
        ));
    }
    if event.value.is_some_and(|value| !value.is_finite()) {
        return Err(format!(
            "the event `{}` with a number that is not finite",
            event.code
        ));
    }
    if event.message.chars().count() > EVENT_MESSAGE || event.message.chars().any(char::is_control)
    {
        return Err(format!(
            "the event `{}` with a message that is not one line of at most {EVENT_MESSAGE} \
             characters",
            event.code
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
