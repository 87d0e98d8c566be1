//! Copies all people, groups and deletions from one store to another.

use rostro_common::cores::Cores;
use rostro_common::ids::PersonId;
use rostro_gallery::groups::GroupsError;
use rostro_gallery::{BatchOutcome, GalleryError, Problem, Store};

/// People that are written together.
const BATCH: usize = 500;

/// Result of a copy.
#[derive(Debug, Default)]
pub struct CopyReport {
    /// Number of people that were written.
    pub people: usize,
    /// Number of samples of these people.
    pub samples: usize,
    /// Number of groups.
    pub groups: usize,
    /// Number of deletions.
    pub tombstones: usize,
    /// People with samples that make a file too large to be read again.
    pub too_large: Vec<PersonId>,
    /// People without samples in force, who are not copied.
    pub without_samples: Vec<PersonId>,
    /// Unusable files of the source.
    pub problems: Vec<Problem>,
}

/// Why a copy ended early. People and groups that were written stay, and a second run goes on.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The people cannot be read or written.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// The groups cannot be written.
    #[error(transparent)]
    Groups(#[from] GroupsError),
    /// The deletions cannot be written.
    #[error("cannot copy the deletions: {0}")]
    Tombstones(std::io::Error),
    /// The target has people.
    #[error(
        "the target has {0} people; copy into an empty one, or allow their replacement with --replace"
    )]
    NotEmpty(usize),
}

/// Checks that people may be copied to a store.
///
/// # Errors
///
/// [`CopyError::NotEmpty`], without `replace`.
pub fn check_target(to: &dyn Store, replace: bool) -> Result<(), CopyError> {
    let (stored, _) = to.ids()?;
    match stored.len() {
        people if people > 0 && !replace => Err(CopyError::NotEmpty(people)),
        _ => Ok(()),
    }
}

/// Copies everything of `from`. People of the target stay, unless the source has them, too; without
/// `replace` the target must have none. `progress` gets the numbers of people written and in all.
///
/// # Errors
///
/// [`CopyError`].
pub fn copy(
    from: &dyn Store,
    to: &dyn Store,
    replace: bool,
    cores: &Cores,
    mut progress: impl FnMut(usize, usize),
) -> Result<CopyReport, CopyError> {
    check_target(to, replace)?;
    let contents = from.load(cores)?;
    let mut report = CopyReport {
        problems: contents.problems,
        ..CopyReport::default()
    };
    // Deletions first, so that a copy that ends early does not lack them.
    let tombstones = from.tombstones().map_err(CopyError::Tombstones)?;
    report.tombstones = tombstones
        .galleries()
        .map(|(gallery, _)| tombstones.in_gallery(gallery).count())
        .sum();
    to.merge_tombstones(&tombstones)
        .map_err(CopyError::Tombstones)?;
    let all = contents.people.len();
    let mut done = 0;
    for batch in contents.people.chunks(BATCH) {
        let (people, empty): (Vec<_>, Vec<_>) =
            batch.iter().partition(|person| !person.samples.is_empty());
        report
            .without_samples
            .extend(empty.iter().map(|person| person.id.clone()));
        let writes: Vec<_> = people
            .iter()
            .map(|person| (&person.id, person.samples.as_slice()))
            .collect();
        let written = to.replace_all(&writes);
        if let Some(failure) = written.failure {
            return Err(failure.into());
        }
        for (person, outcome) in people.iter().zip(written.outcomes) {
            match outcome {
                BatchOutcome::Stored(_) => {
                    report.people += 1;
                    report.samples += person.samples.len();
                }
                // A command refuses no id.
                BatchOutcome::TooLarge(_) | BatchOutcome::IdTaken | BatchOutcome::Skipped => {
                    report.too_large.push(person.id.clone());
                }
            }
        }
        done += batch.len();
        progress(done, all);
    }
    for (group, _) in from.groups().list() {
        let members = from.groups().members(&group).unwrap_or_default();
        let members: Vec<PersonId> = members.iter().cloned().collect();
        to.add_to_group(&group, &members)?;
        report.groups += 1;
    }
    Ok(report)
}
