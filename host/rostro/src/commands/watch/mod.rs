//! `rostro watch`: sends pictures to a running service and prints a line for each answer.
//!
//! It uses only the public HTTP interface.

pub(crate) mod jpeg_stream;

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Deserialize;

use rostro_common::text::sanitize;

use crate::commands::client::{ApiKeyArgs, ClientError, Credentials, TrustArgs, explain};
use crate::commands::watch::jpeg_stream::{Frame, JpegStream};

/// Timeout of an answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Arguments of `rostro watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Picture, folder of pictures, or `-` for a JPEG stream on standard input
    source: PathBuf,
    /// Address of the service
    #[arg(
        long,
        env = "ROSTRO_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:4000"
    )]
    server: String,
    #[command(flatten)]
    key: ApiKeyArgs,
    #[command(flatten)]
    trust: TrustArgs,
    /// Print the service's answers unchanged, one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Error of `rostro watch`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    /// A picture cannot be read.
    #[error("cannot read {source_name}: {cause}")]
    Unreadable {
        /// Its name.
        source_name: String,
        /// The cause.
        cause: io::Error,
    },
    /// A folder without pictures.
    #[error("{folder} holds no pictures (.jpg, .png, .webp, .heic and the like): {found}", folder = folder.display())]
    Empty {
        /// The folder.
        folder: PathBuf,
        /// Its content.
        found: String,
    },
    /// A stream without pictures.
    #[error("standard input holds no whole JPEG")]
    EmptyStream,
    /// Standard output is closed, or the disk is full.
    #[error("cannot print: {0}")]
    Output(io::Error),
    /// The service cannot be reached.
    #[error("no answer from {server}: {cause}; is `rostro serve` running there?")]
    Unreachable {
        /// Its address.
        server: String,
        /// The cause.
        cause: String,
    },
    /// The key or the certificates cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The service rejects the key, or requires one.
    #[error("refused by {server}: {message}; {remedy}")]
    Unauthorized {
        /// Address of the service.
        server: String,
        /// The service's message.
        message: String,
        /// The remedy.
        remedy: String,
    },
    /// Some pictures were refused; their lines give the causes.
    #[error("{refused} of {total} pictures were refused")]
    Refused {
        /// Number of refused pictures.
        refused: usize,
        /// Number of all pictures.
        total: usize,
    },
}

/// Extensions of pictures, in any case. The list has formats that the service cannot decode,
/// because its answer then names a remedy.
const EXTENSIONS: [&str; 24] = [
    "jpg", "jpeg", "jpe", "jfif", "jif", "jps", "mpo", "png", "apng", "webp", "bmp", "dib", "gif",
    "tif", "tiff", "heic", "heics", "heif", "hif", "avif", "avifs", "jxl", "jp2", "j2k",
];

/// Upper bound of names in a message.
const MAX_NAMES: usize = 5;

/// Codes of the warnings about missing rows or scans, from the SDK's `decode::Flaw`.
const CUT_OFF: [&str; 2] = ["jpeg_missing_data", "jpeg_missing_detail"];

/// Fields of the service's answer that a line needs.
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    recognized_faces: Vec<Face>,
    #[serde(default)]
    warnings: Vec<AnswerWarning>,
    error: Option<String>,
    code: Option<String>,
    #[serde(default)]
    details: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct AnswerWarning {
    code: String,
}

#[derive(Debug, Deserialize)]
struct Face {
    identity: String,
    confidence: String,
}

