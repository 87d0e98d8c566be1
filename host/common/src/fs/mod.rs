//! Bounded reads of untrusted files, and the identity of files.

pub mod atomic;
pub mod durable;
pub mod lock;
pub mod room;

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Reads at most `max + 1` bytes of a regular file. A result longer than `max` shows that the file
/// is too large. A device or a pipe is refused, because it may have no end.
///
/// # Errors
///
/// If the file cannot be read or is not a regular file.
pub fn read_at_most(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    // Checked before the file is opened, because opening a pipe blocks until it has a writer.
    let metadata = path.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::new(
            ErrorKind::IsADirectory,
            "it is a folder, not a file",
        ));
    }
    if !metadata.is_file() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    let length = usize::try_from(metadata.len())
        .unwrap_or(usize::MAX)
        .min(max);
    let mut bytes = Vec::with_capacity(length + 1);
    File::open(path)?
        .take(max as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Maximum size of a small file: configuration, keys or certificates.
const SMALL: usize = 1 << 20;

/// Reads a file that an operator writes by hand.
///
/// # Errors
///
/// If the file cannot be read, is not a regular file, or is larger than 1 MiB.
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

/// Reads a [small file](read_small) as text, without the byte-order mark that some editors write.
///
/// # Errors
///
/// If the file cannot be read or is not text in UTF-8.
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

/// Returns a text without the byte-order mark that some editors write.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Returns the bytes of a text without the byte-order mark.
pub fn bytes_without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes)
}

/// Returns the device and the inode of a file, which identify it; `None` if the system has no such
/// numbers.
#[cfg(unix)]
pub fn identity(metadata: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;

    Some((metadata.dev(), metadata.ino()))
}

/// Returns `None`, because the system has no numbers that identify a file.
#[cfg(not(unix))]
pub fn identity(_: &Metadata) -> Option<(u64, u64)> {
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
    fn read_stops_after_limit() {
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
