//! API keys of callers, each with its scopes.
//!
//! Without a file of keys, every client may recognise and enrol, as with the replaced service, and
//! no client may manage people.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use rostro_service::deployment::Actor;
use rostro_service::executor::Client;

use crate::auth::secrets::{Owner, SecretEntry, SecretsFile};
use crate::error::ApiError;
use crate::request::browser::BrowserAccess;
use crate::request::caller::Caller;
use crate::request::headers::host;
use crate::request::trace::RequestId;

/// Alternative to the header `authorization`.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Kind of routes that a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Recognising and analysing faces, storing nothing.
    Recognise,
    /// Enrolling people.
    Enrol,
    /// Listing, reading and deleting people.
    Manage,
    /// Reading and correcting the attendance of sessions.
    Attend,
}

impl Scope {
    const ALL: [Self; 4] = [Self::Recognise, Self::Enrol, Self::Manage, Self::Attend];

    fn name(self) -> &'static str {
        match self {
            Self::Recognise => "recognise",
            Self::Enrol => "enrol",
            Self::Manage => "manage",
            Self::Attend => "attend",
        }
    }
}

/// Scopes of a key, as its line in the file lists them.
#[derive(Debug)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    fn has_any(&self, scopes: &[Scope]) -> bool {
        scopes.iter().any(|scope| self.0.contains(scope))
    }
}

impl SecretEntry for Scopes {
    const NAMES: [&'static str; 2] = ["key", "API keys"];
    const LINE: &'static str =
        "NAME:SCOPES:KEY for each caller, with recognise, enrol, manage and attend as scopes";

    fn read(rest: &str) -> Result<(Self, &str), &'static str> {
        let (scopes, key) = rest.split_once(':').ok_or("there are no two `:` in it")?;
        let scope = |text: &str| {
            Scope::ALL
                .into_iter()
                .find(|scope| scope.name() == text.trim())
        };
        let scopes: Option<Vec<Scope>> = scopes.split(',').map(scope).collect();
        Ok((Self(scopes.ok_or("a scope is not known")?), key))
    }
}

/// Authentication by API keys, or none if no keys are configured.
#[derive(Clone, Debug)]
pub struct ApiKeyAuth(Option<SecretsFile<Scopes>>);

impl ApiKeyAuth {
    /// Requires one of these keys, or no key if there are none.
    pub fn new(keys: Option<SecretsFile<Scopes>>) -> Self {
        Self(keys)
    }

    /// Returns the key in the headers of a request, if it is valid, with any scopes.
    fn find_key(&self, headers: &HeaderMap) -> Option<Arc<Owner<Scopes>>> {
        let keys = self.0.as_ref()?;
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text(header::AUTHORIZATION).and_then(|value| {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
        });
        bearer
            .or_else(|| text(X_API_KEY))
            .and_then(|key| keys.owner(key))
    }

    /// Returns the name of a key that has one of the scopes. Returns `None` if no key is needed.
    fn authorize(
        &self,
        key: Option<&Owner<Scopes>>,
        scopes: &[Scope],
    ) -> Result<Option<Arc<str>>, ApiError> {
        if self.0.is_none() {
            return match scopes {
                [Scope::Manage] => {
                    let message = "People are managed here only by callers with a key, and the \
                                   service has no keys. Use the admin interface, or configure \
                                   --api-keys.";
                    Err(ApiError::new(
                        StatusCode::FORBIDDEN,
                        "keys_required",
                        message,
                    ))
                }
                _ => Ok(None),
            };
        }
        match key {
            Some(key) if key.entry.has_any(scopes) => Ok(Some(Arc::clone(&key.name))),
            Some(_) => {
                let names: Vec<&str> = scopes.iter().map(|scope| scope.name()).collect();
                Err(ApiError::scope_missing(&names))
            }
            None => {
                let message = "A key is needed: 'Authorization: Bearer KEY' or 'X-API-Key: KEY'.";
                Err(ApiError::new(
                    StatusCode::UNAUTHORIZED,
                    "unauthorized",
                    message,
                ))
            }
        }
    }
}

/// Caller of a route of sessions.
#[derive(Clone, Debug)]
pub(crate) struct SessionCaller {
    /// Name of the key; none if the service runs without keys.
    pub name: Option<String>,
    /// Whether the caller may act on sessions of other keys.
    pub can_attend: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for SessionCaller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let key = parts.extensions.get::<Arc<Owner<Scopes>>>();
        Ok(Self {
            name: key.map(|key| key.name.to_string()),
            can_attend: key.is_none_or(|key| key.entry.has_any(&[Scope::Attend])),
        })
    }
}

/// State of [`authenticate`]: the scopes of which some routes require one.
#[derive(Clone, Debug)]
pub(crate) struct RequireScope {
    pub auth: ApiKeyAuth,
    pub browsers: BrowserAccess,
    pub scopes: &'static [Scope],
}

/// Middleware that finds the key of a request, so that the log line names it even if the request is
/// refused.
pub(crate) async fn identify(
    State(auth): State<ApiKeyAuth>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(key) = auth.find_key(request.headers()) {
        tracing::Span::current().record("who", format!("key {}", key.name));
        request.extensions_mut().insert(key);
    }
    next.run(request).await
}

