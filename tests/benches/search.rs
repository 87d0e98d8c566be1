//! Speed of searches and changes in the index, compared with the memory bandwidth of the machine.
//! Prints a Markdown table.
//!
//! `cargo bench --workspace --bench search -- [--vectors N] [--exact] [--kind faces|sphere]`
//! measures both kinds with 1 thousand, 100 thousand and N people (1 million by default). The
//! memory is that of a process of its own for each method, which has nothing but the index.
//!
//! The invented people are the same in every run. Real embeddings have 512 numbers but do not fill
//! 512 dimensions. In kind `faces` the variance of normal numbers falls from one axis to the next,
//! as in a principal component analysis. A random rotation hides this from single numbers. The fall
//! gives the similarity of two strangers a deviation of 0.09. One stranger in a million then
//! reaches 0.43, as reported of real recognisers. Kind `sphere` fills all 512 dimensions alike,
//! which is the hardest case for an approximate index and not how faces behave. A probe is another
//! view of an enrolled person. Its cosine with the template is spread over 0.4 to 0.8, and the
//! difference varies along the same axes as people do.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure ends the measurement, and nothing else"
)]

#[path = "common/machine.rs"]
mod machine;
#[path = "common/median.rs"]
mod median;

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rostro_common::cores::Cores;
use rostro_common::ids::PersonId;
use rostro_index::{Candidate, Index, Method};

use crate::median::median;

const DIMENSION: usize = 512;
/// Number of faces in a crowded frame.
const CROWD: usize = 30;
/// Candidates per search, as in the service.
const K: usize = 8;
/// Number of probes for the recall.
const PROBES: usize = 2000;
/// Threshold of the packs: a person with a lower similarity is unknown.
const THRESHOLD: f32 = 0.5;
/// Time for each repeated measurement.
const TIME: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Faces,
    Sphere,
}

fn main() {
    let mut largest = 1_000_000;
    let mut kinds = vec![Kind::Faces, Kind::Sphere];
    let mut approximate = true;
    let mut memory_of = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Flag that cargo adds.
            "--bench" => {}
            "--exact" => approximate = false,
            // Set by `resident`.
            "--memory-of" => memory_of = arguments.next(),
            "--kind" => {
                kinds = vec![if arguments.next().as_deref() == Some("sphere") {
                    Kind::Sphere
                } else {
                    Kind::Faces
                }]
            }
            "--vectors" => {
                largest = arguments
                    .next()
                    .and_then(|size| size.parse().ok())
                    .expect("--vectors is followed by a number")
            }
            other => panic!("{other} is not known: [--vectors N] [--exact] [--kind faces|sphere]"),
        }
    }
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    if let Some(method) = memory_of {
        let method = match method.as_str() {
            "int8" => Method::Int8 { above: 0 },
            _ => Method::Exact,
        };
        let index = Index::new(DIMENSION, method, Cores::new(cores));
        fill(&index, &Faces { kind: Kind::Faces }, largest, cores);
        println!("{}", resident_bytes());
        drop(index);
        return;
    }
    let mut sizes: Vec<usize> = [1_000, 100_000]
        .into_iter()
        .filter(|&size| size < largest)
        .collect();
    sizes.push(largest);
    println!("{}\n", machine::description());
    println!(
        "Search of a gallery in memory on {cores} cores: vectors of {DIMENSION} numbers, one a person; the {K} nearest are asked for."
    );
    println!(
        "Times are medians. Recall@n: which share of the n nearest, by the exact search, is among the first n that another method"
    );
    println!(
        "finds. Probes are other views of people of the gallery, at a cosine of 0.4 to 0.8. `faces` are spread as embeddings of faces are,"
    );
    println!("`sphere` over all dimensions alike.\n");
    println!("| people | kind | measured | value |\n| ---: | --- | --- | ---: |");
    for size in sizes {
        if approximate {
            let [exact, int8] = ["exact", "int8"].map(|method| resident(method, size));
            for (what, bytes) in [("exact", exact), ("int8", int8)] {
                println!(
                    "| {size} | | resident memory, {what} | {:.1} MB ({:.3}× exact, {:.0} bytes a person) |",
                    bytes as f64 / 1e6,
                    bytes as f64 / exact as f64,
                    bytes as f64 / size as f64
                );
            }
        }
        for &kind in &kinds {
            measure(size, kind, cores, approximate);
        }
    }
}

