//! The watched folder: a component that appears in it is staged, and activated if that is wanted.
//!
//! Files appear by rename: write elsewhere on the same disk, or under a name that begins with a
//! dot, and rename. A file that is copied into place is taken when two looks at it, a second apart,
//! show the same. Links are followed, so a link that leads to another file is a change: so a
//! ConfigMap of Kubernetes is replaced, whose files are links by way of `..data`.

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
use super::{Actor, ChangeOutcome, Deployment, PushRequest};

/// What becomes of a component from the watched folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum FolderAction {
    /// It serves once it is staged, unless people would have to be enrolled again for it.
    #[default]
    Activate,
    /// It is only staged; an operator says what becomes of it.
    Stage,
}

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What a file looks like without reading it, links followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    length: u64,
    modified: Option<SystemTime>,
    /// Device and number of the file, where the system has such.
    file: (u64, u64),
}

/// The entries of the folder that are named like components.
#[derive(Debug, Default)]
struct ComponentFiles {
    components: HashMap<PathBuf, FileStamp>,
    /// When each was put there: a link may be newer than its file.
    since: HashMap<PathBuf, Option<SystemTime>>,
    /// Entries that cannot be taken, and why.
    problems: HashMap<PathBuf, String>,
}

/// What is known of the folder's files.
#[derive(Debug, Default)]
struct FolderState {
    /// As they were at the last look.
    last: HashMap<PathBuf, FileStamp>,
    /// As they were when they were taken.
    taken: HashMap<PathBuf, FileStamp>,
    /// Problems that the log has already: of entries, and of the folder itself.
    told: HashMap<PathBuf, String>,
    /// Revisions that are to be activated when they are staged, in the order in which they came.
    pending: Vec<Sha256Digest>,
}

impl FolderState {
    /// Logs the problems that are new. A problem that went away is logged again when it returns.
    fn tell(&mut self, problems: HashMap<PathBuf, String>) {
        for (path, problem) in &problems {
            if self.told.get(path) != Some(problem) {
                tracing::warn!(
                    "cannot take {}: {problem}",
                    path.display().to_string().escape_debug()
                );
            }
        }
        self.told = problems;
    }

    /// Logs that the folder cannot be read, once.
    fn tell_away(&mut self, folder: &Path, error: &io::Error) {
        let problem = error.to_string();
        if self.told.get(folder) != Some(&problem) {
            tracing::warn!(
                "cannot look into the watched folder {}: {problem}; what appears in it is taken when it is back",
                folder.display()
            );
            self.told.insert(folder.to_owned(), problem);
        }
    }

    /// Logs that the folder can be read again, once.
    fn tell_back(&mut self, folder: &Path) {
        if self.told.remove(folder).is_some() {
            tracing::info!("the watched folder {} is back", folder.display());
        }
    }
}

impl Deployment {
    /// Watches a folder as long as this lives.
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
        let there = ComponentFiles::of(folder).map_err(named)?;
        // What was taken before a restart is not taken again: an operator may have decided
        // otherwise since.
        let mut known = FolderState::default();
        known.taken.extend(
            there
                .components
                .into_iter()
                .filter(|(path, _)| self.knows(path)),
        );
        let (deployment, folder) = (Arc::downgrade(self), folder.to_owned());
        std::thread::Builder::new()
            .name("watched-folder".to_owned())
            .spawn(move || {
                while let Some(deployment) = Weak::upgrade(&deployment)
                    .filter(|deployment| !deployment.builder.shutdown.has_begun())
                {
                    deployment.look_into(&folder, action, &mut known);
                    drop(deployment);
                    std::thread::sleep(LOOK);
                }
            })?;
        Ok(())
    }

    fn look_into(&self, folder: &Path, action: FolderAction, known: &mut FolderState) {
        let ComponentFiles {
            components: now,
            since,
            mut problems,
        } = match ComponentFiles::of(folder) {
            Ok(listing) => listing,
            Err(error) => return known.tell_away(folder, &error),
        };
        known.tell_back(folder);
        let mut fresh: Vec<(&PathBuf, FileStamp)> = now
            .iter()
            .filter(|(path, look)| {
                known.last.get(*path) == Some(look) && known.taken.get(*path) != Some(look)
            })
            .map(|(path, look)| (path, *look))
            .collect();
        // The newest is staged last, and so activated last.
        fresh.sort_by_key(|(path, _)| (since.get(*path).copied().flatten(), (*path).clone()));
        for (path, look) in fresh {
            match self.take_file(path) {
                Ok(outcome) => {
                    known.taken.insert(path.clone(), look);
                    known.pending.extend(
                        outcome
                            .filter(|_| action == FolderAction::Activate)
                            .map(|ChangeOutcome { id, .. }| id),
                    );
                }
                // It is tried again: permissions may change without another look of the file.
                Err(error) => {
                    problems.insert(path.clone(), error.to_string());
                }
            }
        }
        known.tell(problems);
        known.taken.retain(|path, _| now.contains_key(path));
        known.last = now;
        known.pending.retain(|id| self.activate_if_staged(*id));
    }

    /// Whether any revision that is remembered is made of this file.
    fn knows(&self, path: &Path) -> bool {
        let Ok(bytes) = read(path) else { return false };
        let digest = Sha256Digest::of(&bytes);
        self.locked()
            .record
            .revisions
            .iter()
            .any(|entry| entry.spec.components().any(|component| component == digest))
    }

    /// Stages a file; none if it is refused, which the audit log has.
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

    /// Activates a revision if it is staged; whether it is still to be waited for.
    fn activate_if_staged(&self, id: Sha256Digest) -> bool {
        let status = self
            .locked()
            .record
            .entry(id)
            .map(|entry| entry.status.clone());
        match status {
            Some(Status::Staging) => true,
            Some(Status::Staged) => {
                // A refusal is in the audit log, with what to do.
                let _ = self.activate(id, false, &Actor::part("folder"));
                false
            }
            Some(Status::Failed(_) | Status::Retired) | None => false,
        }
    }
}

/// A component, or as much more than may be as is enough to refuse it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(path, MAX_COMPONENT_BYTES)
}

impl ComponentFiles {
    /// Lists the components in a folder. Names that begin with a dot belong to files that are being
    /// written.
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

/// Returns true for `NAME.wasm` in any case of the ending, without a dot first.
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

    /// Kubernetes swaps the folder that all links lead through.
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
