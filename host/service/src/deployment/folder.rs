//! The watched folder: a component that appears in it is staged, and activated if configured.
//!
//! Files should appear by rename: write a file elsewhere on the same disk, or under a name that
//! begins with a dot, and rename it. A file that is copied into place is taken when two scans, a
//! second apart, find it unchanged. Links are followed, so a link to another file is a change:
//! Kubernetes replaces a ConfigMap in this way, because its files are links through `..data`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use rostro_common::digest::Sha256Digest;
use rostro_common::fs::read_at_most;
use rostro_sandbox::limits::MAX_COMPONENT_BYTES;

use super::record::Status;
use super::{Actor, ChangeOutcome, Deployment, PushRequest, RevisionChange};

/// Action on a component from the watched folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum FolderAction {
    /// Activate it once it is staged, unless people would have to be enrolled again for it.
    #[default]
    Activate,
    /// Only stage it, for an operator to activate.
    Stage,
}

/// Time between two scans of the folder.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// Metadata that shows a change of a file without reading it, links followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    length: u64,
    modified: Option<SystemTime>,
    /// Device and inode number, on systems that have them.
    file: (u64, u64),
}

/// Entries of the folder with the name of a component.
#[derive(Debug, Default)]
struct ComponentFiles {
    components: HashMap<PathBuf, FileStamp>,
    /// Time at which each appeared, because a link may be newer than its file.
    since: HashMap<PathBuf, Option<SystemTime>>,
    /// Entries that cannot be taken, with the reasons.
    problems: HashMap<PathBuf, String>,
}

/// State of the folder between two scans.
#[derive(Debug, Default)]
struct FolderState {
    /// Files of the last scan.
    last: HashMap<PathBuf, FileStamp>,
    /// Files that were staged or refused.
    taken: HashMap<PathBuf, FileStamp>,
    /// Problems that were logged, of entries and of the folder itself.
    logged: HashMap<PathBuf, String>,
    /// Revisions to activate once they are staged, oldest first.
    pending: Vec<Sha256Digest>,
}

impl FolderState {
    /// Logs new problems. A problem that went away is logged again when it returns.
    fn log_problems(&mut self, problems: HashMap<PathBuf, String>) {
        for (path, problem) in &problems {
            if self.logged.get(path) != Some(problem) {
                tracing::warn!(
                    "cannot take {}: {problem}",
                    path.display().to_string().escape_debug()
                );
            }
        }
        self.logged = problems;
    }

    /// Logs once that the folder cannot be read.
    fn log_unreadable(&mut self, folder: &Path, error: &io::Error) {
        let problem = error.to_string();
        if self.logged.get(folder) != Some(&problem) {
            tracing::warn!(
                "cannot look into the watched folder {}: {problem}; new components are taken when it is back",
                folder.display()
            );
            self.logged.insert(folder.to_owned(), problem);
        }
    }

    /// Logs once that the folder can be read again.
    fn log_readable(&mut self, folder: &Path) {
        if self.logged.remove(folder).is_some() {
            tracing::info!("the watched folder {} is back", folder.display());
        }
    }
}

impl Deployment {
    /// Watches a folder while the deployment lives.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or a thread cannot be started.
    pub fn watch(self: &Arc<Self>, folder: &Path, action: FolderAction) -> std::io::Result<()> {
        let named = |error: std::io::Error| {
            std::io::Error::new(
                error.kind(),
                format!("the watched folder {}: {error}", folder.display()),
            )
        };
        fs::create_dir_all(folder).map_err(named)?;
        let present = ComponentFiles::of(folder).map_err(named)?;
        // Files that were taken before a restart are not taken again, because an operator may have
        // activated another revision since.
        let mut known = FolderState::default();
        known.taken.extend(
            present
                .components
                .into_iter()
                .filter(|(path, _)| self.has_revision_of(path)),
        );
        let (deployment, folder) = (Arc::downgrade(self), folder.to_owned());
        std::thread::Builder::new()
            .name("watched-folder".to_owned())
            .spawn(move || {
                while let Some(deployment) = Weak::upgrade(&deployment)
                    .filter(|deployment| !deployment.builder.shutdown.has_begun())
                {
                    deployment.scan(&folder, action, &mut known);
                    drop(deployment);
                    std::thread::sleep(SCAN_INTERVAL);
                }
            })?;
        Ok(())
    }

    fn scan(&self, folder: &Path, action: FolderAction, known: &mut FolderState) {
        let ComponentFiles {
            components: now,
            since,
            mut problems,
        } = match ComponentFiles::of(folder) {
            Ok(listing) => listing,
            Err(error) => return known.log_unreadable(folder, &error),
        };
        known.log_readable(folder);
        let mut fresh: Vec<(&PathBuf, FileStamp)> = now
            .iter()
            .filter(|(path, stamp)| {
                known.last.get(*path) == Some(stamp) && known.taken.get(*path) != Some(stamp)
            })
            .map(|(path, stamp)| (path, *stamp))
            .collect();
        // The newest is staged last, and so activated last.
        fresh.sort_by_key(|(path, _)| (since.get(*path).copied().flatten(), (*path).clone()));
        for (path, stamp) in fresh {
            match self.take_file(path) {
                Ok(outcome) => {
                    known.taken.insert(path.clone(), stamp);
                    known.pending.extend(
                        outcome
                            .filter(|_| action == FolderAction::Activate)
                            .map(|ChangeOutcome { id, .. }| id),
                    );
                }
                // Tried again at the next scan, because permissions may change.
                Err(error) => {
                    problems.insert(path.clone(), error.to_string());
                }
            }
        }
        known.log_problems(problems);
        known.taken.retain(|path, _| now.contains_key(path));
        known.last = now;
        known.pending.retain(|id| self.activate_if_staged(*id));
    }

