//! Damaged files are quarantined; others stay.

use super::*;

/// Quarantines each problem. Returns the file names that moved, and those that stayed.
fn quarantine(gallery: &CsvGallery) -> [Vec<String>; 2] {
    let problems: Vec<Problem> = gallery
        .load(&Cores::single())
        .unwrap()
        .problems
        .into_iter()
        .map(|problem| gallery.quarantine(problem))
        .collect();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let moved = problems
        .iter()
        .filter_map(|problem| problem.quarantined.as_deref())
        .map(name)
        .collect();
    [
        moved,
        problems
            .iter()
            .filter(|problem| problem.quarantined.is_none())
            .map(|problem| name(&problem.path))
            .collect(),
    ]
}

/// Damaged files are quarantined once settled, and all other files stay.
#[test]
fn only_damaged_files_are_quarantined() {
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
    let kept = ["folder.csv", "link.csv", "no#id.csv", "others.csv"];
    assert_eq!(
        quarantine(&CsvGallery::open_unlocked(folder.path())),
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
    // A file stays at first, because it may still be being copied.
    assert_eq!(quarantine(&gallery)[0], [""; 0]);
    gallery.watched.settle_all();
    assert_eq!(
        quarantine(&gallery),
        [
            vec!["zeros.csv", "empty.csv", "half.csv", "zeros.csv"],
            kept.to_vec()
        ]
    );
    assert_eq!(
        quarantine(&gallery),
        [vec![], kept.to_vec()],
        "nothing is left to quarantine"
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
    assert_eq!(gallery.load(&Cores::single()).unwrap().people.len(), 1);
    // Deleting a person removes their files in quarantine, and no others.
    assert!(
        gallery.remove(&id("zeros")).unwrap().was_there
            && !gallery.remove(&id("zeros")).unwrap().was_there
    );
    let mut remaining: Vec<_> = fs::read_dir(folder.path().join(".damaged"))
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    remaining.sort();
    assert_eq!(remaining, [".contracts", "empty.csv", "half.csv"]);
    assert_eq!(
        fs::read_dir(folder.path().join(".damaged/.contracts/1111111111111111"))
            .unwrap()
            .count(),
        0
    );
}

/// An enrolment quarantines the damaged file that it replaces, and its own file is not quarantined
/// later.
#[test]
fn enrolment_quarantines_damaged_predecessor() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    let sample_of = |contract: &str| Sample {
        contract: Some(contract.parse().unwrap()),
        ..sample(1.0)
    };
    let [first, second] = ["1111111111111111", "2222222222222222"];
    gallery.replace(&id("s6"), &[sample_of(second)]).unwrap();
    gallery
        .put(&id("s6"), &[sample_of(first)], SampleLocation::Other)
        .unwrap();
    let path = folder.path().join("s6.csv");
    fs::write(&path, "damaged").unwrap();
    let problem = gallery.load(&Cores::single()).unwrap().problems.remove(0);
    gallery.watched.settle_all();
    // The person is enrolled again before the damaged file is quarantined.
    fs::write(
        folder
            .path()
            .join(OTHER_CONTRACTS)
            .join(first)
            .join("s6.csv"),
        "damaged, too",
    )
    .unwrap();
    gallery.replace(&id("s6"), &[sample_of(first)]).unwrap();
    assert!(gallery.quarantine(problem).quarantined.is_none());
    let contracts: Vec<_> = gallery.load(&Cores::single()).unwrap().people[0]
        .samples
        .iter()
        .map(|sample| sample.contract.clone())
        .collect();
    assert_eq!(contracts, [sample_of(first).contract]);
    let quarantined =
        |name: &str| fs::read_to_string(folder.path().join(".damaged").join(name)).unwrap();
    assert_eq!(
        [
            quarantined("s6.csv"),
            quarantined(&format!("{OTHER_CONTRACTS}/{first}/s6.csv"))
        ],
        ["damaged", "damaged, too"]
    );
    assert!(gallery.load(&Cores::single()).unwrap().problems.is_empty());
}

#[test]
fn damaged_file_is_quarantined_once_settled() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = CsvGallery::open(folder.path()).unwrap();
    gallery.load(&Cores::single()).unwrap();
    let path = folder.path().join("half.csv");
    fs::write(&path, "image_number,embedding\n1,0.5;").unwrap();
    let rescan = gallery.rescan().unwrap();
    assert!(rescan.people.is_empty() && rescan.problems.is_empty() && path.exists());
    assert_eq!(gallery.left_alone(), [("damaged", 1)].into());
    gallery.watched.settle_all();
    let problems = gallery.rescan().unwrap().problems;
    assert_eq!(
        problems[0].quarantined.as_deref(),
        Some(folder.path().join(".damaged/half.csv").as_path())
    );
    assert!(!path.exists() && gallery.left_alone().is_empty());
}

/// A cut-off file of two columns has a short embedding and no final line break.
#[test]
fn cut_row_is_damaged() {
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
    let loaded = gallery.load(&Cores::single()).unwrap();
    let people: Vec<&str> = loaded
        .people
        .iter()
        .map(|person| person.id.as_str())
        .collect();
    assert_eq!(people, ["another", "longer", "no end"]);
    assert_eq!(gallery.left_alone(), [("damaged", 2)].into());
    gallery.watched.settle_all();
    assert_eq!(quarantine(&gallery)[0], ["cut row.csv", "cut.csv"]);
    assert!(
        gallery
            .quarantined_files()
            .unwrap()
            .iter()
            .all(|file| file.target.is_none()),
        "they would be quarantined again"
    );
}
