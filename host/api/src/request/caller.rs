//! Client of a request: the peer of the connection, or the client that a trusted proxy names.
//!
//! Proxies append to the list of addresses, and a client can send any list of its own. Only the right
//! end can be trusted: the client is the rightmost address that is not a trusted proxy's.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::ConnectInfo;
use axum::http::{Extensions, HeaderMap, HeaderName, header};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use rostro_service::executor::Client;

use crate::request::parameters::{Parameters, decode_text, parse_list};

/// Address of a node, with its port if it is known.
type NodeAddress = (IpAddr, Option<u16>);

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// Network of trusted proxies, such as `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let network = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network
            .map(|network| Self(network.trunc()))
            .map_err(|_| "write a network as 10.0.0.0/8 or fd00::/8, or an address".to_owned())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// Proxies with trusted headers about the client.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[Network]>);

impl TrustedProxies {
    /// Trusts the proxies in these networks.
    pub fn new(networks: Vec<Network>) -> Self {
        Self(networks.into())
    }

    /// Returns true if an address belongs to a trusted proxy.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.0.contains(&address))
    }
}

/// Address and host names of the client of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Address of the client. Absent without a connection, as in tests.
    pub(crate) address: Option<NodeAddress>,
    /// Host names under which the client called a trusted proxy.
    pub(crate) forwarded_hosts: Vec<String>,
    /// Peer of the connection, if it sends headers of a proxy and is not trusted.
    pub(crate) unknown_proxy: Option<IpAddr>,
}

impl Caller {
    /// Determines the client. Headers of a proxy count only if the peer is trusted.
    pub(crate) fn of(extensions: &Extensions, headers: &HeaderMap) -> Self {
        let Some(ConnectInfo(peer)) = extensions.get::<ConnectInfo<SocketAddr>>() else {
            return Self::default();
        };
        let no_proxies = TrustedProxies::default();
        Self::behind(
            *peer,
            extensions.get::<TrustedProxies>().unwrap_or(&no_proxies),
            headers,
        )
    }

    fn behind(peer: SocketAddr, proxies: &TrustedProxies, headers: &HeaderMap) -> Self {
        let ip = peer.ip().to_canonical();
        let mut address = (ip, Some(peer.port()));
        if !proxies.contains(ip) {
            let claims_proxy = [header::FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST]
                .iter()
                .any(|name| headers.contains_key(name));
            return Self {
                address: Some(address),
                forwarded_hosts: Vec::new(),
                unknown_proxy: claims_proxy.then_some(ip),
            };
        }
        for node in forwarded_addresses(headers).into_iter().rev() {
            // An invalid element ends the list, because nothing to its left can be trusted.
            let Some(node) = node else { break };
            address = node;
            if !proxies.contains(node.0) {
                break;
            }
        }
        Self {
            address: Some(address),
            forwarded_hosts: forwarded_hosts(headers),
            unknown_proxy: None,
        }
    }

    /// Returns the client for fair queueing and limits per client.
    pub(crate) fn client(&self) -> Client {
        self.address
            .map_or(Client::Unknown, |(address, _)| Client::at(address))
    }
}

/// Formats the address for logs.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some((address, Some(port))) => SocketAddr::new(address, port).fmt(f),
            Some((address, None)) => address.fmt(f),
            None => f.write_str("unknown"),
        }
    }
}

/// Returns the addresses that proxies appended, the nearest one last, with `None` for an element
/// that is no address. `Forwarded` (RFC 7239) takes precedence over `X-Forwarded-For`.
fn forwarded_addresses(headers: &HeaderMap) -> Vec<Option<NodeAddress>> {
    let forwarded = parse_forwarded(headers);
    // An unreadable element counts as an address. A client may have made it unreadable, and then
    // the other header would be the client's own.
    let names_address = |element: &Option<Parameters>| {
        element
            .as_ref()
            .is_none_or(|element| value(element, "for").is_some())
    };
    if forwarded.iter().any(names_address) {
        return forwarded
            .iter()
            .map(|element| parse_address(value(element.as_ref()?, "for")?))
            .collect();
    }
    list(headers, &X_FORWARDED_FOR)
        .map(|node| parse_address(&node))
        .collect()
}

/// Returns the host names under which proxies were called.
fn forwarded_hosts(headers: &HeaderMap) -> Vec<String> {
    // As for addresses, nothing to the left of an unreadable element is trusted.
    let mut forwarded: Vec<String> = parse_forwarded(headers)
        .iter()
        .rev()
        .map_while(Option::as_ref)
        .filter_map(|element| value(element, "host").map(str::to_owned))
        .collect();
    forwarded.reverse();
    if !forwarded.is_empty() {
        return forwarded;
    }
    let port = list(headers, &X_FORWARDED_PORT).last();
    let with_port = |host: String| match &port {
        Some(_) if !host.ends_with(']') && host.contains(':') => host,
        Some(port) => format!("{host}:{port}"),
        None => host,
    };
    list(headers, &X_FORWARDED_HOST).map(with_port).collect()
}

