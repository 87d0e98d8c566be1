//! The system's `ffmpeg` as a child process that decodes a stream into JPEGs on a pipe.
//!
//! The arguments of a process are visible to every user of the machine, so the address of a network
//! camera is not one of them. `ffmpeg` reads it from a script of its concat demuxer on standard
//! input.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rostro_common::text::sanitize_name;

use super::children::{Children, SharedChild};
use super::pace::Rate;
use super::source::StreamSource;

/// First version with options for an address in the concat demuxer.
const NETWORK_SINCE: (u32, u32) = (5, 0);
/// First version with `-fps_mode`, which replaces `-vsync`.
const FPS_MODE_SINCE: (u32, u32) = (5, 1);
/// Time limit of a connection and of each read from a camera.
const NETWORK_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that a decoder has to end after its output ended.
const END_GRACE: Duration = Duration::from_secs(2);
/// Number of different lines that explain a failure, the first and the last.
const MAX_REASONS: usize = 4;
/// Demuxers for files and pipes: none of them opens another file or address.
const CONTAINERS: &str = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,mjpeg,\
                          mjpeg_2000,h264,hevc,flv,asf,ogg,yuv4mpegpipe,image2pipe,jpeg_pipe,nut";

/// Error of the program `ffmpeg`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FfmpegError {
    /// The program does not exist.
    #[error(
        "cannot find `{program}`, which decodes cameras and videos; install it (Debian, Ubuntu: \
         `apt install ffmpeg`; Fedora: `dnf install ffmpeg-free`; macOS: `brew install ffmpeg`; \
         Windows: `winget install ffmpeg`) or name it with --ffmpeg PATH",
        program = program.display()
    )]
    Missing {
        /// Its path.
        program: PathBuf,
    },
    /// The program cannot be run.
    #[error("cannot run `{program}`: {cause}; name another one with --ffmpeg PATH", program = program.display())]
    Unusable {
        /// Its path.
        program: PathBuf,
        /// The cause.
        cause: String,
    },
    /// The program lacks a function.
    #[error(
        "cannot open a network camera with ffmpeg {}.{}: 5.0 or later is needed; name another one \
         with --ffmpeg PATH",
        version.0, version.1
    )]
    TooOld {
        /// Its version.
        version: (u32, u32),
    },
}

/// An installed `ffmpeg`.
#[derive(Clone, Debug)]
pub(super) struct Ffmpeg {
    program: PathBuf,
    /// None for a build between releases.
    version: Option<(u32, u32)>,
}

