//! People under several embedding contracts: a replacement applies to all of them.

use std::path::{Path, PathBuf};

use rostro_evil::modes::hidden;
use serde_json::{Value, json};
use ureq::http::Method;

use crate::faults::with_white;
use crate::harness::{
    BOUNDARY, Options, Server, component, drawn, eventually, file, multipart, rostro,
};
use crate::operator::bytes;
use crate::revisions::{model, pack};

/// Returns a model with an unused field appended: other bytes, so another contract.
fn other_bytes(role: &'static str, which: u8) -> (&'static str, Vec<u8>) {
    (role, [model(role), vec![0xc0, 0x3e, which]].concat())
}

/// Creates a folder with the packs `other`, `third` and `failing`, each with its own contract.
fn packs() -> tempfile::TempDir {
    let models = tempfile::tempdir().unwrap();
    for (which, name) in [(1, "other"), (2, "third")] {
        pack(
            models.path(),
            name,
            &[
                ("detector", model("detector")),
                other_bytes("recognizer", which),
            ],
        );
    }
    pack(
        models.path(),
        "failing",
        &[
            ("detector", model("failing-detector")),
            other_bytes("recognizer", 3),
        ],
    );
    models
}

fn activate(server: &Server, id: &str) {
    server
        .admin_post(&format!(
            "/v1/revisions/{id}/activate?allow_contract_change=true"
        ))
        .ok();
}

fn canary(server: &Server, id: &str) {
    server
        .admin_post(&format!(
            "/v1/revisions/{id}/canary?share=0&allow_contract_change=true"
        ))
        .ok();
}

