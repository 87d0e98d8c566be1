//! `rostro pipeline diff`: in what two pipelines differ on somebody's own photos.

use std::path::{Path, PathBuf};

use clap::Args;
use image::{GenericImage, RgbImage};
use indicatif::ProgressBar;
use serde::Serialize;

use rostro_common::text::sanitize;
use rostro_common::vector::cosine;
use rostro_sandbox::face_matching::same_faces;

use super::answer::{AnalysisReport, FaceReport};
use super::draw::{self, make_folder};
use super::error::TrialError;
use super::photos;
use super::trial::{PhotosArgs, Trial};
use crate::terminal::{lossy, new_table, render, say, say_json, warn_user};

/// Embeddings of one face whose cosine is at least this are the same but for rounding.
const SAME_VECTOR: f32 = 0.999;

/// Confidences that are no further apart are the same but for rounding.
const SAME_CONFIDENCE: f32 = 0.001;

/// Two pipelines, and on what to compare them.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The one component
    a: PathBuf,
    /// The other component
    b: PathBuf,
    #[command(flatten)]
    photos: PhotosArgs,
    /// How many photos to draw
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    worst: usize,
    /// Fail if anything differs
    #[arg(long)]
    exit_code: bool,
}

/// In what two answers on a photo differ.
#[derive(Debug, Serialize)]
struct Difference {
    #[serde(serialize_with = "lossy")]
    image: PathBuf,
    /// Faces that both saw, that only A saw, that only B saw.
    both: usize,
    only_a: usize,
    only_b: usize,
    /// Faces that both saw, to which they gave other names: A's and B's.
    identities: Vec<(Option<String>, Option<String>)>,
    /// Faces that both gave the same name, for another reason or with another confidence.
    otherwise: usize,
    /// Of faces that both saw, how many have other vectors, and the least cosine between A's and
    /// B's.
    vectors: usize,
    least_cosine: Option<f32>,
    /// Where one failed, why.
    error_a: Option<String>,
    error_b: Option<String>,
}

impl Difference {
    /// How far apart the answers are, for the order of photos: a failure of one, then names, then
    /// faces, then vectors, then reasons and confidences.
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

    fn is_none(&self) -> bool {
        self.weight() == [0; 5]
    }

    /// Nothing is compared where both fail.
    fn both_failed(&self) -> bool {
        self.error_a.is_some() && self.error_b.is_some()
    }
}

/// Compares two pipelines on photos, prints what differs, and draws the worst.
///
/// # Errors
///
/// [`TrialError`]; with `--exit-code` also if anything differs.
pub(super) fn diff(args: &DiffArgs) -> Result<(), TrialError> {
    let photos = photos::of(&args.photos.images)?;
    let local = args.photos.local.prepare()?;
    let a = Trial::new(&local, &args.a, args.photos.gallery.as_deref())?;
    let b = Trial::new(&local, &args.b, args.photos.gallery.as_deref())?;
    let compares_vectors = a.revision.contract() == b.revision.contract();
    let progress = ProgressBar::new(photos.len() as u64);
    let mut differences = Vec::new();
    for photo in photos {
        let (ours, theirs) = match photos::read(&photo) {
            Ok(bytes) => (
                a.look(&bytes).map_err(|error| error.to_string()),
                b.look(&bytes).map_err(|error| error.to_string()),
            ),
            Err(error) => (Err(error.to_string()), Err(error.to_string())),
        };
        differences.push(compare(photo, ours, theirs, compares_vectors));
        progress.inc(1);
    }
    progress.finish_and_clear();
    differences.sort_by_key(|difference| std::cmp::Reverse(difference.weight()));
    let differing = differences
        .iter()
        .filter(|difference| !difference.is_none())
        .count();
    if let Some(out) = &args.photos.out {
        make_folder(out)?;
        for difference in differences
            .iter()
            .take(args.worst)
            .filter(|difference| !difference.is_none())
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
        .filter(|difference| difference.both_failed())
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
    let (ours, error_a) = split(a);
    let (theirs, error_b) = split(b);
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
    for (face, same) in ours.iter().zip(same_faces(&boxes(&ours), &boxes(&theirs))) {
        let Some(other) = same.and_then(|index| theirs.get(index)) else {
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
    difference.only_b = theirs.len() - difference.both;
    difference
}

/// The faces that were seen, or why there are none.
fn split(looked: Result<AnalysisReport, String>) -> (Vec<FaceReport>, Option<String>) {
    match looked {
        Ok(looked) => (looked.faces, None),
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
    let picture = match draw::upright(photo, &bytes) {
        Ok(picture) => picture,
        // The pipelines decode what this command does not; the row says what differs.
        Err(error) => {
            warn_user(&error.to_string());
            return Ok(());
        }
    };
    let drawn = |trial: &Trial| {
        let mut drawn = picture.clone();
        if let Ok(looked) = trial.look(&bytes)
            && let Err(error) = draw::faces(&mut drawn, photo, &looked)
        {
            warn_user(&sanitize(&error.to_string()));
        }
        drawn
    };
    let mut both = RgbImage::new(picture.width().saturating_mul(2), picture.height());
    for (drawn, x) in [(drawn(a), 0), (drawn(b), picture.width())] {
        // Twice the width holds both.
        let _ = both.copy_from(&drawn, x, 0);
    }
    Ok(draw::write(
        &both,
        &draw::place(out, &args.photos.images, photo),
    )?)
}

fn print(differences: &[Difference], differing: usize, args: &DiffArgs, compares_vectors: bool) {
    let mut table = new_table([
        "PHOTO",
        "BOTH",
        "ONLY A",
        "ONLY B",
        "NAMES (A → B)",
        "OTHERWISE",
        "VECTORS",
        "LEAST COSINE",
    ]);
    for difference in differences
        .iter()
        .filter(|difference| !difference.is_none() || difference.both_failed())
    {
        let image = &difference.image;
        let name = image
            .strip_prefix(&args.photos.images)
            .ok()
            .filter(|rest| !rest.as_os_str().is_empty())
            .unwrap_or(image);
        let who = |identity: &Option<String>| {
            identity
                .as_deref()
                .map_or_else(|| "unknown".to_owned(), sanitize)
        };
        let mut names: Vec<String> = difference
            .identities
            .iter()
            .map(|(a, b)| format!("{} → {}", who(a), who(b)))
            .collect();
        names.extend(
            difference
                .error_a
                .iter()
                .map(|error| format!("A fails: {}", sanitize(error))),
        );
        names.extend(
            difference
                .error_b
                .iter()
                .map(|error| format!("B fails: {}", sanitize(error))),
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
        .filter(|difference| difference.both_failed())
        .count();
    if differing + failed > 0 {
        say(&render(&table));
        say("");
    }
    let sum = |count: fn(&Difference) -> usize| differences.iter().map(count).sum::<usize>();
    say(&format!("A {}, B {}", args.a.display(), args.b.display()));
    say(&format!(
        "{differing} of {} photos differ: {} faces seen by both, {} by A alone, {} by B alone; {} with another name, {} with another reason or \
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
            "on {failed} photos both fail, so that nothing is compared"
        ));
    }
    if !compares_vectors {
        say(
            "their embeddings have different contracts: vectors are not compared, and B knows only people who were enrolled with it",
        );
    }
    if let Some(out) = args.photos.out.as_ref().filter(|_| differing > 0) {
        say(&format!(
            "the photos that differ most are in {}, A's answer to the left of B's",
            out.display()
        ));
    }
}
