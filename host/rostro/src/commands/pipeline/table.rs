//! Table of revisions.

use std::collections::BTreeMap;

use rostro_common::text::sanitize;
use rostro_sandbox::settings::names::format_unknown;
use rostro_service::deployment::{RevisionState, RevisionStatus, Statuses};

use crate::terminal::{new_table, render};

/// Upper bound of a reason's characters in the table; `--json` has the whole text.
const MAX_REASON: usize = 60;

/// Renders all revisions, a line for each.
pub(super) fn revisions(statuses: &Statuses) -> String {
    let mut table = new_table([
        "REVISION", "STATE", "PIPELINE", "POLICY", "PACK", "PEOPLE", "REQUESTS", "FAILED", "SINCE",
        "NOTE",
    ]);
    for revision in &statuses.revisions {
        let number = |number: Option<u64>| {
            number.map_or_else(|| "-".to_owned(), |number| number.to_string())
        };
        let name = revision.name.as_deref().zip(revision.version.as_deref());
        table.add_row([
            revision.id.short(),
            revision.state.to_string(),
            name.map_or_else(
                || "-".to_owned(),
                |(name, version)| format!("{name} {version}"),
            ),
            revision.policy.clone().unwrap_or_else(|| "-".to_owned()),
            revision.pack.clone(),
            people(revision),
            number(revision.requests),
            number(revision.failures),
            revision
                .since
                .split('.')
                .next()
                .unwrap_or_default()
                .trim_end_matches('Z')
                .replace('T', " "),
            note(revision, statuses.configured == Some(revision.id)),
        ]);
    }
    render(&table)
}

fn people(revision: &RevisionStatus) -> String {
    match (revision.known, revision.need_enrolment) {
        (Some(known), Some(0)) => known.to_string(),
        (Some(known), Some(missing)) => format!("{known}, {missing} to enrol"),
        _ => "-".to_owned(),
    }
}

/// Names the nodes that have not staged a revision.
fn nodes(revision: &RevisionStatus) -> Option<String> {
    let behind: Vec<String> = revision
        .nodes
        .iter()
        .filter(|node| node.state != RevisionState::Staged)
        .map(|node| match &node.reason {
            Some(reason) => format!("{} on {}: {}", node.state, node.node, sanitize(reason)),
            None => format!("{} on {}", node.state, node.node),
        })
        .collect();
    (!behind.is_empty()).then(|| behind.join(", "))
}

fn note(revision: &RevisionStatus, is_configured: bool) -> String {
    if let Some(reason) = &revision.reason {
        let reason = sanitize(reason);
        let short: String = reason.chars().take(MAX_REASON).collect();
        return if short.len() < reason.len() {
            format!("{short}…")
        } else {
            short
        };
    }
    let share = revision
        .share
        .map(|share| format!("{}% of the requests", share * 100.0));
    let agreement = revision.agreement.filter(|counts| counts.frames + counts.failed + counts.skipped > 0).map(|counts| {
        format!(
            "{} of {} faces seen by both, {} with the same name; {} frames, {} failed, {} skipped",
            counts.same_face, counts.faces, counts.same_identity, counts.frames, counts.failed, counts.skipped
        )
    });
    let pairs = |texts: &BTreeMap<String, String>| {
        let pairs = texts.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join(", ")
    };
    let limits =
        (!revision.limits.is_empty()).then(|| format!("held to {}", pairs(&revision.limits)));
    let settings = (!revision.settings.is_empty())
        .then(|| format!("with {}", sanitize(&pairs(&revision.settings))));
    let unknown = (!revision.unknown_settings.is_empty()).then(|| {
        format!(
            "does not know the {}",
            format_unknown(&revision.unknown_settings)
        )
    });
    let enrol = (revision.enrol && revision.state != RevisionState::Active)
        .then(|| "sees enrolment photos".to_owned());
    let is_waiting = matches!(
        revision.state,
        RevisionState::Staged | RevisionState::Staging
    );
    let configured = (is_configured && is_waiting).then(|| "made by the configuration".to_owned());
    let nodes = nodes(revision);
    let notes = [
        share, agreement, limits, settings, enrol, configured, unknown,
    ];
    notes
        .into_iter()
        .chain([nodes])
        .flatten()
        .collect::<Vec<_>>()
        .join("; ")
}
