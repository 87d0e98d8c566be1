//! Readiness for operators: a service may be ready and yet recognise no person.

use rostro_evil::modes::image;
use serde_json::Value;
use ureq::http::Method;

use crate::harness::{Options, component, drawn};
use crate::revisions::{model, pack};

/// After a change of embeddings no person is known. Operators see this, and callers see the usual
/// fields.
#[test]
fn lost_gallery_reported_to_operators() {
    let [gallery, state, models] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    // The models have an additional unused field: other bytes, so another contract.
    let [detector, recognizer] = ["detector", "recognizer"]
        .map(|role| (role, [model(role), vec![0xc0, 0x3e, 0x01]].concat()));
    pack(models.path(), "other", &[detector, recognizer]);
    let start = || {
        Options::drawn()
            .gallery(gallery.path())
            .state(state.path())
            .arg("--models", models.path())
    };
    let server = start().start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    let ready = server.admin_get("/readyz");
    assert_eq!(ready["status"], "ready", "{ready}");
    assert_eq!(ready["known"], 1, "{ready}");
    assert_eq!(ready["needs_enrolment"], 0, "{ready}");
    assert_eq!(
        (&ready["stuck"], &ready["failures_in_a_row"]),
        (&0.into(), &0.into()),
        "{ready}"
    );
    assert!(!server.log().contains("nobody is recognised"));
    assert_eq!(server.admin_get("/healthz")["status"], "ok");
    drop(server);

    // A restart with another pack.
    let server = start().pack("other").start();
    let ready = server.admin_get("/readyz");
    assert_eq!(
        (&ready["known"], &ready["needs_enrolment"]),
        (&0.into(), &1.into()),
        "{ready}"
    );
    let log = server.log();
    let line = log
        .lines()
        .find(|line| line.contains("nobody is recognised"))
        .unwrap_or_else(|| panic!("{log}"));
    assert!(
        line.contains("ERROR")
            && line.contains("rostro pipeline rollback")
            && !line.contains("alice"),
        "{line}"
    );
    let public = server.ask(&Method::GET, "/readyz", &[], &[]).ok();
    let fields: Vec<&String> = public.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["status", "pipeline"], "{public}");
}

/// A revision that fails every request and has no replacement is reported.
#[test]
fn stuck_revision_reported_to_operators() {
    let server = Options::drawn()
        .pipeline(component("evil"))
        .arg("--breaker", "2")
        .start();
    for _ in 0..4 {
        assert_eq!(server.recognize(image("unreachable", b"")).status, 500);
    }
    let ready = server.admin_get("/readyz");
    assert_eq!(
        (&ready["stuck"], &ready["failures_in_a_row"]),
        (&2.into(), &4.into()),
        "{ready}"
    );
}

/// The readiness of the admin interface needs a token, too.
#[test]
fn operator_readiness_needs_token() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "alice:0123456789abcdef\n").unwrap();
    let server = Options::drawn().arg("--admin-token-file", &file).start();
    let ask = |headers: &[(&str, &str)]| server.ask_admin(&Method::GET, "/readyz", &[], headers);
    ask(&[]).error(401, "unauthorized");
    let answer = ask(&[("authorization", "Bearer 0123456789abcdef")]);
    assert!(
        server.log_of(&answer).contains("who=\"alice\""),
        "{}",
        server.log()
    );
    assert!(matches!(answer.ok()["known"], Value::Number(_)));
}
