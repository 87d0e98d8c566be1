//! Minimum time of a frame, and the overhead of the sandbox and the service: `cargo xtask bench
//! floor`.
//!
//! In each round every contender has a turn, so that other load affects all alike. It runs for a
//! while, as under steady load, and the first third of its turn is dropped: a process that was idle
//! finds the caches full of another one's weights, and its cores asleep. The median of the others
//! counts. The contenders are:
//!
//! - ONNX Runtime alone on the tensors of the pipeline, in its fastest arrangement
//! - a native decoder of the JPEG
//! - the pipeline compiled natively
//! - the pipeline as a component
//! - a running service over HTTP, if its address is given
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark fails by panicking"
)]

mod alone;
#[path = "../common/frames.rs"]
mod frames;
#[path = "../../e2e/harness.rs"]
mod harness;
#[path = "../common/machine.rs"]
mod machine;
#[path = "../common/median.rs"]
mod median;
mod native;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use rostro_common::cores::Cores;
use rostro_inference::OnnxRuntime;
use rostro_models::Pack;
use rostro_sandbox::bindings::Purpose;
use rostro_sandbox::component::CompiledComponent;
use rostro_sandbox::engine::Engine;
use rostro_sandbox::limits::Limits;
use rostro_sandbox::pipeline::revision::Revision;
use rostro_sandbox::pipeline::stage::{StageRequest, Tuning};
use rostro_sdk::analysis;
use serde_json::Value;
use ureq::http::Method;

use crate::alone::Arrangement;
use crate::harness::{Client, FORM, Options, Server, component, file, multipart, root, shared};
use crate::median::median;
use crate::native::{Native, occupied};

/// Options of the measurement.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds of every contender on each frame
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Milliseconds of a contender's turn, of which the first third is dropped
    #[arg(long, default_value_t = 600)]
    turn_ms: u64,
    /// Name of the pack
    #[arg(long, default_value = "mobile")]
    pack: String,
    /// Flag that `cargo bench` passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// Times by name.
#[derive(Default)]
struct Times(BTreeMap<String, Vec<Duration>>);

impl Times {
    fn take<T>(&mut self, what: &str, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = work();
        self.add(what, begun.elapsed());
        result
    }

    fn add(&mut self, what: &str, time: Duration) {
        self.0.entry(what.to_owned()).or_default().push(time);
    }

    /// Returns the median in milliseconds, or `None` if nothing was measured.
    fn median(&self, what: &str) -> Option<f64> {
        let times = self.0.get(what)?;
        Some(median(times.iter().copied()).as_secs_f64() * 1e3)
    }
}

const ALONE: &str = "alone";
const DECODE: &str = "decode";
const NATIVE: &str = "native";
const COMPONENT: &str = "component";
const SERVICE: &str = "service";

/// Far longer than any analysis.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stages of a frame, in order.
const STAGES: [&str; 14] = [
    "receive",
    "queue",
    "decode",
    "letterbox",
    "copy-in",
    "detect",
    "copy-out",
    "postprocess",
    "align",
    "embed",
    "measure",
    "search",
    "decide",
    "answer",
];

fn main() -> Result<()> {
    let args = Args::parse();
    let cores = Cores::new(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN));
    let library = rostro_models::runtime::locate(None, &root().join("models/runtime"))?;
    let runtime = OnnxRuntime::load(&library, cores.clone())?;
    let pack = Pack::open(&root().join("models/installed"), &args.pack)?;
    let native = Native::new(&runtime, &pack)?;
    let engine = Engine::new(Limits::default(), 1).map_err(|error| anyhow::anyhow!("{error}"))?;
    let plugin = CompiledComponent::load(&engine, &std::fs::read(component("insightface"))?)?;
    let tuning = Tuning {
        detection: None,
        similarity: None,
        max_pixels: 40_000_000,
        own: BTreeMap::new(),
    };
    let request = StageRequest {
        runtime: &runtime,
        pack: &pack,
        vision: plugin,
        policy: None,
        limits: &BTreeMap::new(),
        settings: &BTreeMap::new(),
        tuning: &tuning,
    };
    let revision = Revision::stage(request, || (Instant::now() + PATIENCE).into())?;
    let mut arrangements = Arrangement::all(
        runtime.environment(),
        &pack,
        std::thread::available_parallelism().map_or(1, usize::from),
    )?;
    let server = enrolled()?;
    let bench = Bench {
        native,
        cores,
        revision,
        client: Client::new(&server.url),
        rounds: args.rounds,
        turn: Duration::from_millis(args.turn_ms),
    };
    let mut measured = Vec::new();
    let frames = frames::usual().into_iter().chain([frames::crowd()]);
    for (what, frame) in frames {
        measured.push((what, bench.measure(&frame, &mut arrangements)?));
    }
    println!("{}\n", machine::description());
    print(&measured);
    Ok(())
}

