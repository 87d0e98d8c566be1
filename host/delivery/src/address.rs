//! Addresses of receivers.

use std::fmt;
use std::net::IpAddr;

use http::Uri;

/// ReceiverAddress of a receiver. Its display is scheme, host and port alone, because a path may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReceiverAddress {
    uri: Uri,
    host: String,
    port: u16,
    is_secure: bool,
}

/// Schemes of a kind of receiver, with their default ports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schemes {
    pub(crate) plain: (&'static str, u16),
    pub(crate) secure: (&'static str, u16),
}

impl ReceiverAddress {
    /// Parses an address. A plain one is refused unless it is on this machine or `insecure` is set,
    /// because events name people.
    ///
    /// # Errors
    ///
    /// One sentence with the remedy.
    pub(crate) fn parse(text: &str, schemes: Schemes, insecure: bool) -> Result<Self, String> {
        let (plain, secure) = (schemes.plain.0, schemes.secure.0);
        let example = format!("write {secure}://HOST");
        let uri: Uri = text
            .parse()
            .map_err(|_| format!("url is not an address; {example}"))?;
        let (is_secure, default_port) = match uri.scheme_str() {
            Some(scheme) if scheme == secure => (true, schemes.secure.1),
            Some(scheme) if scheme == plain => (false, schemes.plain.1),
            _ => {
                return Err(format!(
                    "url does not begin with {secure}:// or {plain}://; {example}"
                ));
            }
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(
                "url has credentials; leave them out, because addresses are not \
                        kept as secrets"
                    .to_owned(),
            );
        }
        let host = uri.host().filter(|host| !host.is_empty());
        let Some(host) = host.map(str::to_owned) else {
            return Err(format!("url has no host; {example}"));
        };
        let has_port = authority.len() > host.len();
        let port = match uri.port_u16() {
            Some(0) | None if has_port => {
                return Err(
                    "the port of url is not a number from 1 to 65535; correct it".to_owned(),
                );
            }
            port => port.unwrap_or(default_port),
        };
        if !is_secure && !insecure && !is_loopback(&host) {
            return Err(format!(
                "url would send names of people without encryption; write {secure}://, or allow it \
                 with insecure = true"
            ));
        }
        Ok(Self {
            uri,
            host,
            port,
            is_secure,
        })
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Returns the host; an IPv6 address has brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.is_secure
    }
}

impl fmt::Display for ReceiverAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// Returns true for a host on this machine.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP: Schemes = Schemes {
        plain: ("http", 80),
        secure: ("https", 443),
    };

    #[test]
    fn address_hides_its_path() {
        for (text, shown) in [
            ("https://a.example/x?token=y", "https://a.example:443"),
            ("http://localhost/x", "http://localhost:80"),
            ("http://127.0.0.2:8080", "http://127.0.0.2:8080"),
            ("http://[::1]:8080/x", "http://[::1]:8080"),
        ] {
            let address = ReceiverAddress::parse(text, HTTP, false).unwrap();
            assert_eq!(address.to_string(), shown);
        }
    }

    #[test]
    fn unsafe_address_is_refused() {
        for (text, says) in [
            ("", "not an address"),
            ("a b", "not an address"),
            ("/x", "does not begin with"),
            ("ftp://a.example", "does not begin with"),
            ("https://u:p@a.example", "has credentials"),
            ("https://a.example:x", "port"),
            ("https://a.example:0", "port"),
            ("https://a.example:65536", "port"),
            ("http://a.example", "insecure = true"),
            ("http://10.0.0.1", "insecure = true"),
            ("http://localhost.example", "insecure = true"),
        ] {
            let error = ReceiverAddress::parse(text, HTTP, false).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(ReceiverAddress::parse("http://a.example", HTTP, true).is_ok());
    }
}
