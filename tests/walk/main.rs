//! Walk through the steps of `docs/plugins.md` in each language, from a new project or an example to
//! a pipeline that serves: `cargo xtask walk`. The tests are ignored by default, because they
//! download tools.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

#[path = "../e2e/harness.rs"]
mod harness;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Options, Server, component, drawn, program, root, rostro};

#[test]
#[ignore = "downloads tools; run cargo xtask walk"]
fn rust_pipeline_serves() {
    walk("first-pipeline", &[]);
}

#[test]
#[ignore = "downloads tools; run cargo xtask walk"]
fn rust_policy_serves() {
    walk("first-policy", &["--policy-only"]);
}

#[test]
#[ignore = "downloads tools; run cargo xtask walk"]
fn javascript_policy_serves() {
    walk("first-js", &["--lang", "js", "--policy-only"]);
}

#[test]
#[ignore = "downloads tools; run cargo xtask walk"]
fn python_policy_serves() {
    walk("first-python", &["--lang", "python", "--policy-only"]);
}

/// The region of interest, in Rust. The walk configures a region on the server.
#[test]
#[ignore = "downloads tools; run cargo xtask walk"]
fn region_of_interest_serves() {
    let project = root().join("guest/examples/region-of-interest");
    let built = component("region-of-interest");
    let gallery = TempDir::new().unwrap();
    let server = server(gallery.path());
    inspect(&project, &built, gallery.path());
    let id = activate(&server, "region-of-interest", &built);
    let mut configure = rostro();
    configure.args(["pipeline", "configure", &id, "--activate"]);
    configure.args(["--setting", "regions=*=0,0,9,9", "--admin", &server.admin]);
    run(&mut configure);
    let answer = server.recognize(drawn("alice-probe.png")).ok();
    let face = &answer["recognized_faces"][0];
    assert_eq!(face["reason"], "outside_region", "{answer}");
    assert_eq!(face["candidates"], Value::Array(Vec::new()));
}

/// Faces that were seen twice, in Python.
#[test]
#[ignore = "downloads tools; run cargo xtask walk"]
fn seen_twice_serves() {
    let project = root().join("guest/examples/seen-twice");
    let built = root().join("target/walk/seen-twice.wasm");
    std::fs::create_dir_all(root().join("target/walk")).unwrap();
    python(&project, "../../../wit/0.2", "decide-only", &built);
    serve("seen-twice", &project, &built);
}

/// Creates a project, builds it as its README says, and serves it.
fn walk(name: &str, flags: &[&str]) {
    let project = root().join("target/walk").join(name);
    if project.exists() {
        std::fs::remove_dir_all(&project).unwrap();
    }
    run(rostro().args(["pipeline", "new"]).arg(&project).args(flags));
    let built = build(&project, name);
    serve(name, &project, &built);
}

/// Tries a component on pictures, and activates it on a running server.
fn serve(name: &str, project: &Path, built: &Path) {
    let gallery = TempDir::new().unwrap();
    let server = server(gallery.path());
    inspect(project, built, gallery.path());
    activate(&server, name, built);
}

/// Starts a server that knows alice.
fn server(gallery: &Path) -> Server {
    let server = Options::drawn().gallery(gallery).start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    server
}

/// Tests and builds a project as its README says. Returns the component.
fn build(project: &Path, name: &str) -> PathBuf {
    let built = project.join(format!("{name}.wasm"));
    if project.join("Cargo.toml").is_file() {
        // All projects share one target folder, because they have the same dependencies.
        let target = root().join("target/projects");
        let mut cargo = Command::new("cargo");
        run(cargo
            .arg("test")
            .env("CARGO_TARGET_DIR", &target)
            .current_dir(project));
        run(Command::new(program("xtask"))
            .args(["guest", "--project"])
            .arg(project));
        let file = format!("{}.wasm", name.replace('-', "_"));
        return target.join("wasm32-wasip2/release").join(file);
    }
    if project.join("package.json").is_file() {
        for args in [["install", "--no-audit"], ["run", "test"], ["run", "build"]] {
            run(Command::new("npm").args(args).current_dir(project));
        }
        return built;
    }
    python(project, "wit", "policy", &built);
    built
}

