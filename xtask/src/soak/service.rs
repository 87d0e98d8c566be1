//! The service that is soaked.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ureq::http::Method;

use super::client::Client;
use crate::setup::{Profile, program};
use crate::steps::{command, root, succeed};

/// How long the service may take to start, and to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running service; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Service {
    child: Child,
    pub(super) url: String,
    pub(super) admin: String,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    /// Starts it on what the folder holds, with room for so many waiting requests.
    pub(super) fn start(profile: Profile, folder: &Path, queue: usize, log: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        // Both are held until both are known, so that they differ.
        let ports = [
            TcpListener::bind("127.0.0.1:0")?,
            TcpListener::bind("127.0.0.1:0")?,
        ];
        let [listen, admin] = ports
            .each_ref()
            .map(|port| port.local_addr().map(|address| address.to_string()));
        let (listen, admin) = (listen?, admin?);
        drop(ports);
        let mut serve = command(program(profile));
        serve.args([
            "serve",
            "--pack",
            "testing",
            "--listen",
            &listen,
            "--admin",
            &admin,
            "--queue",
            &queue.to_string(),
        ]);
        serve
            .arg("--gallery")
            .arg(folder.join("gallery"))
            .arg("--state")
            .arg(folder.join("state"));
        serve
            .arg("--pipeline")
            .arg(root().join("target/guest/insightface.wasm"))
            .env("ROSTRO_COMPILED", root().join("target/tmp/compiled"));
        let log_file = File::create(log)?;
        let child = serve
            .stdin(Stdio::null())
            .stdout(log_file.try_clone()?)
            .stderr(log_file)
            .spawn()
            .context("the service does not start")?;
        let mut service = Self {
            child,
            url: format!("http://{listen}"),
            admin: format!("http://{admin}"),
        };
        let (client, begun) = (service.client(), Instant::now());
        while client.admin(Method::GET, "/v1/people").is_err()
            || client.public(Method::GET, "/").is_err()
        {
            let is_running = begun.elapsed() < PATIENCE && service.child.try_wait()?.is_none();
            ensure!(
                is_running,
                "the service does not answer; {} says why",
                log.display()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(service)
    }

    pub(super) fn client(&self) -> Client {
        Client::new(&self.url, &self.admin)
    }

    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, as an operator does, and waits until it has.
    pub(super) fn end(mut self) -> Result<ExitStatus> {
        succeed(command("kill").args(["-TERM", &self.process().to_string()]))?;
        let asked = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(
                asked.elapsed() < PATIENCE,
                "the service does not end when it is asked to"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
