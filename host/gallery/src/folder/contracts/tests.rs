//! Samples of other contracts in force, after writes of any program and after crashes.

use super::*;
use crate::folder::tests::{id, sample};

const FIRST: &str = "1111111111111111";
const SECOND: &str = "2222222222222222";
const THIRD: &str = "3333333333333333";

fn sample_of(contract: &str, value: f32) -> Sample {
    Sample {
        contract: Some(contract.parse().unwrap()),
        ..sample(value)
    }
}

fn open_gallery() -> (tempfile::TempDir, CsvGallery) {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    (folder, gallery)
}

/// Returns contract and value of the person's samples in force, as loaded and read.
fn values(gallery: &CsvGallery) -> Vec<(String, f32)> {
    let expected = |samples: &[Sample]| -> Vec<(String, f32)> {
        samples
            .iter()
            .map(|sample| {
                (
                    sample.contract.as_ref().unwrap().to_string(),
                    sample.embedding[0],
                )
            })
            .collect()
    };
    let mut read = expected(&gallery.read(&id("s6")).unwrap().unwrap());
    let mut loaded = expected(&gallery.load(&Cores::single()).unwrap().people[0].samples);
    read.sort_by(|a, b| a.partial_cmp(b).unwrap());
    loaded.sort_by(|a, b| a.partial_cmp(b).unwrap());
    assert_eq!(read, loaded);
    loaded
}

fn expected(expected: &[(&str, f32)]) -> Vec<(String, f32)> {
    expected
        .iter()
        .map(|(contract, value)| ((*contract).to_owned(), *value))
        .collect()
}

/// Writes a file like a program without enrolment ids.
fn write_old(gallery: &CsvGallery, contract: Option<&str>, samples: &[Sample]) {
    let path = match contract {
        Some(contract) => gallery.contract_path(&contract.parse().unwrap(), &id("s6")),
        None => gallery.path_of(&id("s6")),
    };
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    csv_file::write(samples, fs::File::create(path).unwrap()).unwrap();
}

/// Returns a person with value 1 under the first contract, and 2 under the second.
fn enrolled_under_two() -> (tempfile::TempDir, CsvGallery) {
    let (folder, gallery) = open_gallery();
    gallery
        .replace(&id("s6"), &[sample_of(FIRST, 1.0)])
        .unwrap();
    gallery
        .put(&id("s6"), &[sample_of(SECOND, 2.0)], SampleLocation::Other)
        .unwrap();
    (folder, gallery)
}

#[test]
fn replacement_removes_other_contracts() {
    let (folder, gallery) = enrolled_under_two();
    assert_eq!(values(&gallery), expected(&[(FIRST, 1.0), (SECOND, 2.0)]));
    let (path, _) = gallery
        .replace(&id("s6"), &[sample_of(FIRST, 3.0)])
        .unwrap();
    assert_eq!(values(&gallery), expected(&[(FIRST, 3.0)]));
    assert!(
        !folder
            .path()
            .join(OTHER_CONTRACTS)
            .join(SECOND)
            .join("s6.csv")
            .exists()
    );
    gallery
        .put(&id("s6"), &[sample_of(SECOND, 4.0)], SampleLocation::Other)
        .unwrap();
    assert_eq!(values(&gallery), expected(&[(FIRST, 3.0), (SECOND, 4.0)]));
    // Other readers of the folder see one contract.
    assert!(
        csv_file::read(&path)
            .unwrap()
            .iter()
            .all(|sample| sample.contract == sample_of(FIRST, 0.0).contract)
    );
    assert!(gallery.remove(&id("s6")).unwrap().was_there);
    assert!(gallery.load(&Cores::single()).unwrap().people.is_empty());
}

#[test]
fn own_file_alone_has_no_enrolment() {
    let (_folder, gallery) = open_gallery();
    let (path, _) = gallery
        .replace(&id("s6"), &[sample_of(FIRST, 1.0)])
        .unwrap();
    assert_eq!(
        fs::read_to_string(path).unwrap().lines().next(),
        Some("image_number,embedding,contract,det_score")
    );
}

/// A crash right after the own file was written leaves the older file of the other contract.
#[test]
fn crash_during_replacement_keeps_nothing_older() {
    let (_folder, gallery) = enrolled_under_two();
    let other = gallery.contract_path(&SECOND.parse().unwrap(), &id("s6"));
    let older = fs::read(&other).unwrap();
    gallery
        .replace(&id("s6"), &[sample_of(FIRST, 3.0)])
        .unwrap();
    fs::write(&other, older).unwrap();
    assert_eq!(gallery.read(&id("s6")).unwrap().unwrap().len(), 1);
    assert_eq!(values(&gallery), expected(&[(FIRST, 3.0)]));
    assert!(!other.exists(), "a load removes the older file");
    assert_eq!(
        (
            gallery.trust_contracts().unwrap(),
            gallery.load(&Cores::single()).unwrap().unknown_age
        ),
        (0, 0)
    );
}

/// A replacement by a program without enrolments puts the other contracts out of force as well.
#[test]
fn foreign_replacement_disables_other_contracts() {
    let (_folder, gallery) = enrolled_under_two();
    write_old(&gallery, None, &[sample_of(FIRST, 3.0)]);
    assert_eq!(values(&gallery), expected(&[(FIRST, 3.0)]));
    assert_eq!(gallery.load(&Cores::single()).unwrap().unknown_age, 1);
}

