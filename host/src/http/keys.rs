//! Who may use the service: API keys, each with what it is good for.
//!
//! Without a file of keys everybody who can reach the service may recognise and enrol, as with the service that this one replaces, and nobody
//! may manage people over it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::error::ApiError;
use super::{host, origin};
use crate::deployment::Actor;
use crate::executor::Client;

/// Shorter keys can be guessed.
const SHORTEST: usize = 16;

/// The largest file of keys, in bytes: ten thousand of them.
const LARGEST: usize = 1 << 20;

/// Where a key may stand beside `authorization`.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Which page has a browser send a request.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

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

/// The keys that are good. They are kept as digests under a secret of this process: comparing them tells nothing of a key by the time it
/// takes.
struct Keys {
    secret: [u8; 32],
    keys: Vec<Key>,
}

struct Key {
    name: Arc<str>,
    digest: blake3::Hash,
    scopes: Vec<Scope>,
}

/// Why a file of keys cannot be used. No key is quoted.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It cannot be read.
    #[error("cannot read the API keys in {file}: {cause}", file = file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It is not what it should be.
    #[error("{file}, line {line}: {what}; write a line NAME:SCOPES:KEY for each caller, with recognise, enrol and manage as scopes", file = file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// There is none in it.
    #[error("there is no key in {file}; write a line NAME:SCOPES:KEY for each caller", file = file.display())]
    None {
        /// The file.
        file: PathBuf,
    },
}

impl Keys {
    /// Reads a file with a line `NAME:SCOPES:KEY` for each caller; scopes are separated by commas, empty lines and those that begin with
    /// `#` do not count.
    fn read(file: &Path) -> Result<Self, KeysError> {
        let unreadable = |cause| KeysError::Unreadable { file: file.to_owned(), cause };
        let bytes = crate::files::read_at_most(file, LARGEST).map_err(unreadable)?;
        if bytes.len() > LARGEST {
            return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB")));
        }
        let text = String::from_utf8(bytes).map_err(|_| unreadable(io::Error::new(io::ErrorKind::InvalidData, "it is no text")))?;
        let secret = secret().map_err(unreadable)?;
        let mut keys: Vec<Key> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what| KeysError::Line { file: file.to_owned(), line: index + 1, what };
            let (name, rest) = line.split_once(':').ok_or_else(|| wrong("there are no two `:` in it"))?;
            let (scopes, key) = rest.split_once(':').ok_or_else(|| wrong("there are no two `:` in it"))?;
            if name.is_empty() || name.len() > 64 || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(wrong("the name is not 1 to 64 visible letters without spaces"));
            }
            if key.len() < SHORTEST || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(wrong("the key is not at least 16 visible letters without spaces"));
            }
            let scope = |text: &str| Scope::ALL.into_iter().find(|scope| scope.name() == text.trim());
            let scopes: Option<Vec<Scope>> = scopes.split(',').map(scope).collect();
            let scopes = scopes.ok_or_else(|| wrong("a scope is not known"))?;
            let digest = blake3::keyed_hash(&secret, key.as_bytes());
            if keys.iter().any(|other| *other.name == *name || other.digest == digest) {
                return Err(wrong("the name or the key was there before"));
            }
            keys.push(Key { name: name.into(), digest, scopes });
        }
        if keys.is_empty() { Err(KeysError::None { file: file.to_owned() }) } else { Ok(Self { secret, keys }) }
    }

    /// Whose key it is. All are compared, so that the time tells nothing of where in the file it stands.
    fn owner(&self, key: &str) -> Option<&Key> {
        let given = blake3::keyed_hash(&self.secret, key.as_bytes());
        self.keys.iter().fold(None, |found, key| if key.digest == given { Some(key) } else { found })
    }
}

/// A secret that nobody knows and that ends with the process.
fn secret() -> io::Result<[u8; 32]> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(secret)
}

/// Lets callers in. Shared: the file may be read again while requests are served.
#[derive(Clone)]
pub(crate) struct Doorkeeper(Option<Arc<Kept>>);

struct Kept {
    file: PathBuf,
    keys: ArcSwap<Keys>,
}

