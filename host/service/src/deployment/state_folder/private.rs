//! Folders that only this process may write into, because compiled code in them runs, and the
//! record in them decides which revision serves.

use std::fs::{self, DirBuilder};
use std::io;
use std::path::Path;

use super::error::StateError;

/// A folder that must be private, and the flag that names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PrivateFolder<'f> {
    pub folder: &'f Path,
    pub flag: &'static str,
    /// An entry that only a folder of this service has. Such a folder may be made private again.
    pub mark: Option<&'f str>,
}

/// State of a folder after [`PrivateFolder::make`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FolderRepair {
    /// It was private, or is new.
    Private,
    /// Other users could write into it until now, so its files may be theirs.
    Reclaimed,
}

impl PrivateFolder<'_> {
    /// Creates the folder and its parents for this user alone. An existing folder must be private,
    /// or be the service's own: then it is made private again, because Kubernetes' fsGroup opens it
    /// to others at each start.
    ///
    /// # Errors
    ///
    /// If it cannot be created, or other users may write into it.
    pub(super) fn make(self) -> Result<FolderRepair, StateError> {
        let failed = |cause| StateError::Folder {
            action: "make",
            folder: self.folder.to_owned(),
            cause,
        };
        let existed = self.folder.exists();
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(self.folder).map_err(failed)?;
        if !is_open(self.folder).map_err(failed)? {
            return Ok(FolderRepair::Private);
        }
        let is_own = !existed || self.mark.is_none_or(|mark| self.folder.join(mark).exists());
        if !is_own || !is_reclaimable(self.folder).map_err(failed)? {
            return Err(StateError::Open {
                folder: self.folder.to_owned(),
                flag: self.flag,
            });
        }
        close(self.folder).map_err(failed)?;
        if is_open(self.folder).map_err(failed)? {
            return Err(StateError::NoPermissions {
                folder: self.folder.to_owned(),
                flag: self.flag,
            });
        }
        tracing::warn!(
            "others could write into {}: its permissions are for this user alone again",
            self.folder.display()
        );
        Ok(FolderRepair::Reclaimed)
    }
}

/// Returns true if other users than the owner may write into the folder.
#[cfg(unix)]
fn is_open(folder: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(folder.metadata()?.permissions().mode() & 0o022 != 0)
}

/// Returns true if this user owns the folder, and all users do not share it as they share `/tmp`.
#[cfg(unix)]
fn is_reclaimable(folder: &Path) -> io::Result<bool> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let about = folder.metadata()?;
    Ok(about.uid() == rustix::process::geteuid().as_raw()
        && about.permissions().mode() & 0o1000 == 0)
}

#[cfg(unix)]
fn close(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut permissions = folder.metadata()?.permissions();
    permissions.set_mode(permissions.mode() & !0o022);
    fs::set_permissions(folder, permissions)
}

#[cfg(not(unix))]
fn is_open(_: &Path) -> io::Result<bool> {
    Ok(false)
}

#[cfg(not(unix))]
fn is_reclaimable(_: &Path) -> io::Result<bool> {
    Ok(false)
}

#[cfg(not(unix))]
fn close(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn open(folder: &Path, mode: u32) {
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode(folder: &Path) -> u32 {
        folder.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn private_new_folder_closed_to_others() {
        let parent = tempfile::tempdir().unwrap();
        open(parent.path(), 0o2777);
        let folder = parent.path().join("a/b");
        let private = PrivateFolder {
            folder: &folder,
            flag: "--state",
            mark: Some("lock"),
        };
        assert_eq!(private.make().unwrap(), FolderRepair::Private);
        assert_eq!(mode(&folder) & 0o777, 0o700);
    }

    /// A folder that never belonged to the service stays as it is. The error has remedies that work
    /// on volumes of Kubernetes.
    #[test]
    fn private_foreign_open_folder_refused() {
        let folder = tempfile::tempdir().unwrap();
        for opened in [0o775, 0o777, 0o2770, 0o1777] {
            open(folder.path(), opened);
            let private = PrivateFolder {
                folder: folder.path(),
                flag: "--state",
                mark: Some("lock"),
            };
            let error = private.make().unwrap_err().to_string();
            let subfolder = format!("--state {}/rostro", folder.path().display());
            assert!(
                error.contains("chmod go-w")
                    && error.contains("fsGroup")
                    && error.ends_with(&subfolder),
                "{error}"
            );
            assert_eq!(mode(folder.path()), opened);
        }
    }

    /// Kubernetes opens a volume's folders to a group at each start of a pod.
    #[test]
    fn private_own_opened_folder_reclaimed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("lock"), "").unwrap();
        open(folder.path(), 0o2770);
        let private = PrivateFolder {
            folder: folder.path(),
            flag: "--state",
            mark: Some("lock"),
        };
        assert_eq!(private.make().unwrap(), FolderRepair::Reclaimed);
        assert_eq!(
            (mode(folder.path()) & 0o777, private.make().unwrap()),
            (0o750, FolderRepair::Private)
        );
        // A folder with the sticky bit, which all users share, stays as it is.
        open(folder.path(), 0o1777);
        private.make().unwrap_err();
        assert_eq!(mode(folder.path()), 0o1777);
    }
}
