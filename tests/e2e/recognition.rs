//! Recognition with the models of the drawn faces, which need no weights.

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

/// Returns the faces in a drawn picture, as its generator recorded them.
fn expected(picture: &str) -> Vec<Value> {
    let all: Value = serde_json::from_slice(&drawn("expected.json")).unwrap();
    all[picture]["faces"].as_array().unwrap().clone()
}

/// The first request after an enrolment recognises the person.
#[test]
fn enrolment_is_effective_immediately() {
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

/// Every face of a group has its identity, and its box and landmarks in pixels of the frame.
#[test]
fn group_picture_locates_each_face() {
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
fn answer_has_documented_fields() {
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
    let confidence = face["confidence"].as_str().expect("a string");
    assert_eq!(
        confidence,
        format!("{:.2}", face["similarity"].as_f64().unwrap())
    );
    assert!(face["det_score"].as_f64().unwrap() > 0.5);
    assert_eq!(face["reason"], Value::Null);
    assert_eq!(face["bbox"].as_array().unwrap().len(), 4);
    assert_eq!(face["landmarks"].as_array().unwrap().len(), 5);
    let candidates = face["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 2);
    assert_eq!(candidates[0]["identity"], "alice");
    assert_eq!(candidates[0]["similarity"], face["similarity"]);
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
fn unknown_face_reports_reason() {
    let server = Options::drawn().start();
    let face = |answer: &Value| answer["recognized_faces"][0].clone();
    // An empty gallery.
    let stranger = face(&server.recognize(drawn("stranger.png")).ok());
    assert_eq!(stranger["identity"], "Unknown");
    assert_eq!(stranger["confidence"], "N/A");
    assert_eq!(stranger["similarity"], Value::Null);
    assert_eq!(stranger["reason"], "no_candidates");
    // A gallery with another person.
    enroll(&server, "alice");
    let stranger = face(&server.recognize(drawn("stranger.png")).ok());
    assert_eq!(stranger["identity"], "Unknown");
    assert_eq!(stranger["confidence"], "N/A");
    assert_eq!(stranger["reason"], "below_threshold");
    assert!(
        stranger["similarity"].as_f64().unwrap() < 0.5,
        "the similarity of the nearest person"
    );
}

#[test]
fn frame_is_accepted_as_body() {
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
fn operator_thresholds_override_pack() {
    let strict = Options::drawn()
        .arg("--similarity-threshold", "1.0")
        .start();
    enroll(&strict, "alice");
    assert_eq!(strict.names(drawn("alice-probe.png")), ["Unknown"]);
    // The detector's score of this face lies between the two thresholds.
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
fn concurrent_callers_get_right_answers() {
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
fn excess_callers_get_retry_after() {
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
        "there is capacity again"
    );
}

#[test]
fn expired_deadline_returns_504() {
    let server = Options::drawn().arg("--deadline", "0.001").start();
    server
        .recognize(drawn("group.png"))
        .error(504, "deadline_exceeded");
}