/// Starts a service with the students enrolled.
fn enrolled() -> Result<Server> {
    let server = Options::real().start();
    for student in std::fs::read_dir(shared("faces/students"))? {
        let student = student?.path();
        let id = student.file_name().unwrap_or_default().to_string_lossy();
        let photos = ["front.jpg", "left.jpg", "right.jpg"]
            .map(|photo| std::fs::read(student.join(photo)).unwrap());
        server.enroll(&id, photos).ok();
    }
    Ok(server)
}

/// Waits until spinning threads sleep, because they would take cores of the next contender.
fn fall_asleep() {
    std::thread::sleep(Duration::from_millis(50));
}

fn later() -> Instant {
    Instant::now() + PATIENCE
}

struct Bench {
    native: Native,
    cores: Cores,
    revision: Arc<Revision>,
    /// Client that keeps its connection, as a camera does.
    client: Client,
    rounds: usize,
    /// Time of a contender's turn.
    turn: Duration,
}

/// Faces that two contenders found, which must agree.
#[derive(Debug, Default)]
struct FacesFound {
    natively: usize,
    in_component: usize,
}

/// Result of a frame.
struct Measurements {
    times: Times,
    faces: usize,
    /// Name of the fastest arrangement of ONNX Runtime alone.
    arrangement: String,
}

impl Bench {
    fn measure(&self, file: &Path, arrangements: &mut [Arrangement]) -> Result<Measurements> {
        let image =
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let fed = self.native.fed_by(|| self.natively(&image));
        // The arrangement is chosen before the rounds, which only compare contenders.
        let mut trial = Times::default();
        for _ in 0..5 {
            for arrangement in &mut *arrangements {
                let name = arrangement.name.clone();
                trial.take(&name, || arrangement.run(&fed))?;
                fall_asleep();
            }
        }
        let time =
            |arrangement: &&mut Arrangement| trial.median(&arrangement.name).unwrap_or(f64::MAX);
        let best = arrangements
            .iter_mut()
            .min_by(|a, b| time(a).total_cmp(&time(b)))
            .context("an arrangement")?;
        let mut times = Times::default();
        let mut found = FacesFound::default();
        for _ in 0..self.rounds {
            self.take_turn(&mut times, |times| times.take(ALONE, || best.run(&fed)))?;
            fall_asleep();
            self.take_turn(&mut times, |times| {
                times.take(DECODE, || rostro_sdk::decode::decode(&image, u64::MAX))?;
                Ok(())
            })?;
            self.take_turn(&mut times, |times| {
                found.natively = self.measure_native(&image, times)?;
                Ok(())
            })?;
            self.take_turn(&mut times, |times| {
                found.in_component = self.measure_component(&image, times)?;
                Ok(())
            })?;
            self.take_turn(&mut times, |times| self.measure_service(&image, times))?;
        }
        ensure!(
            found.natively == found.in_component,
            "{}: {found:?}",
            file.display()
        );
        Ok(Measurements {
            times,
            faces: found.natively,
            arrangement: best.name.clone(),
        })
    }