/// Returns the resident memory of a process with an index of `size` people, less that of one with
/// a single person.
fn resident(method: &str, size: usize) -> u64 {
    let of = |size: usize| -> u64 {
        let output = Command::new(std::env::current_exe().expect("a program has a file"))
            .args(["--memory-of", method, "--vectors", &size.to_string()])
            .output()
            .expect("this program starts");
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim().parse().expect("it prints a number")
    };
    of(size) - of(1)
}

/// Returns the resident memory of this process.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("it has the resident memory");
    let kib: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("it is a number");
    kib << 10
}

fn measure(size: usize, kind: Kind, cores: NonZeroUsize, approximate: bool) {
    let row = |what: &str, value: String| {
        println!(
            "| {size} | {} | {what} | {value} |",
            if kind == Kind::Faces {
                "faces"
            } else {
                "sphere"
            }
        )
    };
    let faces = Faces { kind };
    let index = Index::new(DIMENSION, Method::Exact, Cores::new(cores));
    let begun = Instant::now();
    fill(&index, &faces, size, cores);
    row(
        "put in, with making the vectors",
        format!("{:.1} s", begun.elapsed().as_secs_f64()),
    );
    let probes: Vec<Vec<f32>> = (0..PROBES).map(|at| faces.probe(at, size)).collect();

    let bytes = vec![1_u64; size * DIMENSION / 2];
    let (mut reads, mut ones, mut crowds) = (Vec::new(), Vec::new(), Vec::new());
    let begun = Instant::now();
    let mut at = 0;
    // Alternates, so that other load of the machine affects all measurements alike.
    while begun.elapsed() < 2 * TIME || ones.len() < 7 {
        reads.push(timed(|| read(&bytes, cores.get())));
        ones.push(timed(|| {
            nearest(&index, &probes[at % PROBES..=at % PROBES])
        }));
        if at % 4 == 0 {
            let start = at % (PROBES - CROWD);
            crowds.push(timed(|| nearest(&index, &probes[start..start + CROWD])));
        }
        at += 1;
    }
    drop(bytes);
    let (read, one, crowd) = (median(reads), median(ones), median(crowds));
    row(
        "memory read once (floor)",
        format!(
            "{} ({:.1} GB/s)",
            shown(read),
            (size * DIMENSION * 4) as f64 / read.as_secs_f64() / 1e9
        ),
    );
    row(
        "exact, 1 probe",
        format!(
            "{} ({:.2}× the floor)",
            shown(one),
            one.as_secs_f64() / read.as_secs_f64()
        ),
    );
    row(
        &format!("exact, {CROWD} probes"),
        format!(
            "{} ({:.2}× the floor)",
            shown(crowd),
            crowd.as_secs_f64() / read.as_secs_f64()
        ),
    );
    upserts(&index, &faces, size, &probes, &row);
    if !approximate {
        return;
    }

    let exact: Vec<Vec<Candidate>> = probes
        .chunks(50)
        .flat_map(|probes| nearest(&index, probes))
        .collect();
    let index = index.with_method(Method::Approximate { above: 0 });
    compare("approximate", &index, &probes, &exact, &row);
    upserts(&index, &faces, size, &probes, &row);
    drop(index);

    let index = Index::new(
        DIMENSION,
        Method::Int8 { above: usize::MAX },
        Cores::new(cores),
    );
    fill(&index, &faces, size, cores);
    compare("int8, every template", &index, &probes, &exact, &row);
    let index = index.with_method(Method::Int8 { above: 0 });
    compare("int8", &index, &probes, &exact, &row);
    upserts(&index, &faces, size, &probes, &row);
}

