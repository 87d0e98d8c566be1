//! Counting of one person: pure, and bounded in memory by what the rule needs.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use jiff::Timestamp;
use rostro_common::ids::PersonId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::rule::PresenceRule;

/// What a session knows about a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PersonPresence {
    id: PersonId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<Sightings>,
    /// Times of the latest frames, fewer than [`PresenceRule::seen`]. Empty after the arrival.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    recent: VecDeque<Timestamp>,
    /// Time of the frame with which the rule was fulfilled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    arrived: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correction: Option<Correction>,
}

/// Counts over the frames that named a person.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sightings {
    /// Time of the first frame.
    pub first: Timestamp,
    /// Time of the last frame.
    pub last: Timestamp,
    /// Number of frames.
    pub times: u64,
    /// Best similarity; none if no frame had a finite one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<f32>,
}

/// A status that a user set. It is in force instead of the counted one until it is withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Correction {
    /// The status.
    pub status: CorrectedStatus,
    /// Name of the API key; none if the service runs without keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Time of the correction.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// Status that a user can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CorrectedStatus {
    /// The person is present.
    Present,
    /// The person is absent.
    Absent,
    /// The person came late.
    Late,
}

/// Status of a person in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PresenceStatus {
    /// The rule was fulfilled in time.
    Present,
    /// The rule was fulfilled late.
    Late,
    /// The person was named, but the rule is not fulfilled.
    Uncertain,
    /// The person was not named.
    Absent,
}

impl From<CorrectedStatus> for PresenceStatus {
    fn from(status: CorrectedStatus) -> Self {
        match status {
            CorrectedStatus::Present => Self::Present,
            CorrectedStatus::Absent => Self::Absent,
            CorrectedStatus::Late => Self::Late,
        }
    }
}

impl PersonPresence {
    /// Creates the record of a person that was not named yet.
    #[must_use]
    pub fn new(id: PersonId) -> Self {
        Self {
            id,
            seen: None,
            recent: VecDeque::new(),
            arrived: None,
            correction: None,
        }
    }

    /// Returns the person.
    #[must_use]
    pub fn id(&self) -> &PersonId {
        &self.id
    }

    /// Returns the counts; none if no frame named the person.
    #[must_use]
    pub fn seen(&self) -> Option<&Sightings> {
        self.seen.as_ref()
    }

    /// Returns the correction in force.
    #[must_use]
    pub fn correction(&self) -> Option<&Correction> {
        self.correction.as_ref()
    }

    /// Returns the time of the frame with which the rule was fulfilled.
    #[must_use]
    pub fn arrived(&self) -> Option<Timestamp> {
        self.arrived
    }

    /// Counts a frame that names the person. Returns true if it fulfils the rule for the first
    /// time. Frames must come in the order of their times.
    pub fn see(&mut self, at: Timestamp, similarity: f32, rule: &PresenceRule) -> bool {
        let similarity = similarity.is_finite().then_some(similarity);
        let before = self.seen.as_ref();
        self.seen = Some(Sightings {
            first: before.map_or(at, |seen| seen.first),
            last: at,
            times: before.map_or(0, |seen| seen.times) + 1,
            best: before
                .and_then(|seen| seen.best)
                .into_iter()
                .chain(similarity)
                .reduce(f32::max),
        });
        if self.arrived.is_some() {
            return false;
        }
        let is_outside = |time: Timestamp| at.duration_since(time) > rule.within();
        while self.recent.front().is_some_and(|&time| is_outside(time)) {
            self.recent.pop_front();
        }
        self.recent.push_back(at);
        if self.recent.len() < rule.seen() as usize {
            return false;
        }
        self.recent = VecDeque::new();
        self.arrived = Some(at);
        true
    }

    /// Sets a correction, or withdraws it.
    pub fn correct(&mut self, correction: Option<Correction>) {
        self.correction = correction;
    }

    /// Returns the status; none if no frame named the person and no user corrected it.
    #[must_use]
    pub fn status(&self, rule: &PresenceRule) -> Option<PresenceStatus> {
        match (&self.correction, self.arrived) {
            (Some(correction), _) => Some(correction.status.into()),
            (None, Some(arrived)) if rule.is_late(arrived) => Some(PresenceStatus::Late),
            (None, Some(_)) => Some(PresenceStatus::Present),
            (None, None) => self.seen.map(|_| PresenceStatus::Uncertain),
        }
    }
}
