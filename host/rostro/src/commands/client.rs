//! Client side of a running service: trusted certificates, credentials, and remedies for errors.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use rustls::CertificateError;
use ureq::RequestBuilder;
use ureq::config::ConfigBuilder;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::AgentScope;

use rostro_api::Scopes;
use rostro_api::auth::secrets::SecretEntry;
use rostro_common::fs::{bytes_without_mark, read_small, read_text};

use crate::terminal::warn_user;

/// Variable of the service's own token file, which clients read too until 0.1.
const SERVER_TOKENS: &str = "ROSTRO_ADMIN_TOKEN_FILE";

/// Flags for the trusted certificates of a command.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TrustArgs {
    /// Certificates of the authorities to trust, PEM [default: the system's, or
    /// SSL_CERT_FILE]
    #[arg(long, env = "ROSTRO_CA", value_name = "FILE.pem")]
    ca: Option<PathBuf>,
}

/// Flags for the API key of a caller.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ApiKeyArgs {
    /// File with the API key in its first line, alone or as NAME:SCOPES:KEY
    #[arg(long, env = "ROSTRO_API_KEY_FILE", value_name = "FILE")]
    api_key_file: Option<PathBuf>,
}

/// Flags for the token of an operator.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TokenArgs {
    /// File with the operator's token in its first line, alone or as NAME:TOKEN
    #[arg(
        long,
        alias = "admin-token-file",
        env = "ROSTRO_TOKEN_FILE",
        value_name = "FILE"
    )]
    token_file: Option<PathBuf>,
}

/// Error that keeps a client from being set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The file of a key, a token or certificates cannot be used.
    #[error("cannot read {what} in {file}: {cause}; name another file with {flag}", file = file.display())]
    File {
        /// The expected content.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// The cause.
        cause: io::Error,
        /// The flag or variable that names it.
        flag: &'static str,
    },
}

/// Kind of a secret that a command sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SecretKind {
    ApiKey,
    Token,
}

impl SecretKind {
    fn what(self) -> &'static str {
        match self {
            Self::ApiKey => "the API key",
            Self::Token => "the token",
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::ApiKey => "--api-key-file",
            Self::Token => "--token-file",
        }
    }

    /// Returns the secret in a line: the whole line, or its end if the line has the service's
    /// format.
    fn of_line(self, line: &str) -> &str {
        let Some((_, rest)) = line.split_once(':') else {
            return line;
        };
        match self {
            // A key may contain a colon.
            Self::ApiKey => Scopes::read(rest).map_or(line, |(_, key)| key),
            Self::Token => rest,
        }
    }
}

/// Optional secret of one kind.
#[derive(Clone)]
pub(crate) struct Credentials {
    kind: SecretKind,
    /// The secret and its file.
    secret: Option<(String, PathBuf)>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.secret.as_ref().map(|(_, file)| file);
        f.debug_struct("Credentials")
            .field("kind", &self.kind)
            .field("file", &file)
            .finish_non_exhaustive()
    }
}

impl ApiKeyArgs {
    /// Names the file of the key.
    pub(crate) fn from_file(file: PathBuf) -> Self {
        Self {
            api_key_file: Some(file),
        }
    }

    /// Reads the key, if a file is named.
    ///
    /// # Errors
    ///
    /// [`ClientError`] names the file.
    pub(crate) fn credentials(&self) -> Result<Credentials, ClientError> {
        Credentials::read(SecretKind::ApiKey, self.api_key_file.as_deref())
    }
}

impl TokenArgs {
    /// Reads the token, if a file is named.
    ///
    /// # Errors
    ///
    /// [`ClientError`] names the file.
    pub(crate) fn credentials(&self) -> Result<Credentials, ClientError> {
        let fallback = std::env::var_os(SERVER_TOKENS)
            .filter(|_| self.token_file.is_none())
            .map(PathBuf::from);
        if fallback.is_some() {
            warn_user(&format!(
                "warning: {SERVER_TOKENS} is the service's variable; name the client's file with ROSTRO_TOKEN_FILE"
            ));
        }
        Credentials::read(
            SecretKind::Token,
            self.token_file.as_deref().or(fallback.as_deref()),
        )
    }
}

