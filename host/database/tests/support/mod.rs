//! Databases of the tests.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod node;

use std::time::Duration;

use rostro_database::{Database, DatabaseError, DatabaseOptions, FleetOptions, NodeSettings};

use crate::postgres::OwnDatabase;

/// Opens an address.
pub(crate) fn try_open(url: &str) -> Result<Database, DatabaseError> {
    Database::open(&DatabaseOptions::parse(url)?)
}

/// Returns the message of an address that cannot be used.
pub(crate) fn refusal(url: &str) -> String {
    try_open(url).unwrap_err().to_string()
}

/// Opens a database as the superuser.
pub(crate) fn open(database: &OwnDatabase) -> Database {
    try_open(database.url()).unwrap()
}

/// Returns the options of a node with a short lease.
pub(crate) fn fleet(node: &str) -> FleetOptions {
    FleetOptions {
        node: node.to_owned(),
        lease: Duration::from_secs(1),
        settings: NodeSettings::default(),
        allows_different: false,
        address: None,
    }
}
