//! A service under measurement: started, filled with people, asked once, and ended again.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use ureq::unversioned::multipart::Form;

use super::machine;
use crate::steps::{root, shared};

/// How long a service may take until it answers.
const START: Duration = Duration::from_secs(120);

/// A running service; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: &'static str,
    pub(super) url: String,
    child: Child,
    log: PathBuf,
}

impl Drop for Service {
    fn drop(&mut self) {
        // A service that has workers of its own takes them with it only when it is asked to end.
        let _ = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(10) && matches!(self.child.try_wait(), Ok(None))
        {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder for what is made while measuring.
pub(super) fn scratch() -> PathBuf {
    root().join("target/bench")
}

/// An address of this machine that was free a moment ago.
pub(super) fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// A folder of that name, emptied.
pub(super) fn empty_folder(name: &str) -> Result<PathBuf> {
    let folder = folder(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Where [`empty_folder`] makes a folder of this name.
pub(super) fn folder(name: &str) -> PathBuf {
    scratch().join(name)
}

impl Service {
    /// Starts a service and waits until it answers.
    pub(super) fn start(name: &'static str, address: &str, command: &mut Command) -> Result<Self> {
        fs::create_dir_all(scratch())?;
        let log = scratch().join(format!("{name}.log"));
        let file = fs::File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn();
        let child = child.with_context(|| format!("cannot start {name}"))?;
        let mut service = Self {
            name,
            url: format!("http://{address}"),
            child,
            log,
        };
        let begun = Instant::now();
        // Any answer will do: the replaced service has nothing at `/`.
        while agent().get(&service.url).call().is_err() {
            if begun.elapsed() > START || service.child.try_wait()?.is_some() {
                bail!(
                    "{name} does not answer; its log is {}",
                    service.log.display()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(service)
    }

    /// Enrols every student of the test photos from three photos each, over HTTP.
    pub(super) fn enroll_students(&self) -> Result<()> {
        for entry in fs::read_dir(shared().join("faces/students"))? {
            let folder = entry?.path();
            let id = folder
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            let photos =
                ["front", "left", "right"].map(|photo| folder.join(format!("{photo}.jpg")));
            let form = photos
                .iter()
                .try_fold(Form::new().text("student_id", &id), |form, photo| {
                    form.file("images", photo)
                })?;
            let answer = agent()
                .post(format!("{}/process-images", self.url))
                .send(form);
            let status = answer
                .with_context(|| {
                    format!(
                        "{} does not enrol {id}; its log is {}",
                        self.name,
                        self.log.display()
                    )
                })?
                .status();
            if !status.is_success() {
                bail!("{} answers {status} to the enrolment of {id}", self.name);
            }
        }
        Ok(())
    }

    /// The faces that the service finds in a picture, and how many of them it names.
    pub(super) fn recognize(&self, picture: &Path) -> Result<(usize, usize)> {
        let form = Form::new().file("image", picture)?;
        let mut answer = agent()
            .post(format!("{}/process_frame", self.url))
            .send(form)?;
        let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string()?)?;
        let faces = answer
            .get("recognized_faces")
            .and_then(Value::as_array)
            .with_context(|| format!("{}: {answer}", self.name))?;
        let named = faces
            .iter()
            .filter(|face| {
                face.get("identity")
                    .is_some_and(|identity| identity != "Unknown")
            })
            .count();
        Ok((faces.len(), named))
    }

    /// The memory that it holds and the most that it held so far, its workers' included, in MB.
    pub(super) fn memory(&self) -> Option<(u64, u64)> {
        let own = self.child.id();
        let children =
            fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let workers = children
            .split_whitespace()
            .filter_map(|id| machine::memory(id.parse().ok()?));
        let own = machine::memory(own)?;
        Some(workers.fold(own, |(now, peak), worker| (now + worker.0, peak + worker.1)))
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(START))
        .build()
        .into()
}
