//! `/v1/duplicates`: people who may be stored under two ids.

use axum::Json;
use axum::extract::{Extension, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use rostro_service::deployment::Actor;
use rostro_service::{DuplicatesError, DuplicatesQuery};

use super::openapi::{AuthErrors, LockErrors, NoBodyErrors};
use super::people::{cursor, parse_cursor};
use crate::error::ApiError;
use crate::request::extract::QueryParams;
use crate::state::App;

/// Largest number of pairs after which a page ends.
const MAX_LIMIT: usize = 1000;

/// Page of pairs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PairsQuery {
    /// Smallest similarity to report. The default is the threshold of the active revision.
    #[param(minimum = -1, maximum = 1)]
    threshold: Option<f32>,
    /// The `next_cursor` of the previous answer.
    cursor: Option<String>,
    /// Number of pairs after which a page ends.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Pairs of similar people.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DuplicatesAnswer {
    /// Each pair once, in the order of the first id.
    pairs: Vec<DuplicatePair>,
    /// Smallest similarity that is reported.
    threshold: f32,
    /// Number of people who were compared with all others for this page.
    compared: usize,
    /// Cursor of the next page. Null on the last page.
    next_cursor: Option<String>,
}

/// Two people who may be one.
#[derive(Debug, Serialize, ToSchema)]
struct DuplicatePair {
    /// The two ids.
    people: [String; 2],
    /// Cosine similarity of their two nearest templates.
    similarity: f32,
}

/// List people who may be stored under two ids.
#[utoipa::path(
    get,
    path = "/v1/duplicates",
    operation_id = "list_duplicates",
    tag = "manage",
    params(PairsQuery),
    responses(
        (status = 200, description = "Pairs of similar people", body = DuplicatesAnswer),
        AuthErrors, NoBodyErrors, LockErrors
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    QueryParams(query): QueryParams<PairsQuery>,
) -> Result<Json<DuplicatesAnswer>, ApiError> {
    let limit = query.limit.unwrap_or(100);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::bad_request(
            "invalid_limit",
            format!("'limit' must be between 1 and {MAX_LIMIT}."),
        ));
    }
    if query
        .threshold
        .is_some_and(|threshold| !(-1.0..=1.0).contains(&threshold))
    {
        return Err(ApiError::bad_request(
            "invalid_threshold",
            "'threshold' must be between -1 and 1.",
        ));
    }
    let after = query.cursor.as_deref().map(parse_cursor).transpose()?;
    let query = DuplicatesQuery {
        after,
        threshold: query.threshold,
        limit,
    };
    let page = app
        .service
        .duplicates(query, &actor)
        .await
        .map_err(duplicates_error)?;
    let pairs = page.pairs.into_iter().map(|pair| DuplicatePair {
        people: [pair.id.to_string(), pair.other.to_string()],
        similarity: pair.similarity,
    });
    let next_cursor = page.next.as_ref().map(cursor);
    Ok(Json(DuplicatesAnswer {
        pairs: pairs.collect(),
        threshold: page.threshold,
        compared: page.compared,
        next_cursor,
    }))
}

fn duplicates_error(error: DuplicatesError) -> ApiError {
    match error {
        DuplicatesError::UnderWay => ApiError::retry_later(
            "comparison_under_way",
            "People are being compared for another request. Try again later.",
        ),
        DuplicatesError::Service(error) => ApiError::of_service(error),
        DuplicatesError::Thread(error) => ApiError::unexpected(error),
    }
}
