//! `rostro gallery check`: lists files that need an operator, and restores quarantined ones.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;

use rostro_common::cores::Cores;
use rostro_common::text::sanitize;
use rostro_gallery::{CsvGallery, GalleryError, Problem, QuarantinedFile, SampleFileError};

use crate::commands::gallery::GalleryCommandError;
use crate::config::cores;
use crate::terminal::say;

/// Arguments of `rostro gallery check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Move whole quarantined files back; no service may use the gallery
    #[arg(long)]
    restore: bool,
    /// Seconds to wait with --restore for the lock of the gallery
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=86_400))]
    wait_for_lock: u64,
}

/// Lists files that are damaged, left alone or quarantined, or restores the last.
///
/// # Errors
///
/// If the gallery cannot be read, or a file cannot be moved.
pub(crate) fn run(args: &CheckArgs, folder: &Path) -> Result<(), GalleryCommandError> {
    match args.restore {
        false => check(&CsvGallery::open_unlocked(folder), folder),
        true => restore(
            &CsvGallery::open_locked(
                folder,
                &(Instant::now() + Duration::from_secs(args.wait_for_lock)).into(),
            )?,
            folder,
        ),
    }
}

/// Lists files that need an operator. It only reads, so that a service may use the gallery.
fn check(gallery: &CsvGallery, folder: &Path) -> Result<(), GalleryCommandError> {
    let loaded = gallery.load(&Cores::new(cores()))?;
    let quarantined = gallery
        .quarantined_files()
        .map_err(GalleryError::folder("read", folder))?;
    say(&format!(
        "{}: {} people",
        sanitize(&folder.display().to_string()),
        loaded.people.len()
    ));
    let (damaged, left_alone): (Vec<&Problem>, Vec<&Problem>) = loaded
        .problems
        .iter()
        .partition(|problem| problem.cause.is_damaged());
    list(
        "damaged, quarantined by a running service once they are a minute old",
        &damaged,
        |problem| line(&problem.path, &problem.cause),
    );
    list("left alone", &left_alone, |problem| {
        line(&problem.path, &problem.cause)
    });
    list(
        "quarantined",
        &quarantined.iter().collect::<Vec<_>>(),
        quarantined_line,
    );
    Ok(())
}

fn restore(gallery: &CsvGallery, folder: &Path) -> Result<(), GalleryCommandError> {
    for file in gallery
        .quarantined_files()
        .map_err(GalleryError::folder("read", folder))?
    {
        let moved = gallery
            .restore(&file)
            .map_err(|cause| GalleryCommandError::Restore {
                path: file.path.clone(),
                cause,
            })?;
        if let Some(place) = file.target.as_deref().filter(|_| moved) {
            say(&sanitize(&format!(
                "restored {} from {}",
                place.display(),
                file.path.display()
            )));
        }
    }
    check(gallery, folder)
}

fn list<T>(title: &str, files: &[&T], line: impl Fn(&T) -> String) {
    if files.is_empty() {
        return;
    }
    say(&format!("\n{} {title}:", files.len()));
    for file in files {
        say(&format!("  {}", sanitize(&line(file))));
    }
}

fn line(path: &Path, cause: &SampleFileError) -> String {
    format!("{}: {cause}; {}", path.display(), remedy(cause))
}

/// Returns the remedy for a file.
fn remedy(cause: &SampleFileError) -> &'static str {
    match cause {
        SampleFileError::Name(_) => "rename it to an id, or move it out of the folder",
        SampleFileError::NotAFile => {
            "put the file itself in its place, or move it out of the folder"
        }
        SampleFileError::Io(_) => "let the service's user read it",
        SampleFileError::Header => "move it out of the folder if it belongs to no person",
        SampleFileError::Duplicate(_) => "the service uses one of them",
        SampleFileError::Csv(_)
        | SampleFileError::CutOff
        | SampleFileError::Row { .. }
        | SampleFileError::Empty
        | SampleFileError::TooLarge(_) => "restore it from a backup, or enrol the person again",
        SampleFileError::Separator(_)
        | SampleFileError::Spreadsheet { .. }
        | SampleFileError::Unusable(_) => "then restart the service",
    }
}

