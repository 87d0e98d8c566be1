//! A pipeline from somebody whom nobody trusts: each way to misbehave, beside a pipeline that goes on to serve.
//!
//! The modes are tried in groups, each on a server of its own; what each came to is printed, and every one that went wrong is named.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use rostro_evil::modes::{Asked, DESCRIPTIONS, MODES, Mode, SETTING, image};

use crate::hammer::{Hammer, Shot};
use crate::harness::{Answer, BOUNDARY, Options, Server, component, drawn, file, multipart, text};
use crate::operator::bytes;

/// Requests worked on at a time: one for the evil one, the others for the honest.
const WORKERS: usize = 4;

/// Time for a request where modes use all of it, in seconds.
const SHORT: u64 = 3;

/// Time for a request where nothing should: long, so that a busy machine does not make a deadline of a refusal.
const LONG: u64 = 20;

/// How much later than its deadline an answer may come, and how long an honest one may take, on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

/// What the host may hold beside guests, in MiB: what each leaves to the next in its place, and some for the work on small inputs.
const BESIDE: u64 = WORKERS as u64 * 16 + 64;

/// What ONNX Runtime takes for a run on 2048×2048 pixels, in MiB: some five times the input. One such run is done at a time.
const LARGE_RUN: u64 = 5 * 48;

/// Modes, each with words that the log must have of what happened.
type Cases = &'static [(&'static str, &'static [&'static str])];

