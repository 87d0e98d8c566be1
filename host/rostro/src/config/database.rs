//! The address of the database, which may have a password.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
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

/// Arguments of a command that name the database.
#[derive(Debug, Default, Args)]
pub(crate) struct DatabaseAddress {
    /// PostgreSQL database, as postgresql://USER@HOST/NAME
    #[arg(
        long,
        env = "ROSTRO_DATABASE",
        value_name = "URL",
        hide_env_values = true,
        global = true
    )]
    database: Option<DatabaseUrl>,
    /// File with the address of that database
    #[arg(
        long,
        env = "ROSTRO_DATABASE_URL_FILE",
        value_name = "FILE",
        global = true
    )]
    database_url_file: Option<PathBuf>,
}

impl DatabaseAddress {
    /// Returns the database.
    ///
    /// # Errors
    ///
    /// If none or two are named, or if the address is invalid.
    pub(crate) fn options(&self) -> Result<DatabaseOptions, ConfigError> {
        self.find()?.ok_or(ConfigError::NoDatabase)
    }

    /// Returns the database; none if none is named.
    ///
    /// # Errors
    ///
    /// If two are named, or if the address is invalid.
    pub(crate) fn find(&self) -> Result<Option<DatabaseOptions>, ConfigError> {
        options(self.database.as_ref(), self.database_url_file.as_deref())
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
