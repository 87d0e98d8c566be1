//! What callers see of a session.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rostro_common::ids::PersonId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::ids::{SessionId, StreamName};
use crate::presence::{Correction, PersonPresence, PresenceStatus};
use crate::rule::PresenceRule;

use super::{FramePosition, Session};

/// A session without its people.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct SessionSummary {
    /// Id.
    #[schema(value_type = String)]
    pub id: SessionId,
    /// Stream that the frames come from.
    #[schema(value_type = String)]
    pub stream: StreamName,
    /// Group that people are recognised in.
    pub group: Option<String>,
    /// Rule by which a person is present.
    pub rule: PresenceRule,
    /// Name of the API key that created it.
    pub owner: Option<String>,
    /// Revision that the session is bound to.
    pub revision: String,
    /// Time of the creation.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// Time of the end.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended: Option<Timestamp>,
    /// Position of the last frame.
    pub last_frame: Option<FramePosition>,
    /// Number of the last event.
    pub last_event: u64,
}

/// A session with its people, each in one list, ordered by id.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Session)]
pub struct SessionView {
    /// The session.
    #[serde(flatten)]
    pub summary: SessionSummary,
    /// People that came in time or late.
    pub present: Vec<Attendance>,
    /// People that a user should look for.
    pub uncertain: Vec<Attendance>,
    /// Members that no frame named, and people that were corrected to be absent.
    pub absent: Vec<Attendance>,
}

/// Attendance of a person.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Attendance {
    /// The person.
    #[schema(value_type = String)]
    pub id: PersonId,
    /// Status, the corrected one if there is a correction.
    pub status: PresenceStatus,
    /// Time of the first frame that named the person.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub first_seen: Option<Timestamp>,
    /// Time of the last frame that named the person.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_seen: Option<Timestamp>,
    /// Number of frames that named the person.
    pub times_seen: u64,
    /// Best similarity.
    pub best_similarity: Option<f32>,
    /// Reasons, if the status is uncertain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<UncertainReason>,
    /// Correction in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correction: Option<Correction>,
}

/// Reason why a person is neither present nor absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UncertainReason {
    /// Fewer frames named the person within the rule's time than it asks for.
    SeenTooRarely,
}

impl Attendance {
    fn new(person: &PersonPresence, status: PresenceStatus) -> Self {
        let seen = person.seen();
        Self {
            id: person.id().clone(),
            status,
            first_seen: seen.map(|seen| seen.first),
            last_seen: seen.map(|seen| seen.last),
            times_seen: seen.map_or(0, |seen| seen.times),
            best_similarity: seen.and_then(|seen| seen.best),
            reasons: match status {
                PresenceStatus::Uncertain => vec![UncertainReason::SeenTooRarely],
                PresenceStatus::Present | PresenceStatus::Late | PresenceStatus::Absent => {
                    Vec::new()
                }
            },
            correction: person.correction().cloned(),
        }
    }
}

impl SessionView {
    /// Returns the entries of all lists.
    pub fn people(&self) -> impl Iterator<Item = &Attendance> {
        [&self.present, &self.uncertain, &self.absent]
            .into_iter()
            .flatten()
    }
}

impl Session {
    /// Returns the session without its people.
    #[must_use]
    pub fn summary(&self) -> SessionSummary {
        let head = &self.head;
        SessionSummary {
            id: head.id,
            stream: head.stream.clone(),
            group: head.group.clone(),
            rule: head.rule.clone(),
            owner: head.owner.clone(),
            revision: self.revision.clone(),
            created: head.created,
            ended: self.ended,
            last_frame: self.frame,
            last_event: self.last_event,
        }
    }

    /// Returns the session with its people. Members of the group that the session does not know are
    /// absent.
    #[must_use]
    pub fn view(&self, members: &[PersonId]) -> SessionView {
        let mut view = SessionView {
            summary: self.summary(),
            present: Vec::new(),
            uncertain: Vec::new(),
            absent: Vec::new(),
        };
        let members: BTreeSet<&PersonId> = members.iter().collect();
        let known: BTreeSet<&PersonId> = self.people.keys().collect();
        for &id in members.union(&known) {
            let person = self.record_of(id);
            let is_member = members.contains(id);
            let status = person
                .status(&self.head.rule)
                .or(is_member.then_some(PresenceStatus::Absent));
            let Some(status) = status else { continue };
            let list = match status {
                PresenceStatus::Present | PresenceStatus::Late => &mut view.present,
                PresenceStatus::Uncertain => &mut view.uncertain,
                PresenceStatus::Absent => &mut view.absent,
            };
            list.push(Attendance::new(&person, status));
        }
        view
    }
}
