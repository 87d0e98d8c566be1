//! What is remembered of revisions across restarts: a file that is replaced as a whole, and the
//! components beside it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use rostro_common::cancel::CancelScope;
use rostro_common::digest::Sha256Digest;
use rostro_common::fs::durable::sync_folder;
use rostro_common::fs::lock::{FolderLock, FolderLockError};
use rostro_common::shutdown::Shutdown;
use rostro_models::Manifest;
use rostro_sandbox::pipeline::revision_id::RevisionInputs;

use super::configured::ConfiguredTexts;
use super::private::{FolderRepair, PrivateFolder};

/// How the files of unfinished writes begin.
const UNFINISHED: &str = ".unfinished-";

/// The flag that names the folder.
const STATE: &str = "--state";

/// The form of the record that this host writes and reads.
const FORM: u32 = 1;

/// What a revision is made of. Its id follows from it, and from the pack's models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RevisionSpec {
    /// The component that sees.
    pub vision: Sha256Digest,
    /// The component that decides, if it is another.
    pub policy: Option<Sha256Digest>,
    /// The model pack.
    pub pack: String,
    /// Limits that are tighter than the service's, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, String>,
}

impl RevisionSpec {
    /// Returns the input of the revision's id.
    pub(crate) fn inputs<'a>(&'a self, manifest: &'a Manifest) -> RevisionInputs<'a> {
        RevisionInputs {
            vision: self.vision,
            policy: self.policy,
            manifest,
            limits: &self.limits,
        }
    }

    /// The components, each once.
    pub(crate) fn components(&self) -> impl Iterator<Item = Sha256Digest> {
        [Some(self.vision), self.policy].into_iter().flatten()
    }
}

/// How far a revision came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "status", content = "reason")]
pub(crate) enum Status {
    /// It is being checked.
    Staging,
    /// It can serve.
    Staged,
    /// It cannot, or no longer may.
    Failed(String),
    /// It was taken away.
    Retired,
}

/// One revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RevisionEntry {
    /// Which.
    pub id: Sha256Digest,
    /// Id by version 1 of the hash. The file has it as `id`, and the current one here.
    #[serde(
        default,
        rename = "current_id",
        skip_serializing_if = "Option::is_none"
    )]
    pub former_id: Option<Sha256Digest>,
    /// What it is made of.
    #[serde(flatten)]
    pub spec: RevisionSpec,
    /// What its components say who they are; none before they were asked.
    pub about: Option<RevisionInfo>,
    /// When it was first given to this host (RFC 3339).
    pub since: String,
    /// Whether enrolments are embedded for it before it is activated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enrol: bool,
    /// How far it came.
    #[serde(flatten)]
    pub status: Status,
}

/// What the components of a revision say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RevisionInfo {
    /// The pipeline's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its policy's name.
    pub policy: String,
    /// That one's version.
    pub policy_version: String,
    /// What its embeddings mean.
    pub contract: String,
}

/// A revision that gets a share of the requests beside the active one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrafficShare {
    /// Which.
    pub id: Sha256Digest,
    /// What share, 0 to 1.
    pub share: f64,
}

/// All that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    form: u32,
    /// The revision that the command line and the configuration asked for at the last start.
    pub configured: Option<Sha256Digest>,
    /// What was written for it; none in a record of a program before these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured_texts: Option<ConfiguredTexts>,
    /// The one that serves.
    pub active: Option<Sha256Digest>,
    /// The one that served before, kept warm.
    pub previous: Option<Sha256Digest>,
    /// The one whose answers some requests get.
    pub canary: Option<TrafficShare>,
    /// The one that sees some requests and whose answers nobody gets.
    pub shadow: Option<TrafficShare>,
    /// Whether the last change of the active one was a rollback, which is not undone by asking for
    /// it again.
    #[serde(default)]
    pub rolled_back: bool,
    /// The contract of samples in the gallery that state none: that of the first revision that
    /// served.
    #[serde(default, rename = "unmarked")]
    pub legacy: Option<String>,
    /// All that are known, oldest first.
    pub revisions: Vec<RevisionEntry>,
}

