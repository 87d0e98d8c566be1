//! Addresses to serve on: an IP address or a name, and a port.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Address to serve on, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

impl Address {
    /// Returns the address of a port on 127.0.0.1.
    pub(crate) fn loopback(port: u16) -> Self {
        Self {
            host: Host::Ip(IpAddr::from([127, 0, 0, 1])),
            port,
        }
    }

    /// Resolves a name. IPv4 addresses come first, because clients without IPv6 mean them by
    /// `localhost`.
    ///
    /// # Errors
    ///
    /// If the name has no address.
    pub(crate) fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let mut addresses: Vec<SocketAddr> = match &self.host {
            Host::Ip(ip) => vec![SocketAddr::new(*ip, self.port)],
            Host::Name(name) => (name.as_str(), self.port).to_socket_addrs()?.collect(),
        };
        addresses.sort_by_key(SocketAddr::is_ipv6);
        addresses.dedup();
        match addresses.is_empty() {
            true => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the name has no address",
            )),
            false => Ok(addresses),
        }
    }

    /// Returns the port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns true if only this machine can reach it, by every address of the name.
    pub(crate) fn is_loopback(&self) -> io::Result<bool> {
        Ok(self
            .resolve()?
            .iter()
            .all(|address| address.ip().is_loopback()))
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usage = "write HOST:PORT, such as 127.0.0.1:4000 or localhost:4000";
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self {
                host: Host::Ip(address.ip()),
                port: address.port(),
            });
        }
        if text.contains("://") || text.contains('/') {
            return Err(format!("an address has no scheme and no path: {usage}"));
        }
        if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return Err(format!("the port is missing: {usage}, or [::1]:4000"));
        }
        let (name, port) = text
            .rsplit_once(':')
            .ok_or_else(|| format!("the host or the port is missing: {usage}"))?;
        let port = port
            .parse()
            .map_err(|_| format!("the port is not a number from 0 to 65535: {usage}"))?;
        let is_name = |name: &str| {
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        };
        match name {
            "" | "*" => Err(format!(
                "the host is missing: {usage}; all interfaces are 0.0.0.0:{port}"
            )),
            name if name.contains(':') => Err(format!(
                "an IPv6 address stands in brackets: [{name}]:{port}"
            )),
            name if is_name(name) => Ok(Self {
                host: Host::Name(name.to_owned()),
                port,
            }),
            _ => Err(format!("`{name}` is not the name of a host: {usage}")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// Address of the admin interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AdminAddress {
    /// No admin interface.
    Off,
    /// An address.
    At(Address),
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            address => address
                .parse()
                .map(Self::At)
                .map_err(|error| format!("{error}, or `off`")),
        }
    }
}

impl Serialize for AdminAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::At(address) => address.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for AdminAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_keeps_its_text() {
        for text in [
            "127.0.0.1:4000",
            "0.0.0.0:0",
            "[::1]:4000",
            "localhost:4000",
            "rostro.example:65535",
            "my_host-1.:80",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn malformed_address_error_names_part() {
        for (text, says) in [
            ("4000", "the host or the port is missing"),
            ("localhost", "the host or the port is missing"),
            ("127.0.0.1", "the port is missing"),
            ("::1", "the port is missing"),
            ("[::1]", "the port is missing"),
            (":4000", "all interfaces are 0.0.0.0:4000"),
            ("*:4000", "all interfaces are 0.0.0.0:4000"),
            ("localhost:", "the port is not a number from 0 to 65535"),
            (
                "localhost:65536",
                "the port is not a number from 0 to 65535",
            ),
            ("http://localhost:4000", "no scheme"),
            ("fe80::1%eth0:4000", "in brackets"),
            ("a b:4000", "`a b` is not the name of a host"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn address_localhost_is_loopback() {
        let address: Address = "localhost:0".parse().unwrap();
        assert!(address.is_loopback().unwrap());
        assert!(address.resolve().unwrap().first().unwrap().is_ipv4());
        assert!(
            !"0.0.0.0:0"
                .parse::<Address>()
                .unwrap()
                .is_loopback()
                .unwrap()
        );
        assert!(
            "nowhere.invalid:1"
                .parse::<Address>()
                .unwrap()
                .is_loopback()
                .is_err()
        );
    }
}
