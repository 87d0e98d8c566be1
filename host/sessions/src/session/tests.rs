//! Tests of the state machine.

use proptest::prelude::*;

use crate::event::PolicyEvent;
use crate::presence::PresenceStatus;
use crate::testing::{at, frame, head, ids, person, policy_event};

use super::*;

/// A session, and the changes that a store would have written.
struct Written {
    session: Session,
    changes: Vec<SessionChange>,
}

impl Written {
    fn new(rule: PresenceRule, max_events: u64) -> Self {
        let session = Session::new(SessionHead { rule, ..head() }, max_events);
        let mut written = Self {
            changes: Vec::new(),
            session,
        };
        written.write(written.session.start());
        written
    }

    fn write(&mut self, change: SessionChange) -> Vec<String> {
        self.session.apply(&change);
        let kinds = change.events.iter().map(|event| kind(&event.kind));
        let kinds = kinds.collect();
        if change.is_urgent {
            self.changes.push(change);
        }
        kinds
    }

    /// Counts a frame. Returns the kinds and people of its events.
    fn observe(&mut self, frame: &ObservedFrame) -> Vec<String> {
        self.write(self.session.observe(frame, frame.at).unwrap())
    }

    fn correct(&mut self, id: &str, status: Option<CorrectedStatus>) -> Vec<String> {
        let change = self
            .session
            .correct(&person(id), status, Some("desk"), at(500));
        self.write(change)
    }

    /// Returns the session as it is after a restart.
    fn restarted(&self) -> Session {
        let mut session = Session::new(self.session.head.clone(), self.session.max_events);
        for change in &self.changes {
            let json = serde_json::to_string(change).unwrap();
            session
                .replay(&serde_json::from_str(&json).unwrap())
                .unwrap();
        }
        session
    }

    fn statuses(&self, members: &[&str]) -> Vec<(String, PresenceStatus)> {
        let members: Vec<PersonId> = members.iter().map(|id| person(id)).collect();
        let view = self.session.view(&members);
        let people = view.people();
        people
            .map(|person| (person.id.to_string(), person.status))
            .collect()
    }
}

/// Returns the tag of an event and its person.
fn kind(kind: &EventKind) -> String {
    let json = serde_json::to_value(kind).unwrap();
    let tag = json["kind"].as_str().unwrap().to_owned();
    match kind.person() {
        Some(person) => format!("{tag} {person}"),
        None => tag,
    }
}

fn rule(seen: u32, late_after: Option<i64>) -> PresenceRule {
    PresenceRule::new(seen, 60, late_after.map(at)).unwrap()
}

#[test]
fn frames_make_events() {
    let mut session = Written::new(rule(2, Some(20)), 100);
    for (second, people, events) in [
        (10, &["a", "b"][..], &[][..]),
        (20, &["a"], &["arrived a"]),
        (21, &["a", "b", "c"], &["late b"]),
        // Too long after the frame before.
        (90, &["c"], &[]),
        (91, &["c"], &["late c"]),
        (92, &["a", "b", "c"], &[]),
    ] {
        assert_eq!(session.observe(&frame(second, people)), events, "{second}");
    }
    assert_eq!(session.session.last_event, 4);
}

#[test]
fn repeated_person_counts_once() {
    let mut session = Written::new(rule(2, None), 100);
    let mut twice = frame(10, &["a", "a", "a"]);
    twice.people[0].similarity = 0.5;
    twice.people[2].similarity = f32::NAN;
    session.observe(&twice);
    let view = session.session.view(&[]);
    assert_eq!(
        (
            view.uncertain[0].times_seen,
            view.uncertain[0].best_similarity
        ),
        (1, Some(0.75))
    );
    assert_eq!(view.uncertain[0].reasons, [UncertainReason::SeenTooRarely]);
}

