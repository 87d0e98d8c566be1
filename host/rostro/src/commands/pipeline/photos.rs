//! Photos on which a command runs a pipeline.

use std::io;
use std::path::{Path, PathBuf};

use rostro_common::fs::read_at_most;
use rostro_sandbox::pipeline::self_test::is_picture;

/// Largest photo in bytes.
const MAX_BYTES: usize = 64 << 20;

/// Error of reading photos.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PhotosError {
    /// The folder cannot be read.
    #[error("cannot read {path}: {cause}", path = path.display())]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// The folder has no photos.
    #[error("there is no picture (*.jpg, *.png, *.webp) in {folder} or its folders", folder = folder.display())]
    None {
        /// The folder.
        folder: PathBuf,
    },
    /// A photo is too large.
    #[error("cannot read {path}: it has more than {MAX_BYTES} bytes", path = path.display())]
    TooLarge {
        /// The photo.
        path: PathBuf,
    },
}

/// Finds the photos in a folder at any depth, in the order of their names. The path of a photo
/// finds itself.
///
/// # Errors
///
/// If the folder cannot be read, or has no photos.
pub(super) fn find(folder: &Path) -> Result<Vec<PathBuf>, PhotosError> {
    if folder.is_file() {
        return Ok(vec![folder.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let unreadable = |cause| PhotosError::Unreadable {
            path: next.clone(),
            cause,
        };
        for entry in next.read_dir().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            // A link to a folder is not followed, because it may lead in a circle.
            match entry.file_type().map_err(unreadable)?.is_dir() {
                true => folders.push(entry.path()),
                false if is_photo(&entry.path()) => found.push(entry.path()),
                false => {}
            }
        }
    }
    found.sort();
    if found.is_empty() {
        Err(PhotosError::None {
            folder: folder.to_owned(),
        })
    } else {
        Ok(found)
    }
}

/// Reads a photo.
///
/// # Errors
///
/// If it cannot be read, or is too large.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, PhotosError> {
    let bytes = read_at_most(path, MAX_BYTES).map_err(|cause| PhotosError::Unreadable {
        path: path.to_owned(),
        cause,
    })?;
    if bytes.len() > MAX_BYTES {
        Err(PhotosError::TooLarge {
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
