//! What the folder keeps, what it sets aside, and what it leaves alone.

use super::contracts::OTHER_CONTRACTS;
use super::*;

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

#[test]
fn a_bad_file_is_reported_and_left_alone_and_the_rest_load() {
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

    let loaded = gallery.load().unwrap();
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
        "another process may be the one that writes here"
    );
    assert!(
        folder.path().join(".unfinished-xyz").exists(),
        "it may be a write under way"
    );
    CsvGallery::open(folder.path()).unwrap();
    assert!(!folder.path().join(".unfinished-xyz").exists());
    assert!(folder.path().join("notes.txt").exists());
}

/// Has the gallery set aside what it can; the file names of what it did, and of what it left alone.
fn set_aside(gallery: &CsvGallery) -> [Vec<String>; 2] {
    let problems: Vec<Problem> = gallery
        .load()
        .unwrap()
        .problems
        .into_iter()
        .map(|problem| gallery.set_aside(problem))
        .collect();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let moved = problems
        .iter()
        .filter_map(|problem| problem.aside.as_deref())
        .map(name)
        .collect();
    [
        moved,
        problems
            .iter()
            .filter(|problem| problem.aside.is_none())
            .map(|problem| name(&problem.path))
            .collect(),
    ]
}

#[test]
fn what_is_damaged_is_set_aside_and_all_else_stays_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    let whole = fs::read(gallery.replace(&id("alice"), &[sample(1.0)]).unwrap().0).unwrap();
    let other = folder.path().join(OTHER_CONTRACTS).join("1111111111111111");
    fs::create_dir_all(&other).unwrap();
    let half = &whole[..whole.len() / 2];
    let cases: [(&str, &[u8]); 7] = [
        ("half.csv", &half[..half.len() - 1]),
        ("empty.csv", b""),
        ("zeros.csv", &[0; 4096]),
        ("no#id.csv", b""),
        ("notes.txt", b""),
        ("others.csv", b"name,marks\nalice,1\n"),
        (".contracts/1111111111111111/zeros.csv", &[0; 512]),
    ];
    for (name, bytes) in cases {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    fs::create_dir(folder.path().join("folder.csv")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link.csv")).unwrap();
    let left = ["folder.csv", "link.csv", "no#id.csv", "others.csv"];
    assert_eq!(
        set_aside(&CsvGallery::beside(folder.path())),
        [
            vec![],
            vec![
                "zeros.csv",
                "empty.csv",
                "folder.csv",
                "half.csv",
                "link.csv",
                "no#id.csv",
                "others.csv",
                "zeros.csv"
            ]
        ]
    );
    // At first sight none is: it may be in the middle of being copied.
    assert_eq!(set_aside(&gallery)[0], [""; 0]);
    gallery.watched.age();
    assert_eq!(
        set_aside(&gallery),
        [
            vec!["zeros.csv", "empty.csv", "half.csv", "zeros.csv"],
            left.to_vec()
        ]
    );
    assert_eq!(
        set_aside(&gallery),
        [vec![], left.to_vec()],
        "the next start has nothing more to do"
    );
    assert_eq!(
        fs::read(folder.path().join(".damaged/zeros.csv")).unwrap(),
        [0; 4096]
    );
    assert_eq!(
        fs::read(
            folder
                .path()
                .join(".damaged/.contracts/1111111111111111/zeros.csv")
        )
        .unwrap(),
        [0; 512]
    );
    assert_eq!(gallery.load().unwrap().people.len(), 1);
    // Deleting somebody is the end of what was set aside of them, too, and of nothing else.
    assert!(
        gallery.remove(&id("zeros")).unwrap().was_there
            && !gallery.remove(&id("zeros")).unwrap().was_there
    );
    let mut there: Vec<_> = fs::read_dir(folder.path().join(".damaged"))
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    there.sort();
    assert_eq!(there, [".contracts", "empty.csv", "half.csv"]);
    assert_eq!(
        fs::read_dir(folder.path().join(".damaged/.contracts/1111111111111111"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn nobody_is_enrolled_over_what_is_damaged_and_nothing_whole_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    let of = |contract: &str| Sample {
        contract: Some(contract.parse().unwrap()),
        ..sample(1.0)
    };
    let [first, second] = ["1111111111111111", "2222222222222222"];
    gallery.replace(&id("s6"), &[of(second)]).unwrap();
    gallery
        .put(&id("s6"), &[of(first)], SampleLocation::Other)
        .unwrap();
    let path = folder.path().join("s6.csv");
    fs::write(&path, "damaged").unwrap();
    let problem = gallery.load().unwrap().problems.remove(0);
    gallery.watched.age();
    // Between being found and being set aside it is enrolled anew.
    fs::write(
        folder
            .path()
            .join(OTHER_CONTRACTS)
            .join(first)
            .join("s6.csv"),
        "damaged, too",
    )
    .unwrap();
    gallery.replace(&id("s6"), &[of(first)]).unwrap();
    assert!(gallery.set_aside(problem).aside.is_none());
    let contracts: Vec<_> = gallery.load().unwrap().people[0]
        .samples
        .iter()
        .map(|sample| sample.contract.clone())
        .collect();
    assert_eq!(contracts, [of(first).contract]);
    let aside = |name: &str| fs::read_to_string(folder.path().join(".damaged").join(name)).unwrap();
    assert_eq!(
        [
            aside("s6.csv"),
            aside(&format!("{OTHER_CONTRACTS}/{first}/s6.csv"))
        ],
        ["damaged", "damaged, too"]
    );
    assert!(gallery.load().unwrap().problems.is_empty());
}

#[test]
fn samples_that_state_no_contract_are_of_the_one_that_was_said_first() {
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
        gallery.load().unwrap().people[0]
            .samples
            .iter()
            .map(|sample| sample.contract.clone())
            .collect()
    };
    assert_eq!(contracts(), [Some(first.clone())]);
    // Where those of another are added, they are kept as what they are.
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

#[test]
fn two_enrolments_of_one_id_at_a_time_leave_one_whole_file() {
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
    let loaded = gallery.load().unwrap();
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let samples = &loaded.people[0].samples;
    // As many rows as the writer's number, each with that number: the file is one writer's whole.
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
fn who_may_read_a_file_is_for_the_umask_to_say() {
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
fn a_folder_that_cannot_be_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = CsvGallery::open(&file.join("gallery"))
        .unwrap_err()
        .to_string();
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
    assert!(
        told.contains(gallery) && !told.replace(gallery, "").contains("s6"),
        "the log names the folder, not the person: {told}"
    );
    assert!(folder.path().join("s6.csv/keep").exists());
    assert_eq!(
        folder.path().read_dir().unwrap().count(),
        1,
        "nothing unfinished is left"
    );
}

#[test]
fn deletion_leaves_what_is_not_the_persons() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    let others = folder.path().join("marks.csv");
    fs::write(&others, "name,marks\nalice,1\n").unwrap();
    fs::create_dir_all(folder.path().join("folder.csv")).unwrap();
    fs::create_dir_all(folder.path().join(".damaged/folder.csv")).unwrap();
    std::os::unix::fs::symlink(&others, folder.path().join("link.csv")).unwrap();
    for nobody in ["marks", "folder", "link"] {
        let removed = gallery.remove(&id(nobody)).unwrap();
        assert!(!removed.was_there, "{nobody}");
        assert_eq!(
            removed.left_alone[0].path,
            folder.path().join(format!("{nobody}.csv"))
        );
    }
    assert!(
        others.exists()
            && folder.path().join("folder.csv").exists()
            && folder.path().join("link.csv").exists()
    );
    // A person who is enrolled in its place has it set aside, and is deleted without it.
    gallery.replace(&id("marks"), &[sample(1.0)]).unwrap();
    let removed = gallery.remove(&id("marks")).unwrap();
    let aside = folder.path().join(".damaged/marks.csv");
    assert!(removed.was_there && !others.exists() && aside.exists());
    assert_eq!(removed.left_alone[0].path, aside);
}

/// Writes a file that a person's samples are in, and returns its path.
fn file(folder: &Path, name: &str, header: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("{header}\n1,0.5;0.25\n")).unwrap();
    path
}

const HEADER: &str = "image_number,embedding";

#[test]
fn old_names_of_any_script_load() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    for name in [
        "José Núñez.csv",
        "Anna Maria.csv",
        "李雷.csv",
        "BOB.CSV",
        "Rene\u{301}.csv",
        " eve .Csv",
    ] {
        file(folder.path(), name, HEADER);
    }
    fs::write(
        folder.path().join("excel.csv"),
        "\u{feff}image_number;embedding\r\n1;\"0,5;0,25\"\r\n",
    )
    .unwrap();
    let loaded = gallery.load().unwrap();
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let ids: Vec<&str> = loaded
        .people
        .iter()
        .map(|person| person.id.as_str())
        .collect();
    assert_eq!(
        ids,
        [
            "Anna Maria",
            "BOB",
            "José Núñez",
            "René",
            "eve",
            "excel",
            "李雷"
        ]
    );
    for person in &loaded.people {
        assert_eq!(
            gallery.read(&person.id).unwrap().unwrap()[0].embedding,
            [0.5, 0.25],
            "{}",
            person.id
        );
        assert!(
            gallery.remove(&person.id).unwrap().was_there,
            "{}",
            person.id
        );
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn unusual_name_is_canonical_once_written() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    let names = ["Rene\u{301}.csv", "BOB.CSV", " eve .csv"];
    let before: Vec<PathBuf> = names
        .iter()
        .map(|name| file(folder.path(), name, HEADER))
        .collect();
    let others = folder.path().join(OTHER_CONTRACTS).join("1111111111111111");
    fs::create_dir_all(&others).unwrap();
    file(&others, "BOB.CSV", HEADER);
    gallery.load().unwrap();
    for name in ["René", "BOB", "eve"] {
        gallery.replace(&id(name), &[sample(1.0)]).unwrap();
        assert!(folder.path().join(format!("{name}.csv")).exists());
        assert_eq!(
            gallery
                .read(&id(name))
                .unwrap()
                .unwrap()
                .iter()
                .filter(|stored| stored.embedding.len() == 64)
                .count(),
            1
        );
    }
    assert!(before.iter().all(|path| !path.exists()), "{before:?}");
    assert!(gallery.remove(&id("BOB")).unwrap().was_there && !others.join("BOB.CSV").exists());
}

#[test]
fn second_file_of_person_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    for name in [
        "bob.csv",
        "bob.CSV",
        "Bob.csv",
        "Jose\u{301}.csv",
        "José.csv",
    ] {
        file(folder.path(), name, HEADER);
    }
    let loaded = gallery.load().unwrap();
    // Those that differ in the case of the id are two people.
    assert_eq!(
        loaded
            .people
            .iter()
            .map(|person| person.id.as_str())
            .collect::<Vec<_>>(),
        ["Bob", "José", "bob"]
    );
    assert!(
        loaded
            .people
            .iter()
            .all(|person| person.path == folder.path().join(format!("{}.csv", person.id)))
    );
    let reasons: Vec<&str> = loaded
        .problems
        .iter()
        .map(|problem| problem.cause.reason())
        .collect();
    assert_eq!(reasons, ["duplicate", "duplicate"]);
    for name in ["bob", "José"] {
        gallery.remove(&id(name)).unwrap();
    }
    assert_eq!(gallery.load().unwrap().people.len(), 1);
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}

#[test]
fn removal_goes_by_the_header() {
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
fn removal_without_folder_sync_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    let of = |contract: &str| Sample {
        contract: Some(contract.parse().unwrap()),
        ..sample(1.0)
    };
    let store = || {
        for contract in ["1111111111111111", "2222222222222222"] {
            gallery.replace(&id("s6"), &[of(contract)]).unwrap();
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

fn look(gallery: &CsvGallery) -> Vec<String> {
    gallery
        .rescan()
        .unwrap()
        .people
        .into_iter()
        .map(|id| id.to_string())
        .collect()
}

#[test]
fn copied_file_is_taken_in() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    let half = folder.path().join("half.csv");
    fs::write(&half, "image_number,embedding\n1,0.5;").unwrap();
    file(folder.path(), "one of two.csv", HEADER);
    gallery.replace(&id("ours"), &[sample(1.0)]).unwrap();
    let loaded = gallery.load().unwrap();
    assert_eq!((loaded.people.len(), loaded.problems.len()), (2, 1));
    assert!(
        gallery
            .set_aside(loaded.problems.into_iter().next().unwrap())
            .is_recent
            && half.exists()
    );
    assert!(look(&gallery).is_empty());
    // Rows are added to both, and other files appear.
    file(folder.path(), "half.csv", HEADER);
    fs::write(
        folder.path().join("one of two.csv"),
        "image_number,embedding\n1,0.5;0.25\n2,1;1\n",
    )
    .unwrap();
    file(folder.path(), "new.CSV", HEADER);
    fs::write(folder.path().join("marks.csv"), "name,marks\n").unwrap();
    assert_eq!(
        look(&gallery),
        ["new"],
        "what is changing is taken in once it stops"
    );
    assert_eq!(look(&gallery), ["half", "one of two"]);
    assert_eq!(gallery.read(&id("one of two")).unwrap().unwrap().len(), 2);
    assert_eq!(gallery.left_alone(), [("header", 1)].into());
    // What this process writes or removes is not news; what comes in the place of somebody who was
    // deleted is.
    gallery.replace(&id("half"), &[sample(1.0)]).unwrap();
    gallery.replace(&id("other"), &[sample(1.0)]).unwrap();
    gallery.remove(&id("new")).unwrap();
    assert!(look(&gallery).is_empty());
    file(folder.path(), "new.CSV", HEADER);
    assert_eq!(look(&gallery), ["new"]);
}

#[test]
fn damaged_file_is_set_aside_later() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    gallery.load().unwrap();
    let path = folder.path().join("half.csv");
    fs::write(&path, "image_number,embedding\n1,0.5;").unwrap();
    let again = gallery.rescan().unwrap();
    assert!(again.people.is_empty() && again.problems.is_empty() && path.exists());
    assert_eq!(gallery.left_alone(), [("damaged", 1)].into());
    gallery.watched.age();
    let problems = gallery.rescan().unwrap().problems;
    assert_eq!(
        problems[0].aside.as_deref(),
        Some(folder.path().join(".damaged/half.csv").as_path())
    );
    assert!(!path.exists() && gallery.left_alone().is_empty());
}

/// A load for another view takes no news from those before it.
#[test]
fn later_load_keeps_news() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    fs::write(
        folder.path().join("half.csv"),
        "image_number,embedding\n1,0.5;",
    )
    .unwrap();
    file(folder.path(), "known.csv", HEADER);
    gallery.load().unwrap();
    file(folder.path(), "half.csv", HEADER);
    file(folder.path(), "new.csv", HEADER);
    fs::write(
        folder.path().join("known.csv"),
        "image_number,embedding\n1,0.5;0.25\n2,1;1\n",
    )
    .unwrap();
    assert_eq!(gallery.load().unwrap().people.len(), 3);
    let mut seen = look(&gallery);
    gallery.load().unwrap();
    seen.extend(look(&gallery));
    assert_eq!(seen, ["new", "half", "known"]);
    assert!(look(&gallery).is_empty() && gallery.left_alone().is_empty());
}

/// A file of another contract may come after the person's own, in a folder that is new or known.
#[test]
fn copied_contract_is_taken_in() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    file(folder.path(), "alice.csv", HEADER);
    gallery.load().unwrap();
    let others = folder.path().join(OTHER_CONTRACTS).join("1111111111111111");
    fs::create_dir_all(&others).unwrap();
    file(&others, "alice.csv", HEADER);
    assert_eq!(look(&gallery), ["alice"]);
    file(&others, "bob.CSV", HEADER);
    assert_eq!(look(&gallery), ["bob"]);
    // Files that this process writes there are not news.
    let of = |contract: &str| Sample {
        contract: Some(contract.parse().unwrap()),
        ..sample(1.0)
    };
    gallery
        .replace(&id("carol"), &[of("1111111111111111")])
        .unwrap();
    gallery
        .put(
            &id("carol"),
            &[of("2222222222222222")],
            SampleLocation::Other,
        )
        .unwrap();
    assert!(look(&gallery).is_empty() && look(&gallery).is_empty());
}

/// A known person's file that another program replaces or writes over is seen, before which nothing
/// is added to it.
#[test]
fn changed_file_is_taken_in() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    let people = ["alice", "bob"];
    people
        .iter()
        .for_each(|name| drop(gallery.replace(&id(name), &[sample(1.0)]).unwrap()));
    assert!(!gallery.has_unseen(&id("alice")), "nothing was loaded");
    gallery.load().unwrap();
    gallery.watched.age();
    gallery.replace(&id("bob"), &[sample(2.0)]).unwrap();
    assert!(look(&gallery).is_empty() && !people.iter().any(|name| gallery.has_unseen(&id(name))));
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
        if look(&gallery) == people {
            break;
        }
    }
    assert!(!people.iter().any(|name| gallery.has_unseen(&id(name))));
}

