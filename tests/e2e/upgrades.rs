//! Upgrades that replace the component file: activations of operators stay, and configured
//! revisions are replaced.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rostro_models::Pack;
use rostro_sandbox::pipeline::revision_id::RevisionInputs;
use serde_json::Value;

use crate::harness::{Options, Server, component, drawn, eventually, root};
use crate::operator::{again, bytes};

/// Installation with a component file that an upgrade replaces.
struct Installation {
    gallery: tempfile::TempDir,
    state: tempfile::TempDir,
    program: tempfile::TempDir,
}

impl Installation {
    fn new() -> Self {
        let [gallery, state, program] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
        let this = Self {
            gallery,
            state,
            program,
        };
        std::fs::copy(component("insightface"), this.file()).unwrap();
        this
    }

    fn file(&self) -> PathBuf {
        self.program.path().join("insightface.wasm")
    }

    fn start(&self) -> Server {
        self.start_with(&self.file())
    }

    fn start_with(&self, pipeline: &Path) -> Server {
        Options::drawn()
            .gallery(self.gallery.path())
            .state(self.state.path())
            .pipeline(pipeline.to_owned())
            .start()
    }

    /// Replaces the file with another component of the same behaviour.
    fn upgrade(&self, which: u8) {
        std::fs::write(self.file(), again(&bytes(component("insightface")), which)).unwrap();
    }

    fn record(&self) -> Value {
        serde_json::from_slice(&bytes(self.state.path().join("revisions.json"))).unwrap()
    }

    /// Removes the current ids from the record, as a program of version 1 wrote it. Returns the
    /// former ids by current ids.
    fn remove_current_ids(&self) -> BTreeMap<String, String> {
        let mut record = self.record();
        let mut former_ids = BTreeMap::new();
        for revision in record["revisions"].as_array_mut().unwrap() {
            let digest = |key: &str| revision[key].as_str().map(|text| text.parse().unwrap());
            let pack = revision["pack"].as_str().unwrap();
            let inputs = RevisionInputs {
                vision: digest("vision").unwrap(),
                policy: digest("policy"),
                manifest: &Pack::read_manifest(&root().join("models/installed"), pack).unwrap(),
                limits: &BTreeMap::new(),
                settings: &BTreeMap::new(),
            };
            let (former, current) = (inputs.former_id().to_string(), inputs.id().to_string());
            assert_eq!(revision["id"], former.as_str());
            let written = revision.as_object_mut().unwrap().remove("current_id");
            assert_eq!(written.unwrap(), current.as_str());
            former_ids.insert(current, former);
        }
        std::fs::write(self.state.path().join("revisions.json"), record.to_string()).unwrap();
        former_ids
    }

    fn audit(&self) -> String {
        std::fs::read_to_string(self.state.path().join("audit.jsonl")).unwrap()
    }
}

/// Starts a service and activates a revision that an operator pushed. Returns the ids of the
/// configured and of the pushed revision.
fn with_operators_revision(installation: &Installation) -> (Server, String, String) {
    let server = installation.start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    let configured = server.active();
    let pushed = server.staged(&bytes(component("variant")), "");
    server.activate(&pushed);
    (server, configured, pushed)
}

