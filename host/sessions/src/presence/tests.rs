//! Tests of the counting.

use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn rule(seen: u32, within_s: u64, late_after: Option<i64>) -> PresenceRule {
    PresenceRule::new(seen, within_s, late_after.map(at)).unwrap()
}

fn person() -> PersonPresence {
    PersonPresence::new("s6".parse().unwrap())
}

/// Counts frames at these seconds.
fn counted(rule: &PresenceRule, seconds: &[i64]) -> PersonPresence {
    let mut person = person();
    for &second in seconds {
        person.see(at(second), 0.5, rule);
    }
    person
}

#[test]
fn rule_decides_status() {
    use PresenceStatus::{Late, Present, Uncertain};

    for (seen, within_s, late_after, seconds, status) in [
        (1, 60, None, &[][..], None),
        (1, 60, None, &[10], Some(Present)),
        (2, 60, None, &[10], Some(Uncertain)),
        (2, 60, None, &[10, 70], Some(Present)),
        (2, 60, None, &[10, 71], Some(Uncertain)),
        (2, 60, None, &[10, 71, 131], Some(Present)),
        // Two frames of the same time.
        (2, 60, None, &[10, 10], Some(Present)),
        (3, 10, None, &[0, 6, 11, 17, 22], Some(Uncertain)),
        (3, 10, None, &[0, 6, 11, 16], Some(Present)),
        // The status stays when the person leaves.
        (2, 60, None, &[0, 1, 5000], Some(Present)),
        (2, 60, Some(70), &[10, 70], Some(Present)),
        (2, 60, Some(70), &[11, 71], Some(Late)),
        (2, 60, Some(70), &[10, 70, 80], Some(Present)),
        (2, 60, Some(70), &[100], Some(Uncertain)),
    ] {
        let rule = rule(seen, within_s, late_after);
        let person = counted(&rule, seconds);
        assert_eq!(person.status(&rule), status, "{rule:?} {seconds:?}");
    }
}

#[test]
fn sightings_are_counted() {
    let rule = rule(2, 60, None);
    let mut person = person();
    assert_eq!(person.seen(), None);
    for (second, similarity, arrives) in [
        (10, f32::NAN, false),
        (20, 0.7, true),
        (30, 0.9, false),
        (40, 0.8, false),
        (50, f32::INFINITY, false),
    ] {
        assert_eq!(
            person.see(at(second), similarity, &rule),
            arrives,
            "{second}"
        );
    }
    let expected = Sightings {
        first: at(10),
        last: at(50),
        times: 5,
        best: Some(0.9),
    };
    assert_eq!(
        (person.seen(), person.arrived()),
        (Some(&expected), Some(at(20)))
    );
}

#[test]
fn correction_wins_until_withdrawn() {
    let rule = rule(1, 60, None);
    for (corrected, status) in [
        (CorrectedStatus::Present, PresenceStatus::Present),
        (CorrectedStatus::Late, PresenceStatus::Late),
        (CorrectedStatus::Absent, PresenceStatus::Absent),
    ] {
        let mut person = person();
        person.correct(Some(Correction {
            status: corrected,
            by: None,
            at: at(5),
        }));
        assert_eq!(person.status(&rule), Some(status));
        person.see(at(10), 0.5, &rule);
        assert_eq!(person.status(&rule), Some(status));
        person.correct(None);
        assert_eq!(person.status(&rule), Some(PresenceStatus::Present));
    }
    let mut person = person();
    person.correct(None);
    assert_eq!(person.status(&rule), None);
}

proptest! {
    /// Compares the counting with one that keeps every frame.
    #[test]
    fn counting_equals_full_history(
        steps in prop::collection::vec(0_i64..8, 0..60), seen in 1_u32..6, within_s in 1_u64..12,
    ) {
        let rule = rule(seen, within_s, None);
        let mut person = person();
        let (mut second, mut history, mut arrived) = (0, Vec::new(), None);
        for step in steps {
            second += step;
            history.push(second);
            let is_window = history.len().checked_sub(seen as usize).is_some_and(|start| {
                second - history[start] <= within_s as i64
            });
            let is_arrival = arrived.is_none() && is_window;
            if is_arrival {
                arrived = Some(at(second));
            }
            prop_assert_eq!(person.see(at(second), 0.5, &rule), is_arrival);
            prop_assert!(person.recent.len() < seen as usize);
            // A restart between two frames changes nothing.
            let json = serde_json::to_string(&person).unwrap();
            prop_assert_eq!(&serde_json::from_str::<PersonPresence>(&json).unwrap(), &person);
        }
        prop_assert_eq!(person.arrived(), arrived);
        prop_assert_eq!(person.seen().map_or(0, |seen| seen.times), history.len() as u64);
    }
}