/// Returns the names that the canary recognises in a frame.
fn canary_names(server: &Server, frame: &str) -> Vec<String> {
    let headers = [("content-type", "image/png"), ("x-rostro-canary", "always")];
    let answer = server
        .ask(&Method::POST, "/process_frame", &drawn(frame), &headers)
        .ok();
    answer["recognized_faces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|face| face["identity"].as_str().unwrap().to_owned())
        .collect()
}

fn needs_enrolment(server: &Server, id: &str) -> bool {
    server.admin_get(&format!("/v1/people/{id}"))["needs_enrolment"]
        .as_bool()
        .unwrap()
}

fn add_photo(server: &Server, id: &str, photo: &str) -> Value {
    let body = multipart(&[file("images", "1.png", drawn(photo))]);
    let form = format!("multipart/form-data; boundary={BOUNDARY}");
    server
        .ask(
            &Method::POST,
            &format!("/v1/people/{id}/photos"),
            &body,
            &[("content-type", &form)],
        )
        .ok()
}

fn codes(answer: &Value) -> Vec<&str> {
    answer["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|warning| warning["code"].as_str().unwrap())
        .collect()
}

/// Returns all files of other contracts in a gallery.
fn other_files(gallery: &Path) -> Vec<PathBuf> {
    let Ok(folders) = gallery.join(".contracts").read_dir() else {
        return Vec::new();
    };
    folders
        .flat_map(|folder| folder.unwrap().path().read_dir().unwrap())
        .map(|file| file.unwrap().path())
        .collect()
}

#[test]
fn replacement_applies_to_every_contract() {
    let models = packs();
    let server = Options::drawn().arg("--models", models.path()).start();
    let first = server.active();
    let other = server.staged(&bytes(component("insightface")), "pack=other");
    assert_eq!(
        server.enroll("desk7", [drawn("alice-1.png")]).ok()["warnings"],
        json!([])
    );
    activate(&server, &other);
    server
        .enroll("desk7", [drawn("alice-1.png"), drawn("alice-2.png")])
        .ok();
    assert_eq!(server.names(drawn("alice-probe.png")), ["desk7"]);
    // The photos were embedded for the previous revision as well.
    server.admin_post("/v1/rollback").ok();
    assert_eq!(server.active(), first);
    assert_eq!(server.names(drawn("alice-probe.png")), ["desk7"]);
    // Another person gets the id. The other revision is staged only and embeds no photo of that
    // person.
    server.enroll("desk7", [drawn("bob-1.png")]).ok();
    assert_eq!(server.names(drawn("bob-probe.png")), ["desk7"]);
    assert_eq!(server.names(drawn("alice-probe.png")), ["Unknown"]);
    assert_eq!(
        other_files(&server.gallery),
        Vec::<PathBuf>::new(),
        "outdated samples remain"
    );
    activate(&server, &other);
    for probe in ["alice-probe.png", "bob-probe.png"] {
        assert_eq!(server.names(drawn(probe)), ["Unknown"], "{probe}");
    }
    assert!(needs_enrolment(&server, "desk7"));
    server.enroll("desk7", [drawn("bob-1.png")]).ok();
    assert_eq!(server.names(drawn("bob-probe.png")), ["desk7"]);
    assert!(!needs_enrolment(&server, "desk7"));
}

#[test]
fn enrolment_embeds_for_previous_and_canary() {
    let models = packs();
    let gallery = tempfile::tempdir().unwrap();
    let options = || {
        Options::drawn()
            .gallery(gallery.path())
            .arg("--models", models.path())
    };
    let server = options().start();
    let insightface = bytes(component("insightface"));
    let [other, third] =
        ["pack=other", "pack=third"].map(|query| server.staged(&insightface, query));
    activate(&server, &other);
    canary(&server, &third);
    assert_eq!(
        server.enroll("alice", [drawn("alice-1.png")]).ok()["warnings"],
        json!([])
    );
    // An added photo is embedded for each of them and removes nothing.
    assert_eq!(
        add_photo(&server, "alice", "alice-2.png")["warnings"],
        json!([])
    );
    let photos = server.admin_get("/v1/people/alice")["photos"]
        .as_array()
        .unwrap()
        .clone();
    let mut contracts: Vec<&str> = photos
        .iter()
        .map(|photo| photo["contract"].as_str().unwrap())
        .collect();
    contracts.sort_unstable();
    contracts.dedup();
    assert_eq!((photos.len(), contracts.len()), (6, 3), "{photos:?}");
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    assert_eq!(canary_names(&server, "alice-probe.png"), ["alice"]);
    server.admin_post("/v1/rollback").ok();
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    // A deletion applies to all of them.
    server.admin_delete("/v1/people/alice").ok();
    assert_eq!(canary_names(&server, "alice-probe.png"), ["Unknown"]);
    assert_eq!(other_files(gallery.path()), Vec::<PathBuf>::new());
}

#[test]
fn staged_revision_embeds_on_request() {
    let models = packs();
    let server = Options::drawn().arg("--models", models.path()).start();
    let insightface = bytes(component("insightface"));
    let other = server.staged(&insightface, "pack=other");
    let need =
        |id: &str| server.admin_get(&format!("/v1/revisions/{id}"))["need_enrolment"].clone();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    assert_eq!(need(&other), 1);
    let photos = |id: &str| server.admin_get(&format!("/v1/revisions/{id}"))["requests"].clone();
    assert_eq!(photos(&other), 0);
    // The operator requests it with `push --enrol`.
    let output = server
        .pipeline(&[
            "push",
            component("insightface").to_str().unwrap(),
            "--pack",
            "other",
            "--enrol",
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        server.admin_get(&format!("/v1/revisions/{other}"))["enrol"],
        true
    );
    server.enroll("bob", [drawn("bob-1.png")]).ok();
    assert_eq!((need(&other), photos(&other)), (json!(1), json!(1)));
    activate(&server, &other);
    assert_eq!(server.names(drawn("bob-probe.png")), ["bob"]);
    assert_eq!(server.names(drawn("alice-probe.png")), ["Unknown"]);
}

#[test]
fn failing_canary_is_enrolment_warning() {
    let models = packs();
    let server = Options::drawn()
        .arg("--models", models.path())
        .arg("--breaker", "2")
        .start();
    let failing = server.staged(&bytes(component("insightface")), "pack=failing");
    canary(&server, &failing);
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    assert_eq!(canary_names(&server, "alice-probe.png"), ["alice"]);
    // The canary fails on this photo; the active revision does not.
    let answer = server.enroll("alice", [with_white("alice-2.png")]).ok();
    assert_eq!(codes(&answer), ["revision_failed"], "{answer}");
    assert_eq!(answer["warnings"][0]["revision"], failing.as_str());
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    assert_eq!(
        canary_names(&server, "alice-probe.png"),
        ["Unknown"],
        "the canary still has the old samples"
    );
    let log = server.log();
    assert!(!log.contains("alice"), "{log}");
    // Failures count on the canary's breaker alone. The recognition above reset the count.
    let [one, two] =
        ["bob", "carol"].map(|id| server.enroll(id, [with_white(&format!("{id}-1.png"))]).ok());
    assert_eq!(
        [codes(&one), codes(&two)],
        [["revision_failed"], ["revision_failed"]]
    );
    eventually("the breaker", || server.state(&failing) == "failed");
    assert_eq!(
        server.enroll("dave", [drawn("dave-1.png")]).ok()["warnings"],
        json!([])
    );
}

/// A canary that never answers delays an enrolment but does not fail it.
#[test]
fn late_canary_is_enrolment_warning() {
    let server = Options::drawn()
        .arg("--deadline", "10")
        .arg("--breaker", "1000000")
        .start();
    let evil = server.staged(&bytes(component("evil")), "");
    canary(&server, &evil);
    let answer = server
        .enroll("alice", [hidden(&drawn("alice-1.png"), "spin")])
        .ok();
    assert_eq!(codes(&answer), ["revision_late"], "{answer}");
    assert_eq!(
        server.admin_get(&format!("/v1/revisions/{evil}"))["failures"],
        1
    );
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    // A wrong answer is not stored.
    for (mode, code) in [("panic", "revision_failed"), ("nan", "revision_failed")] {
        let answer = server
            .enroll("alice", [hidden(&drawn("alice-1.png"), mode)])
            .ok();
        assert_eq!(codes(&answer), [code], "{mode}: {answer}");
    }
    assert_eq!(other_files(&server.gallery), Vec::<PathBuf>::new());
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
}

/// Removes the column `enrolment` from a file, as a release without that column wrote it.
fn forget_enrolments(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(
        text.lines().next().unwrap().ends_with(",enrolment"),
        "{text}"
    );
    let old: String = text
        .lines()
        .map(|line| format!("{}\n", line.rsplit_once(',').unwrap().0))
        .collect();
    std::fs::write(path, old).unwrap();
}

#[test]
fn unknown_age_samples_are_ignored() {
    let models = packs();
    let (gallery, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = || {
        Options::drawn()
            .gallery(gallery.path())
            .state(state.path())
            .arg("--models", models.path())
    };
    let mut server = options().start();
    let other = server.staged(&bytes(component("insightface")), "pack=other");
    activate(&server, &other);
    for id in ["alice", "bob"] {
        server.enroll(id, [drawn(&format!("{id}-1.png"))]).ok();
    }
    server.terminate();
    for path in other_files(gallery.path())
        .into_iter()
        .chain(["alice.csv", "bob.csv"].map(|name| gallery.path().join(name)))
    {
        forget_enrolments(&path);
    }
    let mut server = options().start();
    server.wait_for_log("files=2");
    assert!(
        server.log().contains("rostro gallery trust-contracts"),
        "{}",
        server.log()
    );
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    let first = server.admin_get("/v1/revisions")["previous"]
        .as_str()
        .unwrap()
        .to_owned();
    eventually("the previous revision", || {
        server.state(&first) == "previous"
    });
    server.admin_post("/v1/rollback").ok();
    assert_eq!(server.names(drawn("alice-probe.png")), ["Unknown"]);
    assert!(needs_enrolment(&server, "alice"));
    // A re-enrolled person is recognised again.
    server.enroll("bob", [drawn("bob-2.png")]).ok();
    assert_eq!(server.names(drawn("bob-probe.png")), ["bob"]);
    server.terminate();

    // `gallery trust-contracts` accepts the remaining samples.
    let mut command = rostro();
    let output = command
        .args(["gallery", "trust-contracts", "--gallery"])
        .arg(gallery.path())
        .output()
        .unwrap();
    assert!(
        output.status.success()
            && String::from_utf8_lossy(&output.stdout).contains("1 files of unknown age"),
        "{output:?}"
    );
    let server = options().start();
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    assert!(
        !server.log().contains("trust-contracts"),
        "{}",
        server.log()
    );
}

#[test]
fn import_removes_missing_contracts() {
    let models = packs();
    let server = Options::drawn().arg("--models", models.path()).start();
    let archive = |server: &Server| {
        ureq::get(format!("{}/v1/gallery", server.admin))
            .call()
            .unwrap()
            .body_mut()
            .read_to_vec()
            .unwrap()
    };
    let import = |bytes: &[u8]| {
        server
            .ask_admin(
                &Method::POST,
                "/v1/gallery",
                bytes,
                &[("content-type", "application/zip")],
            )
            .ok()
    };
    server.enroll("desk7", [drawn("bob-1.png")]).ok();
    let bob = archive(&server);
    let other = server.staged(&bytes(component("insightface")), "pack=other");
    canary(&server, &other);
    server.enroll("desk7", [drawn("alice-1.png")]).ok();
    assert_eq!(canary_names(&server, "alice-probe.png"), ["desk7"]);
    let alice = archive(&server);
    import(&bob);
    assert_eq!(server.names(drawn("bob-probe.png")), ["desk7"]);
    assert_eq!(canary_names(&server, "alice-probe.png"), ["Unknown"]);
    // An archive with both contracts of one enrolment restores both.
    assert_eq!(import(&alice)["people"], 1);
    assert_eq!(server.names(drawn("alice-probe.png")), ["desk7"]);
    assert_eq!(canary_names(&server, "alice-probe.png"), ["desk7"]);
    assert_eq!(canary_names(&server, "bob-probe.png"), ["Unknown"]);
}

/// The files of a backup arrive one by one, those of other contracts last.
#[test]
fn copied_contract_serves_after_rollback() {
    let models = packs();
    let server = Options::drawn().arg("--models", models.path()).start();
    let other = server.staged(&bytes(component("insightface")), "pack=other");
    activate(&server, &other);
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    let own = server.gallery.join("alice.csv");
    let [file] = <[PathBuf; 1]>::try_from(other_files(&server.gallery)).unwrap();
    let [own_text, text] = [&own, &file].map(|path| std::fs::read(path).unwrap());
    server.admin_delete("/v1/people/alice").ok();
    // A truncated file keeps the person out as long as it exists.
    std::fs::write(&file, &text[..text.len() / 2]).unwrap();
    std::fs::write(&own, own_text).unwrap();
    server.wait_for_log("cannot load a person");
    std::fs::remove_file(&file).unwrap();
    std::fs::remove_dir(file.parent().unwrap()).unwrap();
    eventually("the own file", || {
        server.names(drawn("alice-probe.png")) == ["alice"]
    });
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    std::fs::write(&file, text).unwrap();
    server.admin_post("/v1/rollback").ok();
    eventually("the other contract's file", || {
        server.names(drawn("alice-probe.png")) == ["alice"]
    });
    assert!(!needs_enrolment(&server, "alice"));
}