fn revision_made_by_configuration(server: &Server) -> Value {
    let statuses = server.admin_get("/v1/revisions");
    let id = statuses["configured"].as_str().unwrap();
    statuses["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|revision| revision["id"] == id)
        .unwrap()
        .clone()
}

#[test]
fn upgrade_keeps_operator_activation() {
    let installation = Installation::new();
    let (mut server, configured, pushed) = with_operators_revision(&installation);
    server.kill();
    installation.upgrade(1);
    let mut server = installation.start();
    assert_eq!(server.active(), pushed);
    let new = revision_made_by_configuration(&server)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_ne!(new, configured);
    eventually("the new revision", || server.state(&new) == "staged");
    assert_eq!(
        server.admin_get("/v1/revisions")["previous"],
        configured.as_str()
    );
    server.wait_for_log(&format!("rostro pipeline activate {}", &new[..12]));
    let configure = installation
        .audit()
        .lines()
        .filter(|line| line.contains("\"action\":\"configure\""))
        .count();
    assert_eq!(configure, 1);
    let list = server.pipeline(&["list"]).output().unwrap();
    assert!(
        String::from_utf8_lossy(&list.stdout).contains("made by the configuration"),
        "{list:?}"
    );
    server.kill();

    // Unchanged files cause no message and no staging.
    let mut server = installation.start();
    assert_eq!(server.active(), pushed);
    assert!(
        !server.log().contains("another than at the last start"),
        "{}",
        server.log()
    );
    server.kill();

    // The next upgrade replaces the revision that was never activated.
    installation.upgrade(2);
    let mut server = installation.start();
    assert_eq!(
        (server.active(), server.state(&new)),
        (pushed, "retired".to_owned())
    );
    let newest = revision_made_by_configuration(&server)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    eventually("the newest revision", || server.state(&newest) == "staged");
    // After its activation, later upgrades are followed.
    server.activate(&newest);
    server.kill();
    installation.upgrade(3);
    let server = installation.start();
    assert_eq!(
        server.active(),
        revision_made_by_configuration(&server)["id"]
            .as_str()
            .unwrap()
    );
    assert_ne!(server.active(), newest);
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
}

#[test]
fn upgrade_replaces_configured_revision() {
    let installation = Installation::new();
    let mut server = installation.start();
    let before = server.active();
    server.kill();
    installation.upgrade(1);
    let server = installation.start();
    assert_ne!(server.active(), before);
    eventually("the one before", || server.state(&before) == "previous");
    server.admin_post("/v1/rollback").ok();
    assert_eq!(server.active(), before);
}

#[test]
fn changed_configuration_serves_immediately() {
    let installation = Installation::new();
    let (mut server, configured, pushed) = with_operators_revision(&installation);
    server.kill();
    // Another name of an equal file.
    let renamed = installation.program.path().join("renamed.wasm");
    std::fs::copy(installation.file(), &renamed).unwrap();
    let server = installation.start_with(&renamed);
    assert_eq!(server.active(), configured);
    eventually("the operator's revision", || {
        server.state(&pushed) == "previous"
    });
}

/// Records of older programs have no texts of the configuration.
#[test]
fn record_without_texts_counts_unchanged() {
    let installation = Installation::new();
    let (mut server, _, pushed) = with_operators_revision(&installation);
    server.kill();
    let file = installation.state.path().join("revisions.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert!(
        record
            .as_object_mut()
            .unwrap()
            .remove("configured_texts")
            .is_some()
    );
    std::fs::write(&file, serde_json::to_vec(&record).unwrap()).unwrap();
    installation.upgrade(1);
    let server = installation.start();
    assert_eq!(server.active(), pushed);
    let new = revision_made_by_configuration(&server)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    eventually("the new revision", || server.state(&new) == "staged");
}

/// Records of programs before version 2 of the ids have former ids. Their revisions keep serving,
/// and the file keeps the form and the ids that such a program reads.
#[test]
fn record_with_former_ids_keeps_serving() {
    let installation = Installation::new();
    let (mut server, configured, pushed) = with_operators_revision(&installation);
    server.kill();
    let former_ids = installation.remove_current_ids();
    let former = installation.record();
    assert_eq!(former["active"], former_ids[&pushed].as_str());

    let mut server = installation.start();
    assert_eq!(server.active(), pushed);
    assert_eq!(
        server.admin_get("/v1/revisions")["previous"],
        configured.as_str()
    );
    assert!(
        !server.log().contains("another than at the last start"),
        "{}",
        server.log()
    );
    assert_eq!(server.state(&former_ids[&pushed][..12]), "active");
    server.kill();

    let written = installation.record();
    for key in ["form", "configured", "active", "previous"] {
        assert_eq!(written[key], former[key], "{key}");
    }
    for revision in written["revisions"].as_array().unwrap() {
        let current = revision["current_id"].as_str().unwrap();
        assert_eq!(revision["id"], former_ids[current].as_str());
    }
    assert_eq!(installation.start().active(), pushed);
}
