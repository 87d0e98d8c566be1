//! Change of a session: what is written before it is in force.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::event::SessionEvent;
use crate::presence::PersonPresence;

/// Change of a session. A store writes it durably if [`SessionChange::is_urgent`], and then
/// [applies](super::Session::apply) it. In a journal it is a line, in a database a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionChange {
    /// Time of the operation by the host's clock.
    pub(crate) active: Timestamp,
    /// Position after the change; none if no frame came yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) frame: Option<FramePosition>,
    /// The revision that the session is bound to from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revision: Option<String>,
    /// Records of people, instead of those of before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) people: Vec<PersonPresence>,
    /// New events, in the order of their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) events: Vec<SessionEvent>,
    /// True if the change must be durable before it is answered. Counts alone can wait for a
    /// checkpoint.
    #[serde(skip, default = "yes")]
    pub(crate) is_urgent: bool,
}

/// Position of a frame in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FramePosition {
    /// Number that the caller gave it; else the last such number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Time of the frame.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

impl SessionChange {
    /// Returns true if the change must be durable before it is answered.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    /// Returns the records of people.
    #[must_use]
    pub fn people(&self) -> &[PersonPresence] {
        &self.people
    }

    /// Returns the new events.
    #[must_use]
    pub fn events(&self) -> &[SessionEvent] {
        &self.events
    }
}

/// Returns true: every change that was written is complete.
fn yes() -> bool {
    true
}
