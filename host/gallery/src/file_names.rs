//! Names of people's files: `ID.csv`, with the ending in any case, and the id in any form of
//! Unicode.

use std::path::Path;

use rostro_common::ids::PersonId;

use crate::SampleFileError;

/// Folder in the gallery that holds a folder of samples for each other contract.
pub(crate) const OTHER_CONTRACTS: &str = ".contracts";

/// Ending of a person's file, in any case.
const ENDING: &str = "csv";

/// Returns true if a path has the ending of a person's file.
pub(crate) fn has_ending(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case(ENDING))
}

/// Returns the id in a file's name.
pub(super) fn id_of(path: &Path) -> Result<PersonId, SampleFileError> {
    let stem = path.file_stem().unwrap_or_default().to_str();
    let stem = stem.ok_or_else(|| SampleFileError::Name("it is not UTF-8".to_owned()))?;
    stem.parse()
        .map_err(|error| SampleFileError::Name(format!("{error}")))
}

/// Returns the name of the file that this program writes for a person.
pub(super) fn canonical(id: &PersonId) -> String {
    format!("{id}.{ENDING}")
}

/// Returns the names that other programs may give a person's file, the canonical one first.
pub(super) fn spellings(id: &PersonId) -> Vec<String> {
    let mut stems = vec![id.as_str().to_owned()];
    let decomposed = id.decomposed();
    if decomposed != id.as_str() {
        stems.push(decomposed);
    }
    stems
        .iter()
        .flat_map(|stem| endings().map(move |ending| format!("{stem}.{ending}")))
        .collect()
}

/// Returns the ending in every case, lower case first.
fn endings() -> impl Iterator<Item = String> {
    let in_case = |cases: u32| {
        let letter = move |(at, letter): (usize, char)| {
            if cases >> at & 1 == 1 {
                letter.to_ascii_uppercase()
            } else {
                letter
            }
        };
        ENDING.chars().enumerate().map(letter).collect()
    };
    (0..1 << ENDING.len()).map(in_case)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_read_as_their_id() {
        let id: PersonId = "José".parse().unwrap();
        let names = spellings(&id);
        assert_eq!((names.len(), names[0].as_str()), (16, "José.csv"));
        assert!(names.iter().any(|name| name == "Jose\u{301}.CSV"));
        for name in &names {
            assert!(has_ending(Path::new(name)), "{name}");
            assert_eq!(id_of(Path::new(name)).unwrap(), id);
        }
        assert_eq!(spellings(&"s6".parse().unwrap()).len(), 8);
    }

    #[cfg(unix)]
    #[test]
    fn latin1_name_is_refused() {
        use std::os::unix::ffi::OsStrExt;

        let name = Path::new(std::ffi::OsStr::from_bytes(b"Jos\xe9.csv"));
        assert!(
            id_of(name)
                .unwrap_err()
                .to_string()
                .contains("it is not UTF-8")
        );
    }
}
