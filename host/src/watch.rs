//! `rostro watch`: sends pictures to a running service and prints a line for each answer.
//!
//! A client like any other: it only knows the HTTP interface.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Deserialize;

use crate::client::{ApiKeyArgs, ClientError, Credentials, TrustArgs, explained};
use crate::jpeg_stream::JpegStream;
use crate::printed::printed;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to watch, and who is asked.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// A picture, a folder of pictures, or `-` for a stream of JPEGs on standard input
    source: PathBuf,
    /// Where the service is
    #[arg(long, env = "ROSTRO_SERVER", value_name = "URL", default_value = "http://127.0.0.1:4000")]
    server: String,
    #[command(flatten)]
    key: ApiKeyArgs,
    #[command(flatten)]
    trust: TrustArgs,
    /// Print the service's answers as they are, one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Why watching ended early.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// A picture cannot be read.
    #[error("cannot read {source_name}: {cause}")]
    Unreadable {
        /// Which.
        source_name: String,
        /// Why.
        cause: io::Error,
    },
    /// A folder without pictures.
    #[error("{folder} holds no pictures (.jpg, .jpeg, .png, .webp)", folder = folder.display())]
    Empty {
        /// The folder.
        folder: PathBuf,
    },
    /// A stream without pictures.
    #[error("standard input holds no whole JPEG")]
    EmptyStream,
    /// Nobody reads the lines any more, or the disk is full.
    #[error("cannot print: {0}")]
    Output(io::Error),
    /// The service cannot be reached.
    #[error("no answer from {server}: {cause}; is `rostro serve` running there?")]
    Unreachable {
        /// Where it was looked for.
        server: String,
        /// Why.
        cause: String,
    },
    /// The key or the certificates cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The service does not accept the key, or wants one.
    #[error("refused by {server}: {message}; {remedy}")]
    Unauthorized {
        /// The service.
        server: String,
        /// What it says.
        message: String,
        /// What to do.
        remedy: String,
    },
    /// Some pictures were refused; their lines say why.
    #[error("{refused} of {total} pictures were refused")]
    Refused {
        /// How many.
        refused: usize,
        /// Of how many.
        total: usize,
    },
}

/// The service's answer, as far as a line of it needs.
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    recognized_faces: Vec<Face>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Face {
    identity: String,
    confidence: String,
}

/// Sends every picture and prints what came back.
pub(crate) fn run(args: &WatchArgs) -> Result<(), WatchError> {
    let client = Client::new(args)?;
    let (mut total, mut refused) = (0, 0);
    let mut each = |name: &str, picture: &[u8]| -> Result<(), WatchError> {
        total += 1;
        if !client.show(name, picture)? {
            refused += 1;
        }
        Ok(())
    };
    if args.source.as_os_str() == "-" {
        let unreadable = |cause| WatchError::Unreadable { source_name: "standard input".to_owned(), cause };
        for (frame, picture) in JpegStream::new(BufReader::new(io::stdin().lock())).enumerate() {
            each(&format!("frame {frame}"), &picture.map_err(unreadable)?)?;
        }
    } else {
        for path in pictures(&args.source)? {
            each(&path.display().to_string(), &read(&path)?)?;
        }
    }
    if total == 0 {
        // A folder has at least one.
        return Err(WatchError::EmptyStream);
    }
    if refused > 0 { Err(WatchError::Refused { refused, total }) } else { Ok(()) }
}

/// Asks the service.
struct Client<'a> {
    agent: ureq::Agent,
    args: &'a WatchArgs,
    credentials: Credentials,
    url: String,
}

impl<'a> Client<'a> {
    fn new(args: &'a WatchArgs) -> Result<Self, WatchError> {
        let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false);
        let url = format!("{}/process_frame", args.server.trim_end_matches('/'));
        Ok(Self { agent: args.trust.agent(&url, config)?, args, credentials: args.key.credentials()?, url })
    }

    /// Prints the answer to one picture; whether there was one.
    fn show(&self, name: &str, picture: &[u8]) -> Result<bool, WatchError> {
        let begun = Instant::now();
        let server = || self.args.server.clone();
        let unreachable = |cause: ureq::Error| WatchError::Unreachable { server: server(), cause: explained(&cause, &self.url) };
        // The service looks at the bytes, not at what the type after `image/` says.
        let request = self.credentials.sign(self.agent.post(&self.url).content_type("image/jpeg"));
        let mut response = request.send(picture).map_err(unreachable)?;
        let text = response.body_mut().read_to_string().map_err(unreachable)?;
        let time = begun.elapsed().as_millis();
        let answer: Option<Answer> = serde_json::from_str(&text).ok();
        // The next picture would not be answered either.
        if let Some(remedy) = self.credentials.advice(response.status().as_u16()) {
            let message = answer.and_then(|answer| answer.error).unwrap_or_else(|| format!("status {}", response.status()));
            return Err(WatchError::Unauthorized { server: server(), message: printed(&message), remedy });
        }
        let line = match (&answer, self.args.json) {
            (_, true) => text.trim_end().to_owned(),
            (Some(Answer { error: None, recognized_faces }), false) => format!("{name}  {}  {time} ms", people(recognized_faces)),
            (Some(Answer { error: Some(error), .. }), false) => format!("{name}  refused: {error}"),
            (None, false) => format!("{name}  refused: status {}", response.status()),
        };
        writeln!(io::stdout(), "{line}").map_err(WatchError::Output)?;
        Ok(response.status().is_success())
    }
}

/// `s6 0.86, Unknown`: everybody in the order of the answer.
fn people(faces: &[Face]) -> String {
    let one = |face: &Face| match face.confidence.as_str() {
        "N/A" => face.identity.clone(),
        confidence => format!("{} {confidence}", face.identity),
    };
    match faces {
        [] => "nobody".to_owned(),
        faces => faces.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

fn pictures(source: &Path) -> Result<Vec<PathBuf>, WatchError> {
    let unreadable = |cause| WatchError::Unreadable { source_name: source.display().to_string(), cause };
    if !source.metadata().map_err(unreadable)?.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in source.read_dir().map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
        if matches!(extension.as_deref(), Some("jpg" | "jpeg" | "png" | "webp")) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() { Err(WatchError::Empty { folder: source.to_owned() }) } else { Ok(found) }
}

fn read(path: &Path) -> Result<Vec<u8>, WatchError> {
    let mut bytes = Vec::new();
    let unreadable = |cause| WatchError::Unreadable { source_name: path.display().to_string(), cause };
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(unreadable)?;
    Ok(bytes)
}
