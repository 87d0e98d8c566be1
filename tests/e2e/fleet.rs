//! Several nodes on one database: promises under load and faults.

#[path = "../fleet/mod.rs"]
pub(crate) mod hammer;

use std::time::Duration;

use crate::harness::root;
use hammer::checker::Violation;
use hammer::faults::FaultKind;
use hammer::history::Outcome;
use hammer::{Length, Plan, outage, planted};

/// Clients of three nodes enrol, delete and recognise people while revisions change and each kind
/// of fault happens once.
#[test]
fn promises_kept_under_faults() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let report = hammer::run(&Plan {
        seed,
        nodes: 3,
        lease: Duration::from_secs(2),
        clients: 2,
        people: 8,
        calm: Duration::from_secs(1),
        sequences: 1,
        length: Length::Faults(FaultKind::ALL.len()),
        folder: root().join("target/tmp/fleet"),
    });
    eprintln!("{report}");
    assert!(report.is_clean(), "seed {seed}: {report}");
    for kind in ["enrolment", "deletion"] {
        assert!(report.answered(kind) > 5, "seed {seed}: {report}");
    }
    assert!(report.answered_changes() > 2, "seed {seed}: {report}");
    assert!(
        report.answers_after_deletions() > 5 && report.answers_after_changes() > 5,
        "seed {seed}: {report}"
    );
}

/// The checker finds answers of a node that does not check its lease, and the check prevents them.
#[test]
fn unchecked_lease_is_found() {
    let folder = root().join("target/tmp/fleet-planted");
    let checked = planted::cut_off(true, &folder);
    assert_eq!(checked.violations, []);
    assert_eq!(
        checked.answer,
        Outcome::Unclear("503 lease_lost".to_owned())
    );
    let unchecked = planted::cut_off(false, &folder);
    assert!(
        matches!(
            unchecked.violations.as_slice(),
            [Violation::Named { .. }, Violation::Served { .. }]
        ),
        "{unchecked:?}"
    );
}

/// Without the database nodes answer until their leases end, and again soon after its return.
#[test]
fn nodes_outlast_database_within_lease() {
    let lease = Duration::from_secs(2);
    let report = outage::run(&outage::Plan {
        seed: fastrand::u64(..),
        nodes: 3,
        lease,
        outage: Duration::from_secs(8),
        stale_reads: false,
        folder: root().join("target/tmp/fleet-outage"),
    });
    eprintln!("{report}");
    report.assert_recovered();
}