#[test]
fn older_frame_is_out_of_order() {
    for (seq, second, is_taken) in [
        (None, 100, true),
        (None, 99, false),
        (Some(8), 100, true),
        (Some(8), 99, false),
        (Some(7), 101, false),
        (Some(6), 101, false),
    ] {
        let mut session = Written::new(rule(2, None), 100);
        let number = |seq, second| ObservedFrame {
            seq,
            ..frame(second, &["a"])
        };
        session.observe(&number(Some(7), 99));
        // A frame without a number does not reset the numbers.
        session.observe(&number(None, 100));
        let result = session.session.observe(&number(seq, second), at(0));
        let last = FramePosition {
            seq: Some(7),
            at: at(100),
        };
        let expected = SessionError::OutOfOrder { last };
        assert_eq!(result.is_ok(), is_taken, "{seq:?} {second}");
        if let Err(error) = result {
            assert_eq!((error.code(), &error), ("out_of_order", &expected));
            assert!(error.to_string().contains("seq 7, at 1970-01-01T00:01:40Z"));
        }
    }
}

#[test]
fn ended_session_refuses_frames() {
    let mut session = Written::new(rule(1, None), 100);
    let end = session.session.end(at(50)).unwrap();
    assert_eq!(session.write(end), ["ended"]);
    let error = session
        .session
        .observe(&frame(60, &["a"]), at(60))
        .unwrap_err();
    assert_eq!(
        (error.code(), error),
        ("session_ended", SessionError::Ended(at(50)))
    );
    assert_eq!(session.session.end(at(70)), None);
    // A teacher corrects the list after the lesson.
    let corrected = session.correct("a", Some(CorrectedStatus::Present));
    assert_eq!(corrected, ["corrected a"]);
}

#[test]
fn correction_suppresses_arrival_event() {
    let mut session = Written::new(rule(2, None), 100);
    session.observe(&frame(10, &["a"]));
    session.correct("a", Some(CorrectedStatus::Absent));
    assert!(session.observe(&frame(11, &["a"])).is_empty());
    assert_eq!(
        session.statuses(&[]),
        [("a".to_owned(), PresenceStatus::Absent)]
    );
    session.correct("a", None);
    assert_eq!(
        session.statuses(&[]),
        [("a".to_owned(), PresenceStatus::Present)]
    );
}

#[test]
fn view_lists_everyone_once() {
    use PresenceStatus::{Absent, Late, Present, Uncertain};

    let mut session = Written::new(rule(2, Some(20)), 100);
    session.observe(&frame(10, &["a", "b", "c"]));
    session.observe(&frame(11, &["a"]));
    session.observe(&frame(21, &["b"]));
    session.correct("d", Some(CorrectedStatus::Present));
    // A correction that is withdrawn leaves no trace of a person that was not seen.
    session.correct("e", Some(CorrectedStatus::Present));
    session.correct("e", None);
    let expected = [
        ("a", Present),
        ("b", Late),
        ("d", Present),
        ("c", Uncertain),
        ("f", Absent),
    ];
    assert_eq!(
        session.statuses(&["a", "c", "f", "f"]),
        expected.map(|(id, status)| (id.to_owned(), status))
    );
    let json = serde_json::to_value(session.session.view(&[])).unwrap();
    assert_eq!(json["stream"], "door");
    assert_eq!(json["uncertain"][0]["reasons"][0], "seen_too_rarely");
    assert_eq!(json["present"][2]["correction"]["by"], "desk");
}

#[test]
fn event_limit_is_told_once() {
    let mut session = Written::new(rule(1, None), 3);
    assert_eq!(
        session.observe(&frame(1, &["a", "b", "c", "d"])),
        ["arrived a", "arrived b", "too_many_events"]
    );
    assert!(session.observe(&frame(2, &["e"])).is_empty());
    assert!(session.correct("f", Some(CorrectedStatus::Late)).is_empty());
    assert_eq!(session.statuses(&[]).len(), 6);
    assert_eq!(session.restarted(), session.session);
    let end = session.session.end(at(9)).unwrap();
    assert_eq!(session.write(end), ["ended"]);
}

#[test]
fn policy_events_follow_arrivals() {
    let mut session = Written::new(rule(1, None), 100);
    let mut noted = frame(1, &["a"]);
    noted.policy_events = vec![PolicyEvent {
        value: Some(f32::NAN),
        ..policy_event(Some("b"), "A hand is up.")
    }];
    assert_eq!(session.observe(&noted), ["arrived a", "policy b"]);
    let EventKind::Policy(event) = &session.changes[1].events[1].kind else {
        panic!()
    };
    assert_eq!(event.value, None);
    // A deletion must find the person of the event.
    assert!(session.session.has_person(&person("b")) && session.session.has_policy_events);
    assert_eq!(session.statuses(&[]).len(), 1);
    assert_eq!(session.restarted(), session.session);
}

