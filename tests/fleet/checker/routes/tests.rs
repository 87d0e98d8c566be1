//! Small histories by hand, with a planted violation.

use super::super::check;
use super::*;

fn entry(begin: u64, end: u64, operation: Operation, outcome: Outcome) -> Entry {
    let [begin, end] = [begin, end].map(Duration::from_secs);
    Entry {
        span: Span { begin, end },
        node: 0,
        operation,
        outcome,
    }
}

fn done(begin: u64, end: u64, operation: Operation) -> Entry {
    entry(begin, end, operation, Outcome::Answered)
}

fn unclear(begin: u64, end: u64, operation: Operation) -> Entry {
    let outcome = Outcome::Unclear("no answer".to_owned());
    entry(begin, end, operation, outcome)
}

fn refused(begin: u64, end: u64, operation: Operation) -> Entry {
    let outcome = Outcome::Refused("409 not_ready".to_owned());
    entry(begin, end, operation, outcome)
}

fn activate(revision: &str) -> Operation {
    Operation::Activate {
        revision: revision.to_owned(),
    }
}

fn roll_back(revision: Option<&str>) -> Operation {
    Operation::RollBack {
        revision: revision.map(str::to_owned),
    }
}

fn answer(begin: u64, end: u64, revision: &str) -> Entry {
    let recognition = Operation::Recognize {
        person: "alice".to_owned(),
        names: BTreeSet::new(),
        revision: Some(revision.to_owned()),
        is_stale: false,
    };
    done(begin, end, recognition)
}

fn is_allowed(changes: &[Entry], answer: &Entry) -> bool {
    check(&[changes, std::slice::from_ref(answer)].concat(), &[]).is_empty()
}

#[test]
fn old_revision_after_change_found() {
    let first = done(0, 1, activate("a"));
    for change in [activate("b"), roll_back(Some("b"))] {
        let changes = [first.clone(), done(2, 3, change)];
        let old = answer(4, 5, "a");
        let served = Violation::Served {
            revision: "a".to_owned(),
            entry: old.clone(),
        };
        let text = served.explain(&changes);
        assert!(
            text.contains("a served") && text.contains("Activate"),
            "{text}"
        );
        assert_eq!(check(&[changes.as_slice(), &[old]].concat(), &[]), [served]);
        assert!(is_allowed(&changes, &answer(4, 5, "b")));
    }
}

/// A change that changes nothing promises the same.
#[test]
fn old_revision_after_repetition_found() {
    let changes = [
        done(0, 1, activate("a")),
        unclear(2, 3, activate("b")),
        done(4, 5, activate("b")),
    ];
    assert!(!is_allowed(&changes, &answer(6, 7, "a")));
}

#[test]
fn revision_before_activation_found() {
    let changes = [done(0, 1, activate("a")), done(4, 5, activate("b"))];
    assert!(!is_allowed(&changes, &answer(2, 3, "b")));
    assert!(!is_allowed(&changes[..1], &answer(2, 3, "b")));
    let refused = [changes[0].clone(), refused(2, 3, activate("b"))];
    assert!(!is_allowed(&refused, &answer(4, 5, "b")));
}

#[test]
fn overlapping_changes_go_either_way() {
    let changes = [done(0, 1, activate("a")), done(3, 5, activate("b"))];
    assert!(is_allowed(&changes, &answer(2, 4, "b")));
    assert!(is_allowed(&changes, &answer(4, 6, "a")));
    // One of two overlapping changes is the last.
    let changes = [done(2, 4, activate("a")), done(3, 5, activate("b"))];
    for revision in ["a", "b"] {
        assert!(is_allowed(&changes, &answer(6, 7, revision)));
    }
}

#[test]
fn later_change_restores_old_revision() {
    let changes = [
        done(0, 1, activate("a")),
        done(2, 3, activate("b")),
        done(4, 5, roll_back(Some("a"))),
    ];
    assert!(is_allowed(&changes, &answer(6, 7, "a")));
    assert!(!is_allowed(&changes, &answer(6, 7, "b")));
}

#[test]
fn unanswered_change_promises_nothing() {
    for change in [activate("b"), roll_back(None)] {
        let changes = [done(0, 1, activate("a")), unclear(2, 3, change)];
        for revision in ["a", "b"] {
            assert!(is_allowed(&changes, &answer(4, 5, revision)));
        }
    }
    let changes = [done(0, 1, activate("a")), refused(2, 3, activate("b"))];
    assert!(is_allowed(&changes, &answer(4, 5, "a")));
}

#[test]
fn late_effect_excuses_for_limited_time() {
    let late = LATE.as_secs();
    let changes = |from: u64| {
        [
            done(0, 1, activate("a")),
            unclear(2, 3, activate("a")),
            done(from, from + 1, activate("b")),
        ]
    };
    assert!(is_allowed(&changes(4), &answer(6, 7, "a")));
    let after = late + 4;
    assert!(!is_allowed(
        &changes(after),
        &answer(after + 2, after + 3, "a")
    ));
}

#[test]
fn answers_after_changes_counted() {
    let entries = [
        done(0, 1, activate("a")),
        answer(2, 3, "a"),
        done(4, 6, activate("b")),
        answer(5, 7, "b"),
        answer(8, 9, "b"),
    ];
    assert_eq!(Routes::of(&entries).answers_after_changes(&entries), 1);
    let counts = answers_by_revision(&entries);
    assert_eq!(counts, BTreeMap::from([("a", 1), ("b", 2)]));
}
