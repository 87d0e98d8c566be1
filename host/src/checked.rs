//! Checks on everything that a guest returns, before it is stored, matched or answered.
//!
//! Each function takes what came over the boundary and either hands it back or names the rule that it breaks. The rules are
//! those of `wit/rostro.wit`.

use std::collections::HashSet;

use crate::bindings::{Analysis, AnalyzedFace, BoundingBox, Decision, Description, Face, Identity, Probe, Purpose, Reason, ReviewOutcome};

/// The most faces of one image: four times the largest class photo that is tested.
const FACES: usize = 1024;

/// The most measures of one face.
const MEASURES: usize = 32;

/// The most reasons for refusing a photo.
const REASONS: usize = 32;

/// The most templates of a person.
const TEMPLATES: usize = 16;

/// The most models of one pipeline.
const MODELS: usize = 16;

/// The longest text of a reason, in bytes.
const TEXT: usize = 500;

/// A rule of the interface that a guest's answer breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{function}` returned {what}")]
pub struct InvalidOutput {
    /// Which function of the guest.
    function: &'static str,
    /// What it returned.
    what: String,
}

impl InvalidOutput {
    pub(crate) fn new(function: &'static str, what: impl Into<String>) -> Self {
        Self { function, what: what.into() }
    }
}

/// Checks what vision says of an image of which embeddings of `dimension` numbers are wanted for `purpose`.
pub(crate) fn analysis(raw: Analysis, dimension: usize, purpose: Purpose) -> Result<Analysis, InvalidOutput> {
    let invalid = |what: String| InvalidOutput::new("vision.analyze", what);
    if raw.width == 0 || raw.height == 0 {
        return Err(invalid(format!("an image of {}×{} pixels", raw.width, raw.height)));
    }
    if raw.faces.len() > FACES {
        return Err(invalid(format!("{} faces; at most {FACES} are taken", raw.faces.len())));
    }
    for (index, analyzed) in raw.faces.iter().enumerate() {
        let invalid = |what: String| invalid(format!("face {index} with {what}"));
        face(&analyzed.face, raw.width, raw.height).map_err(invalid)?;
        let wanted = purpose == Purpose::Recognize;
        if wanted || !analyzed.embedding.is_empty() {
            vector(&analyzed.embedding, dimension).map_err(invalid)?;
        }
    }
    if !raw.faces.is_sorted_by(|larger, smaller| area(larger) >= area(smaller)) {
        return Err(invalid("faces that are not in order of box area, largest first".to_owned()));
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
        return Err(format!("{} landmarks, neither none nor five", face.landmarks.len()));
    }
    if face.landmarks.iter().any(|point| !point.x.is_finite() || !point.y.is_finite()) {
        return Err("a landmark that is not finite".to_owned());
    }
    if face.measures.len() > MEASURES {
        return Err(format!("{} measures; at most {MEASURES} are taken", face.measures.len()));
    }
    let mut names = HashSet::new();
    for measure in &face.measures {
        if measure.name.len() > 32 || !is_name(&measure.name) {
            return Err("a measure whose name is not 1 to 32 lower-case letters, digits and `-`".to_owned());
        }
        if !names.insert(measure.name.as_str()) {
            return Err(format!("the measure `{}` twice", measure.name));
        }
        if !measure.value.is_finite() {
            return Err(format!("the measure `{}` of {}, not a finite number", measure.name, measure.value));
        }
    }
    Ok(())
}

fn bounds(bounds: &BoundingBox, width: u32, height: u32) -> Result<(), String> {
    let BoundingBox { x1, y1, x2, y2 } = *bounds;
    // u32 to f64 is exact, and comparisons with NaN are false.
    let inside = 0.0 <= x1 && x1 < x2 && f64::from(x2) <= f64::from(width) && 0.0 <= y1 && y1 < y2 && f64::from(y2) <= f64::from(height);
    if inside { Ok(()) } else { Err(format!("the box [{x1}, {y1}, {x2}, {y2}], empty or outside the {width}×{height} image")) }
}

