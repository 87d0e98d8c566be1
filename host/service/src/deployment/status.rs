//! Status of the revisions for operators.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use rostro_common::digest::Sha256Digest;
use rostro_gallery::NodeRevisions;
use rostro_inference as inference;
use rostro_sandbox::half::PerHalf;
use rostro_sandbox::limits::{self, Limits};
use rostro_sandbox::settings::names::UnknownSetting;

use super::record::{RevisionEntry, Status};
use super::{Counts, Deployment, DeploymentState, TripCounts};

/// All revisions at a moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Statuses {
    /// The revision that serves.
    pub active: Option<Sha256Digest>,
    /// The revision that served before.
    pub previous: Option<Sha256Digest>,
    /// The revision of the configuration at the last start.
    #[serde(default)]
    pub configured: Option<Sha256Digest>,
    /// Number of revisions that the breaker took out since the start.
    pub broken: u64,
    /// Number of times that the breaker tripped and no previous revision could serve.
    #[serde(default)]
    pub stuck: u64,
    /// Both numbers by the rule that fired.
    #[serde(default)]
    pub trips: TripCounts,
    /// All revisions, oldest first.
    pub revisions: Vec<RevisionStatus>,
}

/// State of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevisionState {
    /// Being staged.
    Staging,
    /// Ready, and serves no request.
    Staged,
    /// Serves requests.
    Active,
    /// Ready, and served before the active one.
    Previous,
    /// Serves a share of requests.
    Canary,
    /// Sees a share of requests; its answers are only compared.
    Shadow,
    /// Retired, with running requests.
    Draining,
    /// Retired.
    Retired,
    /// Failed its checks.
    Failed,
}

impl RevisionState {
    /// Returns the name for operators.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Staging => "staging",
            Self::Staged => "staged",
            Self::Active => "active",
            Self::Previous => "previous",
            Self::Canary => "canary",
            Self::Shadow => "shadow",
            Self::Draining => "draining",
            Self::Retired => "retired",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for RevisionState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// One revision at a moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RevisionStatus {
    /// SHA-256 over its components, its models and its own limits.
    pub id: Sha256Digest,
    /// Its state.
    pub state: RevisionState,
    /// Reason of its failure.
    pub reason: Option<String>,
    /// The pipeline's name; null before it was staged.
    pub name: Option<String>,
    /// The pipeline's version.
    pub version: Option<String>,
    /// The policy's name and version.
    pub policy: Option<String>,
    /// The model pack.
    pub pack: String,
    /// Its own limits, or the service's where those are tighter now.
    #[serde(default)]
    pub limits: BTreeMap<String, String>,
    /// Its own settings, which override those of the configuration and the pack.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// The contract of its embeddings.
    pub contract: Option<String>,
    /// SHA-256 of the component that serves vision.
    pub vision_sha256: Sha256Digest,
    /// SHA-256 of the component that serves the policy.
    pub policy_sha256: Sha256Digest,
    /// Time at which this host first received it.
    pub since: String,
    /// Whether enrolments are embedded for it before it is activated.
    #[serde(default)]
    pub enrol: bool,
    /// Share of the requests, of a canary or a shadow.
    pub share: Option<f64>,
    /// Number of people that it can recognise; null if it is not ready.
    pub known: Option<usize>,
    /// Number of stored people that must be enrolled again for it.
    pub need_enrolment: Option<usize>,
    /// Requests since it is ready.
    pub requests: Option<u64>,
    /// Requests that failed by its fault.
    pub failures: Option<u64>,
    /// Settings of the service that it does not know; empty if it is not ready.
    #[serde(default)]
    pub unknown_settings: Vec<UnknownSetting>,
    /// Agreement of a shadow with the active revision.
    pub agreement: Option<Counts>,
    /// Nodes that share the database; empty without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeStatus>,
    /// Processor time of its guests since it was staged, for monitoring.
    #[serde(skip)]
    pub guest_seconds: Option<PerHalf<f64>>,
}

/// A revision on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Name of the node.
    pub node: String,
    /// `staging`, `staged` or `failed`.
    pub state: RevisionState,
    /// Reason of its failure there.
    pub reason: Option<String>,
}

impl NodeStatus {
    fn of(node: &NodeRevisions, id: Sha256Digest) -> Self {
        let (state, reason) = match node.revisions.get(&id) {
            None => (RevisionState::Staging, None),
            Some(Ok(())) => (RevisionState::Staged, None),
            Some(Err(reason)) => (RevisionState::Failed, Some(reason.clone())),
        };
        Self {
            node: node.node.clone(),
            state,
            reason,
        }
    }
}

