//! State of a node that shares its store with others, for operators.

use std::time::Duration;

/// State of this node's part in a fleet.
#[derive(Clone, Debug)]
pub struct FleetStatus {
    /// Number of changes that this node has not applied, as of the last renewal of its lease.
    pub lag: u64,
    /// Time since the last renewal of the lease began.
    pub lease_age: Duration,
    /// Whether the lease is valid.
    pub is_leased: bool,
    /// Whether an operator drains the node, so that it must not get new requests.
    pub is_draining: bool,
    /// Whether an operator allows this node to answer without a lease.
    pub may_be_stale: bool,
    /// Number of leases of other nodes that this one expelled.
    pub expulsions: u64,
    /// Number of times that this node joined.
    pub joins: u64,
    /// Number of times that the connection which renews the lease was made again.
    pub reconnects: u64,
    /// Bytes of the audit log that wait on this node for the database.
    pub unsent_audit_bytes: u64,
    /// Use of the database.
    pub database: DatabaseUsage,
}

/// Use of a database by this process.
#[derive(Clone, Debug)]
pub struct DatabaseUsage {
    /// Connections of the pool that are not in use.
    pub idle: usize,
    /// Connections of the pool that are in use.
    pub used: usize,
    /// Number of times that work found every connection in use and waited.
    pub pool_waits: u64,
    /// Number of statements by kind. Those of a transaction count once.
    pub statements: [(&'static str, u64); 5],
}
