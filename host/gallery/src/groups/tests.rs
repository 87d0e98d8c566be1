use super::*;

fn id(text: &str) -> PersonId {
    text.parse().unwrap()
}

fn group(text: &str) -> GroupId {
    text.parse().unwrap()
}

#[test]
fn groups_survive_restart() {
    let gallery = tempfile::tempdir().unwrap();
    let groups = Groups::open(gallery.path()).unwrap();
    assert!(!groups.index().are_in_use());
    assert!(groups.add(&group("maths"), &id("alice")).unwrap().changed);
    assert!(
        !groups.add(&group("maths"), &id("alice")).unwrap().changed,
        "already a member"
    );
    groups.add(&group("maths"), &id("bob")).unwrap();
    groups.add(&group("door"), &id("alice")).unwrap();
    assert_eq!(
        groups.index().groups_of(&id("alice")),
        [group("door"), group("maths")]
    );
    let reopened = Groups::open(gallery.path()).unwrap();
    assert_eq!(
        reopened.index().list(),
        [(group("door"), 1), (group("maths"), 2)]
    );
    assert_eq!(
        reopened
            .remove(&group("maths"), &id("bob"))
            .unwrap()
            .map(|change| change.changed),
        Some(true)
    );
    assert_eq!(
        reopened
            .remove(&group("maths"), &id("bob"))
            .unwrap()
            .map(|change| change.changed),
        Some(false)
    );
    assert_eq!(
        reopened.remove(&group("physics"), &id("bob")).unwrap(),
        None
    );
    // A group stays when its last member is removed.
    reopened.remove_everywhere(&id("alice")).unwrap();
    assert_eq!(
        Groups::open(gallery.path()).unwrap().index().list(),
        [(group("door"), 0), (group("maths"), 0)]
    );
    assert!(
        reopened.delete(&group("door")).unwrap().changed
            && !reopened.delete(&group("door")).unwrap().changed
    );
    assert!(
        Groups::open(gallery.path())
            .unwrap()
            .index()
            .members(&group("door"))
            .is_none()
    );
}

#[test]
fn invalid_group_file_is_kept() {
    let gallery = tempfile::tempdir().unwrap();
    let folder = gallery.path().join(FOLDER);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("good"), "alice\n\nbob\n").unwrap();
    fs::write(folder.join("no;id"), "alice\n").unwrap();
    fs::write(folder.join("broken"), "../alice\n").unwrap();
    fs::write(folder.join("binary"), [0xff, 0xfe]).unwrap();
    fs::write(folder.join(".unfinished-1"), "ali").unwrap();
    fs::create_dir(folder.join("folder")).unwrap();
    assert_eq!(
        Groups::open_unlocked(gallery.path())
            .unwrap()
            .index()
            .list(),
        [(group("good"), 2)]
    );
    assert!(
        folder.join(".unfinished-1").exists(),
        "it may be a running write"
    );
    let groups = Groups::open(gallery.path()).unwrap();
    assert_eq!(groups.index().list(), [(group("good"), 2)]);
    assert!(folder.join("broken").exists() && !folder.join(".unfinished-1").exists());
}

#[test]
fn failed_write_changes_nothing() {
    let gallery = tempfile::tempdir().unwrap();
    fs::write(gallery.path().join(FOLDER), "a file in place of the folder").unwrap();
    assert!(Groups::open(gallery.path()).is_err());
    fs::remove_file(gallery.path().join(FOLDER)).unwrap();
    let groups = Groups::open(gallery.path()).unwrap();
    fs::write(gallery.path().join(FOLDER), "").unwrap();
    assert!(groups.add(&group("maths"), &id("alice")).is_err() && !groups.index().are_in_use());
    // A write that would overwrite an unreadable file fails, too.
    fs::remove_file(gallery.path().join(FOLDER)).unwrap();
    fs::create_dir(gallery.path().join(FOLDER)).unwrap();
    fs::write(gallery.path().join(FOLDER).join("maths"), "no;id\n").unwrap();
    let groups = Groups::open(gallery.path()).unwrap();
    assert!(matches!(
        groups.add(&group("maths"), &id("alice")),
        Err(GroupsError::Damaged)
    ));
    assert_eq!(
        fs::read_to_string(gallery.path().join(FOLDER).join("maths")).unwrap(),
        "no;id\n"
    );
}

/// Removing a person from thousands of groups takes little time.
#[test]
fn removal_from_many_groups_is_fast() {
    const GROUPS: usize = 2_000;
    let gallery = tempfile::tempdir().unwrap();
    let folder = gallery.path().join(FOLDER);
    fs::create_dir(&folder).unwrap();
    for number in 0..GROUPS {
        fs::write(folder.join(format!("g{number}")), "alice\nbob\n").unwrap();
    }
    let groups = Groups::open(gallery.path()).unwrap();
    let start = std::time::Instant::now();
    groups.remove_everywhere(&id("alice")).unwrap();
    let elapsed = start.elapsed();
    rostro_common::text::warn_user(&format!("taken out of {GROUPS} groups in {elapsed:?}"));
    assert!(
        groups.index().groups_of(&id("alice")).is_empty()
            && groups.index().groups_of(&id("bob")).len() == GROUPS
    );
    let reopened = Groups::open(gallery.path()).unwrap();
    assert!(
        reopened.index().groups_of(&id("alice")).is_empty()
            && reopened.index().groups_of(&id("bob")).len() == GROUPS
    );
    assert!(fs::read_dir(&folder).unwrap().all(|file| {
        !fs::read_to_string(file.unwrap().path())
            .unwrap()
            .contains("alice")
    }));
    assert!(elapsed.as_secs() < 3, "{elapsed:?}");
}