impl Deployment {
    /// Returns the meters of guests and of models, for all revisions since the start.
    pub fn meters(&self) -> (&limits::GuestMeters, &inference::ModelMeters) {
        (self.builder.engine.meters(), self.builder.onnx.meters())
    }

    /// Returns what the nodes have staged; none if they cannot be asked.
    fn nodes(&self) -> Vec<NodeRevisions> {
        let nodes = self.builder.people.store().nodes();
        nodes.unwrap_or_else(|error| {
            tracing::warn!("cannot find out what the nodes have staged: {error}");
            Vec::new()
        })
    }

    /// Returns the status of all revisions.
    pub fn statuses(&self) -> Statuses {
        let nodes = self.nodes();
        let state = self.locked();
        Statuses {
            active: state.record.active,
            previous: state.record.previous,
            configured: state.record.configured,
            broken: state.broken,
            stuck: state.stuck,
            trips: state.trips,
            revisions: state
                .record
                .revisions
                .iter()
                .map(|entry| status(&state, entry, &nodes, self.builder.engine.limits()))
                .collect(),
        }
    }

    /// Returns the number of times since the start that the breaker tripped and no previous
    /// revision could serve.
    pub fn stuck(&self) -> u64 {
        self.locked().stuck
    }

    /// Returns the status of one revision.
    pub fn status(&self, id: Sha256Digest) -> Option<RevisionStatus> {
        let nodes = self.nodes();
        let state = self.locked();
        state
            .record
            .entry(id)
            .map(|entry| status(&state, entry, &nodes, self.builder.engine.limits()))
    }
}

fn status(
    state: &DeploymentState,
    entry: &RevisionEntry,
    nodes: &[NodeRevisions],
    service: &Limits,
) -> RevisionStatus {
    let record = &state.record;
    let id = entry.id;
    let canary = record.canary.filter(|role| role.id == id);
    let shadow = record.shadow.filter(|role| role.id == id);
    let ready = state.ready.get(&id);
    let is_leaving = state
        .leaving
        .get(&id)
        .is_some_and(|revision| revision.strong_count() > 0);
    let failure = state.failures.get(&id);
    let current = match &entry.status {
        Status::Staging | Status::Staged if failure.is_some() => RevisionState::Failed,
        Status::Staged if ready.is_none() => RevisionState::Staging,
        Status::Staging => RevisionState::Staging,
        Status::Failed(_) => RevisionState::Failed,
        Status::Retired if is_leaving => RevisionState::Draining,
        Status::Retired => RevisionState::Retired,
        Status::Staged if record.active == Some(id) => RevisionState::Active,
        Status::Staged if canary.is_some() => RevisionState::Canary,
        Status::Staged if shadow.is_some() => RevisionState::Shadow,
        Status::Staged if record.previous == Some(id) => RevisionState::Previous,
        Status::Staged => RevisionState::Staged,
    };
    let counts = ready.map(|ready| ready.view.counts());
    let health = ready.map(|ready| ready.health.counts());
    let about = entry.about.as_ref();
    RevisionStatus {
        id,
        state: current,
        reason: match &entry.status {
            Status::Failed(reason) => Some(reason.clone()),
            _ => failure.cloned(),
        },
        nodes: nodes
            .iter()
            .filter(|_| entry.status.is_wanted())
            .map(|node| NodeStatus::of(node, id))
            .collect(),
        name: about.map(|about| about.name.clone()),
        version: about.map(|about| about.version.clone()),
        policy: about.map(|about| format!("{} {}", about.policy, about.policy_version)),
        pack: entry.spec.pack.clone(),
        limits: effective_limits(service, &entry.spec.limits),
        settings: entry.spec.settings.clone(),
        contract: about.map(|about| about.contract.clone()),
        vision_sha256: entry.spec.vision,
        policy_sha256: entry.spec.policy.unwrap_or(entry.spec.vision),
        since: entry.since.clone(),
        enrol: entry.enrol,
        share: canary.or(shadow).map(|role| role.share),
        known: counts.map(|(known, _)| known),
        need_enrolment: counts.map(|(_, missing)| missing),
        requests: health.map(|(requests, _)| requests),
        failures: health.map(|(_, failures)| failures),
        unknown_settings: ready
            .map(|ready| ready.revision.unknown_settings().to_vec())
            .unwrap_or_default(),
        agreement: shadow
            .and(state.shadow.as_ref())
            .map(|(_, agreement)| agreement.counts()),
        guest_seconds: ready.map(|ready| ready.revision.seconds()),
    }
}

/// Returns a revision's own limits, or the service's where those are tighter now.
fn effective_limits(service: &Limits, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    service
        .at_most(own)
        .map_or_else(|_| own.clone(), |limits| limits.named(own.keys()))
}
