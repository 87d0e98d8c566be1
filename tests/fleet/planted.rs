//! A node that is cut off, with and without a planted fault: the check of the lease is left out.

use std::path::Path;
use std::time::Duration;

use super::checker::{self, Violation};
use super::cluster::{Cluster, Leases};
use super::history::{History, Outcome};
use super::operator::{Operator, caller};
use super::people::Person;
use super::proxy::Link;
use crate::harness::eventually;

/// Time after which the others no longer wait for the node.
const LEASE: Duration = Duration::from_secs(2);

/// What the node that was cut off answered, and the checker found.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) answer: Outcome,
    pub(crate) violations: Vec<Violation>,
}

/// Cuts one of two nodes off, deletes a person and activates another revision at the other node,
/// and then has the person recognised by the first.
pub(crate) fn cut_off(is_checked: bool, folder: &Path) -> Finding {
    super::clear(folder);
    let leases = match is_checked {
        true => Leases::Checked(LEASE),
        false => Leases::Unchecked(LEASE),
    };
    let cluster = Cluster::start(2, leases, folder);
    let history = History::begin();
    let operator = Operator::prepare(&cluster, &history);
    let [other, cut] = [0, 1].map(|node| caller(&cluster, &history, node).unwrap());
    let person = Person::new("alice".to_owned());
    assert_eq!(other.enroll(&person), Outcome::Answered);
    eventually("the other node knows the person", || {
        cut.recognizes(&person)
    });
    cluster.nodes[1].set(Link::Cut);
    assert_eq!(other.delete(&person), Outcome::Answered);
    assert_eq!(other.activate(&operator.revisions()[1]), Outcome::Answered);
    let answer = cut.recognize(&person, None);
    Finding {
        answer,
        violations: checker::check(&history.entries(), &[]),
    }
}