/// Modes that are tried on one server.
#[derive(Clone, Copy, Debug)]
struct Group {
    cases: Cases,
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
const TIME: Group = Group {
    cases: &[
        ("spin", &["deadline_exceeded"]),
        ("spin-host", &["deadline_exceeded"]),
        // The largest tensor, in the guest and again in the host, is 96 MiB. Runs are short with these models; `identification` has long ones.
        ("spin-model", &["deadline_exceeded"]),
        ("sleep", &["it waits or sleeps, which a pipeline cannot"]),
        ("decide-spin", &["deadline_exceeded"]),
        ("review-spin", &["deadline_exceeded"]),
        ("template-spin", &["deadline_exceeded"]),
    ],
    deadline: SHORT,
    memory: 128,
    run: LARGE_RUN,
    // It enrols, too.
    is_active: true,
};

/// Modes that take memory, or end.
const MEMORY: Group = Group {
    cases: &[
        ("memory", &["limit `memory-mib` of 128 reached: 13", "wanted"]),
        ("recursion", &["call stack exhausted"]),
        ("stack", &["out of bounds"]),
        ("panic", &["evil vision panics"]),
        ("unreachable", &["unreachable"]),
        ("exit", &["it exited with status"]),
        ("exit-zero", &["it exited with status"]),
    ],
    deadline: LONG,
    memory: 128,
    run: 0,
    is_active: false,
};

/// Modes of tensors and models.
const TENSORS: Group = Group {
    cases: &[
        ("tensor-length", &["need 150528 bytes, not 150532"]),
        ("tensor-dimensions", &["the pipeline's model failed"]),
        ("tensor-rows", &["none may be zero"]),
        ("tensor-type", &["the pipeline's model failed", "FP16"]),
        ("tensor-shape", &["the pipeline's model failed"]),
        ("tensors", &["limit `tensors` of 16 reached: 16 in use, 17 wanted"]),
        // 48 MiB in the guest and as much again in the host: taken together.
        ("tensor-bytes", &["limit `memory-mib` of 96 reached: ", "wanted"]),
        ("model-name", &["the pipeline's model failed"]),
        ("model-log", &["the pipeline's model failed"]),
        ("load-bytes", &["the pipeline's model failed"]),
    ],
    deadline: LONG,
    memory: 96,
    run: 0,
    is_active: false,
};

/// Modes that answer wrongly, or hand over too much.
const ANSWERS: Group = Group {
    cases: &[
        ("transfer", &["limit `transfer-mib` of 64 reached: one call or answer has more bytes"]),
        ("faces-many", &["limit `"]),
        ("faces-2000", &["2000 faces; at most 1024 are taken"]),
        ("embeddings-shared", &["limit `transfer-mib` of 64 reached"]),
        ("measures-many", &["100000 measures; at most 32 are taken"]),
        ("name-long", &["a measure whose name is not 1 to 32"]),
        ("landmarks-many", &["100000 landmarks, neither none nor five"]),
        ("nan", &["an embedding that contains NaN"]),
        ("infinite", &["an embedding that contains inf"]),
        ("zero-vector", &["an embedding whose length is zero"]),
        ("dimension", &["numbers, not"]),
        ("box-outside", &["outside the 100×100 image"]),
        ("box-inverted", &["outside the 100×100 image"]),
        ("box-nan", &["outside the 100×100 image"]),
        ("score-out-of-range", &["a score of 1.5"]),
        ("size-lie", &["an image of 0×0 pixels"]),
        ("utf8", &["invalid utf-8"]),
        ("text-length", &["out of bounds"]),
        ("list-length", &["out of bounds"]),
    ],
    deadline: LONG,
    // `transfer` has 200 MiB to hand over.
    memory: 256,
    run: 0,
    is_active: false,
};

/// Modes of which nothing comes.
const FLOODS: Group = Group {
    cases: &[
        ("log-flood", &["forged by a guest"]),
        ("log-empty", &[]),
        ("stderr-flood", &[]),
        ("stages-flood", &[]),
        ("files", &[]),
        ("counter", &[]),
        ("hide", &[]),
        ("seek", &[]),
    ],
    deadline: LONG,
    memory: 128,
    run: 0,
    is_active: false,
};

/// Modes of the policy.
const POLICY: Group = Group {
    cases: &[
        ("decide-panic", &["evil policy panics"]),
        ("decide-few", &["0 decisions on 1 faces"]),
        ("decide-many", &["2 decisions on 1 faces"]),
        ("decide-index", &["candidate 4294967295 of 1 for face 0"]),
        ("decide-nan", &["a confidence of NaN"]),
        ("decide-text", &["a code for face 0"]),
        ("decide-name", &["a code for face 0"]),
        ("review-index", &["face 4294967295 of 1"]),
        ("review-reasons", &["100000 reasons; 1 to 32 are taken"]),
        ("review-text", &["without a message of 1 to 500 bytes"]),
        ("template-nan", &["contains NaN"]),
        ("template-many", &["1000 templates; 1 to 16 are taken"]),
        ("template-dimension", &["numbers, not"]),
        ("template-empty", &["0 templates; 1 to 16 are taken"]),
    ],
    deadline: LONG,
    memory: 128,
    run: 0,
    is_active: true,
};

#[test]
fn every_mode_is_tried() {
    let tried = [TIME, MEMORY, TENSORS, ANSWERS, FLOODS, POLICY].into_iter().flat_map(|group| group.cases).map(|(name, _)| *name);
    let tried: Vec<&str> = tried.collect();
    let known: BTreeSet<&str> = MODES.iter().map(|mode| mode.name).collect();
    assert_eq!(tried.iter().copied().collect::<BTreeSet<_>>(), known);
    assert_eq!(tried.len(), known.len(), "a mode is tried twice");
}

#[test]
fn whoever_spins_or_sleeps_is_stopped_and_costs_nobody_else_time() {
    TIME.try_all();
}

#[test]
fn whoever_wants_all_memory_or_ends_is_stopped_and_takes_nobody_along() {
    MEMORY.try_all();
}

#[test]
fn tensors_and_models_that_are_not_as_meant_are_refused() {
    TENSORS.try_all();
}

#[test]
fn answers_that_break_a_rule_are_refused() {
    ANSWERS.try_all();
}

#[test]
fn floods_are_stemmed_and_nothing_outside_is_found() {
    FLOODS.try_all();
}

#[test]
fn a_policy_that_misbehaves_is_refused_and_enrols_nobody() {
    POLICY.try_all();
}

impl Group {
    /// Tries every mode while honest requests go on.
    fn try_all(self) {
        let memory = format!("memory-mib={}", self.memory);
        // The breaker has a test of its own.
        let options = Options::drawn().arg("--deadline", self.deadline.to_string()).arg("--workers", WORKERS.to_string());
        let server = options.arg("--breaker", "1000000").arg("--limit", memory).start();
        let evil = Evil::set_up(server, self.is_active);
        let hammer = Hammer::begin(&evil.server.url, &drawn("alice-probe.png"), WORKERS - 1);
        // Every worker has worked.
        hammer.wait_for(2 * WORKERS);
        let before = Usage::of(evil.server.pid());

        let tried: Vec<(&str, Result<String, String>)> =
            self.cases.iter().map(|(name, words)| (*name, self.attempt(&evil, name, words))).collect();

        let honest = hammer.end();
        for (name, outcome) in &tried {
            println!("{name}: {}", outcome.as_ref().unwrap_or_else(|wrong| wrong));
        }
        let wrong: Vec<String> = tried.into_iter().filter_map(|(name, outcome)| Some(format!("{name}: {}", outcome.err()?))).collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        check_honest(&honest);
        // What was answered before its deadline gave its worker back with that.
        if self.deadline == SHORT {
            evil.check_workers();
        }
        let after = Usage::of(evil.server.pid());
        println!("{before:?} before, {after:?} after");
        // The evil requests come one after the other: the one under way, and the one before that is still cleared away.
        let most = before.peak + ((2 * self.memory + self.run + BESIDE) << 20);
        assert!(after.peak <= most, "{} bytes were held, more than {most}", after.peak);
        // Threads that wait for work are as many as were busy at a time.
        assert!(after.threads <= before.threads + WORKERS, "{before:?} before, {after:?} after");
        assert_eq!(evil.enrolled(), evil.enrolled, "somebody was enrolled");
    }

