//! One camera: decodes its stream, sends the newest frames, and opens the stream again.

use std::io::{BufReader, Read};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::children::Children;
use super::client::{FrameClient, FrameResponse};
use super::display::Display;
use super::error::{Tally, WatchError};
use super::ffmpeg::Ffmpeg;
use super::jpeg_stream::{Frame, JpegStream};
use super::latest_frame::{LatestFrame, Next, TimedFrame};
use super::pace::{Backoff, Pacer, Rate, Retries};
use super::source::StreamSource;

/// Time without a frame after which a live stream counts as dead. It is above the longest interval
/// of frames and above the time limits of `ffmpeg`.
const STALLED: Duration = Duration::from_secs(40);
/// Time without a frame of another stream: its writer may pause.
const PATIENT: Duration = Duration::from_secs(24 * 60 * 60);

/// Settings of one camera.
#[derive(Debug)]
pub(super) struct Camera {
    /// Position among the cameras.
    pub(super) number: usize,
    pub(super) source: StreamSource,
    pub(super) rate: Rate,
    pub(super) retries: Retries,
    pub(super) client: FrameClient,
}

/// What all cameras share.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) ffmpeg: Ffmpeg,
    pub(super) children: Children,
    pub(super) display: Arc<Display>,
}

/// A camera at work.
struct CameraWatch<'a> {
    camera: Camera,
    context: &'a Context,
    pacer: Pacer,
    /// Delays while the service cannot be reached.
    service: Backoff,
    tally: Tally,
    skipped: u64,
}

impl Camera {
    /// Watches the stream until it ends, or until the camera is given up.
    pub(super) fn watch(self, context: &Context) -> Result<Tally, WatchError> {
        let mut backoff = Backoff::new(self.retries);
        let mut watch = CameraWatch {
            pacer: Pacer::new(Some(self.rate)),
            service: Backoff::new(match self.retries {
                // A wrong address of the service is told at once.
                Retries::UntilFirstFrame(_) => Retries::UntilFirstFrame(1),
                retries => retries,
            }),
            camera: self,
            context,
            tally: Tally::default(),
            skipped: 0,
        };
        loop {
            let (frames, cause) = watch.play()?;
            context.children.wait_if_ending();
            let source = &watch.camera.source;
            if !source.is_live() {
                return match cause {
                    Some(cause) if frames == 0 => Err(WatchError::Stream {
                        source_name: source.to_string(),
                        cause,
                    }),
                    // A damaged end does not undo what was seen.
                    Some(cause) => {
                        watch.notice(&format!("the stream ended early: {cause}"))?;
                        Ok(watch.tally)
                    }
                    None if frames == 0 => Err(WatchError::NoFrame {
                        source_name: source.to_string(),
                    }),
                    None => Ok(watch.tally),
                };
            }
            if frames > 0 {
                backoff.reset();
            }
            let cause = cause.unwrap_or_else(|| "the stream ended".to_owned());
            let Some(delay) = backoff.fail() else {
                return Err(WatchError::GaveUp {
                    source_name: source.to_string(),
                    remedy: remedy(&cause),
                    cause,
                    tries: backoff.failures(),
                });
            };
            let notice = format!(
                "cannot read {source}: {cause}{}; next try in {} s",
                remedy(&cause),
                delay.as_secs()
            );
            watch.notice(&notice)?;
            thread::sleep(delay);
        }
    }
}

/// Returns what a user can do about a failure, as a further clause.
fn remedy(cause: &str) -> &'static str {
    if cause.contains("401") || cause.contains("403") {
        "; give the camera's login with --login-file"
    } else if cause.contains("Unknown keyword") || cause.contains("Option not found") {
        "; ffmpeg 5.0 or later is needed"
    } else {
        ""
    }
}

impl CameraWatch<'_> {
    /// Opens the stream and sends its frames until it ends. Returns the number of frames, and why
    /// it failed.
    fn play(&mut self) -> Result<(u64, Option<String>), WatchError> {
        let mut decoder = self.context.ffmpeg.decode(
            &self.camera.source,
            self.camera.rate,
            &self.context.children,
        )?;
        let slot = Arc::new(LatestFrame::default());
        if let Some(pipe) = decoder.take_frames() {
            let slot = Arc::clone(&slot);
            thread::spawn(move || read_frames(pipe, &slot));
        } else {
            slot.end();
        }
        let limit = if self.camera.source.is_live() {
            STALLED
        } else {
            PATIENT
        };
        let mut frames = 0;
        loop {
            match slot.take(limit) {
                Next::Frame(frame, replaced) => {
                    frames += 1;
                    self.count_skipped(replaced)?;
                    self.send(frame, &slot)?;
                }
                Next::Ended => return Ok((frames, decoder.finish())),
                Next::TimedOut => {
                    decoder.end();
                    let cause = format!("no frame for {} s", limit.as_secs());
                    return Ok((frames, Some(cause)));
                }
            }
        }
    }

    /// Sends a frame when its turn comes. A newer one replaces it until then, and while the service
    /// is busy or away.
    fn send(&mut self, mut frame: TimedFrame, slot: &LatestFrame) -> Result<(), WatchError> {
        thread::sleep(self.pacer.delay(Instant::now()));
        loop {
            if let Next::Frame(newer, replaced) = slot.take(Duration::ZERO) {
                self.count_skipped(replaced + 1)?;
                frame = newer;
            }
            match self.camera.client.send(&frame.picture, frame.at) {
                Ok(FrameResponse {
                    retry_after: Some(delay),
                    status,
                    ..
                }) => {
                    let seconds = delay.as_secs();
                    self.notice(&format!(
                        "the service is busy (status {}); next frame in {seconds} s",
                        status.as_u16()
                    ))?;
                    thread::sleep(delay);
                }
                Ok(response) => {
                    self.service.reset();
                    let name = format!("frame {}", self.tally.total);
                    let display = &self.context.display;
                    let is_accepted = display.answer(self.camera.number, &name, &response)?;
                    self.tally.add(is_accepted);
                    return Ok(());
                }
                Err(error @ WatchError::Unreachable { .. }) => {
                    let Some(delay) = self.service.fail() else {
                        return Err(error);
                    };
                    self.notice(&format!("{error}; next try in {} s", delay.as_secs()))?;
                    thread::sleep(delay);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn notice(&self, text: &str) -> Result<(), WatchError> {
        self.context.display.notice(self.camera.number, text)
    }

    /// Counts frames that newer ones replaced. Without a table, reports each power of ten.
    fn count_skipped(&mut self, count: u64) -> Result<(), WatchError> {
        let before = self.skipped;
        self.skipped += count;
        self.context.display.skip(self.camera.number, count);
        let digits = |number: u64| number.checked_ilog10().map_or(0, |power| power + 1);
        if digits(self.skipped) > digits(before) && !self.context.display.is_table() {
            let skipped = self.skipped;
            self.notice(&format!(
                "frames skipped so far: {skipped}; newer ones arrived before the answer"
            ))?;
        }
        Ok(())
    }
}

/// Reads JPEGs into the slot until the pipe ends.
fn read_frames(pipe: impl Read, slot: &LatestFrame) {
    for frame in JpegStream::new(BufReader::new(pipe)).map_while(Result::ok) {
        // A decoder that was ended stops in the middle of a picture.
        if let Frame::Picture(picture) = frame {
            slot.put(TimedFrame {
                picture,
                at: SystemTime::now(),
            });
        }
    }
    slot.end();
}
