//! Speed of streams of people who stay, relative to the same frames alone.
//!
//! Contenders take turns, so that other load affects all alike.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::clips::to_and_fro;
use crate::median::median;
use crate::service::{Camera, FoundFace, LocalService, found};

/// Intervals of streams in milliseconds.
pub(crate) const INTERVALS: [u64; 2] = [1_000, 100];

/// Frames of a contender's turn alone.
const TURN: usize = 6;

/// Cameras at the same time.
const CAMERAS: usize = 8;

/// Frames of each camera in a turn. Short turns, because other load changes.
const CAMERA_TURN: usize = 2;

/// Frames of a camera before the measurement, in streams a second apart: tracks are young in them,
/// and the first frames of a process meet cold caches.
const WARM_UP: usize = 24;

/// Interval of the frames before the measurement, in milliseconds.
const WARM_UP_INTERVAL: u64 = 1_000;

/// Least overlap of a face with itself in another answer.
const SAME_FACE: f32 = 0.5;

/// Rounds of a measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    /// Frames of each contender alone.
    pub(crate) frames: usize,
    /// Turns of eight cameras.
    pub(crate) turns: usize,
}

/// What a clip showed.
pub(crate) struct Speed {
    pub(crate) faces: f64,
    single: Times,
    single_cameras: CameraRate,
    /// By interval.
    pub(crate) streams: Vec<StreamSpeed>,
}

/// Eight cameras at the same time.
#[derive(Clone, Debug)]
pub(crate) struct CameraRate {
    /// Frames a second, the median of the turns.
    rate: f64,
    /// Frames a second by those of single frames in the turn before, the median of the turns.
    pub(crate) ratio: f64,
    /// Processor time of a frame in milliseconds, the median of the turns.
    processor: f64,
}

/// A stream next to single frames.
pub(crate) struct StreamSpeed {
    pub(crate) interval: u64,
    /// Mean milliseconds of its first frames.
    beginning: f64,
    times: Times,
    /// Median time of the stream by that of single frames.
    pub(crate) time_ratio: f64,
    pub(crate) cameras: CameraRate,
    /// Face-frames that single frames name, and those to which the stream gives the same name.
    pub(crate) named: usize,
    pub(crate) same: usize,
    /// Face-frames to which it gives another name.
    pub(crate) other: usize,
}

#[derive(Default)]
struct Times {
    total: Vec<Duration>,
    stages: BTreeMap<String, Vec<Duration>>,
}

impl Times {
    fn median(&self) -> f64 {
        median(self.total.iter().copied()).as_secs_f64() * 1e3
    }

    fn mean(&self) -> f64 {
        let sum: Duration = self.total.iter().sum();
        sum.as_secs_f64() * 1e3 / self.total.len() as f64
    }

    /// Returns the mean of a stage, because a median would hide the frames with embeddings.
    fn stage(&self, stage: &str) -> f64 {
        let times = self.stages.get(stage).map(Vec::as_slice);
        let sum: Duration = times.unwrap_or_default().iter().sum();
        sum.as_secs_f64() * 1e3 / self.total.len() as f64
    }
}

/// A camera that plays a clip.
struct Contender {
    camera: Camera,
    number: usize,
    times: Times,
    /// Mean milliseconds of the frames before the measurement.
    beginning: f64,
    answers: Vec<Vec<FoundFace>>,
}

impl Contender {
    fn new(camera: Camera) -> Self {
        Self {
            camera,
            number: 0,
            times: Times::default(),
            beginning: 0.0,
            answers: Vec::new(),
        }
    }

    /// Plays the frames before the measurement. Their times do not count, but their names do.
    async fn warm_up(&mut self, clip: &[Bytes]) -> Result<()> {
        let interval = std::mem::replace(&mut self.camera.interval, WARM_UP_INTERVAL);
        self.play(clip, WARM_UP).await?;
        self.camera.interval = interval;
        self.beginning = std::mem::take(&mut self.times).mean();
        Ok(())
    }

