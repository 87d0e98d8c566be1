//! Versioned migrations, and the versions that this program runs with.

use deadpool_postgres::Object;
use refinery::Runner;
use rostro_common::digest::Sha256Digest;
use rostro_common::keyed_hash::HashKey;
use tokio_postgres::Transaction;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::connection::{Database, DatabaseError};

mod halfvec;

pub use halfvec::HalfvecView;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Table of the applied migrations.
const HISTORY: &str = "migration";

/// Key of the advisory lock of a migration: "migrate" in ASCII.
const MIGRATION_LOCK: i64 = 0x6d_6967_7261_7465;

/// Longest wait for another migration, and for a table that a transaction uses. Statements of
/// services queue behind such a wait.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '30s'; SET statement_timeout = 0";

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
    /// View of the embeddings for SQL.
    pub halfvec: HalfvecView,
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
    let migrations = embedded::migrations::runner();
    #[cfg(feature = "next-schema")]
    let migrations = with_next(&migrations);
    let mut runner = migrations.set_grouped(true);
    runner.set_migration_table_name(HISTORY);
    runner
}

/// Adds a migration to those of this program, as a later version of it has.
#[cfg(feature = "next-schema")]
fn with_next(migrations: &Runner) -> Runner {
    const NEXT: &str = "ALTER TABLE person ADD COLUMN note text; \
                        CREATE TABLE note (person bigint PRIMARY KEY, note text NOT NULL)";
    let mut all = migrations.get_migrations().clone();
    let last = all.iter().map(refinery::Migration::version).max();
    let name = format!("V{}__next", last.unwrap_or_default() + 1);
    all.extend(refinery::Migration::unapplied(&name, NEXT));
    Runner::new(&all)
}

/// Brings the schema to the version of this program, and gives a role the rights of a service.
/// Concurrent migrations wait for each other. The next version is left as it is, so that nodes of two
/// versions may each migrate before they start.
///
/// # Errors
///
/// If the schema is another program's or newer, or if a statement fails; nothing is changed then.
pub fn migrate(database: &Database, grant_to: Option<&str>) -> Result<Migrated, DatabaseError> {
    database.wait(async {
        // It does not return to the pool, so that the lock ends with it even after an error.
        let mut client = Object::take(database.client().await?);
        client.batch_execute(LOCK_TIMEOUT).await?;
        client
            .execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK])
            .await
            .map_err(|error| of_migration(&error))?;
        migrate_locked(&mut client, grant_to).await
    })
}

async fn migrate_locked(
    client: &mut tokio_postgres::Client,
    grant_to: Option<&str>,
) -> Result<Migrated, DatabaseError> {
    let found = match version(client).await {
        Ok(found) => Some(found),
        Err(DatabaseError::NoSchema) => None,
        Err(error) => return Err(error),
    };
    let known = latest();
    if let Some(found) = found.filter(|found| *found > known + 1) {
        return Err(DatabaseError::NewSchema { found, known });
    }
    let applied = match found {
        Some(found) if found > known => Ok(Vec::new()),
        _ => {
            if found.is_some_and(|found| found < known) {
                halfvec::drop_view(client)
                    .await
                    .map_err(|error| of_migration(&error))?;
            }
            apply(client).await
        }
    };
    // Before the rights are granted, and after a migration that failed, too.
    let halfvec = match found {
        Some(found) if found > known => {
            HalfvecView::LeftOut("unchanged, because a later program made this schema".to_owned())
        }
        _ => halfvec::create_view(client).await?,
    };
    let applied = applied?;
    let transaction = client.transaction().await?;
    create_gallery(&transaction).await?;
    if let Some(role) = grant_to {
        grant(&transaction, role)
            .await
            .map_err(|error| of_migration(&error))?;
    }
    transaction.commit().await?;
    Ok(Migrated {
        applied,
        version: version(client).await?,
        halfvec,
    })
}

/// Applies the migrations that lack, all or none. Returns their names.
async fn apply(client: &mut tokio_postgres::Client) -> Result<Vec<String>, DatabaseError> {
    let exists: bool = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'rostro')",
            &[],
        )
        .await?
        .get(0);
    // IF NOT EXISTS would need the right to create one, even if it exists.
    if !exists {
        client
            .batch_execute("CREATE SCHEMA rostro")
            .await
            .map_err(|error| of_migration(&error))?;
    }
    let report = runner().run_async(client).await.map_err(|error| {
        let source = std::error::Error::source(&error)
            .and_then(|source| source.downcast_ref::<tokio_postgres::Error>());
        match source {
            Some(source) => of_migration(source),
            None => DatabaseError::ForeignSchema(error.to_string()),
        }
    })?;
    let applied = report.applied_migrations().iter();
    Ok(applied.map(ToString::to_string).collect())
}

/// Creates the row of the gallery with the key of its tombstones, unless it exists.
async fn create_gallery(transaction: &Transaction<'_>) -> Result<(), DatabaseError> {
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
        // No lease is older than the gallery.
        transaction
            .execute("UPDATE gallery SET settled_epoch = epoch()", &[])
            .await?;
    }
    Ok(())
}

