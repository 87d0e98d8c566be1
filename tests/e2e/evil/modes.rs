//! Every way to misbehave, each in a test of its own, while honest requests go on beside it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rostro_evil::modes::{MODES, Mode};

use super::server::{Evil, Usage, WORKERS};
use super::{LONG, SHORT, SLACK, check_honest, until};
use crate::hammer::Hammer;
use crate::harness::{Answer, Options, drawn};
use crate::operator::metrics;

/// What the host may hold beside guests, in MiB: what each leaves to the next in its place, and
/// some for the work on small inputs.
const BESIDE: u64 = WORKERS as u64 * 16 + 64;

/// What ONNX Runtime takes for a run on 2048×2048 pixels, in MiB: some five times the input. One
/// such run is done at a time.
const LARGE_RUN: u64 = 5 * 48;

/// What modes of a kind are tried with.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// Time for a request in seconds.
    deadline: u64,
    /// Memory of a guest in MiB.
    memory: u64,
    /// Memory of ONNX Runtime in MiB, which is not the guest's.
    run: u64,
    /// Whether the evil pipeline is the active one, which enrols, and not the canary.
    is_active: bool,
}

/// Modes that take time.
const TIME: Trial = Trial {
    deadline: SHORT,
    memory: 128,
    run: LARGE_RUN,
    // It enrols, too.
    is_active: true,
};

/// Modes that take memory, or end.
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

/// Modes that answer wrongly, or hand over too much.
const ANSWERS: Trial = Trial {
    deadline: LONG,
    // `transfer` has 200 MiB to hand over.
    memory: 256,
    run: 0,
    is_active: false,
};

/// Modes of which nothing comes.
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

/// A test for each mode, with words that the log must have of what happened.
macro_rules! modes {
    ($($test:ident, $mode:literal, $trial:ident, [$($words:literal),*];)*) => {
        /// The modes that have a test.
        const TRIED: &[&str] = &[$($mode),*];

        $(
            #[test]
            fn $test() {
                $trial.attempt($mode, &[$($words),*]);
            }
        )*
    };
}

modes! {
    spin, "spin", TIME, ["deadline_exceeded", "limit `deadline` of 3000 ms reached"];
    spin_host, "spin-host", TIME, ["deadline_exceeded", "limit `deadline` of 3000 ms reached"];
    spin_model, "spin-model", TIME, ["deadline_exceeded", "limit `deadline` of 3000 ms reached"];
    sleep, "sleep", TIME, ["it waits or sleeps, which a pipeline cannot"];
    decide_spin, "decide-spin", TIME, ["deadline_exceeded", "limit `deadline` of 3000 ms reached"];
    review_spin, "review-spin", TIME, ["deadline_exceeded", "limit `deadline` of 3000 ms reached"];
    template_spin, "template-spin", TIME, ["deadline_exceeded", "limit `deadline` of 3000 ms reached"];

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
    decide_text, "decide-text", POLICY, ["a code for face 0"];
    decide_name, "decide-name", POLICY, ["a code for face 0"];
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
    assert_eq!(TRIED.iter().copied().collect::<BTreeSet<_>>(), known);
    assert_eq!(TRIED.len(), known.len(), "a mode is tried twice");
}

impl Trial {
    /// Has the evil pipeline misbehave while honest requests go on.
    fn attempt(self, name: &str, words: &[&str]) {
        let memory = format!("memory-mib={}", self.memory);
        // The breaker has a test of its own.
        let options = Options::drawn()
            .arg("--deadline", self.deadline.to_string())
            .arg("--workers", WORKERS.to_string());
        let server = options
            .arg("--breaker", "1000000")
            .arg("--limit", memory)
            .start();
        let evil = Evil::set_up(server, self.is_active);
        let hammer = Hammer::begin(&evil.server.url, &drawn("alice-probe.png"), WORKERS - 1);
        // Every worker has worked.
        hammer.wait_for(2 * WORKERS);
        // What starting and staging took at the most is not what it takes to serve.
        std::fs::write(format!("/proc/{}/clear_refs", evil.server.pid()), "5").unwrap();
        let before = Usage::of(evil.server.pid());

        let mode = MODES.iter().find(|mode| mode.name == name).unwrap();
        self.ask(&evil, mode, words);
        // Honest requests that began after it are answered, too.
        hammer.wait_for(2 * WORKERS);

        check_honest(&hammer.end());
        // A permit that was taken came back.
        until("the end of all work", || {
            metrics(&evil.server).contains("\nrostro_workers_busy 0\n")
        });
        // What was answered before its deadline gave its worker back with that.
        if self.deadline == SHORT {
            evil.check_workers();
        }
        let after = Usage::of(evil.server.pid());
        println!("{before:?} before, {after:?} after");
        // The evil requests come one after the other: the one under way, and the one before that is
        // still cleared away.
        let most = before.peak + ((2 * self.memory + self.run + BESIDE) << 20);
        assert!(
            after.peak <= most,
            "{} bytes were held, more than {most}",
            after.peak
        );
        // Threads that wait for work are as many as were busy at a time.
        assert!(
            after.threads <= before.threads + WORKERS,
            "{before:?} before, {after:?} after"
        );
        assert_eq!(evil.enrolled(), evil.enrolled, "somebody was enrolled");
    }

    /// Asks once, and looks at the answer and the log.
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
            "the guest's words are answered: {}",
            answer.json
        );
        for word in words {
            assert!(log.contains(word), "the log does not say `{word}`: {log}");
        }
        check_harmless(mode.name, &answer, &log);
        // 16 KiB of words and of overhead a request, an escape of six letters for a control
        // character.
        assert!(log.len() <= 40 << 10, "{} bytes of log", log.len());
    }
}

/// What nothing came of: what a mode of these found, or how much of a flood was kept.
fn check_harmless(mode: &str, answer: &Answer, log: &str) {
    let score = || {
        answer.json["recognized_faces"][0]["det_score"]
            .as_f64()
            .unwrap() as f32
    };
    match mode {
        "files" => assert_eq!(score(), 0.5, "it found something outside"),
        "counter" => assert_eq!(score(), 0.01, "it is not the first call of its instance"),
        "seek" => assert_eq!(score(), 0.001, "it found what it looked for"),
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

/// Whether an answer is as its status must be.
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

/// The end of a request's last line, which says why it failed.
fn cause(log: &str) -> String {
    let line = log.lines().last().unwrap_or_default();
    let cause = line
        .split_once(" failed ")
        .or_else(|| line.split_once(": "))
        .map_or(line, |(_, cause)| cause);
    cause.chars().take(300).collect()
}

/// What a mode is told.
fn argument(mode: &str) -> &'static [u8] {
    match mode {
        "hide" => b"sixteen evil bytes, and then some",
        // The inverse is nowhere.
        "seek" => &[0x13, 0x37, 0xFE, 0x01, 0x77, 0x99, 0x42, 0x24],
        _ => b"",
    }
}
