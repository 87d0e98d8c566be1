//! Limits on callers and settings: body memory, slow bodies, fields, ids and invalid settings.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{Options, Server, component, drawn, file, part, rostro, text};
use crate::operator::bytes;

/// Starts posting an image of `announced` bytes and sends `sent` of them.
fn begin(server: &Server, announced: usize, sent: usize) -> TcpStream {
    let mut connection = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let head = format!(
        "POST /process_frame HTTP/1.1\r\nhost: rostro\r\ncontent-type: image/jpeg\r\ncontent-length: {announced}\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(&vec![0; sent]).unwrap();
    connection
}

fn status(mut connection: TcpStream) -> String {
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[9..]).into_owned()
}

#[test]
fn missing_body_times_out() {
    let server = Options::drawn().arg("--deadline", "1").start();
    let begun = Instant::now();
    assert_eq!(status(begin(&server, 1000, 10)), "408");
    assert!(
        begun.elapsed() >= Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );
    server.recognize(drawn("empty.png")).ok();
}

#[test]
fn total_body_memory_is_limited() {
    let server = Options::drawn()
        .arg("--max-body-mib", "1")
        .arg("--max-bodies-mib", "1")
        .start();
    let large = || server.post("/process_frame", Some("image/jpeg"), &[0; 300_000]);
    // A body counts once the server has read it. A request before that may still find room.
    let (half_sent, refused) = (1..10)
        .find_map(|attempt| {
            let half_sent = [
                begin(&server, 1_000_000, 900_000),
                begin(&server, 1_000_000, 900_000),
            ];
            std::thread::sleep(Duration::from_millis(100 * attempt));
            Some((half_sent, large())).filter(|(_, answer)| answer.status == 503)
        })
        .expect("a request is refused");
    refused.error(503, "overloaded");
    assert_eq!(refused.headers["retry-after"], "1");
    drop(half_sent);
    let done = (0..100)
        .map(|_| large())
        .find(|answer| answer.status != 503)
        .expect("a request finds room again");
    done.error(400, "undecodable_image");
    // A form may use the whole limit of one body.
    server
        .form(
            "/process_frame",
            &[file("image", "a.jpg", vec![0; 1_000_000])],
        )
        .error(400, "undecodable_image");
}

#[test]
fn unknown_fields_are_skipped() {
    let server = Options::drawn().start();
    let long = "x".repeat(1 << 20);
    let parts = [
        text("notes", &long),
        file("attachment", "a.bin", vec![0; 1 << 20]),
        file("image", "frame.png", drawn("empty.png")),
    ];
    server.form("/process_frame", &parts).ok();
    // A known field has a length limit.
    let parts = [
        text("student_id", &long),
        file("images", "a.png", drawn("alice-1.png")),
    ];
    server
        .form("/process-images", &parts)
        .error(400, "field_too_long");
}

#[test]
fn id_unknown_is_reserved() {
    let server = Options::drawn().start();
    for id in ["Unknown", "unknown", "UNKNOWN", " unknown "] {
        let message = server
            .enroll(id, [drawn("alice-1.png")])
            .error(400, "invalid_student_id");
        assert!(
            message.contains("is reserved for unrecognised faces"),
            "{message}"
        );
    }
    server.enroll("unknown person", [drawn("alice-1.png")]).ok();
}

#[test]
fn invalid_setting_stops_start() {
    for (setting, words) in [
        (
            "letterbox=sqare",
            "the setting letterbox is `sqare`; it must be `frame` or `square`",
        ),
        (
            "detector-size=100",
            "the setting detector-size is `100`; it must be `auto` or a multiple of 32 from 32 to 2048",
        ),
        (
            "rivals=maybe",
            "the setting rivals is `maybe`; it must be `on` or `off`",
        ),
    ] {
        let error = Options::drawn().arg("--setting", setting).refuse();
        assert!(
            error.contains("cannot stage the pipeline") && error.contains(words),
            "{error}"
        );
    }
}

