//! Replaced components change the answers of an unchanged host.

use crate::harness::{Options, component, drawn};

/// A separate policy changes decisions, and vision stays the same.
#[test]
fn separate_policy_changes_only_decisions() {
    let gallery = tempfile::tempdir().unwrap();
    let mut server = Options::drawn().gallery(gallery.path()).start();
    for person in ["alice", "bob"] {
        server
            .enroll(person, [drawn(&format!("{person}-1.png"))])
            .ok();
    }
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    let own = server.recognize(drawn("alice-probe.png")).ok();
    server.kill();

    // The margin exceeds any difference of cosines, so every match is ambiguous.
    let policy = |margin: &str| {
        Options::drawn()
            .gallery(gallery.path())
            .arg("--policy", component("attendance-policy"))
            .arg("--setting", margin)
    };
    let server = policy("margin=2.1").start();
    let answer = server.recognize(drawn("alice-probe.png")).ok();
    let face = &answer["recognized_faces"][0];
    assert_eq!(
        (face["identity"].as_str(), face["reason"].as_str()),
        (Some("Unknown"), Some("ambiguous"))
    );
    // Vision is unchanged: its results are equal, and still comparable with earlier ones.
    for field in ["bbox", "landmarks", "det_score", "candidates"] {
        assert_eq!(face[field], own["recognized_faces"][0][field], "{field}");
    }
    assert_ne!(answer["pipeline"]["digest"], own["pipeline"]["digest"]);
    drop(server);
    assert_eq!(
        policy("margin=0.2").start().names(drawn("alice-probe.png")),
        ["alice"]
    );
}

#[test]
fn pipeline_policy_usable_separately() {
    let server = Options::drawn()
        .arg("--policy", component("insightface"))
        .start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
}

#[test]
fn other_matching_rule_changes_answers() {
    let changed = component("variant");
    let host = |pipeline| {
        let server = Options::drawn().pipeline(pipeline).start();
        server.enroll("alice", [drawn("alice-1.png")]).ok();
        server.recognize(drawn("alice-probe.png")).ok()
    };
    let (before, after) = (host(component("insightface")), host(changed));
    assert_eq!(before["recognized_faces"][0]["identity"], "alice");
    assert_eq!(after["recognized_faces"][0]["identity"], "Unknown");
    assert_eq!(after["recognized_faces"][0]["reason"], "below_threshold");
    assert_ne!(before["pipeline"]["digest"], after["pipeline"]["digest"]);
}

#[test]
fn pipeline_check_describes_component() {
    let check = |name: &str| {
        let output = crate::harness::rostro()
            .args(["pipeline", "check"])
            .arg(component(name))
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let pipeline = check("insightface");
    for words in [
        "insightface 0.1.0",
        "a whole pipeline",
        "detector, recognizer",
        "wasi:nn/graph@0.2.0-rc-2024-10-28",
        "this host can run it",
    ] {
        assert!(pipeline.contains(words), "{words}: {pipeline}");
    }
    let policy = check("attendance-policy");
    assert!(
        policy.contains("policy alone") && !policy.contains("wasi:nn"),
        "{policy}"
    );
}
