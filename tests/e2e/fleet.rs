//! Several nodes on one database: promises under load and faults.

#[path = "../fleet/mod.rs"]
mod hammer;

use std::time::Duration;

use crate::harness::root;
use hammer::faults::FaultKind;
use hammer::{Length, Plan};

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
    for kind in ["activation", "rollback"] {
        assert!(report.answered(kind) > 0, "seed {seed}: {report}");
    }
    assert!(
        report.answers_after_deletions() > 5 && report.answers_after_changes() > 5,
        "seed {seed}: {report}"
    );
}
