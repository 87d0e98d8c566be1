//! Reports of a component: warnings, raw samples and refused settings.

use rostro_evil::modes::{REPORTS, image};
use serde_json::{Value, json};

use crate::harness::{Options, Server, component, drawn};

/// Starts a server with the component that misbehaves on demand.
fn server() -> Server {
    Options::drawn()
        .pipeline(component("evil"))
        .arg("--breaker", "1000000")
        .arg("--review", "off")
        .start()
}

fn report(name: &str) -> Vec<u8> {
    assert!(REPORTS.iter().any(|(known, _)| *known == name), "{name}");
    image(name, b"")
}

/// Every answer about pictures has the warnings of the guest, or an empty list.
#[test]
fn warnings_reach_every_answer() {
    let server = server();
    let wanted = json!([{"code": "odd", "message": "This is [31m odd."}]);
    assert_eq!(server.recognize(report("warning")).ok()["warnings"], wanted);
    for path in ["/v1/detect", "/v1/embeddings"] {
        assert_eq!(
            server
                .post_with(path, &[("content-type", "image/png")], &report("warning"))
                .ok()["warnings"],
            wanted,
            "{path}"
        );
        assert_eq!(
            server
                .post_with(path, &[("content-type", "image/png")], &drawn("empty.png"))
                .ok()["warnings"],
            json!([]),
            "{path}"
        );
    }
    let enrolled = server
        .enroll(
            "alice",
            [report("warning"), drawn("empty.png"), report("warning")],
        )
        .ok();
    assert_eq!(enrolled["warnings"], wanted);
    // Warnings of a photo also have a value and a limit.
    let of_photo =
        json!([{"code": "odd", "message": "This is [31m odd.", "value": null, "limit": null}]);
    assert_eq!(
        [
            &enrolled["accepted"][0]["warnings"],
            &enrolled["accepted"][1]["warnings"]
        ],
        [&of_photo, &json!([])]
    );
}

/// The number and length of warnings are limited, so the answer stays small.
#[test]
fn warnings_are_bounded() {
    let server = server();
    let answer = server.recognize(report("warnings-flood")).ok();
    let warnings = answer["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 8);
    for warning in warnings {
        let message = warning["message"].as_str().unwrap();
        assert!(
            message.chars().count() <= 300 && !message.chars().any(char::is_control),
            "{message:?}"
        );
    }
}

/// Raw samples that break a rule reject only their photo.
#[test]
fn bad_raw_samples_reject_photo() {
    let server = server();
    for name in ["raw-index", "raw-nan", "raw-many"] {
        let refused = server.enroll("alice", [report(name)]);
        let code = refused.json["details"]["rejected"][0]["reasons"][0]["code"].clone();
        refused.error(400, "no_usable_image");
        assert_eq!(code, Value::from("pipeline_failed"), "{name}");
        // Recognition ignores raw samples.
        server.recognize(report(name)).ok();
    }
    server.enroll("alice", [report("raw")]).ok();
}

/// A failure after a refused setting is logged as a bad setting. A refusal alone changes nothing.
#[test]
fn refused_setting_explains_failure() {
    let server = server();
    let answer = server.recognize(report("setting-refused"));
    let log = server.log_of(&answer);
    assert!(
        log.contains("the setting evil [31m is refused: no value is good enough"),
        "{log}"
    );
    assert!(!log.contains("model failed") && log.len() < 4096, "{log}");
    answer.error(500, "pipeline_failed");
    server.recognize(report("setting-complained")).ok();
    let error = Options::drawn()
        .pipeline(component("evil"))
        .arg("--setting", "evil-always=setting-refused")
        .refuse();
    assert!(
        error.contains("the setting evil [31m is refused")
            && error.contains("correct it in --setting"),
        "{error}"
    );
}
