//! Listings of folders, which show the files that appear.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::fingerprint::Fingerprint;

/// Coarsest resolution of a folder's times. A change within it after a listing may not show.
const TIMESTAMP_RESOLUTION: Duration = Duration::from_secs(2);

/// Fingerprint of a folder, taken before it is listed.
#[derive(Clone, Debug)]
pub(crate) struct FolderStamp {
    folder: Fingerprint,
    listed: SystemTime,
}

impl FolderStamp {
    /// Takes the stamp of a folder. Call it before listing the folder.
    pub(crate) fn of(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            folder: Fingerprint::of(&folder.metadata()?),
            listed: SystemTime::now(),
        })
    }

    /// Returns true if the folder has had no new or removed names since the stamp was taken.
    pub(crate) fn is_current(&self, folder: &Path) -> io::Result<bool> {
        let folder = Fingerprint::of(&folder.metadata()?);
        Ok(folder == self.folder
            && folder
                .modified
                .is_some_and(|time| time + TIMESTAMP_RESOLUTION < self.listed))
    }
}

/// Names in a folder, with the stamp that shows whether they may have changed.
#[derive(Debug)]
pub(crate) struct FolderListing {
    stamp: FolderStamp,
    names: HashSet<OsString>,
}

impl FolderListing {
    /// Lists the names in a folder that `is_relevant` accepts.
    pub(crate) fn of(folder: &Path, is_relevant: impl Fn(&OsStr) -> bool) -> io::Result<Self> {
        let stamp = FolderStamp::of(folder)?;
        let mut names = HashSet::new();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            if is_relevant(&name) {
                names.insert(name);
            }
        }
        Ok(Self { stamp, names })
    }

    /// Returns true if the folder has not changed since it was listed.
    pub(crate) fn is_current(&self, folder: &Path) -> io::Result<bool> {
        self.stamp.is_current(folder)
    }

    /// Returns the names in order.
    pub(crate) fn names(&self) -> Vec<OsString> {
        let mut names: Vec<OsString> = self.names.iter().cloned().collect();
        names.sort();
        names
    }

    /// Returns the names that an earlier listing lacks.
    pub(crate) fn since(&self, earlier: &Self) -> Vec<OsString> {
        self.names()
            .into_iter()
            .filter(|name| !earlier.names.contains(name))
            .collect()
    }

    pub(crate) fn insert(&mut self, name: &OsStr) {
        self.names.insert(name.to_owned());
    }

    pub(crate) fn remove(&mut self, name: &OsStr) {
        self.names.remove(name);
    }
}
