//! View of the embeddings for SQL, where the server has the extension pgvector.
//!
//! It is no versioned migration, because it depends on the server. A migration that changes the
//! tables below it removes it first.

use tokio_postgres::Client;

use crate::connection::DatabaseError;

/// State of the view `rostro.embedding_halfvec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HalfvecView {
    /// It exists.
    Present,
    /// It does not, for this reason.
    LeftOut(String),
}

/// Largest number of the type `halfvec`. A cast of a larger one, or of NaN, fails for the query as a
/// whole, so such an embedding is null.
const MAX: u32 = 65_504;

/// Creates the view, and the extension if the role may create it.
///
/// # Errors
///
/// If the connection breaks. A refused statement is a reason to leave the view out.
pub(super) async fn create_view(client: &Client) -> Result<HalfvecView, DatabaseError> {
    match try_create(client).await {
        Ok(view) => Ok(view),
        Err(error) => match error.as_db_error() {
            Some(refused) => Ok(HalfvecView::LeftOut(refused.message().to_owned())),
            None => Err(error.into()),
        },
    }
}

async fn try_create(client: &Client) -> Result<HalfvecView, tokio_postgres::Error> {
    let left_out = |reason: &str| Ok(HalfvecView::LeftOut(reason.to_owned()));
    if find_extension(client).await?.is_none() {
        let is_available: bool = client
            .query_one(
                "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')",
                &[],
            )
            .await?
            .get(0);
        if !is_available {
            return left_out("the server does not have the extension pgvector");
        }
        let created = client.batch_execute("CREATE EXTENSION vector SCHEMA public");
        if let Err(error) = created.await {
            let Some(refused) = error.as_db_error() else {
                return Err(error);
            };
            return left_out(&format!(
                "a superuser must run CREATE EXTENSION vector in this database ({})",
                refused.message()
            ));
        }
    }
    let Some(halfvec) = find_extension(client).await?.flatten() else {
        return left_out("the extension pgvector is older than 0.7");
    };
    client
        .batch_execute(&format!(
            "CREATE OR REPLACE VIEW rostro.embedding_halfvec AS \
             SELECT id, contract, position, \
             CASE WHEN cardinality(embedding) > 0 \
             AND {MAX}::real >= ALL (embedding) AND -{MAX}::real <= ALL (embedding) \
             THEN embedding::{halfvec} END AS embedding \
             FROM rostro.sample JOIN rostro.person USING (person)"
        ))
        .await?;
    Ok(HalfvecView::Present)
}

/// Returns the name of the type `halfvec`, with its schema: `None` without the extension, and
/// `Some(None)` if the extension is older than the type.
async fn find_extension(client: &Client) -> Result<Option<Option<String>>, tokio_postgres::Error> {
    let row = client
        .query_opt(
            "SELECT (SELECT quote_ident(nspname) || '.halfvec' FROM pg_type \
             WHERE typnamespace = extnamespace AND typname = 'halfvec') \
             FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace \
             WHERE extname = 'vector'",
            &[],
        )
        .await?;
    Ok(row.map(|row| row.get(0)))
}

/// Removes the view before a migration, which may change what it reads.
pub(super) async fn drop_view(client: &Client) -> Result<(), tokio_postgres::Error> {
    client
        .batch_execute("DROP VIEW IF EXISTS rostro.embedding_halfvec")
        .await
}
