//! `GET /v1/sessions/{id}/events`: events as pages, or as a stream that goes on (SSE).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use rostro_service::types::{EventId, RemovalMark, SessionEvent, SessionId};
use rostro_service::{Service, Subscription};

use super::answers::EventSchema;
use super::{limit, parse_session};
use crate::error::ApiError;
use crate::public::openapi::{AuthErrors, NoBodyErrors, SessionErrors};
use crate::public::responses::run_blocking;
use crate::request::extract::{PathParams, QueryParams};
use crate::state::App;

/// Number of events that a stream reads at once.
const BATCH: usize = 100;

/// Time without events after which a stream sends a comment, so that proxies keep it open.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Id of the last event that a client of a stream received.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Events to read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::public) struct EventsQuery {
    /// Only events after this number. The header `last-event-id` takes precedence.
    #[param(default = 0)]
    after: Option<u64>,
    /// Largest number of events in a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventsAnswer {
    #[schema(value_type = Vec<EventSchema>)]
    events: Vec<SessionEvent>,
    /// `after` of the next page. Null on the last page.
    next_after: Option<u64>,
}

/// Read the events of a session.
#[utoipa::path(
    get,
    path = "/v1/sessions/{id}/events",
    operation_id = "list_session_events",
    tag = "sessions",
    params(
        ("id" = String, Path, description = "The session's id"),
        EventsQuery,
        ("accept" = Option<String>, Header, description = "`text/event-stream` for a stream that goes on"),
        ("last-event-id" = Option<String>, Header, description = "Id of the last received event")
    ),
    responses(
        (
            status = 200,
            description = "A page of events; or with `accept: text/event-stream`, all of them and \
                those to come, each with its id, its kind as the name, and its JSON as the data",
            content(
                (EventsAnswer = "application/json"),
                (String = "text/event-stream")
            )
        ),
        AuthErrors, SessionErrors, NoBodyErrors
    )
)]
pub(in crate::public) async fn list(
    State(app): State<App>,
    PathParams(id): PathParams<String>,
    QueryParams(query): QueryParams<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = parse_session(&id)?;
    let limit = limit(query.limit)?;
    let after = match headers.get(LAST_EVENT_ID) {
        Some(value) => number_of(value, id)?,
        None => query.after.unwrap_or_default(),
    };
    if accepts_stream(&headers) {
        return stream(app.service, id, after).await;
    }
    let mut events = read(&app.service, id, after, limit + 1).await?;
    let is_last = events.len() <= limit;
    events.truncate(limit);
    let next_after = events
        .last()
        .filter(|_| !is_last)
        .map(|event| event.id.number);
    Ok(Json(EventsAnswer { events, next_after }).into_response())
}

fn accepts_stream(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|kind| kind.split(';').next())
        .any(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// Returns the number of an event's id.
fn number_of(value: &HeaderValue, session: SessionId) -> Result<u64, ApiError> {
    let text = value.to_str().unwrap_or_default().trim();
    if text.is_empty() {
        return Ok(0);
    }
    text.parse::<EventId>()
        .ok()
        .filter(|id| id.session == session)
        .map(|id| id.number)
        .ok_or_else(|| {
            ApiError::bad_request(
                "invalid_header",
                "The header 'last-event-id' must be the id of an event of this session.",
            )
        })
}

async fn read(
    service: &Arc<Service>,
    id: SessionId,
    after: u64,
    most: usize,
) -> Result<Vec<SessionEvent>, ApiError> {
    let service = Arc::clone(service);
    run_blocking(move || {
        service
            .session_events(id, after, most)
            .map_err(ApiError::of_session)
    })
    .await
}

/// Reader of a session's events, as they come.
struct EventReader {
    service: Arc<Service>,
    id: SessionId,
    /// Number of the last event that was sent.
    sent: u64,
    read: VecDeque<SessionEvent>,
    /// State of the removals of people when the events were read.
    mark: RemovalMark,
    subscription: Subscription,
    stopping: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl EventReader {
    /// Returns the next event; none after the session was deleted, at the stop, or after a failure.
    /// The client connects again then, with the id of the last event.
    async fn next(&mut self) -> Option<SessionEvent> {
        loop {
            if !self.subscription.is_open() {
                return None;
            }
            // Events that were read before a deletion may have the person.
            if self.service.sessions().removal_mark() != self.mark {
                self.read.clear();
            }
            if let Some(event) = self.read.pop_front() {
                self.sent = event.id.number;
                return Some(event);
            }
            self.subscription.mark_unchanged();
            self.mark = self.service.sessions().removal_mark();
            self.read = read(&self.service, self.id, self.sent, BATCH)
                .await
                .ok()?
                .into();
            if !self.read.is_empty() {
                continue;
            }
            tokio::select! {
                is_open = self.subscription.changed() => {
                    if !is_open {
                        return None;
                    }
                }
                () = &mut self.stopping => return None,
            }
        }
    }
}

/// Returns the events after a number, and those to come.
async fn stream(service: Arc<Service>, id: SessionId, after: u64) -> Result<Response, ApiError> {
    let subscribed = {
        let service = Arc::clone(&service);
        run_blocking(move || {
            service
                .subscribe_to_session(id)
                .map_err(ApiError::of_session)
        })
    };
    let reader = EventReader {
        subscription: subscribed.await?,
        stopping: Box::pin(service.stopping()),
        mark: service.sessions().removal_mark(),
        service,
        id,
        sent: after,
        read: VecDeque::new(),
    };
    let events = unfold(reader, async |mut reader| {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(sse_event(&event)), reader))
    });
    let keep_alive = KeepAlive::new().interval(HEARTBEAT);
    // nginx would collect the events before it passes them on.
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((unbuffered, Sse::new(events).keep_alive(keep_alive)).into_response())
}

fn sse_event(event: &SessionEvent) -> Event {
    let data = serde_json::to_string(event).unwrap_or_default();
    Event::default()
        .id(event.id.to_string())
        .event(event.kind.name())
        .data(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_event_is_of_this_session() {
        let id: SessionId = "3f2b8c1e-9a47-4d7e-8b55-0c9d1e2f3a4b".parse().unwrap();
        let number = |text: &str| number_of(&text.parse().unwrap(), id).ok();
        assert_eq!(number(&format!("{id}-17")), Some(17));
        assert_eq!(number(""), Some(0));
        assert_eq!(number("17"), None);
        assert_eq!(number("4f2b8c1e-9a47-4d7e-8b55-0c9d1e2f3a4b-17"), None);
    }

    #[test]
    fn stream_is_chosen_by_accept() {
        for (accept, expected) in [
            ("text/event-stream", true),
            ("application/json, text/Event-Stream;q=0.9", true),
            ("application/json", false),
            ("*/*", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!(accepts_stream(&headers), expected, "{accept}");
        }
        assert!(!accepts_stream(&HeaderMap::new()));
    }
}