    /// Returns true if a revision of the record has this file as a component.
    fn has_revision_of(&self, path: &Path) -> bool {
        let Ok(bytes) = read(path) else { return false };
        let digest = Sha256Digest::of(&bytes);
        self.locked()
            .record
            .revisions
            .iter()
            .any(|entry| entry.spec.components().any(|component| component == digest))
    }

    /// Stages a file. Returns none if it is refused, which is in the audit log.
    fn take_file(&self, path: &Path) -> io::Result<Option<ChangeOutcome>> {
        let actor = Actor::part(&format!("folder: {}", path.display()));
        Ok(self
            .push(
                PushRequest {
                    bytes: read(path)?,
                    ..PushRequest::default()
                },
                &actor,
            )
            .ok())
    }

    /// Activates a revision if it is staged. Returns true while it is being staged.
    fn activate_if_staged(&self, id: Sha256Digest) -> bool {
        let status = self
            .locked()
            .record
            .entry(id)
            .map(|entry| entry.status.clone());
        match status {
            Some(Status::Staging) => true,
            Some(Status::Staged) => {
                let activate = RevisionChange::Activate {
                    id,
                    allow_contract_change: false,
                    partial: false,
                };
                // A refusal is in the audit log, with its remedy.
                let _ = self.change(activate, &Actor::part("folder"));
                false
            }
            Some(Status::Failed(_) | Status::Retired) | None => false,
        }
    }
}

/// Reads a component, or enough of a larger file to refuse it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(path, MAX_COMPONENT_BYTES)
}

impl ComponentFiles {
    /// Lists the components in a folder. Names with a leading dot are files that are being written.
    fn of(folder: &Path) -> io::Result<Self> {
        let mut listing = Self::default();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            if !is_named_like_component(&path) {
                continue;
            }
            match path.metadata() {
                Ok(about) if about.is_file() => {
                    let put = entry.metadata().and_then(|link| link.modified()).ok();
                    listing
                        .since
                        .insert(path.clone(), put.max(about.modified().ok()));
                    listing.components.insert(path, FileStamp::of(&about));
                }
                Ok(_) => {
                    listing
                        .problems
                        .insert(path, "it is not a regular file".to_owned());
                }
                // Removed since the folder was read.
                Err(_) if path.symlink_metadata().is_err() => {}
                Err(error) if entry.file_type().is_ok_and(|kind| kind.is_symlink()) => {
                    listing
                        .problems
                        .insert(path, format!("the link leads to no file: {error}"));
                }
                Err(error) => {
                    listing.problems.insert(path, error.to_string());
                }
            }
        }
        Ok(listing)
    }
}

impl FileStamp {
    fn of(about: &Metadata) -> Self {
        Self {
            length: about.len(),
            modified: about.modified().ok(),
            file: identity(about),
        }
    }
}

/// Returns true for `NAME.wasm` without a leading dot, with the extension in any case.
fn is_named_like_component(path: &Path) -> bool {
    let is_hidden = path
        .file_name()
        .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !is_hidden
        && path
            .extension()
            .is_some_and(|extension: &OsStr| extension.eq_ignore_ascii_case("wasm"))
}

#[cfg(unix)]
fn identity(about: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (about.dev(), about.ino())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> (u64, u64) {
    (0, 0)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(listing: &ComponentFiles) -> (Vec<String>, Vec<String>) {
        let sorted = |paths: Vec<&PathBuf>| {
            let mut names: Vec<String> = paths
                .iter()
                .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
                .collect();
            names.sort();
            names
        };
        (
            sorted(listing.components.keys().collect()),
            sorted(listing.problems.keys().collect()),
        )
    }

    #[test]
    fn listing_takes_links_and_any_case() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [
            "plain.wasm",
            "GOOD.WASM",
            "Mixed.Wasm",
            ".hidden.wasm",
            "notes.txt",
            "wasm",
        ] {
            fs::write(at(name), "x").unwrap();
        }
        symlink("plain.wasm", at("current.wasm")).unwrap();
        symlink("nowhere", at("dangling.wasm")).unwrap();
        symlink("loop.wasm", at("loop.wasm")).unwrap();
        fs::create_dir(at("folder.wasm")).unwrap();
        let (components, problems) = names(&ComponentFiles::of(folder.path()).unwrap());
        assert_eq!(
            components,
            ["GOOD.WASM", "Mixed.Wasm", "current.wasm", "plain.wasm"]
        );
        assert_eq!(problems, ["dangling.wasm", "folder.wasm", "loop.wasm"]);
    }

    /// Kubernetes swaps the folder to which all links lead.
    #[test]
    fn listing_sees_swapped_config_map() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let time = SystemTime::now();
        for version in ["..2026_1", "..2026_2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("one.wasm"), "same length").unwrap();
            fs::File::options()
                .write(true)
                .open(at(version).join("one.wasm"))
                .unwrap()
                .set_modified(time)
                .unwrap();
        }
        symlink("..2026_1", at("..data")).unwrap();
        symlink("..data/one.wasm", at("one.wasm")).unwrap();
        let before = ComponentFiles::of(folder.path()).unwrap();
        assert_eq!(names(&before), (vec!["one.wasm".to_owned()], vec![]));
        symlink("..2026_2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        let after = ComponentFiles::of(folder.path()).unwrap();
        assert_eq!(names(&after), names(&before));
        assert_ne!(after.components, before.components);
    }
}
