//! Quarantine of damaged files: the folder `.damaged`, where no enrolment overwrites them. A file
//! keeps its folder within the gallery.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rostro_common::fs::durable::sync_folder;
use rostro_common::ids::{ContractId, PersonId};

use crate::file_names::{self, OTHER_CONTRACTS};

/// Folder of the quarantine in the gallery's folder.
const FOLDER: &str = ".damaged";

/// Moves a file into the quarantine, with a number after its name if that is taken. Returns its new
/// path.
pub(crate) fn add(gallery: &Path, path: &Path) -> io::Result<PathBuf> {
    let from = path.parent().unwrap_or(gallery);
    let folder = gallery
        .join(FOLDER)
        .join(from.strip_prefix(gallery).unwrap_or(Path::new("")));
    fs::create_dir_all(&folder)?;
    let name = path.file_name().unwrap_or_default();
    let mut to = folder.join(name);
    let mut number = 0_u32;
    while is_taken(&to)? {
        number += 1;
        let mut numbered = name.to_owned();
        numbered.push(format!(".{number}"));
        to = folder.join(numbered);
    }
    fs::rename(path, &to)?;
    // If a folder cannot be synced, a crash may move the file back, and the next start finds it
    // there.
    let folders = folder
        .ancestors()
        .take_while(|folder| folder.starts_with(gallery));
    for folder in folders.chain([from]) {
        let _ = sync_folder(folder);
    }
    Ok(to)
}

/// Returns all files in the quarantine, sorted by path.
pub(crate) fn files(gallery: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = gallery.join(FOLDER);
    let mut files = files_in(&folder)?.0;
    for contract in files_in(&folder.join(OTHER_CONTRACTS))?.1 {
        files.extend(files_in(&contract)?.0);
    }
    files.sort();
    Ok(files)
}

/// Returns the files and the folders in a folder; none if it does not exist.
fn files_in(folder: &Path) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((Vec::new(), Vec::new()));
        }
        Err(error) => return Err(error),
    };
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path())
        } else {
            files.push(entry.path())
        }
    }
    Ok((files, folders))
}

/// Returns the contract of a quarantined file; none for a person's own file.
pub(crate) fn contract_of(path: &Path) -> Option<ContractId> {
    let folder = path.parent()?;
    let is_others = folder.parent()?.file_name()? == OTHER_CONTRACTS;
    folder
        .file_name()?
        .to_str()?
        .parse()
        .ok()
        .filter(|_| is_others)
}

/// Returns a person's files in the quarantine.
pub(crate) fn files_of(gallery: &Path, id: &PersonId) -> io::Result<Vec<PathBuf>> {
    Ok(files(gallery)?
        .into_iter()
        .filter(|path| belongs_to(path, id))
        .collect())
}

/// Returns true if a file is the person's, with or without a number after its name.
fn belongs_to(path: &Path, id: &PersonId) -> bool {
    let name = original_name(path);
    file_names::has_ending(&name) && file_names::id_of(&name).is_ok_and(|other| other == *id)
}

/// Returns the name that a file had before it was quarantined. It ended with `.csv`, so that a
/// number after that ending is not part of it.
pub(crate) fn original_name(path: &Path) -> PathBuf {
    let name = Path::new(path.file_name().unwrap_or_default());
    let number = name
        .extension()
        .and_then(|number| number.to_str())
        .filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    if number.is_some_and(|number| !number.is_empty()) {
        name.with_extension("")
    } else {
        name.to_owned()
    }
}

fn is_taken(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A quarantined file is never overwritten, and belongs to its person.
    #[test]
    fn quarantined_files_keep_their_person() {
        let gallery = tempfile::tempdir().unwrap();
        for (number, name) in ["s6.csv", "s6.csv", "s6.csv", "s6.csv.1.csv", "s60.csv"]
            .into_iter()
            .enumerate()
        {
            let path = gallery.path().join(name);
            fs::write(&path, number.to_string()).unwrap();
            assert_eq!(
                fs::read_to_string(add(gallery.path(), &path).unwrap()).unwrap(),
                number.to_string()
            );
            assert!(!path.exists());
        }
        let names_of = |id: &str| {
            let files = files_of(gallery.path(), &id.parse().unwrap()).unwrap();
            let mut names: Vec<String> = files
                .iter()
                .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names_of("s6"), ["s6.csv", "s6.csv.1", "s6.csv.2"]);
        assert_eq!(names_of("s6.csv.1"), ["s6.csv.1.csv"]);
        assert_eq!(names_of("s60"), ["s60.csv"]);
        assert!(names_of("s").is_empty());
        // A file from a contract's folder keeps that contract.
        let folder = gallery
            .path()
            .join(OTHER_CONTRACTS)
            .join("1111111111111111");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("s7.csv"), "").unwrap();
        let quarantined = add(gallery.path(), &folder.join("s7.csv")).unwrap();
        assert_eq!(
            contract_of(&quarantined),
            Some("1111111111111111".parse().unwrap())
        );
        assert_eq!(
            (
                names_of("s7").len(),
                contract_of(&gallery.path().join(FOLDER).join("s6.csv"))
            ),
            (1, None)
        );
    }
}