#[test]
fn counts_join_next_event() {
    let mut session = Written::new(rule(2, None), 100);
    session.observe(&frame(10, &["a", "b"]));
    assert_eq!(session.changes.len(), 1);
    session.observe(&frame(11, &["a"]));
    assert_eq!(ids(&session.changes[1].people), ["a", "b"]);
    assert_eq!(session.session.checkpoint(), None);
    session.observe(&frame(12, &["b", "c"]));
    session.observe(&frame(13, &["c"]));
    session.observe(&frame(14, &["c"]));
    session.observe(&frame(15, &[]));
    let checkpoint = session.session.checkpoint().unwrap();
    assert_eq!(ids(&checkpoint.people), ["c"]);
    assert!(checkpoint.events.is_empty());
    session.write(checkpoint);
    assert_eq!(session.restarted(), session.session);
}

#[test]
fn bound_revision_survives_restart() {
    let mut session = Written::new(rule(2, None), 100);
    session.write(session.session.bind("r2".to_owned(), at(1)));
    session.write(session.session.end(at(2)).unwrap());
    assert_eq!(session.restarted().summary().revision, "r2");
    let mut copy = Session::new(session.session.head.clone(), 100);
    copy.apply(&session.session.snapshot());
    assert_eq!(copy.summary().revision, "r2");
}

#[test]
fn removed_person_leaves_gap() {
    let mut session = Written::new(rule(1, None), 100);
    session.observe(&frame(10, &["a", "b"]));
    session.observe(&frame(11, &["a"]));
    let (without, change) = session.session.without(&person("a"), at(20));
    assert_eq!(ids(&change.people), ["b"]);
    assert_eq!(change.events[0].kind, EventKind::PersonRemoved);
    assert_eq!(change.events[0].id.number, 4);
    assert!(!without.has_person(&person("a")) && without.has_person(&person("b")));
    assert_eq!(without.active, at(11));
    assert_eq!(without.checkpoint(), None);
}

#[test]
fn replay_refuses_foreign_events() {
    let session = Written::new(rule(1, None), 100);
    let mut restarted = session.restarted();
    assert_eq!(restarted.replay(&session.changes[0]), Err(InvalidChange));
    let mut other = Session::new(head(), 100);
    assert_eq!(other.replay(&session.changes[0]), Err(InvalidChange));
    assert_eq!(other.last_event, 0);
}

proptest! {
    /// Frames of several people count like frames of one person each, and a restart after a
    /// checkpoint changes nothing.
    #[test]
    fn counting_ignores_grouping_of_frames(
        frames in prop::collection::vec(
            (0_i64..50, prop::collection::btree_set(0_u8..6, 0..5), -1.0_f32..1.0, any::<bool>()),
            0..40,
        ),
        seen in 1_u32..4,
    ) {
        let mut whole = Written::new(rule(seen, Some(300)), 1000);
        let mut split = Written::new(rule(seen, Some(300)), 1000);
        let mut second = 0;
        for (step, people, similarity, is_restart) in frames {
            second += step;
            let names: Vec<String> = people.iter().map(|number| format!("p{number}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let frame = |names: &[&str]| {
                let mut frame = frame(second, names);
                frame.people.iter_mut().for_each(|named| named.similarity = similarity);
                frame
            };
            let together = whole.observe(&frame(&names));
            let mut apart = Vec::new();
            for name in names {
                apart.extend(split.observe(&frame(&[name])));
            }
            prop_assert_eq!(together, apart);
            if is_restart {
                if let Some(checkpoint) = split.session.checkpoint() {
                    split.write(checkpoint);
                }
                let restarted = split.restarted();
                prop_assert_eq!(&restarted, &split.session);
                split.session = restarted;
            }
        }
        prop_assert_eq!(whole.session.people, split.session.people);
    }
}
