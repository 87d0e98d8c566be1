//! The revisions next to the active one for whose embedding contracts enrolments are embedded as
//! well.
//!
//! These are the previous one and the canary, which may answer the next request, and those of which
//! the operator said so. A staged revision sees no enrolment photo otherwise, because nobody
//! activated it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rostro_common::digest::Sha256Digest;

use super::live::ReadyRevision;
use super::record::{Record, Status};

/// A revision whose contract is another than the active one's.
#[derive(Clone, Debug)]
pub(crate) struct Counterpart {
    pub id: Sha256Digest,
    /// What it is next to the active one: `previous`, `canary` or `staged`.
    pub role: &'static str,
    /// The revision; none while it is being made ready again after a start.
    pub live: Option<Arc<ReadyRevision>>,
}

/// Returns one revision for each further contract, ready ones first.
pub(super) fn counterparts(
    record: &Record,
    ready: &HashMap<Sha256Digest, Arc<ReadyRevision>>,
    active: &ReadyRevision,
) -> Vec<Counterpart> {
    let parts = record
        .previous
        .map(|id| (id, "previous"))
        .into_iter()
        .chain(record.canary.map(|beside| (beside.id, "canary")));
    let asked = record
        .revisions
        .iter()
        .filter(|entry| entry.enrol && matches!(entry.status, Status::Staged | Status::Staging));
    let parts = parts.chain(asked.map(|entry| (entry.id, "staged")));
    let mut counterparts: Vec<Counterpart> = parts
        .map(|(id, role)| Counterpart {
            id,
            role,
            live: ready.get(&id).cloned(),
        })
        .collect();
    counterparts.sort_by_key(|counterpart| counterpart.live.is_none());
    let mut contracts = HashSet::from([active.revision.contract().id.to_string()]);
    // One that was never asked what it is has no contract yet, and so no samples to lose.
    counterparts.retain(|counterpart| {
        contract_of(record, counterpart).is_some_and(|contract| contracts.insert(contract))
    });
    counterparts
}

fn contract_of(record: &Record, counterpart: &Counterpart) -> Option<String> {
    match &counterpart.live {
        Some(live) => Some(live.revision.contract().id.to_string()),
        None => record
            .entry(counterpart.id)?
            .about
            .as_ref()
            .map(|about| about.contract.clone()),
    }
}
