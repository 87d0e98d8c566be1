//! `cargo xtask walk`: a plugin author's first hour, from nothing to a pipeline that serves, in
//! each language.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::setup::{self, Profile, program};
use crate::steps::{command, output, root, step, succeed};
use crate::wasm::Toolchain;
use crate::{guest, python, scripting};

/// The projects: a name, and what `rostro pipeline new` is told beside it.
const PROJECTS: [(&str, &[&str]); 4] = [
    ("first-pipeline", &[]),
    ("first-policy", &["--policy-only"]),
    ("first-js", &["--lang", "js", "--policy-only"]),
    ("first-python", &["--lang", "python", "--policy-only"]),
];

/// How long a service may take to start.
const START: Duration = Duration::from_secs(60);

/// A running service; it ends with the walk.
struct Service {
    child: Child,
    admin: String,
    url: String,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes each project as its author would, tests and builds it, tries it on photos, and swaps it in
/// on a running service.
pub(crate) fn run() -> Result<()> {
    setup::host(Profile::Dev)?;
    setup::runtime(Profile::Dev)?;
    guest::build()?;
    let folder = root().join("target/walk");
    fs::create_dir_all(&folder)?;
    let service = step("a service on the drawn faces", || start(&folder))?;
    for (name, how) in PROJECTS {
        let project = folder.join(name);
        step(
            &format!("rostro pipeline new {name} {}", how.join(" ")),
            || make(&project, how),
        )?;
        let built = step(&format!("{name}: its tests and its build"), || {
            build(&project, name)
        })?;
        step(&format!("{name}: check, try, diff and bench"), || {
            inspect(&folder, &project, &built)
        })?;
        step(
            &format!("{name}: pushed, in the shadow, activated, asked, and rolled back"),
            || swap(&service, name, &built),
        )?;
    }
    Ok(())
}

fn rostro(args: &[&str]) -> Command {
    let mut rostro = command(program(Profile::Dev));
    rostro
        .args(args)
        .current_dir(root())
        .env("ROSTRO_COMPILED", root().join("target/tmp/compiled"));
    rostro
}

fn make(project: &Path, how: &[&str]) -> Result<()> {
    if project.exists() {
        fs::remove_dir_all(project)?;
    }
    succeed(
        rostro(&["pipeline", "new"])
            .arg(project)
            .args(how)
            .stdout(Stdio::null()),
    )
}

/// Does what the project's README says; the component.
fn build(project: &Path, name: &str) -> Result<PathBuf> {
    if project.join("Cargo.toml").is_file() {
        let shared = guest::projects_target();
        succeed(
            crate::steps::cargo()
                .args(["test", "--quiet"])
                .env("CARGO_TARGET_DIR", &shared)
                .current_dir(project),
        )?;
        let mut build = Toolchain::find()?.build_project()?;
        succeed(build.env("CARGO_TARGET_DIR", &shared).current_dir(project))?;
        return Ok(shared
            .join("wasm32-wasip2/release")
            .join(format!("{}.wasm", name.replace('-', "_"))));
    }
    let built = project.join(format!("{name}.wasm"));
    if project.join("package.json").is_file() {
        scripting::npm_install(project)?;
        succeed(
            command("npm")
                .args(["test", "--silent"])
                .current_dir(project)
                .stdout(Stdio::null()),
        )?;
        succeed(
            command("npm")
                .args(["run", "build", "--silent"])
                .current_dir(project),
        )?;
        return Ok(built);
    }
    let programs = python::componentize()?;
    succeed(
        command("python3")
            .args(["-m", "unittest", "--quiet"])
            .current_dir(project),
    )?;
    let mut build = command(programs.join("componentize-py"));
    build
        .args([
            "-d",
            "wit",
            "-w",
            "policy-only",
            "componentize",
            "--stub-wasi",
            "app",
            "-o",
        ])
        .arg(&built);
    succeed(build.current_dir(project).stdout(Stdio::null()))?;
    Ok(built)
}

/// What its README says to type, in its own folder: what it is to be compared with and run on is
/// found by the program.
fn inspect(folder: &Path, project: &Path, built: &Path) -> Result<()> {
    let here = |args: &[&str]| {
        let mut rostro = rostro(args);
        rostro.current_dir(project);
        rostro
    };
    let report = output(here(&["pipeline", "check", "--json"]).arg(built))?;
    let report: Value = serde_json::from_str(&report)?;
    ensure!(
        report.pointer("/usable") == Some(&Value::Bool(true))
            && report.pointer("/used").is_some_and(Value::is_object),
        "{report}"
    );
    let frames = root().join("models/testing/frames");
    let gallery = folder.join("service/gallery");
    let [seen, differ] = ["seen", "differ"].map(|name| folder.join(name));
    let mut attempt = here(&["pipeline", "try", "--json"]);
    let tried = output(
        attempt
            .arg(built)
            .arg("--images")
            .arg(&frames)
            .arg("--gallery")
            .arg(&gallery)
            .arg("--out")
            .arg(&seen),
    )?;
    let tried: Value = serde_json::from_str(&tried)?;
    let faces = || {
        tried
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|photo| photo.pointer("/faces")?.as_array())
            .flatten()
    };
    ensure!(
        faces().count() > 10,
        "{} faces in the drawn photos",
        faces().count()
    );
    let alice = faces()
        .filter(|face| face.pointer("/identity").and_then(Value::as_str) == Some("alice"))
        .count();
    ensure!(alice > 0, "nobody is alice");
    let own = root().join("target/guest/insightface.wasm");
    let mut diff = here(&["pipeline", "diff"]);
    diff.arg(own)
        .arg(built)
        .arg("--images")
        .arg(&frames)
        .arg("--gallery")
        .arg(&gallery)
        .arg("--out")
        .arg(&differ);
    succeed(diff.stdout(Stdio::null()))?;
    succeed(
        here(&["pipeline", "bench", "--seconds", "1"])
            .arg(built)
            .stdout(Stdio::null()),
    )
}

