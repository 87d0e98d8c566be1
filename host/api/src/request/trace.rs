//! Middleware around every request: its id, its log line, and the body of its error.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::{Instrument, field};
use uuid::Uuid;

use crate::error::{ApiError, ErrorAnswer};
use crate::metrics::Traffic;
use crate::request::caller::Caller;
use crate::request::drain::DrainOnDrop;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Counted status of a request if the client disconnects before the answer. HTTP does not define
/// it, but nginx logs the same one.
const CLIENT_GONE: u16 = 499;

/// Longest accepted id of a caller, in bytes.
const MAX_ID_BYTES: usize = 128;

/// Id of a request: the caller's own if it is usable.
#[derive(Clone, Debug)]
pub(crate) struct RequestId {
    shown: Arc<str>,
    /// The id if it is a UUID, or else a new one. Another id of a caller may contain anything, also
    /// the id of a person.
    uuid: Arc<str>,
}

impl RequestId {
    fn of(request: &Request) -> Self {
        let own = request
            .headers()
            .get(X_REQUEST_ID)
            .and_then(|value| value.to_str().ok());
        let usable = own.filter(|id| {
            (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        });
        let shown: Option<Arc<str>> = usable.map(Into::into);
        let uuid = shown
            .clone()
            .filter(|id| Uuid::try_parse(id).is_ok())
            .unwrap_or_else(|| Uuid::now_v7().to_string().into());
        Self {
            shown: shown.unwrap_or_else(|| Arc::clone(&uuid)),
            uuid,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.shown
    }

    /// Returns the id for the audit log.
    pub(crate) fn uuid(&self) -> Arc<str> {
        Arc::clone(&self.uuid)
    }
}

/// Returns the route of a request as it is written, without ids of people and groups. Another path
/// is hidden, because it may be a misspelt route with an id in it.
fn route_for_log(request: &Request) -> &str {
    request
        .extensions()
        .get::<MatchedPath>()
        .map_or("/…", MatchedPath::as_str)
}

/// Gives the request its id, logs its end, counts it, and writes the body of an error.
pub(crate) async fn observe(
    State(traffic): State<Option<Traffic>>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let id = RequestId::of(&request);
    let span = tracing::info_span!(
        "request",
        id = id.as_str(),
        method = %request.method(),
        path = route_for_log(&request),
        who = field::Empty,
        revision = field::Empty,
        from = field::display(Caller::of(request.extensions(), request.headers())),
        uuid = field::Empty,
        trace = trace_id(&request)
    );
    if id.shown != id.uuid {
        span.record("uuid", &*id.uuid);
    }
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("other", MatchedPath::as_str)
        .to_owned();
    request.extensions_mut().insert(id.clone());
    let path = request.uri().path_and_query().cloned();
    let request = request.map(DrainOnDrop::wrap);
    async move {
        // Runs if this future is dropped because the client goes away.
        let client_gone = scopeguard::guard((), |()| {
            tracing::info!(ms = milliseconds(begun), "the client is gone");
            if let Some(traffic) = &traffic {
                traffic.record(&route, CLIENT_GONE, begun.elapsed());
            }
        });
        let mut response = next.run(request).await;
        scopeguard::ScopeGuard::into_inner(client_gone);
        let error = response.extensions_mut().remove::<Arc<ApiError>>();
        if let Some(error) = &error {
            response = with_body(response, error, &id);
            if let Some(address) = &error.other_service
                && let Some(path) = &path
                && let Ok(location) = HeaderValue::try_from(format!("{address}{path}"))
            {
                response.headers_mut().insert(header::LOCATION, location);
            }
        }
        log(&route, response.status(), error.as_deref(), begun);
        if let Some(traffic) = &traffic {
            traffic.record(&route, response.status().as_u16(), begun.elapsed());
        }
        add_security_headers(response.headers_mut());
        if let Ok(value) = HeaderValue::from_str(id.as_str()) {
            response.headers_mut().insert(X_REQUEST_ID, value);
        }
        response
    }
    .instrument(span)
    .await
}

/// Returns the id of the caller's trace from the header `traceparent` (W3C Trace Context): 32
/// hexadecimal digits between version and span.
fn trace_id(request: &Request) -> Option<&str> {
    let value = request.headers().get("traceparent")?.to_str().ok()?;
    let mut parts = value.split('-');
    let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_valid = is_hex(version, 2)
        && is_hex(trace, 32)
        && is_hex(span, 16)
        && trace.bytes().any(|byte| byte != b'0');
    is_valid.then_some(trace)
}

/// Adds headers against caching, sniffing of content types, and referrers.
fn add_security_headers(headers: &mut HeaderMap) {
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers
        .entry(header::X_CONTENT_TYPE_OPTIONS)
        .or_insert(HeaderValue::from_static("nosniff"));
    headers
        .entry(header::REFERRER_POLICY)
        .or_insert(HeaderValue::from_static("no-referrer"));
}

/// Writes the body of an error. Headers are kept, because inner layers may have added some.
fn with_body(response: Response, error: &ApiError, id: &RequestId) -> Response {
    let body = ErrorAnswer::new(error, id.as_str());
    let (body_headers, body) = axum::Json(body).into_response().into_parts();
    let (mut head, _) = response.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.extend(body_headers.headers);
    Response::from_parts(head, body)
}

/// Returns the milliseconds since an instant, as a type that JSON logs write as a number.
fn milliseconds(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Routes that orchestrators call every few seconds.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];

fn log(route: &str, status: StatusCode, error: Option<&ApiError>, begun: Instant) {
    let ms = milliseconds(begun);
    let status = status.as_u16();
    match error {
        // Expected while the service starts, and not worth a warning a second.
        Some(error) if status == 503 && PROBES.contains(&route) => {
            tracing::debug!(status, ms, code = error.code, "turned away")
        }
        None => tracing::info!(status, ms, "done"),
        Some(error) if status < 500 => tracing::info!(
            status,
            ms,
            code = error.code,
            cause = error.cause.as_deref(),
            "refused"
        ),
        // A warning, because the service refuses work on purpose.
        Some(error) if status == 503 => tracing::warn!(
            status,
            ms,
            code = error.code,
            cause = error.cause.as_deref(),
            "turned away"
        ),
        Some(error) => {
            tracing::error!(
                status,
                ms,
                code = error.code,
                cause = error.cause.as_deref().unwrap_or(&error.message),
                "failed"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_id_for_audit_is_uuid() {
        let of = |value: Option<&str>| {
            let builder = value
                .into_iter()
                .fold(Request::builder(), |builder, value| {
                    builder.header(X_REQUEST_ID, value)
                });
            let id = RequestId::of(&builder.body(axum::body::Body::empty()).unwrap());
            (id.as_str().to_owned(), id.uuid().to_string())
        };
        let uuid = "0198c5a2-0000-7000-8000-00000000000A";
        assert_eq!(of(Some(uuid)), (uuid.to_owned(), uuid.to_owned()));
        let (shown, own) = of(None);
        assert_eq!(shown, own);
        for other in [
            "alice",
            "0198c5a2",
            "0198c5a2-0000-7000-8000-00000000000A-alice",
        ] {
            let (shown, own) = of(Some(other));
            assert!(
                shown == other && Uuid::try_parse(&own).is_ok() && !own.contains("alice"),
                "{shown} {own}"
            );
        }
    }

    #[test]
    fn valid_traceparent_gives_trace_id() {
        const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        let of = |value: &str| {
            let request = Request::builder()
                .header("traceparent", value)
                .body(axum::body::Body::empty())
                .unwrap();
            trace_id(&request).map(str::to_owned)
        };
        assert_eq!(
            of(&format!("00-{TRACE}-00f067aa0ba902b7-01")).as_deref(),
            Some(TRACE)
        );
        for wrong in [
            "",
            "00",
            &format!("00-{TRACE}"),
            &format!("00-{TRACE}-short-01"),
            &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