    async fn play(&mut self, clip: &[Bytes], frames: usize) -> Result<()> {
        for _ in 0..frames {
            let frame = to_and_fro(clip, self.number);
            self.number += 1;
            let begun = Instant::now();
            let recognition = self.camera.send(frame).await?;
            self.times.total.push(begun.elapsed());
            for (stage, time) in &recognition.stages {
                let times = self.times.stages.entry(stage.clone()).or_default();
                times.push(*time);
            }
            self.answers.push(found(&recognition));
        }
        Ok(())
    }
}

/// Measures a clip.
pub(crate) fn measure(service: &LocalService, clip: &[Bytes], rounds: Rounds) -> Result<Speed> {
    let mut single = Contender::new(service.single_frames("single"));
    let mut streams = INTERVALS.map(|interval| Contender::new(service.stream("stream", interval)));
    service.runtime.block_on(async {
        single.warm_up(clip).await?;
        for stream in &mut streams {
            stream.warm_up(clip).await?;
        }
        for _ in 0..rounds.frames.div_ceil(TURN) {
            single.play(clip, TURN).await?;
            for stream in &mut streams {
                stream.play(clip, TURN).await?;
            }
        }
        anyhow::Ok(())
    })?;
    eprintln!("{CAMERAS} cameras …");
    let mut cameras = service
        .runtime
        .block_on(camera_rates(service, clip, rounds.turns))?;
    let single_cameras = cameras.remove(0);
    let stream = |((contender, cameras), interval): ((Contender, CameraRate), u64)| {
        let (named, same, other) = compare(&single.answers, &contender.answers);
        StreamSpeed {
            interval,
            time_ratio: contender.times.median() / single.times.median(),
            cameras,
            named,
            same,
            other,
            beginning: contender.beginning,
            times: contender.times,
        }
    };
    let faces: usize = single.answers.iter().map(Vec::len).sum();
    Ok(Speed {
        faces: faces as f64 / single.answers.len() as f64,
        single_cameras,
        streams: streams
            .into_iter()
            .zip(cameras)
            .zip(INTERVALS)
            .map(stream)
            .collect(),
        single: single.times,
    })
}

/// Returns the rate of eight cameras of single frames, and those of eight streams by interval.
async fn camera_rates(
    service: &LocalService,
    clip: &[Bytes],
    turns: usize,
) -> Result<Vec<CameraRate>> {
    let names: Vec<String> = (0..CAMERAS)
        .map(|number| format!("camera-{number}"))
        .collect();
    let cameras = |make: &dyn Fn(&str) -> Camera| -> Vec<Contender> {
        let contenders = names.iter().map(|name| Contender::new(make(name)));
        let begun_apart = contenders.enumerate().map(|(number, contender)| Contender {
            number: 5 * number,
            ..contender
        });
        begun_apart.collect()
    };
    let mut groups = vec![cameras(&|name| service.single_frames(name))];
    groups.extend(INTERVALS.map(|interval| cameras(&|name| service.stream(name, interval))));
    for group in groups.iter_mut().skip(1) {
        for contender in group {
            contender.warm_up(clip).await?;
        }
    }
    let (mut rates, mut processor) = (
        vec![Vec::new(); groups.len()],
        vec![Vec::new(); groups.len()],
    );
    for _ in 0..turns {
        for (number, group) in groups.iter_mut().enumerate() {
            let (begun, used) = (Instant::now(), processor_seconds());
            let mut playing = JoinSet::new();
            for mut contender in group.drain(..) {
                let clip = clip.to_vec();
                playing.spawn(async move {
                    contender.play(&clip, CAMERA_TURN).await?;
                    anyhow::Ok(contender)
                });
            }
            while let Some(contender) = playing.join_next().await {
                group.push(contender??);
            }
            let frames = (CAMERAS * CAMERA_TURN) as f64;
            rates[number].push(frames / begun.elapsed().as_secs_f64());
            processor[number].push((processor_seconds() - used) * 1e3 / frames);
        }
    }
    let rate = |number: usize| {
        let ratios = rates[number].iter().zip(&rates[0]);
        CameraRate {
            rate: median(rates[number].iter().copied()),
            ratio: median(ratios.map(|(rate, single)| rate / single)),
            processor: median(processor[number].iter().copied()),
        }
    };
    Ok((0..groups.len()).map(rate).collect())
}

