//! Templates in a file of the state folder, so that the next start need not make them again.
//!
//! The file is a cache. A template is found by the digest of the samples that it was made of, so
//! that the file never matters for a person with changed samples. It contains biometric data:
//! before a person's samples are replaced or deleted the whole file is removed, durably.
//!
//! Format, all numbers little-endian: [`MAGIC`], the key (32 bytes), the number of entries (u64),
//! the entries, and the SHA-256 digest of all that (32 bytes). An entry has the digest of the
//! samples (32 bytes), the number of templates and their length (u32 each), and the templates
//! (f32).

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use rostro_common::digest::Sha256Digest;
use rostro_common::fs::atomic::{AtomicFile, FileAccess};
use rostro_common::fs::durable::sync_folder;
use rostro_common::fs::room::check_room;

use crate::error::GalleryError;
use crate::store::SharedChange;

use super::KeptTemplates;

/// First bytes of the file, with the version of the format. A version that makes other templates of
/// the same samples must be another one, too.
const MAGIC: &[u8; 16] = b"rostro template1";

/// Name of the file in the state folder.
pub const TEMPLATES: &str = "templates";

/// Largest file, and so the largest memory of kept templates. A larger gallery makes its templates
/// at each start. The file of 100,000 people has 58 MB at 128 numbers a template.
const MAX_BYTES: usize = 64 << 20;

/// Largest number of templates of an entry, and their largest length.
const MAX_TEMPLATES: u32 = 64;
const MAX_LENGTH: u32 = 1 << 16;

/// Removes the kept templates of a state folder, which nothing else uses.
///
/// # Errors
///
/// If they cannot be removed.
pub fn remove_templates(state_folder: &Path) -> Result<(), GalleryError> {
    let file = TemplateFile::new(state_folder);
    file.remove().map_err(|cause| GalleryError::Templates {
        path: file.path().to_owned(),
        cause,
    })
}

/// The file, or the place for it.
#[derive(Debug)]
pub(crate) struct TemplateFile {
    path: PathBuf,
    /// False only if the file does not exist.
    may_exist: AtomicBool,
    /// Whether it was removed, and the removal may not survive a crash.
    is_unsynced: AtomicBool,
}

impl TemplateFile {
    pub(crate) fn new(state_folder: &Path) -> Self {
        Self {
            path: state_folder.join(TEMPLATES),
            may_exist: AtomicBool::new(true),
            is_unsynced: AtomicBool::new(false),
        }
    }