impl Record {
    /// Retires the previous revision, whose place another takes, unless it has a part beside that.
    pub(crate) fn retire_previous(&mut self) {
        let Some(id) = self.previous else { return };
        let has_part = [self.canary, self.shadow]
            .into_iter()
            .flatten()
            .any(|beside| beside.id == id);
        if let Some(entry) = self
            .entry_mut(id)
            .filter(|entry| !has_part && entry.status != Status::Staging)
        {
            entry.status = Status::Retired;
        }
    }

    pub(crate) fn entry(&self, id: Sha256Digest) -> Option<&RevisionEntry> {
        self.revisions.iter().find(|entry| entry.id == id)
    }

    pub(crate) fn entry_mut(&mut self, id: Sha256Digest) -> Option<&mut RevisionEntry> {
        self.revisions.iter_mut().find(|entry| entry.id == id)
    }

    /// Forgets the oldest of those that failed or were retired, but for the last `most`.
    pub(crate) fn forget_old(&mut self, most: usize) {
        let is_expired =
            |entry: &RevisionEntry| matches!(entry.status, Status::Failed(_) | Status::Retired);
        let mut over = self
            .revisions
            .iter()
            .filter(|entry| is_expired(entry))
            .count()
            .saturating_sub(most);
        self.revisions.retain(|entry| {
            let forgotten = over > 0 && is_expired(entry);
            over -= usize::from(forgotten);
            !forgotten
        });
    }

    /// Retires what the configuration made at the last start if it has no part: what makes it is
    /// gone, and it would stay ready for good.
    pub(crate) fn retire_configured(&mut self) {
        let Some(id) = self.configured else { return };
        let beside = [self.canary, self.shadow]
            .into_iter()
            .flatten()
            .map(|beside| beside.id);
        let has_part = beside
            .chain([self.active, self.previous].into_iter().flatten())
            .any(|part| part == id);
        if let Some(entry) = self
            .entry_mut(id)
            .filter(|entry| !has_part && matches!(entry.status, Status::Staged | Status::Staging))
        {
            entry.status = Status::Retired;
        }
    }

    /// Takes a revision out of every part that it plays.
    pub(crate) fn clear_roles(&mut self, id: Sha256Digest) {
        if self.previous == Some(id) {
            self.previous = None;
        }
        for beside in [&mut self.canary, &mut self.shadow] {
            if beside.is_some_and(|beside| beside.id == id) {
                *beside = None;
            }
        }
    }
}

/// Why what is remembered cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder cannot be used.
    #[error("cannot {action} the state folder {folder}: {cause}; name a folder that this process may write with --state", folder = folder.display())]
    Folder {
        /// What was tried.
        action: &'static str,
        /// Where.
        folder: PathBuf,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// The process is stopping.
    #[error("the service is stopping, and nothing was changed; ask again once it runs")]
    Stopping,
    /// Others may write into the folder.
    #[error(
        "cannot keep state in {folder}: others may write into it; take that from them with `chmod go-w {folder}`, or, where something undoes \
         that (Kubernetes' fsGroup, a volume of mode 777), name a folder in it that does not exist yet, which is made for this user alone: \
         {flag} {folder}/rostro",
        folder = folder.display()
    )]
    Open {
        /// Where.
        folder: PathBuf,
        /// The flag that names it.
        flag: &'static str,
    },
    /// The file system ignores permissions.
    #[error(
        "cannot keep state in {folder}: its file system ignores permissions (as WSL's /mnt/c and some network shares do), so others may write \
         into it; name a folder on another file system with {flag}",
        folder = folder.display()
    )]
    NoPermissions {
        /// Where.
        folder: PathBuf,
        /// The flag that names it.
        flag: &'static str,
    },
    /// Another process has it.
    #[error(
        "the state folder {folder} is used by another running service; give each its own with --state, or wait for the other to stop with \
         --wait-for-lock SECONDS (in Kubernetes, where it waits for this one, use `strategy: Recreate`)",
        folder = folder.display()
    )]
    InUse {
        /// Where.
        folder: PathBuf,
    },
    /// The record is not what it should be.
    #[error(
        "{file} is not a record of revisions: {cause}; move it away to start with the configured pipeline alone",
        file = file.display()
    )]
    Record {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        cause: String,
    },
}

/// The folder with the record, the components, and what was compiled of them.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    shutdown: Shutdown,
    /// Held as long as the folder is used.
    lock: FolderLock,
}

