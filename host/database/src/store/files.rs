//! The CSV files of this node, which follow the database.
//!
//! Callers read the files whose paths they are told. A file is written after the commit, and removed
//! before a deletion is answered. A marker in the folder names the database and this node.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rostro_common::fs::atomic::{AtomicFile, FileAccess};
use rostro_common::fs::read_at_most;
use rostro_common::ids::PersonId;
use rostro_common::sample::Sample;
use rostro_gallery::{ChangeNumber, CsvGallery, Durability, GalleryError, PersonSamples, Removal};
use uuid::Uuid;

use super::people::SamplesInForce;
use super::{PostgresStore, failure};
use crate::connection::DatabaseError;

/// Name of the marker in the gallery's folder.
const MARKER: &str = ".database";

/// Returns the id of this node, which is kept in the folder. A folder without a marker gets one.
///
/// # Errors
///
/// If the folder belongs to another database, or has people and belongs to none.
pub(super) fn node_id(files: &CsvGallery, gallery: Uuid) -> Result<Uuid, GalleryError> {
    let path = files.folder().join(MARKER);
    match read_marker(&path) {
        Ok(Some((owner, node))) if owner == gallery => Ok(node),
        Ok(Some(_)) => Err(failure(DatabaseError::OtherDatabase {
            folder: files.folder().to_owned(),
        })),
        Ok(None) => {
            let (people, _) = files.ids()?;
            if !people.is_empty() {
                return Err(failure(DatabaseError::FolderInUse {
                    folder: files.folder().to_owned(),
                    people: people.len(),
                }));
            }
            let node = Uuid::now_v7();
            write_marker(&path, gallery, node)
                .map_err(GalleryError::folder("write into", files.folder()))?;
            Ok(node)
        }
        Err(cause) => Err(GalleryError::folder("read", files.folder())(cause)),
    }
}

/// Reads the ids of a database's gallery and of a node; none without a marker.
fn read_marker(path: &Path) -> io::Result<Option<(Uuid, Uuid)>> {
    let bytes = match read_at_most(path, 1024) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut ids = text.lines().map(|line| line.parse::<Uuid>().ok());
    match (ids.next().flatten(), ids.next().flatten()) {
        (Some(gallery), Some(node)) => Ok(Some((gallery, node))),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is damaged; remove it", path.display()),
        )),
    }
}

fn write_marker(path: &Path, gallery: Uuid, node: Uuid) -> io::Result<()> {
    let mut file = AtomicFile::create(path, FileAccess::Umask)?;
    writeln!(file, "{gallery}\n{node}")?;
    file.commit()
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
            node.files.remove(id)?;
            removed += 1;
        }
        if removed > 0 {
            tracing::info!(
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
