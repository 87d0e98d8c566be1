//! The circuit breaker's share rule, for failures that are never in a row.

use std::path::Path;

use ureq::http::Method;

use crate::database::{migrated, on};
use crate::faults::with_white;
use crate::harness::{Options, Server, component, drawn, eventually};
use crate::nodes::list;
use crate::operator::{bytes, metrics};
use crate::postgres::OwnDatabase;
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

/// Installs a pack with a detector that fails on pictures with a white patch.
fn failing_pack(models: &Path) {
    pack(
        models,
        "failing",
        &[
            ("detector", model("failing-detector")),
            ("recognizer", model("recognizer")),
        ],
    );
}

fn with_failing_at(
    options: Options,
    [models, state]: [tempfile::TempDir; 2],
) -> (Server, [tempfile::TempDir; 2], String) {
    failing_pack(models.path());
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

/// Two nodes of a database on which the failing revision is active; returns the one before as well.
fn nodes_with_failing(models: &Path, breaker: &str) -> ([Server; 2], String, OwnDatabase) {
    failing_pack(models);
    let database = migrated();
    let node = |name: &str| {
        let options = on(&database).arg("--node", name);
        let options = options.arg("--models", models).arg("--breaker", breaker);
        options.start()
    };
    let nodes = ["one", "two"].map(node);
    let sound = nodes[0].active();
    let failing = nodes[0].staged(&bytes(component("insightface")), "pack=failing");
    eventually("both nodes stage it", || {
        nodes.iter().all(|node| node.state(&failing) == "staged")
            && nodes[0]
                .pipeline(&["activate", &failing])
                .status()
                .unwrap()
                .success()
    });
    (nodes, sound, database)
}

fn is_ready(node: &Server) -> bool {
    node.ask(&Method::GET, "/readyz", &[], &[]).status == 200
}

/// A node on which requests fail leaves them to the other. If the other one fails as well, the
/// revision goes out for both.
#[test]
fn second_node_trips_for_all() {
    let models = tempfile::tempdir().unwrap();
    let (nodes, sound, database) = nodes_with_failing(models.path(), "3");
    let [one, two] = &nodes;
    let fail = |node: &Server| {
        for _ in 0..3 {
            assert_eq!(node.recognize(with_white("alice-probe.png")).status, 500);
        }
    };
    for _ in 0..30 {
        assert_eq!(two.recognize(drawn("alice-probe.png")).status, 200);
    }
    fail(one);
    for path in [&one.url, &one.admin] {
        let response = ureq::get(format!("{path}/readyz"))
            .config()
            .http_status_as_error(false)
            .build()
            .call()
            .unwrap();
        assert_eq!(response.status(), 503);
    }
    one.ask(&Method::GET, "/readyz", &[], &[])
        .error(503, "breaker_tripped");
    assert!(is_ready(two) && one.active() != sound);
    assert_eq!(one.recognize(drawn("alice-probe.png")).status, 200);
    let local = "rostro_breaker_trips_total{rule=\"in_a_row\",outcome=\"local\"} 1";
    assert!(metrics(one).contains(local), "{}", metrics(one));
    eventually("the list shows it", || {
        let list = list(&database);
        list["nodes"][0]["ready"] == false && list["nodes"][1]["ready"] == true
    });
    fail(two);
    eventually("the sound revision serves", || {
        nodes
            .iter()
            .all(|node| node.active() == sound && is_ready(node))
    });
}

/// Failures that are too few on each node are enough on all together.
#[test]
fn summed_share_trips_for_all() {
    let models = tempfile::tempdir().unwrap();
    let (nodes, sound, _database) = nodes_with_failing(models.path(), "10");
    for node in &nodes {
        let expected = [vec![500; 9], vec![200]].concat();
        assert_eq!(nine_and_one(node, &[]), expected);
    }
    eventually("the sound revision serves", || {
        nodes
            .iter()
            .all(|node| node.active() == sound && is_ready(node))
    });
}
