//! Downloading a pack's archive: resumed where it was cut off, bounded, and shown.

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

/// The certificates to trust for an address.
pub type Trust = fn(&str) -> Result<TlsConfig, Box<dyn std::error::Error + Send + Sync>>;

/// What bounds a download.
#[derive(Clone, Copy, Debug)]
struct DownloadLimits {
    /// The largest archive that is fetched, in bytes.
    bytes: u64,
    /// How long a connection may take, and how long it may stay silent.
    silence: Duration,
}

/// The largest published pack has under 400 MB.
const LIMITS: DownloadLimits = DownloadLimits {
    bytes: 2 << 30,
    silence: Duration::from_secs(30),
};

/// Why an archive cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The server was not reached, or refused.
    #[error(
        "{url} cannot be fetched: {cause}; run the command again to go on where it stopped, or fetch it yourself and give it with --from"
    )]
    Http {
        /// What was fetched.
        url: String,
        /// Why not.
        cause: Box<ureq::Error>,
    },
    /// The system's certificates cannot be used.
    #[error(transparent)]
    Trust(#[from] Box<dyn std::error::Error + Send + Sync>),
    /// The server answered with something else than the file.
    #[error(
        "{url} answers with status {status}; fetch the archive yourself and give it with --from"
    )]
    Status {
        /// What was fetched.
        url: String,
        /// The status.
        status: StatusCode,
    },
    /// The connection broke, or the disk is full.
    #[error(
        "the download of {url} stopped: {cause}; run the command again to go on where it stopped"
    )]
    Stopped {
        /// What was fetched.
        url: String,
        /// Why.
        cause: io::Error,
    },
    /// More bytes than any pack has.
    #[error("{url} has more than {most} bytes")]
    TooLarge {
        /// What was fetched.
        url: String,
        /// The most that is fetched.
        most: u64,
    },
    /// It is another file.
    #[error(
        "{url} has the SHA-256 {given}, not {wanted}: it was changed or damaged, and nothing of it was installed"
    )]
    Digest {
        /// What was fetched.
        url: String,
        /// What it is.
        given: Sha256Digest,
        /// What it should be.
        wanted: String,
    },
}

/// Fetches an archive into `partial`, which keeps what came if the download stops. The file is
/// verified and stands at its start.
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
    let there = file.seek(SeekFrom::End(0)).map_err(stopped)?;
    if there > 0 && digest(&mut file).map_err(stopped)?.to_string() == archive.sha256 {
        // Everything came, and the command was interrupted after that.
        return Ok(file);
    }
    receive(limits, archive, &mut file, there, trust)?;
    let given = digest(&mut file).map_err(stopped)?;
    if given.to_string() != archive.sha256 {
        // What is there cannot become right by going on.
        file.set_len(0).map_err(stopped)?;
        return Err(DownloadError::Digest {
            url: archive.url.clone(),
            given,
            wanted: archive.sha256.clone(),
        });
    }
    Ok(file)
}

