//! A pipeline with the people of a gallery, run on photos without a service.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use rostro_common::text::sanitize;
use rostro_gallery::FolderStore;
use rostro_index::Method;
use rostro_sandbox::bindings::Purpose;
use rostro_sandbox::error::RunError;
use rostro_sandbox::pipeline::revision::Revision;
use rostro_service::{Identification, RecognizedFace, ServiceError, probes};

use super::answer::{AnalysisReport, FaceReport};
use super::error::TrialError;
use super::local::{LocalArgs, LocalError, LocalRuntime};
use crate::terminal::warn_user;

use rostro_service::people::FillMode;
pub(super) use rostro_service::people::{People, PeopleError, View};

/// Timeout of one photo.
const PHOTO_TIMEOUT: Duration = Duration::from_secs(60);

/// Timeout for the templates of all people.
const PEOPLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Flags for the photos and people of a trial.
#[derive(Debug, Args)]
pub(crate) struct PhotosArgs {
    /// Folder with photos (*.jpg, *.png, *.webp, at any depth), or one photo
    #[arg(long, value_name = "DIR")]
    pub images: PathBuf,
    /// Folder with enrolled people, as `rostro serve` writes it [default: none]
    #[arg(long, value_name = "DIR")]
    pub gallery: Option<PathBuf>,
    /// Folder for the photos with the answers drawn on them
    ///
    /// Drawn are boxes, landmarks, names and scores. A comparison draws the photos that differ
    /// most, with both answers side by side.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub local: LocalArgs,
}

/// Pipeline with the people of a gallery.
#[derive(Debug)]
pub(super) struct Trial {
    pub revision: Arc<Revision>,
    view: Arc<View>,
}

impl Trial {
    /// Prepares the pipeline of a component's file, with the people of a gallery or none.
    ///
    /// # Errors
    ///
    /// [`TrialError`] names the part that cannot be used.
    pub(super) fn new(
        local: &LocalRuntime,
        file: &Path,
        gallery: Option<&Path>,
    ) -> Result<Self, TrialError> {
        let empty;
        let folder = match gallery {
            Some(folder) if folder.is_dir() => folder,
            Some(folder) => return Err(TrialError::NoGallery(folder.to_owned())),
            None => {
                empty = tempfile::tempdir().map_err(|cause| LocalError::Unreadable {
                    file: std::env::temp_dir(),
                    cause,
                })?;
                empty.path()
            }
        };
        let revision = local.revision(file)?;
        let people = People::new(
            Arc::new(FolderStore::open_unlocked(folder).map_err(PeopleError::from)?),
            Method::Exact,
            local.cores.clone(),
        );
        let (view, report) = people.view(
            &revision,
            &(Instant::now() + PEOPLE_TIMEOUT).into(),
            FillMode::AtStart(&local.cores),
        )?;
        for problem in &report.problems {
            warn_user(&sanitize(&problem.to_string()));
        }
        if report.need_enrolment > 0 {
            warn_user(&format!(
                "{} people were enrolled with another recogniser and cannot be recognised; re-enrol them with this one",
                report.need_enrolment
            ));
        }
        if report.unknown_age > 0 {
            warn_user(&format!(
                "{} files of other recognisers may be older than their person's last enrolment and are not used; re-enrol these people, \
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

    /// Runs the pipeline on a photo.
    ///
    /// # Errors
    ///
    /// If the pipeline fails on it.
    pub(super) fn analyze(&self, picture: &[u8]) -> Result<AnalysisReport, RunError> {
        let begun = Instant::now();
        let mut run = self.revision.begin(begun + PHOTO_TIMEOUT);
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
        let rulings = decisions.rulings.into_iter();
        let faces =
            probes
                .into_iter()
                .zip(rulings)
                .zip(embeddings)
                .map(|((probe, ruling), embedding)| {
                    let nearest = probe.candidates.first();
                    let similarity = nearest.map(|candidate| candidate.similarity);
                    let recognized = RecognizedFace::of(probe, ruling);
                    let bounds = &recognized.face.bounds;
                    let (identity, confidence, reason) = match recognized.identification {
                        Identification::Known { person, confidence } => {
                            (Some(person.id), Some(confidence), None)
                        }
                        Identification::Unknown(reason) => (None, None, Some(reason)),
                    };
                    FaceReport {
                        bounds: [bounds.x1, bounds.y1, bounds.x2, bounds.y2],
                        score: recognized.face.score,
                        similarity,
                        landmarks: recognized
                            .face
                            .landmarks
                            .iter()
                            .map(|point| [point.x, point.y])
                            .collect(),
                        measures: recognized
                            .face
                            .measures
                            .iter()
                            .map(|measure| (measure.name.clone(), measure.value))
                            .collect(),
                        face: recognized.face,
                        embedding,
                        identity,
                        confidence,
                        reason,
                    }
                });
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
