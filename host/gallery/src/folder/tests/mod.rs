//! Writing, loading and removing people.

mod names;
mod quarantine;
mod rescan;

use super::*;
use crate::file_names::OTHER_CONTRACTS;
use crate::store::{Durability, SampleLocation};

pub(super) fn sample(value: f32) -> Sample {
    Sample {
        embedding: vec![value; 64],
        raw: None,
        contract: None,
        det_score: Some(0.9),
        enrolment: None,
    }
}

pub(super) fn id(text: &str) -> PersonId {
    text.parse().unwrap()
}

/// An invalid file is reported and stays, and the other files load.
#[test]
fn invalid_file_is_reported_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    gallery.replace(&id("bob"), &[sample(2.0)]).unwrap();
    gallery
        .replace(&id("alice"), &[sample(1.0), sample(1.5)])
        .unwrap();
    let bad = folder.path().join("eve.csv");
    fs::write(&bad, "not what it should be").unwrap();
    fs::write(folder.path().join("no#id.csv"), "").unwrap();
    fs::write(folder.path().join("notes.txt"), "not ours").unwrap();
    fs::write(folder.path().join(".unfinished-xyz"), "image_num").unwrap();
    fs::create_dir(folder.path().join("folder.csv")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link.csv")).unwrap();

    let loaded = gallery.load(&Cores::single()).unwrap();
    let people: Vec<(String, usize)> = loaded
        .people
        .iter()
        .map(|person| (person.id.to_string(), person.samples.len()))
        .collect();
    assert_eq!(people, [("alice".to_owned(), 2), ("bob".to_owned(), 1)]);
    let problems: Vec<String> = loaded
        .problems
        .iter()
        .map(|problem| {
            problem
                .path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert_eq!(problems, ["eve.csv", "folder.csv", "link.csv", "no#id.csv"]);
    assert_eq!(
        fs::read_to_string(&bad).unwrap(),
        "not what it should be",
        "another process may be the writer"
    );
    assert!(
        folder.path().join(".unfinished-xyz").exists(),
        "it may be a running write"
    );
    CsvGallery::open(folder.path()).unwrap();
    assert!(!folder.path().join(".unfinished-xyz").exists());
    assert!(folder.path().join("notes.txt").exists());
}

/// Samples without a contract belong to the first contract that was set.
#[test]
fn legacy_samples_get_first_contract() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    gallery.replace(&id("s6"), &[sample(1.0)]).unwrap();
    let (first, second): (ContractId, ContractId) = (
        "1111111111111111".parse().unwrap(),
        "2222222222222222".parse().unwrap(),
    );
    gallery.adopt_legacy(&first, None);
    gallery.adopt_legacy(&second, Some(64));
    let contracts = || -> Vec<Option<ContractId>> {
        gallery.load(&Cores::single()).unwrap().people[0]
            .samples
            .iter()
            .map(|sample| sample.contract.clone())
            .collect()
    };
    assert_eq!(contracts(), [Some(first.clone())]);
    // Samples of another contract are kept next to them.
    gallery
        .put(
            &id("s6"),
            &[Sample {
                contract: Some(second.clone()),
                ..sample(2.0)
            }],
            SampleLocation::Own,
        )
        .unwrap();
    assert_eq!(contracts(), [Some(second), Some(first)]);
}

/// Concurrent enrolments of one id leave the whole file of one of them.
#[test]
fn concurrent_replacements_leave_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    std::thread::scope(|scope| {
        for writer in 1..=4_u8 {
            let gallery = &gallery;
            scope.spawn(move || {
                for _ in 0..20 {
                    gallery
                        .replace(
                            &id("s6"),
                            &vec![sample(f32::from(writer)); usize::from(writer)],
                        )
                        .unwrap();
                }
            });
        }
    });
    let loaded = gallery.load(&Cores::single()).unwrap();
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let samples = &loaded.people[0].samples;
    // Each writer stores its number of rows with that number, so that a mixed file would show.
    assert_eq!(samples[0].embedding[0], samples.len() as f32);
    assert!(samples.iter().all(|sample| sample == &samples[0]));
    assert_eq!(
        folder.path().read_dir().unwrap().count(),
        1,
        "nothing unfinished is left"
    );
}

#[cfg(unix)]
#[test]
fn file_mode_follows_umask() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let (path, _) = CsvGallery::open(folder.path())
        .unwrap()
        .replace(&id("s6"), &[sample(1.0)])
        .unwrap();
    let ordinary = folder.path().join("ordinary");
    fs::write(&ordinary, "").unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&ordinary));
}

