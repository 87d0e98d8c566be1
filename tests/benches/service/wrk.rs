//! Load by the program `wrk`: connections that each send the next request after an answer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::harness::{FORM, file, multipart, root};
use crate::server::{Target, scratch};

/// Measurements of a server under load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Median of the request times in milliseconds.
    pub(crate) p50: f64,
    /// 95th percentile of the request times in milliseconds.
    pub(crate) p95: f64,
    /// Answered requests per second.
    pub(crate) rate: f64,
    /// Answered requests.
    pub(crate) requests: u64,
}

/// Writes a picture to a file for `wrk`, as a form like that of the replaced service's client.
pub(crate) fn frame_body(picture: &Path) -> Result<PathBuf> {
    let bytes = fs::read(picture).with_context(|| format!("cannot read {}", picture.display()))?;
    let name = picture.file_stem().context("a picture has no name")?;
    let body = scratch().join(name).with_extension("body");
    fs::write(&body, multipart(&[file("image", "frame.jpg", bytes)]))?;
    Ok(body)
}

/// Sends a body to `/process_frame` over `connections` for some seconds. Fails if a request fails,
/// because the measurements then mean nothing.
pub(crate) fn load(target: &Target, body: &Path, connections: usize, seconds: u64) -> Result<Load> {
    let mut wrk = Command::new("wrk");
    // One thread can load any of the servers fully, and leaves the cores to them.
    wrk.args(["--threads", "1", "--connections", &connections.to_string()]);
    wrk.args(["--duration", &format!("{seconds}s"), "--timeout", "30s"]);
    wrk.arg("--script")
        .arg(root().join("tests/benches/service/post.lua"));
    wrk.arg(format!("{}/process_frame", target.url))
        .arg("--")
        .arg(body)
        .arg(FORM);
    let output = wrk.output().context("cannot run wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with('{'));
    let line = line.with_context(|| format!("wrk printed no result:\n{text}"))?;
    let json: Value = serde_json::from_str(line)?;
    let number = |name: &str| {
        let number = json.get(name).and_then(Value::as_f64);
        number.with_context(|| format!("wrk printed no {name}: {line}"))
    };
    let (requests, failed) = (number("requests")?, number("failed")?);
    if failed > 0.0 || requests < 1.0 {
        bail!(
            "{}: {failed} requests failed and {requests} were answered",
            target.name
        );
    }
    Ok(Load {
        p50: number("p50_us")? / 1e3,
        p95: number("p95_us")? / 1e3,
        rate: requests / number("micros")? * 1e6,
        requests: requests as u64,
    })
}
