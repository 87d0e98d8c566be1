//! An untrusted pipeline: each way to misbehave, while another pipeline keeps serving.

mod modes;
mod server;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rostro_evil::modes::{DESCRIPTIONS, SETTING, image};

use crate::hammer::{Hammer, Shot};
use crate::harness::{Options, component, drawn};
use crate::operator::bytes;
pub(crate) use server::Usage;
use server::{Evil, WORKERS};

/// Deadline in seconds for modes that use all of it.
const SHORT: u64 = 3;

/// Deadline in seconds for modes that must not reach it.
///
/// It is long, so that a busy machine does not turn a refusal into a timeout.
const LONG: u64 = 20;

/// Tolerance for a busy machine, added to the deadline of an answer.
const SLACK: Duration = Duration::from_secs(2);

#[test]
fn requests_do_not_share_memory() {
    let evil = Evil::set_up(
        Options::drawn()
            .arg("--workers", WORKERS.to_string())
            .start(),
        false,
    );
    let score = |mode: &str, argument: &[u8]| {
        let answer = evil.frame(&image(mode, argument)).ok();
        answer["recognized_faces"][0]["det_score"].as_f64().unwrap() as f32
    };
    // Counts the secret in the guest's memory. The request has its inverse, because the search must
    // not bring the secret itself.
    let occurrences = |secret: &[u8]| {
        let inverse: Vec<u8> = secret.iter().map(|byte| !byte).collect();
        ((score("seek", &inverse) - 0.001) * 100.0).round()
    };
    assert_eq!([(); 3].map(|()| score("counter", b"")), [0.01; 3]);
    // A text of the component itself is found.
    assert!(occurrences(b"evil vision\npanics") >= 1.0);

    let probe = drawn("alice-probe.png");
    let pixels = ::image::load_from_memory(&probe)
        .unwrap()
        .into_rgb8()
        .into_raw();
    // A run of pixels with many colours.
    let varied = |pixels: &&[u8]| pixels.iter().collect::<BTreeSet<_>>().len() > 16;
    let pixels = pixels.chunks(48).find(varied).unwrap();
    let secret: &[u8] = b"a secret of the request before";
    for _ in 0..2 {
        at_once(|| assert!(score("hide", secret) > 0.5));
        at_once(|| assert_eq!(evil.server.names(probe.as_slice()), ["alice"]));
        at_once(|| {
            assert_eq!(
                [secret, &probe[1000..1048], pixels].map(occurrences),
                [0.0; 3]
            )
        });
    }
}

/// Defines a test for each mode of `describe`, with the start of the failed revision's reason.
macro_rules! descriptions {
    ($($test:ident, $mode:literal, $query:literal, $reason:literal;)*) => {
        #[test]
        fn every_description_has_a_test() {
            let known: BTreeSet<&str> = DESCRIPTIONS.iter().map(|(mode, _)| *mode).collect();
            assert_eq!([$($mode),*].into_iter().collect::<BTreeSet<_>>(), known);
        }

        $(
            #[test]
            fn $test() {
                stage_under_load($mode, $query, $reason);
            }
        )*
    };
}

descriptions! {
    describe_spin, "spin", "", "the pipeline cannot describe itself: the pipeline did not finish before the deadline";
    describe_memory, "memory", "", "the pipeline cannot describe itself: the pipeline hit the limit `memory-mib` of 128";
    describe_panic, "panic", "", "the pipeline cannot describe itself: the pipeline failed: wasm trap";
    describe_huge, "huge", "", "the pipeline describes itself wrongly: `describe` returned a name that is not";
    describe_name, "name", "", "the pipeline describes itself wrongly: `describe` returned a name that is not";
    describe_policy_spin, "policy-spin", "policy_only=true", "the pipeline cannot describe itself: the pipeline did not finish before";
}

