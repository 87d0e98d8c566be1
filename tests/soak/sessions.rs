//! `cargo xtask soak sessions`: forty cameras before a door and eight in classrooms of thirty, each at
//! one frame a second.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use image::imageops::{self, FilterType};
use image::{DynamicImage, RgbImage};
use serde_json::json;
use ureq::http::Method;

use crate::growth::{Resources, Thirds};
use crate::harness::{Client, Options, Server, shared};
use crate::monitor::monitor;
use crate::stats::{Outcome, Stats};
use crate::{Args, leaked_descriptors, logged_errors};

/// Sessions of one person at 640×480, and of all people at 1920×1080.
const DOORS: usize = 40;
const CLASSROOMS: usize = 8;

/// Time between two frames of a session.
const INTERVAL: Duration = Duration::from_secs(1);

/// Frames of a scene, which repeat. People sway and the light changes.
const FRAMES: usize = 4;

/// Columns of people in a classroom, and width and height of the place of each.
const COLUMNS: u32 = 6;
const PLACE: (u32, u32) = (320, 216);

/// A person with photos.
struct Student {
    id: String,
    folder: PathBuf,
}

/// A session with its frames, and who is in each of them.
struct Camera {
    session: String,
    frames: Vec<Vec<u8>>,
    people: usize,
}

/// What was named.
#[derive(Debug, Default)]
struct Names {
    faces: usize,
    named: usize,
    frames: usize,
    /// Longest time that a frame took.
    longest: Duration,
}

/// Loads one service with sessions.
pub(crate) fn run(args: &Args, folder: &Path) -> Result<()> {
    let log = folder.join("log");
    let server = Options::real()
        .log(&log)
        .gallery(&folder.join("gallery"))
        .state(&folder.join("state"))
        .start();
    let students = students()?;
    for student in &students {
        let photos = ["front", "left", "right"]
            .map(|view| fs::read(student.folder.join(format!("{view}.jpg"))));
        let photos = photos.into_iter().collect::<Result<Vec<_>, _>>()?;
        server.enroll(&student.id, photos).ok();
    }
    let cameras = cameras(&server, &students)?;
    let before = Resources::of(server.pid())?;
    eprintln!(
        "── {} minutes of {DOORS} sessions of one person and {CLASSROOMS} of {}, each at a frame a \
         second",
        args.minutes,
        students.len()
    );
    let until = Instant::now() + Duration::from_secs_f64(args.minutes * 60.0);
    let stats = Stats::default();
    let (readings, names) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..)
            .zip(&cameras)
            .map(|(number, camera)| {
                let (stats, url) = (&stats, &server.url);
                let begin = Instant::now() + INTERVAL * number / (DOORS + CLASSROOMS) as u32;
                scope.spawn(move || send(camera, url, stats, begin, until))
            })
            .collect();
        let readings = monitor(server.pid(), &stats, until);
        let names: Vec<Result<Names>> = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked")))
            .collect();
        (readings, names)
    });
    let (readings, names) = (readings?, names.into_iter().collect::<Result<Vec<_>>>()?);
    let mut errors = Thirds::of(&readings).growth();
    errors.extend(leaked_descriptors(&server, &before)?);
    report(&stats, &readings, &cameras, &names);
    let counts = stats.counts();
    let (_, rejected) = counts.totals();
    if let Some(first) = counts.failures.first() {
        errors.push(format!("{} failures, first: {first}", counts.failed));
    }
    if rejected > 0 {
        errors.push(format!("{rejected} frames were rejected"));
    }
    errors.extend(missing(&server, &cameras)?);
    errors.extend(logged_errors(&log)?);
    let list = errors.join("\n- ");
    ensure!(
        errors.is_empty(),
        "the soak failed; see {}:\n- {list}",
        log.display()
    );
    eprintln!("── the soak passed");
    Ok(())
}

fn students() -> Result<Vec<Student>> {
    let folder = shared("faces/students");
    let entries = folder
        .read_dir()
        .with_context(|| format!("cannot read {}", folder.display()))?;
    let mut students = Vec::new();
    for entry in entries {
        let entry = entry?;
        students.push(Student {
            id: entry.file_name().to_string_lossy().into_owned(),
            folder: entry.path(),
        });
    }
    students.sort_by(|one, two| one.id.cmp(&two.id));
    Ok(students)
}

