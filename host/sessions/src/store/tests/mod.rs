//! Tests of the store, with restarts.

mod removal;

use std::path::Path;

use rostro_common::fs::durable::testing::failing_with;

use crate::testing::{at, frame, person, policy_event};

use super::*;

/// Limits for tests.
const LIMITS: SessionLimits = SessionLimits {
    open_per_owner: 3,
    kept_per_owner: 5,
    events: 1000,
    keep_days: 1,
};

const DAY: i64 = 86_400;

struct Fixture {
    folder: tempfile::TempDir,
    store: SessionStore,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, damaged) = SessionStore::open(folder.path(), LIMITS).unwrap();
        assert!(damaged.is_empty());
        Self { folder, store }
    }

    /// Opens the folder anew, as after a crash.
    fn restart(&mut self) -> Vec<DamagedJournal> {
        let (store, damaged) = SessionStore::open(self.folder.path(), LIMITS).unwrap();
        self.store = store;
        damaged
    }

    fn create(&self, owner: &str) -> SessionId {
        self.store.create(new(owner), at(0)).unwrap().id
    }

    fn observe(&self, id: SessionId, frame: ObservedFrame) -> Vec<SessionEvent> {
        let (mark, now) = (self.store.removal_mark(), frame.at);
        self.store.observe(id, frame, mark, now).unwrap()
    }

    fn correct(&self, id: SessionId, who: &str, status: CorrectedStatus) -> Vec<SessionEvent> {
        let request = CorrectionRequest {
            person: person(who),
            status: Some(status),
            by: Some("desk".to_owned()),
        };
        let mark = self.store.removal_mark();
        self.store.correct(id, &request, mark, at(50)).unwrap()
    }

    fn numbers(&self, id: SessionId) -> Vec<u64> {
        let events = self.store.events_after(id, 0, 1000).unwrap();
        events.iter().map(|event| event.id.number).collect()
    }

    fn sessions(&self) -> PathBuf {
        self.folder.path().join(SESSIONS)
    }
}

fn new(owner: &str) -> NewSession {
    NewSession {
        stream: "door".parse().unwrap(),
        group: Some("maths".to_owned()),
        rule: PresenceRule::default(),
        owner: Some(owner.to_owned()),
        revision: "r1".to_owned(),
    }
}

/// Returns all files under a folder with their content.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

/// Returns true if a file has the text.
fn is_on_disk(folder: &Path, text: &str) -> bool {
    let has_text = |bytes: &[u8]| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    files(folder).iter().any(|(_, bytes)| has_text(bytes))
}

#[test]
fn restart_returns_same_sessions() {
    let mut fixture = Fixture::new();
    let id = fixture.create("school");
    for second in [10, 11] {
        fixture.observe(id, frame(second, &["a", "b"]));
    }
    fixture.correct(id, "c", CorrectedStatus::Late);
    fixture.store.bind(id, "r2".to_owned(), at(60)).unwrap();
    let (view, numbers) = (
        fixture.store.get(id, &[person("d")]).unwrap(),
        fixture.numbers(id),
    );
    assert_eq!(
        (view.present.len(), view.absent.len(), numbers.len()),
        (3, 1, 4)
    );
    fixture.restart();
    assert_eq!(fixture.store.get(id, &[person("d")]).unwrap(), view);
    assert_eq!(fixture.numbers(id), numbers);
    assert_eq!(fixture.store.list().unwrap(), [view.summary]);
}

#[test]
fn frame_without_events_writes_nothing() {
    let mut fixture = Fixture::new();
    let id = fixture.create("school");
    fixture.observe(id, frame(10, &["a"]));
    fixture.observe(id, frame(11, &["a"]));
    let before = files(fixture.folder.path());
    fixture.observe(id, frame(12, &["a"]));
    assert_eq!(files(fixture.folder.path()), before);
    let times_seen = |fixture: &Fixture| fixture.store.get(id, &[]).unwrap().present[0].times_seen;
    assert_eq!(times_seen(&fixture), 3);
    fixture.restart();
    assert_eq!(times_seen(&fixture), 2);
    fixture.observe(id, frame(12, &["a"]));
    fixture.store.checkpoint().unwrap();
    fixture.restart();
    assert_eq!(times_seen(&fixture), 3);
    let before = files(fixture.folder.path());
    fixture.store.checkpoint().unwrap();
    assert_eq!(files(fixture.folder.path()), before);
}

#[test]
fn failed_write_counts_nothing() {
    let mut fixture = Fixture::new();
    let id = fixture.create("school");
    fixture.observe(id, frame(10, &["a"]));
    let view = fixture.store.get(id, &[]).unwrap();
    let mark = fixture.store.removal_mark();
    let store = &fixture.store;
    let failed = failing_with(libc::EIO, || {
        store.observe(id, frame(11, &["a"]), mark, at(11))
    });
    assert_eq!(failed.unwrap_err().code(), "sessions_failed");
    assert_eq!(fixture.store.get(id, &[]).unwrap(), view);
    // The caller sends the frame again.
    assert_eq!(fixture.observe(id, frame(11, &["a"])).len(), 1);
    fixture.restart();
    assert_eq!(fixture.numbers(id), [1, 2]);
}

#[test]
fn session_has_one_life() {
    let fixture = Fixture::new();
    let id = fixture.create("school");
    assert_eq!(fixture.store.end(id, at(20)).unwrap().len(), 1);
    assert!(fixture.store.end(id, at(30)).unwrap().is_empty());
    let mark = fixture.store.removal_mark();
    let refused = fixture.store.observe(id, frame(40, &["a"]), mark, at(40));
    assert_eq!(refused.unwrap_err().code(), "session_ended");
    let refused = fixture.store.check_next(id, None, at(40));
    assert_eq!(refused.unwrap_err().code(), "session_ended");
    fixture.store.delete(id).unwrap();
    assert!(files(fixture.folder.path()).is_empty());
    let gone = fixture.store.delete(id).unwrap_err();
    assert_eq!(gone.code(), "unknown_session");
    assert!(gone.to_string().contains(&id.to_string()));
}