fn swap(service: &Service, name: &str, built: &Path) -> Result<()> {
    let admin = ["--admin", &service.admin];
    let pushed = output(
        rostro(&["pipeline", "push", "--json"])
            .arg(built)
            .args(admin),
    )?;
    let pushed: Value = serde_json::from_str(&pushed)?;
    let id = pushed
        .pointer("/id")
        .and_then(Value::as_str)
        .with_context(|| format!("{pushed}"))?;
    succeed(
        rostro(&["pipeline", "shadow", id])
            .args(admin)
            .stdout(Stdio::null()),
    )?;
    ask(service)?;
    succeed(
        rostro(&["pipeline", "activate", id])
            .args(admin)
            .stdout(Stdio::null()),
    )?;
    let answer = ask(service)?;
    let list: Value = serde_json::from_str(&output(
        rostro(&["pipeline", "list", "--json"]).args(admin),
    )?)?;
    let is_active =
        |revision: &&Value| revision.pointer("/state").and_then(Value::as_str) == Some("active");
    let active = list
        .pointer("/revisions")
        .and_then(Value::as_array)
        .and_then(|revisions| revisions.iter().find(is_active));
    let active = active.context("no revision is active")?;
    let text = |value: &Value, path: &str| {
        value
            .pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let policy = text(active, "/policy");
    ensure!(
        policy == format!("{name} 0.1.0"),
        "the active policy is {policy}"
    );
    ensure!(
        text(&answer, "/pipeline/digest") == text(active, "/id"),
        "{answer}"
    );
    ensure!(
        text(&answer, "/recognized_faces/0/identity") == "alice",
        "{answer}"
    );
    succeed(
        rostro(&["pipeline", "rollback"])
            .args(admin)
            .stdout(Stdio::null()),
    )
}

/// Who is on alice's photo.
fn ask(service: &Service) -> Result<Value> {
    let frame = fs::read(root().join("models/testing/frames/alice-probe.png"))?;
    let mut answer = ureq::post(format!("{}/process_frame", service.url))
        .header("content-type", "image/png")
        .send(&frame)?;
    Ok(serde_json::from_str(&answer.body_mut().read_to_string()?)?)
}

/// A service that knows alice.
fn start(folder: &Path) -> Result<Service> {
    let state = folder.join("service");
    let _ = fs::remove_dir_all(&state);
    fs::create_dir_all(&state)?;
    let ports = [free_port()?, free_port()?];
    let [listen, admin] = ports.map(|port| format!("127.0.0.1:{port}"));
    let mut serve = rostro(&[
        "serve", "--pack", "testing", "--listen", &listen, "--admin", &admin,
    ]);
    serve
        .arg("--gallery")
        .arg(state.join("gallery"))
        .arg("--state")
        .arg(state.join("state"));
    serve
        .arg("--pipeline")
        .arg(root().join("target/guest/insightface.wasm"));
    let log = fs::File::create(state.join("log"))?;
    let child = serve
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("the service does not start")?;
    let service = Service {
        child,
        admin: format!("http://{admin}"),
        url: format!("http://{listen}"),
    };
    let begun = Instant::now();
    while ask(&service).is_err() {
        ensure!(
            begun.elapsed() < START,
            "the service does not answer; {} says why",
            state.join("log").display()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let photo = root().join("models/testing/frames/alice-1.png");
    let form = ureq::unversioned::multipart::Form::new()
        .text("student_id", "alice")
        .file("images", &photo)?;
    ureq::post(format!("{}/process-images", service.url)).send(form)?;
    Ok(service)
}

/// A port that nobody listens on.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}
