//! The audit log of a running service and the command that searches it.

use std::fs;
use std::path::Path;

use serde_json::Value;
use ureq::http::Method;

use crate::harness::{BOUNDARY, Options, Server, drawn, file, multipart, output_of, rostro, text};
use crate::operator::metrics;

fn lines(log: &Path) -> Vec<Value> {
    fs::read_to_string(log)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Returns the lines that `rostro audit --person` finds.
fn audit_of(state: &Path, person: &str) -> Vec<Value> {
    let mut command = rostro();
    command
        .args(["audit", "--json", "--person", person, "--state"])
        .arg(state);
    serde_json::from_str(&output_of(&mut command)).unwrap()
}

fn actions(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["action"].as_str().unwrap())
        .collect()
}

fn admin_status(server: &Server, method: &Method, path: &str) -> u16 {
    server.ask_admin(method, path, &[], &[]).status
}

/// `rostro audit` finds all lines of a person across rotated files. No line contains an id.
#[test]
fn audit_finds_person_across_rotation() {
    let state = tempfile::tempdir().unwrap();
    let server = Options::drawn().state(state.path()).start();
    let log = state.path().join("audit.jsonl");
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    server.enroll("bob", [drawn("bob-1.png")]).ok();
    assert_eq!(
        admin_status(&server, &Method::PUT, "/v1/groups/maths/people/alice"),
        200
    );
    let archive = {
        let mut response = ureq::get(format!("{}/v1/gallery", server.admin))
            .call()
            .unwrap();
        response.body_mut().read_to_vec().unwrap()
    };
    fs::rename(&log, state.path().join("audit.jsonl.1")).unwrap();
    assert_eq!(
        admin_status(&server, &Method::GET, "/v1/people/alice/embedding"),
        200
    );
    assert_eq!(
        admin_status(&server, &Method::GET, "/v1/people/nobody/embedding"),
        404
    );
    assert_eq!(
        admin_status(&server, &Method::DELETE, "/v1/groups/maths/people/alice"),
        200
    );
    let photos = multipart(&[file("images", "1.png", drawn("alice-2.png"))]);
    server
        .post(
            "/v1/people/alice/photos",
            Some(&format!("multipart/form-data; boundary={BOUNDARY}")),
            &photos,
        )
        .ok();
    server
        .ask_admin(
            &Method::POST,
            "/v1/gallery",
            &archive,
            &[("content-type", "application/zip")],
        )
        .ok();
    assert_eq!(
        admin_status(&server, &Method::DELETE, "/v1/people/alice"),
        200
    );

    let of_alice = audit_of(state.path(), "alice");
    let expected = [
        "enrol",
        "add-to-group",
        "read-embedding",
        "remove-from-group",
        "add-photos",
        "import-person",
        "add-to-group",
        "delete-person",
    ];
    assert_eq!(actions(&of_alice), expected);
    assert_eq!(
        actions(&audit_of(state.path(), "bob")),
        ["enrol", "import-person"]
    );
    assert_eq!(audit_of(state.path(), "nobody")[0]["outcome"], "refused");
    assert!(audit_of(state.path(), "carol").is_empty());
    for file in ["audit.jsonl", "audit.jsonl.1"] {
        let text = fs::read_to_string(state.path().join(file)).unwrap();
        assert!(!text.contains("alice") && !text.contains("bob"), "{text}");
    }
    let table = rostro()
        .args(["audit", "--person", "alice", "--state"])
        .arg(state.path())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(table.stdout).unwrap().lines().count(),
        1 + expected.len()
    );
}

#[test]
fn audit_line_has_request_uuid() {
    let state = tempfile::tempdir().unwrap();
    let server = Options::drawn().state(state.path()).start();
    let log = state.path().join("audit.jsonl");
    let enrol = |id: &str| {
        let form = multipart(&[
            text("student_id", "alice"),
            file("images", "1.png", drawn("alice-1.png")),
        ]);
        let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
        server.post_with(
            "/process-images",
            &[("content-type", &content_type), ("x-request-id", id)],
            &form,
        )
    };
    let uuid = "0198c5a2-0000-7000-8000-00000000000a";
    enrol(uuid).ok();
    assert_eq!(lines(&log).pop().unwrap()["request"], uuid);
    let named = enrol("enrolment-of-alice");
    let own = lines(&log).pop().unwrap()["request"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(own.len() == 36 && own != uuid, "{own}");
    // The service log has both ids, so an audit line leads to its request.
    assert!(server.log_of(&named).contains(&own), "{}", server.log());
    assert!(
        lines(&log)
            .iter()
            .filter(|line| line["who"] != "rostro")
            .all(|line| line["request"].is_string())
    );
}

/// The audit log survives a moved or removed file, with or without SIGHUP. Lost lines are counted.
#[test]
fn log_reopens_after_rotation() {
    let state = tempfile::tempdir().unwrap();
    let server = Options::drawn().state(state.path()).start();
    let log = state.path().join("audit.jsonl");
    let delete = || {
        assert_eq!(
            admin_status(&server, &Method::DELETE, "/v1/people/nobody"),
            200
        )
    };
    let lost = |count: u32| {
        assert!(
            metrics(&server).contains(&format!("rostro_audit_lines_lost_total {count}\n")),
            "{}",
            metrics(&server)
        )
    };
    fs::rename(&log, state.path().join("audit.jsonl.1")).unwrap();
    delete();
    assert_eq!(actions(&lines(&log)), ["delete-person"]);
    fs::remove_file(&log).unwrap();
    delete();
    assert_eq!(actions(&lines(&log)), ["delete-person"]);
    lost(0);

    // An unwritable log is reported and counted.
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    delete();
    lost(1);
    assert!(
        server.log().contains("the audit log cannot be written: "),
        "{}",
        server.log()
    );
    // SIGHUP opens the log again.
    fs::remove_dir(&log).unwrap();
    server.signal("HUP");
    server.wait_for_log("audit log opened again");
    assert_eq!(fs::read_to_string(&log).unwrap(), "");
    delete();
    lost(1);
    assert_eq!(actions(&lines(&log)), ["delete-person"]);
}

#[test]
fn start_removes_old_lines() {
    let state = tempfile::tempdir().unwrap();
    let log = state.path().join("audit.jsonl");
    drop(Options::drawn().state(state.path()).start());
    let young = fs::read_to_string(&log).unwrap();
    fs::write(
        &log,
        format!("{{\"time\":\"2020-01-01T00:00:00Z\",\"action\":\"retire\"}}\n{young}"),
    )
    .unwrap();
    drop(
        Options::drawn()
            .state(state.path())
            .arg("--keep-audit", "36500")
            .start(),
    );
    assert!(
        fs::read_to_string(&log)
            .unwrap()
            .starts_with("{\"time\":\"2020")
    );
    drop(
        Options::drawn()
            .state(state.path())
            .arg("--keep-audit", "30")
            .start(),
    );
    let left = fs::read_to_string(&log).unwrap();
    assert!(
        left.starts_with(&young) && !left.contains("2020-01-01"),
        "{left}"
    );
}
