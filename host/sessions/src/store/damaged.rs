//! Damaged journals: set aside in the folder `.damaged`, where a user may look at them.

use std::fs::{self, DirEntry};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rostro_common::fs::durable::sync_folder;
use rostro_common::ids::PersonId;

/// Name of the folder in that of the sessions.
const FOLDER: &str = ".damaged";

/// A journal that could not be read and was set aside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session {from} is damaged ({cause}) and was set aside as {to}", from = .from.display(), to = .to.display())]
pub struct DamagedJournal {
    /// Path before.
    pub from: PathBuf,
    /// Path now.
    pub to: PathBuf,
    /// Cause, without content of the file.
    pub cause: String,
}

/// Moves a journal into the folder, with a number after its name if that is taken.
pub(super) fn set_aside(sessions: &Path, path: &Path, cause: String) -> io::Result<DamagedJournal> {
    let folder = sessions.join(FOLDER);
    super::create_private_folder(&folder)?;
    let name = path.file_name().unwrap_or_default();
    let mut to = folder.join(name);
    let mut number = 0_u32;
    while to.symlink_metadata().is_ok() {
        number += 1;
        let mut numbered = name.to_owned();
        numbered.push(format!(".{number}"));
        to = folder.join(numbered);
    }
    fs::rename(path, &to)?;
    sync_folder(&folder)?;
    sync_folder(sessions)?;
    Ok(DamagedJournal {
        from: path.to_owned(),
        to,
        cause,
    })
}

/// Removes the files that contain a person's id, durably. Damaged lines cannot be removed one by
/// one.
pub(super) fn remove_mentioning(sessions: &Path, person: &PersonId) -> io::Result<()> {
    let id = person.as_str().as_bytes();
    remove_if(sessions, |entry| {
        let bytes = fs::read(entry.path())?;
        Ok(bytes.windows(id.len()).any(|window| window == id))
    })
}

/// Removes the files that were last changed before a time.
pub(super) fn remove_before(sessions: &Path, cutoff: Timestamp) -> io::Result<()> {
    remove_if(sessions, |entry| {
        let modified = entry.metadata()?.modified()?;
        Ok(Timestamp::try_from(modified).is_ok_and(|modified| modified < cutoff))
    })
}

/// Removes the files for which the function returns true.
fn remove_if(
    sessions: &Path,
    is_removed: impl Fn(&DirEntry) -> io::Result<bool>,
) -> io::Result<()> {
    let folder = sessions.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let mut is_changed = false;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() && is_removed(&entry)? {
            fs::remove_file(entry.path())?;
            is_changed = true;
        }
    }
    if is_changed {
        sync_folder(&folder)?;
    }
    Ok(())
}
