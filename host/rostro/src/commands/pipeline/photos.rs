//! The pictures that a command is to look at.

use std::io;
use std::path::{Path, PathBuf};

use rostro_common::fs::read_at_most;
use rostro_sandbox::pipeline::self_test::is_picture;

/// The largest picture that is read, in bytes.
const LARGEST: usize = 64 << 20;

/// Why there are no pictures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImagesError {
    /// The folder cannot be read.
    #[error("cannot read {path}: {cause}", path = path.display())]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// There is none.
    #[error("there is no picture (*.jpg, *.png, *.webp) in {folder} or its folders", folder = folder.display())]
    None {
        /// The folder.
        folder: PathBuf,
    },
    /// One is too large.
    #[error("{path} has more than {LARGEST} bytes, which is the most that is read", path = path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
}

/// The pictures in a folder and in folders in it, in the order of their names; or the one that is
/// named.
///
/// # Errors
///
/// If the folder cannot be read, or has none.
pub(super) fn of(folder: &Path) -> Result<Vec<PathBuf>, ImagesError> {
    if folder.is_file() {
        return Ok(vec![folder.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let unreadable = |cause| ImagesError::Unreadable {
            path: next.clone(),
            cause,
        };
        for entry in next.read_dir().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            // A link may lead in a circle: what it points at is taken if it is a picture.
            match entry.file_type().map_err(unreadable)?.is_dir() {
                true => folders.push(entry.path()),
                false if is_photo(&entry.path()) => found.push(entry.path()),
                false => {}
            }
        }
    }
    found.sort();
    if found.is_empty() {
        Err(ImagesError::None {
            folder: folder.to_owned(),
        })
    } else {
        Ok(found)
    }
}

/// A picture's bytes.
///
/// # Errors
///
/// If it cannot be read, or is too large.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ImagesError> {
    let bytes = read_at_most(path, LARGEST).map_err(|cause| ImagesError::Unreadable {
        path: path.to_owned(),
        cause,
    })?;
    if bytes.len() > LARGEST {
        Err(ImagesError::TooLarge {
            path: path.to_owned(),
        })
    } else {
        Ok(bytes)
    }
}

fn is_photo(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| is_picture(&name.to_string_lossy()))
}
