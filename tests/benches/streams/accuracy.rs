//! Names of streams of people who move, relative to the same frames alone.

use std::fmt::Write as _;

use anyhow::Result;
use fastrand::Rng;
use image::RgbImage;

use crate::harness::shared;
use crate::heads::{Portrait, Pose};
use crate::picture::{backdrop, jpeg, open};
use crate::scenes::{Actor, RATE, Scene, Walk};
use crate::service::{LocalService, found};
use crate::tally::{Names, Tally};

/// Size of the frames.
const SIZE: (u32, u32) = (960, 540);

/// Students who can be named; the others are strangers.
const ENROLLED: usize = 24;

/// Sides of faces in pixels.
const SIDES: (f32, f32) = (40.0, 100.0);

/// Frames of a scene, and of a crossing.
const FRAMES: (usize, usize) = (6 * RATE, 5 * RATE / 2);

/// Frames of a scene in which people are replaced, and the share after which they are: long enough
/// that their tracks are rarely embedded.
const REPLACED: (usize, f32) = (15 * RATE, 0.8);

/// Similarity of a stranger to the enrolled person, in a frame without noise.
const LIKENESS: f32 = 0.5;

/// Longest time in seconds for which a wrong name may last.
const LONGEST_WRONG: f32 = 1.0;

/// A kind of scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Walking,
    Blur,
    Turns,
    Occlusions,
    Strangers,
    Replaced,
    Crossing,
}

/// Counts of all scenes of a kind.
#[derive(Debug)]
pub(crate) struct Accuracy {
    kind: Kind,
    scenes: usize,
    single: Names,
    stream: Names,
    /// Mean and highest similarity of strangers, and the number of their frames above 0.5.
    strangers: Vec<f32>,
    /// Face-frames with another person's track, and scenes that end so.
    foreign: usize,
    switched: usize,
    /// Tracks above one a person.
    fragments: usize,
}

/// The people and the room of all scenes.
struct Stage<'s> {
    service: &'s LocalService,
    portraits: Vec<Portrait>,
    backdrop: RgbImage,
}

/// Measures all kinds of scenes: `runs` of each, and `crossings`.
pub(crate) fn measure(
    service: &LocalService,
    students: &[String],
    seed: u64,
    runs: usize,
    crossings: usize,
) -> Result<Vec<Accuracy>> {
    let portraits: Result<_> = students
        .iter()
        .map(|id| Portrait::of(service, id))
        .collect();
    let room = open(&shared("faces/classrooms/classroom_030_faces.jpg"))?;
    let stage = Stage {
        service,
        portraits: portraits?,
        backdrop: backdrop(&room, SIZE.0, SIZE.1),
    };
    let kinds = [
        (Kind::Walking, runs),
        (Kind::Blur, runs),
        (Kind::Turns, runs),
        (Kind::Occlusions, runs),
        (Kind::Strangers, runs),
        (Kind::Replaced, runs),
        (Kind::Crossing, crossings),
    ];
    let mut measured = Vec::new();
    for (kind, scenes) in kinds {
        eprintln!("{kind:?} …");
        let mut accuracy = Accuracy {
            kind,
            scenes,
            single: Names::default(),
            stream: Names::default(),
            strangers: Vec::new(),
            foreign: 0,
            switched: 0,
            fragments: 0,
        };
        for run in 0..scenes {
            let mut random = Rng::with_seed(seed + 1_000 * run as u64);
            accuracy.run(&stage, &mut random)?;
        }
        measured.push(accuracy);
    }
    Ok(measured)
}