/// A key that no component of the pipeline knows stops the start. The error names the nearest key.
#[test]
fn misspelt_setting_stops_start() {
    for (setting, words) in [
        (
            "leterbox=square",
            "does not know the setting `leterbox` (did you mean `letterbox`?)",
        ),
        (
            "Detector_Size=640",
            "`Detector_Size` (did you mean `detector-size`?)",
        ),
        (
            "nonsense=1",
            "the setting `nonsense`; it knows `closeness`, `detector-size`, `letterbox`, `rivals`",
        ),
    ] {
        let error = Options::drawn().arg("--setting", setting).refuse();
        assert!(
            error.contains("cannot stage the pipeline") && error.contains(words),
            "{error}"
        );
        assert!(error.contains("--unknown-settings warn"), "{error}");
    }
    // A separate policy adds its own settings to those of the vision component.
    let policy = || Options::drawn().arg("--policy", component("attendance-policy"));
    policy()
        .arg("--setting", "margin=0.1")
        .arg("--setting", "letterbox=frame")
        .start();
    let error = policy().arg("--setting", "rival=on").refuse();
    assert!(
        error.contains("the setting `rival` (did you mean `rivals`?)")
            && error.contains("`margin`, `rivals`, `small-face`"),
        "{error}"
    );
    let error = policy().arg("--setting", "margin=wide").refuse();
    assert!(
        error.contains("the setting margin is `wide`; it must be a number"),
        "{error}"
    );
    // A component for an earlier interface need not declare its settings in `describe`.
    Options::drawn()
        .pipeline(component("compat-0.1.0"))
        .arg("--setting", "similarity=0.3")
        .arg("--setting", "rio=1")
        .start();
}

/// The revision, `pipeline list` and `pipeline check` report unknown settings.
#[test]
fn unknown_settings_are_reported() {
    let server = Options::drawn().arg("--setting", "rivals=on").start();
    let id = server.staged(&bytes(component("minimal")), "");
    let revision = server.admin_get(&format!("/v1/revisions/{id}"));
    assert_eq!(
        revision["unknown_settings"],
        serde_json::json!([{"key": "rivals", "nearest": null}]),
        "{revision}"
    );
    let active = server.admin_get(&format!("/v1/revisions/{}", server.active()));
    assert_eq!(
        active["unknown_settings"],
        serde_json::json!([]),
        "{active}"
    );
    let listed = String::from_utf8(server.pipeline(&["list"]).output().unwrap().stdout).unwrap();
    assert!(
        listed.contains("does not know the setting `rivals`"),
        "{listed}"
    );

    let file = component("insightface");
    let checked = rostro()
        .args([
            "pipeline",
            "check",
            "--no-self-test",
            "--pack",
            "testing",
            "--setting",
            "rival=on",
        ])
        .arg(&file)
        .output()
        .unwrap();
    let stdout = String::from_utf8(checked.stdout).unwrap();
    assert!(
        checked.status.success()
            && stdout.contains("  setting    rivals=on: `on` or `off`; Requires more similarity"),
        "{stdout}"
    );
    assert!(
        stdout.contains(
            "  unknown    it does not know the setting `rival` (did you mean `rivals`?)\n"
        ),
        "{stdout}"
    );
}

#[test]
fn extreme_settings_still_serve() {
    let server = Options::drawn()
        .arg("--detection-threshold", "0")
        .arg("--setting", "detector-size=2048")
        .start();
    let answer = server.recognize(drawn("group.png")).ok();
    let faces = answer["recognized_faces"].as_array().unwrap().len();
    assert!((5..=1024).contains(&faces), "{faces}");
}

#[test]
fn encoded_file_names_are_accepted() {
    let server = Options::drawn().start();
    for name in [
        b"filename*=utf-8''%C3%A4.png".as_slice(),
        b"filename=\"\xe4.png\"",
    ] {
        let disposition = [b"form-data; name=\"image\"; ", name].concat();
        server
            .form("/process_frame", &[part(disposition, drawn("empty.png"))])
            .ok();
    }
}
