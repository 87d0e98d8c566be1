//! `rostro pipeline try`: runs a pipeline on photos, and prints and draws its answers.

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use rostro_common::text::sanitize;

use super::answer::AnalysisReport;
use super::draw::{self, create_folder};
use super::error::TrialError;
use super::photos;
use super::trial::{PhotosArgs, Trial};
use crate::terminal::{lossy, new_table, render, say, say_json};

/// Arguments of `rostro pipeline try`.
#[derive(Debug, Args)]
pub(crate) struct TryArgs {
    /// The component
    file: PathBuf,
    #[command(flatten)]
    photos: PhotosArgs,
}

/// Result of one photo.
#[derive(Debug, Serialize)]
struct PhotoResult {
    #[serde(serialize_with = "lossy")]
    image: PathBuf,
    #[serde(flatten)]
    report: Option<AnalysisReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drawing: Option<String>,
}

impl PhotoResult {
    fn failed(image: PathBuf, error: String) -> Self {
        Self {
            image,
            report: None,
            error: Some(error),
            drawing: None,
        }
    }
}

/// Runs a pipeline on photos, prints a table, and draws the answers.
///
/// # Errors
///
/// [`TrialError`], also if the pipeline failed on any photo.
pub(super) fn try_photos(args: &TryArgs) -> Result<(), TrialError> {
    let photos = photos::find(&args.photos.images)?;
    let trial = Trial::new(
        &args.photos.local.prepare()?,
        &args.file,
        args.photos.gallery.as_deref(),
    )?;
    if let Some(out) = &args.photos.out {
        create_folder(out)?;
    }
    let progress = ProgressBar::new(photos.len() as u64);
    let mut outcomes = Vec::new();
    for photo in photos {
        outcomes.push(try_photo(&trial, args, photo));
        progress.inc(1);
    }
    progress.finish_and_clear();
    let (failed, photos) = (
        outcomes
            .iter()
            .filter(|outcome| outcome.error.is_some())
            .count(),
        outcomes.len(),
    );
    match args.photos.json {
        true => say_json(&outcomes),
        false => {
            say(&table(&outcomes, &args.photos.images));
            if let Some(out) = &args.photos.out {
                say(&format!(
                    "\nthe photos with the answers drawn on them are in {}",
                    out.display()
                ));
            }
        }
    }
    if failed > 0 {
        Err(TrialError::Failed { failed, photos })
    } else {
        Ok(())
    }
}

/// Runs a pipeline on one photo. A failure does not end the command, because other photos follow.
fn try_photo(trial: &Trial, args: &TryArgs, image: PathBuf) -> PhotoResult {
    let bytes = match photos::read(&image) {
        Ok(bytes) => bytes,
        Err(error) => return PhotoResult::failed(image, error.to_string()),
    };
    let report = match trial.analyze(&bytes) {
        Ok(report) => report,
        Err(error) => return PhotoResult::failed(image, error.to_string()),
    };
    let drawn = args
        .photos
        .out
        .as_ref()
        .map(|out| draw::write_drawing(out, &args.photos.images, &image, &bytes, &report));
    let (drawing, error) = match drawn {
        None => (None, None),
        Some(Ok(path)) => (Some(path.display().to_string()), None),
        // The pipeline may decode formats that this command does not.
        Some(Err(error)) => (None, Some(error.to_string())),
    };
    PhotoResult {
        image,
        report: Some(report),
        error,
        drawing,
    }
}

fn table(outcomes: &[PhotoResult], images: &Path) -> String {
    let mut table = new_table([
        "PHOTO",
        "SIZE",
        "FACES",
        "MS",
        "IDENTITY (CONFIDENCE), OR REASON (BEST SIMILARITY)",
    ]);
    for PhotoResult {
        image,
        report,
        error,
        ..
    } in outcomes
    {
        let name = image
            .strip_prefix(images)
            .ok()
            .filter(|rest| !rest.as_os_str().is_empty())
            .unwrap_or(image);
        let name = sanitize(&name.display().to_string());
        match report {
            Some(report) => table.add_row([
                name,
                format!("{}×{}", report.width, report.height),
                report.faces.len().to_string(),
                format!("{:.0}", report.milliseconds),
                [Some(people(report)), error.as_deref().map(sanitize)]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join("; "),
            ]),
            None => table.add_row([
                name,
                "-".to_owned(),
                "-".to_owned(),
                "-".to_owned(),
                sanitize(error.as_deref().unwrap_or_default()),
            ]),
        };
    }
    render(&table)
}

/// Lists the known people of a photo, and counts the unknown faces by reason.
fn people(report: &AnalysisReport) -> String {
    let known = report
        .faces
        .iter()
        .filter(|face| face.identity.is_some())
        .map(|face| sanitize(&face.label()));
    let mut people: Vec<String> = known.collect();
    let mut reasons: Vec<(&str, usize, Option<f32>)> = Vec::new();
    for face in &report.faces {
        let Some(reason) = face.reason.as_deref() else {
            continue;
        };
        match reasons.iter_mut().find(|(known, ..)| *known == reason) {
            Some((_, count, nearest)) => {
                *count += 1;
                *nearest = [*nearest, face.similarity]
                    .into_iter()
                    .flatten()
                    .reduce(f32::max);
            }
            None => reasons.push((reason, 1, face.similarity)),
        }
    }
    people.extend(reasons.into_iter().map(|(reason, count, nearest)| {
        let nearest = nearest
            .map(|similarity| format!(" ({similarity:.2})"))
            .unwrap_or_default();
        format!("{count} {reason}{nearest}")
    }));
    people.join(", ")
}