/// Sends every picture and prints the answers.
pub(crate) fn run(args: &WatchArgs) -> Result<(), WatchError> {
    let client = FrameClient::new(args)?;
    let (mut total, mut refused) = (0, 0);
    if args.source.as_os_str() == "-" {
        let unreadable = |cause| WatchError::Unreadable {
            source_name: "standard input".to_owned(),
            cause,
        };
        for (number, frame) in JpegStream::new(BufReader::new(io::stdin().lock())).enumerate() {
            let name = format!("frame {number}");
            total += 1;
            let is_answered = match frame.map_err(unreadable)? {
                Frame::Picture(picture) => client.show(&name, &picture)?,
                Frame::Refused(cause) => client.refuse(&name, &cause)?,
                // A camera that is switched off ends in the middle of a picture. A camera without
                // end markers ends after a whole one.
                Frame::Unfinished(picture) => match client.show_if_whole(&name, &picture)? {
                    Some(is_answered) => is_answered,
                    None => {
                        total -= 1;
                        true
                    }
                },
            };
            refused += usize::from(!is_answered);
        }
    } else {
        for path in pictures(&args.source)? {
            total += 1;
            refused += usize::from(!client.show(&path.display().to_string(), &read(&path)?)?);
        }
    }
    if total == 0 {
        // A folder without pictures is an error already.
        return Err(WatchError::EmptyStream);
    }
    if refused > 0 {
        Err(WatchError::Refused { refused, total })
    } else {
        Ok(())
    }
}

/// Client that sends frames to the service.
struct FrameClient<'a> {
    agent: ureq::Agent,
    args: &'a WatchArgs,
    credentials: Credentials,
    url: String,
}

impl<'a> FrameClient<'a> {
    fn new(args: &'a WatchArgs) -> Result<Self, WatchError> {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false);
        let url = format!("{}/process_frame", args.server.trim_end_matches('/'));
        Ok(Self {
            agent: args.trust.agent(&url, config)?,
            args,
            credentials: args.key.credentials()?,
            url,
        })
    }

    /// Sends a picture and prints the answer. Returns true if the service accepted the picture.
    fn show(&self, name: &str, picture: &[u8]) -> Result<bool, WatchError> {
        self.send(picture)?.print(name, self.args.json)
    }

    /// Sends the last picture of a stream, as [`Self::show`] does. If the picture is cut off,
    /// prints nothing and returns None.
    fn show_if_whole(&self, name: &str, picture: &[u8]) -> Result<Option<bool>, WatchError> {
        let reply = self.send(picture)?;
        let is_cut_off = reply.answer.as_ref().is_some_and(|answer| {
            answer.code.as_deref() == Some("undecodable_image")
                || answer
                    .warnings
                    .iter()
                    .any(|warning| CUT_OFF.contains(&warning.code.as_str()))
        });
        if is_cut_off {
            Ok(None)
        } else {
            reply.print(name, self.args.json).map(Some)
        }
    }

    /// Prints the reason for which a picture is not sent.
    fn refuse(&self, name: &str, cause: &str) -> Result<bool, WatchError> {
        let line = match self.args.json {
            true => serde_json::json!({ "error": cause }).to_string(),
            false => format!("{name}  refused: {cause}"),
        };
        writeln!(io::stdout(), "{line}").map_err(WatchError::Output)?;
        Ok(false)
    }

    fn send(&self, picture: &[u8]) -> Result<FrameResponse, WatchError> {
        let begun = Instant::now();
        let server = || self.args.server.clone();
        let unreachable = |cause: ureq::Error| WatchError::Unreachable {
            server: server(),
            cause: explain(&cause, &self.url),
        };
        // The service detects the format from the bytes, not from the content type.
        let request = self
            .credentials
            .sign(self.agent.post(&self.url).content_type("image/jpeg"));
        let mut response = request.send(picture).map_err(unreachable)?;
        let text = response.body_mut().read_to_string().map_err(unreachable)?;
        let time = begun.elapsed();
        let answer: Option<Answer> = serde_json::from_str(&text).ok();
        // The next pictures would be refused, too.
        if let Some(remedy) = self.credentials.advice(response.status().as_u16()) {
            let message = answer
                .and_then(|answer| answer.error)
                .unwrap_or_else(|| format!("status {}", response.status()));
            return Err(WatchError::Unauthorized {
                server: server(),
                message: sanitize(&message),
                remedy,
            });
        }
        Ok(FrameResponse {
            answer,
            text,
            status: response.status(),
            time,
        })
    }
}

/// Response to a picture.
struct FrameResponse {
    text: String,
    answer: Option<Answer>,
    status: ureq::http::StatusCode,
    time: Duration,
}