/// Returns the processor time of this process.
fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Returns the number of faces that single frames name, of those with the same name in the stream,
/// and of those with another one.
fn compare(single: &[Vec<FoundFace>], stream: &[Vec<FoundFace>]) -> (usize, usize, usize) {
    let (mut named, mut same, mut other) = (0, 0, 0);
    for (alone, tracked) in single.iter().zip(stream) {
        for face in alone.iter().filter(|face| face.name.is_some()) {
            named += 1;
            let overlap = |other: &&FoundFace| face.bounds.iou_of_pixels(&other.bounds);
            let nearest = tracked
                .iter()
                .max_by(|a, b| overlap(a).total_cmp(&overlap(b)))
                .filter(|nearest| overlap(nearest) >= SAME_FACE);
            let name = nearest.and_then(|nearest| nearest.name.as_ref());
            same += usize::from(name == face.name.as_ref());
            other += usize::from(name.is_some() && name != face.name.as_ref());
        }
    }
    (named, same, other)
}

/// Stages of a frame, in order.
const STAGES: [&str; 12] = [
    "queue",
    "decode",
    "letterbox",
    "copy-in",
    "detect",
    "copy-out",
    "postprocess",
    "align",
    "embed",
    "measure",
    "track",
    "total",
];

/// Returns the tables of the measured clips.
pub(crate) fn report(measured: &[(&str, Speed)]) -> String {
    let mut text = "| clip | faces | frames | p50 ms | ÷ single | mean ms | of the first 24 | 8 cameras, frames a second | ÷ single | processor ms a frame \
         | named alone | same name | other name |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for (clip, speed) in measured {
        let single = &speed.single;
        let _ = writeln!(
            text,
            "| {clip} | {:.1} | single | {:.1} | 1 | {:.1} | | {:.1} | 1 | {:.1} | | | |",
            speed.faces,
            single.median(),
            single.mean(),
            speed.single_cameras.rate,
            speed.single_cameras.processor
        );
        for stream in &speed.streams {
            let _ = writeln!(
                text,
                "| {clip} | | stream, every {} ms | {:.1} | **{:.2}** | {:.1} | {:.1} | {:.1} | **{:.2}** | {:.1} | {} | {:.2} % | {} |",
                stream.interval,
                stream.times.median(),
                stream.time_ratio,
                stream.times.mean(),
                stream.beginning,
                stream.cameras.rate,
                stream.cameras.ratio,
                stream.cameras.processor,
                stream.named,
                100.0 * stream.same_share(),
                stream.other
            );
        }
    }
    let _ = writeln!(
        text,
        "\nMean ms by stage:\n\n| clip | frames | {} |\n|---|---|{}",
        STAGES.join(" | "),
        "---|".repeat(STAGES.len())
    );
    for (clip, speed) in measured {
        let streams = speed.streams.iter();
        let streams =
            streams.map(|stream| (format!("every {} ms", stream.interval), &stream.times));
        for (frames, times) in [("single".to_owned(), &speed.single)]
            .into_iter()
            .chain(streams)
        {
            let cells = STAGES.map(|stage| format!("{:.1}", times.stage(stage)));
            let _ = writeln!(text, "| {clip} | {frames} | {} |", cells.join(" | "));
        }
    }
    text
}

impl StreamSpeed {
    /// Returns the share of face-frames that single frames name with the same name in the stream.
    pub(crate) fn same_share(&self) -> f64 {
        self.same as f64 / self.named.max(1) as f64
    }
}
