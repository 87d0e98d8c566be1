//! A wall clock that jumps forwards and backwards while the service works.
//!
//! libfaketime changes the time of the server alone.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Options, drawn, root};

/// Clock offsets in seconds: a day ahead, correct, a day behind, a year ahead, correct.
const JUMPS: [i64; 5] = [86_400, 0, -86_400, 31_536_000, 0];

/// Frames sent after each jump.
const FRAMES: usize = 20;

/// Returns the path of libfaketime.
fn faketime() -> PathBuf {
    let packages = root().join("target/python/e2e/lib");
    let inside = |python: PathBuf| {
        python.join("site-packages/libfaketime/vendor/libfaketime/src/libfaketime.so.1")
    };
    let mut pythons = packages
        .read_dir()
        .into_iter()
        .flatten()
        .map(|entry| inside(entry.unwrap().path()));
    pythons
        .find(|library| library.is_file())
        .expect("libfaketime is in target/python/e2e; run cargo xtask test")
}

/// Sets the server's clock offset. The write is atomic, because the server reads the file at every
/// clock call.
fn set_offset(file: &Path, seconds: i64) {
    let new = file.with_extension("new");
    fs::write(&new, format!("{seconds:+}\n")).unwrap();
    fs::rename(new, file).unwrap();
}

/// Returns the server's clock offset in seconds, from the last line of the audit log.
fn offset(audit: &Path) -> i64 {
    let audit = fs::read_to_string(audit).unwrap();
    let last: Value = serde_json::from_str(audit.lines().next_back().unwrap()).unwrap();
    let then: jiff::Timestamp = last["time"].as_str().unwrap().parse().unwrap();
    then.as_second() - jiff::Timestamp::now().as_second()
}

#[test]
fn clock_jumps_break_nothing() {
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let clock = folder.path().join("clock");
    set_offset(&clock, 0);
    let options = Options::drawn().state(state.path()).arg("--deadline", "5");
    let options = options
        .variable("LD_PRELOAD", faketime())
        .variable("FAKETIME_TIMESTAMP_FILE", &clock);
    let server = options
        .variable("FAKETIME_NO_CACHE", "1")
        .variable("DONT_FAKE_MONOTONIC", "1")
        .start();
    server
        .enroll("alice", [drawn("alice-1.png"), drawn("alice-2.png")])
        .ok();

    let audit = state.path().join("audit.jsonl");
    let (done, probe) = (AtomicBool::new(false), drawn("alice-probe.png"));
    let (mut ids, mut answered, mut slowest, mut offsets) =
        (HashSet::new(), 0, Duration::ZERO, Vec::new());
    let ask = |ids: &mut HashSet<String>| {
        let begun = Instant::now();
        let answer = server.recognize(probe.clone()).ok();
        assert_eq!(
            answer["recognized_faces"][0]["identity"], "alice",
            "{answer}"
        );
        assert!(
            ids.insert(answer["request_id"].as_str().unwrap().to_owned()),
            "a request id is repeated: {answer}"
        );
        begun.elapsed()
    };
    std::thread::scope(|scope| {
        // The guard ends the background thread even if the test panics.
        let ended = scopeguard::guard((), |()| done.store(true, Ordering::Relaxed));
        // The background thread keeps requests running at every jump.
        let background = scope.spawn(|| {
            let (mut ids, mut slowest) = (HashSet::new(), Duration::ZERO);
            while !done.load(Ordering::Relaxed) {
                slowest = slowest.max(ask(&mut ids));
            }
            (ids, slowest)
        });
        for (number, jump) in JUMPS.into_iter().enumerate() {
            set_offset(&clock, jump);
            for _ in 0..FRAMES {
                slowest = slowest.max(ask(&mut ids));
                answered += 1;
            }
            let id = format!("person-{number}");
            server.enroll(&id, [drawn("bob-1.png")]).ok();
            assert_eq!(
                server.admin_delete(&format!("/v1/people/{id}")).ok()["deleted"],
                true
            );
            offsets.push(offset(&audit));
            assert!(
                (offsets[number] - jump).abs() < 60,
                "the server's clock is {} s off, not {jump}",
                offsets[number]
            );
        }
        drop(ended);
        let (others, slow) = background.join().unwrap();
        answered += others.len();
        slowest = slowest.max(slow);
        let before = ids.len();
        ids.extend(others.iter().cloned());
        assert_eq!(ids.len(), before + others.len(), "a request id is repeated");
    });
    // The audit log has enrolments and deletions with the server's time at that moment.
    let audit = fs::read_to_string(audit).unwrap();
    let lines: Vec<Value> = audit
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let days: HashSet<&str> = lines
        .iter()
        .map(|line| &line["time"].as_str().unwrap()[..10])
        .collect();
    let of = |action: &str| {
        lines
            .iter()
            .filter(|line| line["action"] == action && line["outcome"] == "done")
            .count()
    };
    assert_eq!(
        (of("enrol"), of("delete-person")),
        (1 + JUMPS.len(), JUMPS.len()),
        "{audit}"
    );
    assert!(days.len() >= 4, "{days:?}");
    println!(
        "clock: jumps of {JUMPS:?} s seen by the server as {offsets:?}, {answered} frames answered meanwhile, the slowest in {slowest:?}, every id \
         unique, {} audit lines",
        lines.len()
    );
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}