/// Returns the elements of all `Forwarded` lines, with `None` for an unreadable element.
fn parse_forwarded(headers: &HeaderMap) -> Vec<Option<Parameters>> {
    headers
        .get_all(header::FORWARDED)
        .into_iter()
        .flat_map(|line| parse_list(line.as_bytes()))
        .collect()
}

fn value<'p>(element: &'p Parameters, name: &str) -> Option<&'p str> {
    element
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

/// Returns the elements of all lines of a list header, without empty ones (RFC 9110, section
/// 5.6.1).
fn list<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = String> + 'h {
    let elements = headers
        .get_all(name)
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    elements
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
        .map(decode_text)
}

/// Parses `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn parse_address(node: &str) -> Option<NodeAddress> {
    let bare = |text: &str| {
        text.split('%')
            .next()
            .and_then(|text| text.parse::<IpAddr>().ok())
            .map(|address| address.to_canonical())
    };
    if let Some(rest) = node.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        return Some((
            bare(address)?,
            port.strip_prefix(':').and_then(|port| port.parse().ok()),
        ));
    }
    if let Some(address) = bare(node) {
        return Some((address, None));
    }
    let (address, port) = node.rsplit_once(':')?;
    Some((bare(address)?, port.parse().ok()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn caller(peer: &str, proxies: &[&str], lines: &[(&'static str, &str)]) -> Caller {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let proxies =
            TrustedProxies::new(proxies.iter().map(|text| text.parse().unwrap()).collect());
        Caller::behind(
            SocketAddr::new(peer.parse().unwrap(), 9),
            &proxies,
            &headers,
        )
    }

    fn from(proxies: &[&str], lines: &[(&'static str, &str)]) -> String {
        caller("10.0.0.1", proxies, lines).to_string()
    }

    #[test]
    fn untrusted_peer_is_the_caller() {
        let lines = [
            ("x-forwarded-for", "203.0.113.7"),
            ("forwarded", "for=203.0.113.7;host=a"),
            ("x-forwarded-host", "a"),
        ];
        for proxies in [&[][..], &["10.0.0.2"], &["192.168.0.0/16", "fd00::/8"]] {
            assert_eq!(from(proxies, &lines), "10.0.0.1:9");
            let caller = caller("10.0.0.1", proxies, &lines);
            assert_eq!(
                (caller.forwarded_hosts.len(), caller.unknown_proxy),
                (0, Some("10.0.0.1".parse().unwrap()))
            );
        }
        assert_eq!(from(&["10.0.0.1"], &[]), "10.0.0.1:9");
    }

    #[test]
    fn caller_is_rightmost_untrusted_address() {
        let trusted = ["10.0.0.0/8", "2001:db8:ffff::/48"];
        for (list, address) in [
            ("203.0.113.7", "203.0.113.7"),
            ("1.1.1.1, 203.0.113.7", "203.0.113.7"),
            ("1.1.1.1, 203.0.113.7, 10.0.0.2,10.9.9.9", "203.0.113.7"),
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("203.0.113.7:4711, 10.0.0.2:80", "203.0.113.7:4711"),
            ("2001:db8::1, 2001:db8:ffff::2", "2001:db8::1"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("fe80::1%eth0", "fe80::1"),
            // An unreadable element ends the list.
            ("1.1.1.1, unknown, 10.0.0.2", "10.0.0.2"),
            ("1.1.1.1, garbage", "10.0.0.1:9"),
            // Empty elements are ignored.
            ("203.0.113.9,,10.0.0.2", "203.0.113.9"),
            (" ,1.1.1.1, , 203.0.113.7 ,", "203.0.113.7"),
            (",", "10.0.0.1:9"),
            ("", "10.0.0.1:9"),
        ] {
            assert_eq!(
                from(&trusted, &[("x-forwarded-for", list)]),
                address,
                "{list}"
            );
        }
        let two_lines = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "203.0.113.7, 10.0.0.2"),
        ];
        assert_eq!(from(&trusted, &two_lines), "203.0.113.7");
        assert_eq!(
            caller("::ffff:10.0.0.1", &trusted, &two_lines).to_string(),
            "203.0.113.7"
        );
    }

    #[test]
    fn forwarded_takes_precedence() {
        for (value, address) in [
            ("for=203.0.113.7", "203.0.113.7"),
            (
                "FOR=\"203.0.113.7:80\";proto=https;by=10.0.0.1",
                "203.0.113.7:80",
            ),
            (
                "for=1.1.1.1, for=203.0.113.7;host=a, for=10.0.0.2",
                "203.0.113.7",
            ),
            ("for=\"[2001:db8::1]:4711\"", "[2001:db8::1]:4711"),
            ("for=\"[2001:db8::1]\";x=\"a,b;c\"", "2001:db8::1"),
            ("for=1.1.1.1, for=_hidden", "10.0.0.1:9"),
            ("for=1.1.1.1, proto=https", "10.0.0.1:9"),
            ("for=203.0.113.7:_port", "203.0.113.7"),
            ("for=203.0.113.7,,for=10.0.0.2;,", "203.0.113.7"),
            // An unreadable element hides those to its left, and no other header replaces it.
            ("for=1.1.1.1;x=\", for=203.0.113.7", "10.0.0.1:9"),
            ("for=1.1.1.1, for=\"203.0.113.7", "10.0.0.1:9"),
            ("for=1.1.1.1;x=\", for=\"203.0.113.7\"", "10.0.0.1:9"),
            ("for=1.1.1.1;x=\"a\"b, for=203.0.113.7", "10.0.0.1:9"),
            ("for=1.1.1.1;x=\"\\\", for=203.0.113.7", "10.0.0.1:9"),
            ("rubbish, for=203.0.113.7", "203.0.113.7"),
            ("rubbish", "10.0.0.1:9"),
            ("", "198.51.100.9"),
            // An element without an address does not count.
            ("host=a;proto=https", "198.51.100.9"),
        ] {
            assert_eq!(
                from(
                    &["10.0.0.0/8"],
                    &[("forwarded", value), ("x-forwarded-for", "198.51.100.9")]
                ),
                address,
                "{value}"
            );
        }
    }

    #[test]
    fn hosts_are_taken_from_trusted_proxies() {
        let hosts = |lines: &[(&'static str, &str)]| {
            caller("10.0.0.1", &["10.0.0.1"], lines).forwarded_hosts
        };
        assert_eq!(
            hosts(&[
                ("forwarded", "for=1.1.1.1;host=\"cam.example:8443\""),
                ("x-forwarded-host", "b")
            ]),
            ["cam.example:8443"]
        );
        assert_eq!(
            hosts(&[("forwarded", "host=a, host=b;x=\", host=c")]),
            [""; 0]
        );
        assert_eq!(
            hosts(&[
                ("forwarded", "host=a;x=\""),
                ("forwarded", "host=b, host=c")
            ]),
            ["b", "c"]
        );
        assert_eq!(
            hosts(&[("x-forwarded-host", "cam.example, inner")]),
            ["cam.example", "inner"]
        );
        assert_eq!(
            hosts(&[
                ("x-forwarded-host", "cam.example"),
                ("x-forwarded-port", "8443")
            ]),
            ["cam.example:8443"]
        );
        assert_eq!(
            hosts(&[
                ("x-forwarded-host", "cam.example"),
                ("x-forwarded-port", "80")
            ]),
            ["cam.example:80"]
        );
        assert_eq!(
            hosts(&[
                ("x-forwarded-host", "cam.example:1"),
                ("x-forwarded-port", "8443")
            ]),
            ["cam.example:1"]
        );
        assert_eq!(
            hosts(&[("x-forwarded-host", "[::1]"), ("x-forwarded-port", "8443")]),
            ["[::1]:8443"]
        );
    }

    /// Pattern of a line that a client sends.
    const SENT: &str = r#"(for=1\.1\.1\.1|1\.1\.1\.1|x=|host=evil|[;,"\\ =a]){0,8}"#;

    proptest! {
        /// For any headers of a client, the found address is one that proxies saw.
        #[test]
        fn client_cannot_choose_address(
            sent in prop::collection::vec(SENT, 0..3),
            is_own_line in any::<bool>(),
            appended in prop::sample::select(vec![
                ("forwarded", "for=203.0.113.7"),
                ("forwarded", "for=\"203.0.113.7\";proto=https;host=\"cam.example:443\""),
                ("forwarded", "proto=https;for=203.0.113.7, for=\"10.0.0.2:80\";by=_proxy"),
                ("x-forwarded-for", "203.0.113.7"),
                ("x-forwarded-for", "203.0.113.7, 10.0.0.2"),
            ]),
            other in prop::collection::vec(r#"(1\.1\.1\.1|[," ]){0,4}"#, 0..2),
        ) {
            let (name, appended) = appended;
            let mut lines = sent;
            match lines.last_mut().filter(|_| !is_own_line) {
                Some(line) => *line = format!("{line}, {appended}"),
                None => lines.push(appended.to_owned()),
            }
            // A proxy that writes `Forwarded` may pass on the client's own other header.
            let other = if name == "forwarded" { other } else { Vec::new() };
            let other = other.iter().map(|line| ("x-forwarded-for", line.as_str()));
            let lines = lines.iter().map(|line| (name, line.as_str())).chain(other);
            let found = caller("10.0.0.1", &["10.0.0.0/8"], &lines.collect::<Vec<_>>());
            let address = found.address.unwrap().0.to_string();
            let seen = ["203.0.113.7", "10.0.0.1", "10.0.0.2"];
            prop_assert!(seen.contains(&address.as_str()), "{address}");
        }
    }

    #[test]
    fn network_is_read_or_explained() {
        for (text, shown) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("127.0.0.1", "127.0.0.1/32"),
            ("::1", "::1/128"),
            (" fd00::/8 ", "fd00::/8"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), shown);
        }
        for wrong in ["", "10.0.0.0/33", "nginx", "10.0.0.0-10.0.0.9"] {
            assert!(
                wrong.parse::<Network>().unwrap_err().contains("10.0.0.0/8"),
                "{wrong}"
            );
        }
    }
}