/// Stages a misbehaving component on a server that honest requests keep busy.
fn stage_under_load(mode: &str, query: &str, reason: &str) {
    let options = Options::drawn()
        .arg("--setting", format!("{SETTING}={mode}"))
        .arg("--deadline", SHORT.to_string());
    // Only the pushed component knows the setting.
    let server = options
        .arg("--limit", "memory-mib=128")
        .arg("--unknown-settings", "warn")
        .start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    let active = server.active();
    let hammer = Hammer::begin(&server.url, &drawn("alice-probe.png"), 1);
    let begun = Instant::now();
    let evil = server.stage(&bytes(component("evil")), query);
    println!("{} after {:?}", evil["reason"], begun.elapsed());
    assert_eq!(evil["state"], "failed", "{evil}");
    let actual = evil["reason"].as_str().unwrap();
    assert!(actual.starts_with(reason) && actual.len() < 1000, "{evil}");
    // Staging ends within seconds, although the component never would.
    assert!(begun.elapsed() < Duration::from_secs(30));
    check_honest(&hammer.end());
    assert_eq!(server.active(), active);
}

#[test]
fn repeated_failures_restore_previous_revision() {
    let server = Options::drawn().arg("--breaker", "3").start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    let honest = server.active();
    let evil = server.staged(&bytes(component("evil")), "");
    let component = bytes(component("evil"));
    let panics = |header: &str| {
        let headers = [("content-type", "image/png"), ("x-rostro-canary", header)];
        server
            .post_with("/process_frame", &headers, &image("panic", b""))
            .error(500, "pipeline_failed");
    };
    let fine = |header: &str| {
        let headers = [("content-type", "image/png"), ("x-rostro-canary", header)];
        server
            .post_with("/process_frame", &headers, &drawn("alice-probe.png"))
            .ok()
    };
    let activate = || {
        server.admin_post(&format!(
            "/v1/revisions/{evil}/activate?allow_contract_change=true"
        ))
    };
    let is_out = || {
        assert_eq!(server.active(), honest);
        assert_eq!(fine("always")["recognized_faces"][0]["identity"], "alice");
        let revision = server.admin_get(&format!("/v1/revisions/{evil}"));
        assert_eq!(revision["state"], "failed", "{revision}");
        let reason = revision["reason"].as_str().unwrap();
        assert!(
            reason.starts_with("taken out after 3 failures in a row, the last: "),
            "{reason}"
        );
        reason.to_owned()
    };

    // The active revision is taken out after three failures in a row.
    activate().ok();
    panics("never");
    panics("never");
    // A success in between resets the count.
    fine("never");
    panics("never");
    panics("never");
    assert_eq!(server.active(), evil);
    panics("never");
    assert!(is_out().contains("evil vision panics"));
    assert!(
        activate()
            .error(409, "not_ready")
            .contains("taken out after 3 failures")
    );

    // A new push allows another attempt. Failed enrolments count as well.
    assert_eq!(server.staged(&component, ""), evil);
    activate().ok();
    for _ in 0..3 {
        assert_eq!(server.active(), evil);
        server
            .enroll("mallory", [image("review-index", b"")])
            .error(400, "no_usable_image");
    }
    assert!(is_out().contains("face 4294967295 of 1"));

    // A failing canary is taken out as well.
    assert_eq!(server.staged(&component, ""), evil);
    server
        .admin_post(&format!(
            "/v1/revisions/{evil}/canary?share=0&allow_contract_change=true"
        ))
        .ok();
    for _ in 0..3 {
        panics("always");
    }
    is_out();
    let events = server
        .log()
        .lines()
        .filter(|line| {
            line.contains("ERROR") && line.contains("taken out after 3 failures in a row")
        })
        .count();
    assert!(events >= 3, "{events}");
}

/// Runs `work` on every worker at once.
fn at_once(work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WORKERS).map(|_| scope.spawn(&work)).collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

fn check_honest(shots: &[Shot]) {
    let slowest = shots.iter().map(|shot| shot.took).max().unwrap_or_default();
    println!(
        "{} honest requests, the slowest in {slowest:?}",
        shots.len()
    );
    assert!(!shots.is_empty(), "no honest request was sent");
    let bad: Vec<&Shot> = shots
        .iter()
        .filter(|shot| shot.status != Some(200) || shot.identity != "alice")
        .collect();
    assert!(
        bad.is_empty(),
        "{} of {} honest requests went wrong: {:?}",
        bad.len(),
        shots.len(),
        bad.first()
    );
    assert!(
        slowest < Duration::from_secs(SHORT) + SLACK,
        "an honest request took {slowest:?}"
    );
}