/// Prints the times of a method, and how its results differ from the exact ones.
fn compare(
    method: &str,
    index: &Index,
    probes: &[Vec<f32>],
    exact: &[Vec<Candidate>],
    row: &impl Fn(&str, String),
) {
    let mut found = Vec::new();
    let mut times: Vec<Duration> = probes
        .chunks(1)
        .map(|probe| timed(|| found.extend(nearest(index, probe))))
        .collect();
    times.sort_unstable();
    let half = median(times.iter().copied());
    row(
        &format!("{method}, 1 probe"),
        format!(
            "{} (p99 {})",
            shown(half),
            shown(times[times.len() * 99 / 100])
        ),
    );
    let times = probes
        .chunks_exact(CROWD)
        .map(|probes| timed(|| nearest(index, probes)));
    row(&format!("{method}, {CROWD} probes"), shown(median(times)));
    row(
        &format!("{method}, recall@1, recall@5"),
        format!(
            "{:.4}, {:.4}",
            recall(exact, &found, 1),
            recall(exact, &found, 5)
        ),
    );
    let sure: Vec<usize> = (0..PROBES)
        .filter(|&at| exact[at][0].similarity >= THRESHOLD)
        .collect();
    let of = |all: &[Vec<Candidate>]| sure.iter().map(|&at| all[at].clone()).collect::<Vec<_>>();
    row(
        &format!("{method}, recall@1 of those at {THRESHOLD} or above"),
        format!("{:.4}", recall(&of(exact), &of(&found), 1)),
    );
    let errors: Vec<f64> = exact
        .iter()
        .zip(&found)
        .flat_map(|(exact, found)| exact.iter().map(move |wanted| (wanted, found)))
        .filter_map(|(wanted, found)| {
            let own = found.iter().find(|found| found.id == wanted.id)?;
            Some(f64::from(own.similarity - wanted.similarity))
        })
        .collect();
    let square = errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64;
    let largest = errors
        .iter()
        .fold(0.0_f64, |max, error| max.max(error.abs()));
    row(
        &format!("{method}, error of a similarity"),
        format!("deviation {:.5}, at most {largest:.5}", square.sqrt()),
    );
    let named = |candidates: &Vec<Candidate>| {
        let nearest = candidates.first()?;
        (nearest.similarity >= THRESHOLD).then(|| nearest.id.clone())
    };
    let changed = exact
        .iter()
        .zip(&found)
        .filter(|(exact, found)| named(exact) != named(found))
        .count();
    row(
        &format!("{method}, other names at {THRESHOLD}"),
        format!("{changed} of {PROBES}"),
    );
}

/// Enrols existing and new people, first on an idle index and then during searches.
fn upserts(
    index: &Index,
    faces: &Faces,
    size: usize,
    probes: &[Vec<f32>],
    row: &impl Fn(&str, String),
) {
    let enrol = || {
        let one = |at: usize| {
            let vector = faces.person(at);
            timed(|| index.upsert(&id(at), &[vector]).expect("it fits"))
        };
        // Vectors are unchanged, and new people are removed afterwards, because the recall is
        // measured with them.
        let mut times: Vec<Duration> = (0..100)
            .map(|at| one(at * (size / 100).max(1) % size))
            .collect();
        times.extend((size..size + 100).map(one));
        (size..size + 100).for_each(|at| index.upsert(&id(at), &[]).expect("nothing always fits"));
        times.sort_unstable();
        let half = median(times.iter().copied());
        format!("{}, at most {}", shown(half), shown(times[times.len() - 1]))
    };
    row("enrolled", enrol());
    let done = AtomicBool::new(false);
    let text = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                black_box(nearest(index, &probes[..CROWD]));
            }
        });
        std::thread::sleep(Duration::from_millis(20));
        let text = enrol();
        done.store(true, Ordering::Relaxed);
        text
    });
    row("enrolled while searched", text);
}

/// Returns the share of the first `k` exact results that are among the first `k` found.
fn recall(exact: &[Vec<Candidate>], found: &[Vec<Candidate>], k: usize) -> f64 {
    let hits = |(exact, found): (&Vec<Candidate>, &Vec<Candidate>)| {
        exact
            .iter()
            .take(k)
            .filter(|wanted| found.iter().take(k).any(|found| found.id == wanted.id))
            .count()
    };
    exact.iter().zip(found).map(hits).sum::<usize>() as f64
        / exact.iter().map(|exact| exact.len().min(k)).sum::<usize>() as f64
}