impl Doorkeeper {
    /// One who knows the keys in a file; without a file, one who asks for none.
    ///
    /// # Errors
    ///
    /// [`KeysError`] names the line.
    pub(crate) fn new(file: Option<&Path>) -> Result<Self, KeysError> {
        let keep = |file: &Path| Ok(Arc::new(Kept { file: file.to_owned(), keys: ArcSwap::from_pointee(Keys::read(file)?) }));
        file.map(keep).transpose().map(Self)
    }

    /// Reads the file again; how many keys are good from then on. Those before stay good if it cannot be used.
    ///
    /// # Errors
    ///
    /// [`KeysError`].
    pub(crate) fn reload(&self) -> Result<Option<usize>, KeysError> {
        let Some(kept) = &self.0 else { return Ok(None) };
        let keys = Keys::read(&kept.file)?;
        let count = keys.keys.len();
        kept.keys.store(Arc::new(keys));
        Ok(Some(count))
    }

    /// Who sends a request with these headers, if they may do what the scope says.
    fn who(&self, host: Option<&str>, headers: &HeaderMap, scope: Scope) -> Result<Option<Arc<str>>, ApiError> {
        let Some(kept) = &self.0 else {
            refuse_other_pages(host, headers)?;
            return match scope {
                Scope::Recognise | Scope::Enrol => Ok(None),
                Scope::Manage => {
                    let message = "People are managed here only by callers with a key, and the service has no keys. Use the admin interface, or \
                                   configure --api-keys.";
                    Err(ApiError::new(StatusCode::FORBIDDEN, "keys_required", message))
                }
            };
        };
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text(header::AUTHORIZATION).and_then(|value| {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
        });
        let keys = kept.keys.load();
        let owner = bearer.or_else(|| text(X_API_KEY)).and_then(|key| keys.owner(key));
        match owner {
            Some(key) if key.scopes.contains(&scope) => Ok(Some(Arc::clone(&key.name))),
            Some(_) => {
                let message = format!("The key is not good for this; it needs the scope '{}'.", scope.name());
                Err(ApiError::new(StatusCode::FORBIDDEN, "scope_missing", message).with("scope", scope.name()))
            }
            None => {
                let message = "A key is needed: 'Authorization: Bearer KEY' or 'X-API-Key: KEY'.";
                Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message))
            }
        }
    }
}

/// Refuses what a page of somebody else's has a browser send: where no key is asked for, whoever uses the browser could be made to enrol
/// somebody.
fn refuse_other_pages(host: Option<&str>, headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let is_other = text(header::ORIGIN).is_some_and(|origin| origin.split_once("://").map(|(_, host)| host) != host);
    if is_other || text(SEC_FETCH_SITE).is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        let message = "Pages of other sites may not use the service.";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "cross_origin_refused", message));
    }
    Ok(())
}

impl std::fmt::Debug for Doorkeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys = self.0.as_ref().map(|kept| kept.keys.load().keys.len());
        f.debug_struct("Doorkeeper").field("keys", &keys).finish()
    }
}

/// What a door is: who keeps it, and what it is for.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub keeper: Doorkeeper,
    pub scope: Scope,
}

