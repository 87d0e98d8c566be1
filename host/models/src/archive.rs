//! Reads a pack's zip archive, which is untrusted input.
//!
//! No entry is unpacked to a path of the archive's choice. Each model of the manifest is looked up
//! by name, at the top or in one folder, and read into memory up to its maximum size. Its SHA-256
//! decides, so an archive cannot smuggle in another file under the same name.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Seek};

use zip::ZipArchive;
use zip::result::ZipError;

use super::manifest::Manifest;
use super::model_file::{ModelFileError, read_verified};

/// Maximum number of entries in an archive. Published packs have fewer than ten.
const MAX_ENTRIES: usize = 1000;

/// Error of an archive that is refused.
#[derive(Debug, thiserror::Error)]
pub enum PackArchiveError {
    /// The archive is not a zip file, or is damaged.
    #[error("not a usable zip archive: {0}")]
    Zip(#[from] ZipError),
    /// The archive has more entries than any pack.
    #[error("{0} entries exceed the limit of {MAX_ENTRIES}")]
    Entries(usize),
    /// An entry's path would leave the folder that it is unpacked to.
    #[error("the entry {0:?} leads out of the archive")]
    Traversal(String),
    /// Two entries have the same file name, so that the choice would be ambiguous.
    #[error("the file {0:?} is in it twice")]
    Duplicate(String),
    /// An entry is a link or a device.
    #[error("the entry {0:?} is not a regular file")]
    NotAFile(String),
    /// A model is missing.
    #[error("the file {0} is not in it")]
    Missing(String),
    /// A model does not match the manifest.
    #[error(transparent)]
    File(#[from] ModelFileError),
}

/// Reads and verifies every model of `manifest`. Returns their bytes by file name.
pub(super) fn read_models(
    archive: impl Read + Seek,
    manifest: &Manifest,
) -> Result<BTreeMap<String, Vec<u8>>, PackArchiveError> {
    let mut archive = ZipArchive::new(archive)?;
    let entries = index_entries(&mut archive)?;
    let mut files = BTreeMap::new();
    for spec in manifest.models.values() {
        let index = entries
            .get(&spec.file)
            .ok_or_else(|| PackArchiveError::Missing(spec.file.clone()))?;
        files.insert(
            spec.file.clone(),
            read_verified(
                archive.by_index(*index)?,
                &spec.file,
                &spec.sha256,
                spec.max_size,
            )?,
        );
    }
    Ok(files)
}

/// Returns the index of each file by its name without the folder around it. Refuses the whole
/// archive if any entry is suspicious.
fn index_entries(
    archive: &mut ZipArchive<impl Read + Seek>,
) -> Result<BTreeMap<String, usize>, PackArchiveError> {
    if archive.len() > MAX_ENTRIES {
        return Err(PackArchiveError::Entries(archive.len()));
    }
    let mut entries = BTreeMap::new();
    let mut seen = HashSet::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        let name = entry.name()?.into_owned();
        let parts: Vec<&str> = name.split('/').collect();
        let is_safe =
            |part: &&str| !matches!(*part, "." | "..") && !part.contains(['\\', '\0', ':']);
        if name.starts_with('/') || !parts.iter().all(is_safe) {
            return Err(PackArchiveError::Traversal(name));
        }
        if entry.is_dir() {
            continue;
        }
        if !entry.is_file() || entry.is_symlink() {
            return Err(PackArchiveError::NotAFile(name));
        }
        if !seen.insert(name.to_lowercase()) {
            return Err(PackArchiveError::Duplicate(name));
        }
        // A pack's models are at the top or in one folder. Deeper entries are ignored.
        if let [file] | [_, file] = parts.as_slice()
            && entries.insert((*file).to_owned(), index).is_some()
        {
            return Err(PackArchiveError::Duplicate((*file).to_owned()));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use rostro_common::digest::Sha256Digest;

    const MODEL: &[u8] = b"weights of a model";

    fn manifest(max_size: usize) -> Manifest {
        let sha256 = Sha256Digest::of(MODEL);
        let text = format!(
            "name = 'p'\ndescription = ''\nlicense = ''\n[thresholds]\ndetection = 0.5\nsimilarity = 0.5\n\
             [models.detector]\nfile = 'a.onnx'\nsha256 = '{sha256}'\nmax_size = {max_size}\nmean = 0\nstd = 1"
        );
        Manifest::parse(&text).unwrap()
    }

    fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in entries {
            writer
                .start_file(*name, SimpleFileOptions::default())
                .unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn read_zip(bytes: Vec<u8>, max_size: usize) -> Result<Vec<u8>, String> {
        read_models(Cursor::new(bytes), &manifest(max_size))
            .map(|mut files| files.remove("a.onnx").unwrap())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn model_is_found_inside_folder() {
        for name in ["a.onnx", "pack/a.onnx"] {
            assert_eq!(
                read_zip(
                    zip(&[("pack/other.onnx", b"x"), (name, MODEL)]),
                    MODEL.len()
                )
                .unwrap(),
                MODEL
            );
        }
    }

    #[test]
    fn suspicious_entry_refuses_archive() {
        for (entry, wanted) in [
            ("../a.onnx", "leads out of the archive"),
            ("pack/../../a.onnx", "leads out of the archive"),
            ("/etc/a.onnx", "leads out of the archive"),
            ("pack\\a.onnx", "leads out of the archive"),
            ("pack/a.onnx", "is in it twice"),
            ("A.ONNX", "is in it twice"),
        ] {
            let error =
                read_zip(zip(&[("a.onnx", MODEL), (entry, MODEL)]), MODEL.len()).unwrap_err();
            assert!(error.contains(wanted), "{entry}: {error}");
        }
    }

    /// The zip reader keeps one of two entries with the same path. The digest decides if it is the
    /// right one.
    #[test]
    fn repeated_path_is_still_verified() {
        for (first, second) in [
            (MODEL, b"other weights".as_slice()),
            (b"other weights", MODEL),
        ] {
            let mut bytes = zip(&[("a.onnx", first), ("b.onnx", second)]);
            while let Some(at) = bytes.windows(6).position(|window| window == b"b.onnx") {
                bytes[at..at + 6].copy_from_slice(b"a.onnx");
            }
            match read_zip(bytes, 100) {
                Ok(model) => assert_eq!(model, MODEL),
                Err(error) => assert!(error.contains("a.onnx has the SHA-256"), "{error}"),
            }
        }
    }

    #[test]
    fn link_is_refused() {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        writer
            .add_symlink("a.onnx", "/etc/passwd", SimpleFileOptions::default())
            .unwrap();
        let error = read_zip(writer.finish().unwrap().into_inner(), 100).unwrap_err();
        assert!(error.contains("not a regular file"), "{error}");
    }

    #[test]
    fn zip_bomb_stops_at_max_size() {
        let bomb = zip(&[("a.onnx", &vec![0; 50 << 20])]);
        assert!(bomb.len() < 1 << 20, "the archive itself is small");
        assert_eq!(
            read_zip(bomb, 1000).unwrap_err(),
            "a.onnx has more than 1000 bytes"
        );
    }

    #[test]
    fn archive_must_match_manifest() {
        assert!(
            read_zip(zip(&[("a.onnx", b"other weights")]), 100)
                .unwrap_err()
                .contains("a.onnx has the SHA-256")
        );
        assert!(
            read_zip(zip(&[("b.onnx", MODEL)]), 100)
                .unwrap_err()
                .contains("a.onnx is not in it")
        );
        assert!(
            read_zip(b"no zip".to_vec(), 100)
                .unwrap_err()
                .contains("not a usable zip archive")
        );
        let whole = zip(&[("a.onnx", MODEL)]);
        assert!(read_zip(whole[..whole.len() / 2].to_vec(), 100).is_err());
    }
}
