//! Each rule, with values that break it and values at its edge.

use super::*;
use crate::bindings::vision::exports::rostro::pipeline::vision::EmbeddingContract;
use crate::bindings::{Candidate, Measure, Point};
// The record `match` is imported by its path, because `match` is a keyword.
use crate::bindings::policy::exports::rostro::pipeline::policy::Match;

const DIMENSION: usize = 3;

/// Change that breaks a rule, and a part of the error message.
type Case<T> = (fn(&mut T), &'static str);

/// Asserts that each change of a valid value is refused with its message.
fn assert_refused<T, U: std::fmt::Debug>(
    valid: fn() -> T,
    check: fn(T) -> Result<U, InvalidOutput>,
    cases: &[Case<T>],
) {
    check(valid()).unwrap();
    for (change, words) in cases {
        let mut bad = valid();
        change(&mut bad);
        let error = check(bad).expect_err(words).to_string();
        assert!(error.contains(words), "`{words}` is not in: {error}");
    }
}

/// Asserts that each change of a valid value is allowed.
fn assert_allowed<T, U: std::fmt::Debug>(
    valid: fn() -> T,
    check: fn(T) -> Result<U, InvalidOutput>,
    changes: &[fn(&mut T)],
) {
    for (number, change) in changes.iter().enumerate() {
        let mut other = valid();
        change(&mut other);
        check(other).unwrap_or_else(|error| panic!("change {number}: {error}"));
    }
}

fn measure(name: &str) -> Measure {
    Measure {
        name: name.to_owned(),
        value: 1.0,
    }
}

fn valid_face() -> AnalyzedFace {
    let face = Face {
        bounds: BoundingBox {
            x1: 10.0,
            y1: 20.0,
            x2: 30.0,
            y2: 40.0,
        },
        score: 0.9,
        landmarks: vec![Point { x: 15.0, y: 25.0 }; 5],
        measures: vec![measure("sharpness"), measure("yaw")],
    };
    AnalyzedFace {
        face,
        embedding: vec![1.0, -2.0, 3.0],
    }
}

fn valid_analysis() -> Analysis {
    Analysis {
        width: 64,
        height: 48,
        faces: vec![valid_face(), valid_face()],
    }
}

fn recognized(raw: Analysis) -> Result<Analysis, InvalidOutput> {
    analysis(raw, DIMENSION, Purpose::Recognize)
}

fn numbered(count: usize) -> Vec<Measure> {
    (0..count)
        .map(|number| measure(&format!("m{number}")))
        .collect()
}

#[test]
fn invalid_analysis_names_rule() {
    assert_refused(
        valid_analysis,
        recognized,
        &[
            (
                |it| it.width = 0,
                "`vision.analyze` returned an image of 0×48 pixels",
            ),
            (|it| it.height = 0, "an image of 64×0 pixels"),
            (
                |it| it.faces = vec![valid_face(); FACES + 1],
                "1025 faces; at most 1024 are taken",
            ),
            (
                |it| it.faces[0].face.bounds.x1 = f32::NAN,
                "face 0 with the box [NaN, 20, 30, 40], empty or outside the 64×48 image",
            ),
            (
                |it| it.faces[1].face.bounds.y2 = f32::NAN,
                "face 1 with the box",
            ),
            (
                |it| it.faces[0].face.bounds.x2 = f32::INFINITY,
                "the box [10, 20, inf, 40]",
            ),
            (|it| it.faces[0].face.bounds.x1 = -0.5, "the box [-0.5,"),
            (|it| it.faces[0].face.bounds.y1 = -0.5, "the box [10, -0.5,"),
            (
                |it| it.faces[0].face.bounds.x2 = 64.01,
                "outside the 64×48 image",
            ),
            (
                |it| it.faces[0].face.bounds.y2 = 48.01,
                "outside the 64×48 image",
            ),
            (
                |it| it.faces[1].face.bounds.x2 = 31.0,
                "faces that are not in order of box area, largest first",
            ),
            (
                |it| it.faces[0].face.bounds.x2 = 10.0,
                "the box [10, 20, 10, 40], empty",
            ),
            (
                |it| it.faces[0].face.bounds.y2 = 19.0,
                "the box [10, 20, 30, 19], empty",
            ),
            (
                |it| it.faces[0].face.score = 1.01,
                "a score of 1.01, not within 0 to 1",
            ),
            (|it| it.faces[0].face.score = -0.01, "a score of -0.01"),
            (|it| it.faces[0].face.score = f32::NAN, "a score of NaN"),
            (
                |it| it.faces[0].face.landmarks.truncate(3),
                "3 landmarks, neither none nor five",
            ),
            (
                |it| it.faces[0].face.landmarks.push(Point { x: 1.0, y: 1.0 }),
                "6 landmarks",
            ),
            (
                |it| it.faces[0].face.landmarks[4].x = f32::NAN,
                "a landmark that is not finite",
            ),
            (
                |it| it.faces[0].face.landmarks[0].y = f32::NEG_INFINITY,
                "a landmark that is not finite",
            ),
            (
                |it| it.faces[0].face.measures = numbered(MEASURES + 1),
                "33 measures; at most 32 are taken",
            ),
            (
                |it| it.faces[0].face.measures[1] = measure("sharpness"),
                "the measure `sharpness` twice",
            ),
            (
                |it| it.faces[0].face.measures[1].value = f32::NAN,
                "the measure `yaw` of NaN, not a finite number",
            ),
            (
                |it| it.faces[0].face.measures[0] = measure(""),
                "a measure whose name is not",
            ),
            (
                |it| it.faces[0].face.measures[0] = measure("Sharpness"),
                "a measure whose name is not",
            ),
            (
                |it| it.faces[0].face.measures[0] = measure("sharp ness"),
                "a measure whose name is not",
            ),
            (
                |it| it.faces[0].face.measures[0] = measure(&"x".repeat(33)),
                "a measure whose name is not",
            ),
            (
                |it| it.faces[1].embedding.truncate(2),
                "face 1 with an embedding of 2 numbers, not 3",
            ),
            (
                |it| it.faces[0].embedding.clear(),
                "face 0 with an embedding of 0 numbers, not 3",
            ),
            (
                |it| it.faces[0].embedding[1] = f32::NAN,
                "an embedding that contains NaN",
            ),
            (
                |it| it.faces[0].embedding[1] = f32::INFINITY,
                "an embedding that contains inf",
            ),
            (
                |it| it.faces[0].embedding.fill(0.0),
                "an embedding whose length is zero or not finite",
            ),
            // The square overflows, although the value is finite.
            (
                |it| it.faces[0].embedding[0] = f32::MAX,
                "an embedding whose length is zero or not finite",
            ),
        ],
    );
}

#[test]
fn analysis_at_limits_is_allowed() {
    assert_allowed(
        valid_analysis,
        recognized,
        &[
            |it| it.faces.clear(),
            |it| it.faces = vec![valid_face(); FACES],
            |it| {
                it.faces[0].face.bounds = BoundingBox {
                    x1: 0.0,
                    y1: 0.0,
                    x2: 64.0,
                    y2: 48.0,
                }
            },
            |it| it.faces[0].face.score = 0.0,
            |it| it.faces[0].face.score = 1.0,
            |it| it.faces[0].face.landmarks.clear(),
            // A face at the edge may have an eye outside the image.
            |it| it.faces[0].face.landmarks[0] = Point { x: -5.0, y: 60.0 },
            |it| it.faces[0].face.measures.clear(),
            |it| it.faces[0].face.measures = numbered(MEASURES),
            |it| it.faces[0].face.measures[0] = measure(&"x".repeat(32)),
        ],
    );
}

#[test]
fn only_recognition_requires_embeddings() {
    for (purpose, optional) in [
        (Purpose::Recognize, false),
        (Purpose::Enroll, true),
        (Purpose::Detect, true),
    ] {
        let with = |embedding: &[f32]| {
            let face = AnalyzedFace {
                embedding: embedding.to_vec(),
                ..valid_face()
            };
            analysis(
                Analysis {
                    width: 64,
                    height: 48,
                    faces: vec![face],
                },
                DIMENSION,
                purpose,
            )
            .is_ok()
        };
        assert_eq!(
            (
                with(&[1.0; DIMENSION]),
                with(&[]),
                with(&[1.0]),
                with(&[0.0; DIMENSION])
            ),
            (true, optional, false, false),
            "{purpose:?}"
        );
    }
}

fn reviewed(raw: ReviewOutcome) -> Result<ReviewOutcome, InvalidOutput> {
    review(raw, &[true, false])
}

fn reasons(count: usize) -> Vec<Reason> {
    let reason = Reason {
        code: "face_too_small".to_owned(),
        message: "Come nearer.".to_owned(),
        value: Some(20.0),
        limit: None,
    };
    vec![reason; count]
}

fn rejected(reasons: Vec<Reason>) -> Result<ReviewOutcome, InvalidOutput> {
    reviewed(ReviewOutcome::Reject(reasons))
}

#[test]
fn invalid_review_names_rule() {
    assert_refused(
        || ReviewOutcome::Accept(0),
        reviewed,
        &[
            (
                |it| *it = ReviewOutcome::Accept(1),
                "`policy.review` returned face 1, which vision gave no embedding",
            ),
            (|it| *it = ReviewOutcome::Accept(2), "face 2 of 2"),
            (
                |it| *it = ReviewOutcome::Accept(u32::MAX),
                "face 4294967295 of 2",
            ),
        ],
    );
    assert_refused(
        || reasons(2),
        rejected,
        &[
            (Vec::clear, "0 reasons; 1 to 32 are taken"),
            (|it| *it = reasons(REASONS + 1), "33 reasons"),
            (|it| it[0].code.clear(), "a reason whose code is not"),
            (
                |it| it[0].code = "face-too-small".to_owned(),
                "a reason whose code is not",
            ),
            (
                |it| it[0].code = "x".repeat(65),
                "a reason whose code is not",
            ),
            (
                |it| it[0].message.clear(),
                "`face_too_small` without a message of 1 to 500 bytes on one line",
            ),
            (
                |it| it[0].message = "x".repeat(TEXT + 1),
                "without a message of 1 to 500 bytes",
            ),
            (|it| it[0].message = "two\nlines".to_owned(), "on one line"),
            (
                |it| it[0].message = "\u{1b}[31mred".to_owned(),
                "on one line",
            ),
            (
                |it| it[0].value = Some(f32::NAN),
                "`face_too_small` with a number that is not finite",
            ),
            (
                |it| it[0].limit = Some(f32::INFINITY),
                "with a number that is not finite",
            ),
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
fn invalid_templates_name_rule() {
    let check = |raw| templates(raw, DIMENSION);
    assert_refused(
        || vec![vec![1.0; DIMENSION]; 2],
        check,
        &[
            (
                Vec::clear,
                "`policy.template` returned 0 templates; 1 to 16 are taken",
            ),
            (
                |it| *it = vec![vec![1.0; DIMENSION]; TEMPLATES + 1],
                "17 templates",
            ),
            (|it| it[1].clear(), "an embedding of 0 numbers, not 3"),
            (|it| it[1].push(1.0), "an embedding of 4 numbers, not 3"),
            (|it| it[1][2] = f32::NAN, "an embedding that contains NaN"),
            (
                |it| it[1].fill(0.0),
                "an embedding whose length is zero or not finite",
            ),
        ],
    );
    assert_allowed(
        || vec![vec![1.0; DIMENSION]],
        check,
        &[|it| *it = vec![vec![1.0; DIMENSION]; TEMPLATES]],
    );
}

/// Returns three probes: two with the same two candidates, and one without candidates.
fn probes() -> Vec<Probe> {
    let candidate = |id: &&str| Candidate {
        id: (*id).to_owned(),
        similarity: 0.8,
    };
    let probe = |ids: &[&str]| Probe {
        face: valid_face().face,
        candidates: ids.iter().map(candidate).collect(),
    };
    vec![
        probe(&["alice", "bob"]),
        probe(&["bob", "alice"]),
        probe(&[]),
    ]
}

fn known(candidate: u32, confidence: f32) -> Decision {
    Decision::Known(Match {
        candidate,
        confidence,
    })
}

fn unknown(code: &str) -> Decision {
    Decision::Unknown(code.to_owned())
}

fn valid_decisions() -> Vec<Decision> {
    vec![known(0, 0.8), known(0, 0.7), unknown("no_candidates")]
}

#[test]
fn invalid_decisions_name_rule() {
    let check = |raw| decisions(raw, &probes());
    assert_refused(
        valid_decisions,
        check,
        &[
            (
                |it| it.truncate(2),
                "`policy.decide` returned 2 decisions on 3 faces",
            ),
            (|it| it.push(unknown("x")), "4 decisions on 3 faces"),
            (|it| it[1] = known(2, 0.7), "candidate 2 of 2 for face 1"),
            (|it| it[2] = known(0, 0.7), "candidate 0 of 0 for face 2"),
            (
                |it| it[1] = known(1, 0.7),
                "one person for face 1 and for another",
            ),
            (
                |it| it[0] = known(0, f32::NAN),
                "a confidence of NaN for face 0, not within 0 to 1",
            ),
            (|it| it[0] = known(0, 1.01), "a confidence of 1.01"),
            (|it| it[0] = known(0, -0.01), "a confidence of -0.01"),
            (|it| it[2] = unknown(""), "a code for face 2 that is not"),
            (
                |it| it[2] = unknown("Below Threshold"),
                "a code for face 2 that is not",
            ),
            (
                |it| it[2] = unknown(&"x".repeat(65)),
                "a code for face 2 that is not",
            ),
        ],
    );
    assert_allowed(
        valid_decisions,
        check,
        &[
            |it| (it[0], it[1]) = (known(1, 0.7), known(1, 0.7)),
            |it| it[0] = known(0, 0.0),
            |it| it[0] = known(0, 1.0),
            |it| {
                it.iter_mut()
                    .for_each(|decision| *decision = unknown("below_threshold"))
            },
        ],
    );
}

#[test]
fn invalid_description_names_rule() {
    let valid = || Description {
        identity: Identity {
            name: "insightface".to_owned(),
            version: "1.0.0".to_owned(),
        },
        models: vec!["detector".to_owned(), "recognizer".to_owned()],
        contract: EmbeddingContract {
            recognizer: "recognizer".to_owned(),
            alignment: "arcface-5-point-112/1".to_owned(),
            preprocessing: "bilinear-mean-std/1".to_owned(),
        },
    };
    assert_refused(
        valid,
        description,
        &[
            (
                |it| it.identity.name.clear(),
                "`vision.describe` returned a name that is not",
            ),
            (
                |it| it.models = (0..=MODELS).map(|number| format!("m{number}")).collect(),
                "17 models; at most 16 are granted",
            ),
            (
                |it| it.models[0] = "De tector".to_owned(),
                "a model's role that is not",
            ),
            (
                |it| it.models[0] = "recognizer".to_owned(),
                "the model `recognizer` twice",
            ),
            (
                |it| it.models.truncate(1),
                "a recogniser that is not one of its models",
            ),
            (
                |it| it.contract.alignment.clear(),
                "an identifier of its contract that is not",
            ),
            (
                |it| it.contract.preprocessing = "\u{1b}[31m".to_owned(),
                "an identifier of its contract that is not",
            ),
            (
                |it| it.contract.preprocessing = "x".repeat(65),
                "an identifier of its contract that is not",
            ),
        ],
    );
}

#[test]
fn invalid_identity_names_rule() {
    const NAME: &str = "`describe` returned a name that is not";
    const VERSION: &str = "`describe` returned a version that is not";
    let valid = || Identity {
        name: "insightface".to_owned(),
        version: "1.2.3-rc.1+build".to_owned(),
    };
    assert_refused(
        valid,
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
    assert_allowed(
        valid,
        identity,
        &[
            |it| it.name = "x".repeat(64),
            |it| it.version = "1".repeat(64),
        ],
    );
}