impl Ffmpeg {
    /// Runs the program once to learn its version.
    pub(super) fn find(program: &Path) -> Result<Self, FfmpegError> {
        let output = Command::new(program)
            .arg("-version")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| failed_start(program, &error))?;
        let text = String::from_utf8_lossy(&output.stdout);
        match text.strip_prefix("ffmpeg version ") {
            Some(rest) if output.status.success() => Ok(Self {
                program: program.to_owned(),
                version: version(rest),
            }),
            _ => Err(FfmpegError::Unusable {
                program: program.to_owned(),
                cause: "it does not answer to -version as ffmpeg does".to_owned(),
            }),
        }
    }

    /// Starts a decoder for a source.
    pub(super) fn decode(
        &self,
        source: &StreamSource,
        rate: Rate,
        children: &Children,
    ) -> Result<Decoder, FfmpegError> {
        if let (StreamSource::Camera(_), Some(version)) = (source, self.version)
            && version < NETWORK_SINCE
        {
            return Err(FfmpegError::TooOld { version });
        }
        let mut command = Command::new(&self.program);
        let script = script(source);
        command
            .args(self.arguments(source, rate))
            .stdin(match (source, &script) {
                (_, Some(_)) => Stdio::piped(),
                (StreamSource::VideoInput, None) => Stdio::inherit(),
                _ => Stdio::null(),
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = children
            .spawn(&mut command)
            .map_err(|error| failed_start(&self.program, &error))?;
        let (stdin, stdout, stderr) = child.take_pipes();
        if let (Some(mut stdin), Some(script)) = (stdin, script) {
            write_script(&mut stdin, &script);
        }
        let source = source.clone();
        Ok(Decoder {
            begun: Instant::now(),
            child,
            frames: stdout,
            reasons: stderr.map(|stderr| thread::spawn(move || read_reasons(stderr, &source))),
        })
    }

    fn arguments(&self, source: &StreamSource, rate: Rate) -> Vec<OsString> {
        let mut arguments = words(
            // Without a probe of the rate, the first frame of a camera arrives at once and not
            // after 80 more.
            "-hide_banner -nostdin -nostats -loglevel error -fpsprobesize 0",
        );
        match source {
            StreamSource::Camera(address) => {
                let protocols = if address.is_secure() {
                    "pipe,tcp,tls"
                } else {
                    "pipe,tcp"
                };
                arguments.extend(words("-f concat -safe 0 -protocol_whitelist"));
                arguments.extend(words(protocols));
                arguments.extend(words("-i pipe:0"));
            }
            StreamSource::Device(path) => {
                arguments.extend(words("-protocol_whitelist file -f v4l2 -i"));
                arguments.push(path.into());
            }
            StreamSource::File(path) | StreamSource::Pipe(path) => {
                if matches!(source, StreamSource::File(_)) {
                    arguments.push("-re".into());
                }
                arguments.extend(words("-protocol_whitelist file -format_whitelist"));
                arguments.push(CONTAINERS.into());
                // With the protocol, a name is not read as an option or as another protocol.
                let mut file = OsString::from("file:");
                file.push(path);
                arguments.extend(["-i".into(), file]);
            }
            StreamSource::VideoInput => {
                arguments.extend(words("-protocol_whitelist pipe -format_whitelist"));
                arguments.push(CONTAINERS.into());
                arguments.extend(words("-i pipe:0"));
            }
        }
        arguments.extend(words("-map 0:v:0 -an -sn -dn -vf"));
        arguments.push(selection(rate).into());
        let mode = match self.version {
            Some(version) if version < FPS_MODE_SINCE => "-vsync",
            _ => "-fps_mode",
        };
        arguments.extend(words(mode));
        arguments.extend(words(
            "passthrough -c:v mjpeg -q:v 2 -f image2pipe -flush_packets 1 pipe:1",
        ));
        arguments
    }
}

fn words(text: &str) -> Vec<OsString> {
    text.split(' ').map(OsString::from).collect()
}

/// Returns the filter that keeps one frame in each interval of the rate, the first that arrives.
/// Frames without a time are kept. The kept ones get times of their own, because the encoder fails
/// if times go back, as those of cameras do after the first frame.
fn selection(rate: Rate) -> String {
    let rate = rate.per_second();
    format!(
        "select='isnan(t)+isnan(prev_selected_t)+not(eq(floor(t*{rate}),floor(prev_selected_t*{rate})))',\
         setpts=N/TB"
    )
}

/// Returns the concat script with the address of a network camera; none for other sources.
fn script(source: &StreamSource) -> Option<String> {
    let StreamSource::Camera(address) = source else {
        return None;
    };
    Some(format!(
        "ffconcat version 1.0\nfile '{}'\noption rtsp_transport tcp\noption timeout {}\n\
         option fpsprobesize 0\n",
        // An apostrophe would end the quoted text.
        address.with_secrets().replace('\'', "%27"),
        NETWORK_TIMEOUT.as_micros()
    ))
}

/// Writes the script and closes the pipe. A decoder that ended already explains why itself.
fn write_script(stdin: &mut ChildStdin, script: &str) {
    let _ = stdin.write_all(script.as_bytes());
}

fn failed_start(program: &Path, error: &io::Error) -> FfmpegError {
    let program = program.to_owned();
    match error.kind() {
        ErrorKind::NotFound => FfmpegError::Missing { program },
        _ => FfmpegError::Unusable {
            program,
            cause: error.to_string(),
        },
    }
}

/// Reads the version that follows `ffmpeg version `, such as `5.1.9-0+deb12u1` or `n7.1`.
fn version(text: &str) -> Option<(u32, u32)> {
    let text = text.strip_prefix('n').unwrap_or(text);
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    // A build between releases is `N-`, a number and a commit.
    match text.chars().find(|c| !c.is_ascii_digit()) {
        Some('.') => Some((major, numbers.next()?.parse().ok()?)),
        _ => Some((major, 0)),
    }
}

/// Running `ffmpeg`. Dropping it ends the process.
#[derive(Debug)]
pub(super) struct Decoder {
    begun: Instant,
    child: SharedChild,
    frames: Option<ChildStdout>,
    reasons: Option<JoinHandle<Vec<String>>>,
}

impl Decoder {
    /// Returns the pipe with the JPEGs, once.
    pub(super) fn take_frames(&mut self) -> Option<ChildStdout> {
        self.frames.take()
    }

    /// Ends the process. Returns why it failed; nothing if it ended well.
    pub(super) fn finish(mut self) -> Option<String> {
        let is_success = self.child.wait_for(END_GRACE);
        let reasons = self
            .reasons
            .take()
            .and_then(|reasons| reasons.join().ok())
            .unwrap_or_default();
        if is_success && reasons.is_empty() {
            None
        } else {
            Some(explain(&reasons, self.begun.elapsed()))
        }
    }

    /// Ends a process that delivers nothing.
    pub(super) fn end(self) {
        self.child.end();
    }
}

/// Reads the error output and returns the first and the last of its different lines.
fn read_reasons(stderr: ChildStderr, source: &StreamSource) -> Vec<String> {
    let mut reasons: VecDeque<String> = VecDeque::new();
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let reason = reason(&String::from_utf8_lossy(&line), source);
        if reason.is_empty() || reasons.contains(&reason) {
            continue;
        }
        if reasons.len() == MAX_REASONS {
            reasons.remove(1);
        }
        reasons.push_back(reason);
    }
    reasons.into()
}

/// Returns true for a line about our script. An address in it fails for the reason before.
fn is_about_script(reason: &str) -> bool {
    reason.starts_with("Impossible to open") || reason.starts_with("pipe:0: ")
}