fn quarantined_line(file: &QuarantinedFile) -> String {
    let path = file.path.display();
    match (&file.person, &file.target) {
        (Err(cause), _) => {
            format!("{path}: {cause}; restore it from a backup, or enrol the person again")
        }
        (Ok((_, photos)), Some(_)) => {
            format!("{path}: whole, {photos} photos; move it back with --restore")
        }
        (Ok((_, photos)), None) => format!(
            "{path}: whole, {photos} photos; the person is stored, so remove it if it is not wanted"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn whole_files_are_restored() {
        let folder = tempfile::tempdir().unwrap();
        let aside = folder.path().join(".damaged");
        fs::create_dir(&aside).unwrap();
        let of =
            |contract: &str| format!("image_number,embedding,contract\n1,0.5;0.25,{contract}\n");
        let [first, second] = ["1111111111111111", "2222222222222222"];
        for (name, text) in [
            ("whole.csv", of(first)),
            ("whole.csv.1", of(first)),
            ("José.CSV.12", of(first)),
            ("half.csv", "image_number,embedding\n1,".to_owned()),
            ("there.csv", of(first)),
            ("notes.txt", "not ours".to_owned()),
        ] {
            fs::write(aside.join(name), text).unwrap();
        }
        fs::write(folder.path().join("there.csv"), of(second)).unwrap();
        let gallery = CsvGallery::open_locked(folder.path(), &Instant::now().into()).unwrap();
        check(&gallery, folder.path()).unwrap();
        assert!(matches!(
            CsvGallery::open_locked(folder.path(), &Instant::now().into()),
            Err(GalleryError::InUse { .. })
        ));
        restore(&gallery, folder.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(&aside)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        // A second file of one person has no place, nor has a file of a stored person.
        assert_eq!(left, ["half.csv", "notes.txt", "there.csv", "whole.csv.1"]);
        let people: Vec<String> = gallery
            .load(&Cores::single())
            .unwrap()
            .people
            .iter()
            .map(|person| format!("{}: {}", person.id, person.samples.len()))
            .collect();
        assert_eq!(people, ["José: 1", "there: 1", "whole: 1"]);
    }

    /// Each file returns to its own place; of two for one place, the last written one does.
    #[test]
    fn restored_files_keep_their_contract() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["1111111111111111", "2222222222222222"];
        let of = |contract: &str, number: &str| {
            format!("image_number,embedding,contract,enrolment\n1,{number};1,{contract},{first}\n")
        };
        let others = folder.path().join(".damaged/.contracts").join(second);
        fs::create_dir_all(&others).unwrap();
        // Earlier versions quarantined samples of another contract without the contract's folder.
        for (path, text, age) in [
            (
                folder.path().join(".damaged/desk7.csv"),
                of(second, "1"),
                100,
            ),
            (
                folder.path().join(".damaged/desk7.csv.1"),
                of(first, "2"),
                50,
            ),
            (others.join("desk7.csv"), of(second, "3"), 60),
        ] {
            fs::write(&path, text).unwrap();
            let time = std::time::SystemTime::now() - Duration::from_secs(age);
            fs::File::options()
                .append(true)
                .open(&path)
                .unwrap()
                .set_modified(time)
                .unwrap();
        }
        let gallery = CsvGallery::open_locked(folder.path(), &Instant::now().into()).unwrap();
        restore(&gallery, folder.path()).unwrap();
        let samples = gallery.read(&"desk7".parse().unwrap()).unwrap().unwrap();
        let values: Vec<f32> = samples.iter().map(|sample| sample.embedding[0]).collect();
        assert_eq!(values, [2.0, 3.0]);
        assert!(folder.path().join(".damaged/desk7.csv").exists());
    }
}
