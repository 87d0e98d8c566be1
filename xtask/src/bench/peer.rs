//! Side by side with the replaced Python service, on the same models and requests.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use super::service::{Service, empty_folder, free_address};
use super::wrk::{self, Load};
use super::{BenchArgs, frames, machine};
use crate::python;
use crate::setup::{Profile, program};
use crate::steps::{command, root, shared, step};

/// Callers at a time.
const CONCURRENCY: [usize; 2] = [1, 8];

/// Seconds of load before a row is measured, so that both have their memory and their threads.
const WARM_UP: u64 = 1;

/// Measures both services on every frame and prints the table.
pub(super) fn compare(args: &BenchArgs) -> Result<()> {
    wrk::install()?;
    let programs = python::environment("peer", &root().join("xtask/bench/requirements.txt"))?;
    let ours = step("rostro, with the students enrolled", ours)?;
    let theirs = step("the replaced service, with the students enrolled", || {
        filled(start_theirs(&programs)?)
    })?;
    println!(
        "{}\n{} rounds of {} s for each service in each row\n",
        machine::described(),
        args.rounds,
        args.seconds
    );
    println!(
        "| frame | callers | faces found, named | p50 ms, replaced | p50 ms, rostro | ratio | p95 ms, replaced | p95 ms, rostro | ratio \
         | requests/s, replaced | requests/s, rostro | ratio |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    let mut behind = Vec::new();
    for (what, picture) in frames::usual() {
        let body = wrk::frame_body(&picture)?;
        let found = [&theirs, &ours].map(|service| service.recognize(&picture));
        let [Ok((their_faces, their_names)), Ok((our_faces, our_names))] = found else {
            found.into_iter().collect::<Result<Vec<_>>>()?;
            continue;
        };
        for callers in CONCURRENCY {
            let (theirs, ours) = in_turns(args, [&theirs, &ours], &picture, &body, callers)?;
            let ratios = [
                theirs.p50 / ours.p50,
                theirs.p95 / ours.p95,
                ours.rate / theirs.rate,
            ];
            println!(
                "| {what} | {callers} | {their_faces}, {their_names} and {our_faces}, {our_names} | {:.1} | {:.1} | **{:.1}×** | {:.1} | {:.1} | {:.1}× \
                 | {:.1} | {:.1} | **{:.1}×** |",
                theirs.p50,
                ours.p50,
                ratios[0],
                theirs.p95,
                ours.p95,
                ratios[1],
                theirs.rate,
                ours.rate,
                ratios[2]
            );
            if ratios.iter().any(|&ratio| ratio <= 1.0)
                || our_faces < their_faces
                || our_names < their_names
            {
                behind.push(format!("{what} with {callers} callers"));
            }
        }
    }
    let memory = |service: &Service| {
        service
            .memory()
            .map_or_else(|| "unknown".to_owned(), |(_, peak)| format!("{peak} MB"))
    };
    println!(
        "\npeak memory: replaced {}, rostro {}",
        memory(&theirs),
        memory(&ours)
    );
    ensure!(
        behind.is_empty(),
        "not ahead of the replaced service: {}",
        behind.join("; ")
    );
    Ok(())
}

/// This service, with the students enrolled.
pub(super) fn ours() -> Result<Service> {
    filled(start_ours()?)
}

fn filled(service: Service) -> Result<Service> {
    service.enroll_students()?;
    Ok(service)
}

fn start_ours() -> Result<Service> {
    let address = free_address()?;
    let mut serve = command(program(Profile::Release));
    serve
        .args([
            "serve",
            "--pack",
            "mobile",
            "--listen",
            &address,
            "--admin",
            "off",
            "--gallery",
        ])
        .arg(empty_folder("gallery-rostro")?)
        .arg("--state")
        .arg(empty_folder("state-rostro")?)
        .arg("--pipeline")
        .arg(root().join("target/guest/insightface.wasm"));
    Service::start("rostro", &address, &mut serve)
}

fn start_theirs(programs: &Path) -> Result<Service> {
    let address = free_address()?;
    // It wants a folder with exactly the two models.
    let models = empty_folder("models-replaced")?;
    for model in ["det_500m.onnx", "mobilefacenet.onnx"] {
        fs::copy(
            root().join("models/installed/mobile").join(model),
            models.join(model),
        )?;
    }
    let mut serve = command(programs.join("gunicorn"));
    serve
        .arg("--chdir")
        .arg(shared().join("peers"))
        .args(["--bind", &address, "--workers", "1", "seed_service:app"])
        .env("MODELS", models)
        .env("GALLERY", empty_folder("gallery-replaced")?)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // Where these are set they work around old builds, and slow the current ones.
        .env_remove("OPENBLAS_CORETYPE")
        .env_remove("OPENBLAS_L2_SIZE");
    Service::start("the replaced service", &address, &mut serve)
}

/// Loads two services in turns; gives the median of each figure over the rounds.
fn in_turns(
    args: &BenchArgs,
    services: [&Service; 2],
    picture: &Path,
    body: &Path,
    callers: usize,
) -> Result<(Load, Load)> {
    let load = |service: &Service, seconds: u64| {
        let load = wrk::load(service, body, callers, seconds);
        // Requests that wrk gave up when its time was over are still worked on: the next service
        // must not share the cores with them.
        service.recognize(picture)?;
        load
    };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for service in services {
        load(service, WARM_UP)?;
    }
    for _ in 0..args.rounds {
        first.push(load(services[0], args.seconds)?);
        second.push(load(services[1], args.seconds)?);
    }
    Ok((median(&first), median(&second)))
}

fn median(loads: &[Load]) -> Load {
    let of = |figure: fn(&Load) -> f64| {
        let mut figures: Vec<f64> = loads.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Load {
        p50: of(|load| load.p50),
        p95: of(|load| load.p95),
        rate: of(|load| load.rate),
        requests: loads.iter().map(|load| load.requests).sum(),
    }
}
