//! One pipeline and people, tried on a picture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use rostro_common::text::{sanitize, warn_user};
use rostro_gallery::FolderStore;
use rostro_index::Method;
use rostro_sandbox::bindings::{Decision, Face, Purpose};
use rostro_sandbox::limits::Usage;
use rostro_sandbox::pipeline::revision::Revision;
use rostro_sandbox::pipeline::run::RunError;
use rostro_service::{ServiceError, probes};

use super::draw::DrawError;
use super::local::{LocalArgs, LocalError, LocalRuntime};
use crate::commands::pipeline::photos::ImagesError;

pub(super) use rostro_service::people::{People, PeopleError, View};

/// How long a picture may take, and everybody's templates.
const PICTURE: Duration = Duration::from_secs(60);
const PEOPLE: Duration = Duration::from_secs(300);

/// On which photos to try a pipeline, and with whom.
#[derive(Debug, Args)]
pub(crate) struct PhotosArgs {
    /// Folder with photos (*.jpg, *.png, *.webp, also in folders in it), or one photo
    #[arg(long, value_name = "DIR")]
    pub images: PathBuf,
    /// Folder with enrolled people, as `rostro serve` writes it [default: nobody is known]
    #[arg(long, value_name = "DIR")]
    pub gallery: Option<PathBuf>,
    /// Folder for the photos with boxes, landmarks, names and scores drawn on them; of a comparison
    /// those that differ most, both answers side by side
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub local: LocalArgs,
}

