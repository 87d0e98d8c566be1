//! Recognition with the drawn faces' models: every path, with no weights.

use serde_json::{Value, json};

use crate::harness::{Options, Server, drawn, file, text};

const PEOPLE: [&str; 4] = ["alice", "bob", "carol", "dave"];

fn enroll(server: &Server, person: &str) {
    let photos = [1, 2, 3].map(|number| drawn(&format!("{person}-{number}.png")));
    assert_eq!(
        server.enroll(person, photos).ok()["accepted"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

/// What the maker of the drawn pictures says is in one.
fn expected(picture: &str) -> Vec<Value> {
    let all: Value = serde_json::from_slice(&drawn("expected.json")).unwrap();
    all[picture]["faces"].as_array().unwrap().clone()
}

#[test]
fn a_person_is_recognised_by_the_request_after_the_enrolment() {
    let server = Options::drawn().start();
    for person in PEOPLE {
        assert_eq!(
            server.names(drawn(&format!("{person}-probe.png"))),
            ["Unknown"],
            "before {person} is enrolled"
        );
        enroll(&server, person);
        assert_eq!(
            server.names(drawn(&format!("{person}-probe.png"))),
            [person]
        );
    }
    assert_eq!(server.names(drawn("stranger.png")), ["Unknown"]);
}

#[test]
fn a_group_is_told_apart_with_boxes_and_landmarks_in_pixels_of_the_frame() {
    let server = Options::drawn().start();
    PEOPLE.iter().for_each(|person| enroll(&server, person));
    let answer = server.recognize(drawn("group.png")).ok();
    assert_eq!(answer["frame"], json!({ "width": 1280, "height": 720 }));
    let faces = answer["recognized_faces"].as_array().unwrap();
    let expected = expected("group.png");
    assert_eq!(faces.len(), expected.len());
    let number = |value: &Value| value.as_f64().unwrap();
    for wanted in &expected {
        let name = wanted["name"].as_str().unwrap();
        let identity = if name == "stranger" { "Unknown" } else { name };
        let face = faces
            .iter()
            .find(|face| face["identity"] == identity)
            .unwrap_or_else(|| panic!("{identity} is missing: {answer}"));
        let eyes = number(&wanted["landmarks"][1][0]) - number(&wanted["landmarks"][0][0]);
        for edge in 0..4 {
            let off = (number(&face["bbox"][edge]) - number(&wanted["bbox"][edge])).abs();
            assert!(off < 0.1 * eyes, "{name}: edge {edge} is off by {off}");
        }
        for point in 0..5 {
            for axis in 0..2 {
                let off = (number(&face["landmarks"][point][axis])
                    - number(&wanted["landmarks"][point][axis]))
                .abs();
                assert!(
                    off < 0.05 * eyes,
                    "{name}: landmark {point} is off by {off}"
                );
            }
        }
    }
    let areas: Vec<f64> = faces
        .iter()
        .map(|face| {
            (number(&face["bbox"][2]) - number(&face["bbox"][0]))
                * (number(&face["bbox"][3]) - number(&face["bbox"][1]))
        })
        .collect();
    assert!(
        areas.is_sorted_by(|a, b| a >= b),
        "largest first: {areas:?}"
    );
}

#[test]
fn the_answer_has_every_field_of_the_contract_in_its_type() {
    let server = Options::drawn().start();
    enroll(&server, "alice");
    enroll(&server, "bob");
    let answer = server.form(
        "/process_frame",
        &[
            text("schedule_id", "7"),
            file("image", "frame.jpg", drawn("alice-probe.png")),
        ],
    );
    let request_id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
    let answer = answer.ok();
    let face = &answer["recognized_faces"][0];
    assert_eq!(face["identity"], "alice");
    let confidence = face["confidence"].as_str().expect("a string, as ever");
    assert_eq!(
        confidence,
        format!("{:.2}", face["similarity"].as_f64().unwrap())
    );
    assert!(face["det_score"].as_f64().unwrap() > 0.5);
    assert_eq!(face["reason"], Value::Null);
    assert_eq!(
        (
            face["bbox"].as_array().unwrap().len(),
            face["landmarks"].as_array().unwrap().len()
        ),
        (4, 5)
    );
    let candidates = face["candidates"].as_array().unwrap();
    assert_eq!(
        (
            candidates.len(),
            &candidates[0]["identity"],
            &candidates[0]["similarity"]
        ),
        (2, &json!("alice"), &face["similarity"])
    );
    assert_eq!(answer["pipeline"]["name"], "insightface");
    assert_eq!(answer["pipeline"]["digest"].as_str().unwrap().len(), 64);
    assert_eq!(answer["request_id"], request_id);
    for stage in [
        "receive",
        "queue",
        "decode",
        "letterbox",
        "copy-in",
        "detect",
        "copy-out",
        "postprocess",
        "align",
        "embed",
        "measure",
        "search",
        "decide",
        "total",
    ] {
        assert!(
            answer["timings_ms"][stage]
                .as_f64()
                .is_some_and(|ms| ms >= 0.0),
            "{stage}: {}",
            answer["timings_ms"]
        );
    }
}

#[test]
fn an_unknown_face_says_so_as_ever_and_why() {
    let server = Options::drawn().start();
    let face = |answer: &Value| answer["recognized_faces"][0].clone();
    let nobody = face(&server.recognize(drawn("stranger.png")).ok());
    assert_eq!(
        (
            &nobody["identity"],
            &nobody["confidence"],
            &nobody["similarity"]
        ),
        (&json!("Unknown"), &json!("N/A"), &Value::Null)
    );
    assert_eq!(nobody["reason"], "no_candidates");
    enroll(&server, "alice");
    let stranger = face(&server.recognize(drawn("stranger.png")).ok());
    assert_eq!(
        (
            &stranger["identity"],
            &stranger["confidence"],
            &stranger["reason"]
        ),
        (&json!("Unknown"), &json!("N/A"), &json!("below_threshold"))
    );
    assert!(
        stranger["similarity"].as_f64().unwrap() < 0.5,
        "the nearest person's"
    );
}

#[test]
fn a_frame_may_be_the_body_itself() {
    let server = Options::drawn().start();
    enroll(&server, "carol");
    for content_type in ["image/png", "image/jpeg", "image/x-anything; charset=x"] {
        let answer = server
            .post(
                "/process_frame",
                Some(content_type),
                &drawn("carol-probe.png"),
            )
            .ok();
        assert_eq!(
            answer["recognized_faces"][0]["identity"], "carol",
            "{content_type}"
        );
    }
}

#[test]
fn thresholds_of_the_operator_replace_the_packs() {
    let strict = Options::drawn()
        .arg("--similarity-threshold", "1.0")
        .start();
    enroll(&strict, "alice");
    assert_eq!(strict.names(drawn("alice-probe.png")), ["Unknown"]);
    // The detector's score of this face lies between the two.
    for (threshold, faces) in [("0.5", 1), ("0.7", 0)] {
        let server = Options::drawn()
            .arg("--detection-threshold", threshold)
            .arg("--setting", "letterbox=square")
            .start();
        assert_eq!(
            server.names(drawn("faint.png")).len(),
            faces,
            "at {threshold}"
        );
    }
}

#[test]
fn many_callers_at_a_time_are_all_answered_rightly() {
    let server = Options::drawn().start();
    PEOPLE.iter().for_each(|person| enroll(&server, person));
    std::thread::scope(|scope| {
        for person in PEOPLE.iter().cycle().take(12) {
            let server = &server;
            scope.spawn(move || {
                for _ in 0..5 {
                    assert_eq!(
                        server.names(drawn(&format!("{person}-probe.png"))),
                        [*person]
                    );
                }
            });
        }
    });
}

#[test]
fn more_callers_than_there_is_room_for_are_told_to_come_back() {
    let server = Options::drawn()
        .arg("--workers", "1")
        .arg("--queue", "0")
        .start();
    let frame = drawn("group.png");
    let answers: Vec<_> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| server.recognize(frame.clone())))
            .collect();
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap())
            .collect()
    });
    let (done, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == 200);
    assert!(
        !done.is_empty() && !refused.is_empty(),
        "{} done",
        done.len()
    );
    for answer in refused {
        answer.error(503, "overloaded");
        assert!(
            answer.headers["retry-after"]
                .to_str()
                .unwrap()
                .parse::<u32>()
                .unwrap()
                >= 1
        );
    }
    assert_eq!(
        server.recognize(drawn("empty.png")).status,
        200,
        "there is room again"
    );
}

#[test]
fn a_request_past_its_deadline_is_given_up() {
    let server = Options::drawn().arg("--deadline", "0.001").start();
    server
        .recognize(drawn("group.png"))
        .error(504, "deadline_exceeded");
}