/// Explains a failure by the lines of the error output, after a time since the start.
fn explain(reasons: &[String], elapsed: Duration) -> String {
    let own: Vec<&str> = reasons
        .iter()
        .map(String::as_str)
        .filter(|reason| !is_about_script(reason))
        .collect();
    match (own.is_empty(), reasons.is_empty()) {
        (false, _) => own.join("; "),
        (true, true) => "ffmpeg failed without a message".to_owned(),
        // A camera that says nothing is `Invalid data` for ffmpeg.
        (true, false) if elapsed >= NETWORK_TIMEOUT => {
            format!("no answer within {} s", NETWORK_TIMEOUT.as_secs())
        }
        (true, false) => reasons.join("; "),
    }
}

/// Returns a line without credentials, control characters and the address of a structure.
fn reason(line: &str, source: &StreamSource) -> String {
    let line = line.trim();
    let line = match line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    {
        Some((part, rest)) if part.contains(" @ ") => rest,
        _ => line,
    };
    // The time limit is ours, too.
    let line = line.replace(&format!("?timeout={}", NETWORK_TIMEOUT.as_micros()), "");
    sanitize_name(&source.redact(&line))
}

#[cfg(test)]
mod tests {
    use super::super::source::FrameSource;
    use super::*;

    fn stream(text: &str) -> StreamSource {
        match FrameSource::parse(Path::new(text)).unwrap() {
            FrameSource::Stream(stream) => stream,
            other => panic!("{other:?}"),
        }
    }

    fn arguments(source: &str, version: Option<(u32, u32)>) -> String {
        let ffmpeg = Ffmpeg {
            program: "ffmpeg".into(),
            version,
        };
        let arguments = ffmpeg.arguments(&stream(source), Rate::ONE);
        arguments.join(&OsString::from(" ")).into_string().unwrap()
    }

    #[test]
    fn arguments_hide_address() {
        for (source, protocols) in [
            ("rtsp://user:secret@cam/live", " pipe,tcp "),
            ("rtsps://user:secret@cam/live", " pipe,tcp,tls "),
        ] {
            let arguments = arguments(source, None);
            assert!(
                arguments.contains(protocols)
                    && !["cam", "secret", "user"]
                        .iter()
                        .any(|text| arguments.contains(text)),
                "{arguments}"
            );
            let script = script(&stream(source)).unwrap();
            assert!(script.contains(&format!("\nfile '{source}'\n")), "{script}");
        }
    }

    #[test]
    fn script_apostrophe_is_escaped() {
        let script = script(&stream("rtsp://u:a'b@cam/c'd")).unwrap();
        assert!(
            script.contains("file 'rtsp://u:a%27b@cam/c%27d'"),
            "{script}"
        );
    }

    #[test]
    fn arguments_follow_source_and_version() {
        let file = arguments("-odd:name.mp4", Some((5, 0)));
        for part in [
            " -re ",
            " -protocol_whitelist file ",
            " -i file:-odd:name.mp4 ",
            " -vsync passthrough ",
        ] {
            assert!(file.contains(part), "{part}: {file}");
        }
        let pipe = arguments("pipe:", Some((5, 1)));
        for part in [" -protocol_whitelist pipe ", " -fps_mode passthrough "] {
            assert!(pipe.contains(part), "{part}: {pipe}");
        }
        assert!(!pipe.contains(" -re "), "{pipe}");
    }

    #[test]
    fn version_is_read() {
        for (text, expected) in [
            ("5.1.9-0+deb12u1 Copyright", Some((5, 1))),
            ("n7.1 Copyright", Some((7, 1))),
            ("8 Copyright", Some((8, 0))),
            ("4.4.2-0ubuntu0.22.04.1", Some((4, 4))),
            ("N-109000-g1a2b3c4", None),
            ("git-2020-01-01-abc", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }

    #[test]
    fn reason_loses_secrets_and_prefix() {
        let source = stream("rtsp://u:secret@cam/a");
        assert_eq!(
            reason(
                "[concat @ 0x55] Impossible to open 'rtsp://u:secret@cam/a'\u{1b}[0m",
                &source
            ),
            "Impossible to open 'rtsp://cam/a' [0m"
        );
        assert_eq!(
            reason(
                "[tcp @ 0x55] Connection to tcp://cam:554?timeout=10000000 failed: Refused",
                &source
            ),
            "Connection to tcp://cam:554 failed: Refused"
        );
    }

    #[test]
    fn explanation_prefers_own_reasons() {
        let reasons =
            |reasons: &[&str]| reasons.iter().map(ToString::to_string).collect::<Vec<_>>();
        let script = ["Impossible to open 'rtsp://cam'", "pipe:0: Invalid data"];
        for (lines, seconds, expected) in [
            (
                vec!["refused", script[0], script[1]],
                1,
                "refused".to_owned(),
            ),
            (script.to_vec(), 1, script.join("; ")),
            (script.to_vec(), 10, "no answer within 10 s".to_owned()),
            (vec![], 10, "ffmpeg failed without a message".to_owned()),
        ] {
            assert_eq!(
                explain(&reasons(&lines), Duration::from_secs(seconds)),
                expected
            );
        }
    }
}
