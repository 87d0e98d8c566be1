//! Many people at once: their files are written, synced together, renamed, and their folders
//! synced.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use rostro_common::fs::durable::sync_folder;
use rostro_common::ids::{ContractId, EnrolmentId, PersonId};

use super::contracts::{OTHER_CONTRACTS, enrolment_of, of_enrolment};
use super::{BatchOutcome, ByContract, CsvGallery, csv_file};

/// Files from which on the whole disk is synced, which is one wait and not one for each.
#[cfg(target_os = "linux")]
const ONE_BY_ONE: usize = 8;

/// A file under a name that is not its own yet, and its own.
type StagedFile = (NamedTempFile, PathBuf);

/// Writes people in place of all that is stored of them. Returns what became of each.
pub(super) fn write(
    gallery: &CsvGallery,
    people: &[ByContract<'_>],
) -> (Vec<BatchOutcome>, io::Result<()>) {
    let mut outcomes = vec![BatchOutcome::Skipped; people.len()];
    let written = write_into(gallery, people, &mut outcomes);
    (outcomes, written)
}

fn write_into(
    gallery: &CsvGallery,
    people: &[ByContract<'_>],
    outcomes: &mut [BatchOutcome],
) -> io::Result<()> {
    let mut prepared: Vec<Vec<StagedFile>> = Vec::new();
    for (person, outcome) in people.iter().zip(&mut *outcomes) {
        prepared.push(match prepare(gallery, *person)? {
            Ok(files) => files,
            Err(size) => {
                *outcome = BatchOutcome::TooLarge(size);
                Vec::new()
            }
        });
    }
    sync(
        &gallery.folder,
        prepared.iter().flatten().map(|(file, _)| file.as_file()),
    )?;
    let mut changed = BTreeSet::from([gallery.folder.clone()]);
    let mut renamed = Ok(());
    for ((person, files), outcome) in people.iter().zip(prepared).zip(outcomes) {
        if matches!(outcome, BatchOutcome::TooLarge(_)) {
            continue;
        }
        // Held for one person at a time: enrolments go on meanwhile.
        let _changing = gallery.changing();
        renamed = put_in_place(gallery, person.0, files, &mut changed);
        if renamed.is_err() {
            break;
        }
        *outcome = BatchOutcome::Stored;
    }
    // The renames have happened: a failure here is not a failure to write.
    gallery.note_synced(
        changed
            .iter()
            .try_fold(true, |durable, folder| Ok(durable & sync_folder(folder)?)),
    );
    renamed
}

/// Writes a person's files, each of one contract; or says how large the largest would be.
fn prepare(
    gallery: &CsvGallery,
    (id, contracts): ByContract<'_>,
) -> io::Result<Result<Vec<StagedFile>, usize>> {
    // Tells the files of before to be older, also if a crash keeps them from being removed.
    let is_marked = !gallery.others_of(id)?.is_empty();
    let mut files = Vec::new();
    for (index, (contract, samples)) in contracts.iter().enumerate() {
        let is_own = index == 0;
        let mut text = Vec::new();
        match is_own && is_marked && enrolment_of(samples).is_none() {
            true => csv_file::write(&of_enrolment(samples, &EnrolmentId::unique()), &mut text)?,
            false => csv_file::write(samples, &mut text)?,
        }
        if text.len() as u64 > csv_file::LARGEST {
            return Ok(Err(text.len()));
        }
        let path = if is_own {
            gallery.path_of(id)
        } else {
            gallery.path_of_other(contract, id)
        };
        let mut file = gallery.unfinished()?;
        file.write_all(&text)?;
        files.push((file, path));
    }
    Ok(Ok(files))
}

/// Gives a person's files their names, and removes those of contracts of which there are none. The
/// lock on changes is held.
fn put_in_place(
    gallery: &CsvGallery,
    id: &PersonId,
    files: Vec<StagedFile>,
    changed: &mut BTreeSet<PathBuf>,
) -> io::Result<()> {
    let mut older: Vec<(ContractId, PathBuf)> = gallery.others_of(id)?;
    older.retain(|(_, path)| !files.iter().any(|(_, written)| written == path));
    // First: an own file of the same enrolment would put them in force.
    gallery.remove_others(older.iter())?;
    changed.extend(
        older
            .iter()
            .filter_map(|(_, path)| path.parent().map(Path::to_owned)),
    );
    for (file, path) in files {
        let folder = path.parent().unwrap_or(&gallery.folder);
        if folder == gallery.folder {
            gallery.rescue_own(id)?;
        } else {
            fs::create_dir_all(folder)?;
            gallery.rescue(&path)?;
            changed.extend([folder.to_owned(), gallery.folder.join(OTHER_CONTRACTS)]);
        }
        let renamed = gallery.renamed_by(&path);
        file.persist(&path).map_err(|error| error.error)?;
        gallery.note_written(&path);
        if let Some(renamed) = renamed {
            gallery.remove_renamed(&renamed, &path);
        }
    }
    Ok(())
}

/// Waits until files are on the disk.
fn sync<'f>(folder: &Path, files: impl Iterator<Item = &'f File> + Clone) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if files.clone().count() > ONE_BY_ONE {
        match rustix::fs::syncfs(File::open(folder)?) {
            Ok(()) => return Ok(()),
            // Some file systems do not have it.
            Err(
                rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP,
            ) => {}
            Err(error) => return Err(error.into()),
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = folder;
    for file in files {
        file.sync_all()?;
    }
    Ok(())
}
