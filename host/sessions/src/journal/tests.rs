//! Tests of journals.

use std::fs;
use std::path::PathBuf;

use rostro_common::fs::durable::testing::failing_with;

use crate::session::{ObservedFrame, Session};
use crate::testing::{at, frame, head, person, policy_event};

use super::*;

struct Fixture {
    _folder: tempfile::TempDir,
    path: PathBuf,
    session: Session,
    journal: Journal,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut session = Session::new(head(), 100_000);
        let path = folder.path().join("journal");
        let start = session.start();
        let journal = Journal::create(&path, session.head(), &start).unwrap();
        session.apply(&start);
        Self {
            _folder: folder,
            path,
            session,
            journal,
        }
    }

    fn observe(&mut self, frame: &ObservedFrame) {
        let change = self.session.observe(frame, frame.at).unwrap();
        if change.is_urgent() {
            self.journal.append(&change).unwrap();
        }
        self.session.apply(&change);
    }

    fn open(&self) -> Result<(Session, Journal), JournalError> {
        open(&self.path, self.session.head().id, 100_000)
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }
}

/// Returns a frame with an event of the policy.
fn noted(second: i64, message: &str) -> ObservedFrame {
    ObservedFrame {
        policy_events: vec![policy_event(None, message)],
        ..frame(second, &["a"])
    }
}

fn numbers(events: &[SessionEvent]) -> Vec<u64> {
    events.iter().map(|event| event.id.number).collect()
}

