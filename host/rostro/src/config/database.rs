//! The address of the database, which may have a password.

use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use rostro_database::DatabaseOptions;

use super::ConfigError;

/// Address of a database as it was typed. Its debug output does not contain it.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct DatabaseUrl(String);

impl FromStr for DatabaseUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl")
    }
}

/// Returns the database of `--database` or `--database-url-file`; none without either.
///
/// # Errors
///
/// If both are given, or if the address is invalid.
pub(crate) fn options(
    url: Option<&DatabaseUrl>,
    file: Option<&Path>,
) -> Result<Option<DatabaseOptions>, ConfigError> {
    match (url, file) {
        (Some(_), Some(_)) => Err(ConfigError::TwoDatabases),
        (Some(DatabaseUrl(url)), None) => Ok(Some(DatabaseOptions::parse(url)?)),
        (None, Some(file)) => Ok(Some(DatabaseOptions::read(file)?)),
        (None, None) => Ok(None),
    }
}
