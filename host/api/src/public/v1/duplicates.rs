//! People who may be one and the same under two ids.

use axum::Json;
use axum::extract::{Extension, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use rostro_service::deployment::Actor;
use rostro_service::{DuplicatesError, DuplicatesQuery};

use super::people::{cursor, of_cursor};
use crate::App;
use crate::error::ApiError;
use crate::public::openapi::{AuthErrors, LockErrors, NoBodyErrors};
use crate::request::extract::QueryParams;

/// The most pairs after which a page ends.
const MOST: usize = 1000;

/// Which people.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PairsQuery {
    /// The least similarity to report; by default that at which the active revision names a person.
    #[param(minimum = -1, maximum = 1)]
    threshold: Option<f32>,
    /// The `next_cursor` of an answer before.
    cursor: Option<String>,
    /// How many pairs end a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Pairs of people who are alike.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DuplicatesAnswer {
    /// Each pair once, in the order of the first of the two ids.
    pairs: Vec<DuplicatePair>,
    /// The least similarity that is reported.
    threshold: f32,
    /// How many people were compared with everybody for this page.
    compared: usize,
    /// What to give as `cursor` for those that follow; null if these are the last.
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

/// List people who may be one and the same under two ids.
#[utoipa::path(
    get,
    path = "/v1/duplicates",
    tag = "manage",
    params(PairsQuery),
    responses((status = 200, description = "Pairs of people who are alike", body = DuplicatesAnswer), AuthErrors, NoBodyErrors, LockErrors)
)]
pub(super) async fn list(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    QueryParams(query): QueryParams<PairsQuery>,
) -> Result<Json<DuplicatesAnswer>, ApiError> {
    let limit = query.limit.unwrap_or(100);
    if !(1..=MOST).contains(&limit) {
        return Err(ApiError::bad_request(
            "invalid_limit",
            format!("'limit' must be between 1 and {MOST}."),
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
    let after = query.cursor.as_deref().map(of_cursor).transpose()?;
    let query = DuplicatesQuery {
        after,
        threshold: query.threshold,
        limit,
    };
    let page = app
        .service
        .duplicates(query, &actor)
        .await
        .map_err(failed)?;
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

fn failed(error: DuplicatesError) -> ApiError {
    match error {
        DuplicatesError::UnderWay => ApiError::later(
            "comparison_under_way",
            "People are being compared for another request. Try again later.",
        ),
        DuplicatesError::Thread(error) => {
            ApiError::internal("internal", "The service failed unexpectedly.", error)
        }
    }
}
