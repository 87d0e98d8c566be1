//! Downloading a pack's archive: resumed where it was cut off, bounded, and shown.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sha2::{Digest, Sha256};
use ureq::http::{StatusCode, header};

use super::manifest::Archive;
use crate::digest::Sha256Digest;

/// The largest archive that is fetched, in bytes; the largest published pack has under 400 MB.
const LARGEST: u64 = 2 << 30;

/// How long a connection may take, and how long it may stay silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why an archive cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The server was not reached, or refused.
    #[error("{url} cannot be fetched: {cause}; run the command again to go on where it stopped, or fetch it yourself and give it with --from")]
    Http {
        /// What was fetched.
        url: String,
        /// Why not.
        cause: Box<ureq::Error>,
    },
    /// The server answered with something else than the file.
    #[error("{url} answers with status {status}; fetch the archive yourself and give it with --from")]
    Status {
        /// What was fetched.
        url: String,
        /// The status.
        status: StatusCode,
    },
    /// The connection broke, or the disk is full.
    #[error("the download of {url} stopped: {cause}; run the command again to go on where it stopped")]
    Stopped {
        /// What was fetched.
        url: String,
        /// Why.
        cause: io::Error,
    },
    /// More bytes than any pack has.
    #[error("{url} has more than {LARGEST} bytes")]
    TooLarge {
        /// What was fetched.
        url: String,
    },
    /// It is another file.
    #[error("{url} has the SHA-256 {given}, not {wanted}: it was changed or damaged, and nothing of it was installed")]
    Digest {
        /// What was fetched.
        url: String,
        /// What it is.
        given: Sha256Digest,
        /// What it should be.
        wanted: String,
    },
}

/// Fetches an archive into `partial`, which keeps what came if the download stops. The file is verified and stands at its start.
pub(super) fn fetch(archive: &Archive, partial: &Path) -> Result<File, DownloadError> {
    let stopped = |cause| DownloadError::Stopped { url: archive.url.clone(), cause };
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(partial).map_err(stopped)?;
    let there = file.seek(SeekFrom::End(0)).map_err(stopped)?;
    if there > 0 && digest(&mut file).map_err(stopped)?.to_string() == archive.sha256 {
        // Everything came, and the command was interrupted after that.
        return Ok(file);
    }
    receive(archive, &mut file, there)?;
    let given = digest(&mut file).map_err(stopped)?;
    if given.to_string() != archive.sha256 {
        // What is there cannot become right by going on.
        file.set_len(0).map_err(stopped)?;
        return Err(DownloadError::Digest { url: archive.url.clone(), given, wanted: archive.sha256.clone() });
    }
    Ok(file)
}

/// Appends what is missing to the `there` bytes of the file, or begins again if the server cannot go on from there.
fn receive(archive: &Archive, file: &mut File, there: u64) -> Result<(), DownloadError> {
    let url = || archive.url.clone();
    let config = ureq::Agent::config_builder().timeout_connect(Some(PATIENCE)).timeout_recv_response(Some(PATIENCE)).http_status_as_error(false);
    let agent: ureq::Agent = config.build().into();
    let mut request = agent.get(&archive.url);
    if there > 0 {
        request = request.header(header::RANGE, format!("bytes={there}-"));
    }
    let response = request.call().map_err(|cause| DownloadError::Http { url: url(), cause: Box::new(cause) })?;
    let stopped = |cause| DownloadError::Stopped { url: url(), cause };
    let begin = match response.status() {
        StatusCode::PARTIAL_CONTENT => there,
        StatusCode::OK => 0,
        // More is there than the server has: begin again.
        StatusCode::RANGE_NOT_SATISFIABLE if there > 0 => {
            file.set_len(0).map_err(stopped)?;
            return receive(archive, file, 0);
        }
        status => return Err(DownloadError::Status { url: url(), status }),
    };
    file.set_len(begin).map_err(stopped)?;
    file.seek(SeekFrom::Start(begin)).map_err(stopped)?;
    let rest = response.body().content_length();
    let bar = progress(rest.map(|rest| begin + rest), begin);
    let body = response.into_body().into_with_config().limit(LARGEST).reader();
    let received = copy(&mut bar.wrap_read(body).take(LARGEST - begin + 1), file).map_err(stopped)?;
    bar.finish_and_clear();
    if begin + received > LARGEST {
        return Err(DownloadError::TooLarge { url: url() });
    }
    if rest.is_some_and(|rest| received < rest) {
        return Err(stopped(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed early")));
    }
    Ok(())
}

fn copy(from: &mut impl Read, file: &mut File) -> io::Result<u64> {
    let received = io::copy(from, file)?;
    file.flush()?;
    Ok(received)
}

fn digest(file: &mut File) -> io::Result<Sha256Digest> {
    file.seek(SeekFrom::Start(0))?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            read => hash.update(chunk.get(..read).unwrap_or_default()),
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(Sha256Digest(hash.finalize().into()))
}

/// A bar for people; for a log, one line at the start.
fn progress(total: Option<u64>, begin: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        let size = total.map_or_else(String::new, |total| format!(" {} MB", total / 1_000_000));
        eprintln!("downloading{size}, from byte {begin}");
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr()).with_position(begin);
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}
