//! `rostro pipeline bench`: compares the time of a pipeline with the default one, by stage, and its
//! use of resources.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;

use rostro_sandbox::limits::Usage;
use rostro_sandbox::pipeline::self_test::DRAWN;

use super::answer::AnalysisReport;
use super::error::TrialError;
use super::local::{LocalArgs, LocalError};
use super::trial::Trial;
use crate::commands::pipeline::photos::{self, PhotosError};
use crate::config::default_pipeline;
use crate::terminal::{new_table, render, say};

/// Arguments of `rostro pipeline bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The component
    file: PathBuf,
    /// Folder with photos, or one photo [default: built-in drawn faces]
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Folder with enrolled people, as `rostro serve` writes it [default: none]
    #[arg(long, value_name = "DIR")]
    gallery: Option<PathBuf>,
    /// Component to compare with [default: insightface.wasm next to this
    /// program]
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Seconds to measure
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    seconds: u64,
    #[command(flatten)]
    local: LocalArgs,
}

/// Measurements of one pipeline.
#[derive(Debug, Default)]
struct Measurements {
    totals: Vec<Duration>,
    /// Times of each stage, in the order of first occurrence.
    stages: Vec<(String, Vec<Duration>)>,
    used: Usage,
}

impl Measurements {
    fn record(&mut self, report: AnalysisReport) {
        self.totals
            .push(Duration::from_secs_f64(report.milliseconds / 1000.0));
        self.used = self.used.max(report.used);
        for (name, time) in report.stages {
            match self.stages.iter_mut().find(|(known, _)| *known == name) {
                Some((_, times)) => times.push(time),
                None => self.stages.push((name, vec![time])),
            }
        }
    }
}

/// Measures a pipeline and the default one on the same pictures, alternately.
///
/// # Errors
///
/// [`TrialError`], also if either fails on a picture.
pub(super) fn bench(args: &BenchArgs) -> Result<(), TrialError> {
    let pictures: Vec<(String, Vec<u8>)> = match &args.images {
        Some(folder) => {
            let read = |path: &PathBuf| Ok((path.display().to_string(), photos::read(path)?));
            photos::find(folder)?
                .iter()
                .map(read)
                .collect::<Result<_, PhotosError>>()?
        }
        None => DRAWN
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()))
            .collect(),
    };
    let local = args.local.prepare()?;
    let against = args.against.clone().unwrap_or_else(default_pipeline);
    let own = Trial::new(&local, &args.file, args.gallery.as_deref())?;
    let other =
        Trial::new(&local, &against, args.gallery.as_deref()).map_err(|error| match error {
            TrialError::Local(LocalError::Unreadable { file, cause }) => {
                TrialError::UnreadableBaseline { file, cause }
            }
            other => other,
        })?;
    let (mut own_times, mut other_times) = (Measurements::default(), Measurements::default());
    let spinner =
        ProgressBar::new_spinner().with_message(format!("measuring for {} s", args.seconds));
    let begun = Instant::now();
    // The first round warms caches and is not recorded.
    for (index, (name, picture)) in pictures.iter().chain(pictures.iter().cycle()).enumerate() {
        let is_warm = index >= pictures.len();
        if is_warm
            && begun.elapsed() >= Duration::from_secs(args.seconds)
            && index.is_multiple_of(pictures.len())
        {
            break;
        }
        for (trial, measured, file) in [
            (&own, &mut own_times, &args.file),
            (&other, &mut other_times, &against),
        ] {
            let report = trial.analyze(picture).map_err(|cause| TrialError::Run {
                file: file.clone(),
                picture: name.clone(),
                cause,
            })?;
            if is_warm {
                measured.record(report);
            }
        }
        spinner.tick();
    }
    spinner.finish_and_clear();
    let pictures = if pictures.len() == 1 {
        "1 picture".to_owned()
    } else {
        format!("{} pictures", pictures.len())
    };
    say(&format!(
        "{} alternating runs of each on {pictures}, with the pack {}; medians in ms",
        own_times.totals.len(),
        args.local.pack
    ));
    say(&table(args, &against, &own_times, &other_times));
    Ok(())
}

fn table(
    args: &BenchArgs,
    against: &std::path::Path,
    one: &Measurements,
    two: &Measurements,
) -> String {
    let mut table = new_table([
        "STAGE".to_owned(),
        name(&args.file),
        name(against),
        "RATIO".to_owned(),
    ]);
    let mut row = |stage: &str, one: Option<Duration>, two: Option<Duration>| {
        let shown = |time: Option<Duration>| {
            time.map_or_else(
                || "-".to_owned(),
                |time| format!("{:.2}", time.as_secs_f64() * 1000.0),
            )
        };
        let ratio = one
            .zip(two)
            .filter(|(_, two)| !two.is_zero())
            .map(|(one, two)| one.as_secs_f64() / two.as_secs_f64());
        table.add_row([
            stage.to_owned(),
            shown(one),
            shown(two),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
        ]);
    };
    let of = |measured: &Measurements, stage: &str| {
        let found = measured.stages.iter().find(|(known, _)| known == stage);
        found.and_then(|(_, times)| median(times))
    };
    let more = two
        .stages
        .iter()
        .filter(|(stage, _)| one.stages.iter().all(|(known, _)| known != stage));
    for (stage, _) in one.stages.iter().chain(more) {
        row(stage, of(one, stage), of(two, stage));
    }
    row("total", median(&one.totals), median(&two.totals));
    table.add_row([
        "used".to_owned(),
        one.used.to_string(),
        two.used.to_string(),
        String::new(),
    ]);
    render(&table)
}

fn name(file: &std::path::Path) -> String {
    file.file_name().map_or_else(
        || file.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

fn median(times: &[Duration]) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort();
    times.get(times.len() / 2).copied()
}
