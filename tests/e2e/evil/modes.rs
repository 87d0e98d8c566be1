//! One test for each mode of the evil pipeline, while honest requests continue.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rostro_evil::modes::{MODES, Mode};

use super::server::{Evil, Usage, WORKERS};
use super::{LONG, SHORT, SLACK, check_honest};
use crate::hammer::Hammer;
use crate::harness::{Answer, Options, drawn, eventually};
use crate::operator::metrics;

/// Memory of the host in addition to its guests, in MiB.
///
/// Each slot keeps some for its next guest, and the host needs some for work on small inputs.
const HOST_MEMORY: u64 = WORKERS as u64 * 16 + 64;

/// Memory of an ONNX Runtime run on 2048×2048 pixels, in MiB: about five times the input.
///
/// One such run happens at a time.
const LARGE_RUN: u64 = 5 * 48;

/// The limits with which a group of modes is tested.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// Deadline of a request in seconds.
    deadline: u64,
    /// Memory of a guest in MiB.
    memory: u64,
    /// Memory of ONNX Runtime in MiB, in addition to the guest's.
    run: u64,
    /// Whether the evil pipeline is active, and so enrols, instead of being the canary.
    is_active: bool,
}

/// Modes that use time.
const TIME: Trial = Trial {
    deadline: SHORT,
    memory: 128,
    run: LARGE_RUN,
    // Some of these modes act at enrolment.
    is_active: true,
};

/// Modes that use memory or end the guest.
const MEMORY: Trial = Trial {
    deadline: LONG,
    memory: 128,
    run: 0,
    is_active: false,
};

/// Modes of tensors and models.
const TENSORS: Trial = Trial {
    deadline: LONG,
    memory: 96,
    run: 0,
    is_active: false,
};

/// Modes with wrong or oversized answers.
const ANSWERS: Trial = Trial {
    deadline: LONG,
    // `transfer` hands over 200 MiB.
    memory: 256,
    run: 0,
    is_active: false,
};

/// Modes that have no effect.
const FLOODS: Trial = Trial {
    deadline: LONG,
    memory: 128,
    run: 0,
    is_active: false,
};

/// Modes of the policy.
const POLICY: Trial = Trial {
    deadline: LONG,
    memory: 128,
    run: 0,
    is_active: true,
};

/// Defines a test for each mode, with words that the log must contain.
macro_rules! modes {
    ($($test:ident, $mode:literal, $trial:ident, [$($words:literal),*];)*) => {
        /// Modes that have a test.
        const TESTED: &[&str] = &[$($mode),*];

        $(
            #[test]
            fn $test() {
                $trial.attempt($mode, &[$($words),*]);
            }
        )*
    };
}

