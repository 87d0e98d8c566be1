//! Who may use the admin interface.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::Admin;
use crate::deployment::Actor;
use crate::digest::Sha256Digest;
use crate::http::{ApiError, host, origin};

/// Shorter tokens can be guessed.
const SHORTEST: usize = 16;

/// The tokens that are good, each with the name of who has it.
#[derive(Debug)]
pub(crate) struct Tokens(Vec<(String, Sha256Digest)>);

/// Why a file of tokens cannot be used. No token is quoted.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read.
    #[error("cannot read the tokens in {file}: {cause}", file = file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It is not what it should be.
    #[error("{file}, line {line}: {what}; write a line NAME:TOKEN for each operator", file = file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// There is none in it.
    #[error("there is no token in {file}; write a line NAME:TOKEN for each operator", file = file.display())]
    None {
        /// The file.
        file: PathBuf,
    },
}

impl Tokens {
    /// Reads a file with a line `NAME:TOKEN` for each operator; empty lines and those that begin with `#` do not count.
    ///
    /// # Errors
    ///
    /// [`TokensError`] names the line.
    pub(crate) fn read(file: &Path) -> Result<Self, TokensError> {
        let text = fs::read_to_string(file).map_err(|cause| TokensError::Unreadable { file: file.to_owned(), cause })?;
        let mut tokens = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            let wrong = |what| TokensError::Line { file: file.to_owned(), line: index + 1, what };
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, token) = line.split_once(':').ok_or_else(|| wrong("no `:` in it"))?;
            if name.is_empty() || name.contains(char::is_control) {
                return Err(wrong("no name before the `:`"));
            }
            if token.len() < SHORTEST {
                return Err(wrong("the token has less than 16 characters"));
            }
            tokens.push((name.to_owned(), Sha256Digest::of(token.as_bytes())));
        }
        if tokens.is_empty() {
            return Err(TokensError::None { file: file.to_owned() });
        }
        Ok(Self(tokens))
    }

    /// Whose token it is. Digests are compared, so that how long it takes tells nothing of a token.
    fn owner(&self, token: &str) -> Option<&str> {
        let given = Sha256Digest::of(token.as_bytes());
        self.0.iter().find(|(_, digest)| *digest == given).map(|(name, _)| name.as_str())
    }
}

/// Lets a request in, with who it is from, or turns it away.
pub(super) async fn admit(State(admin): State<Admin>, mut request: Request, next: Next) -> Result<Response, ApiError> {
    let who = who(admin.tokens.as_deref(), host(&request), request.headers())?;
    let from = origin(request.extensions().get::<ConnectInfo<SocketAddr>>());
    request.extensions_mut().insert(Actor { who, from });
    Ok(next.run(request).await)
}

/// Who sends a request with these headers.
fn who(tokens: Option<&Tokens>, host: Option<&str>, headers: &HeaderMap) -> Result<String, ApiError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
        let message = "Pages of browsers may not use the admin interface.";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "browser_refused", message));
    }
    let Some(tokens) = tokens else {
        // A name that somebody else's server gave this address must not be a way in.
        let host = host.unwrap_or_default();
        let name = host.rsplit_once(':').filter(|_| host != "[::1]").map_or(host, |(name, _)| name);
        return match name {
            "127.0.0.1" | "localhost" | "[::1]" => Ok("local".to_owned()),
            _ => Err(ApiError::new(StatusCode::FORBIDDEN, "host_refused", "Use the loopback address, or configure a token.")),
        };
    };
    let token = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let owner = token.and_then(|token| tokens.owner(token)).map(str::to_owned);
    let message = "The admin interface needs a token: 'Authorization: Bearer TOKEN'.";
    owner.ok_or_else(|| ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Tokens, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        fs::write(&file, text).unwrap();
        Tokens::read(&file).map_err(|error| error.to_string().replace(&file.display().to_string(), "tokens"))
    }

    #[test]
    fn a_token_is_good_for_the_one_whose_it_is() {
        let tokens = read("# operators\n\nalice:0123456789abcdef\nbob:fedcba9876543210\n").unwrap();
        assert_eq!(tokens.owner("0123456789abcdef"), Some("alice"));
        assert_eq!(tokens.owner("fedcba9876543210"), Some("bob"));
        assert_eq!(tokens.owner("0123456789abcde"), None);
        assert!(!format!("{tokens:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn a_bad_file_is_refused_with_the_line_and_without_the_token() {
        for (text, wanted) in [
            ("", "there is no token in tokens"),
            ("alice:short", "tokens, line 1: the token has less than 16 characters"),
            ("\nsecretsecretsecret", "tokens, line 2: no `:` in it"),
            (":secretsecretsecret", "tokens, line 1: no name"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(wanted) && !error.contains("secret"), "{error}");
        }
    }
}
