//! A folder with a CSV file for each person.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::csv_file::{self, FileError};
use super::{Gallery, GalleryError, Loaded, Problem, Stored};
use crate::person::{PersonId, Sample};

/// How the files of unfinished writes begin: with a dot, as no id does.
const UNFINISHED: &str = ".unfinished-";

/// A gallery in a folder: `<id>.csv` for each person.
#[derive(Debug)]
pub(crate) struct CsvGallery {
    folder: PathBuf,
}

impl CsvGallery {
    /// Opens the folder, making it if it is not there.
    ///
    /// # Errors
    ///
    /// If it cannot be made or written.
    pub(crate) fn open(folder: &Path) -> Result<Self, GalleryError> {
        fs::create_dir_all(folder).map_err(GalleryError::folder("make", folder))?;
        let this = Self { folder: folder.to_owned() };
        // Permissions say little (root, read-only mounts): trying does.
        this.unfinished().map_err(GalleryError::folder("write into", folder))?;
        Ok(this)
    }

    fn path_of(&self, id: &PersonId) -> PathBuf {
        self.folder.join(format!("{id}.csv"))
    }

    /// A new file in the folder, removed again unless it is given a name.
    fn unfinished(&self) -> io::Result<NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        // Cut by the umask, like any file's: others may have to read the gallery.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.prefix(UNFINISHED).tempfile_in(&self.folder)
    }

    /// Writes samples to `path` so that it is at any moment, crashes included, the old file or the new.
    fn write(&self, path: &Path, samples: &[Sample]) -> io::Result<()> {
        let mut file = self.unfinished()?;
        let mut text = Vec::new();
        csv_file::write(samples, &mut text)?;
        file.write_all(&text)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        // The rename is in the folder, which is durable only when it is synced itself. It has happened: a failure here is no failure to write.
        if let Err(error) = File::open(&self.folder).and_then(|folder| folder.sync_all()) {
            tracing::warn!(
                "a person was written, and may be the old one again after a crash: {} cannot be synced: {error}",
                self.folder.display()
            );
        }
        Ok(())
    }
}

impl Gallery for CsvGallery {
    fn load(&self) -> Result<Loaded, GalleryError> {
        let unreadable = || GalleryError::folder("read", &self.folder);
        let mut loaded = Loaded::default();
        for entry in fs::read_dir(&self.folder).map_err(unreadable())? {
            let path = entry.map_err(unreadable())?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(UNFINISHED) {
                // A write that a crash cut short; the person's own file is whole. Left to the next start if it cannot be removed.
                let _ = fs::remove_file(&path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "csv") {
                continue;
            }
            match person(&path) {
                Ok((id, samples)) => loaded.people.push(Stored { id, samples, path }),
                Err(cause) => loaded.problems.push(Problem { path, cause }),
            }
        }
        loaded.people.sort_by(|a, b| a.id.cmp(&b.id));
        loaded.problems.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(loaded)
    }

    fn replace(&self, id: &PersonId, samples: &[Sample]) -> Result<PathBuf, GalleryError> {
        let path = self.path_of(id);
        match self.write(&path, samples) {
            Ok(()) => Ok(path),
            Err(cause) => Err(GalleryError::Write { folder: self.folder.clone(), cause }),
        }
    }
}

fn person(path: &Path) -> Result<(PersonId, Vec<Sample>), FileError> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let id: PersonId = stem.parse().map_err(|error| FileError::Name(format!("{error}")))?;
    Ok((id, csv_file::read(path)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(value: f32) -> Sample {
        Sample { embedding: vec![value; 64], contract: None, det_score: Some(0.9) }
    }

    fn id(text: &str) -> PersonId {
        text.parse().unwrap()
    }

    #[test]
    fn a_bad_file_is_reported_and_left_alone_and_the_rest_load() {
        let folder = tempfile::tempdir().unwrap();
        let gallery = CsvGallery::open(folder.path()).unwrap();
        gallery.replace(&id("bob"), &[sample(2.0)]).unwrap();
        gallery.replace(&id("alice"), &[sample(1.0), sample(1.5)]).unwrap();
        let bad = folder.path().join("eve.csv");
        fs::write(&bad, "not what it should be").unwrap();
        fs::write(folder.path().join("no id.csv"), "").unwrap();
        fs::write(folder.path().join("notes.txt"), "not ours").unwrap();
        fs::write(folder.path().join(".unfinished-xyz"), "image_num").unwrap();
        fs::create_dir(folder.path().join("folder.csv")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link.csv")).unwrap();

        let loaded = gallery.load().unwrap();
        let people: Vec<(String, usize)> = loaded.people.iter().map(|person| (person.id.to_string(), person.samples.len())).collect();
        assert_eq!(people, [("alice".to_owned(), 2), ("bob".to_owned(), 1)]);
        let problems: Vec<String> =
            loaded.problems.iter().map(|problem| problem.path.file_name().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!(problems, ["eve.csv", "folder.csv", "link.csv", "no id.csv"]);
        assert_eq!(fs::read_to_string(&bad).unwrap(), "not what it should be");
        assert!(!folder.path().join(".unfinished-xyz").exists());
        assert!(folder.path().join("notes.txt").exists());
    }

    #[test]
    fn two_enrolments_of_one_id_at_a_time_leave_one_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let gallery = CsvGallery::open(folder.path()).unwrap();
        std::thread::scope(|scope| {
            for writer in 1..=4_u8 {
                let gallery = &gallery;
                scope.spawn(move || {
                    for _ in 0..20 {
                        gallery.replace(&id("s6"), &vec![sample(f32::from(writer)); usize::from(writer)]).unwrap();
                    }
                });
            }
        });
        let loaded = gallery.load().unwrap();
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
        let samples = &loaded.people[0].samples;
        // As many rows as the writer's number, each with that number: the file is one writer's whole.
        assert_eq!(samples[0].embedding[0], samples.len() as f32);
        assert!(samples.iter().all(|sample| sample == &samples[0]));
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "nothing unfinished is left");
    }

    #[cfg(unix)]
    #[test]
    fn who_may_read_a_file_is_for_the_umask_to_say() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let path = CsvGallery::open(folder.path()).unwrap().replace(&id("s6"), &[sample(1.0)]).unwrap();
        let ordinary = folder.path().join("ordinary");
        fs::write(&ordinary, "").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&ordinary));
    }

    #[test]
    fn a_folder_that_cannot_be_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = CsvGallery::open(&file.join("gallery")).unwrap_err().to_string();
        assert!(error.contains("--gallery"), "{error}");
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let gallery = CsvGallery::open(folder.path()).unwrap();
        // A folder where the file should be makes the rename fail for every user, root included.
        fs::create_dir_all(folder.path().join("s6.csv/keep")).unwrap();
        let error = gallery.replace(&id("s6"), &[sample(1.0)]).unwrap_err();
        assert!(matches!(error, GalleryError::Write { .. }));
        let (told, gallery) = (error.to_string(), folder.path().to_str().unwrap());
        assert!(told.contains(gallery) && !told.replace(gallery, "").contains("s6"), "the log names the folder, not the person: {told}");
        assert!(folder.path().join("s6.csv/keep").exists());
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "nothing unfinished is left");
    }
}
