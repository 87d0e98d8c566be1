//! Versioned migrations, and the versions that this program runs with.

use std::ops::DerefMut;

use deadpool_postgres::Object;
use refinery::Runner;
use rostro_common::digest::Sha256Digest;
use rostro_common::keyed_hash::HashKey;
use uuid::Uuid;

use crate::connection::{Database, DatabaseError};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Table of the applied migrations.
const HISTORY: &str = "migration";

/// Key of the advisory lock of a migration: "migrate" in ASCII.
const MIGRATION_LOCK: i64 = 0x6d_6967_7261_7465;

/// State of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaState {
    /// Version in the database.
    pub version: u32,
}

/// Result of a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Names of the migrations that were applied now.
    pub applied: Vec<String>,
    /// Version in the database.
    pub version: u32,
}

/// Returns the version of this program.
pub fn latest() -> u32 {
    let migrations = runner();
    let versions = migrations.get_migrations().iter();
    versions
        .map(|migration| migration.version())
        .max()
        .and_then(|version| u32::try_from(version).ok())
        .unwrap_or_default()
}

fn runner() -> Runner {
    let mut runner = embedded::migrations::runner().set_grouped(true);
    runner.set_migration_table_name(HISTORY);
    runner
}

/// Brings the schema to the version of this program, and gives a role the rights of a service.
/// Concurrent migrations wait for each other.
///
/// # Errors
///
/// If the schema is another program's or newer, or if a statement fails; nothing is changed then.
pub fn migrate(database: &Database, grant_to: Option<&str>) -> Result<Migrated, DatabaseError> {
    database.wait(async {
        let mut client = database.client().await?;
        client
            .execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK])
            .await?;
        // The lock ends with the connection at the latest.
        let migrated = migrate_locked(&mut client, grant_to).await;
        client
            .execute("SELECT pg_advisory_unlock($1)", &[&MIGRATION_LOCK])
            .await?;
        migrated
    })
}

async fn migrate_locked(
    client: &mut Object,
    grant_to: Option<&str>,
) -> Result<Migrated, DatabaseError> {
    match version(client).await {
        Ok(version) if version > latest() => {
            return Err(DatabaseError::NewSchema {
                found: version,
                known: latest(),
            });
        }
        Ok(_) | Err(DatabaseError::NoSchema) => {}
        Err(error) => return Err(error),
    }
    client
        .batch_execute("CREATE SCHEMA IF NOT EXISTS rostro")
        .await?;
    let connection: &mut tokio_postgres::Client = client.deref_mut().deref_mut();
    let report =
        runner()
            .run_async(connection)
            .await
            .map_err(|error| DatabaseError::Statement {
                cause: error.to_string(),
                remedy: None,
                is_transient: false,
            })?;
    let transaction = client.transaction().await?;
    let gallery = Uuid::now_v7();
    let is_new = transaction
        .execute(
            "INSERT INTO gallery (id) VALUES ($1) ON CONFLICT DO NOTHING",
            &[&gallery],
        )
        .await?
        > 0;
    if is_new {
        let key = HashKey::random().map_err(DatabaseError::Runtime)?;
        let key: Sha256Digest = key
            .to_hex()
            .parse()
            .map_err(|_| DatabaseError::Damaged("a new key"))?;
        transaction
            .execute(
                "INSERT INTO tombstone_key (gallery, key) VALUES ($1, $2)",
                &[&gallery, &key.0.as_slice()],
            )
            .await?;
    }
    if let Some(role) = grant_to {
        let role: String = transaction
            .query_one("SELECT quote_ident($1)", &[&role])
            .await?
            .get(0);
        transaction
            .batch_execute(&format!(
                "GRANT USAGE ON SCHEMA rostro TO {role};
                 GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rostro TO {role};
                 REVOKE INSERT, UPDATE, DELETE ON {HISTORY} FROM {role}"
            ))
            .await?;
    }
    transaction.commit().await?;
    Ok(Migrated {
        applied: report
            .applied_migrations()
            .iter()
            .map(ToString::to_string)
            .collect(),
        version: version(client).await?,
    })
}

/// Checks that this program runs with the schema: with its own version, or the next one, so that
/// services of two versions serve while they are upgraded.
///
/// # Errors
///
/// [`DatabaseError`] with the remedy.
pub fn check(database: &Database) -> Result<SchemaState, DatabaseError> {
    database.wait(async {
        let client = database.client().await?;
        let (found, known) = (version(&client).await?, latest());
        if found < known {
            return Err(DatabaseError::OldSchema {
                found,
                needed: known,
            });
        }
        if found > known + 1 {
            return Err(DatabaseError::NewSchema { found, known });
        }
        Ok(SchemaState { version: found })
    })
}

/// Numbers of rows, and of those that cannot be used.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// The server's name and version.
    pub server: String,
    /// People.
    pub people: u64,
    /// Samples of all people.
    pub samples: u64,
    /// Groups.
    pub groups: u64,
    /// Deletions that are remembered.
    pub tombstones: u64,
    /// Number of the latest change.
    pub changes: u64,
    /// Samples without numbers or with numbers that are not finite, and people without samples.
    pub damaged_rows: u64,
}

/// Counts what is stored. Also finds out whether the role may read every table.
///
/// # Errors
///
/// If a statement fails.
pub fn count(database: &Database) -> Result<Counts, DatabaseError> {
    database.wait(async {
        let client = database.client().await?;
        let row = client
            .query_one(
                "SELECT 'PostgreSQL ' || current_setting('server_version'), \
                 (SELECT count(*) FROM person), (SELECT count(*) FROM sample), \
                 (SELECT count(*) FROM groups), (SELECT count(*) FROM tombstone), \
                 (SELECT counter FROM gallery), \
                 (SELECT count(*) FROM sample WHERE cardinality(embedding) = 0 \
                  OR 'NaN' = ANY (embedding) OR 'Infinity' = ANY (embedding) \
                  OR '-Infinity' = ANY (embedding)) \
                 + (SELECT count(*) FROM person \
                    WHERE NOT EXISTS (SELECT FROM sample WHERE sample.person = person.person))",
                &[],
            )
            .await?;
        let number = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap_or_default();
        Ok(Counts {
            server: row.get(0),
            people: number(1),
            samples: number(2),
            groups: number(3),
            tombstones: number(4),
            changes: number(5),
            damaged_rows: number(6),
        })
    })
}

/// Returns the version of the schema.
async fn version(client: &Object) -> Result<u32, DatabaseError> {
    let tables: Vec<String> = client
        .query(
            "SELECT relname::text FROM pg_class \
             JOIN pg_namespace ON pg_namespace.oid = relnamespace \
             WHERE nspname = 'rostro' AND relkind IN ('r', 'p')",
            &[],
        )
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();
    if tables.is_empty() {
        return Err(DatabaseError::NoSchema);
    }
    if !tables.iter().any(|table| table == HISTORY) {
        return Err(DatabaseError::ForeignSchema(format!(
            "it has {} tables and no table `{HISTORY}`",
            tables.len()
        )));
    }
    let row = client
        .query_one(&format!("SELECT max(version)::bigint FROM {HISTORY}"), &[])
        .await?;
    let version: Option<i64> = row.get(0);
    version
        .and_then(|version| u32::try_from(version).ok())
        .ok_or(DatabaseError::NoSchema)
}
