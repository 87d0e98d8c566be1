//! Small histories by hand, with one planted violation for each rule.

use super::*;
use std::time::Duration;

fn at(begin: u64, end: u64) -> Span {
    Span {
        begin: Duration::from_secs(begin),
        end: Duration::from_secs(end),
    }
}

fn enroll() -> Operation {
    Operation::Enroll {
        person: "alice".to_owned(),
    }
}

fn delete() -> Operation {
    Operation::Delete {
        person: "alice".to_owned(),
    }
}

fn join() -> Operation {
    Operation::Join {
        person: "alice".to_owned(),
        group: "maths".to_owned(),
    }
}

fn leave() -> Operation {
    Operation::Leave {
        person: "alice".to_owned(),
        group: "maths".to_owned(),
    }
}

fn naming() -> Operation {
    Operation::Recognize {
        person: "alice".to_owned(),
        names: BTreeSet::from(["alice".to_owned()]),
        revision: None,
        is_stale: false,
    }
}

fn done(begin: u64, end: u64, operation: Operation) -> Entry {
    Entry {
        span: at(begin, end),
        node: 0,
        operation,
        outcome: Outcome::Answered,
    }
}

fn unclear(begin: u64, end: u64, operation: Operation) -> Entry {
    Entry {
        outcome: Outcome::Unclear("no answer".to_owned()),
        ..done(begin, end, operation)
    }
}

fn refused(begin: u64, end: u64, operation: Operation) -> Entry {
    Entry {
        outcome: Outcome::Refused("404 unknown_person".to_owned()),
        ..done(begin, end, operation)
    }
}

fn enrolled() -> Fact {
    Fact::Enrolled {
        person: "alice".to_owned(),
    }
}

fn member() -> Fact {
    Fact::Member {
        person: "alice".to_owned(),
        group: "maths".to_owned(),
    }
}

/// Returns what a node says that has these facts and recognises the people in them.
fn view(node: usize, facts: &[Fact]) -> View {
    let people = facts.iter().filter(|fact| **fact == enrolled());
    View {
        node,
        span: at(100, 101),
        facts: facts.iter().cloned().collect(),
        recognized: people.map(|fact| fact.person().to_owned()).collect(),
    }
}

/// Asserts that an answer which names alice is forbidden after these operations.
fn assert_forbidden(mut entries: Vec<Entry>, recognition: Entry) {
    entries.push(recognition.clone());
    let named = Violation::Named {
        person: "alice".to_owned(),
        entry: recognition,
    };
    assert_eq!(check(&entries, &[]), [named]);
}

fn assert_allowed(entries: &[Entry]) {
    assert_eq!(check(entries, &[]), []);
}

#[test]
fn name_after_deletion_found() {
    let entries = vec![done(1, 2, enroll()), done(3, 4, delete())];
    assert_forbidden(entries, done(5, 6, naming()));
}

#[test]
fn name_without_enrolment_found() {
    assert_forbidden(Vec::new(), done(5, 6, naming()));
    assert_forbidden(vec![refused(1, 2, enroll())], done(5, 6, naming()));
}

#[test]
fn name_before_enrolment_found() {
    assert_forbidden(vec![done(7, 8, enroll())], done(5, 6, naming()));
    let entries = vec![
        done(1, 2, enroll()),
        done(3, 4, delete()),
        unclear(7, 8, enroll()),
    ];
    assert_forbidden(entries, done(5, 6, naming()));
}

/// The unclear deletion between two answered ones takes nothing away from the second.
#[test]
fn name_after_second_deletion_found() {
    let entries = vec![
        done(1, 2, enroll()),
        unclear(3, 4, delete()),
        done(3, 5, delete()),
    ];
    assert_forbidden(entries, done(6, 7, naming()));
}

#[test]
fn overlapping_requests_go_either_way() {
    let enrolled = done(1, 2, enroll());
    // The recognition began before the deletion was answered.
    assert_allowed(&[enrolled.clone(), done(3, 5, delete()), done(4, 6, naming())]);
    // The enrolment may have taken effect after the deletion.
    assert_allowed(&[
        done(1, 4, enroll()),
        done(3, 5, delete()),
        done(6, 7, naming()),
    ]);
    // The recognition overlaps the next enrolment.
    assert_allowed(&[
        enrolled,
        done(3, 4, delete()),
        done(5, 7, naming()),
        done(6, 8, enroll()),
    ]);
}

#[test]
fn unanswered_deletion_promises_nothing() {
    let (enrolled, naming) = (done(1, 2, enroll()), done(5, 6, naming()));
    assert_allowed(&[enrolled.clone(), unclear(3, 4, delete()), naming.clone()]);
    assert_allowed(&[enrolled, refused(3, 4, delete()), naming]);
}