#[test]
fn unknown_age_is_trusted_on_request() {
    let (folder, gallery) = open_gallery();
    write_old(&gallery, None, &[sample_of(FIRST, 1.0)]);
    write_old(&gallery, Some(SECOND), &[sample_of(SECOND, 2.0)]);
    write_old(&gallery, Some(THIRD), &[sample_of(THIRD, 3.0)]);
    assert_eq!(values(&gallery), expected(&[(FIRST, 1.0)]));
    assert_eq!(gallery.load(&Cores::single()).unwrap().unknown_age, 2);
    assert_eq!(
        CsvGallery::open(folder.path())
            .unwrap()
            .trust_contracts()
            .unwrap(),
        2
    );
    assert_eq!(
        values(&gallery),
        expected(&[(FIRST, 1.0), (SECOND, 2.0), (THIRD, 3.0)])
    );
    assert_eq!(
        (
            gallery.trust_contracts().unwrap(),
            gallery.load(&Cores::single()).unwrap().unknown_age
        ),
        (0, 0)
    );
    // A later replacement removes them.
    gallery
        .replace(&id("s6"), &[sample_of(SECOND, 4.0)])
        .unwrap();
    assert_eq!(values(&gallery), expected(&[(SECOND, 4.0)]));
}

/// A person without an own file is listed, and gets one on request.
#[test]
fn missing_own_file_is_trusted() {
    let (_folder, gallery) = open_gallery();
    write_old(&gallery, Some(SECOND), &[sample_of(SECOND, 2.0)]);
    let loaded = gallery.load(&Cores::single()).unwrap();
    assert_eq!(
        (
            loaded.people.len(),
            loaded.people[0].samples.len(),
            loaded.unknown_age
        ),
        (1, 0, 1)
    );
    assert_eq!(
        gallery.read(&id("s6")).unwrap(),
        Some(Vec::new()),
        "the person exists without samples in force"
    );
    assert_eq!(gallery.trust_contracts().unwrap(), 1);
    assert_eq!(values(&gallery), expected(&[(SECOND, 2.0)]));
    assert!(
        gallery.remove(&id("s6")).unwrap().was_there
            && gallery.load(&Cores::single()).unwrap().people.is_empty()
    );
}

#[test]
fn added_samples_remove_nothing() {
    let (_folder, gallery) = open_gallery();
    write_old(&gallery, None, &[sample_of(FIRST, 1.0)]);
    write_old(&gallery, Some(SECOND), &[sample_of(SECOND, 2.0)]);
    // A photo is added while the second contract is active, and embedded for the first.
    gallery
        .put(&id("s6"), &[sample_of(SECOND, 5.0)], SampleLocation::Own)
        .unwrap();
    assert_eq!(values(&gallery), expected(&[(FIRST, 1.0), (SECOND, 5.0)]));
    gallery
        .put(
            &id("s6"),
            &[sample_of(FIRST, 1.0), sample_of(FIRST, 6.0)],
            SampleLocation::Other,
        )
        .unwrap();
    assert_eq!(
        values(&gallery),
        expected(&[(FIRST, 1.0), (FIRST, 6.0), (SECOND, 5.0)])
    );

    // Rows of unknown age stay in their file, and out of force.
    let (_folder, gallery) = open_gallery();
    write_old(&gallery, None, &[sample_of(FIRST, 1.0)]);
    write_old(&gallery, Some(SECOND), &[sample_of(SECOND, 2.0)]);
    gallery
        .put(&id("s6"), &[sample_of(SECOND, 5.0)], SampleLocation::Other)
        .unwrap();
    assert_eq!(values(&gallery), expected(&[(FIRST, 1.0), (SECOND, 5.0)]));
    assert_eq!(gallery.trust_contracts().unwrap(), 1);
    assert_eq!(
        values(&gallery),
        expected(&[(FIRST, 1.0), (SECOND, 2.0), (SECOND, 5.0)])
    );
}

/// Several contracts with one enrolment are in force together.
#[test]
fn contracts_share_one_enrolment() {
    let (_folder, gallery) = open_gallery();
    let enrolment = EnrolmentId::unique();
    let marked = |contract, value| Sample {
        enrolment: Some(enrolment.clone()),
        ..sample_of(contract, value)
    };
    gallery
        .replace(
            &id("s6"),
            &[marked(FIRST, 1.0), marked(SECOND, 2.0), marked(THIRD, 3.0)],
        )
        .unwrap();
    assert_eq!(
        values(&gallery),
        expected(&[(FIRST, 1.0), (SECOND, 2.0), (THIRD, 3.0)])
    );
    // Imports the enrolment again, without the third contract.
    gallery
        .replace(&id("s6"), &[marked(SECOND, 2.0), marked(FIRST, 1.0)])
        .unwrap();
    assert_eq!(values(&gallery), expected(&[(FIRST, 1.0), (SECOND, 2.0)]));
    // Without an enrolment, only the first contract is in force.
    gallery
        .replace(&id("s6"), &[sample_of(FIRST, 4.0), sample_of(SECOND, 5.0)])
        .unwrap();
    assert_eq!(values(&gallery), expected(&[(FIRST, 4.0)]));
    assert_eq!(gallery.load(&Cores::single()).unwrap().unknown_age, 1);
}

#[test]
fn foreign_contract_files_are_ignored() {
    let (folder, gallery) = enrolled_under_two();
    let other = folder.path().join(OTHER_CONTRACTS);
    fs::write(other.join(THIRD), "a file, no folder").unwrap();
    fs::write(other.join(SECOND).join("backup.csv.bak"), "").unwrap();
    assert_eq!(gallery.load(&Cores::single()).unwrap().people.len(), 1);
}
