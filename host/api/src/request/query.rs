//! Checks of query parameters: unknown ones, and misspelt ones that would restrict a search.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use strsim::osa_distance;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa_axum::router::OpenApiRouter;

use crate::error::ApiError;

/// Longest quoted name, in characters.
const MAX_NAME_CHARS: usize = 64;

/// Longest name that is compared with [`RESTRICTING`], in bytes of its letters: two edits longer
/// than the longest spelling.
const MAX_COMPARED_BYTES: usize = 12;

/// Returns the parameters of a query, in order.
pub(crate) fn pairs(uri: &Uri) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
}

/// Names of the query parameters of each route, by method and path.
type RouteParameters = HashMap<(Method, String), Vec<String>>;

/// Makes the routes refuse parameters that their description does not list. Otherwise a misspelt
/// one would be ignored, and the answer would belong to another question.
pub(crate) fn refuse_unknown<S: Clone + Send + Sync + 'static>(
    router: OpenApiRouter<S>,
) -> OpenApiRouter<S> {
    let mut known = RouteParameters::new();
    for (path, item) in &router.get_openapi().paths.paths {
        let operations = [
            (Method::GET, &item.get),
            (Method::PUT, &item.put),
            (Method::POST, &item.post),
            (Method::PATCH, &item.patch),
            (Method::DELETE, &item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                known.insert((method, path.clone()), query_parameters(operation));
            }
        }
    }
    router.route_layer(from_fn_with_state(Arc::new(known), check_parameters))
}

fn query_parameters(operation: &Operation) -> Vec<String> {
    let all = operation.parameters.iter().flatten();
    let of_query = all.filter_map(|parameter| match parameter {
        utoipa::openapi::RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => {
            Some(parameter.name.clone())
        }
        _ => None,
    });
    of_query.collect()
}

async fn check_parameters(
    State(known): State<Arc<RouteParameters>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let method = if request.method() == Method::HEAD {
        &Method::GET
    } else {
        request.method()
    };
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    if let Some(known) = path.and_then(|path| known.get(&(method.clone(), path)))
        && let Some((name, _)) =
            pairs(request.uri()).find(|(name, _)| !known.iter().any(|known| known == name))
    {
        return Err(unknown_parameter(&name, known));
    }
    Ok(next.run(request).await)
}

fn unknown_parameter(name: &str, known: &[String]) -> ApiError {
    let name: String = name.chars().take(MAX_NAME_CHARS).collect();
    let list: Vec<String> = known.iter().map(|known| format!("'{known}'")).collect();
    let takes = if list.is_empty() {
        "no parameters".to_owned()
    } else {
        list.join(", ")
    };
    ApiError::bad_request(
        "invalid_query",
        format!("Unknown parameter '{name}': this route takes {takes}."),
    )
    .with("parameter", name)
}

/// Parameters that restrict a search. The endpoints of the replaced service ignore others, as it
/// did. They refuse misspellings of these, because ignoring one would search all people.
pub(crate) const RESTRICTING: [&str; 2] = ["group", "schedule_id"];

/// Refuses a query with a misspelt parameter of [`RESTRICTING`].
pub(crate) fn refuse_misspelt(uri: &Uri) -> Result<(), ApiError> {
    for (name, _) in pairs(uri) {
        if let Some(intended) = intended_name(&name) {
            return Err(misspelt("parameter", "invalid_query", &name, intended));
        }
    }
    Ok(())
}

/// Returns the error for a misspelt field of a form.
pub(crate) fn misspelt_field(name: &str, intended: &str) -> ApiError {
    misspelt("field", "unknown_field", name, intended)
}

fn misspelt(kind: &str, code: &'static str, name: &str, intended: &str) -> ApiError {
    let name: String = name.chars().take(MAX_NAME_CHARS).collect();
    ApiError::bad_request(
        code,
        format!("Unknown {kind} '{name}': write '{intended}'."),
    )
    .with(kind, name)
    .with("meant", intended)
}

/// Returns the parameter of [`RESTRICTING`] that a name probably misspells. Returns `None` for
/// these themselves, and for unrelated names.
pub(crate) fn intended_name(name: &str) -> Option<&'static str> {
    if RESTRICTING.contains(&name) || name.len() > MAX_NAME_CHARS {
        return None;
    }
    let is_escaped = name.contains(';');
    // In a link that was escaped twice, names follow `amp;`, or contain their value.
    let name = name.rsplit(';').next().unwrap_or_default();
    let (name, is_pair) = name
        .split_once('=')
        .map_or((name, false), |(name, _)| (name, true));
    if let Some(exact) = RESTRICTING
        .into_iter()
        .find(|exact| *exact == name && (is_pair || is_escaped))
    {
        return Some(exact);
    }
    // Longer names are not compared, because a form may have many parts and each comparison takes
    // time.
    let letters: String = name
        .chars()
        .filter(|letter| letter.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect();
    if letters.len() > MAX_COMPARED_BYTES {
        return None;
    }
    let [group, schedule] = RESTRICTING;
    // `crop` and `drop` are two edits from `group`, too, so that two edits need the same first
    // letter.
    let is_group = ["group", "groupid", "groupname"].iter().any(|word| {
        let edits = osa_distance(&letters, word);
        edits <= 1 || edits == 2 && letters.starts_with('g')
    });
    let is_schedule = ["schedule", "scheduleid"]
        .iter()
        .any(|word| osa_distance(&letters, word) <= 2);
    is_group
        .then_some(group)
        .or(is_schedule.then_some(schedule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings_differ_from_other_names() {
        for name in [
            "gruop",
            "Group",
            "GROUP",
            "groups",
            "grup",
            "grp",
            "goup",
            "group_id",
            "groupId",
            "group[]",
            " group",
            "gropu",
            "groupname",
        ] {
            assert_eq!(intended_name(name), Some("group"), "{name}");
        }
        for name in [
            "amp;group",
            "x;group",
            "group=maths",
            "amp;group=maths",
            "amp;gruop",
        ] {
            assert_eq!(intended_name(name), Some("group"), "{name}");
        }
        for name in [
            "schedule",
            "scheduleid",
            "scheduleId",
            "schedule-id",
            "Schedule_Id",
            "shedule_id",
            "schedul_id",
            "schedule_ids",
        ] {
            assert_eq!(intended_name(name), Some("schedule_id"), "{name}");
        }
        for name in [
            "group",
            "schedule_id",
            "",
            "t",
            "id",
            "crop",
            "drop",
            "camera",
            "timestamp",
            "room",
            "top",
            "quality",
            "student_id",
            "image",
            "schedule_of_classes",
        ] {
            assert_eq!(intended_name(name), None, "{name}");
        }
        assert_eq!(intended_name(&"g".repeat(100_000)), None);
    }

    #[test]
    fn query_with_misspelling_is_refused() {
        let of = |query: &str| {
            refuse_misspelt(&format!("/process_frame?{query}").parse().unwrap())
                .map_err(|error| error.message)
        };
        assert_eq!(of("a=1&group=maths&schedule_id=7&_=3"), Ok(()));
        assert_eq!(
            of("a=1&gruop=maths").unwrap_err(),
            "Unknown parameter 'gruop': write 'group'."
        );
        assert_eq!(
            of("%47roup").unwrap_err(),
            "Unknown parameter 'Group': write 'group'."
        );
    }
}