/// A statement that the network held may arrive after the deletion.
#[test]
fn unanswered_enrolment_outlives_deletion() {
    let entries = [unclear(1, 2, enroll()), done(50, 51, delete())];
    assert_allowed(&[entries.as_slice(), &[done(60, 61, naming())]].concat());
    assert_eq!(check(&entries, &[view(0, &[enrolled()])]), []);
    assert_eq!(check(&entries, &[view(0, &[])]), []);
}

#[test]
fn lost_enrolment_found() {
    let entries = [done(1, 2, delete()), done(3, 4, enroll())];
    let lost = Violation::Lost {
        node: 1,
        fact: enrolled(),
    };
    assert_eq!(check(&entries, &[view(1, &[])]), [lost]);
    assert_eq!(check(&entries, &[view(1, &[enrolled()])]), []);
}

/// An unclear deletion may take effect after a later enrolment.
#[test]
fn unclear_deletion_excuses_lost_enrolment() {
    for deletion in [
        unclear(1, 2, delete()),
        done(3, 5, delete()),
        done(6, 7, delete()),
    ] {
        assert_eq!(
            check(&[deletion, done(3, 4, enroll())], &[view(0, &[])]),
            []
        );
    }
}

#[test]
fn leftover_person_found() {
    let entries = [done(1, 2, enroll()), done(3, 4, delete())];
    let leftover = Violation::Leftover {
        node: 0,
        fact: enrolled(),
    };
    assert_eq!(check(&entries, &[view(0, &[enrolled()])]), [leftover]);
    assert_eq!(check(&entries, &[view(0, &[])]), []);
}

#[test]
fn lost_membership_found() {
    let entries = [
        done(1, 2, enroll()),
        done(3, 4, leave()),
        done(5, 6, join()),
    ];
    let lost = Violation::Lost {
        node: 0,
        fact: member(),
    };
    assert_eq!(check(&entries, &[view(0, &[enrolled()])]), [lost]);
    assert_eq!(check(&entries, &[view(0, &[enrolled(), member()])]), []);
}

#[test]
fn leftover_membership_found() {
    let leftover = Violation::Leftover {
        node: 0,
        fact: member(),
    };
    let joined = [done(1, 2, enroll()), done(3, 4, join())];
    let left = [joined.as_slice(), &[done(5, 6, leave())]].concat();
    assert_eq!(
        check(&left, &[view(0, &[enrolled(), member()])]),
        std::slice::from_ref(&leftover)
    );
    // A deletion takes the person out of every group, also if the id is enrolled again.
    let again = [
        joined.as_slice(),
        &[done(5, 6, delete()), done(7, 8, enroll())],
    ]
    .concat();
    assert_eq!(
        check(&again, &[view(0, &[enrolled(), member()])]),
        [leftover]
    );
    assert_eq!(check(&again, &[view(0, &[enrolled()])]), []);
}

#[test]
fn unrecognized_person_found() {
    let entries = [done(1, 2, enroll())];
    let view = View {
        recognized: BTreeSet::new(),
        ..view(2, &[enrolled()])
    };
    let unrecognized = Violation::Unrecognized {
        node: 2,
        person: "alice".to_owned(),
    };
    assert_eq!(check(&entries, &[view]), [unrecognized]);
}

#[test]
fn different_nodes_found() {
    let entries = [unclear(1, 2, enroll())];
    let views = [view(0, &[enrolled()]), view(1, &[])];
    let different = Violation::Different {
        nodes: [0, 1],
        fact: enrolled(),
    };
    assert_eq!(check(&entries, &views), [different]);
}

#[test]
fn violation_explained_by_changes() {
    let entries = [done(1, 2, enroll()), refused(3, 4, leave())];
    let lost = Violation::Lost {
        node: 0,
        fact: enrolled(),
    };
    let text = lost.explain(&entries);
    assert!(
        text.contains("Enroll") && text.contains("404 unknown_person"),
        "{text}"
    );
}

#[test]
fn answers_after_deletions_counted() {
    let unnamed = |begin, end| {
        let recognition = Operation::Recognize {
            person: "alice".to_owned(),
            names: BTreeSet::new(),
            revision: None,
            is_stale: false,
        };
        done(begin, end, recognition)
    };
    let entries = [
        unnamed(0, 1),
        done(2, 3, enroll()),
        unnamed(4, 5),
        done(6, 7, delete()),
        unnamed(8, 9),
        unnamed(10, 12),
        done(11, 13, enroll()),
    ];
    assert_eq!(answers_after_deletions(&entries), 1);
}
