//! Counterparts: revisions of other contracts than the active one's, for which enrolments are
//! embedded as well.
//!
//! These are the previous revision and the canary, which may answer the next request, and revisions
//! that were pushed with `enrol`. Another staged revision sees no enrolment photo, because no
//! operator activated it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rostro_common::digest::Sha256Digest;

use super::ready::ReadyRevision;
use super::record::{Record, Status};

/// A revision with another contract than the active one's.
#[derive(Clone, Debug)]
pub(crate) struct Counterpart {
    pub id: Sha256Digest,
    /// Its role: `previous`, `canary` or `staged`.
    pub role: &'static str,
    /// The revision. None while it is staged again after a start.
    pub ready: Option<Arc<ReadyRevision>>,
}

/// The revisions for which an enrolment is embedded.
#[derive(Clone, Debug)]
pub(crate) struct EnrollTargets {
    /// The active revision, which reviews the photos.
    pub active: Arc<ReadyRevision>,
    pub counterparts: Vec<Counterpart>,
}

/// Returns one revision for each further contract, preferring those that are ready.
pub(super) fn counterparts(
    record: &Record,
    ready: &HashMap<Sha256Digest, Arc<ReadyRevision>>,
    active: &ReadyRevision,
) -> Vec<Counterpart> {
    let with_role = record
        .previous
        .map(|id| (id, "previous"))
        .into_iter()
        .chain(record.canary.map(|canary| (canary.id, "canary")));
    let pushed_with_enrol = record
        .revisions
        .iter()
        .filter(|entry| entry.enrol && matches!(entry.status, Status::Staged | Status::Staging))
        .map(|entry| (entry.id, "staged"));
    let mut counterparts: Vec<Counterpart> = with_role
        .chain(pushed_with_enrol)
        .map(|(id, role)| Counterpart {
            id,
            role,
            ready: ready.get(&id).cloned(),
        })
        .collect();
    counterparts.sort_by_key(|counterpart| counterpart.ready.is_none());
    let mut contracts = HashSet::from([active.revision.contract().id.to_string()]);
    // A revision that was never staged has no contract yet, and so no samples to lose.
    counterparts.retain(|counterpart| {
        contract_of(record, counterpart).is_some_and(|contract| contracts.insert(contract))
    });
    counterparts
}

fn contract_of(record: &Record, counterpart: &Counterpart) -> Option<String> {
    match &counterpart.ready {
        Some(ready) => Some(ready.revision.contract().id.to_string()),
        None => record
            .entry(counterpart.id)?
            .about
            .as_ref()
            .map(|about| about.contract.clone()),
    }
}