impl Store {
    /// Opens the folder, making it if it is not there, for this process alone. While another
    /// process has it, waits for it until `scope` ends. Once `shutdown` has begun the record stays
    /// as it is.
    ///
    /// # Errors
    ///
    /// If it cannot be made or is used by another process.
    pub fn open(
        folder: &Path,
        scope: &CancelScope,
        shutdown: Shutdown,
    ) -> Result<Self, StateError> {
        let failed = |action| {
            move |cause| StateError::Folder {
                action,
                folder: folder.to_owned(),
                cause,
            }
        };
        PrivateFolder {
            folder,
            flag: STATE,
            mark: Some("lock"),
        }
        .make()?;
        let folder = fs::canonicalize(folder).map_err(failed("find"))?;
        PrivateFolder {
            folder: &folder.join("components"),
            flag: STATE,
            mark: None,
        }
        .make()?;
        let lock = match FolderLock::take(&folder, "lock", "the state folder", scope) {
            Ok(lock) => lock,
            Err(FolderLockError::InUse) => return Err(StateError::InUse { folder }),
            Err(FolderLockError::Io(cause)) => return Err(failed("write into")(cause)),
        };
        // Writes that a crash cut short; now nobody else writes.
        for entry in fs::read_dir(&folder).map_err(failed("read"))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Self {
            folder,
            shutdown,
            lock,
        })
    }

    /// Where Wasmtime keeps what it compiled: in `folder`, or in this one.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn compiled(&self, folder: Option<&Path>) -> Result<PathBuf, StateError> {
        // Wasmtime keeps all that it compiled in this folder of the other.
        const MODULES: &str = "modules";
        let (folder, flag, mark) = match folder {
            Some(folder) => (folder.to_owned(), "--compiled", Some(MODULES)),
            None => (self.folder.join("compiled"), STATE, None),
        };
        let made = PrivateFolder {
            folder: &folder,
            flag,
            mark,
        }
        .make()?;
        let failed = |cause| StateError::Folder {
            action: "keep compiled components in",
            folder: folder.clone(),
            cause,
        };
        // Machine code that somebody else may have put there is not run.
        if made == FolderRepair::Reclaimed && folder.join(MODULES).exists() {
            fs::remove_dir_all(folder.join(MODULES)).map_err(failed)?;
        }
        fs::canonicalize(&folder).map_err(failed)
    }

    /// Locks the folder again if another program replaced its lock.
    pub(crate) fn check_lock(&self) {
        self.lock.check();
    }

    /// The folder, which the audit log is in as well.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn record_file(&self) -> PathBuf {
        self.folder.join("revisions.json")
    }

    /// What was written last; an empty record if nothing was.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub(crate) fn read(&self) -> Result<Record, StateError> {
        let file = self.record_file();
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Record {
                    form: FORM,
                    ..Record::default()
                });
            }
            Err(cause) => {
                return Err(StateError::Folder {
                    action: "read",
                    folder: self.folder.clone(),
                    cause,
                });
            }
        };
        let wrong = |cause: String| StateError::Record {
            file: file.clone(),
            cause,
        };
        let mut record: Record =
            serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if record.form != FORM {
            return Err(wrong(format!(
                "it has the form {}, and this host reads {FORM}",
                record.form
            )));
        }
        record.exchange_ids();
        Ok(record)
    }

    /// Writes the record so that it is at any moment, crashes included, the old one or the new.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or the process is stopping; the old one is there then.
    pub(crate) fn write(&self, record: &Record) -> Result<(), StateError> {
        if self.shutdown.has_begun() {
            return Err(StateError::Stopping);
        }
        let mut stored = record.clone();
        stored.exchange_ids();
        let text = serde_json::to_vec_pretty(&stored).unwrap_or_default();
        self.place(&self.record_file(), &text)
            .map_err(|cause| StateError::Folder {
                action: "write into",
                folder: self.folder.clone(),
                cause,
            })
    }

    /// Keeps a component.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn keep(&self, bytes: &[u8]) -> Result<Sha256Digest, StateError> {
        let digest = Sha256Digest::of(bytes);
        let failed = |cause| StateError::Folder {
            action: "write into",
            folder: self.folder.clone(),
            cause,
        };
        // One that is there and whole is not written again; a damaged one is mended.
        if !fs::read(self.component_file(digest)).is_ok_and(|there| there == bytes) {
            self.place(&self.component_file(digest), bytes)
                .map_err(failed)?;
        }
        Ok(digest)
    }

    /// The bytes of a component.
    ///
    /// # Errors
    ///
    /// If it is not there, or not what it was.
    pub(crate) fn component(&self, digest: Sha256Digest) -> io::Result<Vec<u8>> {
        let bytes = fs::read(self.component_file(digest))?;
        if Sha256Digest::of(&bytes) == digest {
            Ok(bytes)
        } else {
            Err(io::Error::other("its bytes were changed"))
        }
    }

    /// Removes the components that no revision of the record needs.
    pub(crate) fn sweep(&self, record: &Record) {
        let is_needed = |name: &str| {
            let kept = record
                .revisions
                .iter()
                .filter(|entry| entry.status != Status::Retired);
            kept.flat_map(|entry| entry.spec.components())
                .any(|digest| name == format!("{digest}.wasm"))
        };
        for entry in fs::read_dir(self.folder.join("components"))
            .into_iter()
            .flatten()
            .flatten()
        {
            if !entry.file_name().to_str().is_some_and(is_needed) {
                // It is tried again at the next sweep.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn component_file(&self, digest: Sha256Digest) -> PathBuf {
        self.folder
            .join("components")
            .join(format!("{digest}.wasm"))
    }

    fn place(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.folder);
        let mut file = NamedTempFile::with_prefix_in(UNFINISHED, folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        // It has happened: a failure here is no failure to write.
        if let Err(error) = sync_folder(folder) {
            tracing::warn!(
                "{} was written, and may be the old one again after a crash: {error}",
                path.display()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn open(folder: &Path) -> Result<Store, StateError> {
        Store::open(folder, &Instant::now().into(), Shutdown::default())
    }

    fn record() -> Record {
        let id = Sha256Digest::of(b"revision");
        let spec = RevisionSpec {
            vision: Sha256Digest::of(b"vision"),
            policy: None,
            pack: "testing".to_owned(),
            limits: BTreeMap::new(),
        };
        let entry = RevisionEntry {
            id,
            former_id: None,
            spec,
            about: None,
            since: "2026-01-01T00:00:00Z".to_owned(),
            enrol: true,
            status: Status::Failed("why".to_owned()),
        };
        Record {
            form: FORM,
            active: Some(id),
            canary: Some(TrafficShare { id, share: 0.25 }),
            revisions: vec![entry],
            ..Record::default()
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        assert_eq!(
            store.read().unwrap(),
            Record {
                form: FORM,
                ..Record::default()
            }
        );
        store.write(&record()).unwrap();
        assert_eq!(store.read().unwrap(), record());
    }

    #[test]
    fn a_folder_is_used_by_one_service_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        assert!(matches!(open(folder.path()), Err(StateError::InUse { .. })));
        drop(store);
        open(folder.path()).unwrap();
    }

    /// Others could have put machine code there, which would be run.
    #[cfg(unix)]
    #[test]
    fn compiled_reclaimed_folder_emptied() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        let compiled = store.compiled(None).unwrap();
        let planted = compiled.join("modules/planted");
        fs::create_dir_all(&planted).unwrap();
        store.compiled(None).unwrap();
        assert!(planted.exists());
        fs::set_permissions(&compiled, fs::Permissions::from_mode(0o2770)).unwrap();
        store.compiled(None).unwrap();
        assert!(!planted.exists());
    }

    #[test]
    fn a_record_that_is_none_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        for text in ["", "{}", "{\"form\": 2, \"revisions\": []}"] {
            fs::write(store.record_file(), text).unwrap();
            let error = store.read().unwrap_err().to_string();
            assert!(
                error.contains("revisions.json") && error.contains("move it away"),
                "{error}"
            );
        }
    }

    #[test]
    fn components_are_kept_as_long_as_a_revision_needs_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        let (kept, other) = (
            store.keep(b"vision").unwrap(),
            store.keep(b"other").unwrap(),
        );
        fs::write(store.component_file(kept), b"damaged").unwrap();
        assert_eq!(
            store.component(kept).unwrap_err().to_string(),
            "its bytes were changed"
        );
        store.keep(b"vision").unwrap();
        store.sweep(&record());
        assert_eq!(store.component(kept).unwrap(), b"vision");
        store.component(other).unwrap_err();
    }
}
