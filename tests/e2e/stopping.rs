//! A service that is told to stop in the middle of work: it ends in time, and records nothing of
//! how that work ended.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::hammer::Hammer;
use crate::harness::{Options, Server, component, drawn};
use crate::operator::bytes;
use crate::revisions::until;

/// Rounds of each test; `ROSTRO_TEST_STOPS` asks for more.
fn rounds(usual: usize) -> usize {
    std::env::var("ROSTRO_TEST_STOPS").map_or(usual, |count| count.parse().unwrap())
}

/// A server with another policy active than the one before, which every start stages anew.
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
        // The previous revision's policy makes a template of each when it is staged again.
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

    /// The record as the service left it.
    fn record(&self) -> Value {
        serde_json::from_slice(&bytes(self.state.path().join("revisions.json"))).unwrap()
    }

    /// Asserts that both revisions have their roles, and none failed.
    fn check(&self) {
        let record = self.record();
        assert_eq!(
            (record["active"].as_str(), record["previous"].as_str()),
            (Some(&*self.active), Some(&*self.previous)),
            "{record}"
        );
        for revision in record["revisions"].as_array().unwrap() {
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

/// Stops a server, which must end well and within the grace period.
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

/// Every step of staging: compiling, making ONNX Runtime's sessions, the self-test, and everybody's
/// templates.
#[test]
fn stop_while_staging_keeps_previous() {
    let stops = Stops::new(400);
    for round in 0..rounds(3) {
        for step in ["compile", "load models", "self-test", "make templates"] {
            // Compiled code that is kept would leave nothing to compile.
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
    // Staged to its end, it can serve.
    let server = stops.options().start();
    until("the previous revision", || {
        server.state(&stops.previous) == "previous"
    });
    assert_eq!(
        server.admin_post("/v1/rollback").ok()["revision"]["id"],
        stops.previous.as_str()
    );
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
}

/// Moments spread over the first second after a start.
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

/// A shadow and models at work for requests that hang up.
#[test]
fn stop_under_load_records_no_failure() {
    let stops = Stops::new(0);
    for round in 0..rounds(4) {
        let mut server = stops.options().start();
        // It is the shadow from the first round on.
        until("the previous revision", || {
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

/// Whoever presses Ctrl-C twice does not want to wait.
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
    until("the request", || {
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