/// Lets a request in, with who it is from, or turns it away before anything of its body is kept.
pub(super) async fn admit(State(door): State<Door>, mut request: Request, next: Next) -> Result<Response, ApiError> {
    let key = door.keeper.who(host(&request), request.headers(), door.scope)?;
    if let Some(name) = &key {
        tracing::Span::current().record("who", format!("key {name}"));
    }
    let who = key.as_ref().map_or_else(|| "anybody".to_owned(), |name| format!("key {name}"));
    let connection = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let from = origin(connection);
    let client = key.map(Client::Key).or_else(|| connection.map(|ConnectInfo(address)| Client::at(address.ip())));
    request.extensions_mut().insert(Actor { who, from });
    request.extensions_mut().insert(client.unwrap_or(Client::Unknown));
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const FILE: &str = "# callers\n\ncamera:recognise:0123456789abcdef\noffice:enrol,manage:fedcba9876543210\n";

    fn keeper(text: &str) -> (tempfile::TempDir, Result<Doorkeeper, String>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        fs::write(&file, text).unwrap();
        let keeper = Doorkeeper::new(Some(&file)).map_err(|error| error.to_string().replace(&file.display().to_string(), "keys"));
        (folder, keeper)
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn a_key_is_good_for_its_scopes_and_its_owner() {
        let (_folder, keeper) = keeper(FILE);
        let keeper = keeper.unwrap();
        let asks = |name, value: &str, scope| keeper.who(None, &headers(name, value), scope).map_err(|error| error.code);
        assert_eq!(asks("authorization", "Bearer 0123456789abcdef", Scope::Recognise), Ok(Some("camera".into())));
        assert_eq!(asks("authorization", "bearer 0123456789abcdef", Scope::Recognise), Ok(Some("camera".into())));
        assert_eq!(asks("x-api-key", "fedcba9876543210", Scope::Manage), Ok(Some("office".into())));
        assert_eq!(asks("x-api-key", "fedcba9876543210", Scope::Recognise), Err("scope_missing"));
        assert_eq!(asks("x-api-key", "fedcba987654321", Scope::Enrol), Err("unauthorized"));
        assert_eq!(asks("authorization", "Basic 0123456789abcdef", Scope::Recognise), Err("unauthorized"));
        assert_eq!(keeper.who(None, &HeaderMap::new(), Scope::Enrol).map_err(|error| error.code), Err("unauthorized"));
        assert!(!format!("{keeper:?}").contains("0123456789"));
    }

    #[test]
    fn without_keys_everybody_recognises_and_enrols_and_nobody_manages() {
        let keeper = Doorkeeper::new(None).unwrap();
        let asks = |scope| keeper.who(None, &HeaderMap::new(), scope).map_err(|error| error.code);
        assert_eq!([Scope::Recognise, Scope::Enrol, Scope::Manage].map(asks), [Ok(None), Ok(None), Err("keys_required")]);
    }

    #[test]
    fn pages_of_other_sites_get_nothing_where_no_key_is_asked_for() {
        let keeper = Doorkeeper::new(None).unwrap();
        let asks = |pairs: &[(&'static str, &str)]| {
            let headers = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
            keeper.who(Some("127.0.0.1:4000"), &headers, Scope::Enrol).map_err(|error| error.code)
        };
        assert_eq!(asks(&[]), Ok(None));
        assert_eq!(asks(&[("origin", "http://127.0.0.1:4000"), ("sec-fetch-site", "same-origin")]), Ok(None));
        for other in ["http://evil.example", "http://127.0.0.1:4001", "null"] {
            assert_eq!(asks(&[("origin", other)]), Err("cross_origin_refused"), "{other}");
        }
        assert_eq!(asks(&[("sec-fetch-site", "cross-site")]), Err("cross_origin_refused"));
    }

    #[test]
    fn keys_are_read_again_and_a_bad_file_changes_nothing() {
        let (folder, keeper) = keeper(FILE);
        let keeper = keeper.unwrap();
        let good = |key: &str| keeper.who(None, &headers("x-api-key", key), Scope::Recognise).is_ok();
        let file = folder.path().join("keys");
        fs::write(&file, "camera:recognise:a-new-key-of-the-camera\n").unwrap();
        assert!(good("0123456789abcdef") && !good("a-new-key-of-the-camera"));
        assert_eq!(keeper.reload().unwrap(), Some(1));
        assert!(!good("0123456789abcdef") && good("a-new-key-of-the-camera"));
        fs::write(&file, "camera:recognise").unwrap();
        assert!(keeper.reload().is_err() && good("a-new-key-of-the-camera"));
    }

    #[test]
    fn a_bad_file_is_refused_with_the_line_and_without_the_key() {
        for (text, wanted) in [
            ("", "there is no key in keys"),
            ("a:recognise:short", "keys, line 1: the key is not at least 16"),
            ("\na:secretsecretsecret", "keys, line 2: there are no two `:`"),
            (":enrol:secretsecretsecret", "keys, line 1: the name is not"),
            ("a:enrol,all:secretsecretsecret", "keys, line 1: a scope is not known"),
            ("a::secretsecretsecret", "keys, line 1: a scope is not known"),
            ("a:enrol:secretsecretsecret\na:enrol:secretsecretsecret2", "keys, line 2: the name or the key was there before"),
        ] {
            let error = keeper(text).1.unwrap_err();
            assert!(error.contains(wanted) && !error.contains("secret"), "{error}");
        }
    }
}
