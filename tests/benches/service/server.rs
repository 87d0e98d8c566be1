//! The measured servers: this service and the Python service that it replaces.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use ureq::http::Method;

use crate::harness::{
    Answer, Client, FORM, Options, Part, Server, file, holds_within, multipart, root, rostro,
    shared, text,
};

/// Time limit for a start.
const START: Duration = Duration::from_secs(120);

/// A running server. Dropping it ends the server.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    client: Client,
    process: Process,
}

#[derive(Debug)]
enum Process {
    Rostro(Server),
    Peer(Peer),
}

/// The process of the replaced service.
#[derive(Debug)]
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        // Its workers end only if it is asked to end.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        holds_within(Duration::from_secs(10), || {
            !matches!(self.0.try_wait(), Ok(None))
        });
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the folder for files of the benchmark.
pub(crate) fn scratch() -> PathBuf {
    root().join("target/bench")
}

/// Creates an empty folder in [`scratch`].
fn empty_folder(name: &str) -> Result<PathBuf> {
    let folder = scratch().join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Returns the folder with the gallery of [`Target::rostro`].
pub(crate) fn gallery() -> PathBuf {
    scratch().join("gallery-rostro")
}

/// Returns a folder of packs in which `mobile` has an 8-bit variant, made from the students' photos.
fn models_with_variant() -> Result<PathBuf> {
    let models = scratch().join("models-int8");
    let (from, to) = (
        root().join("models/installed/mobile"),
        models.join("mobile"),
    );
    fs::create_dir_all(&to)?;
    for name in ["manifest.toml", "det_500m.onnx", "mobilefacenet.onnx"] {
        fs::copy(from.join(name), to.join(name))?;
    }
    let mut quantize = rostro();
    quantize.args(["models", "quantize", "mobile", "--models"]);
    quantize.arg(&models);
    quantize.arg("--photos").arg(shared("faces/students"));
    ensure!(
        quantize.status()?.success(),
        "cannot make the 8-bit variant"
    );
    Ok(models)
}

impl Target {
    /// Starts this service in floats and enrols the students.
    pub(crate) fn rostro() -> Result<Self> {
        empty_folder("gallery-rostro")?;
        let options = Options::real()
            .gallery(&gallery())
            .log(&scratch().join("rostro.log"))
            .arg("--precision", "float");
        let server = options.arg("--admin", "off").start();
        Self::enrolled("rostro", server.url.clone(), Process::Rostro(server))
    }

    /// Starts this service with the 8-bit variant where it is faster, and enrols the students.
    pub(crate) fn rostro_auto() -> Result<Self> {
        let options = Options::real()
            .arg("--models", models_with_variant()?)
            .log(&scratch().join("rostro-auto.log"))
            .arg("--precision", "auto");
        let server = options.arg("--admin", "off").start();
        Self::enrolled("rostro, auto", server.url.clone(), Process::Rostro(server))
    }

    /// Starts a build of this service, by default the one under test, and enrols the students.
    pub(crate) fn build(name: &'static str, program: Option<&Path>) -> Result<Self> {
        let options = Options::real().arg("--admin", "off");
        let server = match program {
            Some(program) => options.program(program).start(),
            None => options.start(),
        };
        Self::enrolled(name, server.url.clone(), Process::Rostro(server))
    }

    /// Starts the replaced service and enrols the students.
    pub(crate) fn peer() -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        // It needs a folder with exactly the two models.
        let models = empty_folder("models-replaced")?;
        for model in ["det_500m.onnx", "mobilefacenet.onnx"] {
            fs::copy(
                root().join("models/installed/mobile").join(model),
                models.join(model),
            )?;
        }
        let log = File::create(scratch().join("replaced.log"))?;
        let mut command = Command::new(root().join("target/python/peer/bin/gunicorn"));
        command.arg("--chdir").arg(shared("peers"));
        command.args(["--bind", &address, "--workers", "1", "seed_service:app"]);
        command
            .env("MODELS", models)
            .env("GALLERY", empty_folder("gallery-replaced")?);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        // These work around old builds and slow current ones down.
        command
            .env_remove("OPENBLAS_CORETYPE")
            .env_remove("OPENBLAS_L2_SIZE");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let peer = Peer(
            command
                .spawn()
                .context("cannot start the replaced service")?,
        );
        let url = format!("http://{address}");
        let client = Client::new(&url);
        // Any answer shows that it has started, because it serves nothing at `/`.
        let answers = || client.send(Method::GET, "/", &[], &[]).is_ok();
        let log = scratch().join("replaced.log");
        ensure!(
            holds_within(START, answers),
            "no answer; see {}",
            log.display()
        );
        Self::enrolled("replaced", url, Process::Peer(peer))
    }

    /// Enrols every student from three photos each.
    fn enrolled(name: &'static str, url: String, process: Process) -> Result<Self> {
        let client = Client::new(&url);
        let target = Self {
            name,
            url,
            client,
            process,
        };
        for entry in fs::read_dir(shared("faces/students"))? {
            let folder = entry?.path();
            let id = folder.file_name().unwrap_or_default().to_string_lossy();
            let mut parts = vec![text("student_id", &id)];
            for photo in ["front.jpg", "left.jpg", "right.jpg"] {
                parts.push(file("images", photo, fs::read(folder.join(photo))?));
            }
            let answer = target.form("/process-images", &parts)?;
            ensure!(answer.status < 300, "{name} cannot enrol {id}: {answer:?}");
        }
        Ok(target)
    }

    fn form(&self, path: &str, parts: &[Part]) -> Result<Answer> {
        let headers = [("content-type", FORM)];
        Ok(self
            .client
            .send(Method::POST, path, &headers, &multipart(parts))?)
    }

    /// Returns the numbers of detected and of named faces in a picture.
    pub(crate) fn recognize(&self, picture: &Path) -> Result<(usize, usize)> {
        let answer = self.form(
            "/process_frame",
            &[file("image", "frame.jpg", fs::read(picture)?)],
        )?;
        let faces = answer
            .json
            .get("recognized_faces")
            .and_then(Value::as_array);
        let faces = faces.with_context(|| format!("{}: {answer:?}", self.name))?;
        let is_named = |face: &&Value| face.get("identity").is_some_and(|id| id != "Unknown");
        Ok((faces.len(), faces.iter().filter(is_named).count()))
    }

    /// Returns the memory in MB now and at the peak, including that of worker processes.
    pub(crate) fn memory(&self) -> Option<(u64, u64)> {
        let pid = match &self.process {
            Process::Rostro(server) => server.pid(),
            Process::Peer(peer) => peer.0.id(),
        };
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let workers = children
            .split_whitespace()
            .filter_map(|id| memory(id.parse().ok()?));
        let own = memory(pid)?;
        Some(workers.fold(own, |(now, peak), worker| (now + worker.0, peak + worker.1)))
    }
}

/// Reads the memory of a process in MB now and at the peak.
fn memory(process: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let megabytes = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = value.trim().trim_end_matches(" kB").parse().ok()?;
        Some(kibibytes * 1024 / 1_000_000)
    };
    Some((megabytes("VmRSS:")?, megabytes("VmHWM:")?))
}