impl Credentials {
    fn read(kind: SecretKind, file: Option<&Path>) -> Result<Self, ClientError> {
        let read = |file: &Path| match secret(kind, file) {
            Ok(secret) => Ok((secret, file.to_owned())),
            Err(cause) => Err(ClientError::File {
                what: kind.what(),
                file: file.to_owned(),
                cause,
                flag: kind.flag(),
            }),
        };
        Ok(Self {
            kind,
            secret: file.map(read).transpose()?,
        })
    }

    /// Adds the secret to a request.
    pub(crate) fn sign<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.secret {
            Some((secret, _)) => request.header("authorization", format!("Bearer {secret}")),
            None => request,
        }
    }

    /// Returns the remedy for an answer with this status; none if credentials are not the cause.
    pub(crate) fn advice(&self, status: u16) -> Option<String> {
        let (what, flag) = (self.kind.what(), self.kind.flag());
        match (status, &self.secret) {
            (401, None) => Some(format!("give {what} with {flag} FILE")),
            (401, Some((_, file))) => Some(format!(
                "{what} in {} is unknown to the service; name another file with {flag}",
                file.display()
            )),
            (403, Some((_, file))) => Some(format!(
                "{what} in {} lacks the permission; name another file with {flag}",
                file.display()
            )),
            (403, None) => Some(format!(
                "credentials may be needed; give {what} with {flag} FILE"
            )),
            _ => None,
        }
    }
}

/// Returns the secret in the first line of a file that is neither empty nor a comment.
fn secret(kind: SecretKind, file: &Path) -> io::Result<String> {
    let invalid = |message: &str| io::Error::new(io::ErrorKind::InvalidData, message);
    let text = read_text(file)?;
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'));
    let secret = kind.of_line(line.ok_or_else(|| invalid("it is empty"))?);
    match !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(secret.to_owned()),
        false => Err(invalid(
            "the first line does not end with visible ASCII characters without spaces",
        )),
    }
}

impl TrustArgs {
    /// Creates an HTTP agent for `url` that trusts the named authorities, or the system's.
    ///
    /// # Errors
    ///
    /// [`ClientError`] if the certificates cannot be read.
    pub(crate) fn agent(
        &self,
        url: &str,
        config: ConfigBuilder<AgentScope>,
    ) -> Result<ureq::Agent, ClientError> {
        Ok(config
            .tls_config(tls(self.ca.as_deref(), url)?)
            .build()
            .into())
    }
}

/// Returns the TLS configuration for `url`. Without a file it trusts the system's authorities, or
/// Mozilla's on a system without any.
///
/// # Errors
///
/// [`ClientError`] if the certificates cannot be read.
pub(crate) fn tls(ca: Option<&Path>, url: &str) -> Result<TlsConfig, ClientError> {
    let roots = match ca {
        Some(file) => certificates(file)
            .map_err(|cause| ClientError::File {
                what: "certificates",
                file: file.to_owned(),
                cause,
                flag: "--ca",
            })?
            .into(),
        None if is_secure(url) => system_roots()?,
        None => RootCerts::WebPki,
    };
    Ok(TlsConfig::builder().root_certs(roots).build())
}

fn is_secure(url: &str) -> bool {
    url.get(..6)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"))
}

fn system_roots() -> Result<RootCerts, ClientError> {
    let found = rustls_native_certs::load_native_certs();
    if !found.certs.is_empty() {
        return Ok(found
            .certs
            .iter()
            .map(|certificate| Certificate::from_der(certificate).to_owned())
            .into());
    }
    // An explicitly named file without certificates is an error. A system without certificates is
    // not.
    match std::env::var_os("SSL_CERT_FILE") {
        Some(file) => {
            let cause = found
                .errors
                .first()
                .map_or_else(|| "it has no certificate".to_owned(), ToString::to_string);
            Err(ClientError::File {
                what: "certificates",
                file: file.into(),
                cause: io::Error::new(io::ErrorKind::InvalidData, cause),
                flag: "SSL_CERT_FILE or --ca",
            })
        }
        None => Ok(RootCerts::WebPki),
    }
}