modes! {
    spin, "spin", TIME, ["deadline_exceeded", "request exceeded the deadline of 3000 ms"];
    spin_host, "spin-host", TIME, ["deadline_exceeded", "request exceeded the deadline of 3000 ms"];
    spin_model, "spin-model", TIME, ["deadline_exceeded", "request exceeded the deadline of 3000 ms"];
    sleep, "sleep", TIME, ["it waits or sleeps, which a pipeline cannot"];
    decide_spin, "decide-spin", TIME, ["deadline_exceeded", "request exceeded the deadline of 3000 ms"];
    review_spin, "review-spin", TIME, ["deadline_exceeded", "request exceeded the deadline of 3000 ms"];
    template_spin, "template-spin", TIME, ["deadline_exceeded", "request exceeded the deadline of 3000 ms"];

    memory, "memory", MEMORY, ["limit `memory-mib` of 128 reached: 13", "wanted"];
    recursion, "recursion", MEMORY, ["call stack exhausted"];
    stack, "stack", MEMORY, ["out of bounds"];
    panic, "panic", MEMORY, ["evil vision panics"];
    unreachable, "unreachable", MEMORY, ["unreachable"];
    exit, "exit", MEMORY, ["it exited with status"];
    exit_zero, "exit-zero", MEMORY, ["it exited with status"];

    tensor_length, "tensor-length", TENSORS, ["need 150528 bytes, not 150532"];
    tensor_dimensions, "tensor-dimensions", TENSORS, ["the pipeline's model failed"];
    tensor_rows, "tensor-rows", TENSORS, ["none may be zero"];
    tensor_type, "tensor-type", TENSORS, ["the pipeline's model failed", "FP16"];
    tensor_shape, "tensor-shape", TENSORS, ["the pipeline's model failed"];
    tensors, "tensors", TENSORS, ["limit `tensors` of 16 reached: 16 in use, 17 wanted"];
    tensor_bytes, "tensor-bytes", TENSORS, ["limit `memory-mib` of 96 reached: ", "wanted"];
    model_name, "model-name", TENSORS, ["the pipeline's model failed"];
    model_log, "model-log", TENSORS, ["the pipeline's model failed"];
    handles, "handles", TENSORS, ["limit `handles` of 32 reached: 32 in use, 33 wanted"];
    load_bytes, "load-bytes", TENSORS, ["the pipeline's model failed"];

    transfer, "transfer", ANSWERS, ["limit `transfer-mib` of 64 reached: one call or answer has more bytes"];
    faces_many, "faces-many", ANSWERS, ["limit `"];
    state_huge, "state-huge", ANSWERS, ["limit `memory-mib` of 256 reached"];
    state_large, "state-large", ANSWERS, ["limit `state-kib` of 256 reached: 300 returned"];
    track_outside, "track-outside", ANSWERS, ["face 0 with track 7 outside a stream"];
    faces_2000, "faces-2000", ANSWERS, ["limit `faces` of 1024 reached: 2000 returned"];
    embeddings_shared, "embeddings-shared", ANSWERS, ["limit `transfer-mib` of 64 reached"];
    measures_many, "measures-many", ANSWERS, ["100000 measures; at most 32 are taken"];
    name_long, "name-long", ANSWERS, ["a measure whose name is not 1 to 32"];
    landmarks_many, "landmarks-many", ANSWERS, ["100000 landmarks, neither none nor five"];
    nan, "nan", ANSWERS, ["an embedding that contains NaN"];
    infinite, "infinite", ANSWERS, ["an embedding that contains inf"];
    zero_vector, "zero-vector", ANSWERS, ["an embedding whose length is zero"];
    dimension, "dimension", ANSWERS, ["numbers, not"];
    box_outside, "box-outside", ANSWERS, ["outside the 100×100 image"];
    box_inverted, "box-inverted", ANSWERS, ["outside the 100×100 image"];
    box_nan, "box-nan", ANSWERS, ["outside the 100×100 image"];
    score_out_of_range, "score-out-of-range", ANSWERS, ["a score of 1.5"];
    size_lie, "size-lie", ANSWERS, ["an image of 0×0 pixels"];
    utf8, "utf8", ANSWERS, ["invalid utf-8"];
    text_length, "text-length", ANSWERS, ["out of bounds"];
    list_length, "list-length", ANSWERS, ["out of bounds"];

    log_flood, "log-flood", FLOODS, ["forged by a guest"];
    log_empty, "log-empty", FLOODS, [];
    stderr_flood, "stderr-flood", FLOODS, [];
    stages_flood, "stages-flood", FLOODS, [];
    files, "files", FLOODS, [];
    counter, "counter", FLOODS, [];
    hide, "hide", FLOODS, [];
    seek, "seek", FLOODS, [];

    decide_panic, "decide-panic", POLICY, ["evil policy panics"];
    decide_few, "decide-few", POLICY, ["0 decisions on 1 faces"];
    decide_many, "decide-many", POLICY, ["2 decisions on 1 faces"];
    decide_index, "decide-index", POLICY, ["candidate 4294967295 of 1 for face 0"];
    decide_nan, "decide-nan", POLICY, ["a confidence of NaN"];
    decide_text, "decide-text", POLICY, ["a code that is not"];
    decide_name, "decide-name", POLICY, ["a code that is not"];
    decide_state, "decide-state", POLICY, ["limit `memory-mib` of"];
    decide_events, "decide-events", POLICY, ["100000 events"];
    decide_event_nan, "decide-event-nan", POLICY, ["a number that is not finite"];
    decide_shown, "decide-shown", POLICY, ["to show for face 0"];
    review_index, "review-index", POLICY, ["face 4294967295 of 1"];
    review_reasons, "review-reasons", POLICY, ["100000 reasons; 1 to 32 are taken"];
    review_text, "review-text", POLICY, ["without a message of 1 to 500 bytes"];
    template_nan, "template-nan", POLICY, ["contains NaN"];
    template_many, "template-many", POLICY, ["limit `templates` of 16 reached: 1000 returned"];
    template_dimension, "template-dimension", POLICY, ["numbers, not"];
    template_empty, "template-empty", POLICY, ["0 templates; 1 to 16 are taken"];
}

#[test]
fn every_mode_has_a_test() {
    let known: BTreeSet<&str> = MODES.iter().map(|mode| mode.name).collect();
    assert_eq!(TESTED.iter().copied().collect::<BTreeSet<_>>(), known);
    assert_eq!(TESTED.len(), known.len(), "a mode has two tests");
}

