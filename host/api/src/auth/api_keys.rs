//! Who may use the service: API keys, each with what it is good for.
//!
//! Without a file of keys everybody who can reach the service may recognise and enrol, as with the
//! service that this one replaces, and nobody may manage people over it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use rostro_service::deployment::Actor;
use rostro_service::executor::Client;

use crate::auth::secrets::{Owner, SecretEntry, SecretsFile};
use crate::error::ApiError;
use crate::host;
use crate::request::browser::BrowserAccess;
use crate::request::caller::Caller;
use crate::request::trace::RequestId;

/// Where a key may stand beside `authorization`.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Asking who is in a picture, storing nothing.
    Recognise,
    /// Enrolling people.
    Enrol,
    /// Listing, reading and deleting people.
    Manage,
}

impl Scope {
    const ALL: [Self; 3] = [Self::Recognise, Self::Enrol, Self::Manage];

    fn name(self) -> &'static str {
        match self {
            Self::Recognise => "recognise",
            Self::Enrol => "enrol",
            Self::Manage => "manage",
        }
    }
}

/// What stands beside a caller's key.
#[derive(Debug)]
pub struct Scopes(Vec<Scope>);

impl SecretEntry for Scopes {
    const NAMES: [&'static str; 2] = ["key", "API keys"];
    const LINE: &'static str =
        "NAME:SCOPES:KEY for each caller, with recognise, enrol and manage as scopes";

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

/// Lets callers in: those with a key, or everybody where none are asked for.
#[derive(Clone, Debug)]
pub struct ApiKeyAuth(Option<SecretsFile<Scopes>>);

impl ApiKeyAuth {
    /// One who knows these keys; without any, one who asks for none.
    pub fn new(keys: Option<SecretsFile<Scopes>>) -> Self {
        Self(keys)
    }

    /// Returns the key that a request's headers have, if it is a good one, whatever it is good for.
    fn key(&self, headers: &HeaderMap) -> Option<Arc<Owner<Scopes>>> {
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

    /// Who sends a request with this key, if they may do what the scope says.
    fn who(&self, key: Option<&Owner<Scopes>>, scope: Scope) -> Result<Option<Arc<str>>, ApiError> {
        if self.0.is_none() {
            return match scope {
                Scope::Recognise | Scope::Enrol => Ok(None),
                Scope::Manage => {
                    let message = "People are managed here only by callers with a key, and the service has no keys. Use the admin interface, or \
                                   configure --api-keys.";
                    Err(ApiError::new(
                        StatusCode::FORBIDDEN,
                        "keys_required",
                        message,
                    ))
                }
            };
        }
        match key {
            Some(key) if key.entry.0.contains(&scope) => Ok(Some(Arc::clone(&key.name))),
            Some(_) => {
                let message = format!(
                    "The key is not good for this; it needs the scope '{}'.",
                    scope.name()
                );
                Err(
                    ApiError::new(StatusCode::FORBIDDEN, "scope_missing", message)
                        .with("scope", scope.name()),
                )
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

/// What a door is: who keeps it, and what it is for.
#[derive(Clone, Debug)]
pub(crate) struct RequireScope {
    pub keeper: ApiKeyAuth,
    pub browsers: BrowserAccess,
    pub scope: Scope,
}

/// Finds out whose key a request has, so that its line in the log names the key whatever becomes of
/// it.
pub async fn identify(
    State(keeper): State<ApiKeyAuth>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(key) = keeper.key(request.headers()) {
        tracing::Span::current().record("who", format!("key {}", key.name));
        request.extensions_mut().insert(key);
    }
    next.run(request).await
}

/// Lets a request in, with who it is from, or turns it away before anything of its body is kept.
pub(crate) async fn authenticate(
    State(door): State<RequireScope>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = Caller::of(request.extensions(), request.headers());
    if door.keeper.0.is_none() {
        door.browsers
            .refuse_other_pages(&caller, host(&request), request.headers())?;
    }
    let key = request.extensions().get::<Arc<Owner<Scopes>>>();
    // Without keys nobody who asks here may manage people.
    let can_manage = key.is_some_and(|key| key.entry.0.contains(&Scope::Manage));
    let key = door.keeper.who(key.map(Arc::as_ref), door.scope)?;
    let who = key
        .as_ref()
        .map_or_else(|| "anybody".to_owned(), |name| format!("key {name}"));
    let from = caller.to_string();
    let client = key.map_or_else(|| caller.client(), Client::Key);
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

    fn ask(
        keeper: &ApiKeyAuth,
        headers: &HeaderMap,
        scope: Scope,
    ) -> Result<Option<Arc<str>>, &'static str> {
        keeper
            .who(keeper.key(headers).as_deref(), scope)
            .map_err(|error| error.code)
    }

    /// Two keys under one name have their own scopes each.
    #[test]
    fn scopes_belong_to_the_key() {
        let keeper =
            keys("office:enrol:0123456789abcdef\noffice:manage:fedcba9876543210\n").unwrap();
        let asks = |key: &str, scope| ask(&keeper, &headers("x-api-key", key), scope);
        assert_eq!(
            asks("0123456789abcdef", Scope::Enrol),
            Ok(Some("office".into()))
        );
        assert_eq!(
            asks("fedcba9876543210", Scope::Manage),
            Ok(Some("office".into()))
        );
        assert_eq!(asks("fedcba9876543210", Scope::Enrol), Err("scope_missing"));
    }

    #[test]
    fn a_key_is_good_for_its_scopes_and_its_owner() {
        let keeper = keys(FILE).unwrap();
        let asks = |name, value: &str, scope| ask(&keeper, &headers(name, value), scope);
        assert_eq!(
            asks("authorization", "Bearer 0123456789abcdef", Scope::Recognise),
            Ok(Some("camera".into()))
        );
        assert_eq!(
            asks("authorization", "bearer 0123456789abcdef", Scope::Recognise),
            Ok(Some("camera".into()))
        );
        assert_eq!(
            asks("x-api-key", "fedcba9876543210", Scope::Manage),
            Ok(Some("office".into()))
        );
        assert_eq!(
            asks("x-api-key", "fedcba9876543210", Scope::Recognise),
            Err("scope_missing")
        );
        assert_eq!(
            asks("x-api-key", "fedcba987654321", Scope::Enrol),
            Err("unauthorized")
        );
        assert_eq!(
            asks("authorization", "Basic 0123456789abcdef", Scope::Recognise),
            Err("unauthorized")
        );
        assert_eq!(
            ask(&keeper, &HeaderMap::new(), Scope::Enrol),
            Err("unauthorized")
        );
    }

    #[test]
    fn without_keys_everybody_recognises_and_enrols_and_nobody_manages() {
        let keeper = ApiKeyAuth::new(None);
        let asks = |scope| ask(&keeper, &HeaderMap::new(), scope);
        assert_eq!(
            [Scope::Recognise, Scope::Enrol, Scope::Manage].map(asks),
            [Ok(None), Ok(None), Err("keys_required")]
        );
    }

    #[test]
    fn a_line_without_scopes_or_with_others_is_refused() {
        for (text, wanted) in [
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
                error.contains(wanted) && !error.contains("secret"),
                "{error}"
            );
        }
    }
}
