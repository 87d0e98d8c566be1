//! Damaged files, set aside where no enrolment overwrites them: in `.damaged`, in the same folder
//! below it as they were in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rostro_common::fs::durable::sync_folder;
use rostro_common::ids::{ContractId, PersonId};

use super::folder::OTHER_CONTRACTS;
use super::names;

/// Where they are, in the gallery's folder.
const FOLDER: &str = ".damaged";

/// Moves a file there under the name that it has, with a number after it where that is taken.
/// Answers where it is now.
pub(super) fn set_aside(gallery: &Path, path: &Path) -> io::Result<PathBuf> {
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
    // Where a folder cannot be synced, a crash may bring the file back to where it was, and the
    // next start finds it there.
    let made = folder
        .ancestors()
        .take_while(|folder| folder.starts_with(gallery));
    for folder in made.chain([from]) {
        let _ = sync_folder(folder);
    }
    Ok(to)
}

/// All files there, by their paths.
pub(super) fn all(gallery: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = gallery.join(FOLDER);
    let mut files = files_in(&folder)?.0;
    for contract in files_in(&folder.join(OTHER_CONTRACTS))?.1 {
        files.extend(files_in(&contract)?.0);
    }
    files.sort();
    Ok(files)
}

/// The files and the folders in a folder; nothing if it does not exist.
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

/// The contract whose folder a file was set aside from; none for a person's own file.
pub(super) fn contract_of(path: &Path) -> Option<ContractId> {
    let folder = path.parent()?;
    let is_others = folder.parent()?.file_name()? == OTHER_CONTRACTS;
    folder
        .file_name()?
        .to_str()?
        .parse()
        .ok()
        .filter(|_| is_others)
}

/// A person's files there.
pub(super) fn files_of(gallery: &Path, id: &PersonId) -> io::Result<Vec<PathBuf>> {
    Ok(all(gallery)?
        .into_iter()
        .filter(|path| is_of(path, id))
        .collect())
}

/// Returns true if a file is the person's, with or without a number after its name.
fn is_of(path: &Path, id: &PersonId) -> bool {
    let name = original(path);
    names::has_ending(&name) && names::id_of(&name).is_ok_and(|other| other == *id)
}

/// The name that a file had before it was set aside. It ended with `.csv`, so that a number after
/// that is no part of it.
pub(super) fn original(path: &Path) -> PathBuf {
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

    #[test]
    fn what_was_set_aside_is_never_overwritten_and_is_its_persons() {
        let gallery = tempfile::tempdir().unwrap();
        for (number, name) in ["s6.csv", "s6.csv", "s6.csv", "s6.csv.1.csv", "s60.csv"]
            .into_iter()
            .enumerate()
        {
            let path = gallery.path().join(name);
            fs::write(&path, number.to_string()).unwrap();
            assert_eq!(
                fs::read_to_string(set_aside(gallery.path(), &path).unwrap()).unwrap(),
                number.to_string()
            );
            assert!(!path.exists());
        }
        let of = |id: &str| {
            let files = files_of(gallery.path(), &id.parse().unwrap()).unwrap();
            let mut names: Vec<String> = files
                .iter()
                .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
                .collect();
            names.sort();
            names
        };
        assert_eq!(of("s6"), ["s6.csv", "s6.csv.1", "s6.csv.2"]);
        assert_eq!(of("s6.csv.1"), ["s6.csv.1.csv"]);
        assert_eq!(of("s60"), ["s60.csv"]);
        assert!(of("s").is_empty());
        // A file of a contract's folder is told from the person's own.
        let folder = gallery
            .path()
            .join(OTHER_CONTRACTS)
            .join("1111111111111111");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("s7.csv"), "").unwrap();
        let aside = set_aside(gallery.path(), &folder.join("s7.csv")).unwrap();
        assert_eq!(
            contract_of(&aside),
            Some("1111111111111111".parse().unwrap())
        );
        assert_eq!(
            (
                of("s7").len(),
                contract_of(&gallery.path().join(FOLDER).join("s6.csv"))
            ),
            (1, None)
        );
    }
}