/// Tests and builds a policy in Python.
fn python(project: &Path, wit: &str, world: &str, built: &Path) {
    let variable = ("PYTHONDONTWRITEBYTECODE", "1");
    run(Command::new("python3")
        .args(["-m", "unittest"])
        .env(variable.0, variable.1)
        .current_dir(project));
    let programs = root().join("target/python/componentize/bin");
    let mut build = Command::new(programs.join("componentize-py"));
    build.args(["-d", wit, "-w", world, "componentize", "--stub-wasi"]);
    build.args(["app", "-o"]).arg(built);
    run(build.env(variable.0, variable.1).current_dir(project));
}

/// Runs the author's commands in the project's folder, where the program finds everything else.
fn inspect(project: &Path, built: &Path, gallery: &Path) {
    let frames = root().join("models/testing/frames");
    let output = root().join("target/walk/pictures");
    let pipeline = |args: &[&str]| {
        let mut rostro = rostro();
        // Compiled components are shared with the servers of tests.
        rostro.env("ROSTRO_COMPILED", root().join("target/tmp/compiled"));
        rostro.arg("pipeline").args(args).current_dir(project);
        rostro
    };
    let report = json(pipeline(&["check", "--json"]).arg(built));
    assert_eq!(report["usable"], true, "{report}");
    assert!(report["used"].is_object(), "{report}");

    let mut attempt = pipeline(&["try", "--json"]);
    attempt
        .arg(built)
        .arg("--images")
        .arg(&frames)
        .arg("--gallery")
        .arg(gallery);
    let pictures = json(attempt.arg("--out").arg(output.join("try")));
    let faces = pictures
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|picture| picture["faces"].as_array());
    let names: Vec<&Value> = faces.flatten().map(|face| &face["identity"]).collect();
    assert!(
        names.len() > 10,
        "{} faces in the drawn pictures",
        names.len()
    );
    assert!(
        names.iter().any(|name| *name == "alice"),
        "alice is not recognised: {names:?}"
    );

    let mut diff = pipeline(&["diff"]);
    diff.arg(component("insightface"))
        .arg(built)
        .arg("--images")
        .arg(&frames);
    run(diff
        .arg("--gallery")
        .arg(gallery)
        .arg("--out")
        .arg(output.join("diff")));
    run(pipeline(&["bench", "--seconds", "1"]).arg(built));
}

/// Pushes a component, shadows it, activates it, and rolls back. Returns the revision.
fn activate(server: &Server, name: &str, built: &Path) -> String {
    let pipeline = |args: &[&str]| {
        let mut rostro = rostro();
        rostro
            .arg("pipeline")
            .args(args)
            .args(["--admin", &server.admin]);
        rostro
    };
    let pushed = json(pipeline(&["push", "--json"]).arg(built));
    let id = pushed["id"].as_str().unwrap();
    run(&mut pipeline(&["shadow", id]));
    server.recognize(drawn("alice-probe.png")).ok();
    run(&mut pipeline(&["activate", id]));

    let answer = server.recognize(drawn("alice-probe.png")).ok();
    let list = json(&mut pipeline(&["list", "--json"]));
    let revisions = list["revisions"].as_array().unwrap();
    let active = revisions
        .iter()
        .find(|revision| revision["state"] == "active")
        .unwrap();
    assert_eq!(active["policy"], format!("{name} 0.1.0"));
    assert_eq!(answer["pipeline"]["digest"], active["id"]);
    assert_eq!(answer["recognized_faces"][0]["identity"], "alice");
    run(&mut pipeline(&["rollback"]));
    id.to_owned()
}

/// Runs a command that must succeed.
fn run(command: &mut Command) {
    eprintln!("── {command:?}");
    let status = command.stdin(Stdio::null()).status();
    let status = status.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(status.success(), "{command:?} ended with {status}");
}

/// Runs a command that must succeed and print JSON.
fn json(command: &mut Command) -> Value {
    eprintln!("── {command:?}");
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{command:?} ended with {}",
        output.status
    );
    serde_json::from_slice(&output.stdout).expect("the command prints JSON")
}
