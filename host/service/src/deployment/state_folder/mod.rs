//! The state folder: the components, and the form of the record of revisions, which the store
//! keeps.

mod error;
mod private;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rostro_common::cancel::CancelScope;
use rostro_common::digest::Sha256Digest;
use rostro_common::fs::atomic::{AtomicFile, FileAccess, UNFINISHED};
use rostro_common::fs::durable::sync_folder;
use rostro_common::fs::lock::{FolderLock, FolderLockError};
use rostro_common::shutdown::Shutdown;
use rostro_gallery::{REVISIONS, RevisionsError, RevisionsWrite, SharedChange, Store, TEMPLATES};

use super::record::Record;
use private::{FolderRepair, PrivateFolder};

pub use error::StateError;

/// The flag that names the folder.
const STATE: &str = "--state";

/// The folder with the record, the components, and their compiled code.
#[derive(Debug)]
pub struct StateFolder {
    folder: PathBuf,
    shutdown: Shutdown,
    /// Held while the folder is used.
    lock: FolderLock,
}

impl StateFolder {
    /// Opens the folder for this process alone, and creates it if it does not exist. While another
    /// process uses it, waits for it until `scope` ends. Once `shutdown` has begun the record is
    /// not written any more.
    ///
    /// # Errors
    ///
    /// If the folder cannot be created or is used by another process.
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
        let made = PrivateFolder {
            folder,
            flag: STATE,
            mark: Some("lock"),
        }
        .make()?;
        // Another user may have put templates there, by which people would be named.
        if made == FolderRepair::Reclaimed {
            match fs::remove_file(folder.join(TEMPLATES)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove the templates from")(error));
                }
                _ => {}
            }
        }
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
        // Writes that a crash cut short. The lock is held, so no other process writes.
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

    /// Returns the folder of compiled code: `folder`, or one in the state folder.
    ///
    /// # Errors
    ///
    /// If it cannot be created.
    pub fn compiled(&self, folder: Option<&Path>) -> Result<PathBuf, StateError> {
        // Wasmtime's cache keeps its files in a subfolder of this name.
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
        // Another user may have put machine code there, which must not run.
        if made == FolderRepair::Reclaimed && folder.join(MODULES).exists() {
            fs::remove_dir_all(folder.join(MODULES)).map_err(failed)?;
        }
        fs::canonicalize(&folder).map_err(failed)
    }

    /// Locks the folder again if another program replaced its lock.
    pub(crate) fn check_lock(&self) {
        self.lock.check();
    }

    /// Returns the folder, which holds the audit log as well.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads the record of a store; an empty one if none was written.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub(crate) fn read(&self, store: &dyn Store) -> Result<Record, StateError> {
        let text = match store.read_revisions() {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(Record::empty()),
            Err(cause) => {
                let actions = ("read the revisions from", "read");
                return Err(StateError::of_store(actions, &self.folder, cause));
            }
        };
        let wrong = |cause: String| StateError::Record {
            file: self.folder.join(REVISIONS),
            cause,
        };
        Record::parse(&text).map_err(wrong)
    }

    /// Writes the record to a store: a crash leaves the old one or the new one.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or the process is stopping. The old record stays then.
    pub(crate) fn write(
        &self,
        store: &dyn Store,
        record: &Record,
    ) -> Result<SharedChange, StateError> {
        if self.shutdown.has_begun() {
            return Err(StateError::Stopping);
        }
        let mut stored = record.clone();
        stored.exchange_ids();
        stored.set_form();
        let text = serde_json::to_vec_pretty(&stored).unwrap_or_default();
        let components: Vec<Sha256Digest> = record.components().collect();
        let write = RevisionsWrite {
            record: &text,
            components: &components,
        };
        store.write_revisions(&write).map_err(|error| match error {
            RevisionsError::Conflict => StateError::Conflict,
            RevisionsError::Io(cause) => {
                let actions = ("write the revisions into", "write into");
                StateError::of_store(actions, &self.folder, cause)
            }
        })
    }

    /// Stores a component here, and in the store for other nodes.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn keep_in(
        &self,
        store: &dyn Store,
        bytes: &[u8],
    ) -> Result<Sha256Digest, StateError> {
        let digest = self.keep(bytes)?;
        let kept = store.keep_component(digest, bytes);
        kept.map_err(|cause| {
            let actions = ("keep the component in", "write into");
            StateError::of_store(actions, &self.folder, cause)
        })?;
        Ok(digest)
    }

    /// Stores a component.
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
        // An intact component is not written again; a damaged one is replaced.
        if !fs::read(self.component_file(digest)).is_ok_and(|stored| stored == bytes) {
            let mut file = AtomicFile::create(&self.component_file(digest), FileAccess::Owner)
                .map_err(failed)?;
            file.write_all(bytes).map_err(failed)?;
            file.commit().map_err(failed)?;
            // The file is in place, so a failure here does not undo the write.
            if let Err(error) = sync_folder(&self.folder.join("components")) {
                tracing::warn!(
                    "cannot sync the folder of components in {}: {error}; a crash may undo the write",
                    self.folder.display()
                );
            }
        }
        Ok(digest)
    }

    /// Reads a component. One that another node kept in the store is copied here first.
    ///
    /// # Errors
    ///
    /// If it does not exist, or its bytes do not have this digest.
    pub(crate) fn component_of(
        &self,
        store: &dyn Store,
        digest: Sha256Digest,
    ) -> io::Result<Vec<u8>> {
        match self.component(digest) {
            Ok(bytes) => Ok(bytes),
            Err(error) => {
                let kept = store.read_component(digest)?.ok_or(error)?;
                self.keep(&kept).map_err(io::Error::other)?;
                Ok(kept)
            }
        }
    }

    /// Reads a component of this folder.
    fn component(&self, digest: Sha256Digest) -> io::Result<Vec<u8>> {
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
            record
                .components()
                .any(|digest| name == format!("{digest}.wasm"))
        };
        for entry in fs::read_dir(self.folder.join("components"))
            .into_iter()
            .flatten()
            .flatten()
        {
            if !entry.file_name().to_str().is_some_and(is_needed) {
                // The next sweep tries again.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn component_file(&self, digest: Sha256Digest) -> PathBuf {
        self.folder
            .join("components")
            .join(format!("{digest}.wasm"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Instant;

    use rostro_gallery::{FolderStore, StateFiles};

    use super::super::record::{RevisionEntry, RevisionSpec, Status, TrafficShare};
    use super::*;

    fn open(folder: &Path) -> Result<StateFolder, StateError> {
        StateFolder::open(folder, &Instant::now().into(), Shutdown::default())
    }

    fn store(folder: &Path) -> FolderStore {
        let files = StateFiles::open(folder).unwrap();
        FolderStore::open_unlocked(folder)
            .unwrap()
            .with_state(files)
    }

    fn record() -> Record {
        let id = Sha256Digest::of(b"revision");
        let spec = RevisionSpec {
            vision: Sha256Digest::of(b"vision"),
            policy: None,
            pack: "testing".to_owned(),
            limits: BTreeMap::new(),
            settings: BTreeMap::new(),
        };
        let entry = RevisionEntry {
            former_id: None,
            id,
            spec,
            about: None,
            since: "2026-01-01T00:00:00Z".to_owned(),
            enrol: true,
            status: Status::Failed("why".to_owned()),
        };
        Record {
            active: Some(id),
            canary: Some(TrafficShare { id, share: 0.25 }),
            revisions: vec![entry],
            ..Record::empty()
        }
    }

    #[test]
    fn record_survives_write_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let (state, store) = (open(folder.path()).unwrap(), store(folder.path()));
        assert_eq!(state.read(&store).unwrap(), Record::empty());
        state.write(&store, &record()).unwrap();
        assert_eq!(state.read(&store).unwrap(), record());
    }

    #[test]
    fn folder_serves_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let state = open(folder.path()).unwrap();
        assert!(matches!(open(folder.path()), Err(StateError::InUse { .. })));
        drop(state);
        open(folder.path()).unwrap();
    }

    /// Another user could have put machine code there, which would run.
    #[cfg(unix)]
    #[test]
    fn compiled_reclaimed_folder_emptied() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let state = open(folder.path()).unwrap();
        let compiled = state.compiled(None).unwrap();
        let planted = compiled.join("modules/planted");
        fs::create_dir_all(&planted).unwrap();
        state.compiled(None).unwrap();
        assert!(planted.exists());
        fs::set_permissions(&compiled, fs::Permissions::from_mode(0o2770)).unwrap();
        state.compiled(None).unwrap();
        assert!(!planted.exists());
    }

    #[test]
    fn damaged_record_error_has_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let (state, store) = (open(folder.path()).unwrap(), store(folder.path()));
        for text in ["", "{}", "{\"form\": 3, \"revisions\": []}"] {
            fs::write(folder.path().join(REVISIONS), text).unwrap();
            let error = state.read(&store).unwrap_err().to_string();
            assert!(
                error.contains("revisions.json") && error.contains("move it away"),
                "{error}"
            );
        }
    }

    #[test]
    fn sweep_keeps_needed_components() {
        let folder = tempfile::tempdir().unwrap();
        let state = open(folder.path()).unwrap();
        let (kept, other) = (
            state.keep(b"vision").unwrap(),
            state.keep(b"other").unwrap(),
        );
        fs::write(state.component_file(kept), b"damaged").unwrap();
        assert_eq!(
            state.component(kept).unwrap_err().to_string(),
            "its bytes were changed"
        );
        state.keep(b"vision").unwrap();
        state.sweep(&record());
        assert_eq!(state.component(kept).unwrap(), b"vision");
        state.component(other).unwrap_err();
    }
}
