//! Tests of the removal of people.

use crate::event::EventKind;
use crate::presence::PresenceStatus;

use super::*;

#[test]
fn removed_person_is_nowhere() {
    let mut fixture = Fixture::new();
    let (seen, other) = (fixture.create("school"), fixture.create("school"));
    let quoted = fixture.create("school");
    for second in [10, 11] {
        fixture.observe(seen, frame(second, &["李雷", "b"]));
    }
    fixture.correct(seen, "李雷", CorrectedStatus::Absent);
    // Only in memory.
    fixture.observe(other, frame(10, &["李雷", "b"]));
    fixture.observe(other, frame(11, &["b"]));
    fixture.observe(other, frame(12, &["李雷"]));
    let mut noted = frame(10, &[]);
    noted.policy_events = vec![policy_event(None, "李雷 waved"), policy_event(None, "b")];
    fixture.observe(quoted, noted);
    fixture.store.end(quoted, at(12)).unwrap();
    fixture.create("office");
    let numbers = fixture.numbers(seen);
    let mut news = fixture.store.subscribe(seen).unwrap();
    news.mark_unchanged();
    assert!(is_on_disk(fixture.folder.path(), "李雷"));
    assert_eq!(
        fixture
            .store
            .remove_person(&person("李雷"), at(20))
            .unwrap(),
        3
    );
    assert!(news.has_changed().unwrap());
    for is_restarted in [false, true] {
        if is_restarted {
            fixture.restart();
        }
        assert!(!is_on_disk(fixture.folder.path(), "李雷"));
        assert!(!fixture.store.people().contains(&person("李雷")));
        // Numbers 3 (the arrival) and 4 (the correction) are gaps.
        assert_eq!(numbers, [1, 2, 3, 4]);
        assert_eq!(fixture.numbers(seen), [1, 2, 5]);
        let last = fixture.store.events_after(seen, 2, 10).unwrap();
        assert_eq!(last[0].kind, EventKind::PersonRemoved);
        assert_eq!(fixture.numbers(quoted), [1, 3, 4, 5]);
        let view = fixture.store.get(seen, &[]).unwrap();
        assert_eq!(view.people().count(), 1);
    }
    assert_eq!(
        fixture
            .store
            .remove_person(&person("李雷"), at(21))
            .unwrap(),
        0
    );
}

/// A frame that was recognised before a deletion does not bring the person back.
#[test]
fn late_frame_names_no_removed_person() {
    let fixture = Fixture::new();
    let id = fixture.create("school");
    let before = fixture.store.removal_mark();
    fixture.store.remove_person(&person("a"), at(1)).unwrap();
    for second in [10, 11] {
        fixture
            .store
            .observe(id, frame(second, &["a", "b"]), before, at(second))
            .unwrap();
    }
    let request = CorrectionRequest {
        person: person("a"),
        status: None,
        by: None,
    };
    let refused = fixture.store.correct(id, &request, before, at(12));
    assert_eq!(refused.unwrap_err().code(), "person_removed");
    assert_eq!(
        fixture.store.people().into_iter().collect::<Vec<_>>(),
        [person("b")]
    );
    // Enrolled again.
    fixture.observe(id, frame(20, &["a"]));
    assert!(fixture.store.people().contains(&person("a")));
}

