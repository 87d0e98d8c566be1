//! The address of a database.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rostro_common::fs::{bytes_without_mark, read_small};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::DatabaseError;

/// Time for each host to accept a connection, unless the address has `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time after which a connection is lost if the server's machine acknowledges nothing, unless the
/// address has `tcp_user_timeout`. The system's default is a quarter of an hour.
const TCP_TIMEOUT: Duration = Duration::from_secs(10);

/// Idle time before the first probe of a connection, unless the address has `keepalives_idle`.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// What tokio-postgres sets if an address has no `keepalives_idle`.
const DEFAULT_KEEPALIVE: Duration = Duration::from_secs(2 * 60 * 60);

/// Longest file with an address, in bytes.
const MAX_BYTES: usize = 16 << 10;

/// Value of `sslrootcert` for the system's authorities, which are the default.
const SYSTEM_AUTHORITIES: &str = "system";

/// Parameters that PostgreSQL's own clients know and this one does not.
const UNSUPPORTED: [&str; 14] = [
    "fallback_application_name",
    "gssencmode",
    "krbsrvname",
    "passfile",
    "require_auth",
    "requirepeer",
    "service",
    "sslcert",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslpassword",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
];

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
    /// even if `sslmode` asks for less. `sslrootcert=FILE` replaces the system's authorities.
    ///
    /// # Errors
    ///
    /// If the address is invalid, names no database, or forbids TLS to another machine.
    pub fn parse(text: &str) -> Result<Self, DatabaseError> {
        let text = text.trim();
        if text.contains(char::is_control) {
            return invalid("it has a line break or another control character");
        }
        check_special_characters(text)?;
        let (text, tls) = take_tls_parameters(text)?;
        let mut config = Config::from_str(&text)
            .map_err(|error| DatabaseError::Address(cause_of(&error, &text)))?;
        check_hosts(&config)?;
        if config.get_dbname().is_none() {
            return invalid("it names no database");
        }
        let is_remote = is_remote(&config);
        let mode = match (tls.mode.as_deref(), is_remote) {
            (Some("disable" | "allow"), true) => {
                return invalid(
                    "sslmode=disable sends people's data in the clear to another machine; remove it",
                );
            }
            (None | Some("prefer"), true) | (Some("require" | "verify-ca" | "verify-full"), _) => {
                SslMode::Require
            }
            (None | Some("disable" | "allow" | "prefer"), false) => SslMode::Disable,
            (Some(_), _) => return invalid("its sslmode is unknown; use verify-full"),
        };
        let has_socket = config.get_hosts().iter().any(is_socket);
        if mode == SslMode::Require && has_socket {
            return invalid("a socket has no TLS; name hosts, or the socket alone");
        }
        config.ssl_mode(mode);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(TCP_TIMEOUT);
        }
        if config.get_keepalives_idle() == DEFAULT_KEEPALIVE {
            config.keepalives_idle(KEEPALIVE);
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

    /// Returns the time for one host to accept a connection.
    pub(super) fn host_timeout(&self) -> Duration {
        let timeout = self.config.get_connect_timeout();
        timeout.copied().unwrap_or(CONNECT_TIMEOUT)
    }

    /// Returns the time for all hosts, one after the other.
    pub(super) fn connect_timeout(&self) -> Duration {
        let hosts = u32::try_from(self.config.get_hosts().len()).unwrap_or(u32::MAX);
        self.host_timeout().saturating_mul(hosts)
    }

    /// Returns the verification of the server's certificate and name; none for a server on this
    /// machine.
    pub(super) fn tls(&self) -> Result<Option<MakeRustlsConnect>, DatabaseError> {
        if self.config.get_ssl_mode() != SslMode::Require {
            return Ok(None);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| DatabaseError::Tls(error.to_string()))?
            .with_root_certificates(authorities(self.root_certificates.as_deref())?)
            .with_no_client_auth();
        // PostgreSQL 17 requires it for sslnegotiation=direct.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Some(MakeRustlsConnect::new(config)))
    }
}