impl Stage<'_> {
    /// Returns a scene, and the people who can be named in it.
    fn scene(&self, kind: Kind, random: &mut Rng) -> Result<(Scene, Vec<String>)> {
        let mut people: Vec<&Portrait> = self.portraits.iter().collect();
        random.shuffle(&mut people);
        let (enrolled, strangers) = people.split_at(ENROLLED);
        let ids: Vec<String> = enrolled.iter().map(|person| person.id.clone()).collect();
        let mut actors = Vec::new();
        match kind {
            Kind::Crossing => {
                let side = between(SIDES, random);
                let speed = 250.0 + 250.0 * random.f32();
                for (number, person) in enrolled.iter().take(2).enumerate() {
                    let walk = crossing(number, side, speed, random);
                    let head = person.head(side * (0.9 + 0.2 * random.f32()));
                    let id = Some(person.id.clone());
                    actors.push(Actor {
                        id,
                        head,
                        walk,
                        shown: 0.0..=1.0,
                    });
                }
            }
            Kind::Strangers => {
                for (number, person) in enrolled.iter().take(2).enumerate() {
                    actors.push(self.walker(kind, 2 * number, person, true, random));
                }
                // One resembles a person who is away, one a person who is present, too.
                for (number, stranger) in strangers.iter().take(2).enumerate() {
                    let alike = enrolled[2 - number];
                    let portrait = self.stranger(stranger, alike, &ids)?;
                    actors.push(self.walker(kind, 2 * number + 1, &portrait, false, random));
                }
            }
            Kind::Replaced => {
                let (sooner, later) = (&enrolled[..4], &enrolled[4..8]);
                for (number, (sooner, later)) in sooner.iter().zip(later).enumerate() {
                    let before = self.walker(kind, number, sooner, true, random);
                    let (_, end) = REPLACED;
                    actors.push(Actor {
                        id: Some(later.id.clone()),
                        head: later.head(before.head.side()),
                        walk: before.walk,
                        shown: end..=1.0,
                    });
                    actors.push(Actor {
                        shown: 0.0..=end - f32::EPSILON,
                        ..before
                    });
                }
            }
            _ => {
                for (number, person) in enrolled.iter().take(4).enumerate() {
                    actors.push(self.walker(kind, number, person, true, random));
                }
            }
        }
        let poles = match kind {
            Kind::Occlusions => (0..3)
                .map(|number| {
                    let left = 150.0 + 250.0 * number as f32 + 60.0 * random.f32();
                    [left, left + 30.0 + 40.0 * random.f32()]
                })
                .collect(),
            _ => Vec::new(),
        };
        let frames = match kind {
            Kind::Crossing => FRAMES.1,
            Kind::Replaced => REPLACED.0,
            _ => FRAMES.0,
        };
        let scene = Scene {
            backdrop: self.backdrop.clone(),
            actors,
            poles,
            frames,
        };
        Ok((scene, ids))
    }

    /// Returns a person who walks from one side to the other in a row of their own.
    fn walker(
        &self,
        kind: Kind,
        row: usize,
        person: &Portrait,
        is_enrolled: bool,
        random: &mut Rng,
    ) -> Actor {
        let side = between(SIDES, random);
        let height = 75.0 + 130.0 * row as f32;
        let ends = [60.0 + 250.0 * random.f32(), 900.0 - 250.0 * random.f32()];
        let (from, to) = if random.bool() {
            (ends[0], ends[1])
        } else {
            (ends[1], ends[0])
        };
        let mut place = |x: f32| [x, height + 20.0 * (random.f32() - 0.5)];
        let walk = Walk {
            from: place(from),
            to: place(if kind == Kind::Replaced { from } else { to }),
            turn: if kind == Kind::Turns { 0.6 } else { 0.1 },
            blur: match kind {
                Kind::Blur => 1.0,
                Kind::Strangers => 0.3,
                _ => 0.0,
            },
            is_covered: kind == Kind::Occlusions,
            phase: random.f32(),
        };
        Actor {
            id: is_enrolled.then(|| person.id.clone()),
            head: person.head(side),
            walk,
            shown: 0.0..=1.0,
        }
    }

    /// Returns a stranger who is blended with a person until they are alike.
    fn stranger(&self, stranger: &Portrait, person: &Portrait, ids: &[String]) -> Result<Portrait> {
        let (mut low, mut high) = (0.0, 1.0);
        let mut blended = stranger.clone();
        for _ in 0..6 {
            let share = (low + high) / 2.0;
            blended = stranger.blended(person, share);
            let mut picture = self.backdrop.clone();
            let pose = Pose {
                center: [480.0, 270.0],
                ..Pose::default()
            };
            blended.head(SIDES.1).draw(&mut picture, &pose);
            let mut camera = self.service.single_frames("setup").among(ids)?;
            let answer = self
                .service
                .runtime
                .block_on(camera.send(jpeg(&picture)?))?;
            let similarity = found(&answer).first().map_or(0.0, |face| face.similarity);
            if similarity < LIKENESS {
                low = share;
            } else {
                high = share;
            }
        }
        Ok(blended)
    }
}

/// Returns the walk of one of two people who meet in the middle.
fn crossing(number: usize, side: f32, speed: f32, random: &mut Rng) -> Walk {
    let way = speed * FRAMES.1 as f32 / RATE as f32 / 2.0;
    let direction = if number == 0 { 1.0 } else { -1.0 };
    let middle = 480.0;
    let mut place = |share: f32| {
        [
            middle + direction * share * way,
            270.0 + 0.5 * side * (random.f32() - 0.5),
        ]
    };
    Walk {
        from: place(-1.0),
        to: place(1.0),
        turn: 0.1,
        phase: random.f32(),
        ..Walk::default()
    }
}