/// Of two columns, a file that ends within its first embedding is shorter than its contract's, and
/// has no end of its last line.
#[test]
fn cut_row_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    gallery.adopt_legacy(&"1111111111111111".parse().unwrap(), Some(3));
    for (name, text) in [
        ("cut.csv", "1,0.5;0.25"),
        ("cut row.csv", "1,0.5;0.25;1\n2,0.5;0.2"),
        ("another.csv", "1,0.5;0.25\n"),
        ("no end.csv", "1,0.5;0.25;1"),
        ("longer.csv", "1,0.5;0.25;1;1"),
    ] {
        fs::write(folder.path().join(name), format!("{HEADER}\n{text}")).unwrap();
    }
    let loaded = gallery.load().unwrap();
    let people: Vec<&str> = loaded
        .people
        .iter()
        .map(|person| person.id.as_str())
        .collect();
    assert_eq!(people, ["another", "longer", "no end"]);
    assert_eq!(gallery.left_alone(), [("damaged", 2)].into());
    gallery.watched.age();
    assert_eq!(set_aside(&gallery)[0], ["cut row.csv", "cut.csv"]);
    assert!(
        gallery
            .all_set_aside()
            .unwrap()
            .iter()
            .all(|file| file.place.is_none()),
        "they would be set aside again"
    );
}
