//! Files that other programs write.

use super::*;

fn rescan_names(gallery: &CsvGallery) -> Vec<String> {
    gallery
        .rescan()
        .unwrap()
        .people
        .into_iter()
        .map(|id| id.to_string())
        .collect()
}

#[test]
fn copied_file_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    let half = folder.path().join("half.csv");
    fs::write(&half, "image_number,embedding\n1,0.5;").unwrap();
    file(folder.path(), "one of two.csv", HEADER);
    gallery.replace(&id("ours"), &[sample(1.0)]).unwrap();
    let loaded = gallery.load(&Cores::single()).unwrap();
    assert_eq!((loaded.people.len(), loaded.problems.len()), (2, 1));
    assert!(
        gallery
            .quarantine(loaded.problems.into_iter().next().unwrap())
            .is_recent
            && half.exists()
    );
    assert!(rescan_names(&gallery).is_empty());
    // Both files grow, and others appear.
    file(folder.path(), "half.csv", HEADER);
    fs::write(
        folder.path().join("one of two.csv"),
        "image_number,embedding\n1,0.5;0.25\n2,1;1\n",
    )
    .unwrap();
    file(folder.path(), "new.CSV", HEADER);
    fs::write(folder.path().join("marks.csv"), "name,marks\n").unwrap();
    assert_eq!(
        rescan_names(&gallery),
        ["new"],
        "a changing file is reported once it stops"
    );
    assert_eq!(rescan_names(&gallery), ["half", "one of two"]);
    assert_eq!(gallery.read(&id("one of two")).unwrap().unwrap().len(), 2);
    assert_eq!(gallery.left_alone(), [("header", 1)].into());
    // Writes and removals of this process are not reported. A file in place of a deleted person's
    // is.
    gallery.replace(&id("half"), &[sample(1.0)]).unwrap();
    gallery.replace(&id("other"), &[sample(1.0)]).unwrap();
    gallery.remove(&id("new")).unwrap();
    assert!(rescan_names(&gallery).is_empty());
    file(folder.path(), "new.CSV", HEADER);
    assert_eq!(rescan_names(&gallery), ["new"]);
}

/// A load for another view leaves the changes to the next rescan.
#[test]
fn later_load_keeps_changes() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    fs::write(
        folder.path().join("half.csv"),
        "image_number,embedding\n1,0.5;",
    )
    .unwrap();
    file(folder.path(), "known.csv", HEADER);
    gallery.load(&Cores::single()).unwrap();
    file(folder.path(), "half.csv", HEADER);
    file(folder.path(), "new.csv", HEADER);
    fs::write(
        folder.path().join("known.csv"),
        "image_number,embedding\n1,0.5;0.25\n2,1;1\n",
    )
    .unwrap();
    assert_eq!(gallery.load(&Cores::single()).unwrap().people.len(), 3);
    let mut changed = rescan_names(&gallery);
    gallery.load(&Cores::single()).unwrap();
    changed.extend(rescan_names(&gallery));
    assert_eq!(changed, ["new", "half", "known"]);
    assert!(rescan_names(&gallery).is_empty() && gallery.left_alone().is_empty());
}

/// A file of another contract may appear later, in a new folder or a known one.
#[test]
fn copied_contract_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    file(folder.path(), "alice.csv", HEADER);
    gallery.load(&Cores::single()).unwrap();
    let others = folder.path().join(OTHER_CONTRACTS).join("1111111111111111");
    fs::create_dir_all(&others).unwrap();
    file(&others, "alice.csv", HEADER);
    assert_eq!(rescan_names(&gallery), ["alice"]);
    file(&others, "bob.CSV", HEADER);
    assert_eq!(rescan_names(&gallery), ["bob"]);
    // Files that this process writes there are not reported.
    let sample_of = |contract: &str| Sample {
        contract: Some(contract.parse().unwrap()),
        ..sample(1.0)
    };
    gallery
        .replace(&id("carol"), &[sample_of("1111111111111111")])
        .unwrap();
    gallery
        .put(
            &id("carol"),
            &[sample_of("2222222222222222")],
            SampleLocation::Other,
        )
        .unwrap();
    assert!(rescan_names(&gallery).is_empty() && rescan_names(&gallery).is_empty());
}

/// A changed file of a known person is detected, and no sample is added to it before that.
#[test]
fn changed_file_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    let people = ["alice", "bob"];
    people
        .iter()
        .for_each(|name| drop(gallery.replace(&id(name), &[sample(1.0)]).unwrap()));
    assert!(!gallery.has_unseen(&id("alice")), "nothing was loaded");
    gallery.load(&Cores::single()).unwrap();
    gallery.watched.settle_all();
    gallery.replace(&id("bob"), &[sample(2.0)]).unwrap();
    assert!(
        rescan_names(&gallery).is_empty()
            && !people.iter().any(|name| gallery.has_unseen(&id(name)))
    );
    fs::rename(
        file(folder.path(), "copy", HEADER),
        folder.path().join("alice.csv"),
    )
    .unwrap();
    fs::write(
        folder.path().join("bob.csv"),
        "image_number,embedding\n1,0.5;0.25\n",
    )
    .unwrap();
    for _ in 0..2 {
        assert!(people.iter().all(|name| gallery.has_unseen(&id(name))));
        if rescan_names(&gallery) == people {
            break;
        }
    }
    assert!(!people.iter().any(|name| gallery.has_unseen(&id(name))));
}
