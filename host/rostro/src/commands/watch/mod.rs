//! `rostro watch`: sends pictures and the frames of cameras to a running service and prints the
//! answers.
//!
//! It uses only the public HTTP interface.
//!
//! - [`source`]: what can be watched. [`pictures`]: files and folders. [`cameras`]: the file with
//!   several cameras.
//! - [`jpeg_stream`]: splits a stream into JPEGs. [`ffmpeg`]: decodes everything else into one, as
//!   one of the [`children`].
//! - [`camera`]: the loop of one camera, with its [`latest_frame`] and its [`pace`].
//! - [`client`]: sends a frame. [`display`] and [`table`]: show the answers. [`error`]: what fails.

mod camera;
mod cameras;
mod children;
mod client;
mod display;
mod error;
mod ffmpeg;
pub(crate) mod jpeg_stream;
mod latest_frame;
mod pace;
mod pictures;
mod source;
mod table;

use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use clap::Args;

use rostro_common::text::sanitize;

use self::camera::{Camera, Context};
use self::cameras::CameraEntry;
use self::children::Children;
use self::client::{FrameClient, FrameResponse, Target};
use self::display::{Display, Format};
use self::error::Tally;
pub(crate) use self::error::WatchError;
use self::ffmpeg::Ffmpeg;
use self::jpeg_stream::{Frame, JpegStream};
use self::pace::{Pacer, Rate, Retries};
use self::source::{FrameSource, StreamSource};
use crate::commands::client::{ApiKeyArgs, TrustArgs};
use crate::terminal::warn_user;

/// Tries until the first frame of a single camera.
const FIRST_TRIES: u32 = 3;

/// Arguments of `rostro watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Picture, folder of pictures, `-` for JPEGs on standard input, `pipe:` for a
    /// video there, video file, named pipe, /dev/videoN, rtsp:// or rtsps:// address
    #[arg(required_unless_present = "cameras")]
    source: Option<PathBuf>,
    /// File with several cameras, a TOML table for each
    #[arg(
        long,
        value_name = "FILE.toml",
        conflicts_with_all = ["source", "login_file", "group", "session", "rate", "retries"]
    )]
    cameras: Option<PathBuf>,
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
    /// Search this group only
    #[arg(long, conflicts_with = "session")]
    group: Option<String>,
    /// Send the frames to this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Frames a second at most [default: 1 for videos and cameras, else no limit]
    #[arg(long, value_name = "FPS")]
    rate: Option<Rate>,
    /// File with the camera's login in its first line, USER:PASSWORD
    #[arg(long, value_name = "FILE")]
    login_file: Option<PathBuf>,
    /// Give a camera up after this many failed tries in a row [default: 3 until the
    /// first frame, then never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    retries: Option<u32>,
    /// Program that decodes videos and cameras
    #[arg(
        long,
        env = "ROSTRO_FFMPEG",
        value_name = "PATH",
        default_value = "ffmpeg"
    )]
    ffmpeg: PathBuf,
    /// Print a line for each frame, also on a terminal
    #[arg(long, conflicts_with = "json")]
    plain: bool,
    /// Print the service's answers unchanged, one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Sends every picture and shows the answers.
pub(crate) fn run(args: &WatchArgs) -> Result<(), WatchError> {
    let Some(source) = &args.source else {
        return match &args.cameras {
            Some(file) => watch_cameras(args, file),
            // clap requires one of them.
            None => Ok(()),
        };
    };
    let source = FrameSource::parse(source)?;
    if let FrameSource::Stream(StreamSource::Camera(address)) = &source
        && address.has_login()
    {
        warn_user(
            "warning: other users of this machine can see the login in the arguments of this \
             program; name a file with --login-file",
        );
    }
    let source = source.with_login(args.login_file.as_deref())?;
    let target = match &args.session {
        Some(id) => Target::Session(id.clone()),
        None => Target::Frame {
            group: args.group.clone(),
        },
    };
    let client = FrameClient::new(&args.server, &args.trust, args.key.credentials()?, target)?;
    match source {
        FrameSource::Stream(source) => {
            let context = context(args, vec![String::new()])?;
            let camera = Camera {
                number: 0,
                source,
                rate: args.rate.unwrap_or(Rate::ONE),
                retries: args
                    .retries
                    .map_or(Retries::UntilFirstFrame(FIRST_TRIES), Retries::AtMost),
                client,
            };
            camera.watch(&context)?.result()
        }
        FrameSource::JpegInput => PictureWatch::new(args, client).watch_input(),
        FrameSource::Pictures(path) => PictureWatch::new(args, client).watch_pictures(&path),
    }
}

