//! `rostro pipeline diff`: compares two pipelines on photos.

use std::path::{Path, PathBuf};

use clap::Args;
use image::{GenericImage, RgbImage};
use indicatif::ProgressBar;
use serde::Serialize;

use rostro_common::text::sanitize;
use rostro_common::vector::cosine;
use rostro_sandbox::face_matching::same_faces;

use super::answer::{AnalysisReport, FaceReport};
use super::draw::{self, create_folder};
use super::error::TrialError;
use super::photos;
use super::trial::{PhotosArgs, Trial};
use crate::terminal::{lossy, new_table, render, say, say_json, warn_user};

/// Least cosine at which two embeddings of one face differ only by rounding.
const SAME_VECTOR: f32 = 0.999;

/// Largest difference of confidences that is only rounding.
const SAME_CONFIDENCE: f32 = 0.001;

/// Arguments of `rostro pipeline diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// First component
    a: PathBuf,
    /// Second component
    b: PathBuf,
    #[command(flatten)]
    photos: PhotosArgs,
    /// Number of photos to draw
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    worst: usize,
    /// Fail if anything differs
    #[arg(long)]
    exit_code: bool,
}

/// Difference between two answers to one photo. The fields are those of `--json`.
#[derive(Debug, Serialize)]
struct Difference {
    #[serde(serialize_with = "lossy")]
    image: PathBuf,
    /// Faces found by both.
    both: usize,
    /// Faces found only by A.
    only_a: usize,
    /// Faces found only by B.
    only_b: usize,
    /// Identities of common faces that differ: A's and B's.
    identities: Vec<(Option<String>, Option<String>)>,
    /// Common faces with equal identities, but another reason or confidence.
    otherwise: usize,
    /// Common faces with another vector.
    vectors: usize,
    /// Least cosine between the vectors of a common face.
    least_cosine: Option<f32>,
    /// Failure of A.
    error_a: Option<String>,
    /// Failure of B.
    error_b: Option<String>,
}

impl Difference {
    /// Returns the sort key of photos: failures of one pipeline, then identities, faces, vectors,
    /// and reasons or confidences.
    fn weight(&self) -> [usize; 5] {
        let failures = usize::from(self.error_a.is_some() != self.error_b.is_some());
        [
            failures,
            self.identities.len(),
            self.only_a + self.only_b,
            self.vectors,
            self.otherwise,
        ]
    }

    fn is_empty(&self) -> bool {
        self.weight() == [0; 5]
    }

    /// Returns true if both pipelines failed, so that nothing was compared.
    fn has_two_failures(&self) -> bool {
        self.error_a.is_some() && self.error_b.is_some()
    }
}

/// Compares two pipelines on photos, prints what differs, and draws the worst.
///
/// # Errors
///
/// [`TrialError`]; with `--exit-code` also if anything differs.
pub(super) fn diff(args: &DiffArgs) -> Result<(), TrialError> {
    let photos = photos::find(&args.photos.images)?;
    let local = args.photos.local.prepare()?;
    let a = Trial::new(&local, &args.a, args.photos.gallery.as_deref())?;
    let b = Trial::new(&local, &args.b, args.photos.gallery.as_deref())?;
    let compares_vectors = a.revision.contract() == b.revision.contract();
    let progress = ProgressBar::new(photos.len() as u64);
    let mut differences = Vec::new();
    for photo in photos {
        let (answer_a, answer_b) = match photos::read(&photo) {
            Ok(bytes) => (
                a.analyze(&bytes).map_err(|error| error.to_string()),
                b.analyze(&bytes).map_err(|error| error.to_string()),
            ),
            Err(error) => (Err(error.to_string()), Err(error.to_string())),
        };
        differences.push(compare(photo, answer_a, answer_b, compares_vectors));
        progress.inc(1);
    }
    progress.finish_and_clear();
    differences.sort_by_key(|difference| std::cmp::Reverse(difference.weight()));
    let differing = differences
        .iter()
        .filter(|difference| !difference.is_empty())
        .count();
    if let Some(out) = &args.photos.out {
        create_folder(out)?;
        for difference in differences
            .iter()
            .take(args.worst)
            .filter(|difference| !difference.is_empty())
        {
            side_by_side(&a, &b, args, out, &difference.image)?;
        }
    }
    match args.photos.json {
        true => say_json(&differences),
        false => print(&differences, differing, args, compares_vectors),
    }
    let failed = differences
        .iter()
        .filter(|difference| difference.has_two_failures())
        .count();
    match (args.exit_code && differing > 0, failed > 0) {
        (true, _) => Err(TrialError::Differ {
            differing,
            photos: differences.len(),
        }),
        (_, true) => Err(TrialError::Failed {
            failed,
            photos: differences.len(),
        }),
        _ => Ok(()),
    }
}

