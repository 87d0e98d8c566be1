//! `rostro nodes`: lists and drains the nodes that share a database, and sets stale reads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use rostro_common::text::sanitize;
use rostro_database::nodes::{self, NodeList, NodeRow};
use rostro_database::stale::{self, StaleReads, StaleState};
use rostro_database::{Database, DatabaseError, append_audit_lines, schema};
use rostro_service::audit::{Action, ActionOutcome, Actor, command_line};

use crate::config::database::DatabaseAddress;
use crate::config::{ConfigError, host_name};
use crate::terminal::{new_table, render, say, say_json, warn_user};

/// Longest wait until every node knows that stale reads were turned off.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `rostro nodes`.
#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    #[command(flatten)]
    address: DatabaseAddress,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Option<NodesCommand>,
}

#[derive(Debug, Subcommand)]
enum NodesCommand {
    /// Make a node not ready, so that a balancer sends it no more requests
    ///
    /// The node answers /readyz with 503 when it has renewed its lease, within
    /// a second. It still answers the requests that it gets. A restart ends
    /// the drain.
    Drain {
        /// Name of the node
        name: String,
        /// End the drain
        #[arg(long)]
        off: bool,
    },
    /// Let nodes recognise people without a lease while the database is away
    ///
    /// Such answers have the header x-rostro-stale, and may name people who
    /// were deleted meanwhile. No deletion succeeds while this is on: DELETE
    /// deletes the person and answers stale_readers.
    StaleReads {
        #[command(subcommand)]
        switch: StaleReadsSwitch,
    },
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum StaleReadsSwitch {
    /// Allow it; nodes that hold a lease learn it within a second
    On {
        /// For how long after the last renewal of a lease
        #[arg(
            long = "for",
            value_name = "SECONDS",
            default_value_t = 3600,
            value_parser = clap::value_parser!(u32).range(1..=604_800)
        )]
        limit: u32,
    },
    /// End it, and wait up to 10 s until every node knows it
    Off,
}

/// Error of a command on nodes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodesError {
    /// No database was named, or its address is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database cannot be used, or has no such node.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Nodes with the number of the latest change.
#[derive(Serialize)]
struct NodesReport<'a> {
    changes: u64,
    stale_reads: StaleReadsReport,
    nodes: Vec<NodeReport<'a>>,
}

/// Whether nodes may answer without a lease.
#[derive(Serialize)]
struct StaleReadsReport {
    state: &'static str,
    /// Seconds for which a node may, from its last renewal on.
    seconds: u64,
}

/// Result of turning stale reads on or off.
#[derive(Serialize)]
struct SwitchReport {
    #[serde(flatten)]
    setting: StaleReadsReport,
    /// Nodes that may not know that stale reads end.
    nodes: Vec<String>,
    /// The same for people.
    #[serde(skip)]
    text: String,
}

/// Result of a drain, or of its end.
#[derive(Serialize)]
struct DrainReport<'a> {
    node: &'a str,
    draining: bool,
}

/// A node under one lease.
#[derive(Serialize)]
struct NodeReport<'a> {
    name: &'a str,
    lease: String,
    version: &'a str,
    state: &'static str,
    ready: bool,
    lag: u64,
    joined_at: String,
    renewed_seconds_ago: f64,
    settings: &'a BTreeMap<String, String>,
    /// Whether the node may answer without the lease.
    stale_reader: bool,
    /// Settings on which nodes differ, with this node's value.
    different: BTreeMap<&'a str, Option<&'a String>>,
}

/// Runs the command.
///
/// # Errors
///
/// [`NodesError`] with a remedy in its message.
pub(crate) fn run(args: &NodesArgs) -> Result<(), NodesError> {
    let database = Database::open(&args.address.options()?)?;
    schema::check(&database)?;
    match &args.command {
        None => {
            let list = nodes::list(&database)?;
            let report = report(&list);
            match args.json {
                true => say_json(&report),
                false => say(&table(&report)),
            }
        }
        Some(NodesCommand::Drain { name, off }) => drain(&database, name, *off)?.print(args.json),
        Some(NodesCommand::StaleReads { switch }) => {
            switch_stale_reads(&database, *switch)?.print(args.json);
        }
    }
    Ok(())
}

fn drain<'a>(database: &Database, name: &'a str, off: bool) -> Result<DrainReport<'a>, NodesError> {
    let actor = actor(database)?;
    let action = if off { Action::EndDrain } else { Action::Drain };
    let audit = |outcome| command_line(&actor, action, outcome, name);
    let drained = nodes::set_draining(database, name, !off, &|changed| {
        audit(ActionOutcome::of_change(changed))
    });
    if let Err(DatabaseError::UnknownNode { .. }) = &drained
        && let Err(error) = append_audit_lines(database, &audit(ActionOutcome::Refused))
    {
        warn_user(&format!("the audit log lacks this command: {error}"));
    }
    drained?;
    Ok(DrainReport {
        node: name,
        draining: !off,
    })
}

impl DrainReport<'_> {
    fn print(&self, as_json: bool) {
        if as_json {
            return say_json(self);
        }
        let name = sanitize(self.node);
        match self.draining {
            true => say(&format!("{name} is not ready from the next second on")),
            false => say(&format!("{name} is ready again within a second")),
        }
    }
}