/// Appends what is missing to the `there` bytes of the file, or begins again if the server cannot
/// go on from there.
fn receive(
    limits: DownloadLimits,
    archive: &PublishedArchive,
    file: &mut File,
    there: u64,
    trust: Trust,
) -> Result<(), DownloadError> {
    let url = || archive.url.clone();
    let patience = Some(limits.silence);
    let config = ureq::Agent::config_builder()
        .timeout_connect(patience)
        .timeout_recv_response(patience)
        .timeout_per_read(patience);
    let config = config.http_status_as_error(false);
    // A machine behind a proxy that opens connections knows the authority of that proxy.
    let agent: ureq::Agent = config.tls_config(trust(&archive.url)?).build().into();
    let mut request = agent.get(&archive.url);
    if there > 0 {
        request = request.header(header::RANGE, format!("bytes={there}-"));
    }
    let response = request.call().map_err(|cause| DownloadError::Http {
        url: url(),
        cause: Box::new(cause),
    })?;
    let stopped = |cause| DownloadError::Stopped {
        url: url(),
        cause: in_words(cause, limits),
    };
    let begin = match response.status() {
        StatusCode::PARTIAL_CONTENT => there,
        StatusCode::OK => 0,
        // More is there than the server has: begin again.
        StatusCode::RANGE_NOT_SATISFIABLE if there > 0 => {
            file.set_len(0).map_err(stopped)?;
            return receive(limits, archive, file, 0, trust);
        }
        status => return Err(DownloadError::Status { url: url(), status }),
    };
    let too_large = || DownloadError::TooLarge {
        url: url(),
        most: limits.bytes,
    };
    let room = limits.bytes.saturating_sub(begin);
    let rest = response.body().content_length();
    if rest.is_some_and(|rest| rest > room) {
        return Err(too_large());
    }
    file.set_len(begin).map_err(stopped)?;
    file.seek(SeekFrom::Start(begin)).map_err(stopped)?;
    let bar = progress(rest.map(|rest| begin + rest), begin);
    // One byte more than there is room for tells that there are more.
    let received = copy(
        &mut bar
            .wrap_read(response.into_body().into_reader())
            .take(room + 1),
        file,
    )
    .map_err(stopped)?;
    bar.finish_and_clear();
    if received > room {
        // What is there cannot become right by going on.
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

/// A silent connection's error says which of the client's timers ran out: nothing to people.
fn in_words(cause: io::Error, limits: DownloadLimits) -> io::Error {
    match cause.get_ref().and_then(|cause| cause.downcast_ref()) {
        Some(ureq::Error::Timeout(_)) => io::Error::new(
            io::ErrorKind::TimedOut,
            format!("nothing came for {:?}", limits.silence),
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

/// A bar for people; for a log, one line at the start.
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

    const SILENCE: Duration = Duration::from_millis(300);

    /// An archive at a server that gives one answer and then says nothing more until the client has
    /// gone.
    fn answered(answer: &'static str) -> PublishedArchive {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/pack.zip", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(20 * SILENCE)).unwrap();
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

    /// Goes on with what is there, where at most ten bytes are taken: the error, and what is there
    /// then.
    fn refused(answer: &'static str, there: &str) -> (String, String) {
        let folder = tempfile::tempdir().unwrap();
        let partial = folder.path().join("partial");
        std::fs::write(&partial, there).unwrap();
        let error = fetch_within(
            DownloadLimits {
                bytes: 10,
                silence: SILENCE,
            },
            &answered(answer),
            &partial,
            |_| Ok(TlsConfig::default()),
        )
        .unwrap_err();
        (error.to_string(), std::fs::read_to_string(partial).unwrap())
    }

    #[test]
    fn a_connection_that_falls_silent_is_given_up_and_what_came_is_kept() {
        let (error, kept) = refused("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1234", "");
        assert!(
            error.contains(
                "stopped: nothing came for 300ms; run the command again to go on where it stopped"
            ),
            "{error}"
        );
        assert_eq!(kept, "1234");
        let (error, kept) = refused(
            "HTTP/1.1 206 Partial Content\r\ncontent-length: 5\r\n\r\n567",
            "1234",
        );
        assert!(error.contains("stopped: nothing came for 300ms"), "{error}");
        assert_eq!(kept, "1234567");
    }

    #[test]
    fn a_server_that_never_answers_is_given_up() {
        let (error, kept) = refused("", "1234");
        assert!(error.contains("cannot be fetched: timeout"), "{error}");
        assert_eq!(kept, "1234");
    }

    #[test]
    fn more_than_the_limit_is_refused_however_it_comes() {
        for (answer, there) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n", ""),
            (
                "HTTP/1.1 206 Partial Content\r\ncontent-length: 18446744073709551615\r\n\r\n",
                "1234",
            ),
            ("HTTP/1.1 200 OK\r\n\r\n12345678901", ""),
            ("HTTP/1.1 206 Partial Content\r\n\r\n5678901", "1234"),
            ("HTTP/1.1 206 Partial Content\r\n\r\n3", "123456789012"),
        ] {
            let (error, kept) = refused(answer, there);
            assert!(
                error.ends_with("has more than 10 bytes"),
                "{answer}: {error}"
            );
            assert!(kept.is_empty() || kept == there, "{answer}: {kept} is kept");
        }
    }
}