#[test]
fn impossible_folder_error_has_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = CsvGallery::open(&file.join("gallery"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("--gallery"), "{error}");
}

#[test]
fn failed_write_keeps_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    // A folder in place of the file makes the rename fail for every user, root included.
    fs::create_dir_all(folder.path().join("s6.csv/keep")).unwrap();
    let error = gallery.replace(&id("s6"), &[sample(1.0)]).unwrap_err();
    assert!(matches!(error, GalleryError::Write { .. }));
    let (message, gallery) = (error.to_string(), folder.path().to_str().unwrap());
    assert!(
        message.contains(gallery) && !message.replace(gallery, "").contains("s6"),
        "the log names the folder, not the person: {message}"
    );
    assert!(folder.path().join("s6.csv/keep").exists());
    assert_eq!(
        folder.path().read_dir().unwrap().count(),
        1,
        "nothing unfinished is left"
    );
}

#[test]
fn deletion_keeps_foreign_files() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    let foreign = folder.path().join("marks.csv");
    fs::write(&foreign, "name,marks\nalice,1\n").unwrap();
    fs::create_dir_all(folder.path().join("folder.csv")).unwrap();
    fs::create_dir_all(folder.path().join(".damaged/folder.csv")).unwrap();
    std::os::unix::fs::symlink(&foreign, folder.path().join("link.csv")).unwrap();
    for name in ["marks", "folder", "link"] {
        let removed = gallery.remove(&id(name)).unwrap();
        assert!(!removed.was_there, "{name}");
        assert_eq!(
            removed.left_alone[0].path,
            folder.path().join(format!("{name}.csv"))
        );
    }
    assert!(
        foreign.exists()
            && folder.path().join("folder.csv").exists()
            && folder.path().join("link.csv").exists()
    );
    // Enrolling a person in its place quarantines the file, and deleting them keeps it there.
    gallery.replace(&id("marks"), &[sample(1.0)]).unwrap();
    let removed = gallery.remove(&id("marks")).unwrap();
    let quarantined = folder.path().join(".damaged/marks.csv");
    assert!(removed.was_there && !foreign.exists() && quarantined.exists());
    assert_eq!(removed.left_alone[0].path, quarantined);
}

/// Writes a person's file, and returns its path.
fn file(folder: &Path, name: &str, header: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("{header}\n1,0.5;0.25\n")).unwrap();
    path
}

const HEADER: &str = "image_number,embedding";

#[test]
fn removal_checks_only_the_header() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    let large = format!("image_number,embedding\n{}", "x".repeat(5 << 20));
    for text in [
        "image_number:embedding\n1:2\n",
        "image_number;embedding\n1;01. Mai\n",
        "\u{feff}\"image_number\"\t\"embedding\"\n1\t1\n",
        "image_number,embedding;;;\nnonsense",
        "image_number,embedding\n1,nonsense\n",
        "image_num",
        &large,
    ] {
        for name in ["s6.csv", "s6.CSV"] {
            fs::write(folder.path().join(name), text).unwrap();
            let removed = gallery.remove(&id("s6")).unwrap();
            assert!(
                removed.was_there
                    && removed.left_alone.is_empty()
                    && !folder.path().join(name).exists(),
                "{name}: {text:.40}"
            );
        }
    }
}

#[test]
fn removal_without_sync_takes_effect() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    let sample_of = |contract: &str| Sample {
        contract: Some(contract.parse().unwrap()),
        ..sample(1.0)
    };
    let store = || {
        for contract in ["1111111111111111", "2222222222222222"] {
            gallery.replace(&id("s6"), &[sample_of(contract)]).unwrap();
        }
    };
    rostro_common::fs::durable::testing::failing_with(libc::EINVAL, || {
        store();
        let removed = gallery.remove(&id("s6")).unwrap();
        assert!(
            removed.was_there && matches!(removed.durability, Durability::Unsupported),
            "{removed:?}"
        );
    });
    store();
    rostro_common::fs::durable::testing::failing_with(libc::EIO, || {
        let removed = gallery.remove(&id("s6")).unwrap();
        assert!(
            removed.was_there && matches!(removed.durability, Durability::Failed(_)),
            "{removed:?}"
        );
    });
    assert!(gallery.read(&id("s6")).unwrap().is_none());
    store();
    assert!(gallery.remove(&id("s6")).unwrap().durability.is_synced());
}