    /// Tries a mode: what came of it, or what is wrong with that.
    fn attempt(self, evil: &Evil, name: &str, words: &[&str]) -> Result<String, String> {
        let mode = MODES.iter().find(|mode| mode.name == name).ok_or("there is no such mode")?;
        let begun = Instant::now();
        let answer = evil.ask(mode, argument(mode.name));
        let took = begun.elapsed();
        let log = evil.server.log_of(&answer);
        let outcome = format!("{} in {} ms; {}", answer.status, took.as_millis(), cause(&log));
        if !mode.expect.statuses().contains(&answer.status) || !is_typed(&answer) {
            return Err(format!("{outcome}; {}", answer.json));
        }
        if took > Duration::from_secs(self.deadline) + SLACK {
            return Err(format!("{outcome}; that is too late"));
        }
        if answer.json.to_string().contains("panics") {
            return Err(format!("the guest's words are answered: {}", answer.json));
        }
        if let Some(missing) = words.iter().find(|word| !log.contains(**word)) {
            return Err(format!("{outcome}; the log does not say `{missing}`: {log}"));
        }
        // 16 KiB of words and of overhead a request, an escape of six letters for a control character.
        if log.len() > 40 << 10 {
            return Err(format!("{outcome}; {} bytes of log", log.len()));
        }
        Ok(format!("{outcome}; {} bytes of log", log.len()))
    }
}

#[test]
fn every_request_has_a_memory_of_its_own() {
    let evil = Evil::set_up(Options::drawn().arg("--workers", WORKERS.to_string()).start(), false);
    let score = |mode: &str, argument: &[u8]| {
        let answer = evil.frame(&image(mode, argument)).ok();
        answer["recognized_faces"][0]["det_score"].as_f64().unwrap() as f32
    };
    // How often it is found, by its inverse: whoever looks for it must not bring it.
    let found = |secret: &[u8]| {
        let inverse: Vec<u8> = secret.iter().map(|byte| !byte).collect();
        ((score("seek", &inverse) - 0.001) * 100.0).round()
    };
    assert_eq!([(); 3].map(|()| score("counter", b"")), [0.01; 3]);
    // What is there is found: a text of the component's own.
    assert!(found(b"evil vision\npanics") >= 1.0);

    let probe = drawn("alice-probe.png");
    let pixels = ::image::load_from_memory(&probe).unwrap().into_rgb8().into_raw();
    // A stretch of pixels that is not of one colour.
    let varied = |pixels: &&[u8]| pixels.iter().collect::<BTreeSet<_>>().len() > 16;
    let pixels = pixels.chunks(48).find(varied).unwrap();
    let secret: &[u8] = b"a secret of the request before";
    for _ in 0..2 {
        at_once(|| assert!(score("hide", secret) > 0.5));
        at_once(|| assert_eq!(evil.server.names(probe.as_slice()), ["alice"]));
        at_once(|| assert_eq!([secret, &probe[1000..1048], pixels].map(found), [0.0; 3]));
    }
}

#[test]
fn a_component_that_cannot_say_what_it_is_never_serves() {
    let failed = "the pipeline cannot describe itself: ";
    // A start with it is the quick way to be told; what it costs others is seen where it is pushed to a service that runs.
    let wrongly = "the pipeline describes itself wrongly: `describe` returned a name that is not";
    let at_the_start = [("huge", wrongly), ("name", wrongly)];
    let while_it_serves = [
        ("spin", format!("{failed}the pipeline did not finish before the deadline")),
        ("memory", format!("{failed}the pipeline hit the limit `memory-mib` of 128")),
        ("panic", format!("{failed}the pipeline failed: wasm trap")),
    ];
    let tried: BTreeSet<&str> = at_the_start.iter().map(|(mode, _)| *mode).chain(while_it_serves.iter().map(|(mode, _)| *mode)).collect();
    assert_eq!(tried, DESCRIPTIONS.iter().map(|(mode, _)| *mode).collect());
    let options = |mode: &str| Options::drawn().arg("--setting", format!("{SETTING}={mode}")).arg("--deadline", SHORT.to_string());

    for (mode, reason) in at_the_start {
        let error = options(mode).pipeline(component("evil")).refuse();
        assert!(error.contains(reason) && error.len() < 1000, "{mode}: {error}");
    }
    for (mode, reason) in while_it_serves {
        let server = options(mode).arg("--limit", "memory-mib=128").start();
        server.enroll("alice", [drawn("alice-1.png")]).ok();
        let active = server.active();
        let hammer = Hammer::begin(&server.url, &drawn("alice-probe.png"), 1);
        let begun = Instant::now();
        let evil = server.stage(&bytes(component("evil")), "");
        println!("{mode}: {} after {:?}", evil["reason"], begun.elapsed());
        assert_eq!(evil["state"], "failed", "{mode}: {evil}");
        assert!(evil["reason"].as_str().unwrap().starts_with(&reason), "{mode}: {evil}");
        // A few seconds, however long it would go on.
        assert!(begun.elapsed() < Duration::from_secs(30), "{mode}");
        check_honest(&hammer.end());
        assert_eq!(server.active(), active);
    }
}

#[test]
fn a_revision_that_fails_again_and_again_is_taken_out_and_the_one_before_it_serves() {
    let server = Options::drawn().arg("--breaker", "3").start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    let honest = server.active();
    let evil = server.staged(&bytes(component("evil")), "");
    let component = bytes(component("evil"));
    let panics = |header: &str| {
        let headers = [("content-type", "image/png"), ("x-rostro-canary", header)];
        server.post_with("/process_frame", &headers, &image("panic", b"")).error(500, "pipeline_failed");
    };
    let fine = |header: &str| {
        let headers = [("content-type", "image/png"), ("x-rostro-canary", header)];
        server.post_with("/process_frame", &headers, &drawn("alice-probe.png")).ok()
    };
    let activate = || server.admin_post(&format!("/v1/revisions/{evil}/activate?allow_contract_change=true"));
    let is_out = || {
        assert_eq!(server.active(), honest);
        assert_eq!(fine("always")["recognized_faces"][0]["identity"], "alice");
        let revision = server.admin_get(&format!("/v1/revisions/{evil}"));
        assert_eq!(revision["state"], "failed", "{revision}");
        let reason = revision["reason"].as_str().unwrap();
        assert!(reason.starts_with("taken out after 3 failures in a row, the last: "), "{reason}");
        reason.to_owned()
    };

    activate().ok();
    panics("never");
    panics("never");
    // One that goes well in between: not in a row.
    fine("never");
    panics("never");
    panics("never");
    assert_eq!(server.active(), evil);
    panics("never");
    assert!(is_out().contains("evil vision panics"));
    assert!(activate().error(409, "not_ready").contains("taken out after 3 failures"));

    // Pushed again it may try again; enrolments count as well.
    assert_eq!(server.staged(&component, ""), evil);
    activate().ok();
    for _ in 0..3 {
        assert_eq!(server.active(), evil);
        server.enroll("mallory", [image("review-index", b"")]).error(400, "no_usable_image");
    }
    assert!(is_out().contains("face 4294967295 of 1"));

    // A canary that fails is none any more.
    assert_eq!(server.staged(&component, ""), evil);
    server.admin_post(&format!("/v1/revisions/{evil}/canary?share=0&allow_contract_change=true")).ok();
    for _ in 0..3 {
        panics("always");
    }
    is_out();
    let events = server.log().lines().filter(|line| line.contains("ERROR") && line.contains("taken out after 3 failures in a row")).count();
    assert!(events >= 3, "{events}");
}

/// Does something on every worker.
fn at_once(work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WORKERS).map(|_| scope.spawn(&work)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Whether an answer is as its status must be.
fn is_typed(answer: &Answer) -> bool {
    let code = answer.json["code"].as_str();
    match answer.status {
        200 => code.is_none(),
        400 => code == Some("no_usable_image") && answer.json["details"]["rejected"][0]["reasons"][0]["code"] == "pipeline_failed",
        504 => code == Some("deadline_exceeded"),
        _ => code == Some("pipeline_failed"),
    }
}

/// The end of a request's last line, which says why it failed.
fn cause(log: &str) -> String {
    let line = log.lines().last().unwrap_or_default();
    let cause = line.split_once(" failed ").or_else(|| line.split_once(": ")).map_or(line, |(_, cause)| cause);
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

fn check_honest(shots: &[Shot]) {
    let slowest = shots.iter().map(|shot| shot.took).max().unwrap_or_default();
    println!("{} honest requests, the slowest in {slowest:?}", shots.len());
    assert!(!shots.is_empty(), "nobody asked meanwhile");
    let bad: Vec<&Shot> = shots.iter().filter(|shot| shot.status != Some(200) || shot.identity != "alice").collect();
    assert!(bad.is_empty(), "{} of {} honest requests went wrong: {:?}", bad.len(), shots.len(), bad.first());
    assert!(slowest < Duration::from_secs(SHORT) + SLACK, "an honest request took {slowest:?}");
}

/// A server with the evil pipeline beside an honest one.
#[derive(Debug)]
struct Evil {
    server: Server,
    id: String,
    /// The header `x-rostro-canary` by which it is asked.
    header: &'static str,
    /// Files of people.
    enrolled: usize,
}

impl Evil {
    /// Has the evil pipeline answer those who ask for it: as the canary, or as the active one beside a canary that answers everybody else.
    fn set_up(server: Server, is_active: bool) -> Self {
        server.enroll("alice", [drawn("alice-1.png"), drawn("alice-2.png")]).ok();
        let honest = server.active();
        let id = server.staged(&bytes(component("evil")), "");
        if is_active {
            server.admin_post(&format!("/v1/revisions/{id}/activate?allow_contract_change=true")).ok();
            // Known to the evil pipeline, so that there is a candidate to decide on.
            server.enroll("mallory", [drawn("bob-1.png")]).ok();
            server.admin_post(&format!("/v1/revisions/{honest}/canary?share=1&allow_contract_change=true")).ok();
        } else {
            server.admin_post(&format!("/v1/revisions/{id}/canary?share=0&allow_contract_change=true")).ok();
        }
        let mut evil = Self { server, id, header: if is_active { "never" } else { "always" }, enrolled: 0 };
        evil.enrolled = evil.enrolled();
        evil
    }

    fn enrolled(&self) -> usize {
        fs::read_dir(&self.server.gallery).unwrap().count()
    }

    /// Has it misbehave.
    fn ask(&self, mode: &Mode, argument: &[u8]) -> Answer {
        let image = image(mode.name, argument);
        match mode.asked {
            Asked::Frame => self.frame(&image),
            Asked::Enrollment => {
                let form = multipart(&[text("student_id", "victim"), file("images", "evil.jpg", image)]);
                let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
                self.server.post_with("/process-images", &[("content-type", &content_type)], &form)
            }
        }
    }

    fn frame(&self, image: &[u8]) -> Answer {
        self.server.post_with("/process_frame", &[("content-type", "image/png"), ("x-rostro-canary", self.header)], image)
    }

    /// Asserts that as many requests are worked on at a time as there are workers: none is kept by what was tried before. One that waited for
    /// a worker until its deadline was never begun, and is no failure of the pipeline.
    fn check_workers(&self) {
        let failures = || self.server.admin_get(&format!("/v1/revisions/{}", self.id))["failures"].as_u64().unwrap();
        let before = failures();
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..WORKERS).map(|_| scope.spawn(|| self.frame(&image("spin", b"")).status)).collect();
            asked.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(statuses, [504; WORKERS]);
        // The answer is sent at the deadline, the guest interrupted some milliseconds later.
        until("the end of every worker's run", || failures() >= before + WORKERS as u64);
    }
}

pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a process uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// The most memory that it held at a time, in bytes.
    pub(crate) peak: u64,
    threads: usize,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).and_then(|line| line.split_whitespace().next()).unwrap();
        Self { peak: peak.parse::<u64>().unwrap() << 10, threads: fs::read_dir(format!("/proc/{pid}/task")).unwrap().count() }
    }
}
