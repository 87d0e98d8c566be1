//! Authentication of operators on the admin port.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use rostro_service::deployment::Actor;

use crate::auth::secrets::{SecretEntry, SecretsFile};
use crate::error::ApiError;
use crate::request::caller::Caller;
use crate::request::headers::host;
use crate::request::trace::RequestId;

/// Entry of an operator in the file of tokens: a name and a token, nothing more.
#[derive(Debug)]
pub struct Operator;

impl SecretEntry for Operator {
    const NAMES: [&'static str; 2] = ["token", "tokens"];
    const LINE: &'static str = "NAME:TOKEN for each operator";

    fn read(rest: &str) -> Result<(Self, &str), &'static str> {
        Ok((Self, rest))
    }
}

/// Middleware that adds the [`Actor`] to a request, or refuses the request. Without a file of
/// tokens, only requests to a loopback name pass.
pub(crate) async fn authenticate(
    State(tokens): State<Option<SecretsFile<Operator>>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let who = operator_name(tokens.as_ref(), host(&request), request.headers())?;
    tracing::Span::current().record("who", who.as_str());
    let caller = Caller::of(request.extensions(), request.headers());
    let (from, client) = (caller.to_string(), caller.client());
    let id = request.extensions().get::<RequestId>().map(RequestId::uuid);
    request.extensions_mut().insert(Actor {
        who,
        from,
        request: id,
        can_manage: true,
    });
    request.extensions_mut().insert(client);
    Ok(next.run(request).await)
}

/// Returns the name of the operator who sent these headers.
fn operator_name(
    tokens: Option<&SecretsFile<Operator>>,
    host: Option<&str>,
    headers: &HeaderMap,
) -> Result<String, ApiError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
        let message = "Pages of browsers may not use the admin interface.";
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "browser_refused",
            message,
        ));
    }
    let Some(tokens) = tokens else {
        // Prevents DNS rebinding: another site's name may resolve to this address.
        let host = host.unwrap_or_default();
        let name = host
            .rsplit_once(':')
            .filter(|_| host != "[::1]")
            .map_or(host, |(name, _)| name);
        return match name {
            "127.0.0.1" | "localhost" | "[::1]" => Ok("local".to_owned()),
            _ => Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "host_refused",
                "Use the loopback address, or configure a token.",
            )),
        };
    };
    let token = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let owner = token
        .and_then(|token| tokens.owner(token))
        .map(|owner| owner.name.to_string());
    let message = "The admin interface needs a token: 'Authorization: Bearer TOKEN'.";
    owner.ok_or_else(|| ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message))
}