fn compare(
    image: PathBuf,
    a: Result<AnalysisReport, String>,
    b: Result<AnalysisReport, String>,
    vectors: bool,
) -> Difference {
    let (faces_a, error_a) = split(a);
    let (faces_b, error_b) = split(b);
    let mut difference = Difference {
        image,
        both: 0,
        only_a: 0,
        only_b: 0,
        identities: Vec::new(),
        otherwise: 0,
        vectors: 0,
        least_cosine: None,
        error_a,
        error_b,
    };
    let boxes = |faces: &[FaceReport]| {
        faces
            .iter()
            .map(|face| face.face.bounds)
            .collect::<Vec<_>>()
    };
    for (face, same) in faces_a
        .iter()
        .zip(same_faces(&boxes(&faces_a), &boxes(&faces_b)))
    {
        let Some(other) = same.and_then(|index| faces_b.get(index)) else {
            difference.only_a += 1;
            continue;
        };
        difference.both += 1;
        if face.identity != other.identity {
            difference
                .identities
                .push((face.identity.clone(), other.identity.clone()));
        } else if face.reason != other.reason
            || (face.confidence.unwrap_or(0.0) - other.confidence.unwrap_or(0.0)).abs()
                > SAME_CONFIDENCE
        {
            difference.otherwise += 1;
        }
        if vectors && face.embedding.len() == other.embedding.len() {
            let cosine = cosine(&face.embedding, &other.embedding);
            difference.vectors += usize::from(cosine < SAME_VECTOR);
            difference.least_cosine = Some(
                difference
                    .least_cosine
                    .map_or(cosine, |least| least.min(cosine)),
            );
        }
    }
    difference.only_b = faces_b.len() - difference.both;
    difference
}

/// Splits an answer into its faces and its error.
fn split(answer: Result<AnalysisReport, String>) -> (Vec<FaceReport>, Option<String>) {
    match answer {
        Ok(report) => (report.faces, None),
        Err(error) => (Vec::new(), Some(error)),
    }
}

/// Draws both answers on a photo, A's to the left of B's.
fn side_by_side(
    a: &Trial,
    b: &Trial,
    args: &DiffArgs,
    out: &Path,
    photo: &Path,
) -> Result<(), TrialError> {
    let bytes = photos::read(photo)?;
    let picture = match draw::decode_upright(photo, &bytes) {
        Ok(picture) => picture,
        // The pipelines may decode formats that this command does not. The table has the
        // difference.
        Err(error) => {
            warn_user(&error.to_string());
            return Ok(());
        }
    };
    let drawn = |trial: &Trial| {
        let mut drawn = picture.clone();
        if let Ok(report) = trial.analyze(&bytes)
            && let Err(error) = draw::draw_faces(&mut drawn, photo, &report)
        {
            warn_user(&sanitize(&error.to_string()));
        }
        drawn
    };
    let mut both = RgbImage::new(picture.width().saturating_mul(2), picture.height());
    for (drawn, x) in [(drawn(a), 0), (drawn(b), picture.width())] {
        // Cannot fail, because twice the width holds both.
        let _ = both.copy_from(&drawn, x, 0);
    }
    Ok(draw::write(
        &both,
        &draw::drawing_path(out, &args.photos.images, photo),
    )?)
}

fn print(differences: &[Difference], differing: usize, args: &DiffArgs, compares_vectors: bool) {
    let mut table = new_table([
        "PHOTO",
        "BOTH",
        "ONLY A",
        "ONLY B",
        "NAMES (A → B)",
        "OTHER",
        "VECTORS",
        "LEAST COSINE",
    ]);
    for difference in differences
        .iter()
        .filter(|difference| !difference.is_empty() || difference.has_two_failures())
    {
        let image = &difference.image;
        let name = image
            .strip_prefix(&args.photos.images)
            .ok()
            .filter(|rest| !rest.as_os_str().is_empty())
            .unwrap_or(image);
        let name_of = |identity: &Option<String>| {
            identity
                .as_deref()
                .map_or_else(|| "unknown".to_owned(), sanitize)
        };
        let mut names: Vec<String> = difference
            .identities
            .iter()
            .map(|(a, b)| format!("{} → {}", name_of(a), name_of(b)))
            .collect();
        names.extend(
            difference
                .error_a
                .iter()
                .map(|error| format!("A failed: {}", sanitize(error))),
        );
        names.extend(
            difference
                .error_b
                .iter()
                .map(|error| format!("B failed: {}", sanitize(error))),
        );
        table.add_row([
            sanitize(&name.display().to_string()),
            difference.both.to_string(),
            difference.only_a.to_string(),
            difference.only_b.to_string(),
            names.join(", "),
            difference.otherwise.to_string(),
            difference.vectors.to_string(),
            difference
                .least_cosine
                .map_or_else(|| "-".to_owned(), |cosine| format!("{cosine:.4}")),
        ]);
    }
    let failed = differences
        .iter()
        .filter(|difference| difference.has_two_failures())
        .count();
    if differing + failed > 0 {
        say(&render(&table));
        say("");
    }
    let sum = |count: fn(&Difference) -> usize| differences.iter().map(count).sum::<usize>();
    say(&format!("A {}, B {}", args.a.display(), args.b.display()));
    say(&format!(
        "{differing} of {} photos differ: {} faces found by both, {} by A only, {} by B only; {} with another name, {} with another reason or \
         confidence, {} with another vector",
        differences.len(),
        sum(|difference| difference.both),
        sum(|difference| difference.only_a),
        sum(|difference| difference.only_b),
        sum(|difference| difference.identities.len()),
        sum(|difference| difference.otherwise),
        sum(|difference| difference.vectors),
    ));
    if failed > 0 {
        say(&format!(
            "on {failed} photos both failed, so nothing was compared"
        ));
    }
    if !compares_vectors {
        say(
            "the embedding contracts differ: vectors are not compared, and B knows only people who were enrolled with it",
        );
    }
    if let Some(out) = args.photos.out.as_ref().filter(|_| differing > 0) {
        say(&format!(
            "the photos that differ most are in {}, A's answer to the left of B's",
            out.display()
        ));
    }
}
