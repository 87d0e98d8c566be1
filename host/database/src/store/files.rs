//! The CSV files of this node, which follow the database.
//!
//! Callers are told the paths of these files and read them. A file is written after the commit, and
//! removed before a deletion is answered. A marker in the folder names the database.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rostro_common::fs::atomic::{AtomicFile, FileAccess};
use rostro_common::fs::read_at_most;
use rostro_common::ids::PersonId;
use rostro_common::sample::Sample;
use rostro_gallery::{
    ChangeNumber, CsvGallery, DATABASE_MARKER, Durability, GalleryError, PersonSamples, Removal,
};
use uuid::Uuid;

use super::people::SamplesInForce;
use super::{PostgresStore, failure};
use crate::connection::DatabaseError;

/// What the marker says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marker {
    gallery: Uuid,
    /// Number of the latest change when a service used the folder last.
    pub number: u64,
}

/// Returns the marker of a folder; none in an empty folder.
///
/// # Errors
///
/// If the folder belongs to another database, or has people and belongs to none.
pub(super) fn check_owner(
    files: &CsvGallery,
    gallery: Uuid,
) -> Result<Option<Marker>, GalleryError> {
    let folder = files.folder();
    let marker =
        read_marker(&folder.join(DATABASE_MARKER)).map_err(GalleryError::folder("read", folder))?;
    if let Some(marker) = marker {
        return match marker.gallery == gallery {
            true => Ok(Some(marker)),
            false => Err(failure(DatabaseError::OtherDatabase {
                folder: folder.to_owned(),
            })),
        };
    }
    let (people, _) = files.ids()?;
    match people.len() {
        0 => Ok(None),
        people => Err(failure(DatabaseError::FolderInUse {
            folder: folder.to_owned(),
            people,
        })),
    }
}

/// Marks a folder as that of a database, used by a service at a change.
///
/// # Errors
///
/// If the folder cannot be written.
pub(super) fn mark(files: &CsvGallery, gallery: Uuid, number: u64) -> Result<(), GalleryError> {
    let write = || -> io::Result<()> {
        let path = files.folder().join(DATABASE_MARKER);
        let mut file = AtomicFile::create(&path, FileAccess::Umask)?;
        writeln!(file, "{gallery}\n{number}")?;
        file.commit()
    };
    write().map_err(GalleryError::folder("write into", files.folder()))
}

/// Reads a marker. Returns none for a folder without one.
fn read_marker(path: &Path) -> io::Result<Option<Marker>> {
    let bytes = match read_at_most(path, 1024) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let parsed = match lines.as_slice() {
        [gallery, number] => gallery.parse().ok().zip(number.parse().ok()),
        _ => None,
    };
    let damaged = || {
        let text = format!("{} is damaged; name an empty folder", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    let (gallery, number) = parsed.ok_or_else(damaged)?;
    Ok(Some(Marker { gallery, number }))
}

impl PostgresStore {
    /// Returns the path of a person's file; empty without one.
    pub(super) fn path_of(&self, id: &PersonId) -> PathBuf {
        self.node
            .as_ref()
            .map(|node| node.files.path_of(id))
            .unwrap_or_default()
    }

    /// Writes a person's file, and returns its path. A failure is only logged, because the person is
    /// stored.
    pub(super) fn write_file(&self, id: &PersonId, samples: &[Sample]) -> PathBuf {
        if let Some(node) = &self.node
            && let Err(error) = node.files.replace(id, samples)
        {
            warn(1, &error);
        }
        self.path_of(id)
    }

    /// Writes the files of many people with few waits for the disk.
    pub(super) fn write_files(&self, people: &[SamplesInForce<'_>]) {
        let Some(node) = &self.node else { return };
        let people: Vec<PersonSamples<'_>> = people
            .iter()
            .map(|(id, samples)| (*id, samples.as_slice()))
            .collect();
        if let Some(error) = node.files.replace_all(&people, || ChangeNumber(0)).failure {
            warn(people.len(), &error);
        }
    }

    /// Removes a person's file.
    pub(super) fn remove_file(&self, id: &PersonId) -> Result<Removal, GalleryError> {
        match &self.node {
            Some(node) => node.files.remove(id),
            None => Ok(Removal {
                was_there: false,
                left_alone: Vec::new(),
                durability: Durability::Synced,
            }),
        }
    }

    /// Brings a person's file up to date with what another node stored: the file of a person who is
    /// gone is removed, and a file that this node wrote before is replaced.
    pub(super) fn follow_file(
        &self,
        id: &PersonId,
        samples: Option<&[Sample]>,
    ) -> Result<(), GalleryError> {
        let Some(node) = &self.node else {
            return Ok(());
        };
        match samples {
            None => self.remove_file(id)?.durability.into_result().map(drop),
            Some(samples) if node.files.path_of(id).exists() => {
                self.write_file(id, samples);
                Ok(())
            }
            Some(_) => Ok(()),
        }
    }

    /// Removes the files of people who are not stored, because they were deleted while this node
    /// was not running.
    pub(super) fn remove_files_of_others<'p>(
        &self,
        stored: impl Iterator<Item = &'p PersonId>,
    ) -> Result<(), GalleryError> {
        let Some(node) = &self.node else {
            return Ok(());
        };
        let stored: HashSet<&PersonId> = stored.collect();
        let (files, _) = node.files.ids()?;
        let mut removed = 0;
        for id in files.iter().filter(|id| !stored.contains(id)) {
            match node.files.remove(id) {
                Ok(_) => removed += 1,
                Err(error) => tracing::error!(
                    "the file of a person who is not in the database cannot be removed: {error}"
                ),
            }
        }
        if removed > 0 {
            tracing::warn!(
                removed,
                "removed files of people who are not in the database"
            );
        }
        Ok(())
    }
}

fn warn(people: usize, error: &GalleryError) {
    tracing::warn!(
        people,
        "people are stored in the database, but not in this node's files: {error}"
    );
}