    /// Runs a contender for its turn and counts all but the first third, at least one run.
    fn take_turn(
        &self,
        times: &mut Times,
        mut run: impl FnMut(&mut Times) -> Result<()>,
    ) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < self.turn / 3 {
            run(&mut Times::default())?;
        }
        loop {
            run(times)?;
            if begun.elapsed() >= self.turn {
                return Ok(());
            }
        }
    }

    /// Analyses a frame natively. Returns the number of faces.
    fn measure_native(&self, image: &[u8], times: &mut Times) -> Result<usize> {
        self.native.take_stages();
        let analysis = times.take(NATIVE, || self.natively(image))?;
        for (stage, time) in self.native.take_stages() {
            times.add(&format!("{NATIVE} {stage}"), time);
        }
        Ok(analysis.faces.len())
    }

    /// Analyses a frame in the component, including creating and dropping the instance. Returns the
    /// number of faces.
    fn measure_component(&self, image: &[u8], times: &mut Times) -> Result<usize> {
        let (analysis, stages) = times.take(COMPONENT, || {
            let mut run = self.revision.begin(later());
            let analysis = occupied(&self.cores, || run.analyze(image, Purpose::Recognize));
            (analysis, run.stages().to_vec())
        });
        for (stage, time) in stages {
            times.add(&format!("{COMPONENT} {stage}"), time);
        }
        Ok(analysis?.faces.len())
    }

    /// Sends a frame to the service.
    fn measure_service(&self, image: &[u8], times: &mut Times) -> Result<()> {
        let (answer, wall) = self.ask(image)?;
        times.add(SERVICE, wall);
        let mut known = Duration::ZERO;
        let stages = answer.get("timings_ms").and_then(Value::as_object);
        for (stage, milliseconds) in stages.into_iter().flatten() {
            let milliseconds = milliseconds.as_f64().unwrap_or_default();
            let time = Duration::from_secs_f64(milliseconds / 1e3);
            if STAGES.contains(&stage.as_str()) {
                known += time;
                times.add(&format!("{SERVICE} {stage}"), time);
            }
        }
        times.add(&format!("{SERVICE} answer"), wall.saturating_sub(known));
        Ok(())
    }

    /// Sends a frame to the service. Returns the answer and the time.
    fn ask(&self, image: &[u8]) -> Result<(Value, Duration)> {
        let begun = Instant::now();
        let body = multipart(&[file("image", "frame.jpg", image)]);
        let headers = [("content-type", FORM)];
        let answer = self
            .client
            .send(Method::POST, "/process_frame", &headers, &body)?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok((answer.json, begun.elapsed()))
    }

    fn natively(&self, image: &[u8]) -> Result<analysis::Analysis> {
        // The component copies the image, too: the host lowers it into its memory.
        let image = image.to_vec();
        Ok(occupied(&self.cores, || {
            rostro_insightface::analyze::analyze(&&self.native, image, analysis::Purpose::Recognize)
        })?)
    }
}

#[expect(clippy::print_stdout, reason = "what a benchmark is for")]
fn print(measured: &[(&str, Measurements)]) {
    println!(
        "| frame | faces | ONNX Runtime alone ms | its arrangement | native decoding ms | floor ms | native pipeline ms | component ms \
         | component ÷ native | service ms | service ÷ floor |\n|---|---|---|---|---|---|---|---|---|---|---|"
    );
    for (
        what,
        Measurements {
            times,
            faces,
            arrangement,
        },
    ) in measured
    {
        let of = |name: &str| times.median(name);
        let floor = of(ALONE)
            .zip(of(DECODE))
            .map(|(alone, decode)| alone + decode);
        let ratio = |a: Option<f64>, b: Option<f64>| {
            a.zip(b)
                .map_or_else(|| "–".to_owned(), |(a, b)| format!("**{:.2}**", a / b))
        };
        println!(
            "| {what} | {faces} | {} | {arrangement} | {} | {} | {} | {} | {} | {} | {} |",
            shown(of(ALONE)),
            shown(of(DECODE)),
            shown(floor),
            shown(of(NATIVE)),
            shown(of(COMPONENT)),
            ratio(of(COMPONENT), of(NATIVE)),
            shown(of(SERVICE)),
            ratio(of(SERVICE), floor)
        );
    }
    println!(
        "\nBy stage in ms: natively / in the component / in the service. `answer` is what is left of the wall time: making the \
              instance, serialising, sending, and the client.\n"
    );
    println!(
        "| frame | {} |\n|---|{}",
        STAGES.join(" | "),
        "---|".repeat(STAGES.len())
    );
    for (what, Measurements { times, .. }) in measured {
        let cell = |stage: &&str| {
            [NATIVE, COMPONENT, SERVICE]
                .map(|who| shown(times.median(&format!("{who} {stage}"))))
                .join(" / ")
        };
        println!(
            "| {what} | {} |",
            STAGES.iter().map(cell).collect::<Vec<_>>().join(" | ")
        );
    }
}

fn shown(milliseconds: Option<f64>) -> String {
    milliseconds.map_or_else(
        || "–".to_owned(),
        |milliseconds| format!("{milliseconds:.1}"),
    )
}
