//! Listings of folders, which show the files that appear.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::fingerprint::Fingerprint;

/// Times of folders are this coarse at most: what changed within it after a listing need not show.
const TIMESTAMP_RESOLUTION: Duration = Duration::from_secs(2);

/// A folder as it was before it was listed.
#[derive(Clone, Debug)]
pub(crate) struct FolderStamp {
    folder: Fingerprint,
    listed: SystemTime,
}

impl FolderStamp {
    /// Taken before a folder is listed.
    pub(crate) fn of(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            folder: Fingerprint::of(&folder.metadata()?),
            listed: SystemTime::now(),
        })
    }

    /// Returns true if the folder has the names that it had when it was listed.
    pub(crate) fn is_current(&self, folder: &Path) -> io::Result<bool> {
        let folder = Fingerprint::of(&folder.metadata()?);
        Ok(folder == self.folder
            && folder
                .modified
                .is_some_and(|time| time + TIMESTAMP_RESOLUTION < self.listed))
    }
}

/// The names in a folder, and whether there may be others by now.
#[derive(Debug)]
pub(crate) struct FolderListing {
    stamp: FolderStamp,
    names: HashSet<OsString>,
}

impl FolderListing {
    /// Lists a folder.
    pub(crate) fn of(folder: &Path, is_wanted: impl Fn(&OsStr) -> bool) -> io::Result<Self> {
        let stamp = FolderStamp::of(folder)?;
        let mut names = HashSet::new();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            if is_wanted(&name) {
                names.insert(name);
            }
        }
        Ok(Self { stamp, names })
    }

    /// Returns true if the folder is as it was when it was listed.
    pub(crate) fn is_current(&self, folder: &Path) -> io::Result<bool> {
        self.stamp.is_current(folder)
    }

    /// The names, in their order.
    pub(crate) fn names(&self) -> Vec<OsString> {
        let mut names: Vec<OsString> = self.names.iter().cloned().collect();
        names.sort();
        names
    }

    /// The names that an earlier listing lacks.
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
