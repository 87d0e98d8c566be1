//! `rostro pipeline try`: what a pipeline makes of somebody's own photos.

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use rostro_common::text::sanitize;

use super::answer::AnalysisReport;
use super::draw::{self, make_folder};
use super::error::TrialError;
use super::photos;
use super::trial::{PhotosArgs, Trial};
use crate::terminal::{lossy, new_table, render, say, say_json};

/// On what to try a pipeline.
#[derive(Debug, Args)]
pub(crate) struct TryArgs {
    /// The component
    file: PathBuf,
    #[command(flatten)]
    photos: PhotosArgs,
}

/// What came of a photo.
#[derive(Debug, Serialize)]
struct PhotoResult {
    #[serde(serialize_with = "lossy")]
    image: PathBuf,
    #[serde(flatten)]
    looked: Option<AnalysisReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drawing: Option<String>,
}

/// Runs a pipeline on photos, prints a table, and draws what it saw.
///
/// # Errors
///
/// [`TrialError`], also if the pipeline failed on any photo.
pub(super) fn attempt(args: &TryArgs) -> Result<(), TrialError> {
    let photos = photos::of(&args.photos.images)?;
    let trial = Trial::new(
        &args.photos.local.prepare()?,
        &args.file,
        args.photos.gallery.as_deref(),
    )?;
    if let Some(out) = &args.photos.out {
        make_folder(out)?;
    }
    let progress = ProgressBar::new(photos.len() as u64);
    let mut outcomes = Vec::new();
    for photo in photos {
        outcomes.push(one(&trial, args, photo));
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
                    "\nthe photos with what was seen drawn on them are in {}",
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

/// One photo: what is wrong with it costs no other.
fn one(trial: &Trial, args: &TryArgs, image: PathBuf) -> PhotoResult {
    let bytes = match photos::read(&image) {
        Ok(bytes) => bytes,
        Err(error) => {
            return PhotoResult {
                image,
                looked: None,
                error: Some(error.to_string()),
                drawing: None,
            };
        }
    };
    let looked = match trial.look(&bytes) {
        Ok(looked) => looked,
        Err(error) => {
            return PhotoResult {
                image,
                looked: None,
                error: Some(error.to_string()),
                drawing: None,
            };
        }
    };
    let drawn = args
        .photos
        .out
        .as_ref()
        .map(|out| draw::drawing(out, &args.photos.images, &image, &bytes, &looked));
    let (drawing, error) = match drawn {
        None => (None, None),
        Some(Ok(place)) => (Some(place.display().to_string()), None),
        // The pipeline may decode what this command does not.
        Some(Err(error)) => (None, Some(error.to_string())),
    };
    PhotoResult {
        image,
        looked: Some(looked),
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
        "WHO (CONFIDENCE), OR WHY NOBODY (SIMILARITY OF THE NEAREST)",
    ]);
    for PhotoResult {
        image,
        looked,
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
        match looked {
            Some(looked) => table.add_row([
                name,
                format!("{}×{}", looked.width, looked.height),
                looked.faces.len().to_string(),
                format!("{:.0}", looked.milliseconds),
                [Some(people(looked)), error.as_deref().map(sanitize)]
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

/// Everybody in a photo; of many who are unknown for one reason, how many.
fn people(looked: &AnalysisReport) -> String {
    let known = looked
        .faces
        .iter()
        .filter(|face| face.identity.is_some())
        .map(|face| sanitize(&face.label()));
    let mut people: Vec<String> = known.collect();
    let mut reasons: Vec<(&str, usize, Option<f32>)> = Vec::new();
    for face in &looked.faces {
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