/// Reads the certificates of a PEM file, which must have at least one.
fn certificates(file: &Path) -> io::Result<Vec<Certificate<'static>>> {
    let bytes = read_small(file)?;
    let mut found = Vec::new();
    for item in parse_pem(bytes_without_mark(&bytes)) {
        if let PemItem::Certificate(certificate) =
            item.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?
        {
            found.push(certificate);
        }
    }
    match found.is_empty() {
        true => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it has no certificate in PEM",
        )),
        false => Ok(found),
    }
}

/// Returns the text of a request's error with its remedy.
pub(crate) fn explain(error: &ureq::Error, url: &str) -> String {
    let remedy = match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(certificate)) => match certificate {
            CertificateError::UnknownIssuer => {
                "no trusted authority signed its certificate: name the authority's certificate with --ca FILE.pem"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate has another name: use a name of the certificate in the address"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired: renew it"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet: compare the clocks of both machines"
            }
            CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                "its certificate is an authority's, which must not serve: make one with `-addext basicConstraints=critical,CA:FALSE`"
            }
            _ => "its certificate is not usable: make another",
        },
        Some(rustls::Error::InvalidMessage(_)) => {
            "it may not speak TLS: begin the address with http://"
        }
        _ if !is_secure(url) && is_not_http(error) => {
            "it may speak TLS: begin the address with https://"
        }
        _ => return error.to_string(),
    };
    format!("{error}; {remedy}")
}

fn tls_error(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// Returns true if a server was reached and did not answer in HTTP.
fn is_not_http(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Protocol(_) => true,
        ureq::Error::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: SecretKind, text: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, text).unwrap();
        secret(kind, &file).map_err(|error| error.to_string())
    }

    #[test]
    fn secret_first_line_found() {
        for (kind, text, secret) in [
            (SecretKind::ApiKey, "0123456789abcdef\n", "0123456789abcdef"),
            (
                SecretKind::ApiKey,
                "\u{feff}# of the door\r\n\r\ndoor:recognise,enrol:0123:56789abcdef\r\n",
                "0123:56789abcdef",
            ),
            (
                SecretKind::ApiKey,
                "0123:56789abcdef:x",
                "0123:56789abcdef:x",
            ),
            (
                SecretKind::Token,
                "\u{feff}alice:0123456789abcdef",
                "0123456789abcdef",
            ),
            (
                SecretKind::Token,
                "  0123456789abcdef  ",
                "0123456789abcdef",
            ),
        ] {
            assert_eq!(read(kind, text).as_deref(), Ok(secret), "{text}");
        }
    }

    #[test]
    fn secret_unusable_file_refused() {
        for (text, says) in [
            ("", "it is empty"),
            ("# nothing\n\n", "it is empty"),
            ("two words", "visible ASCII"),
            ("ключ", "visible ASCII"),
        ] {
            assert!(
                read(SecretKind::ApiKey, text).unwrap_err().contains(says),
                "{text}"
            );
        }
        let error = Credentials::read(SecretKind::ApiKey, Some(Path::new("/nowhere/key")))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("cannot read the API key in /nowhere/key: ")
                && error.ends_with("--api-key-file"),
            "{error}"
        );
    }

    #[test]
    fn certificates_unusable_file_names_flag() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, "nothing").unwrap();
        for file in [file.as_path(), Path::new("/nowhere/ca.pem")] {
            let error = tls(Some(file), "https://localhost")
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("cannot read certificates in /") && error.ends_with("--ca"),
                "{error}"
            );
        }
    }

    #[test]
    fn credentials_debug_hides_secret() {
        let secret = Some(("0123456789abcdef".to_owned(), "file".into()));
        assert!(
            !format!(
                "{:?}",
                Credentials {
                    kind: SecretKind::Token,
                    secret
                }
            )
            .contains("0123")
        );
    }
}
