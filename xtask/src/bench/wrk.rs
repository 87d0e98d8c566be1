//! Load by `wrk`: a number of connections that each send the next request when the last is
//! answered.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::service::{Service, scratch};
use crate::steps::{command, debian_packages, on_path, output, root};

const BOUNDARY: &str = "a-boundary-that-no-photo-contains";

/// What a service did under load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Milliseconds that half of the requests took at most.
    pub(super) p50: f64,
    /// Milliseconds that 95 of 100 requests took at most.
    pub(super) p95: f64,
    /// Requests answered in a second.
    pub(super) rate: f64,
    /// Requests answered.
    pub(super) requests: u64,
}

/// Makes sure that the program is there.
pub(super) fn install() -> Result<()> {
    // It has no flag that does nothing and succeeds: being found is enough.
    if on_path("wrk") {
        return Ok(());
    }
    if !Path::new("/etc/debian_version").exists() {
        bail!("the load generator wrk is missing; install it with your package manager");
    }
    debian_packages(&["wrk"])
}

/// A picture as the replaced service's camera client posts it, in a file for `wrk`.
pub(super) fn frame_body(picture: &Path) -> Result<PathBuf> {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"image\"; filename=\"frame.jpg\"\r\n"
    );
    let picture_bytes =
        fs::read(picture).with_context(|| format!("cannot read {}", picture.display()))?;
    let body = [
        head.as_bytes(),
        b"Content-Type: image/jpeg\r\n\r\n",
        &picture_bytes,
        format!("\r\n--{BOUNDARY}--\r\n").as_bytes(),
    ]
    .concat();
    let name = picture
        .file_stem()
        .context("a picture has a name")?
        .to_string_lossy()
        .into_owned();
    let file = scratch().join(format!("{name}.body"));
    fs::write(&file, body)?;
    Ok(file)
}

/// Sends a body to `/process_frame` over `connections` for some seconds.
///
/// # Errors
///
/// If any request failed: figures of a service that fails mean nothing.
pub(super) fn load(
    service: &Service,
    body: &Path,
    connections: usize,
    seconds: u64,
) -> Result<Load> {
    let mut wrk = command("wrk");
    // One thread generates more load than any of the services can take, and leaves the cores to
    // them.
    wrk.args([
        "--threads",
        "1",
        "--connections",
        &connections.to_string(),
        "--duration",
        &format!("{seconds}s"),
        "--timeout",
        "30s",
    ])
    .arg("--script")
    .arg(root().join("xtask/bench/post.lua"))
    .arg(format!("{}/process_frame", service.url))
    .arg("--")
    .arg(body)
    .arg(format!("multipart/form-data; boundary={BOUNDARY}"));
    let said = output(&mut wrk)?;
    let line = said
        .lines()
        .find(|line| line.starts_with('{'))
        .with_context(|| format!("wrk says nothing of use:\n{said}"))?;
    let figures: Value = serde_json::from_str(line)?;
    let figure = |name: &str| {
        figures
            .get(name)
            .and_then(Value::as_f64)
            .with_context(|| format!("wrk does not say {name}: {line}"))
    };
    if figure("failed")? > 0.0 || figure("requests")? < 1.0 {
        bail!(
            "{}: {} requests failed and {} were answered",
            service.name,
            figure("failed")?,
            figure("requests")?
        );
    }
    let requests = figure("requests")?;
    Ok(Load {
        p50: figure("p50_us")? / 1e3,
        p95: figure("p95_us")? / 1e3,
        rate: requests / figure("micros")? * 1e6,
        requests: requests as u64,
    })
}
