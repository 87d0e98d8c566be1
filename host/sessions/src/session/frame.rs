//! A frame as a session sees it: without pixels.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rostro_common::ids::PersonId;

use crate::event::PolicyEvent;

/// Result of a frame that was recognised.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedFrame {
    /// Number that the caller gave the frame.
    pub seq: Option<u64>,
    /// Time of the frame.
    pub at: Timestamp,
    /// People that the policy named.
    pub people: Vec<NamedPerson>,
    /// The policy's own events.
    pub policy_events: Vec<PolicyEvent>,
}

/// A person that the policy named in a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedPerson {
    /// The person.
    pub id: PersonId,
    /// Similarity of the face. A number that is not finite counts as none.
    pub similarity: f32,
}

impl ObservedFrame {
    /// Returns each person once, with the best similarity, because a frame counts once.
    pub(super) fn best_by_person(&self) -> BTreeMap<&PersonId, f32> {
        let mut best = BTreeMap::new();
        for named in &self.people {
            let similarity = match named.similarity.is_finite() {
                true => named.similarity,
                false => f32::NAN,
            };
            best.entry(&named.id)
                .and_modify(|best: &mut f32| *best = best.max(similarity))
                .or_insert(similarity);
        }
        best
    }
}
