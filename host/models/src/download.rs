//! Downloads a pack's archive with a size limit and a progress bar, and resumes a partial download.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sha2::{Digest, Sha256};
use ureq::http::{StatusCode, header};
use ureq::tls::TlsConfig;

use rostro_common::digest::Sha256Digest;
use rostro_common::text::warn_user;

use super::manifest::PublishedArchive;

/// Returns the certificates to trust for an address.
pub type Trust = fn(&str) -> Result<TlsConfig, Box<dyn std::error::Error + Send + Sync>>;

/// Limits of a download.
#[derive(Clone, Copy, Debug)]
struct DownloadLimits {
    /// Maximum size of the archive in bytes.
    bytes: u64,
    /// Timeout of connecting, and of each wait for data.
    timeout: Duration,
}

/// Limits for published packs, the largest of which has less than 400 MB.
const LIMITS: DownloadLimits = DownloadLimits {
    bytes: 2 << 30,
    timeout: Duration::from_secs(30),
};

/// Error of a download.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The server was not reached, or refused the connection.
    #[error(
        "cannot fetch {url}: {cause}; run the command again to resume, or fetch it yourself and \
         pass it with --from"
    )]
    Http {
        /// Address of the archive.
        url: String,
        /// Error of the HTTP client.
        cause: Box<ureq::Error>,
    },
    /// The system's certificates are not usable.
    #[error(transparent)]
    Trust(#[from] Box<dyn std::error::Error + Send + Sync>),
    /// The server returned another status.
    #[error(
        "cannot fetch {url}: the server returned status {status}; fetch the archive yourself and \
         pass it with --from"
    )]
    Status {
        /// Address of the archive.
        url: String,
        /// The status.
        status: StatusCode,
    },
    /// The connection failed, or the file cannot be written.
    #[error("the download of {url} stopped: {cause}; run the command again to resume")]
    Stopped {
        /// Address of the archive.
        url: String,
        /// Error of the connection or the file.
        cause: io::Error,
    },
    /// The archive exceeds the size limit.
    #[error("{url} has more than {max} bytes")]
    TooLarge {
        /// Address of the archive.
        url: String,
        /// The limit.
        max: u64,
    },
    /// The archive has another digest than the manifest.
    #[error(
        "{url} has the SHA-256 {actual}, not {expected}: it was changed or damaged, and nothing \
         of it was installed"
    )]
    Digest {
        /// Address of the archive.
        url: String,
        /// Digest of the downloaded file.
        actual: Sha256Digest,
        /// Digest in the manifest.
        expected: String,
    },
}

/// Fetches an archive into the file `partial`, which keeps the received bytes if the download
/// stops. Returns the verified file at its start.
pub(super) fn fetch(
    archive: &PublishedArchive,
    partial: &Path,
    trust: Trust,
) -> Result<File, DownloadError> {
    fetch_within(LIMITS, archive, partial, trust)
}

fn fetch_within(
    limits: DownloadLimits,
    archive: &PublishedArchive,
    partial: &Path,
    trust: Trust,
) -> Result<File, DownloadError> {
    let stopped = |cause| DownloadError::Stopped {
        url: archive.url.clone(),
        cause,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(partial)
        .map_err(stopped)?;
    let received = file.seek(SeekFrom::End(0)).map_err(stopped)?;
    if received > 0 && digest(&mut file).map_err(stopped)?.to_string() == archive.sha256 {
        // The download was complete when the command was interrupted.
        return Ok(file);
    }
    receive(limits, archive, &mut file, received, trust)?;
    let actual = digest(&mut file).map_err(stopped)?;
    if actual.to_string() != archive.sha256 {
        // Resuming cannot repair wrong bytes.
        file.set_len(0).map_err(stopped)?;
        return Err(DownloadError::Digest {
            url: archive.url.clone(),
            actual,
            expected: archive.sha256.clone(),
        });
    }
    Ok(file)
}

/// Appends the missing bytes to the first `offset` bytes of the file. Begins again if the server
/// cannot resume.
fn receive(
    limits: DownloadLimits,
    archive: &PublishedArchive,
    file: &mut File,
    offset: u64,
    trust: Trust,
) -> Result<(), DownloadError> {
    let url = || archive.url.clone();
    let timeout = Some(limits.timeout);
    let config = ureq::Agent::config_builder()
        .timeout_connect(timeout)
        .timeout_recv_response(timeout)
        .timeout_per_read(timeout);
    let config = config.http_status_as_error(false);
    // The system's certificates include the authority of a TLS-inspecting proxy, if there is one.
    let agent: ureq::Agent = config.tls_config(trust(&archive.url)?).build().into();
    let mut request = agent.get(&archive.url);
    if offset > 0 {
        request = request.header(header::RANGE, format!("bytes={offset}-"));
    }
    let response = request.call().map_err(|cause| DownloadError::Http {
        url: url(),
        cause: Box::new(cause),
    })?;
    let stopped = |cause| DownloadError::Stopped {
        url: url(),
        cause: explain_timeout(cause, limits),
    };
    let begin = match response.status() {
        StatusCode::PARTIAL_CONTENT => offset,
        StatusCode::OK => 0,
        // The partial file is longer than the server's.
        StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => {
            file.set_len(0).map_err(stopped)?;
            return receive(limits, archive, file, 0, trust);
        }
        status => return Err(DownloadError::Status { url: url(), status }),
    };
    let too_large = || DownloadError::TooLarge {
        url: url(),
        max: limits.bytes,
    };
    let room = limits.bytes.saturating_sub(begin);
    let rest = response.body().content_length();
    if rest.is_some_and(|rest| rest > room) {
        return Err(too_large());
    }
    file.set_len(begin).map_err(stopped)?;
    file.seek(SeekFrom::Start(begin)).map_err(stopped)?;
    let bar = progress(rest.map(|rest| begin + rest), begin);
    // One byte above the limit shows that the archive is too large.
    let received = copy(
        &mut bar
            .wrap_read(response.into_body().into_reader())
            .take(room + 1),
        file,
    )
    .map_err(stopped)?;
    bar.finish_and_clear();
    if received > room {
        // Resuming cannot make it smaller.
        file.set_len(0).map_err(stopped)?;
        return Err(too_large());
    }
    if rest.is_some_and(|rest| received < rest) {
        return Err(stopped(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the connection was closed early",
        )));
    }
    Ok(())
}

