//! Self-test folder: an operator's pictures, and expectations of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use rostro_common::fs::read_text;

/// File with the expectations of the pictures in its folder.
const EXPECTATIONS: &str = "expectations.toml";

/// Largest picture in bytes.
const LARGEST: u64 = 32 << 20;

/// Extensions of pictures.
const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Expectations of an operator's pictures, from `expectations.toml`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Expectations {
    /// Number of faces by picture.
    pub faces: BTreeMap<String, usize>,
    /// Pairs of pictures with one person as the largest face.
    pub same: Vec<[String; 2]>,
    /// Pairs of pictures with two people as the largest faces.
    pub different: Vec<[String; 2]>,
}

impl Expectations {
    /// Returns the names of the pictures that occur.
    fn pictures(&self) -> impl Iterator<Item = &String> {
        let pairs = self.same.iter().chain(&self.different).flatten();
        self.faces.keys().chain(pairs)
    }
}

/// Error of a self-test folder that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the self-test folder {folder}: {cause}", folder = folder.display())]
pub struct SelfTestFolderError {
    folder: PathBuf,
    cause: String,
}

/// Pictures in the order of their names, and the expectations of them.
pub(super) type Folder = (Vec<(String, Vec<u8>)>, Expectations);

/// Reads a self-test folder.
///
/// # Errors
///
/// If a file cannot be read, the folder has no picture, or the expectations name a missing one.
pub(super) fn read(folder: &Path) -> Result<Folder, SelfTestFolderError> {
    let failed = |cause: String| SelfTestFolderError {
        folder: folder.to_owned(),
        cause,
    };
    let mut pictures = Vec::new();
    let mut expectations = Expectations::default();
    for entry in fs::read_dir(folder).map_err(|error| failed(error.to_string()))? {
        let entry = entry.map_err(|error| failed(error.to_string()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let in_file = |error: &dyn std::fmt::Display| failed(format!("{name}: {error}"));
        if name == EXPECTATIONS {
            let text = read_text(&entry.path()).map_err(|error| in_file(&error))?;
            expectations = toml::from_str(&text).map_err(|error| in_file(&error))?;
        } else if is_picture(&name) {
            let size = entry.metadata().map_err(|error| in_file(&error))?.len();
            if size > LARGEST {
                return Err(failed(format!(
                    "{name} has {size} bytes; at most {LARGEST} are read"
                )));
            }
            let bytes = fs::read(entry.path()).map_err(|error| failed(error.to_string()))?;
            pictures.push((name, bytes));
        }
    }
    pictures.sort();
    let has_picture = |name: &String| pictures.iter().any(|(known, _)| known == name);
    if let Some(missing) = expectations.pictures().find(|name| !has_picture(name)) {
        return Err(failed(format!(
            "{EXPECTATIONS} names {missing}, which the folder does not contain"
        )));
    }
    if pictures.is_empty() {
        return Err(failed(
            "it contains no picture (*.jpg, *.png, *.webp)".to_owned(),
        ));
    }
    Ok((pictures, expectations))
}

/// Returns true if a file's name has the extension of a photo, and the file is not hidden.
pub fn is_picture(name: &str) -> bool {
    let extension = Path::new(name)
        .extension()
        .map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
        && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_requires_expected_pictures() {
        let folder = tempfile::tempdir().unwrap();
        let read = || read(folder.path()).map_err(|error| error.to_string());
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert!(read().unwrap_err().contains("no picture"));
        write("a.jpg", "a");
        assert_eq!(read().unwrap().0.len(), 1);
        write(EXPECTATIONS, "same = [['a.jpg', 'b.jpg']]");
        assert!(
            read()
                .unwrap_err()
                .contains("names b.jpg, which the folder does not contain")
        );
        write(EXPECTATIONS, "face = 1");
        assert!(read().unwrap_err().contains("unknown field `face`"));
    }
}