fn vector(vector: &[f32], dimension: usize) -> Result<(), String> {
    if vector.len() != dimension {
        return Err(format!("an embedding of {} numbers, not {dimension}", vector.len()));
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

/// Checks the outcome of a review of `faces` faces, of which those at `embedded` have an embedding.
pub(crate) fn review(raw: ReviewOutcome, embedded: &[bool]) -> Result<ReviewOutcome, InvalidOutput> {
    let invalid = |what: String| InvalidOutput::new("policy.review", what);
    match &raw {
        ReviewOutcome::Accept(index) => match usize::try_from(*index).ok().and_then(|index| embedded.get(index)) {
            Some(true) => {}
            Some(false) => return Err(invalid(format!("face {index}, which vision gave no embedding"))),
            None => return Err(invalid(format!("face {index} of {}", embedded.len()))),
        },
        ReviewOutcome::Reject(reasons) => {
            if reasons.is_empty() || reasons.len() > REASONS {
                return Err(invalid(format!("{} reasons; 1 to {REASONS} are taken", reasons.len())));
            }
            reasons.iter().try_for_each(reason).map_err(invalid)?;
        }
    }
    Ok(raw)
}

fn reason(reason: &Reason) -> Result<(), String> {
    if !is_code(&reason.code) {
        return Err("a reason whose code is not 1 to 64 lower-case letters, digits and `_`".to_owned());
    }
    if reason.message.is_empty() || reason.message.len() > TEXT || reason.message.chars().any(char::is_control) {
        return Err(format!("the reason `{}` without a message of 1 to {TEXT} bytes on one line", reason.code));
    }
    if [reason.value, reason.limit].into_iter().flatten().any(|number| !number.is_finite()) {
        return Err(format!("the reason `{}` with a number that is not finite", reason.code));
    }
    Ok(())
}

/// Checks the vectors that stand for a person.
pub(crate) fn templates(raw: Vec<Vec<f32>>, dimension: usize) -> Result<Vec<Vec<f32>>, InvalidOutput> {
    let invalid = |what: String| InvalidOutput::new("policy.template", what);
    if raw.is_empty() || raw.len() > TEMPLATES {
        return Err(invalid(format!("{} templates; 1 to {TEMPLATES} are taken", raw.len())));
    }
    raw.iter().try_for_each(|template| vector(template, dimension)).map_err(invalid)?;
    Ok(raw)
}

/// Checks the decisions on `probes`: one each, about a candidate that it has, and nobody twice.
pub(crate) fn decisions(raw: Vec<Decision>, probes: &[Probe]) -> Result<Vec<Decision>, InvalidOutput> {
    let invalid = |what: String| InvalidOutput::new("policy.decide", what);
    if raw.len() != probes.len() {
        return Err(invalid(format!("{} decisions on {} faces", raw.len(), probes.len())));
    }
    let mut given = HashSet::new();
    for (face, (decision, probe)) in raw.iter().zip(probes).enumerate() {
        match decision {
            Decision::Known(known) => {
                let candidate = usize::try_from(known.candidate).ok().and_then(|index| probe.candidates.get(index));
                let Some(candidate) = candidate else {
                    return Err(invalid(format!("candidate {} of {} for face {face}", known.candidate, probe.candidates.len())));
                };
                if !(0.0..=1.0).contains(&known.confidence) {
                    return Err(invalid(format!("a confidence of {} for face {face}, not within 0 to 1", known.confidence)));
                }
                if !given.insert(candidate.id.as_str()) {
                    return Err(invalid(format!("one person for face {face} and for another")));
                }
            }
            Decision::Unknown(code) if is_code(code) => {}
            Decision::Unknown(_) => {
                return Err(invalid(format!("a code for face {face} that is not 1 to 64 lower-case letters, digits and `_`")));
            }
        }
    }
    Ok(raw)
}

/// Checks what a component that serves vision says of itself.
pub(crate) fn description(raw: Description) -> Result<Description, InvalidOutput> {
    let invalid = |what: String| InvalidOutput::new("vision.describe", what);
    let identity = identity(raw.identity)?;
    if raw.models.len() > MODELS {
        return Err(invalid(format!("{} models; at most {MODELS} are granted", raw.models.len())));
    }
    let mut roles = HashSet::new();
    for role in &raw.models {
        if role.len() > 32 || !is_name(role) {
            return Err(invalid("a model's role that is not 1 to 32 lower-case letters, digits and `-`".to_owned()));
        }
        if !roles.insert(role.as_str()) {
            return Err(invalid(format!("the model `{role}` twice")));
        }
    }
    let contract = &raw.contract;
    if !roles.contains(contract.recognizer.as_str()) {
        return Err(invalid("a recogniser that is not one of its models".to_owned()));
    }
    let identifier = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '/');
    if [&contract.alignment, &contract.preprocessing].iter().any(|text| !(1..=64).contains(&text.len()) || !text.chars().all(identifier)) {
        return Err(invalid("an identifier of its contract that is not 1 to 64 lower-case letters, digits, `-`, `.` and `/`".to_owned()));
    }
    Ok(Description { identity, ..raw })
}

/// Checks what a component calls itself.
pub(crate) fn identity(raw: Identity) -> Result<Identity, InvalidOutput> {
    let version = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    if raw.name.len() > 64 || !is_name(&raw.name) {
        return Err(InvalidOutput::new("describe", "a name that is not 1 to 64 lower-case letters, digits and `-`"));
    }
    if raw.version.is_empty() || raw.version.len() > 64 || !raw.version.chars().all(version) {
        return Err(InvalidOutput::new("describe", "a version that is not 1 to 64 letters, digits, `.`, `-` and `+`"));
    }
    Ok(raw)
}

/// Lower-case letters, digits and `-`, at least one.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// A stable code: 1 to 64 lower-case letters, digits and `_`.
fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::vision::exports::rostro::pipeline::vision::EmbeddingContract;
    use crate::bindings::{Candidate, Measure, Point};
    // The record `match` of the interface, which has no name of its own here.
    use crate::bindings::policy::exports::rostro::pipeline::policy::Match;

    const DIMENSION: usize = 3;

    /// A change that breaks a rule, and words of the message about it.
    type Case<T> = (fn(&mut T), &'static str);

    /// Asserts that each change makes of something good what is refused with these words.
    fn assert_refused<T, U: std::fmt::Debug>(good: fn() -> T, check: fn(T) -> Result<U, InvalidOutput>, cases: &[Case<T>]) {
        check(good()).unwrap();
        for (change, words) in cases {
            let mut bad = good();
            change(&mut bad);
            let error = check(bad).expect_err(words).to_string();
            assert!(error.contains(words), "`{words}` is not in: {error}");
        }
    }

    fn assert_allowed<T, U: std::fmt::Debug>(good: fn() -> T, check: fn(T) -> Result<U, InvalidOutput>, changes: &[fn(&mut T)]) {
        for (number, change) in changes.iter().enumerate() {
            let mut other = good();
            change(&mut other);
            check(other).unwrap_or_else(|error| panic!("change {number}: {error}"));
        }
    }

    fn measure(name: &str) -> Measure {
        Measure { name: name.to_owned(), value: 1.0 }
    }

    fn good_face() -> AnalyzedFace {
        let face = Face {
            bounds: BoundingBox { x1: 10.0, y1: 20.0, x2: 30.0, y2: 40.0 },
            score: 0.9,
            landmarks: vec![Point { x: 15.0, y: 25.0 }; 5],
            measures: vec![measure("sharpness"), measure("yaw")],
        };
        AnalyzedFace { face, embedding: vec![1.0, -2.0, 3.0] }
    }

    fn good_analysis() -> Analysis {
        Analysis { width: 64, height: 48, faces: vec![good_face(), good_face()] }
    }

    fn recognized(raw: Analysis) -> Result<Analysis, InvalidOutput> {
        analysis(raw, DIMENSION, Purpose::Recognize)
    }

    fn numbered(count: usize) -> Vec<Measure> {
        (0..count).map(|number| measure(&format!("m{number}"))).collect()
    }

    #[test]
    fn an_analysis_that_breaks_a_rule_is_refused_with_the_rule() {
        assert_refused(
            good_analysis,
            recognized,
            &[
                (|it| it.width = 0, "`vision.analyze` returned an image of 0×48 pixels"),
                (|it| it.height = 0, "an image of 64×0 pixels"),
                (|it| it.faces = vec![good_face(); FACES + 1], "1025 faces; at most 1024 are taken"),
                (|it| it.faces[0].face.bounds.x1 = f32::NAN, "face 0 with the box [NaN, 20, 30, 40], empty or outside the 64×48 image"),
                (|it| it.faces[1].face.bounds.y2 = f32::NAN, "face 1 with the box"),
                (|it| it.faces[0].face.bounds.x2 = f32::INFINITY, "the box [10, 20, inf, 40]"),
                (|it| it.faces[0].face.bounds.x1 = -0.5, "the box [-0.5,"),
                (|it| it.faces[0].face.bounds.y1 = -0.5, "the box [10, -0.5,"),
                (|it| it.faces[0].face.bounds.x2 = 64.01, "outside the 64×48 image"),
                (|it| it.faces[0].face.bounds.y2 = 48.01, "outside the 64×48 image"),
                (|it| it.faces[1].face.bounds.x2 = 31.0, "faces that are not in order of box area, largest first"),
                (|it| it.faces[0].face.bounds.x2 = 10.0, "the box [10, 20, 10, 40], empty"),
                (|it| it.faces[0].face.bounds.y2 = 19.0, "the box [10, 20, 30, 19], empty"),
                (|it| it.faces[0].face.score = 1.01, "a score of 1.01, not within 0 to 1"),
                (|it| it.faces[0].face.score = -0.01, "a score of -0.01"),
                (|it| it.faces[0].face.score = f32::NAN, "a score of NaN"),
                (|it| it.faces[0].face.landmarks.truncate(3), "3 landmarks, neither none nor five"),
                (|it| it.faces[0].face.landmarks.push(Point { x: 1.0, y: 1.0 }), "6 landmarks"),
                (|it| it.faces[0].face.landmarks[4].x = f32::NAN, "a landmark that is not finite"),
                (|it| it.faces[0].face.landmarks[0].y = f32::NEG_INFINITY, "a landmark that is not finite"),
                (|it| it.faces[0].face.measures = numbered(MEASURES + 1), "33 measures; at most 32 are taken"),
                (|it| it.faces[0].face.measures[1] = measure("sharpness"), "the measure `sharpness` twice"),
                (|it| it.faces[0].face.measures[1].value = f32::NAN, "the measure `yaw` of NaN, not a finite number"),
                (|it| it.faces[0].face.measures[0] = measure(""), "a measure whose name is not"),
                (|it| it.faces[0].face.measures[0] = measure("Sharpness"), "a measure whose name is not"),
                (|it| it.faces[0].face.measures[0] = measure("sharp ness"), "a measure whose name is not"),
                (|it| it.faces[0].face.measures[0] = measure(&"x".repeat(33)), "a measure whose name is not"),
                (|it| it.faces[1].embedding.truncate(2), "face 1 with an embedding of 2 numbers, not 3"),
                (|it| it.faces[0].embedding.clear(), "face 0 with an embedding of 0 numbers, not 3"),
                (|it| it.faces[0].embedding[1] = f32::NAN, "an embedding that contains NaN"),
                (|it| it.faces[0].embedding[1] = f32::INFINITY, "an embedding that contains inf"),
                (|it| it.faces[0].embedding.fill(0.0), "an embedding whose length is zero or not finite"),
                // Its square does not fit, although it does itself.
                (|it| it.faces[0].embedding[0] = f32::MAX, "an embedding whose length is zero or not finite"),
            ],
        );
    }

    #[test]
    fn an_analysis_may_go_to_the_edge_of_the_rules() {
        assert_allowed(
            good_analysis,
            recognized,
            &[
                |it| it.faces.clear(),
                |it| it.faces = vec![good_face(); FACES],
                |it| it.faces[0].face.bounds = BoundingBox { x1: 0.0, y1: 0.0, x2: 64.0, y2: 48.0 },
                |it| it.faces[0].face.score = 0.0,
                |it| it.faces[0].face.score = 1.0,
                |it| it.faces[0].face.landmarks.clear(),
                // A face at the edge may have an eye outside of the image.
                |it| it.faces[0].face.landmarks[0] = Point { x: -5.0, y: 60.0 },
                |it| it.faces[0].face.measures.clear(),
                |it| it.faces[0].face.measures = numbered(MEASURES),
                |it| it.faces[0].face.measures[0] = measure(&"x".repeat(32)),
            ],
        );
    }

    #[test]
    fn embeddings_may_be_left_out_where_they_are_not_needed_but_not_be_wrong() {
        for (purpose, optional) in [(Purpose::Recognize, false), (Purpose::Enroll, true), (Purpose::Detect, true)] {
            let with = |embedding: &[f32]| {
                let face = AnalyzedFace { embedding: embedding.to_vec(), ..good_face() };
                analysis(Analysis { width: 64, height: 48, faces: vec![face] }, DIMENSION, purpose).is_ok()
            };
            assert_eq!(
                (with(&[1.0; DIMENSION]), with(&[]), with(&[1.0]), with(&[0.0; DIMENSION])),
                (true, optional, false, false),
                "{purpose:?}"
            );
        }
    }

    fn reviewed(raw: ReviewOutcome) -> Result<ReviewOutcome, InvalidOutput> {
        review(raw, &[true, false])
    }

    fn reasons(count: usize) -> Vec<Reason> {
        let reason = Reason { code: "face_too_small".to_owned(), message: "Come nearer.".to_owned(), value: Some(20.0), limit: None };
        vec![reason; count]
    }

    fn rejected(reasons: Vec<Reason>) -> Result<ReviewOutcome, InvalidOutput> {
        reviewed(ReviewOutcome::Reject(reasons))
    }

    #[test]
    fn a_review_that_breaks_a_rule_is_refused_with_the_rule() {
        assert_refused(
            || ReviewOutcome::Accept(0),
            reviewed,
            &[
                (|it| *it = ReviewOutcome::Accept(1), "`policy.review` returned face 1, which vision gave no embedding"),
                (|it| *it = ReviewOutcome::Accept(2), "face 2 of 2"),
                (|it| *it = ReviewOutcome::Accept(u32::MAX), "face 4294967295 of 2"),
            ],
        );
        assert_refused(
            || reasons(2),
            rejected,
            &[
                (Vec::clear, "0 reasons; 1 to 32 are taken"),
                (|it| *it = reasons(REASONS + 1), "33 reasons"),
                (|it| it[0].code.clear(), "a reason whose code is not"),
                (|it| it[0].code = "face-too-small".to_owned(), "a reason whose code is not"),
                (|it| it[0].code = "x".repeat(65), "a reason whose code is not"),
                (|it| it[0].message.clear(), "`face_too_small` without a message of 1 to 500 bytes on one line"),
                (|it| it[0].message = "x".repeat(TEXT + 1), "without a message of 1 to 500 bytes"),
                (|it| it[0].message = "two\nlines".to_owned(), "on one line"),
                (|it| it[0].message = "\u{1b}[31mred".to_owned(), "on one line"),
                (|it| it[0].value = Some(f32::NAN), "`face_too_small` with a number that is not finite"),
                (|it| it[0].limit = Some(f32::INFINITY), "with a number that is not finite"),
            ],
        );
        assert_allowed(
            || reasons(2),
            rejected,
            &[
                |it| *it = reasons(REASONS),
                |it| it[0].value = None,
                |it| it[0].code = "x".repeat(64),
                |it| it[0].message = "x".repeat(TEXT),
            ],
        );
    }

    #[test]
    fn templates_that_break_a_rule_are_refused_with_the_rule() {
        let check = |raw| templates(raw, DIMENSION);
        assert_refused(
            || vec![vec![1.0; DIMENSION]; 2],
            check,
            &[
                (Vec::clear, "`policy.template` returned 0 templates; 1 to 16 are taken"),
                (|it| *it = vec![vec![1.0; DIMENSION]; TEMPLATES + 1], "17 templates"),
                (|it| it[1].clear(), "an embedding of 0 numbers, not 3"),
                (|it| it[1].push(1.0), "an embedding of 4 numbers, not 3"),
                (|it| it[1][2] = f32::NAN, "an embedding that contains NaN"),
                (|it| it[1].fill(0.0), "an embedding whose length is zero or not finite"),
            ],
        );
        assert_allowed(|| vec![vec![1.0; DIMENSION]], check, &[|it| *it = vec![vec![1.0; DIMENSION]; TEMPLATES]]);
    }

    /// Three faces: two that may be either of two people, and one that may be nobody.
    fn probes() -> Vec<Probe> {
        let candidate = |id: &&str| Candidate { id: (*id).to_owned(), similarity: 0.8 };
        let probe = |ids: &[&str]| Probe { face: good_face().face, candidates: ids.iter().map(candidate).collect() };
        vec![probe(&["alice", "bob"]), probe(&["bob", "alice"]), probe(&[])]
    }

    fn known(candidate: u32, confidence: f32) -> Decision {
        Decision::Known(Match { candidate, confidence })
    }

    fn unknown(code: &str) -> Decision {
        Decision::Unknown(code.to_owned())
    }

    fn good_decisions() -> Vec<Decision> {
        vec![known(0, 0.8), known(0, 0.7), unknown("no_candidates")]
    }

    #[test]
    fn decisions_that_break_a_rule_are_refused_with_the_rule() {
        let check = |raw| decisions(raw, &probes());
        assert_refused(
            good_decisions,
            check,
            &[
                (|it| it.truncate(2), "`policy.decide` returned 2 decisions on 3 faces"),
                (|it| it.push(unknown("x")), "4 decisions on 3 faces"),
                (|it| it[1] = known(2, 0.7), "candidate 2 of 2 for face 1"),
                (|it| it[2] = known(0, 0.7), "candidate 0 of 0 for face 2"),
                (|it| it[1] = known(1, 0.7), "one person for face 1 and for another"),
                (|it| it[0] = known(0, f32::NAN), "a confidence of NaN for face 0, not within 0 to 1"),
                (|it| it[0] = known(0, 1.01), "a confidence of 1.01"),
                (|it| it[0] = known(0, -0.01), "a confidence of -0.01"),
                (|it| it[2] = unknown(""), "a code for face 2 that is not"),
                (|it| it[2] = unknown("Below Threshold"), "a code for face 2 that is not"),
                (|it| it[2] = unknown(&"x".repeat(65)), "a code for face 2 that is not"),
            ],
        );
        assert_allowed(
            good_decisions,
            check,
            &[
                |it| (it[0], it[1]) = (known(1, 0.7), known(1, 0.7)),
                |it| it[0] = known(0, 0.0),
                |it| it[0] = known(0, 1.0),
                |it| it.iter_mut().for_each(|decision| *decision = unknown("below_threshold")),
            ],
        );
    }

    #[test]
    fn a_description_that_breaks_a_rule_is_refused_with_the_rule() {
        let good = || Description {
            identity: Identity { name: "insightface".to_owned(), version: "1.0.0".to_owned() },
            models: vec!["detector".to_owned(), "recognizer".to_owned()],
            contract: EmbeddingContract {
                recognizer: "recognizer".to_owned(),
                alignment: "arcface-5-point-112/1".to_owned(),
                preprocessing: "bilinear-mean-std/1".to_owned(),
            },
        };
        assert_refused(
            good,
            description,
            &[
                (|it| it.identity.name.clear(), "`describe` returned a name that is not"),
                (|it| it.models = (0..=MODELS).map(|number| format!("m{number}")).collect(), "17 models; at most 16 are granted"),
                (|it| it.models[0] = "De tector".to_owned(), "a model's role that is not"),
                (|it| it.models[0] = "recognizer".to_owned(), "the model `recognizer` twice"),
                (|it| it.models.truncate(1), "a recogniser that is not one of its models"),
                (|it| it.contract.alignment.clear(), "an identifier of its contract that is not"),
                (|it| it.contract.preprocessing = "\u{1b}[31m".to_owned(), "an identifier of its contract that is not"),
                (|it| it.contract.preprocessing = "x".repeat(65), "an identifier of its contract that is not"),
            ],
        );
    }

    #[test]
    fn an_identity_that_breaks_a_rule_is_refused_with_the_rule() {
        const NAME: &str = "`describe` returned a name that is not";
        const VERSION: &str = "`describe` returned a version that is not";
        let good = || Identity { name: "insightface".to_owned(), version: "1.2.3-rc.1+build".to_owned() };
        assert_refused(
            good,
            identity,
            &[
                (|it| it.name.clear(), NAME),
                (|it| it.name = "Insight Face".to_owned(), NAME),
                (|it| it.name = "insight_face".to_owned(), NAME),
                (|it| it.name = "x".repeat(65), NAME),
                (|it| it.version.clear(), VERSION),
                (|it| it.version = "1.0 beta".to_owned(), VERSION),
                (|it| it.version = "1.0\n".to_owned(), VERSION),
                (|it| it.version = "1".repeat(65), VERSION),
            ],
        );
        assert_allowed(good, identity, &[|it| it.name = "x".repeat(64), |it| it.version = "1".repeat(64)]);
    }
}