/// Why a pipeline was not tried, or failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrialError {
    /// The pipeline cannot run.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The people cannot be prepared.
    #[error(transparent)]
    People(#[from] PeopleError),
    /// There is no such folder.
    #[error(
        "there is no gallery at {0}; enrol people with `rostro serve --gallery` first, or leave --gallery out"
    )]
    NoGallery(PathBuf),
    /// There are no photos.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// A drawing cannot be made.
    #[error(transparent)]
    Draw(#[from] DrawError),
    /// It failed on a picture.
    #[error("{file} fails on {picture}: {cause}", file = file.display())]
    Run {
        /// Which component.
        file: PathBuf,
        /// On which picture.
        picture: String,
        /// Why.
        cause: RunError,
    },
    /// What to compare it with is not there.
    #[error("cannot read {file}, with which it is to be compared: {cause}; name another component with --against", file = file.display())]
    NothingToCompare {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// Two pipelines differ.
    #[error("the pipelines differ on {differing} of {photos} photos")]
    Differ {
        /// On how many.
        differing: usize,
        /// Of how many.
        photos: usize,
    },
    /// Some photos could not be looked at, or drawn on.
    #[error("{failed} of {photos} photos failed; the table says why")]
    Failed {
        /// How many.
        failed: usize,
        /// Of how many.
        photos: usize,
    },
}

/// A pipeline with the people whom it knows.
#[derive(Debug)]
pub(super) struct Trial {
    pub revision: Arc<Revision>,
    view: Arc<View>,
}

/// What a pipeline said of a picture.
#[derive(Debug, Serialize)]
pub(super) struct AnalysisReport {
    pub width: u32,
    pub height: u32,
    pub faces: Vec<FaceReport>,
    pub milliseconds: f64,
    #[serde(skip)]
    pub stages: Vec<(String, Duration)>,
    #[serde(skip)]
    pub used: Usage,
}

/// A face, and who it is.
#[derive(Debug, Serialize)]
pub(super) struct FaceReport {
    #[serde(skip)]
    pub face: Face,
    #[serde(skip)]
    pub embedding: Vec<f32>,
    /// Left, upper, right and lower edge in pixels.
    bounds: [f32; 4],
    pub score: f32,
    /// None for somebody unknown.
    pub identity: Option<String>,
    pub confidence: Option<f32>,
    /// Why it is nobody known.
    pub reason: Option<String>,
    /// Of the nearest person.
    pub similarity: Option<f32>,
    /// Five points in pixels, or none.
    landmarks: Vec<[f32; 2]>,
    /// What vision measured, by name.
    measures: BTreeMap<String, f32>,
}

impl FaceReport {
    /// Who it is in a few words.
    pub(super) fn label(&self) -> String {
        match (&self.identity, self.confidence) {
            (Some(id), Some(confidence)) => format!("{id} {confidence:.2}"),
            _ => format!("? {:.2}", self.score),
        }
    }
}

impl Trial {
    /// A pipeline from a component's file, with the people of a gallery or nobody.
    ///
    /// # Errors
    ///
    /// [`TrialError`] says what cannot be used.
    pub(super) fn new(
        local: &LocalRuntime,
        file: &Path,
        gallery: Option<&Path>,
    ) -> Result<Self, TrialError> {
        let nobody;
        let folder = match gallery {
            Some(folder) if folder.is_dir() => folder,
            Some(folder) => return Err(TrialError::NoGallery(folder.to_owned())),
            None => {
                nobody = tempfile::tempdir().map_err(|cause| LocalError::Unreadable {
                    file: std::env::temp_dir(),
                    cause,
                })?;
                nobody.path()
            }
        };
        let revision = local.revision(file)?;
        let people = People::new(
            Box::new(FolderStore::open_unlocked(folder).map_err(PeopleError::from)?),
            Method::Exact,
            local.cores.clone(),
        );
        let (view, report) = people.view(&revision, &(Instant::now() + PEOPLE).into())?;
        for problem in &report.problems {
            warn_user(&sanitize(&problem.to_string()));
        }
        if report.need_enrolment > 0 {
            warn_user(&format!(
                "{} people were enrolled with another recogniser and are not known here: enrol them again with it",
                report.need_enrolment
            ));
        }
        if report.unknown_age > 0 {
            warn_user(&format!(
                "{} files of other recognisers may be older than their person's last enrolment and are not used: enrol these people again, \
                 or run `rostro gallery trust-contracts`",
                report.unknown_age
            ));
        }
        if let Some(folder) = gallery
            && view.counts() == (0, 0)
        {
            warn_user(&format!(
                "no person is enrolled in {}: is it the folder that `rostro serve --gallery` writes?",
                folder.display()
            ));
        }
        Ok(Self { revision, view })
    }

    /// Looks at a picture.
    ///
    /// # Errors
    ///
    /// If the pipeline fails on it.
    pub(super) fn look(&self, picture: &[u8]) -> Result<AnalysisReport, RunError> {
        let begun = Instant::now();
        let mut run = self.revision.begin(begun + PICTURE);
        let analysis = run.analyze(picture, Purpose::Recognize)?;
        let embeddings: Vec<Vec<f32>> = analysis
            .faces
            .iter()
            .map(|analyzed| analyzed.embedding.clone())
            .collect();
        let (width, height) = (analysis.width, analysis.height);
        let probes = probes(&self.view, analysis, None).map_err(|error| match error {
            ServiceError::Run(error) => error,
            other => RunError::Model(other.to_string()),
        })?;
        let decided = Instant::now();
        let decisions = run.decide(&probes)?;
        let ended = Instant::now();
        let mut stages = run.stages().to_vec();
        stages.push(("decide".to_owned(), ended - decided));
        let faces = probes.into_iter().zip(decisions).zip(embeddings).map(
            |((probe, decision), embedding)| {
                let bounds = &probe.face.bounds;
                let (identity, confidence, reason) = match decision {
                    Decision::Known(known) => (
                        probe
                            .candidates
                            .get(known.candidate as usize)
                            .map(|candidate| candidate.id.clone()),
                        Some(known.confidence),
                        None,
                    ),
                    Decision::Unknown(reason) => (None, None, Some(reason)),
                };
                FaceReport {
                    bounds: [bounds.x1, bounds.y1, bounds.x2, bounds.y2],
                    score: probe.face.score,
                    similarity: probe
                        .candidates
                        .first()
                        .map(|candidate| candidate.similarity),
                    landmarks: probe
                        .face
                        .landmarks
                        .iter()
                        .map(|point| [point.x, point.y])
                        .collect(),
                    measures: probe
                        .face
                        .measures
                        .iter()
                        .map(|measure| (measure.name.clone(), measure.value))
                        .collect(),
                    face: probe.face,
                    embedding,
                    identity,
                    confidence,
                    reason,
                }
            },
        );
        let milliseconds = (ended - begun).as_secs_f64() * 1000.0;
        Ok(AnalysisReport {
            width,
            height,
            faces: faces.collect(),
            milliseconds,
            stages,
            used: run.usage(),
        })
    }
}