/// Returns the author of a command: the role that the database has logged in, on this machine.
fn actor(database: &Database) -> Result<Actor, NodesError> {
    Ok(Actor {
        who: format!("role {}", nodes::role(database)?),
        ..Actor::part(&format!("command: {}", host_name()))
    })
}

fn switch_stale_reads(
    database: &Database,
    switch: StaleReadsSwitch,
) -> Result<SwitchReport, NodesError> {
    let actor = actor(database)?;
    Ok(match switch {
        StaleReadsSwitch::On { limit } => {
            let detail = format!("for up to {limit} s");
            let (action, outcome) = (Action::StaleReads, ActionOutcome::Done);
            let audit = |_| command_line(&actor, action, outcome, &detail);
            let setting = stale::turn_on(database, Duration::from_secs(limit.into()), &audit)?;
            let text = format!(
                "stale reads are on: nodes recognise people for up to {} s without a lease; each node \
                 learns it at its next renewal, and `rostro nodes` shows STALE then",
                setting.limit.as_secs()
            );
            SwitchReport::new(&setting, Vec::new(), text)
        }
        StaleReadsSwitch::Off => {
            let audit = |changed| {
                let outcome = ActionOutcome::of_change(changed);
                command_line(&actor, Action::EndStaleReads, outcome, "")
            };
            let (setting, nodes) = stale::turn_off(database, PATIENCE, &audit)?;
            let text = match setting.state {
                StaleState::Off => "stale reads are off".to_owned(),
                StaleState::On => "stale reads were turned on again meanwhile".to_owned(),
                StaleState::Ending => ending_text(&setting, &nodes),
            };
            SwitchReport::new(&setting, nodes, text)
        }
    })
}

impl SwitchReport {
    fn new(setting: &StaleReads, nodes: Vec<String>, text: String) -> Self {
        Self {
            setting: StaleReadsReport::of(setting),
            nodes,
            text,
        }
    }

    fn print(&self, as_json: bool) {
        match as_json {
            true => say_json(self),
            false => say(&self.text),
        }
    }
}

impl StaleReadsReport {
    fn of(setting: &StaleReads) -> Self {
        Self {
            state: setting.state.name(),
            seconds: setting.limit.as_secs(),
        }
    }
}

/// Describes stale reads that have not ended.
fn ending_text(setting: &StaleReads, nodes: &[String]) -> String {
    let nodes = match nodes {
        [] => "nodes with leases from before a failover".to_owned(),
        nodes => sanitize(&nodes.join(", ")),
    };
    format!(
        "stale reads end, but {nodes} may not know it and answer without a lease; until they join \
         again, and for at most {} s, deletions answer stale_readers",
        (setting.limit + setting.limit / 5).as_secs()
    )
}

fn report(list: &NodeList) -> NodesReport<'_> {
    let (keys, nodes) = (list.different_keys(), list.nodes.iter());
    NodesReport {
        changes: list.changes,
        stale_reads: StaleReadsReport::of(&list.stale_reads),
        nodes: nodes
            .map(|node| NodeReport::of(list, &keys, node))
            .collect(),
    }
}

impl<'a> NodeReport<'a> {
    fn of(list: &NodeList, keys: &BTreeSet<&'a str>, node: &'a NodeRow) -> Self {
        let NodeRow {
            name,
            lease,
            version,
            state,
            is_ready,
            joined_at,
            renewed,
            settings,
            stale_limit,
            ..
        } = node;
        Self {
            name,
            lease: lease.to_string(),
            version,
            state: state.name(),
            ready: *is_ready,
            lag: list.lag(node),
            joined_at: joined_at.to_string(),
            renewed_seconds_ago: renewed.as_secs_f64(),
            settings,
            stale_reader: !stale_limit.is_zero(),
            different: keys.iter().map(|key| (*key, settings.get(*key))).collect(),
        }
    }
}

/// Renders all nodes, a line for each.
fn table(report: &NodesReport<'_>) -> String {
    let mut table = new_table([
        "NODE", "VERSION", "STATE", "READY", "STALE", "LAG", "RENEWED", "DIFFERS",
    ]);
    for node in &report.nodes {
        let different: Vec<String> = node
            .different
            .iter()
            .map(|(key, value)| {
                let value = value.map_or("default", String::as_str);
                format!("{}={}", sanitize(key), sanitize(value))
            })
            .collect();
        table.add_row([
            sanitize(node.name),
            sanitize(node.version),
            node.state.to_owned(),
            yes_or_no(node.ready),
            yes_or_no(node.stale_reader),
            node.lag.to_string(),
            format!("{:.1} s ago", node.renewed_seconds_ago),
            match different.is_empty() {
                true => "-".to_owned(),
                false => different.join(", "),
            },
        ]);
    }
    let table = render(&table);
    match report.stale_reads.state {
        "off" => table,
        state => format!(
            "stale reads are {state}, for up to {} s\n{table}",
            report.stale_reads.seconds
        ),
    }
}

fn yes_or_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}