/// Gives a role the rights of a service, on the tables of later migrations, too.
async fn grant(transaction: &Transaction<'_>, role: &str) -> Result<(), tokio_postgres::Error> {
    let role: String = transaction
        .query_one("SELECT quote_ident($1)", &[&role])
        .await?
        .get(0);
    transaction
        .batch_execute(&format!(
            "GRANT USAGE ON SCHEMA rostro TO {role};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rostro TO {role};
             ALTER DEFAULT PRIVILEGES IN SCHEMA rostro
                 GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role};
             REVOKE INSERT, UPDATE, DELETE ON {HISTORY} FROM {role}"
        ))
        .await
}

/// Converts an error of a migration. Its role is the owner's, not a service's.
fn of_migration(error: &tokio_postgres::Error) -> DatabaseError {
    let converted = DatabaseError::of_statement(error);
    let remedy = match error.code() {
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            "run it with the role that owns the schema `rostro`, or that may create it"
        }
        Some(code) if *code == SqlState::DEPENDENT_OBJECTS_STILL_EXIST => {
            "drop what depends on the view rostro.embedding_halfvec, and make it again afterwards"
        }
        Some(code) if *code == SqlState::UNDEFINED_OBJECT => "create the role with `createuser`",
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => {
            "wait for the other migration or for long transactions, and run it again"
        }
        _ => return converted,
    };
    match converted {
        DatabaseError::Statement {
            cause,
            is_transient,
            ..
        } => DatabaseError::Statement {
            cause,
            remedy: Some(remedy),
            is_transient,
        },
        other => other,
    }
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

/// Numbers of rows.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// The server's name and version.
    pub server: String,
    /// The role of the connection.
    pub role: String,
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
}

/// Checks that the role may do what a service does with every table.
///
/// # Errors
///
/// [`DatabaseError::Rights`] names the missing rights. Or if a statement fails.
pub fn check_rights(database: &Database) -> Result<(), DatabaseError> {
    database.wait(async {
        let client = database.client().await?;
        // A service only reads the history.
        let row = client
            .query_one(
                "SELECT current_user::text, \
                 (SELECT string_agg(permission || ' on ' || relname, ', ' ORDER BY relname) \
                  FROM pg_class \
                  JOIN pg_namespace ON pg_namespace.oid = relnamespace, \
                  unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) permission \
                  WHERE nspname = 'rostro' AND relkind IN ('r', 'p') \
                  AND (relname <> $1 OR permission = 'SELECT') \
                  AND NOT has_table_privilege(pg_class.oid, permission))",
                &[&HISTORY],
            )
            .await?;
        match row.get::<_, Option<String>>(1) {
            Some(missing) => Err(DatabaseError::Rights {
                role: row.get(0),
                missing,
            }),
            None => Ok(()),
        }
    })
}

/// Counts what is stored.
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
                 (SELECT counter FROM gallery), current_user::text",
                &[],
            )
            .await?;
        let number = |column: usize| {
            let number = row.get::<_, Option<i64>>(column);
            number.and_then(|number| u64::try_from(number).ok())
        };
        let changes = number(5).ok_or(DatabaseError::Damaged("the row of the gallery"))?;
        let number = |column| number(column).unwrap_or_default();
        Ok(Counts {
            server: row.get(0),
            role: row.get(6),
            people: number(1),
            samples: number(2),
            groups: number(3),
            tombstones: number(4),
            changes,
        })
    })
}

/// Returns the version of the schema.
async fn version(client: &tokio_postgres::Client) -> Result<u32, DatabaseError> {
    // Every role may read the catalogue.
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
    // With the schema's name a role without rights is refused, rather than told of no table.
    let rows = client
        .query(
            &format!("SELECT version::bigint, coalesce(name::text, ''), coalesce(checksum::text, '') FROM rostro.{HISTORY}"),
            &[],
        )
        .await
        .map_err(|error| match error.code() {
            Some(code) if *code == SqlState::UNDEFINED_COLUMN => {
                DatabaseError::ForeignSchema(format!("its table `{HISTORY}` has other columns"))
            }
            _ => error.into(),
        })?;
    let runner = runner();
    let mut latest = None;
    for row in rows {
        let (number, name, checksum): (i64, String, String) = (row.get(0), row.get(1), row.get(2));
        let known = runner.get_migrations().iter();
        let mut known = known.filter(|known| i64::from(known.version()) == number);
        // Later versions are not known here.
        if known.any(|known| known.name() != name || known.checksum().to_string() != checksum) {
            return Err(DatabaseError::ForeignSchema(format!(
                "its migration {number} is not this program's"
            )));
        }
        latest = latest.max(Some(number));
    }
    latest
        .and_then(|version| u32::try_from(version).ok())
        .ok_or(DatabaseError::NoSchema)
}
