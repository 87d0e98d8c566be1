//! Stops in the middle of work: the service ends in time and records no failure of that work.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::hammer::Hammer;
use crate::harness::{Options, Server, component, drawn, eventually};
use crate::operator::bytes;

/// Returns the number of rounds, which `ROSTRO_TEST_STOPS` overrides.
fn rounds(usual: usize) -> usize {
    std::env::var("ROSTRO_TEST_STOPS").map_or(usual, |count| count.parse().unwrap())
}

/// Server with an active and a previous revision of different policies. Every start stages the
/// previous one anew.
struct Stops {
    gallery: tempfile::TempDir,
    state: tempfile::TempDir,
    compiled: tempfile::TempDir,
    active: String,
    previous: String,
}

impl Stops {
    fn new(people: usize) -> Self {
        let [gallery, state, compiled] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let stops = Self {
            gallery,
            state,
            compiled,
            active: String::new(),
            previous: String::new(),
        };
        let mut server = stops.options().start();
        server.enroll("alice", [drawn("alice-1.png")]).ok();
        let previous = server.active();
        let active = server.staged(&bytes(component("attendance-policy")), "");
        server.activate(&active);
        assert_eq!(server.terminate(), Some(0));
        // Staging the previous revision makes a template of each person.
        for person in 0..people {
            std::fs::copy(
                stops.gallery.path().join("alice.csv"),
                stops.gallery.path().join(format!("p{person}.csv")),
            )
            .unwrap();
        }
        Self {
            active,
            previous,
            ..stops
        }
    }

    fn options(&self) -> Options {
        Options::drawn()
            .gallery(self.gallery.path())
            .state(self.state.path())
            .arg("--compiled", self.compiled.path())
            .variable("RUST_LOG", "warn,rostro=debug")
    }

    /// Reads the record that the service left.
    fn record(&self) -> Value {
        serde_json::from_slice(&bytes(self.state.path().join("revisions.json"))).unwrap()
    }

    /// Asserts that both revisions have their roles, and that none failed.
    fn check(&self) {
        let record = self.record();
        let revisions = record["revisions"].as_array().unwrap();
        for (role, current) in [("active", &self.active), ("previous", &self.previous)] {
            let revision = revisions.iter().find(|it| it["current_id"] == **current);
            let revision = revision.unwrap_or_else(|| panic!("no {current}: {record}"));
            assert_eq!(record[role], revision["id"], "{record}");
        }
        for revision in revisions {
            assert!(
                matches!(revision["status"].as_str(), Some("staged" | "staging")),
                "{revision}"
            );
        }
    }
}

fn empty(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::remove_file(path).unwrap()
        }
    }
}

/// Stops a server, and asserts success within the grace period.
fn stop(server: &mut Server) {
    let begun = Instant::now();
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}: {}",
        begun.elapsed(),
        server.log()
    );
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Stops in every step of staging: compilation, sessions of ONNX Runtime, self-test and templates.
#[test]
fn stop_while_staging_keeps_previous() {
    let stops = Stops::new(400);
    for round in 0..rounds(3) {
        for step in ["compile", "load models", "self-test", "make templates"] {
            // Cached code would leave nothing to compile.
            empty(stops.compiled.path());
            let mut server = stops.options().start();
            server.wait_for_log(&format!(
                "revision=\"{}\" step=\"{step}\"",
                &stops.previous[..12]
            ));
            std::thread::sleep(Duration::from_millis(7 * round as u64));
            stop(&mut server);
            stops.check();
        }
    }
    // After staging is complete, it can serve.
    let server = stops.options().start();
    eventually("the previous revision", || {
        server.state(&stops.previous) == "previous"
    });
    assert_eq!(
        server.admin_post("/v1/rollback").ok()["revision"]["id"],
        stops.previous.as_str()
    );
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
}

/// Stops at moments that are spread over the first second after a start.
#[test]
fn stop_after_start_keeps_previous() {
    let stops = Stops::new(50);
    for round in 0..rounds(8) {
        let mut server = stops.options().start();
        std::thread::sleep(Duration::from_millis((round as u64 * 137) % 1000));
        stop(&mut server);
        stops.check();
    }
}

/// Stops while a shadow and models work for clients that then disconnect.
#[test]
fn stop_under_load_records_no_failure() {
    let stops = Stops::new(0);
    for round in 0..rounds(4) {
        let mut server = stops.options().start();
        // After the first round it is already the shadow.
        eventually("the previous revision", || {
            matches!(&*server.state(&stops.previous), "previous" | "shadow")
        });
        server
            .admin_post(&format!("/v1/revisions/{}/shadow?share=1", stops.previous))
            .ok();
        let hammer = Hammer::begin(&server.url, &drawn("alice-probe.png"), 4);
        std::thread::sleep(Duration::from_millis(300 + 41 * (round as u64 % 10)));
        stop(&mut server);
        hammer.end();
        stops.check();
    }
}

/// A second signal, as of Ctrl-C, ends the process without waiting for requests.
#[test]
fn second_signal_ends_at_once() {
    let mut server = Options::drawn()
        .pipeline(component("evil"))
        .arg("--deadline", "25")
        .start();
    let url = server.url.clone();
    let spinning = std::thread::spawn(move || {
        let frame = rostro_evil::modes::image("spin", b"");
        ureq::post(format!("{url}/process_frame"))
            .header("content-type", "image/png")
            .send(&frame)
            .is_ok()
    });
    eventually("the request", || {
        crate::operator::metrics(&server).contains("rostro_workers_busy 1")
    });
    server.signal("TERM");
    server.wait_for_log("A second signal ends the process at once");
    let begun = Instant::now();
    assert_eq!(server.terminate(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    assert!(!spinning.join().unwrap());
}
