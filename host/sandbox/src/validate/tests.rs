//! Each rule, with values that break it and values at its edge.

use super::*;
use crate::bindings::{Candidate, Match, Measure, Point};

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

fn valid_face() -> RawFace {
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
    RawFace {
        face,
        track: None,
        embedding: vec![1.0, -2.0, 3.0],
    }
}

fn valid_analysis() -> RawAnalysis {
    RawAnalysis {
        width: 64,
        height: 48,
        faces: vec![valid_face(), valid_face()],
        state: None,
    }
}

fn recognized(raw: RawAnalysis) -> Result<Analysis, InvalidOutput> {
    analysis(raw, DIMENSION, Purpose::Recognize, None)
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
            let face = RawFace {
                embedding: embedding.to_vec(),
                ..valid_face()
            };
            analysis(
                RawAnalysis {
                    faces: vec![face],
                    ..valid_analysis()
                },
                DIMENSION,
                purpose,
                None,
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

/// Returns an analysis of a frame of a stream in which track 7 has an embedding.
fn tracked(raw: RawAnalysis) -> Result<Analysis, InvalidOutput> {
    let mut memory = StreamMemory::default();
    memory.record([(7, [3.0, 2.0, 1.0].as_slice())].into_iter());
    analysis(raw, DIMENSION, Purpose::Recognize, Some(&memory))
}

fn on_track(track: u32, embedding: Vec<f32>) -> RawFace {
    RawFace {
        track: Some(track),
        embedding,
        ..valid_face()
    }
}

#[test]
fn invalid_tracks_name_rule() {
    let valid = || RawAnalysis {
        faces: vec![on_track(7, Vec::new()), on_track(8, vec![1.0; DIMENSION])],
        ..valid_analysis()
    };
    assert_refused(
        valid,
        tracked,
        &[
            (
                |it| it.faces[0].track = Some(9),
                "face 0 on track 9 without an embedding, which no earlier frame of this stream has",
            ),
            (
                |it| it.faces[0].track = Some(8),
                "face 1 with track 8 of another face",
            ),
            (
                |it| it.faces[0].track = None,
                "face 0 with an embedding of 0 numbers, not 3",
            ),
            (
                |it| it.faces[1].embedding[0] = f32::NAN,
                "face 1 with an embedding that contains NaN",
            ),
        ],
    );
    let outside = recognized(valid()).unwrap_err().to_string();
    assert!(outside.contains("track 7 outside a stream"), "{outside}");
}

#[test]
fn track_keeps_last_embedding() {
    let raw = RawAnalysis {
        faces: vec![on_track(7, Vec::new()), on_track(8, vec![1.0; DIMENSION])],
        ..valid_analysis()
    };
    let analysis = tracked(raw).unwrap();
    let [known, new] = analysis.faces.as_slice() else {
        panic!("{analysis:?}");
    };
    assert_eq!(
        (known.is_fresh, known.embedding.as_slice()),
        (false, [3.0, 2.0, 1.0].as_slice())
    );
    assert_eq!((new.is_fresh, new.embedding.len()), (true, DIMENSION));
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
                "`review` returned face 1, which vision gave no embedding",
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
                "`template` returned 0 templates; 1 to 16 are taken",
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
        track: None,
        is_fresh: true,
        candidates: ids.iter().map(candidate).collect(),
    };
    vec![
        probe(&["alice", "bob"]),
        probe(&["bob", "alice"]),
        probe(&[]),
    ]
}

fn ruling(decision: Decision) -> Ruling {
    Ruling {
        decision,
        candidates: Vec::new(),
    }
}

fn known(candidate: u32, confidence: f32) -> Ruling {
    ruling(Decision::Known(Match {
        candidate,
        confidence,
    }))
}

fn unknown(code: &str) -> Ruling {
    ruling(Decision::Unknown(code.to_owned()))
}

fn valid_decisions() -> Outcome {
    Outcome {
        rulings: vec![known(0, 0.8), known(0, 0.7), unknown("no_candidates")],
        events: vec![Event {
            code: "spoof".to_owned(),
            face: Some(2),
            value: Some(0.5),
            message: "The face is flat.".to_owned(),
        }],
        state: None,
    }
}

#[test]
fn invalid_decisions_name_rule() {
    assert_refused(
        valid_decisions,
        |raw| decisions(raw, &probes()),
        &[
            (
                |it| it.rulings.truncate(2),
                "`decide` returned 2 decisions on 3 faces",
            ),
            (|it| it.rulings.push(unknown("x")), "4 decisions on 3 faces"),
            (
                |it| it.rulings[1] = known(2, 0.7),
                "candidate 2 of 2 for face 1",
            ),
            (
                |it| it.rulings[2] = known(0, 0.7),
                "candidate 0 of 0 for face 2",
            ),
            (
                |it| it.rulings[1] = known(1, 0.7),
                "one person for face 1 and for another",
            ),
            (
                |it| it.rulings[0] = known(0, f32::NAN),
                "a confidence of NaN, not within 0 to 1, for face 0",
            ),
            (|it| it.rulings[0] = known(0, 1.01), "a confidence of 1.01"),
            (
                |it| it.rulings[0] = known(0, -0.01),
                "a confidence of -0.01",
            ),
            (
                |it| it.rulings[2] = unknown(""),
                "a code that is not 1 to 64 lower-case letters, digits and `_` for face 2",
            ),
            (
                |it| it.rulings[2] = unknown("Below Threshold"),
                "a code that is not",
            ),
            (
                |it| it.rulings[2] = unknown(&"x".repeat(65)),
                "a code that is not",
            ),
            (
                |it| it.rulings[0].candidates = vec![0, 2],
                "candidate 2 of 2 to show for face 0",
            ),
            (
                |it| it.rulings[0].candidates = vec![1, 1],
                "candidate 1 to show twice for face 0",
            ),
        ],
    );
}

#[test]
fn invalid_events_name_rule() {
    assert_refused(
        valid_decisions,
        |raw| decisions(raw, &probes()),
        &[
            (
                |it| it.events = vec![it.events[0].clone(); EVENTS + 1],
                "65 events; at most 64 are taken",
            ),
            (
                |it| it.events[0].code = "Not a code".to_owned(),
                "an event whose code is not",
            ),
            (
                |it| it.events[0].face = Some(3),
                "the event `spoof` on face 3 of 3",
            ),
            (
                |it| it.events[0].value = Some(f32::NAN),
                "the event `spoof` with a number that is not finite",
            ),
            (
                |it| it.events[0].message = "x".repeat(EVENT_MESSAGE + 1),
                "a message that is not one line of at most 300 characters",
            ),
            (
                |it| it.events[0].message = "two\nlines".to_owned(),
                "a message that is not one line",
            ),
        ],
    );
}

#[test]
fn decisions_at_limits_are_allowed() {
    assert_allowed(
        valid_decisions,
        |raw| decisions(raw, &probes()),
        &[
            |it| (it.rulings[0], it.rulings[1]) = (known(1, 0.7), known(1, 0.7)),
            |it| it.rulings[0] = known(0, 0.0),
            |it| it.rulings[0] = known(0, 1.0),
            |it| {
                it.rulings
                    .iter_mut()
                    .for_each(|ruling| *ruling = unknown("below_threshold"))
            },
            |it| it.rulings[0].candidates = vec![1, 0],
            |it| it.events.clear(),
            |it| it.events[0].face = None,
        ],
    );
}
