//! The circuit breaker's share rule, for failures that are never in a row.

use ureq::http::Method;

use crate::faults::with_white;
use crate::harness::{Options, Server, component, drawn, eventually};
use crate::operator::{bytes, metrics};
use crate::revisions::{model, pack};

const ONE: (&str, &str) = ("x-api-key", "camera-one-0123456789");
const TWO: (&str, &str) = ("x-api-key", "camera-two-0123456789");

/// Starts a server and stages a revision that fails on pictures with a white patch. The returned
/// folders must outlive the server.
fn with_failing(keys: bool) -> (Server, [tempfile::TempDir; 2], String) {
    let [models, state] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let mut options = Options::drawn();
    if keys {
        let file = models.path().join("keys");
        std::fs::write(
            &file,
            format!("one:recognise:{}\ntwo:recognise:{}\n", ONE.1, TWO.1),
        )
        .unwrap();
        options = options.arg("--api-keys", file);
    }
    with_failing_at(options, [models, state])
}

fn with_failing_at(
    options: Options,
    [models, state]: [tempfile::TempDir; 2],
) -> (Server, [tempfile::TempDir; 2], String) {
    pack(
        models.path(),
        "failing",
        &[
            ("detector", model("failing-detector")),
            ("recognizer", model("recognizer")),
        ],
    );
    let server = options
        .arg("--models", models.path())
        .state(state.path())
        .start();
    let failing = server.staged(&bytes(component("insightface")), "pack=failing");
    (server, [models, state], failing)
}

/// Sends nine frames that fail and one that succeeds; returns the statuses.
fn nine_and_one(server: &Server, headers: &[(&str, &str)]) -> Vec<u16> {
    let headers = [headers, &[("content-type", "image/png")]].concat();
    let frames =
        std::iter::repeat_n(with_white("alice-probe.png"), 9).chain([drawn("alice-probe.png")]);
    frames
        .map(|frame| {
            server
                .ask(&Method::POST, "/process_frame", &frame, &headers)
                .status
        })
        .collect()
}

#[test]
fn breaker_trips_by_share() {
    let (server, [_, state], failing) = with_failing(false);
    let sound = server.active();
    server.activate(&failing);
    for _ in 0..2 {
        assert_eq!(
            nine_and_one(&server, &[]),
            [vec![500; 9], vec![200]].concat()
        );
        assert_eq!(server.active(), failing);
    }
    // The next failure is counted among more than twenty requests.
    assert_eq!(nine_and_one(&server, &[])[..2], [500, 200]);
    assert_eq!(
        (server.active(), server.state(&failing)),
        (sound, "failed".to_owned())
    );
    let audit = std::fs::read_to_string(state.path().join("audit.jsonl")).unwrap();
    let line = audit
        .lines()
        .find(|line| line.contains("\"action\":\"break\""))
        .unwrap();
    assert!(
        line.contains(
            "taken out after 19 failures in 21 requests within 60 s, more than half, the last: "
        ),
        "{line}"
    );
    let exported = metrics(&server);
    for line in [
        "rostro_revisions_broken_total 1",
        "rostro_breaker_trips_total{rule=\"share\",outcome=\"broken\"} 1",
        "rostro_breaker_trips_total{rule=\"in_a_row\",outcome=\"broken\"} 0",
    ] {
        assert!(
            exported.lines().any(|known| known == line),
            "`{line}` is not in {exported}"
        );
    }
    assert_eq!(server.admin_get("/v1/revisions")["trips"]["share"], 1);
}

#[test]
fn large_breaker_disables_share_rule() {
    let [models, state] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let (server, _folders, failing) =
        with_failing_at(Options::drawn().arg("--breaker", "10000"), [models, state]);
    server.activate(&failing);
    for _ in 0..3 {
        nine_and_one(&server, &[]);
    }
    assert_eq!(server.active(), failing);
}

#[test]
fn one_failing_client_trips_nothing() {
    let (server, _folders, failing) = with_failing(true);
    server
        .admin_post(&format!("/v1/revisions/{failing}/canary?share=0"))
        .ok();
    // Another client uses the service, but not the canary.
    server
        .ask(
            &Method::POST,
            "/process_frame",
            &drawn("alice-probe.png"),
            &[TWO, ("content-type", "image/png")],
        )
        .ok();
    let canary = ("x-rostro-canary", "always");
    for _ in 0..4 {
        assert_eq!(
            nine_and_one(&server, &[ONE, canary]),
            [vec![500; 9], vec![200]].concat()
        );
    }
    assert_eq!(server.state(&failing), "canary");
    // The canary fails for the second client, too.
    nine_and_one(&server, &[TWO, canary]);
    eventually("the breaker", || server.state(&failing) == "failed");
}