#[test]
fn names_in_any_script_are_groups() {
    let gallery = tempfile::tempdir().unwrap();
    let folder = gallery.path().join(FOLDER);
    fs::create_dir(&folder).unwrap();
    fs::write(
        folder.join("Classe\u{301}"),
        "\u{feff}Jose\u{301}\r\n 李雷 \r\n",
    )
    .unwrap();
    let groups = Groups::open(gallery.path()).unwrap();
    assert_eq!(groups.index().list(), [(group("Classé"), 2)]);
    // A line is found in any form of Unicode, and the file is renamed when the group is next
    // written.
    groups.remove_everywhere(&id("José")).unwrap();
    assert_eq!(
        Groups::open(gallery.path()).unwrap().index().list(),
        [(group("Classé"), 1)]
    );
    groups.add(&group("Classé"), &id("Анна")).unwrap();
    let names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!(names, ["Classé"]);
    let reopened = Groups::open(gallery.path()).unwrap();
    assert_eq!(reopened.index().members(&group("Classé")).unwrap().len(), 2);
    assert!(
        reopened.delete(&group("Classé")).unwrap().changed
            && fs::read_dir(&folder).unwrap().next().is_none()
    );
}

#[test]
fn case_variant_name_is_refused() {
    let gallery = tempfile::tempdir().unwrap();
    let groups = Groups::open(gallery.path()).unwrap();
    groups.add(&group("Maths"), &id("alice")).unwrap();
    assert!(matches!(
        groups.add(&group("MATHS"), &id("alice")),
        Err(GroupsError::NameTaken)
    ));
    groups.delete(&group("Maths")).unwrap();
    assert!(groups.add(&group("MATHS"), &id("alice")).unwrap().changed);
}

#[test]
fn change_without_sync_takes_effect() {
    use rostro_common::fs::durable::testing::failing_with;

    let gallery = tempfile::tempdir().unwrap();
    let groups = Groups::open(gallery.path()).unwrap();
    let (maths, alice, bob) = (group("maths"), id("alice"), id("bob"));
    let undurable = GroupWrite {
        changed: true,
        durable: false,
    };
    failing_with(libc::EINVAL, || {
        assert_eq!(groups.add(&maths, &alice).unwrap(), undurable);
        groups.add(&maths, &bob).unwrap();
        assert_eq!(groups.remove(&maths, &bob).unwrap(), Some(undurable));
        assert!(!groups.remove_everywhere(&alice).unwrap());
        assert_eq!(groups.delete(&maths).unwrap(), undurable);
    });
    // Any other error is returned. The change is in force nevertheless, in memory and on the disk.
    failing_with(libc::EIO, || {
        let error = groups.add(&maths, &bob).unwrap_err();
        assert!(
            matches!(error, GroupsError::Unsynced { .. })
                && error.to_string().contains("which were changed"),
            "{error}"
        );
        assert_eq!(groups.index().members(&maths).unwrap().len(), 1);
        assert!(matches!(
            groups.remove(&maths, &bob),
            Err(GroupsError::Unsynced { .. })
        ));
        assert!(groups.index().members(&maths).unwrap().is_empty());
        assert!(
            Groups::open_unlocked(gallery.path())
                .unwrap()
                .index()
                .members(&maths)
                .unwrap()
                .is_empty()
        );
        assert!(matches!(
            groups.delete(&maths),
            Err(GroupsError::Unsynced { .. })
        ));
        assert!(groups.index().members(&maths).is_none());
    });
}

#[test]
fn copied_group_is_reloaded() {
    let gallery = tempfile::tempdir().unwrap();
    let folder = gallery.path().join(FOLDER);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("maths"), "alice\nbo").unwrap();
    fs::write(folder.join("half"), [b'a', 0xc3]).unwrap();
    let groups = Groups::open(gallery.path()).unwrap();
    groups.add(&group("ours"), &id("alice")).unwrap();
    assert_eq!((groups.rescan().unwrap(), groups.left_alone()), (0, 1));
    fs::write(folder.join("maths"), "alice\nbob\ncarol\n").unwrap();
    fs::write(folder.join("half"), "aé\n").unwrap();
    fs::write(folder.join("new"), "dave\n").unwrap();
    fs::write(folder.join("no;id"), "dave\n").unwrap();
    assert_eq!(
        groups.rescan().unwrap(),
        1,
        "a changing group is reloaded once it stops"
    );
    assert_eq!((groups.rescan().unwrap(), groups.left_alone()), (2, 1));
    assert_eq!(
        groups.index().list(),
        [
            (group("half"), 1),
            (group("maths"), 3),
            (group("new"), 1),
            (group("ours"), 1)
        ]
    );
    assert!(matches!(
        groups.add(&group("NEW"), &id("alice")),
        Err(GroupsError::NameTaken)
    ));
    // Writes and deletions of this process are not reported.
    groups.add(&group("maths"), &id("dave")).unwrap();
    groups.delete(&group("new")).unwrap();
    groups.remove_everywhere(&id("alice")).unwrap();
    groups.rescan().unwrap();
    assert_eq!(
        groups.index().list(),
        [(group("half"), 1), (group("maths"), 3), (group("ours"), 0)]
    );
}
