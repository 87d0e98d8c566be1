//! File of an archive that is exported or imported: without a name, in the state folder, and
//! removed with its handle.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use rostro_common::fs::room::check_room;
use tempfile::{SpooledData, SpooledTempFile};

/// Size up to which an archive stays in memory, so that a small gallery can be exported with a full
/// or read-only disk.
const IN_MEMORY: usize = 4 << 20;

/// Number of bytes after which the free room is checked again.
const STEP: u64 = 4 << 20;

/// Folder of archives, and their size limit.
#[derive(Clone, Debug)]
pub struct ArchiveFolder {
    folder: PathBuf,
    limit: u64,
}

/// Archive file. Writes fail above the size limit, and if they would take the disk's reserve.
#[derive(Debug)]
pub struct ArchiveFile {
    file: SpooledTempFile,
    folder: ArchiveFolder,
    position: u64,
    length: u64,
    /// Length up to which the room was checked.
    checked: u64,
}

impl ArchiveFolder {
    /// Creates the settings for archives of up to `limit` bytes in a folder.
    pub fn new(folder: PathBuf, limit: u64) -> Self {
        Self { folder, limit }
    }

    /// Returns the size limit in bytes.
    pub fn most(&self) -> u64 {
        self.limit
    }

    /// Creates an empty archive.
    pub fn create(&self) -> ArchiveFile {
        let file = tempfile::spooled_tempfile_in(IN_MEMORY, &self.folder);
        ArchiveFile {
            file,
            folder: self.clone(),
            position: 0,
            length: 0,
            checked: IN_MEMORY as u64,
        }
    }
}

impl ArchiveFile {
    /// Returns the length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns the bytes in memory, or the file, positioned at the beginning.
    pub fn into_data(mut self) -> io::Result<SpooledData> {
        self.file.seek(SeekFrom::Start(0))?;
        Ok(self.file.into_inner())
    }
}

impl Write for ArchiveFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = self.position.saturating_add(bytes.len() as u64);
        if end > self.folder.limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("the archive has more than {} bytes", self.folder.limit),
            ));
        }
        if end > self.checked {
            // The bytes in memory move to the disk with the first ones that do not fit.
            let in_memory = if self.file.is_rolled() {
                0
            } else {
                self.length
            };
            let more = end - self.length.min(end) + STEP + in_memory;
            check_room(&self.folder.folder, "the archive", more)?;
            self.checked = end + STEP;
        }
        let written = self.file.write(bytes)?;
        self.position += written as u64;
        self.length = self.length.max(self.position);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Read for ArchiveFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for ArchiveFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = self.file.seek(to)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written bytes are read back, in memory and on the disk, and the folder stays empty.
    #[test]
    fn archive_file_has_no_name() {
        let folder = tempfile::tempdir().unwrap();
        for length in [10, IN_MEMORY + 10] {
            let mut file = ArchiveFolder::new(folder.path().to_owned(), 1 << 30).create();
            let bytes: Vec<u8> = (0..length).map(|number| (number % 251) as u8).collect();
            file.write_all(&bytes).unwrap();
            assert_eq!(file.length(), length as u64);
            file.rewind().unwrap();
            let mut read = Vec::new();
            file.read_to_end(&mut read).unwrap();
            assert!(read == bytes);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    /// The limit applies to the length, so that overwriting is allowed.
    #[test]
    fn archive_file_enforces_limit() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = ArchiveFolder::new(folder.path().to_owned(), 100).create();
        file.write_all(&[1; 100]).unwrap();
        file.rewind().unwrap();
        file.write_all(&[2; 100]).unwrap();
        assert_eq!(
            file.write_all(&[3]).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
        assert_eq!(file.length(), 100);
    }
}