/// Finds `ffmpeg` and prepares what the cameras share.
fn context(args: &WatchArgs, names: Vec<String>) -> Result<Context, WatchError> {
    let ffmpeg = Ffmpeg::find(&args.ffmpeg)?;
    let children = Children::default();
    children.end_at_signals().map_err(WatchError::Signals)?;
    let format = match (args.json, args.plain) {
        (true, _) => Format::Json,
        (false, true) => Format::Lines,
        (false, false) => Format::Table,
    };
    Ok(Context {
        ffmpeg,
        children,
        display: Arc::new(Display::new(format, names)),
    })
}

/// Watches the cameras of a file, each in a thread of its own.
fn watch_cameras(args: &WatchArgs, file: &Path) -> Result<(), WatchError> {
    let entries = cameras::read(file)?;
    let names: Vec<String> = entries.keys().cloned().collect();
    let mut cameras = Vec::new();
    for (number, (name, entry)) in entries.into_iter().enumerate() {
        let camera = prepare(args, number, entry).map_err(|cause| WatchError::Camera {
            name,
            cause: Box::new(cause),
        })?;
        cameras.push(camera);
    }
    let total = cameras.len();
    let context = context(args, names)?;
    let (sender, results) = mpsc::channel();
    for camera in cameras {
        let (context, sender) = (context.clone(), sender.clone());
        thread::spawn(move || {
            let number = camera.number;
            let result = camera.watch(&context).and_then(Tally::result);
            let _ = sender.send((number, result));
        });
    }
    drop(sender);
    let mut failed = 0;
    for (number, result) in results {
        match result {
            Ok(()) => context.display.notice(number, "the stream ended")?,
            Err(error @ WatchError::Output(_)) => {
                context.children.end_all();
                return Err(error);
            }
            Err(error) => {
                failed += 1;
                context.display.notice(number, &format!("error: {error}"))?;
            }
        }
    }
    match failed {
        0 => Ok(()),
        failed => Err(WatchError::CamerasFailed { failed, total }),
    }
}

/// Prepares a camera of a file.
fn prepare(args: &WatchArgs, number: usize, entry: CameraEntry) -> Result<Camera, WatchError> {
    let source = FrameSource::parse(&entry.source)?
        .with_login(entry.login_file.as_deref())?
        .try_into()?;
    let key = match entry.api_key_file {
        Some(file) => ApiKeyArgs::from_file(file),
        None => args.key.clone(),
    };
    let target = match entry.session {
        Some(id) => Target::Session(id),
        None => Target::Frame { group: entry.group },
    };
    Ok(Camera {
        number,
        source,
        rate: entry.rate.unwrap_or(Rate::ONE),
        retries: entry.retries.map_or(Retries::Endless, Retries::AtMost),
        client: FrameClient::new(&args.server, &args.trust, key.credentials()?, target)?,
    })
}

/// Watch of pictures that all count: none of them replaces another one.
struct PictureWatch {
    client: FrameClient,
    display: Display,
    pacer: Pacer,
    tally: Tally,
}

impl PictureWatch {
    fn new(args: &WatchArgs, client: FrameClient) -> Self {
        let format = if args.json {
            Format::Json
        } else {
            Format::Lines
        };
        Self {
            client,
            display: Display::new(format, vec![String::new()]),
            pacer: Pacer::new(args.rate),
            tally: Tally::default(),
        }
    }

    fn watch_pictures(mut self, source: &Path) -> Result<(), WatchError> {
        for path in pictures::pictures(source)? {
            let picture = pictures::read(&path)?;
            let response = self.send(&picture)?;
            self.show(&path.display().to_string(), &response)?;
        }
        self.tally.result()
    }

    fn watch_input(mut self) -> Result<(), WatchError> {
        let unreadable = |cause| WatchError::Unreadable {
            source_name: "standard input".to_owned(),
            cause,
        };
        for (number, frame) in JpegStream::new(BufReader::new(io::stdin().lock())).enumerate() {
            let name = format!("frame {number}");
            match frame.map_err(unreadable)? {
                Frame::Picture(picture) => {
                    let response = self.send(&picture)?;
                    self.show(&name, &response)?;
                }
                Frame::Refused(cause) => {
                    self.display.refuse(0, &name, &cause)?;
                    self.tally.add(false);
                }
                // A camera that is switched off ends in the middle of a picture. A camera without
                // end markers ends after a whole one.
                Frame::Unfinished(picture) => {
                    let response = self.send(&picture)?;
                    if !response.is_cut_off() {
                        self.show(&name, &response)?;
                    }
                }
            }
        }
        match self.tally.total {
            0 => Err(WatchError::EmptyStream),
            _ => self.tally.result(),
        }
    }

    fn send(&mut self, picture: &[u8]) -> Result<FrameResponse, WatchError> {
        thread::sleep(self.pacer.delay(Instant::now()));
        self.client.send_patiently(picture)
    }

    fn show(&mut self, name: &str, response: &FrameResponse) -> Result<(), WatchError> {
        let is_accepted = self.display.answer(0, &sanitize(name), response)?;
        self.tally.add(is_accepted);
        Ok(())
    }
}
