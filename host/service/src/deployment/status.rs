//! What operators are shown of the revisions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use rostro_common::digest::Sha256Digest;
use rostro_inference as inference;
use rostro_sandbox::component::EachHalf;
use rostro_sandbox::limits::{self, Limits};
use rostro_sandbox::settings::names::UnknownSetting;

use super::record::{Entry, Status};
use super::{Book, Counts, Deployment, Trips};

/// All revisions at a moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Statuses {
    /// Which one serves.
    pub active: Option<Sha256Digest>,
    /// Which one served before.
    pub previous: Option<Sha256Digest>,
    /// Which one the configuration made at the last start.
    #[serde(default)]
    pub configured: Option<Sha256Digest>,
    /// How many the breaker took out since the start.
    pub broken: u64,
    /// How often it would have taken out the active one, and there was no previous one to serve.
    #[serde(default)]
    pub stuck: u64,
    /// Both by the rule that fired.
    #[serde(default)]
    pub trips: Trips,
    /// All that are known, oldest first.
    pub revisions: Vec<RevisionStatus>,
}

/// One revision at a moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RevisionStatus {
    /// SHA-256 over its components, its models and its own limits.
    pub id: Sha256Digest,
    /// `staging`, `staged`, `active`, `previous`, `canary`, `shadow`, `draining`, `retired` or
    /// `failed`.
    pub state: String,
    /// Why it failed.
    pub reason: Option<String>,
    /// The pipeline's name and version; null before it was asked.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The policy's name and version.
    pub policy: Option<String>,
    /// The model pack.
    pub pack: String,
    /// Its own limits, or the service's where those became tighter since.
    #[serde(default)]
    pub limits: BTreeMap<String, String>,
    /// What its embeddings mean.
    pub contract: Option<String>,
    /// SHA-256 of the component that sees.
    pub vision_sha256: Sha256Digest,
    /// SHA-256 of the component that decides.
    pub policy_sha256: Sha256Digest,
    /// When it was given to this host.
    pub since: String,
    /// Whether enrolments are embedded for it before it is activated.
    #[serde(default)]
    pub enrol: bool,
    /// Share of the requests, of a canary or a shadow.
    pub share: Option<f64>,
    /// People whom it can recognise; null if it is not ready.
    pub known: Option<usize>,
    /// People who are stored and must be enrolled again for it.
    pub need_enrolment: Option<usize>,
    /// Requests since it was made ready.
    pub requests: Option<u64>,
    /// Those of them that failed by its fault.
    pub failures: Option<u64>,
    /// The service's settings that it does not know; empty if it is not ready.
    #[serde(default)]
    pub unknown_settings: Vec<UnknownSetting>,
    /// How far a shadow agrees with the active revision.
    pub agreement: Option<Counts>,
    /// Time on the processor that its guests took, from its staging on: for monitoring.
    #[serde(skip)]
    pub guest_seconds: Option<EachHalf<f64>>,
}

impl Deployment {
    /// What guests take of the machine, and how models fare: of all revisions together, since the
    /// start.
    pub fn meters(&self) -> (&limits::Meters, &inference::Meters) {
        (self.workshop.engine.meters(), self.workshop.onnx.meters())
    }

    /// All revisions.
    pub fn statuses(&self) -> Statuses {
        let book = self.locked();
        Statuses {
            active: book.record.active,
            previous: book.record.previous,
            configured: book.record.configured,
            broken: book.broken,
            stuck: book.stuck,
            trips: book.trips,
            revisions: book
                .record
                .revisions
                .iter()
                .map(|entry| status(&book, entry, self.workshop.engine.limits()))
                .collect(),
        }
    }

    /// Times since the start that the breaker would have taken out the active revision, and nothing
    /// could take its place.
    pub fn stuck(&self) -> u64 {
        self.locked().stuck
    }

    /// One revision.
    pub fn status(&self, id: Sha256Digest) -> Option<RevisionStatus> {
        let book = self.locked();
        book.record
            .entry(id)
            .map(|entry| status(&book, entry, self.workshop.engine.limits()))
    }
}

fn status(book: &Book, entry: &Entry, service: &Limits) -> RevisionStatus {
    let record = &book.record;
    let id = entry.id;
    let canary = record.canary.filter(|beside| beside.id == id);
    let shadow = record.shadow.filter(|beside| beside.id == id);
    let live = book.ready.get(&id);
    let is_leaving = book
        .leaving
        .get(&id)
        .is_some_and(|live| live.strong_count() > 0);
    let state = match &entry.status {
        Status::Staging => "staging",
        Status::Failed(_) => "failed",
        Status::Retired if is_leaving => "draining",
        Status::Retired => "retired",
        Status::Staged if record.active == Some(id) => "active",
        Status::Staged if canary.is_some() => "canary",
        Status::Staged if shadow.is_some() => "shadow",
        Status::Staged if record.previous == Some(id) => "previous",
        Status::Staged => "staged",
    };
    let counts = live.map(|live| live.view.counts());
    let health = live.map(|live| live.health.counts());
    let about = entry.about.as_ref();
    RevisionStatus {
        id,
        state: state.to_owned(),
        reason: match &entry.status {
            Status::Failed(reason) => Some(reason.clone()),
            _ => None,
        },
        name: about.map(|about| about.name.clone()),
        version: about.map(|about| about.version.clone()),
        policy: about.map(|about| format!("{} {}", about.policy, about.policy_version)),
        pack: entry.ingredients.pack.clone(),
        limits: held(service, &entry.ingredients.limits),
        contract: about.map(|about| about.contract.clone()),
        vision_sha256: entry.ingredients.vision,
        policy_sha256: entry.ingredients.policy.unwrap_or(entry.ingredients.vision),
        since: entry.since.clone(),
        enrol: entry.enrol,
        share: canary.or(shadow).map(|beside| beside.share),
        known: counts.map(|(known, _)| known),
        need_enrolment: counts.map(|(_, missing)| missing),
        requests: health.map(|(requests, _)| requests),
        failures: health.map(|(_, failures)| failures),
        unknown_settings: live
            .map(|live| live.revision.unknown_settings().to_vec())
            .unwrap_or_default(),
        agreement: shadow
            .and(book.shadow.as_ref())
            .map(|(_, agreement)| agreement.counts()),
        guest_seconds: live.map(|live| live.revision.seconds()),
    }
}

/// What a revision's own limits are under a service that may have become tighter since.
fn held(service: &Limits, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    service
        .at_most(own)
        .map_or_else(|_| own.clone(), |limits| limits.named(own.keys()))
}