#[test]
fn owner_has_limited_open_sessions() {
    let mut fixture = Fixture::new();
    let first = fixture.create("school");
    let second = fixture.create("school");
    fixture.create("school");
    fixture.restart();
    let refused = fixture.store.create(new("school"), at(0)).unwrap_err();
    assert_eq!(refused.code(), "too_many_sessions");
    fixture.create("office");
    fixture.store.end(first, at(1)).unwrap();
    fixture.create("school");
    let all = fixture.store.list().unwrap();
    let count = |owner: &str| {
        let own = |session: &&SessionSummary| session.owner.as_deref() == Some(owner);
        all.iter().filter(own).count()
    };
    assert_eq!((count("school"), count("office"), all.len()), (4, 1, 5));
    // Ended sessions count as well, until they are deleted.
    fixture.store.end(second, at(2)).unwrap();
    let third = fixture.create("school");
    fixture.store.end(third, at(3)).unwrap();
    let refused = fixture.store.create(new("school"), at(4)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "cannot create a session: 5 are kept; delete ended ones first"
    );
    fixture.store.delete(first).unwrap();
    fixture.create("school");
}

#[test]
fn subscriber_pages_through_events() {
    let fixture = Fixture::new();
    let id = fixture.create("school");
    let mut news = fixture.store.subscribe(id).unwrap();
    assert_eq!(*news.borrow_and_update(), 1);
    for second in 1..100 {
        let mut noted = frame(second, &[]);
        noted.policy_events = vec![policy_event(None, "A hand is up.")];
        fixture.observe(id, noted);
    }
    assert!(news.has_changed().unwrap());
    let last = *news.borrow_and_update();
    let (mut read, mut after) = (Vec::new(), 1);
    while after < last {
        let page = fixture.store.events_after(id, after, 7).unwrap();
        read.extend(page.iter().map(|event| event.id.number));
        after = *read.last().unwrap();
    }
    assert_eq!(read, (2..=100).collect::<Vec<_>>());
    fixture.observe(id, frame(100, &["a"]));
    assert!(!news.has_changed().unwrap());
    fixture.store.delete(id).unwrap();
    assert!(news.has_changed().is_err());
}

#[test]
fn damaged_journal_is_set_aside() {
    let mut fixture = Fixture::new();
    let (good, bad) = (fixture.create("school"), fixture.create("school"));
    let path = journal_path(&fixture.sessions(), bad);
    let text = fs::read_to_string(&path).unwrap();
    for number in 0..2 {
        fs::write(&path, text.replace("format", "mallory")).unwrap();
        let damaged = fixture.restart();
        assert_eq!((damaged.len(), &damaged[0].from), (1, &path));
        assert_eq!(damaged[0].to.extension().unwrap() == "1", number == 1);
        assert!(damaged[0].to.exists() && !path.exists());
        assert!(damaged[0].to_string().contains("not the head of a session"));
    }
    assert_eq!(fixture.store.list().unwrap().len(), 1);
    assert!(fixture.store.summary(good).is_ok());
    // The damaged lines cannot be told apart, so that a deletion removes the file.
    fixture.store.remove_person(&person("s6"), at(1)).unwrap();
    assert_eq!(files(&fixture.sessions()).len(), 3);
    fixture
        .store
        .remove_person(&person("mallory"), at(1))
        .unwrap();
    assert_eq!(files(&fixture.sessions()).len(), 1);
}

#[test]
fn sweep_removes_old_sessions() {
    let fixture = Fixture::new();
    let [ended, idle, fresh] = ["a", "b", "c"].map(|owner| fixture.create(owner));
    fixture.store.end(ended, at(100)).unwrap();
    // A correction does not keep an ended session longer.
    fixture.correct(ended, "a", CorrectedStatus::Late);
    fixture.observe(idle, frame(200, &["a"]));
    fixture.observe(fresh, frame(2 * DAY, &["a"]));
    for (second, deleted) in [
        (DAY + 100, vec![]),
        (DAY + 101, vec![ended]),
        (DAY + 200, vec![]),
        (DAY + 201, vec![idle]),
    ] {
        assert_eq!(
            fixture.store.sweep(at(second)).unwrap(),
            deleted,
            "{second}"
        );
    }
    assert_eq!(fixture.store.list().unwrap().len(), 1);
    assert_eq!(files(&fixture.sessions()).len(), 1);
}

#[test]
fn long_journal_is_compacted() {
    let mut fixture = Fixture::new();
    let id = fixture.create("school");
    let people: Vec<String> = (0..100).map(|number| format!("person {number}")).collect();
    let people: Vec<&str> = people.iter().map(String::as_str).collect();
    let mut longest = 0;
    for second in 1..60 {
        fixture.observe(id, frame(second, &people));
        fixture.store.checkpoint().unwrap();
        let length = journal_path(&fixture.sessions(), id)
            .metadata()
            .unwrap()
            .len();
        longest = longest.max(length);
    }
    assert!(longest < 400 << 10, "{longest}");
    fixture.store.end(id, at(100)).unwrap();
    let length = journal_path(&fixture.sessions(), id)
        .metadata()
        .unwrap()
        .len();
    assert!(length < 64 << 10, "{length}");
    let view = fixture.store.get(id, &[]).unwrap();
    fixture.restart();
    assert_eq!(fixture.store.get(id, &[]).unwrap(), view);
    assert_eq!(fixture.numbers(id).len(), 102);
}