/// Reads the authorities of a PEM file, or those of the system.
fn authorities(file: Option<&Path>) -> Result<RootCertStore, DatabaseError> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        return match roots.is_empty() {
            true => Err(DatabaseError::Tls(
                "this machine has no authorities; name a PEM file with sslrootcert".to_owned(),
            )),
            false => Ok(roots),
        };
    };
    let unusable = |cause: String| DatabaseError::Authorities(file.to_owned(), cause);
    let bytes = read_small(file).map_err(|error| unusable(error.to_string()))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(bytes_without_mark(&bytes))
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(error.to_string()))?;
    let count = certificates.len();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 || added < count {
        return Err(unusable(
            "it has no certificates, or invalid ones".to_owned(),
        ));
    }
    Ok(roots)
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
                    Host::Tcp(name) if name.contains(':') => format!("[{name}]:{port}"),
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
    fn take(&mut self, key: &str, value: &str) -> Result<bool, DatabaseError> {
        match key {
            "sslmode" => self.mode = Some(value.to_owned()),
            "sslrootcert" if value == SYSTEM_AUTHORITIES => self.root_certificates = None,
            "sslrootcert" => self.root_certificates = Some(value.into()),
            _ if UNSUPPORTED.contains(&key) => {
                return invalid(&format!(
                    "this program does not support its parameter {key}"
                ));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

fn invalid<T>(cause: &str) -> Result<T, DatabaseError> {
    Err(DatabaseError::Address(cause.to_owned()))
}

/// Refuses a URL with characters in its user or password that end them. The rest of a password
/// would otherwise become the name of a host or a parameter, and messages would show it.
fn check_special_characters(text: &str) -> Result<(), DatabaseError> {
    let Some((_, address)) = text.split_once("://").filter(|_| is_url(text)) else {
        return Ok(());
    };
    let (user, rest) = address.split_once('@').unwrap_or(("", address));
    let before_query = rest.split('?').next().unwrap_or_default();
    if user.contains(['/', '?', '#', '[', ']']) || before_query.contains('@') {
        return invalid(
            "its user or password has one of @ / ? # [ ]; write them as %40 %2F %3F %23 %5B %5D",
        );
    }
    Ok(())
}

/// Returns an address without `sslmode` and `sslrootcert`, and their values.
fn take_tls_parameters(text: &str) -> Result<(String, TlsParameters), DatabaseError> {
    let mut tls = TlsParameters::default();
    if !is_url(text) {
        let mut rest = Vec::new();
        for word in words(text) {
            let taken = match word.split_once('=') {
                Some((key, value)) => tls.take(key, &unquoted(value))?,
                None => false,
            };
            if !taken {
                rest.push(word);
            }
        }
        return Ok((rest.join(" "), tls));
    }
    let Some((address, query)) = text.split_once('?') else {
        return Ok((text.to_owned(), tls));
    };
    let mut rest = Vec::new();
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(value).decode_utf8_lossy();
        if !tls.take(&percent_decode_str(key).decode_utf8_lossy(), &value)? {
            rest.push(pair);
        }
    }
    let address = match rest.is_empty() {
        true => address.to_owned(),
        false => format!("{address}?{}", rest.join("&")),
    };
    Ok((address, tls))
}

/// Splits an address at spaces that are not quoted.
fn words(text: &str) -> Vec<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |letter: char| {
        let was_escaped = is_escaped;
        is_escaped = letter == '\\' && !was_escaped;
        is_quoted ^= letter == '\'' && !was_escaped;
        letter.is_whitespace() && !is_quoted && !was_escaped
    })
    .filter(|word| !word.is_empty())
    .collect()
}

/// Returns a value without its quotation marks, and without the backslashes before other letters.
fn unquoted(value: &str) -> String {
    let inner = value
        .strip_prefix('\'')
        .and_then(|value| value.strip_suffix('\''));
    let mut is_escaped = false;
    inner
        .unwrap_or(value)
        .chars()
        .filter(|&letter| {
            is_escaped = letter == '\\' && !is_escaped;
            !is_escaped
        })
        .collect()
}

