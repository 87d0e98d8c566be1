//! `rostro pipeline try`: what a pipeline makes of somebody's own photos.

use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::{Table, presets};
use indicatif::ProgressBar;
use serde::Serialize;

use super::draw::{self, DrawError};
use super::images::{self, ImagesError};
use super::local::{LocalArgs, LocalError};
use super::trial::{Looked, Trial, TrialError};
use crate::printed::{printed, say};
use crate::run::RunError;

/// On what to try a pipeline.
#[derive(Debug, Args)]
pub(crate) struct TryArgs {
    /// The component
    pub file: PathBuf,
    /// Folder with photos (*.jpg, *.png, *.webp, also in folders in it), or one photo
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Folder with enrolled people, as `rostro serve` writes it [default: nobody is known]
    #[arg(long, value_name = "DIR")]
    gallery: Option<PathBuf>,
    /// Folder for the photos with boxes, landmarks, names and scores drawn on them
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    local: LocalArgs,
}

/// Why a pipeline was not tried, or failed on a photo.
#[derive(Debug, thiserror::Error)]
pub enum TryError {
    /// It cannot run.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// There are no photos.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// A drawing cannot be made.
    #[error(transparent)]
    Draw(#[from] DrawError),
    /// The folder for drawings cannot be made.
    #[error("cannot make the folder {folder}: {cause}; name another with --out", folder = folder.display())]
    Out {
        /// Which.
        folder: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// It failed on a picture.
    #[error("{file}: {cause}", file = file.display())]
    Run {
        /// Which component.
        file: PathBuf,
        /// Why.
        cause: RunError,
    },
    /// Two pipelines differ.
    #[error("the pipelines differ on {differing} of {photos} photos")]
    Differ {
        /// On how many.
        differing: usize,
        /// Of how many.
        photos: usize,
    },
    /// It failed on some photos.
    #[error("the pipeline failed on {failed} of {photos} photos")]
    Failed {
        /// How many.
        failed: usize,
        /// Of how many.
        photos: usize,
    },
}

impl From<LocalError> for TryError {
    fn from(error: LocalError) -> Self {
        Self::Trial(error.into())
    }
}

/// What came of a photo.
#[derive(Debug, Serialize)]
struct Outcome {
    image: PathBuf,
    #[serde(flatten)]
    looked: Option<Looked>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drawing: Option<PathBuf>,
}

/// Runs a pipeline on photos, prints a table, and draws what it saw.
///
/// # Errors
///
/// [`TryError`], also if the pipeline failed on any photo.
pub(super) fn attempt(args: &TryArgs) -> Result<(), TryError> {
    let photos = images::of(&args.images)?;
    let trial = Trial::new(&args.local.prepare()?, &args.file, args.gallery.as_deref())?;
    if let Some(out) = &args.out {
        make(out)?;
    }
    let progress = ProgressBar::new(photos.len() as u64);
    let mut outcomes = Vec::new();
    for photo in photos {
        outcomes.push(one(&trial, args, photo)?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    let (failed, photos) = (outcomes.iter().filter(|outcome| outcome.error.is_some()).count(), outcomes.len());
    match args.json {
        true => say(&serde_json::to_string_pretty(&outcomes).unwrap_or_default()),
        false => {
            say(table(&outcomes, &args.images).trim_end());
            if let Some(out) = &args.out {
                say(&format!("\nthe photos with what was seen drawn on them are in {}", out.display()));
            }
        }
    }
    if failed > 0 { Err(TryError::Failed { failed, photos }) } else { Ok(()) }
}

/// Makes a folder for drawings.
pub(super) fn make(out: &Path) -> Result<(), TryError> {
    std::fs::create_dir_all(out).map_err(|cause| TryError::Out { folder: out.to_owned(), cause })
}

fn one(trial: &Trial, args: &TryArgs, photo: PathBuf) -> Result<Outcome, TryError> {
    let bytes = images::read(&photo)?;
    let looked = match trial.look(&bytes) {
        Ok(looked) => looked,
        Err(error) => return Ok(Outcome { image: photo, looked: None, error: Some(error.to_string()), drawing: None }),
    };
    let drawing = match &args.out {
        None => None,
        Some(out) => {
            let mut picture = draw::upright(&photo, &bytes)?;
            draw::faces(&mut picture, &looked);
            let place = draw::place(out, &args.images, &photo);
            draw::write(&picture, &place)?;
            Some(place)
        }
    };
    Ok(Outcome { image: photo, looked: Some(looked), error: None, drawing })
}

fn table(outcomes: &[Outcome], images: &Path) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["PHOTO", "SIZE", "FACES", "MS", "WHO (CONFIDENCE), OR WHY NOBODY (SIMILARITY OF THE NEAREST)"]);
    for Outcome { image, looked, error, .. } in outcomes {
        let name = image.strip_prefix(images).ok().filter(|rest| !rest.as_os_str().is_empty()).unwrap_or(image);
        let name = printed(&name.display().to_string());
        match looked {
            Some(looked) => table.add_row([
                name,
                format!("{}×{}", looked.width, looked.height),
                looked.faces.len().to_string(),
                format!("{:.0}", looked.milliseconds),
                people(looked),
            ]),
            None => table.add_row([name, "-".to_owned(), "-".to_owned(), "-".to_owned(), printed(error.as_deref().unwrap_or_default())]),
        };
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Everybody in a photo; of many who are unknown for one reason, how many.
fn people(looked: &Looked) -> String {
    let known = looked.faces.iter().filter(|face| face.identity.is_some()).map(|face| printed(&face.label()));
    let mut people: Vec<String> = known.collect();
    let mut reasons: Vec<(&str, usize, Option<f32>)> = Vec::new();
    for face in &looked.faces {
        let Some(reason) = face.reason.as_deref() else { continue };
        match reasons.iter_mut().find(|(known, ..)| *known == reason) {
            Some((_, count, nearest)) => {
                *count += 1;
                *nearest = [*nearest, face.similarity].into_iter().flatten().reduce(f32::max);
            }
            None => reasons.push((reason, 1, face.similarity)),
        }
    }
    people.extend(reasons.into_iter().map(|(reason, count, nearest)| {
        let nearest = nearest.map(|similarity| format!(" ({similarity:.2})")).unwrap_or_default();
        format!("{count} {reason}{nearest}")
    }));
    people.join(", ")
}
