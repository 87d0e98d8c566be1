//! Names of people's files.

use super::*;

#[test]
fn names_in_any_script_load() {
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
    let loaded = gallery.load(&Cores::single()).unwrap();
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

/// A write replaces a file of an irregular name by one of the canonical name.
#[test]
fn writing_makes_names_canonical() {
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
    gallery.load(&Cores::single()).unwrap();
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
fn second_file_stays_unused() {
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
    let loaded = gallery.load(&Cores::single()).unwrap();
    // Ids that differ in case are two people.
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
    assert_eq!(gallery.load(&Cores::single()).unwrap().people.len(), 1);
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}
