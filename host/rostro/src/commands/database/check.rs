//! `rostro database check`: what is stored, and what of it is damaged.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use rostro_common::digest::Sha256Digest;
use rostro_database::{DamagedRow, Database, begin_epoch, find_components, find_damage, schema};
use rostro_service::ArchiveDeletions;
use rostro_service::deployment::{NeededComponent, needed_components};

use super::DatabaseCommandError;
use crate::terminal::{say, say_json, warn_user};

/// Number of damaged rows that the text of a check names.
const MAX_NAMED: usize = 100;

/// Arguments of `rostro database check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Have all nodes load anew, because the database was restored
    ///
    /// Once, after the restore of a backup, before the nodes start.
    #[arg(long)]
    after_restore: bool,
    /// Repeat the deletions of this archive that the backup lacks
    ///
    /// The latest export of this database, by GET /v1/gallery.
    #[arg(long, value_name = "ARCHIVE", requires = "after_restore")]
    tombstones: Option<PathBuf>,
}

/// Result of a check.
#[derive(Serialize)]
struct CheckReport {
    database: String,
    server: String,
    role: String,
    schema_version: u32,
    people: u64,
    samples: u64,
    groups: u64,
    tombstones: u64,
    changes: u64,
    damaged_rows: usize,
    damaged: Vec<DamagedReport>,
    components: Vec<ComponentReport>,
}

/// A component that a revision needs and cannot be used.
#[derive(Serialize)]
struct ComponentReport {
    revision: String,
    component: String,
    reason: &'static str,
}

/// A row that cannot be used.
#[derive(Serialize)]
struct DamagedReport {
    id: String,
    person: i64,
    position: Option<i32>,
    reason: String,
}

impl From<DamagedRow> for DamagedReport {
    fn from(row: DamagedRow) -> Self {
        let DamagedRow {
            person,
            id,
            position,
            reason,
        } = row;
        Self {
            id,
            person,
            position,
            reason,
        }
    }
}

/// Runs the check.
///
/// # Errors
///
/// If a service cannot use the database, or something in it is damaged.
pub(super) fn run(database: &Database, args: &CheckArgs) -> Result<(), DatabaseCommandError> {
    let state = schema::check(database)?;
    schema::check_rights(database)?;
    if args.after_restore {
        restore(database, args.tombstones.as_deref())?;
    }
    let counts = schema::count(database)?;
    let damaged: Vec<DamagedReport> = find_damage(database)?.into_iter().map(Into::into).collect();
    let stored = find_components(database)?;
    let needed = stored.record.as_deref().map(needed_components).transpose();
    let (needed, record_error) = match needed {
        Ok(needed) => (needed.unwrap_or_default(), None),
        Err(cause) => (Vec::new(), Some(cause)),
    };
    let report = CheckReport {
        database: database.options().to_string(),
        server: counts.server,
        role: counts.role,
        schema_version: state.version,
        people: counts.people,
        samples: counts.samples,
        groups: counts.groups,
        tombstones: counts.tombstones,
        changes: counts.changes,
        damaged_rows: damaged.len(),
        damaged,
        components: unusable_components(&needed, &stored.components),
    };
    match args.json {
        true => say_json(&report),
        false => say(&text(&report)),
    }
    match (report.damaged_rows, record_error, report.components.len()) {
        (0, None, 0) => Ok(()),
        (0, None, components) => Err(DatabaseCommandError::DamagedComponents(components)),
        (0, Some(cause), _) => Err(DatabaseCommandError::DamagedRecord(cause)),
        (rows, ..) => Err(DatabaseCommandError::DamagedRows(rows)),
    }
}

/// Returns the components that are missing or damaged. A revision that nodes compiled serves without
/// them, and a node that joins cannot stage it.
fn unusable_components(
    needed: &[NeededComponent],
    stored: &BTreeMap<Sha256Digest, bool>,
) -> Vec<ComponentReport> {
    let unusable = needed.iter().filter_map(|component| {
        let reason = match stored.get(&component.digest) {
            Some(true) => return None,
            Some(false) => "its bytes do not have its digest",
            None => "it is missing",
        };
        Some(ComponentReport {
            revision: component.revision.to_string(),
            component: component.digest.to_string(),
            reason,
        })
    });
    unusable.collect()
}

/// Begins another epoch after a restore, and repeats the deletions of an archive.
fn restore(database: &Database, archive: Option<&Path>) -> Result<(), DatabaseCommandError> {
    let deletions = archive
        .map(|path| {
            let file = File::open(path).map_err(|cause| DatabaseCommandError::Archive {
                path: path.to_owned(),
                cause,
            })?;
            ArchiveDeletions::read(file).map_err(DatabaseCommandError::from)
        })
        .transpose()?;
    let archive = deletions
        .as_ref()
        .map(|read| (read.origin, &read.tombstones));
    let restored = begin_epoch(database, archive)?;
    for reason in &restored.omitted {
        warn_user(&format!("deletions were left out: {reason}"));
    }
    for id in &restored.deleted {
        warn_user(&format!("deleted again: {}", id.escape_debug()));
    }
    Ok(())
}

fn text(report: &CheckReport) -> String {
    let CheckReport {
        database,
        server,
        role,
        schema_version,
        people,
        samples,
        groups,
        tombstones,
        changes,
        damaged_rows,
        damaged,
        components,
    } = report;
    let mut text = format!(
        "{database}, {server}\nrole {role} has its rights\nschema version {schema_version}, {changes} changes\n\
         {people} people with {samples} samples, {groups} groups, {tombstones} deletions\n\
         {damaged_rows} damaged rows"
    );
    for row in damaged.iter().take(MAX_NAMED) {
        let sample = row.position.map(|position| format!(", sample {position}"));
        text += &format!(
            "\n  {} (person {}{}): {}",
            row.id.escape_debug(),
            row.person,
            sample.unwrap_or_default(),
            row.reason.escape_debug()
        );
    }
    if damaged.len() > MAX_NAMED {
        text += "\n  --json names the others";
    }
    for ComponentReport {
        revision,
        component,
        reason,
    } in components
    {
        text += &format!("\nrevision {revision}: component {component}: {reason}; push it again");
    }
    text
}