#[test]
fn open_returns_same_session() {
    let mut fixture = Fixture::new();
    for second in 1..4 {
        fixture.observe(&frame(second, &["a", "李雷"]));
        fixture.observe(&noted(second, "A \"hand\"\nis up."));
    }
    let (session, journal) = fixture.open().unwrap();
    assert_eq!(session, fixture.session);
    assert_eq!(
        journal.events_after(0, 100).unwrap(),
        fixture.journal.events_after(0, 100).unwrap()
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;

        let mode = fixture.path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

/// A crash leaves any part of the last line.
#[test]
fn torn_line_is_removed() {
    let mut fixture = Fixture::new();
    fixture.observe(&noted(1, "first"));
    let (before, session) = (fixture.text(), fixture.session.clone());
    fixture.observe(&noted(2, "second"));
    let whole = fixture.text();
    for length in before.len()..whole.len() {
        fs::write(&fixture.path, &whole.as_bytes()[..length]).unwrap();
        let (opened, mut journal) = fixture.open().unwrap();
        assert_eq!(opened, session, "{length}");
        assert_eq!(fixture.text(), before);
        // The next change, with two events, follows the repaired end.
        let change = opened.observe(&noted(3, "third"), at(3)).unwrap();
        journal.append(&change).unwrap();
        assert_eq!(fixture.open().unwrap().0.last_event(), 4);
    }
    // A disk may write the end of a line before its start.
    let zeros = format!("{before}{}}}\n", "\0".repeat(20));
    fs::write(&fixture.path, zeros).unwrap();
    assert_eq!(fixture.open().unwrap().0, session);
}

#[test]
fn damaged_journal_names_its_line() {
    let mut fixture = Fixture::new();
    fixture.observe(&noted(1, "first"));
    fixture.observe(&noted(2, "second"));
    let text = fixture.text();
    let lines: Vec<&str> = text.lines().collect();
    for (damaged, cause) in [
        (format!("{text}{{\n"), "line 5 is not a change of a session"),
        (String::new(), "the first line is not complete"),
        (lines[0].to_owned(), "the first line is not complete"),
        (
            text.replacen("format", "forma", 1),
            "the first line is not the head of a session",
        ),
        (text.replacen(":1,", ":2,", 1), "its format is 2, not 1"),
        (
            text.replacen(
                &fixture.session.head().id.to_string(),
                &head().id.to_string(),
                1,
            ),
            "its name is not the id of its session",
        ),
        (
            text.replacen("policy", "polizei", 1),
            "line 3 is not a change of a session",
        ),
        (
            [lines[0], lines[1], lines[2], lines[2], ""].join("\n"),
            "line 4: an event has the number or the session of another one",
        ),
    ] {
        fs::write(&fixture.path, &damaged).unwrap();
        let Err(JournalError::Damaged(found)) = fixture.open() else {
            panic!("{cause}")
        };
        assert_eq!(found, cause);
        assert_eq!(fixture.text(), damaged);
    }
}

#[test]
fn failed_append_is_undone() {
    let mut fixture = Fixture::new();
    fixture.observe(&noted(1, "first"));
    let (before, journal) = (fixture.text(), &mut fixture.journal);
    let change = fixture.session.observe(&noted(2, "lost"), at(2)).unwrap();
    let error = failing_with(libc::EIO, || journal.append(&change)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    // The bytes were removed, but it is not known whether the disk has them.
    assert!(journal.has_tail);
    journal.trim().unwrap();
    assert!(!journal.has_tail);
    assert_eq!(fixture.text(), before);
    // Bytes of an append that could not be removed are removed before the next one.
    fs::write(&fixture.path, format!("{before}half of a li")).unwrap();
    fixture.observe(&noted(3, "second"));
    assert_eq!(fixture.open().unwrap().0, fixture.session);
    assert!(!fixture.text().contains("half"));
}

#[test]
fn events_are_read_in_pages() {
    let mut fixture = Fixture::new();
    let long = "x".repeat(300);
    for second in 1..200 {
        let mut frame = noted(second, &long);
        frame.policy_events.push(policy_event(None, &long));
        fixture.observe(&frame);
    }
    let last = fixture.session.last_event();
    let opened = fixture.open().unwrap().1;
    for journal in [&fixture.journal, &opened] {
        assert!((3..100).contains(&journal.index.0.len()));
        for (after, most) in [
            (0, 1000),
            (0, 7),
            (1, 1),
            (100, 50),
            (last - 1, 5),
            (last, 5),
        ] {
            let expected: Vec<u64> = (after + 1..=last).take(most).collect();
            assert_eq!(
                numbers(&journal.events_after(after, most).unwrap()),
                expected,
                "{after} {most}"
            );
        }
    }
}

#[test]
fn rewrite_keeps_events_and_state() {
    let mut fixture = Fixture::new();
    for second in 1..600 {
        fixture.observe(&frame(second, &["a", "b"]));
        let change = fixture
            .session
            .checkpoint()
            .unwrap_or(fixture.session.snapshot());
        fixture.journal.append(&change).unwrap();
        fixture.session.apply(&change);
    }
    fixture.observe(&noted(600, "a waved"));
    assert!(!Fixture::new().journal.has_grown());
    let (long, events) = (
        fixture.journal.length,
        fixture.journal.events_after(0, 100).unwrap(),
    );
    let snapshot = fixture.session.snapshot();
    let journal = &mut fixture.journal;
    journal
        .rewrite(fixture.session.head(), &snapshot, |_| false)
        .unwrap();
    assert!(journal.length < long / 20);
    assert_eq!(journal.length, fixture.path.metadata().unwrap().len());
    assert_eq!(journal.events_after(0, 100).unwrap(), events);
    assert_eq!(fixture.open().unwrap().0, fixture.session);
    fixture.observe(&noted(601, "next"));
    assert_eq!(fixture.open().unwrap().0, fixture.session);
}

#[test]
fn mentions_finds_texts() {
    let mut fixture = Fixture::new();
    fixture.observe(&noted(1, "李雷 waved"));
    for (id, is_mentioned) in [
        ("李雷", true),
        ("waved", true),
        ("wave", false),
        ("a", false),
    ] {
        assert_eq!(
            fixture.journal.mentions(&person(id)).unwrap(),
            is_mentioned,
            "{id}"
        );
    }
}
