//! `rostro nodes`: lists and drains the nodes that share a database.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use serde::Serialize;

use rostro_common::text::sanitize;
use rostro_database::nodes::{self, NodeList, NodeRow, NodeState};
use rostro_database::{Database, DatabaseError, schema};

use crate::config::ConfigError;
use crate::config::database::DatabaseAddress;
use crate::terminal::{new_table, render, say, say_json};

/// Arguments of `rostro nodes`.
#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    #[command(flatten)]
    address: DatabaseAddress,
    /// Print JSON
    #[arg(long)]
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
    nodes: Vec<NodeReport<'a>>,
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
        Some(NodesCommand::Drain { name, off }) => {
            nodes::set_draining(&database, name, !off)?;
            let name = sanitize(name);
            match off {
                true => say(&format!("{name} is ready again within a second")),
                false => say(&format!("{name} is not ready from the next second on")),
            }
        }
    }
    Ok(())
}

fn report(list: &NodeList) -> NodesReport<'_> {
    let (keys, nodes) = (list.different_keys(), list.nodes.iter());
    NodesReport {
        changes: list.changes,
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
            joined_at,
            renewed,
            settings,
            ..
        } = node;
        Self {
            name,
            lease: lease.to_string(),
            version,
            state: state.name(),
            ready: *state == NodeState::Serving,
            lag: list.lag(node),
            joined_at: joined_at.to_string(),
            renewed_seconds_ago: renewed.as_secs_f64(),
            settings,
            different: keys.iter().map(|key| (*key, settings.get(*key))).collect(),
        }
    }
}

/// Renders all nodes, a line for each.
fn table(report: &NodesReport<'_>) -> String {
    let mut table = new_table([
        "NODE", "VERSION", "STATE", "READY", "LAG", "RENEWED", "DIFFERS",
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
            if node.ready { "yes" } else { "no" }.to_owned(),
            node.lag.to_string(),
            format!("{:.1} s ago", node.renewed_seconds_ago),
            match different.is_empty() {
                true => "-".to_owned(),
                false => different.join(", "),
            },
        ]);
    }
    render(&table)
}