impl FrameResponse {
    /// Prints the response. Returns true if the picture was accepted.
    fn print(&self, name: &str, is_json: bool) -> Result<bool, WatchError> {
        let line = match (&self.answer, is_json) {
            (_, true) => self.text.trim_end().to_owned(),
            (
                Some(Answer {
                    error: None,
                    recognized_faces,
                    ..
                }),
                false,
            ) => {
                format!(
                    "{name}  {}  {} ms",
                    people(recognized_faces),
                    self.time.as_millis()
                )
            }
            (Some(answer), false) => format!("{name}  refused: {}", answer.refusal()),
            (None, false) => format!("{name}  refused: status {}", self.status),
        };
        writeln!(io::stdout(), "{line}").map_err(WatchError::Output)?;
        Ok(self.status.is_success())
    }
}

impl Answer {
    /// Returns the error with its cause, as sentences.
    fn refusal(&self) -> String {
        let error = self.error.as_deref().unwrap_or_default();
        match self
            .details
            .get("cause")
            .and_then(serde_json::Value::as_str)
        {
            Some(cause) => {
                let mut letters = cause.trim_end_matches('.').chars();
                let first = letters.next().into_iter().flat_map(char::to_uppercase);
                format!("{error} {}.", first.chain(letters).collect::<String>())
            }
            None => error.to_owned(),
        }
    }
}

/// Lists the faces in the order of the answer, such as `s6 0.86, Unknown`.
fn people(faces: &[Face]) -> String {
    let one = |face: &Face| match face.confidence.as_str() {
        "N/A" => face.identity.clone(),
        confidence => format!("{} {confidence}", face.identity),
    };
    match faces {
        [] => "no faces".to_owned(),
        faces => faces.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

fn pictures(source: &Path) -> Result<Vec<PathBuf>, WatchError> {
    let unreadable = |cause| WatchError::Unreadable {
        source_name: source.display().to_string(),
        cause,
    };
    if !source.metadata().map_err(unreadable)?.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for entry in source.read_dir().map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if is_picture(&path) && path.is_file() {
            found.push(path)
        } else {
            others.push(path)
        }
    }
    found.sort();
    if found.is_empty() {
        Err(WatchError::Empty {
            folder: source.to_owned(),
            found: list_names(others),
        })
    } else {
        Ok(found)
    }
}

/// Returns true if a file has the extension of a picture.
fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        EXTENSIONS
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    })
}

/// Lists the content of a folder.
fn list_names(mut paths: Vec<PathBuf>) -> String {
    paths.sort();
    let name = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        sanitize(&if path.is_dir() {
            format!("{name}/")
        } else {
            name.into_owned()
        })
    };
    let names: Vec<String> = paths.iter().take(MAX_NAMES).map(name).collect();
    match paths.len().saturating_sub(names.len()) {
        _ if names.is_empty() => "it is empty".to_owned(),
        0 => format!("it has {}", names.join(", ")),
        more => format!("it has {} and {more} more", names.join(", ")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, WatchError> {
    let mut bytes = Vec::new();
    let unreadable = |cause| WatchError::Unreadable {
        source_name: path.display().to_string(),
        cause,
    };
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(unreadable)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_found_by_extension() {
        for name in [
            "a.jpg", "A.JPEG", "a.jpe", "a.JfIf", "a.mpo", "a.heic", "a.HEIF", "a.avif", "a.jxl",
            "a.b.bmp", "a.dib", "a.TIFF",
        ] {
            assert!(is_picture(Path::new(name)), "{name}");
        }
        for name in ["jpg", ".jpg", "a.jpg.txt", "a.mp4", "a.", "a"] {
            assert!(!is_picture(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn listing_stays_short() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(list_names(Vec::new()), "it is empty");
        assert_eq!(
            list_names(paths(&["b.txt", "a.doc"])),
            "it has a.doc, b.txt"
        );
        assert_eq!(
            list_names(paths(&["1", "2", "3", "4", "5", "6", "7"])),
            "it has 1, 2, 3, 4, 5 and 2 more"
        );
    }
}