fn nearest(index: &Index, probes: &[Vec<f32>]) -> Vec<Vec<Candidate>> {
    index.nearest(probes, K).expect("they fit")
}

/// Reads memory at full speed.
fn read(numbers: &[u64], cores: usize) -> u64 {
    let sum = |part: &[u64]| {
        let mut sums = [0_u64; 16];
        for numbers in part.as_chunks::<16>().0 {
            for (sum, number) in sums.iter_mut().zip(numbers) {
                *sum = sum.wrapping_add(*number);
            }
        }
        sums.iter().sum::<u64>()
    };
    // As in the search, threads pay off only for much data.
    let parts = if numbers.len() < 1 << 19 { 1 } else { cores };
    let (first, rest) = numbers.split_at(numbers.len().div_ceil(parts));
    std::thread::scope(|scope| {
        let others: Vec<_> = rest
            .chunks(
                rest.len()
                    .div_ceil(parts - 1 + usize::from(parts == 1))
                    .max(1),
            )
            .map(|part| scope.spawn(move || sum(part)))
            .collect();
        let first = sum(first);
        others
            .into_iter()
            .map(|other| other.join().expect("it only adds"))
            .fold(first, u64::wrapping_add)
    })
}

fn fill(index: &Index, faces: &Faces, size: usize, cores: NonZeroUsize) {
    let parts: Vec<usize> = (0..size).step_by(size.div_ceil(cores.get())).collect();
    std::thread::scope(|scope| {
        for &start in &parts {
            let end = size.min(start + size.div_ceil(cores.get()));
            scope.spawn(move || {
                (start..end)
                    .for_each(|at| index.upsert(&id(at), &[faces.person(at)]).expect("it fits"))
            });
        }
    });
}

fn id(at: usize) -> PersonId {
    format!("p{at}").parse().expect("it is an id")
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let begun = Instant::now();
    black_box(work());
    begun.elapsed()
}

fn shown(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}

/// Generator of invented people.
struct Faces {
    kind: Kind,
}

impl Faces {
    /// Returns the template of a person.
    fn person(&self, at: usize) -> Vec<f32> {
        self.vector(at as u64)
    }

    /// Returns another view of one of `people`.
    fn probe(&self, at: usize, people: usize) -> Vec<f32> {
        let person = self.person(at * 7919 % people);
        let other = self.vector((1 << 40) + at as u64);
        let along: f32 = person.iter().zip(&other).map(|(a, b)| a * b).sum();
        let across: Vec<f32> = other
            .iter()
            .zip(&person)
            .map(|(other, person)| other - along * person)
            .collect();
        let length = across.iter().map(|value| value * value).sum::<f32>().sqrt();
        let cosine = 0.4 + 0.4 * at as f32 / PROBES as f32;
        let sine = (1.0 - cosine * cosine).sqrt() / length;
        person
            .iter()
            .zip(&across)
            .map(|(person, across)| cosine * person + sine * across)
            .collect()
    }

    fn vector(&self, seed: u64) -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut values: Vec<f32> = (0..DIMENSION).map(|_| normal(&mut rng)).collect();
        if self.kind == Kind::Faces {
            let mut signs = fastrand::Rng::with_seed(1);
            for (axis, value) in values.iter_mut().enumerate() {
                *value *= (-(axis as f32) / 128.0).exp();
                *value = if signs.bool() { *value } else { -*value };
            }
            turn(&mut values);
        }
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        values.iter_mut().for_each(|value| *value /= length);
        values
    }
}

/// Applies a Hadamard transform: after random signs it is as good as any rotation here.
fn turn(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            for (a, b) in left.iter_mut().zip(right) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

/// Returns a nearly normal number: the sum of four uniform ones.
fn normal(rng: &mut fastrand::Rng) -> f32 {
    (0..4).map(|_| rng.f32() - 0.5).sum::<f32>() * 3.0_f32.sqrt()
}
