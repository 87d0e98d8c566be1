//! Pictures on disk: one file, or the pictures of a folder.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rostro_common::text::sanitize;

use super::error::WatchError;

/// Extensions of pictures, in any case. The list has formats that the service cannot decode,
/// because its answer then names a remedy.
const EXTENSIONS: [&str; 24] = [
    "jpg", "jpeg", "jpe", "jfif", "jif", "jps", "mpo", "png", "apng", "webp", "bmp", "dib", "gif",
    "tif", "tiff", "heic", "heics", "heif", "hif", "avif", "avifs", "jxl", "jp2", "j2k",
];

/// Upper bound of names in a message.
const MAX_NAMES: usize = 5;

/// Returns the pictures of a folder in the order of their names, or the file itself.
pub(super) fn pictures(source: &Path) -> Result<Vec<PathBuf>, WatchError> {
    let unreadable = |cause| WatchError::Unreadable {
        source_name: source.display().to_string(),
        cause,
    };
    if !source.metadata().map_err(unreadable)?.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for entry in source.read_dir().map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if is_picture(&path) && path.is_file() {
            found.push(path)
        } else {
            others.push(path)
        }
    }
    found.sort();
    if found.is_empty() {
        Err(WatchError::Empty {
            folder: source.to_owned(),
            found: list_names(others),
        })
    } else {
        Ok(found)
    }
}

/// Returns true if a file has the extension of a picture.
fn is_picture(path: &Path) -> bool {
    has_extension(path, &EXTENSIONS)
}

/// Returns true if a file has one of these extensions, in any case.
pub(super) fn has_extension(path: &Path, known: &[&str]) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        known
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    })
}

/// Lists the content of a folder.
fn list_names(mut paths: Vec<PathBuf>) -> String {
    paths.sort();
    let name = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        sanitize(&if path.is_dir() {
            format!("{name}/")
        } else {
            name.into_owned()
        })
    };
    let names: Vec<String> = paths.iter().take(MAX_NAMES).map(name).collect();
    match paths.len().saturating_sub(names.len()) {
        _ if names.is_empty() => "it is empty".to_owned(),
        0 => format!("it has {}", names.join(", ")),
        more => format!("it has {} and {more} more", names.join(", ")),
    }
}

/// Reads a picture.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, WatchError> {
    let mut bytes = Vec::new();
    let unreadable = |cause: io::Error| WatchError::Unreadable {
        source_name: path.display().to_string(),
        cause,
    };
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(unreadable)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_found_by_extension() {
        for name in [
            "a.jpg", "A.JPEG", "a.jpe", "a.JfIf", "a.mpo", "a.heic", "a.HEIF", "a.avif", "a.jxl",
            "a.b.bmp", "a.dib", "a.TIFF",
        ] {
            assert!(is_picture(Path::new(name)), "{name}");
        }
        for name in ["jpg", ".jpg", "a.jpg.txt", "a.mp4", "a.", "a"] {
            assert!(!is_picture(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn listing_stays_short() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(list_names(Vec::new()), "it is empty");
        assert_eq!(
            list_names(paths(&["b.txt", "a.doc"])),
            "it has a.doc, b.txt"
        );
        assert_eq!(
            list_names(paths(&["1", "2", "3", "4", "5", "6", "7"])),
            "it has 1, 2, 3, 4, 5 and 2 more"
        );
    }
}
