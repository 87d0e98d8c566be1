//! One person under two ids: the list of duplicates, and the warning at enrolment.

use std::fs;

use serde_json::{Value, json};
use ureq::http::Method;

use crate::harness::{
    Answer, BOUNDARY, Options, Server, component, drawn, file, multipart, output_of, rostro, text,
};

/// Enrols alice, bob, and alice again under another id.
fn alice_twice() -> (Server, tempfile::TempDir) {
    let state = tempfile::tempdir().unwrap();
    let server = Options::drawn().state(state.path()).start();
    for (id, photo) in [
        ("alice", "alice-1.png"),
        ("bob", "bob-1.png"),
        ("zoe", "alice-2.png"),
    ] {
        server.enroll(id, [drawn(photo)]).ok();
    }
    (server, state)
}

fn people(pairs: &Value) -> Vec<[&str; 2]> {
    pairs
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| [0, 1].map(|side| pair["people"][side].as_str().unwrap()))
        .collect()
}

/// The endpoint and the command list each pair once, also in pages. Each page is audited.
#[test]
fn duplicates_lists_each_pair_once() {
    let (server, state) = alice_twice();
    let all = server.admin_get("/v1/duplicates");
    assert_eq!(people(&all["pairs"]), [["alice", "zoe"]], "{all}");
    let similarity = all["pairs"][0]["similarity"].as_f64().unwrap();
    assert!(
        similarity > all["threshold"].as_f64().unwrap() && similarity <= 1.0,
        "{all}"
    );
    assert_eq!(
        (&all["compared"], &all["next_cursor"]),
        (&json!(3), &Value::Null)
    );
    assert!(people(&server.admin_get("/v1/duplicates?threshold=1")["pairs"]).is_empty());
    let all_pairs = server.admin_get("/v1/duplicates?threshold=-1");
    assert_eq!(
        people(&all_pairs["pairs"]),
        [["alice", "zoe"], ["alice", "bob"], ["bob", "zoe"]],
        "{all_pairs}"
    );

    // The pages join to the same list.
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server.admin_get(&format!("/v1/duplicates?threshold=-1&limit=1{cursor}"));
        pages.extend(page["pairs"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(json!(pages), all_pairs["pairs"]);
    let audit = fs::read_to_string(state.path().join("audit.jsonl")).unwrap();
    assert!(
        audit
            .matches("\"action\":\"list-duplicates\",\"outcome\":\"done\"")
            .count()
            >= 5,
        "{audit}"
    );

    // The command prints the same pairs.
    let command = |args: &[&str]| {
        let mut command = rostro();
        command.args(["people", "duplicates", "--admin", &server.admin]);
        output_of(command.args(args))
    };
    let table = command(&[]);
    assert!(
        table.lines().count() == 2
            && table.contains("alice")
            && table.contains("zoe")
            && !table.contains("bob"),
        "{table}"
    );
    let listed: Value =
        serde_json::from_str(&command(&["--json", "--threshold", "-1", "--most", "2"])).unwrap();
    assert_eq!(
        (people(&listed["pairs"]).len(), &listed["complete"]),
        (2, &json!(false)),
        "{listed}"
    );
    assert_eq!(
        people(&listed["pairs"])[0],
        ["alice", "zoe"],
        "the most similar pair is not the first"
    );
    // A deleted person is not listed.
    server.admin_delete("/v1/people/zoe").ok();
    assert!(command(&[]).contains("none of 2 people"));
}

#[test]
fn duplicates_refuses_bad_requests() {
    let (server, _state) = alice_twice();
    let ask = |path: &str| server.ask_admin(&Method::GET, path, &[], &[]);
    ask("/v1/duplicates?limit=0").error(400, "invalid_limit");
    ask("/v1/duplicates?threshold=2").error(400, "invalid_threshold");
    ask("/v1/duplicates?cursor=x").error(400, "invalid_cursor");
    ask("/v1/duplicates?treshold=1").error(400, "invalid_query");
    server
        .ask(&Method::GET, "/v1/duplicates", &[], &[])
        .error(403, "keys_required");
}

/// A reason names the similar person only to a key with the scope `manage`.
#[test]
fn only_managers_see_similar_person() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    fs::write(
        &keys,
        "desk:enrol:0123456789abcdef\noffice:enrol,manage:fedcba9876543210\n",
    )
    .unwrap();
    let server = Options::drawn().arg("--api-keys", &keys).start();
    let form = format!("multipart/form-data; boundary={BOUNDARY}");
    let enrol = |key: &str, review: &str, photo: &str| -> Answer {
        let parts = [
            text("student_id", "zoe"),
            text("review", review),
            file("images", "1.png", drawn(photo)),
        ];
        server.post_with(
            "/process-images",
            &[("content-type", &form), ("x-api-key", key)],
            &multipart(&parts),
        )
    };
    let parts = [
        text("student_id", "alice"),
        file("images", "1.png", drawn("alice-1.png")),
    ];
    server
        .post_with(
            "/process-images",
            &[("content-type", &form), ("x-api-key", "0123456789abcdef")],
            &multipart(&parts),
        )
        .ok();

    let find = |reasons: &Value| {
        let reasons = reasons.as_array().unwrap();
        reasons
            .iter()
            .find(|reason| reason["code"] == "another_person")
            .unwrap_or_else(|| panic!("{reasons:?}"))
            .clone()
    };
    for (key, named) in [("0123456789abcdef", false), ("fedcba9876543210", true)] {
        let refused = enrol(key, "strict", "alice-2.png");
        refused.error(400, "no_usable_image");
        let warned = enrol(key, "standard", "alice-2.png").ok();
        for reason in [
            find(&refused.json["details"]["rejected"][0]["reasons"]),
            find(&warned["accepted"][0]["warnings"]),
        ] {
            assert_eq!(
                reason.get("identity"),
                named.then_some(&json!("alice")),
                "{reason}"
            );
            assert_eq!(
                reason["message"].as_str().unwrap().contains("alice"),
                named,
                "{reason}"
            );
            // Numbers have at most the digits of a 32-bit float, in `details` as well.
            assert!(
                reason["limit"].to_string().len() <= 10 && reason["value"].to_string().len() <= 12,
                "{reason}"
            );
        }
    }
    assert!(!server.log().contains("alice"));
    // Without API keys no answer names the person.
    let server = Options::drawn().start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    let warned = server.enroll("zoe", [drawn("alice-2.png")]).ok();
    assert_eq!(
        find(&warned["accepted"][0]["warnings"]).get("identity"),
        None,
        "{warned}"
    );
}

/// `push` reports an existing component and does not stage it again.
#[test]
fn push_reports_existing_component() {
    let server = Options::drawn().start();
    let file = component("insightface");
    let push = |args: &[&str]| {
        let output = server
            .pipeline(&[&["push", file.to_str().unwrap()], args].concat())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let stdout = push(&[]);
    assert!(
        stdout.contains("already staged: ") && stdout.contains(": active"),
        "{stdout}"
    );
    assert!(push(&["--activate"]).contains("already staged\n"));
    let other = component("minimal");
    let output = server
        .pipeline(&["push", other.to_str().unwrap()])
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        stdout.starts_with("staged ") && !stdout.contains("already staged"),
        "{stdout}"
    );
}