/// Refuses an address if its lists of hosts, ports and numeric addresses do not match.
fn check_hosts(config: &Config) -> Result<(), DatabaseError> {
    let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
    let is_unnamed = |host: &Host| matches!(host, Host::Tcp(name) if name.is_empty());
    // Certificates are verified by name.
    if hosts.is_empty() || hosts.iter().any(is_unnamed) {
        return invalid("it names no host");
    }
    if !addresses.is_empty() && (addresses.len() != hosts.len() || hosts.iter().any(is_socket)) {
        return invalid("hostaddr needs one address for each host");
    }
    if config.get_ports().len() > 1 && config.get_ports().len() != hosts.len() {
        return invalid("it needs one port, or one for each host");
    }
    Ok(())
}

fn is_socket(host: &Host) -> bool {
    !matches!(host, Host::Tcp(_))
}

/// Returns true unless every host is a socket or on this machine. A numeric address counts rather
/// than the name.
fn is_remote(config: &Config) -> bool {
    let is_local = |(index, host): (usize, &Host)| match (config.get_hostaddrs().get(index), host) {
        (Some(address), _) => address.is_loopback(),
        (None, Host::Tcp(name)) => {
            name.eq_ignore_ascii_case("localhost")
                || name
                    .parse::<IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        }
        (None, _) => true,
    };
    !config.get_hosts().iter().enumerate().all(is_local)
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
            // The numeric address is what is connected to.
            (
                "postgresql://127.0.0.1/rostro?hostaddr=192.0.2.1",
                SslMode::Require,
            ),
            (
                "postgresql://db.example/rostro?hostaddr=127.0.0.1",
                SslMode::Disable,
            ),
        ] {
            assert_eq!(mode(address), Ok(expected), "{address}");
        }
        for address in [
            "host=db.example dbname=rostro sslmode=disable",
            "postgresql://127.0.0.1/rostro?hostaddr=192.0.2.1&sslmode=disable",
        ] {
            let error = mode(address).unwrap_err();
            assert!(error.contains("in the clear"), "{error}");
        }
    }

    #[test]
    fn invalid_addresses_name_their_cause() {
        for (address, cause) in [
            ("postgresql:///rostro", "no host"),
            ("postgresql://owner@:5433/rostro", "no host"),
            ("postgresql://db.example", "no database"),
            ("postgresql://db.example/rostro?sslmode=tls", "sslmode"),
            ("postgresql://db.example/rostro?sslcert=%2Fa", "sslcert"),
            ("host=db.example dbname=rostro service=a", "service"),
            ("postgresql://a,b/rostro?hostaddr=192.0.2.1", "hostaddr"),
            ("host=a,b,c dbname=rostro port=1,2", "port"),
            ("host=/run/postgresql,db.example dbname=rostro", "socket"),
            ("postgresql://owner:a/b@db.example/rostro", "%2F"),
            ("postgresql://owner:a@b@db.example/rostro", "%40"),
        ] {
            let error = mode(address).unwrap_err();
            assert!(error.contains(cause), "{address}: {error}");
        }
    }

    /// A quoted password may have spaces, and words of its own.
    #[test]
    fn words_keep_quoted_passwords() {
        let address = r"host=localhost sslmode='verify-full' password='a sslmode=disable \'b' dbname=rostro sslrootcert='/etc/my ca+1.pem'";
        let options = DatabaseOptions::parse(address).unwrap();
        let password = options.config.get_password();
        assert_eq!(password, Some(b"a sslmode=disable 'b".as_slice()));
        assert_eq!(options.config.get_ssl_mode(), SslMode::Require);
        let expected = Some(Path::new("/etc/my ca+1.pem"));
        assert_eq!(options.root_certificates.as_deref(), expected);
    }

    #[test]
    fn timeout_grows_with_hosts() {
        let timeout = |address: &str| DatabaseOptions::parse(address).unwrap().connect_timeout();
        assert_eq!(timeout("host=a dbname=b"), CONNECT_TIMEOUT);
        let three = timeout("host=a,b,c dbname=b connect_timeout=2");
        assert_eq!(three, Duration::from_secs(6));
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
            "postgresql://owner:pass@secret-word@a.example/rostro",
            "postgresql://owner:pass/secret-word@a.example/rostro",
            "postgresql://owner:pass?secret-word=1@a.example/rostro",
            "postgresql://a.example/rostro?password=pass&secret-word=1",
        ] {
            let error = DatabaseOptions::parse(address).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