    /// Reads the templates of a key; none if the file has another key.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is damaged.
    pub(crate) fn read(&self, key: Sha256Digest) -> io::Result<KeptTemplates> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(no_templates());
            }
            Err(error) => return Err(error),
        };
        Reader {
            file: BufReader::with_capacity(1 << 20, file),
            hasher: Sha256::new(),
        }
        .read(key)
    }

    /// Replaces the file, or removes it if there are no templates.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or if its disk has too little room.
    pub(crate) fn write(&self, key: Sha256Digest, templates: &KeptTemplates) -> io::Result<()> {
        if templates.is_empty() {
            return self.remove();
        }
        check_room(self.folder(), "the templates", templates.bytes() as u64)?;
        self.may_exist.store(true, Ordering::Relaxed);
        let mut file = AtomicFile::create(&self.path, FileAccess::Owner)?;
        let mut writer = Writer {
            file: BufWriter::with_capacity(1 << 20, &mut file),
            hasher: Sha256::new(),
        };
        writer.write(key, templates)?;
        drop(writer);
        file.commit()
    }

    /// Removes the file durably.
    pub(crate) fn remove(&self) -> io::Result<()> {
        if !self.may_exist.load(Ordering::Relaxed) {
            return Ok(());
        }
        match fs::remove_file(&self.path) {
            Ok(()) => self.is_unsynced.store(true, Ordering::Relaxed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // Also after an earlier removal that could not be synced.
        if self.is_unsynced.load(Ordering::Relaxed) {
            sync_folder(self.folder())?;
            self.is_unsynced.store(false, Ordering::Relaxed);
        }
        self.may_exist.store(false, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }
}

/// Returns an empty set that fits into the file. The caller removes the file before a change, so that
/// no number is needed.
pub(crate) fn no_templates() -> KeptTemplates {
    KeptTemplates::new(MAX_BYTES, SharedChange::default())
}

/// Reader that computes the digest of what it read.
struct Reader<R> {
    file: R,
    hasher: Sha256,
}

impl<R: Read> Reader<R> {
    fn read(mut self, key: Sha256Digest) -> io::Result<KeptTemplates> {
        if self.bytes()? != *MAGIC {
            return Err(invalid("the file has another format"));
        }
        if self.bytes()? != key.0 {
            return Ok(no_templates());
        }
        let entries = u64::from_le_bytes(self.bytes()?);
        let mut templates = no_templates();
        for _ in 0..entries {
            let samples = Sha256Digest(self.bytes()?);
            let (count, length) = (self.number()?, self.number()?);
            if count > MAX_TEMPLATES || length > MAX_LENGTH {
                return Err(invalid("an entry is too large"));
            }
            let made = (0..count)
                .map(|_| self.template(length as usize))
                .collect::<io::Result<_>>()?;
            templates.insert(samples, made);
        }
        let expected: [u8; 32] = self.hasher.clone().finalize().into();
        if self.bytes()? != expected {
            return Err(invalid("the file is damaged"));
        }
        Ok(templates)
    }

    fn template(&mut self, length: usize) -> io::Result<Vec<f32>> {
        let mut bytes = vec![0; length * size_of::<f32>()];
        self.file.read_exact(&mut bytes)?;
        self.hasher.update(&bytes);
        let numbers = bytes.as_chunks().0.iter().copied().map(f32::from_le_bytes);
        Ok(numbers.collect())
    }

    fn number(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        self.hasher.update(bytes);
        Ok(bytes)
    }
}

/// Writer that computes the digest of what it wrote.
struct Writer<W> {
    file: W,
    hasher: Sha256,
}

impl<W: Write> Writer<W> {
    fn write(&mut self, key: Sha256Digest, templates: &KeptTemplates) -> io::Result<()> {
        self.bytes(MAGIC)?;
        self.bytes(&key.0)?;
        self.bytes(&(templates.len() as u64).to_le_bytes())?;
        for (samples, made) in templates.iter() {
            let length = made.first().map_or(0, Vec::len);
            self.bytes(&samples.0)?;
            self.bytes(&number(made.len())?.to_le_bytes())?;
            self.bytes(&number(length)?.to_le_bytes())?;
            for template in made {
                if template.len() != length {
                    return Err(invalid("templates of a person differ in length"));
                }
                let bytes: Vec<u8> = template.iter().flat_map(|n| n.to_le_bytes()).collect();
                self.bytes(&bytes)?;
            }
        }
        let digest: [u8; 32] = self.hasher.clone().finalize().into();
        self.bytes(&digest)?;
        self.file.flush()
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }
}

fn number(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(|_| invalid("an entry is too large"))
}

fn invalid(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use rostro_common::fs::durable::testing::failing_with;

    use super::*;

    fn key(text: &str) -> Sha256Digest {
        Sha256Digest::of(text.as_bytes())
    }

    fn templates() -> KeptTemplates {
        let mut templates = no_templates();
        for person in 0..10_u8 {
            let samples = KeptTemplates::digest(&[vec![f32::from(person); 4]]);
            templates.insert(
                samples,
                vec![vec![0.5, f32::from(person)]; 1 + person as usize],
            );
        }
        templates
    }

    #[test]
    fn templates_are_kept_under_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = TemplateFile::new(folder.path());
        assert_eq!(file.read(key("a")).unwrap(), no_templates());
        file.write(key("a"), &templates()).unwrap();
        assert_eq!(file.read(key("a")).unwrap(), templates());
        assert_eq!(file.read(key("b")).unwrap(), no_templates());
        file.remove().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        file.remove().unwrap();
        // Another process may have left one.
        file.write(key("b"), &templates()).unwrap();
        TemplateFile::new(folder.path()).remove().unwrap();
        assert_eq!(file.read(key("b")).unwrap(), no_templates());
    }

    /// A removal counts only once it is synced. Without a file there is nothing to sync.
    #[test]
    fn removal_is_synced() {
        let folder = tempfile::tempdir().unwrap();
        let remove_on_broken_disk = |file: &TemplateFile| failing_with(5, || file.remove());
        let file = TemplateFile::new(folder.path());
        remove_on_broken_disk(&file).unwrap();
        file.write(key("a"), &templates()).unwrap();
        for _ in 0..2 {
            remove_on_broken_disk(&file).unwrap_err();
            assert!(!file.path().exists());
        }
        file.remove().unwrap();
        remove_on_broken_disk(&file).unwrap();
    }

    /// Every change of a byte, and every cut, is an error or another key, and never other templates.
    #[test]
    fn damaged_file_keeps_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = TemplateFile::new(folder.path());
        file.write(key("a"), &templates()).unwrap();
        let whole = fs::read(file.path()).unwrap();
        for index in 0..whole.len() {
            let mut changed = whole.clone();
            changed[index] ^= 0x41;
            for bytes in [changed.as_slice(), &whole[..index]] {
                fs::write(file.path(), bytes).unwrap();
                let read = file.read(key("a")).unwrap_or_else(|_| no_templates());
                assert_eq!(read, no_templates(), "{index}");
            }
        }
    }

    /// Templates that are too many for the file are not kept, and the file of before is removed.
    #[test]
    fn too_many_templates_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let file = TemplateFile::new(folder.path());
        file.write(key("a"), &templates()).unwrap();
        let mut many = templates();
        for number in 0..70_u8 {
            many.insert(key(&number.to_string()), vec![vec![1.0; 1 << 18]]);
        }
        assert!(many.is_empty());
        file.write(key("a"), &many).unwrap();
        assert!(!file.path().exists());
    }
}
