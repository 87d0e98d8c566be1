//! The address of a database.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::DatabaseError;

/// Time for each host to accept a connection, unless the address has `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest file with an address, in bytes.
const MAX_BYTES: usize = 16 << 10;

/// Address of a database, and how its certificate is verified. `Debug` and `Display` do not contain
/// the password.
#[derive(Clone)]
pub struct DatabaseOptions {
    config: Config,
    /// Authorities instead of the system's.
    root_certificates: Option<PathBuf>,
}

impl DatabaseOptions {
    /// Parses an address: `postgresql://USER:PASSWORD@HOST:PORT/NAME`, or the words
    /// `host=… user=… dbname=…`. Of several hosts the one that accepts writes is used.
    ///
    /// A server on another machine must have a certificate for its name (`sslmode=verify-full`),
    /// whatever `sslmode` says. `sslrootcert=FILE` replaces the system's authorities.
    ///
    /// # Errors
    ///
    /// If the address is invalid, names no database, or forbids TLS to another machine.
    pub fn parse(text: &str) -> Result<Self, DatabaseError> {
        let (text, tls) = take_tls_parameters(text.trim());
        let mut config = Config::from_str(&text)
            .map_err(|error| DatabaseError::Address(cause_of(&error, &text)))?;
        let invalid = |cause: &str| Err(DatabaseError::Address(cause.to_owned()));
        if config.get_hosts().is_empty() {
            return invalid("it names no host");
        }
        if config.get_dbname().is_none() {
            return invalid("it names no database");
        }
        let is_remote = !config.get_hosts().iter().all(is_local);
        let mode = match (tls.mode.as_deref(), is_remote) {
            (Some("disable" | "allow"), true) => {
                return invalid(
                    "sslmode=disable sends people's data in the clear to another machine; remove it",
                );
            }
            (_, true) | (Some("require" | "verify-ca" | "verify-full"), false) => SslMode::Require,
            (None | Some("disable" | "allow" | "prefer"), false) => SslMode::Disable,
            (Some(_), false) => return invalid("its sslmode is unknown; use verify-full"),
        };
        config.ssl_mode(mode);
        config.options(match config.get_options() {
            Some(options) => format!("{options} -c search_path=rostro"),
            None => "-c search_path=rostro".to_owned(),
        });
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("rostro");
        }
        // A standby refuses every change.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        Ok(Self {
            config,
            root_certificates: tls.root_certificates,
        })
    }

    /// Reads an address from a file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or as [`DatabaseOptions::parse`].
    pub fn read(file: &Path) -> Result<Self, DatabaseError> {
        let unreadable = |cause| DatabaseError::Unreadable {
            path: file.to_owned(),
            cause,
        };
        let bytes = rostro_common::fs::read_at_most(file, MAX_BYTES).map_err(unreadable)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| DatabaseError::Address("its file is not text".to_owned()))?;
        Self::parse(&text)
    }

    pub(super) fn config(&self) -> Config {
        self.config.clone()
    }

    /// Returns the verification of the server's certificate and name.
    pub(super) fn tls(&self) -> Result<MakeRustlsConnect, DatabaseError> {
        let mut roots = RootCertStore::empty();
        match &self.root_certificates {
            Some(path) => {
                let certificates = CertificateDer::pem_file_iter(path)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .map_err(|error| DatabaseError::Authorities(path.clone(), error.to_string()))?;
                let count = certificates.len();
                let (added, _) = roots.add_parsable_certificates(certificates);
                if added == 0 || added < count {
                    let cause = "it has no certificates, or invalid ones".to_owned();
                    return Err(DatabaseError::Authorities(path.clone(), cause));
                }
            }
            None => {
                let system = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(system.certs);
            }
        }
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| DatabaseError::Tls(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }
}

impl fmt::Display for DatabaseOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.config.get_ports();
        let hosts: Vec<String> = self
            .config
            .get_hosts()
            .iter()
            .enumerate()
            .map(|(index, host)| {
                let port = ports.get(index).or(ports.first()).unwrap_or(&5432);
                match host {
                    Host::Tcp(name) => format!("{name}:{port}"),
                    Host::Unix(path) => path.display().to_string(),
                }
            })
            .collect();
        let name = self.config.get_dbname().unwrap_or_default();
        write!(f, "{name} on {}", hosts.join(", "))?;
        match self.config.get_user() {
            Some(user) => write!(f, " as {user}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for DatabaseOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseOptions({self})")
    }
}