fn between((from, to): (f32, f32), random: &mut Rng) -> f32 {
    from + (to - from) * random.f32()
}

impl Accuracy {
    fn run(&mut self, stage: &Stage<'_>, random: &mut Rng) -> Result<()> {
        let (scene, ids) = stage.scene(self.kind, random)?;
        let mut single_camera = stage.service.single_frames("single").among(&ids)?;
        let interval = 1_000 / RATE as u64;
        let mut stream_camera = stage.service.stream("stream", interval).among(&ids)?;
        let (mut single, mut stream) = (Tally::new(&scene), Tally::new(&scene));
        for (number, (frame, truth)) in scene.film(random)?.into_iter().enumerate() {
            for (camera, tally) in [
                (&mut single_camera, &mut single),
                (&mut stream_camera, &mut stream),
            ] {
                let answer = stage.service.runtime.block_on(camera.send(frame.clone()))?;
                tally.count(number, &truth, &found(&answer));
            }
        }
        self.single.add(&single.names);
        self.stream.add(&stream.names);
        self.strangers.extend(single.strangers);
        self.foreign += stream.foreign;
        self.switched += usize::from(stream.is_foreign.values().any(|is_foreign| *is_foreign));
        let tracks = stream.tracks.values();
        self.fragments += tracks.map(|tracks| tracks.len() - 1).sum::<usize>();
        Ok(())
    }
}

/// Returns the table of all kinds of scenes.
pub(crate) fn report(measured: &[Accuracy]) -> String {
    let mut text = "| scene | runs | frames | right | wrong | unknown | not found | longest wrong s | tracks above one a person \
         | frames with another's track | runs that end so |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for accuracy in measured {
        for (frames, names) in [("single", &accuracy.single), ("stream", &accuracy.stream)] {
            let _ = write!(
                text,
                "| {:?} | {} | {frames} | {} | {} | {} | {} | {:.1} |",
                accuracy.kind,
                accuracy.scenes,
                names.right,
                names.wrong,
                names.unknown,
                names.missed,
                names.longest_wrong
            );
            let _ = if frames == "stream" {
                writeln!(
                    text,
                    " {} | {} | {} |",
                    accuracy.fragments, accuracy.foreign, accuracy.switched
                )
            } else {
                writeln!(text, " | | |")
            };
        }
    }
    let strangers = measured.iter().flat_map(|accuracy| &accuracy.strangers);
    let strangers: Vec<f32> = strangers.copied().collect();
    let above = strangers.iter().filter(|similarity| **similarity > 0.5);
    let _ = writeln!(
        text,
        "\nStrangers in single frames: {} faces, similarity {:.3} in the mean, {:.3} at most, {} above 0.5.",
        strangers.len(),
        strangers.iter().sum::<f32>() / strangers.len().max(1) as f32,
        strangers.iter().copied().fold(0.0, f32::max),
        above.count()
    );
    text
}

/// Returns each goal, and whether it is reached. Replaced people have none: appearance finds most of
/// them, and the others wait for the next check.
pub(crate) fn goals(measured: &[Accuracy]) -> Vec<(String, bool)> {
    let is_judged = |one: &&Accuracy| one.kind != Kind::Replaced;
    let measured: Vec<&Accuracy> = measured.iter().filter(is_judged).collect();
    let right = |of: fn(&Accuracy) -> &Names| -> usize {
        measured.iter().map(|accuracy| of(accuracy).right).sum()
    };
    let (single, stream) = (right(|one| &one.single), right(|one| &one.stream));
    let longest = measured.iter().map(|one| one.stream.longest_wrong);
    let longest = longest.fold(0.0, f32::max);
    let switched: usize = measured.iter().map(|accuracy| accuracy.switched).sum();
    let crossings = measured.iter().filter(|one| one.kind == Kind::Crossing);
    let foreign: usize = crossings.map(|accuracy| accuracy.foreign).sum();
    vec![
        (
            format!("more right names than single frames: {stream} and {single}"),
            stream > single,
        ),
        (
            format!("no wrong name longer than {LONGEST_WRONG} s: {longest:.1}"),
            longest <= LONGEST_WRONG,
        ),
        (
            format!(
                "no identity switch: {switched}, frames at crossings with another's track: {foreign}"
            ),
            switched == 0,
        ),
    ]
}
