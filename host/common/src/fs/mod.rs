//! Reading files that somebody else names.

pub mod atomic;
pub mod durable;
pub mod lock;

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Reads a regular file, of which at most one byte more than `most`: whoever gets that many knows
/// that it is too large. A device or a pipe is refused: it may have no end.
///
/// # Errors
///
/// If it cannot be read, or is no regular file.
pub fn read_at_most(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    // Asked before it is opened: opening a pipe waits for whoever writes into it.
    let about = path.metadata()?;
    if about.is_dir() {
        return Err(io::Error::new(
            ErrorKind::IsADirectory,
            "it is a folder, not a file",
        ));
    }
    if !about.is_file() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is no regular file",
        ));
    }
    let length = usize::try_from(about.len()).unwrap_or(usize::MAX).min(most);
    let mut bytes = Vec::with_capacity(length + 1);
    File::open(path)?
        .take(most as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The largest file that an operator writes by hand: configuration, keys, certificates.
const SMALL: usize = 1 << 20;

/// Reads such a file.
///
/// # Errors
///
/// If it cannot be read, is no regular file, or is far larger than anybody writes.
pub fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = read_at_most(path, SMALL)?;
    match bytes.len() > SMALL {
        true => Err(io::Error::new(
            ErrorKind::FileTooLarge,
            "it is larger than 1 MiB",
        )),
        false => Ok(bytes),
    }
}

/// Reads such a file as text, without the byte-order mark that some editors begin it with.
///
/// # Errors
///
/// If it cannot be read, or is not text in UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    let bytes = read_small(path)?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "it is text in UTF-16; save it as UTF-8",
        ));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not text in UTF-8"))?;
    Ok(without_mark(&text).to_owned())
}

/// Skips the byte-order mark that some editors begin a text with.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Skips the same mark in the bytes of a file.
pub fn bytes_without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes)
}

/// Device and inode of a file, which tell it from every other; none where the system has no such
/// numbers.
#[cfg(unix)]
pub fn identity(metadata: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;

    Some((metadata.dev(), metadata.ino()))
}

/// Device and inode of a file, which tell it from every other; none where the system has no such
/// numbers.
#[cfg(not(unix))]
pub(crate) fn identity(_: &Metadata) -> Option<(u64, u64)> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_mark_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let read = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            read_text(&file).map_err(|error| error.to_string())
        };
        assert_eq!(read("\u{feff}a\u{feff}".as_bytes()).unwrap(), "a\u{feff}");
        assert_eq!(
            (read(b"a").unwrap().as_str(), read(b"").unwrap().as_str()),
            ("a", "")
        );
        assert!(
            read(b"\xff\xfea\0")
                .unwrap_err()
                .contains("save it as UTF-8")
        );
        assert!(read(b"\xff").is_err());
    }

    #[test]
    fn no_more_is_read_than_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, [1; 10]).unwrap();
        assert_eq!(
            (
                read_at_most(&file, 10).unwrap().len(),
                read_at_most(&file, 4).unwrap().len()
            ),
            (10, 5)
        );
        assert_eq!(
            read_at_most(folder.path(), 4).unwrap_err().kind(),
            ErrorKind::IsADirectory
        );
        #[cfg(unix)]
        assert_eq!(
            read_at_most(Path::new("/dev/zero"), 4).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }
}