/// The parameters of an address that tokio-postgres does not know.
#[derive(Debug, Default)]
struct TlsParameters {
    mode: Option<String>,
    root_certificates: Option<PathBuf>,
}

impl TlsParameters {
    /// Takes a parameter. Returns false if it is another one.
    fn take(&mut self, key: &str, value: &str) -> bool {
        match key {
            "sslmode" => self.mode = Some(value.to_owned()),
            "sslrootcert" => self.root_certificates = Some(value.into()),
            _ => return false,
        }
        true
    }
}

/// Returns an address without `sslmode` and `sslrootcert`, and their values.
fn take_tls_parameters(text: &str) -> (String, TlsParameters) {
    let mut tls = TlsParameters::default();
    let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    if is_url {
        let Some((address, query)) = text.split_once('?') else {
            return (text.to_owned(), tls);
        };
        let rest: Vec<&str> = query
            .split('&')
            .filter(|pair| {
                let decoded = form_urlencoded::parse(pair.as_bytes()).next();
                !decoded.is_some_and(|(key, value)| tls.take(&key, &value))
            })
            .collect();
        return match rest.is_empty() {
            true => (address.to_owned(), tls),
            false => (format!("{address}?{}", rest.join("&")), tls),
        };
    }
    let rest: Vec<&str> = text
        .split(' ')
        .filter(|word| {
            let pair = word.split_once('=');
            !pair.is_some_and(|(key, value)| tls.take(key, value.trim_matches('\'')))
        })
        .collect();
    (rest.join(" "), tls)
}

/// Returns true for a socket, and for a host on this machine.
fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost"
                || name
                    .parse::<IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        }
    }
}

/// Returns the cause of an invalid address, unless it repeats a part of it, which may be a password.
fn cause_of(error: &tokio_postgres::Error, text: &str) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    let repeats = |cause: &String| {
        cause
            .split(['`', '"', '\''])
            .skip(1)
            .step_by(2)
            .any(|quoted| quoted.len() > 2 && text.contains(quoted))
    };
    cause
        .filter(|cause| !repeats(cause))
        .unwrap_or_else(|| "it cannot be parsed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(text: &str) -> Result<SslMode, String> {
        DatabaseOptions::parse(text)
            .map(|options| options.config.get_ssl_mode())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn remote_servers_need_tls() {
        for (address, expected) in [
            ("postgresql://db.example/rostro", SslMode::Require),
            (
                "postgresql://db.example/rostro?sslmode=prefer",
                SslMode::Require,
            ),
            (
                "postgresql://db.example/rostro?sslmode=verify-full&connect_timeout=3",
                SslMode::Require,
            ),
            ("postgresql://127.0.0.1,db.example/rostro", SslMode::Require),
            ("postgresql://127.0.0.1/rostro", SslMode::Disable),
            ("postgresql://[::1]:5433/rostro", SslMode::Disable),
            ("host=/run/postgresql dbname=rostro", SslMode::Disable),
            (
                "host=localhost dbname=rostro sslmode=verify-full",
                SslMode::Require,
            ),
        ] {
            assert_eq!(mode(address), Ok(expected), "{address}");
        }
        let error = mode("host=db.example dbname=rostro sslmode=disable").unwrap_err();
        assert!(error.contains("in the clear"), "{error}");
    }

    #[test]
    fn password_is_never_shown() {
        let options = DatabaseOptions::parse(
            "postgresql://owner:secret-word@a.example:5433,b.example:5434/rostro?sslrootcert=%2Fetc%2Fca.pem",
        )
        .unwrap();
        assert_eq!(
            options.to_string(),
            "rostro on a.example:5433, b.example:5434 as owner"
        );
        assert_eq!(
            options.root_certificates.as_deref(),
            Some(Path::new("/etc/ca.pem"))
        );
        assert!(!format!("{options:?}").contains("secret"));
        for address in [
            "postgresql://owner:secret-word@a.example:secret-word/rostro",
            "host=a.example password=secret-word dbname=rostro port=secret-word",
            "password='secret-word host=a.example",
            "secret-word",
            "postgresql://owner:secret-word@/rostro",
        ] {
            let error = DatabaseOptions::parse(address).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