impl Trial {
    /// Runs a mode while honest requests continue.
    fn attempt(self, name: &str, words: &[&str]) {
        let memory = format!("memory-mib={}", self.memory);
        // The breaker is tested separately.
        let options = Options::drawn()
            .arg("--deadline", self.deadline.to_string())
            .arg("--workers", WORKERS.to_string());
        let server = options
            .arg("--breaker", "1000000")
            .arg("--limit", memory)
            .start();
        let evil = Evil::set_up(server, self.is_active);
        let hammer = Hammer::begin(&evil.server.url, &drawn("alice-probe.png"), WORKERS - 1);
        // Every worker has served a request by then.
        hammer.wait_for(2 * WORKERS);
        // Resets the peak, because the start and staging need more memory than serving.
        std::fs::write(format!("/proc/{}/clear_refs", evil.server.pid()), "5").unwrap();
        let before = Usage::of(evil.server.pid());

        let mode = MODES.iter().find(|mode| mode.name == name).unwrap();
        self.ask(&evil, mode, words);
        // Honest requests that begin after the evil one are answered, too.
        hammer.wait_for(2 * WORKERS);

        check_honest(&hammer.end());
        // Every worker permit is returned.
        eventually("the end of all work", || {
            metrics(&evil.server).contains("\nrostro_workers_busy 0\n")
        });
        // An answer before the deadline returns its worker, so only the other modes are checked.
        if self.deadline == SHORT {
            evil.check_workers();
        }
        let after = Usage::of(evil.server.pid());
        println!("{before:?} before, {after:?} after");
        // At most two evil requests hold memory: the current one and one that is being freed.
        let most = before.peak + ((2 * self.memory + self.run + HOST_MEMORY) << 20);
        assert!(
            after.peak <= most,
            "the peak is {} bytes, more than {most}",
            after.peak
        );
        // At most as many threads are idle as workers were busy at a time.
        assert!(
            after.threads <= before.threads + WORKERS,
            "{before:?} before, {after:?} after"
        );
        assert_eq!(evil.enrolled(), evil.enrolled, "a person was enrolled");
    }

    /// Sends one request and checks its answer and log.
    fn ask(self, evil: &Evil, mode: &Mode, words: &[&str]) {
        let begun = Instant::now();
        let answer = evil.ask(mode, argument(mode.name));
        let took = begun.elapsed();
        let log = evil.server.log_of(&answer);
        println!(
            "{} in {} ms; {} bytes of log; {}",
            answer.status,
            took.as_millis(),
            log.len(),
            cause(&log)
        );
        assert!(
            mode.expect.statuses().contains(&answer.status) && is_typed(&answer),
            "{} {}",
            answer.status,
            answer.json
        );
        assert!(
            took <= Duration::from_secs(self.deadline) + SLACK,
            "answered after {took:?}"
        );
        assert!(
            !answer.json.to_string().contains("panics"),
            "the answer has the guest's text: {}",
            answer.json
        );
        for word in words {
            assert!(log.contains(word), "the log does not say `{word}`: {log}");
        }
        check_harmless(mode.name, &answer, &log);
        // A request may log 16 KiB of text and overhead. An escaped control character has six
        // letters.
        assert!(log.len() <= 40 << 10, "{} bytes of log", log.len());
    }
}

/// Asserts that a harmless mode found nothing, or that its flood was cut.
fn check_harmless(mode: &str, answer: &Answer, log: &str) {
    let score = || {
        answer.json["recognized_faces"][0]["det_score"]
            .as_f64()
            .unwrap() as f32
    };
    match mode {
        "files" => assert_eq!(score(), 0.5, "the guest found a file"),
        "counter" => assert_eq!(score(), 0.01, "the instance was used before"),
        "seek" => assert_eq!(score(), 0.001, "the guest found the bytes"),
        "stages-flood" => {
            let stages = answer.json["timings_ms"].as_object().unwrap();
            let flooded = stages
                .keys()
                .filter(|name| name.starts_with("stage-"))
                .count();
            assert!(
                (1..=16).contains(&flooded),
                "{flooded} of its stages are kept: {stages:?}"
            );
        }
        "log-empty" => {
            let lines = log
                .lines()
                .filter(|line| line.ends_with(": guest: "))
                .count();
            assert!((1..=128).contains(&lines), "{lines} of its lines are kept");
        }
        _ => {}
    }
}

/// Returns true if the error code of an answer fits its status.
fn is_typed(answer: &Answer) -> bool {
    let code = answer.json["code"].as_str();
    match answer.status {
        200 => code.is_none(),
        400 => {
            code == Some("no_usable_image")
                && answer.json["details"]["rejected"][0]["reasons"][0]["code"] == "pipeline_failed"
        }
        504 => code == Some("deadline_exceeded"),
        _ => code == Some("pipeline_failed"),
    }
}

/// Returns the cause of a failure from the last log line.
fn cause(log: &str) -> String {
    let line = log.lines().last().unwrap_or_default();
    let cause = line
        .split_once(" failed ")
        .or_else(|| line.split_once(": "))
        .map_or(line, |(_, cause)| cause);
    cause.chars().take(300).collect()
}

/// Returns the argument of a mode.
fn argument(mode: &str) -> &'static [u8] {
    match mode {
        "hide" => b"sixteen evil bytes, and then some",
        // The inverse of these bytes occurs nowhere.
        "seek" => &[0x13, 0x37, 0xFE, 0x01, 0x77, 0x99, 0x42, 0x24],
        _ => b"",
    }
}
