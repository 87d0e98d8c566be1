//! Files of models, verified while they are read.

use std::io::{self, Read};

use rostro_common::digest::Sha256Digest;

/// Error of a model's file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelFileError {
    /// The file cannot be read.
    #[error("cannot read {file}: {cause}")]
    Unreadable {
        /// Name of the file.
        file: String,
        /// Error of the operating system.
        cause: io::Error,
    },
    /// The file is larger than the manifest allows.
    #[error("{file} has more than {max_size} bytes")]
    TooLarge {
        /// Name of the file.
        file: String,
        /// Maximum size in bytes.
        max_size: u64,
    },
    /// The file has another digest than the manifest.
    #[error("{file} has the SHA-256 {actual}, not {expected}")]
    Digest {
        /// Name of the file.
        file: String,
        /// Digest of the file.
        actual: Sha256Digest,
        /// Digest in the manifest.
        expected: String,
    },
}

/// Reads a model up to its maximum size in bytes and verifies its SHA-256 digest. `file` names it in
/// errors.
pub(super) fn read_verified(
    from: impl Read,
    file: &str,
    sha256: &str,
    max_size: u64,
) -> Result<Vec<u8>, ModelFileError> {
    let mut bytes = Vec::new();
    from.take(max_size.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|cause| ModelFileError::Unreadable {
            file: file.to_owned(),
            cause,
        })?;
    if bytes.len() as u64 > max_size {
        return Err(ModelFileError::TooLarge {
            file: file.to_owned(),
            max_size,
        });
    }
    let actual = Sha256Digest::of(&bytes);
    if actual.to_string() != sha256 {
        return Err(ModelFileError::Digest {
            file: file.to_owned(),
            actual,
            expected: sha256.to_owned(),
        });
    }
    Ok(bytes)
}
