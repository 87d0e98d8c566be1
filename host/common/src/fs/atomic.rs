//! Atomic file replacement: after a crash a file has its old or its new content, never a part.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::durable::sync_folder;

/// Prefix of the names of files that are not complete yet. A crash leaves such files behind.
pub const UNFINISHED: &str = ".unfinished-";

/// Users that may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAccess {
    /// Only the owner.
    Owner,
    /// All users that the process's umask lets in, as for any new file.
    Umask,
}

/// A file under a temporary name in the folder of the file that it replaces. It is removed unless
/// it is committed.
#[derive(Debug)]
pub struct AtomicFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl AtomicFile {
    /// Creates an empty file that [`AtomicFile::commit`] renames to `path`.
    ///
    /// # Errors
    ///
    /// If the folder does not exist or is not writable.
    pub fn create(path: &Path, access: FileAccess) -> io::Result<Self> {
        Self::create_in(folder_of(path), path, access)
    }

    /// Creates an empty file in another folder of the same file system, which may exist already
    /// when that of `path` does not.
    ///
    /// # Errors
    ///
    /// If the folder does not exist or is not writable.
    pub fn create_in(folder: &Path, path: &Path, access: FileAccess) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        // Without permissions of its own, a temporary file is readable by its owner alone.
        #[cfg(unix)]
        if access == FileAccess::Umask {
            builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        }
        #[cfg(not(unix))]
        let _ = access;
        Ok(Self {
            file: builder.prefix(UNFINISHED).tempfile_in(folder)?,
            path: path.to_owned(),
        })
    }

    /// Returns the path that the file gets.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the file, for callers that sync many together.
    pub fn as_file(&self) -> &File {
        self.file.as_file()
    }

    /// Returns the file, for writers that seek.
    pub fn as_file_mut(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Syncs the file and renames it. The rename survives a crash only after
    /// [`sync_folder`].
    ///
    /// # Errors
    ///
    /// If the disk fails or the file cannot be renamed. The old file is unchanged then.
    pub fn commit(self) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        self.rename_synced()
    }

    /// Renames a file that the caller has synced.
    ///
    /// # Errors
    ///
    /// If the file cannot be renamed. The old file is unchanged then.
    pub fn rename_synced(self) -> io::Result<()> {
        self.file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Replaces a file atomically and syncs its folder. Returns false if the file system cannot sync
/// folders, so that a crash of the machine may undo the replacement.
///
/// # Errors
///
/// If the file cannot be written, or if the folder cannot be synced. In the second case the file
/// is already replaced.
pub fn write_atomic(path: &Path, access: FileAccess, bytes: &[u8]) -> io::Result<bool> {
    let mut file = AtomicFile::create(path, access)?;
    file.write_all(bytes)?;
    file.commit()?;
    sync_folder(folder_of(path))
}

/// Returns the folder of a file; the current folder for a bare name.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_atomic_replaces_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert!(write_atomic(&path, FileAccess::Umask, b"old").unwrap());
        assert!(write_atomic(&path, FileAccess::Umask, b"new").unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn uncommitted_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "old").unwrap();
        let mut file = AtomicFile::create(&path, FileAccess::Owner).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 2);
        drop(file);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn access_sets_permissions() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let (own, shared, ordinary) = (
            folder.path().join("own"),
            folder.path().join("shared"),
            folder.path().join("ordinary"),
        );
        write_atomic(&own, FileAccess::Owner, b"").unwrap();
        write_atomic(&shared, FileAccess::Umask, b"").unwrap();
        std::fs::write(&ordinary, "").unwrap();
        assert_eq!(mode(&own), 0o600);
        assert_eq!(mode(&shared), mode(&ordinary));
    }

    #[test]
    fn bare_name_is_in_current_folder() {
        assert_eq!(folder_of(Path::new("file")), Path::new("."));
        assert_eq!(folder_of(Path::new("folder/file")), Path::new("folder"));
    }
}
