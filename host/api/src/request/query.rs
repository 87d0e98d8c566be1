//! Parameters in a request's query: those that a route does not know, and misspelt ones.

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

use crate::App;
use crate::error::ApiError;

/// The longest name that a message quotes, in characters.
const LONGEST: usize = 64;

/// The longest name that is two edits from one of [`RESTRICTING`], in bytes of its letters.
const LONGEST_MEANT: usize = 12;

/// The parameters of a query, in their order.
pub(crate) fn pairs(uri: &Uri) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
}

/// The query parameters of each route, by method and path.
type RouteParameters = HashMap<(Method, String), Vec<String>>;

/// Has the routes refuse parameters that their description does not list: a misspelt one would be
/// ignored otherwise, and the answer would be about something else than was asked.
pub(crate) fn refuse_unknown(router: OpenApiRouter<App>) -> OpenApiRouter<App> {
    let mut known = RouteParameters::new();
    for (path, item) in &router.get_openapi().paths.paths {
        let operations = [
            (Method::GET, &item.get),
            (Method::PUT, &item.put),
            (Method::POST, &item.post),
            (Method::DELETE, &item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                known.insert((method, path.clone()), parameters(operation));
            }
        }
    }
    router.route_layer(from_fn_with_state(Arc::new(known), check))
}

fn parameters(operation: &Operation) -> Vec<String> {
    let all = operation.parameters.iter().flatten();
    let of_query = all.filter_map(|parameter| match parameter {
        utoipa::openapi::RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => {
            Some(parameter.name.clone())
        }
        _ => None,
    });
    of_query.collect()
}

async fn check(
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
        return Err(unknown(&name, known));
    }
    Ok(next.run(request).await)
}

fn unknown(name: &str, known: &[String]) -> ApiError {
    let name: String = name.chars().take(LONGEST).collect();
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

/// The parameters that restrict a search. The endpoints of the replaced service ignore others, as
/// it did, but not what these are misspelt as: ignoring it would search everybody.
pub(crate) const RESTRICTING: [&str; 2] = ["group", "schedule_id"];

/// Refuses a query that has a misspelt parameter of [`RESTRICTING`].
pub(crate) fn refuse_misspelt(uri: &Uri) -> Result<(), ApiError> {
    for (name, _) in pairs(uri) {
        if let Some(meant) = meant(&name) {
            return Err(misspelt("parameter", "invalid_query", &name, meant));
        }
    }
    Ok(())
}

/// The error for a misspelt field of a form.
pub(crate) fn misspelt_field(name: &str, meant: &str) -> ApiError {
    misspelt("field", "unknown_field", name, meant)
}

fn misspelt(what: &str, code: &'static str, name: &str, meant: &str) -> ApiError {
    let name: String = name.chars().take(LONGEST).collect();
    ApiError::bad_request(code, format!("Unknown {what} '{name}': write '{meant}'."))
        .with(what, name)
        .with("meant", meant)
}

/// Returns the parameter of [`RESTRICTING`] that a name is probably meant as; `None` for these
/// themselves, and for other names.
pub(crate) fn meant(name: &str) -> Option<&'static str> {
    if RESTRICTING.contains(&name) || name.len() > LONGEST {
        return None;
    }
    let is_escaped = name.contains(';');
    // A link that was escaped twice has its names behind `amp;`, or its value in them.
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
    // Comparing is work for each part of a form, of which a caller may send many: longer names are
    // not compared.
    let letters: String = name
        .chars()
        .filter(|letter| letter.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect();
    if letters.len() > LONGEST_MEANT {
        return None;
    }
    let [group, schedule] = RESTRICTING;
    // `crop` and `drop` are two edits from `group`, too; a name with its first letter is meant.
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
    fn near_misses_are_told_from_other_names() {
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
            assert_eq!(meant(name), Some("group"), "{name}");
        }
        for name in [
            "amp;group",
            "x;group",
            "group=maths",
            "amp;group=maths",
            "amp;gruop",
        ] {
            assert_eq!(meant(name), Some("group"), "{name}");
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
            assert_eq!(meant(name), Some("schedule_id"), "{name}");
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
            assert_eq!(meant(name), None, "{name}");
        }
        assert_eq!(meant(&"g".repeat(100_000)), None);
    }

    #[test]
    fn query_with_near_miss_is_refused() {
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