/// Creates the sessions, and draws their frames.
fn cameras(server: &Server, students: &[Student]) -> Result<Vec<Camera>> {
    let photos = students
        .iter()
        .map(|student| Ok(image::open(student.folder.join("test.jpg"))?))
        .collect::<Result<Vec<DynamicImage>>>()?;
    let places: Vec<RgbImage> = photos
        .iter()
        .map(|photo| {
            photo
                .resize(PLACE.0, PLACE.1, FilterType::Triangle)
                .into_rgb8()
        })
        .collect();
    let classroom = (0..FRAMES)
        .map(|number| {
            let mut room = RgbImage::from_pixel(1920, 1080, image::Rgb([96, 96, 92]));
            for (place, photo) in (0..).zip(&places) {
                let (column, row) = (place % COLUMNS, place / COLUMNS);
                let (x, y) = sway(column * PLACE.0, row * PLACE.1, number);
                imageops::overlay(&mut room, photo, x, y);
            }
            encode(room, number)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut cameras = Vec::new();
    for (number, photo) in photos.iter().cycle().take(DOORS).enumerate() {
        let photo = photo.resize(480, 440, FilterType::Triangle).into_rgb8();
        let frames = (0..FRAMES).map(|frame| {
            let mut door = RgbImage::from_pixel(640, 480, image::Rgb([96, 96, 92]));
            let (x, y) = sway(80, 20, frame);
            imageops::overlay(&mut door, &photo, x, y);
            encode(door, frame)
        });
        cameras.push(Camera {
            session: create(server, &format!("door-{number}"))?,
            frames: frames.collect::<Result<_>>()?,
            people: 1,
        });
    }
    for number in 0..CLASSROOMS {
        cameras.push(Camera {
            session: create(server, &format!("room-{number}"))?,
            frames: classroom.clone(),
            people: students.len(),
        });
    }
    Ok(cameras)
}

/// Returns where a photo is in a frame.
fn sway(x: u32, y: u32, frame: usize) -> (i64, i64) {
    let (dx, dy) = [(0, 0), (3, 1), (4, -2), (1, -1)][frame % FRAMES];
    (i64::from(x) + dx, i64::from(y) + dy)
}

/// Encodes a frame in the light of its number.
fn encode(mut frame: RgbImage, number: usize) -> Result<Vec<u8>> {
    imageops::colorops::brighten_in_place(&mut frame, [0, 4, 8, -4][number % FRAMES]);
    let mut bytes = std::io::Cursor::new(Vec::new());
    frame.write_to(&mut bytes, image::ImageFormat::Jpeg)?;
    Ok(bytes.into_inner())
}

fn create(server: &Server, stream: &str) -> Result<String> {
    let body = json!({ "stream": stream, "rule": { "seen": 2, "within_s": 60 } }).to_string();
    let headers = [("content-type", "application/json")];
    let client = Client::new(&server.url);
    let answer = client.send(Method::POST, "/v1/sessions", &headers, body.as_bytes())?;
    ensure!(answer.status == 201, "no session: {}", answer.json);
    let id = answer.json["id"].as_str().context("a session has no id")?;
    Ok(id.to_owned())
}

/// Sends the frames of a camera at their times. A late one is sent at once.
fn send(camera: &Camera, url: &str, stats: &Stats, begin: Instant, until: Instant) -> Names {
    let client = Client::new(url);
    let mut names = Names::default();
    let mut next = begin;
    for (seq, frame) in (1..).zip(camera.frames.iter().cycle()) {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        if Instant::now() >= until || stats.must_stop() {
            break;
        }
        let begun = Instant::now();
        next = (next + INTERVAL).max(begun);
        let path = format!("/v1/sessions/{}/frames?seq={seq}", camera.session);
        let headers = [("content-type", "image/jpeg")];
        let answer = client.send(Method::POST, &path, &headers, frame);
        let answer = stats.record("frame", answer.map_err(Into::into), 200);
        let Outcome::Done(answer) = answer else {
            continue;
        };
        stats.record_time(begun.elapsed());
        names.longest = names.longest.max(begun.elapsed());
        names.frames += 1;
        let faces = answer["recognized_faces"].as_array();
        for face in faces.into_iter().flatten() {
            names.faces += 1;
            names.named += usize::from(face["identity"] != "Unknown");
        }
    }
    names
}

/// Names the sessions that do not have all of their people.
fn missing(server: &Server, cameras: &[Camera]) -> Result<Vec<String>> {
    let client = Client::new(&server.url);
    let mut missing = Vec::new();
    for camera in cameras {
        let path = format!("/v1/sessions/{}", camera.session);
        let view = client.send(Method::GET, &path, &[], &[])?.json;
        let present = view["present"].as_array().map_or(0, Vec::len);
        if present != camera.people {
            let stream = view["stream"].as_str().unwrap_or_default();
            missing.push(format!(
                "{present} of {} people are present in {stream}",
                camera.people
            ));
        }
    }
    Ok(missing)
}

fn report(stats: &Stats, readings: &[Resources], cameras: &[Camera], names: &[Names]) {
    let [p50, p99] = [50, 99].map(|percent| stats.counts().percentile(percent));
    println!("\nframes: p50 {p50:.0?}, p99 {p99:.0?}");
    println!("\n| sessions | frames | faces | named | longest frame |\n|---|---|---|---|---|");
    for (what, is_door) in [("of one person", true), ("of thirty", false)] {
        let own: Vec<&Names> = cameras
            .iter()
            .zip(names)
            .filter(|(camera, _)| (camera.people == 1) == is_door)
            .map(|(_, names)| names)
            .collect();
        let sum =
            |field: fn(&Names) -> usize| -> usize { own.iter().map(|names| field(names)).sum() };
        let longest = own.iter().map(|names| names.longest).max();
        println!(
            "| {} {what} | {} | {} | {} | {:.0?} |",
            own.len(),
            sum(|names| names.frames),
            sum(|names| names.faces),
            sum(|names| names.named),
            longest.unwrap_or_default()
        );
    }
    let memory = Thirds::of(readings).medians(|resources| resources.memory);
    let [first, second, last] = memory.map(|memory| memory / 1024);
    println!("\nmemory, medians of the thirds: {first}, {second} and {last} MB");
}
