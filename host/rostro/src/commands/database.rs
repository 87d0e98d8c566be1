//! `rostro database`: makes and checks the schema of a database of people.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use rostro_database::{Database, DatabaseError, schema};

use crate::config::ConfigError;
use crate::config::database::{DatabaseUrl, options};
use crate::terminal::{say, say_json};

/// Arguments of `rostro database`.
#[derive(Debug, Args)]
pub(crate) struct DatabaseArgs {
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
    #[command(subcommand)]
    command: DatabaseCommand,
}

#[derive(Debug, Subcommand)]
enum DatabaseCommand {
    /// Make the tables, or bring them to the version of this program
    ///
    /// Needs a role that may create a schema. Concurrent runs wait for each
    /// other, and a second run changes nothing.
    Migrate {
        /// Role of the service, which may then read and write the rows
        #[arg(long, value_name = "ROLE")]
        grant_to: Option<String>,
    },
    /// Check server, schema and rights, and count what is stored
    ///
    /// The exit code is 0 if a service can use the database, else 1.
    Check {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Error of a command on a database.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseCommandError {
    /// No database was named.
    #[error("no database is named; give its address with --database or --database-url-file")]
    NoDatabase,
    /// The address is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Result of a check.
#[derive(Serialize)]
struct CheckReport {
    database: String,
    server: String,
    schema_version: u32,
    people: u64,
    samples: u64,
    groups: u64,
    tombstones: u64,
    changes: u64,
    damaged_rows: u64,
}

/// Runs the command.
///
/// # Errors
///
/// [`DatabaseCommandError`] with a remedy in its message.
pub(crate) fn run(args: &DatabaseArgs) -> Result<(), DatabaseCommandError> {
    let options = options(args.database.as_ref(), args.database_url_file.as_deref())?
        .ok_or(DatabaseCommandError::NoDatabase)?;
    let database = Database::open(&options)?;
    match &args.command {
        DatabaseCommand::Migrate { grant_to } => {
            let migrated = schema::migrate(&database, grant_to.as_deref())?;
            for name in &migrated.applied {
                say(&format!("applied {name}"));
            }
            say(&format!("{options}: schema version {}", migrated.version));
        }
        DatabaseCommand::Check { json } => {
            let state = schema::check(&database)?;
            let counts = schema::count(&database)?;
            let report = CheckReport {
                database: options.to_string(),
                server: counts.server,
                schema_version: state.version,
                people: counts.people,
                samples: counts.samples,
                groups: counts.groups,
                tombstones: counts.tombstones,
                changes: counts.changes,
                damaged_rows: counts.damaged_rows,
            };
            match json {
                true => say_json(&report),
                false => say(&text(&report)),
            }
            if report.damaged_rows > 0 {
                return Err(DatabaseError::Damaged("a row").into());
            }
        }
    }
    Ok(())
}

fn text(report: &CheckReport) -> String {
    let CheckReport {
        database,
        server,
        schema_version,
        people,
        samples,
        groups,
        tombstones,
        changes,
        damaged_rows,
    } = report;
    format!(
        "{database}, {server}\nschema version {schema_version}, {changes} changes\n\
         {people} people with {samples} samples, {groups} groups, {tombstones} deletions\n\
         {damaged_rows} damaged rows"
    )
}
