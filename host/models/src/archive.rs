//! Reading a pack's zip archive, which may come from anywhere.
//!
//! Nothing is unpacked by the names in the archive: each model that the manifest names is looked
//! for, with or without one folder around it, and read into memory no further than its size.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Seek, SeekFrom};

use zip::ZipArchive;
use zip::result::ZipError;

use super::manifest::Manifest;
use super::pack::{ModelFileError, verified};

/// The most entries that an archive may list; published packs have under ten.
const MOST_ENTRIES: usize = 1000;

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum PackArchiveError {
    /// It is no zip, or a damaged one.
    #[error("not a usable zip archive: {0}")]
    Zip(#[from] ZipError),
    /// Far more entries than a pack has.
    #[error("{0} entries; at most {MOST_ENTRIES} are taken")]
    Entries(usize),
    /// A name that leads out of the folder that it would be unpacked to.
    #[error("the entry {0:?} leads out of the archive")]
    Traversal(String),
    /// Two files of one name: which is meant would be a matter of chance.
    #[error("the file {0:?} is in it twice")]
    Duplicate(String),
    /// Entries that have the same name.
    #[error("it lists {listed} entries of only {names} names")]
    Duplicates {
        /// Entries.
        listed: usize,
        /// Names.
        names: usize,
    },
    /// A link or device.
    #[error("the entry {0:?} is no regular file")]
    NotAFile(String),
    /// A model is not in it.
    #[error("the file {0} is not in it")]
    Missing(String),
    /// A model is not what it should be.
    #[error(transparent)]
    File(#[from] ModelFileError),
}

/// The bytes of every model of `manifest`, by file name.
pub(super) fn read(
    mut archive: impl Read + Seek,
    manifest: &Manifest,
) -> Result<BTreeMap<String, Vec<u8>>, PackArchiveError> {
    let listed = listed_entries(&mut archive).map_err(ZipError::from)?;
    let mut archive = ZipArchive::new(archive)?;
    // The reader keeps one entry of a name: what the archive lists twice is only told by the count.
    if listed.is_some_and(|listed| listed != archive.len()) {
        return Err(PackArchiveError::Duplicates {
            listed: listed.unwrap_or_default(),
            names: archive.len(),
        });
    }
    let entries = inspect(&mut archive)?;
    let mut files = BTreeMap::new();
    for spec in manifest.models.values() {
        let index = entries
            .get(&spec.file)
            .ok_or_else(|| PackArchiveError::Missing(spec.file.clone()))?;
        files.insert(
            spec.file.clone(),
            verified(archive.by_index(*index)?, spec)?,
        );
    }
    Ok(files)
}

/// Where each file is, by its name without the folder around it. Refuses an archive of which any
/// entry is suspicious.
fn inspect(
    archive: &mut ZipArchive<impl Read + Seek>,
) -> Result<BTreeMap<String, usize>, PackArchiveError> {
    if archive.len() > MOST_ENTRIES {
        return Err(PackArchiveError::Entries(archive.len()));
    }
    let mut entries = BTreeMap::new();
    let mut seen = HashSet::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        let name = entry.name()?.into_owned();
        let parts: Vec<&str> = name.split('/').collect();
        let harmless =
            |part: &&str| !matches!(*part, "." | "..") && !part.contains(['\\', '\0', ':']);
        if name.starts_with('/') || !parts.iter().all(harmless) {
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
        // A model lies at the top or in one folder; anything deeper is not ours.
        if let [file] | [_, file] = parts.as_slice()
            && entries.insert((*file).to_owned(), index).is_some()
        {
            return Err(PackArchiveError::Duplicate((*file).to_owned()));
        }
    }
    Ok(entries)
}

/// How many entries the archive's end record counts (APPNOTE 4.3.16), unless it says that the
/// number is elsewhere.
fn listed_entries(archive: &mut (impl Read + Seek)) -> std::io::Result<Option<usize>> {
    /// The record without its comment, and the longest comment.
    const LONGEST: u64 = 22 + 0xffff;
    let length = archive.seek(SeekFrom::End(0))?;
    archive.seek(SeekFrom::Start(length.saturating_sub(LONGEST)))?;
    let mut end = Vec::new();
    archive.take(LONGEST).read_to_end(&mut end)?;
    let record = end
        .windows(22)
        .rfind(|window| window.starts_with(b"PK\x05\x06"));
    let count =
        record.and_then(|record| Some(u16::from_le_bytes([*record.get(10)?, *record.get(11)?])));
    Ok(count.filter(|&count| count != u16::MAX).map(usize::from))
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
        read(Cursor::new(bytes), &manifest(max_size))
            .map(|mut files| files.remove("a.onnx").unwrap())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn models_are_found_with_and_without_a_folder_around_them() {
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
    fn suspicious_archives_are_refused_whatever_else_is_in_them() {
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

    #[test]
    fn one_name_listed_twice_is_refused() {
        let mut bytes = zip(&[("a.onnx", MODEL), ("b.onnx", b"other weights")]);
        while let Some(at) = bytes.windows(6).position(|window| window == b"b.onnx") {
            bytes[at..at + 6].copy_from_slice(b"a.onnx");
        }
        assert_eq!(
            read_zip(bytes, 100).unwrap_err(),
            "it lists 2 entries of only 1 names"
        );
    }

    #[test]
    fn a_link_is_refused() {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        writer
            .add_symlink("a.onnx", "/etc/passwd", SimpleFileOptions::default())
            .unwrap();
        let error = read_zip(writer.finish().unwrap().into_inner(), 100).unwrap_err();
        assert!(error.contains("no regular file"), "{error}");
    }

    #[test]
    fn a_file_that_unpacks_to_more_than_its_size_is_given_up_there() {
        let bomb = zip(&[("a.onnx", &vec![0; 50 << 20])]);
        assert!(bomb.len() < 1 << 20, "it is small until it is unpacked");
        assert_eq!(
            read_zip(bomb, 1000).unwrap_err(),
            "a.onnx has more than 1000 bytes"
        );
    }

    #[test]
    fn what_is_not_what_the_manifest_says_is_refused() {
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