/// Each session has its old or its new content after a crash at any point, and the removal can be
/// repeated.
#[test]
fn interrupted_removal_can_be_repeated() {
    let fixture = Fixture::new();
    let ids = ["a", "b", "c"].map(|owner| fixture.create(owner));
    for id in ids {
        for second in [10, 11] {
            fixture.observe(id, frame(second, &["s6", "s7"]));
        }
    }
    for rewritten in 0..=ids.len() {
        let mut crashed = Fixture::new();
        let copy = crashed.sessions();
        for id in ids {
            fs::copy(
                journal_path(&fixture.sessions(), id),
                journal_path(&copy, id),
            )
            .unwrap();
        }
        crashed.restart();
        for id in &ids[..rewritten] {
            let stored = crashed.store.find(*id).unwrap();
            assert!(stored.remove_person(&person("s6"), at(20)).unwrap());
        }
        // The file that the crash interrupted.
        fs::write(copy.join(".unfinished-x"), "{\"person\":\"s6\"").unwrap();
        assert!(crashed.restart().is_empty());
        for (index, id) in ids.into_iter().enumerate() {
            let is_new = index < rewritten;
            let expected: &[u64] = if is_new { &[1, 3, 4] } else { &[1, 2, 3] };
            assert_eq!(crashed.numbers(id), expected);
        }
        let is_left = rewritten < ids.len();
        assert_eq!(is_on_disk(crashed.folder.path(), "s6"), is_left);
        // The host finds the person, who is not enrolled any more.
        assert_eq!(crashed.store.people().contains(&person("s6")), is_left);
        let count = crashed.store.remove_person(&person("s6"), at(30)).unwrap();
        assert_eq!(count, ids.len() - rewritten);
        assert!(!is_on_disk(crashed.folder.path(), "s6"));
        assert!(ids.iter().all(|id| crashed.numbers(*id) == [1, 3, 4]));
    }
}

/// The bytes of an append that failed may name the person, although the session does not.
#[test]
fn removal_reaches_failed_appends() {
    let fixture = Fixture::new();
    let id = fixture.create("school");
    let mark = fixture.store.removal_mark();
    let mut noted = frame(10, &["s6"]);
    noted.policy_events = vec![policy_event(None, "")];
    failing_with(libc::EIO, || {
        fixture.store.observe(id, noted, mark, at(10)).unwrap_err();
    });
    // As if the bytes could not be removed.
    let path = journal_path(&fixture.sessions(), id);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}{{\"person\":\"s6\"")).unwrap();
    assert_eq!(
        fixture.store.remove_person(&person("s6"), at(20)).unwrap(),
        0
    );
    assert!(!is_on_disk(fixture.folder.path(), "s6"));
}

#[test]
fn failed_removal_changes_no_session() {
    let fixture = Fixture::new();
    let id = fixture.create("school");
    fixture.correct(id, "s6", CorrectedStatus::Present);
    let store = &fixture.store;
    let removed = failing_with(libc::EIO, || store.remove_person(&person("s6"), at(20)));
    assert_eq!(removed.unwrap_err().code(), "sessions_failed");
    // The file was replaced before the folder could not be synced.
    assert!(!is_on_disk(fixture.folder.path(), "s6"));
    assert_eq!(
        fixture.store.remove_person(&person("s6"), at(21)).unwrap(),
        0
    );
}

/// Frames of several streams run in parallel with a removal.
#[test]
fn parallel_frames_lose_no_event() {
    let fixture = Fixture::new();
    let ids = ["a", "b", "c", "d"].map(|owner| fixture.create(owner));
    std::thread::scope(|scope| {
        for id in ids {
            let fixture = &fixture;
            scope.spawn(move || {
                for second in 1..50 {
                    let name = format!("p{}", second / 2);
                    fixture.observe(id, frame(second, &[name.as_str(), "s6"]));
                }
            });
        }
        for second in 1..10 {
            fixture
                .store
                .remove_person(&person("s6"), at(second))
                .unwrap();
        }
    });
    fixture.store.remove_person(&person("s6"), at(60)).unwrap();
    assert!(!is_on_disk(fixture.folder.path(), "s6"));
    for id in ids {
        let numbers = fixture.numbers(id);
        assert!(numbers.is_sorted_by(|a, b| a < b));
        let view = fixture.store.get(id, &[]).unwrap();
        let present = view.present.iter();
        let present = present.filter(|person| person.status == PresenceStatus::Present);
        assert_eq!(present.count(), 24);
    }
}