/// Replaces a timeout's error, which names an internal timer of the client, by the waiting time.
fn explain_timeout(cause: io::Error, limits: DownloadLimits) -> io::Error {
    match cause.get_ref().and_then(|cause| cause.downcast_ref()) {
        Some(ureq::Error::Timeout(_)) => io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no data for {:?}", limits.timeout),
        ),
        _ => cause,
    }
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

/// Returns a progress bar for a terminal. Otherwise writes one line and returns a hidden bar.
fn progress(total: Option<u64>, begin: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        let size = total.map_or_else(String::new, |total| format!(" {} MB", total / 1_000_000));
        warn_user(&format!("downloading{size}, from byte {begin}"));
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(
        "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
    );
    let bar =
        ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr()).with_position(begin);
    if let Ok(style) = style {
        bar.with_style(style)
    } else {
        bar
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(300);

    /// Returns an archive at a server that sends one answer and then nothing until the client
    /// closes the connection.
    fn serve(answer: &'static str) -> PublishedArchive {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/pack.zip", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(20 * TIMEOUT)).unwrap();
            let request = BufReader::new(&stream).lines().map_while(Result::ok);
            request.take_while(|line| !line.is_empty()).for_each(drop);
            stream.write_all(answer.as_bytes()).unwrap();
            let _ = stream.read(&mut [0]);
        });
        PublishedArchive {
            url,
            sha256: "0".repeat(64),
        }
    }

    /// Resumes a partial file with a limit of ten bytes. Returns the error and the file's new
    /// content.
    fn resume_error(answer: &'static str, partial_text: &str) -> (String, String) {
        let folder = tempfile::tempdir().unwrap();
        let partial = folder.path().join("partial");
        std::fs::write(&partial, partial_text).unwrap();
        let error = fetch_within(
            DownloadLimits {
                bytes: 10,
                timeout: TIMEOUT,
            },
            &serve(answer),
            &partial,
            |_| Ok(TlsConfig::default()),
        )
        .unwrap_err();
        (error.to_string(), std::fs::read_to_string(partial).unwrap())
    }

    #[test]
    fn silent_connection_keeps_received_bytes() {
        let (error, kept) = resume_error("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1234", "");
        assert!(
            error.contains("stopped: no data for 300ms; run the command again to resume"),
            "{error}"
        );
        assert_eq!(kept, "1234");
        let (error, kept) = resume_error(
            "HTTP/1.1 206 Partial Content\r\ncontent-length: 5\r\n\r\n567",
            "1234",
        );
        assert!(error.contains("stopped: no data for 300ms"), "{error}");
        assert_eq!(kept, "1234567");
    }

    #[test]
    fn silent_server_times_out() {
        let (error, kept) = resume_error("", "1234");
        assert!(
            error.contains("cannot fetch") && error.contains(": timeout"),
            "{error}"
        );
        assert_eq!(kept, "1234");
    }

    #[test]
    fn archive_above_limit_is_refused() {
        for (answer, partial) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n", ""),
            (
                "HTTP/1.1 206 Partial Content\r\ncontent-length: 18446744073709551615\r\n\r\n",
                "1234",
            ),
            ("HTTP/1.1 200 OK\r\n\r\n12345678901", ""),
            ("HTTP/1.1 206 Partial Content\r\n\r\n5678901", "1234"),
            ("HTTP/1.1 206 Partial Content\r\n\r\n3", "123456789012"),
        ] {
            let (error, kept) = resume_error(answer, partial);
            assert!(
                error.ends_with("has more than 10 bytes"),
                "{answer}: {error}"
            );
            assert!(
                kept.is_empty() || kept == partial,
                "{answer}: {kept} is kept"
            );
        }
    }
}