/// Middleware that adds the [`Actor`] to a request, or refuses the request before its body is read.
pub(crate) async fn authenticate(
    State(required): State<RequireScope>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = Caller::of(request.extensions(), request.headers());
    if required.auth.0.is_none() {
        required
            .browsers
            .refuse_other_pages(&caller, host(&request), request.headers())?;
    }
    let key = request.extensions().get::<Arc<Owner<Scopes>>>();
    // Without keys, no client of this port may manage people.
    let can_manage = key.is_some_and(|key| key.entry.has_any(&[Scope::Manage]));
    let name = required
        .auth
        .authorize(key.map(Arc::as_ref), required.scopes)?;
    let who = name
        .as_ref()
        .map_or_else(|| "anybody".to_owned(), |name| format!("key {name}"));
    let from = caller.to_string();
    let client = name.map_or_else(|| caller.client(), Client::Key);
    let id = request.extensions().get::<RequestId>().map(RequestId::uuid);
    request.extensions_mut().insert(Actor {
        who,
        from,
        request: id,
        can_manage,
    });
    request.extensions_mut().insert(client);
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "camera:recognise:0123456789abcdef\noffice:enrol,manage:fedcba9876543210\n";

    fn keys(text: &str) -> Result<ApiKeyAuth, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        SecretsFile::read(file.path())
            .map(|keys| ApiKeyAuth::new(Some(keys)))
            .map_err(|error| error.to_string())
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
    }

    fn authorize(
        auth: &ApiKeyAuth,
        headers: &HeaderMap,
        scope: Scope,
    ) -> Result<Option<Arc<str>>, &'static str> {
        auth.authorize(auth.find_key(headers).as_deref(), &[scope])
            .map_err(|error| error.code)
    }

    /// Two keys with one name have separate scopes.
    #[test]
    fn scopes_belong_to_the_key() {
        let auth = keys("office:enrol:0123456789abcdef\noffice:manage:fedcba9876543210\n").unwrap();
        let result = |key: &str, scope| authorize(&auth, &headers("x-api-key", key), scope);
        assert_eq!(
            result("0123456789abcdef", Scope::Enrol),
            Ok(Some("office".into()))
        );
        assert_eq!(
            result("fedcba9876543210", Scope::Manage),
            Ok(Some("office".into()))
        );
        assert_eq!(
            result("fedcba9876543210", Scope::Enrol),
            Err("scope_missing")
        );
    }

    #[test]
    fn key_is_authorized_for_its_scopes() {
        let auth = keys(FILE).unwrap();
        let result = |name, value: &str, scope| authorize(&auth, &headers(name, value), scope);
        assert_eq!(
            result("authorization", "Bearer 0123456789abcdef", Scope::Recognise),
            Ok(Some("camera".into()))
        );
        assert_eq!(
            result("authorization", "bearer 0123456789abcdef", Scope::Recognise),
            Ok(Some("camera".into()))
        );
        assert_eq!(
            result("x-api-key", "fedcba9876543210", Scope::Manage),
            Ok(Some("office".into()))
        );
        assert_eq!(
            result("x-api-key", "fedcba9876543210", Scope::Recognise),
            Err("scope_missing")
        );
        assert_eq!(
            result("x-api-key", "fedcba987654321", Scope::Enrol),
            Err("unauthorized")
        );
        assert_eq!(
            result("authorization", "Basic 0123456789abcdef", Scope::Recognise),
            Err("unauthorized")
        );
        assert_eq!(
            authorize(&auth, &HeaderMap::new(), Scope::Enrol),
            Err("unauthorized")
        );
    }

    #[test]
    fn manage_requires_keys() {
        let auth = ApiKeyAuth::new(None);
        let result = |scope| authorize(&auth, &HeaderMap::new(), scope);
        assert_eq!(
            Scope::ALL.map(result),
            [Ok(None), Ok(None), Err("keys_required"), Ok(None)]
        );
    }

    #[test]
    fn one_of_several_scopes_suffices() {
        let auth = keys(FILE).unwrap();
        let result = |key: &str, scopes: &[Scope]| {
            let key = auth.find_key(&headers("x-api-key", key));
            auth.authorize(key.as_deref(), scopes)
                .map_err(|error| error.message)
        };
        let either = [Scope::Recognise, Scope::Attend];
        assert_eq!(
            result("0123456789abcdef", &either),
            Ok(Some("camera".into()))
        );
        let refusal = "The key is not good for this; it needs the scope 'recognise' or 'attend'.";
        assert_eq!(result("fedcba9876543210", &either), Err(refusal.to_owned()));
    }

    #[test]
    fn line_with_bad_scopes_is_refused() {
        for (text, message) in [
            ("", "there is no key in"),
            ("a:secretsecretsecret", "line 1: there are no two `:`"),
            (
                "a:enrol,all:secretsecretsecret",
                "line 1: a scope is not known",
            ),
            ("a::secretsecretsecret", "line 1: a scope is not known"),
        ] {
            let error = keys(text).unwrap_err();
            assert!(
                error.contains(message) && !error.contains("secret"),
                "{error}"
            );
        }
    }
}
