//! Databases of the tests.

use rostro_database::{Database, DatabaseError, DatabaseOptions};

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
