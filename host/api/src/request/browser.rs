//! Access of pages in browsers, against cross-site request forgery.
//!
//! Without API keys, only the service's own pages have access, because a page of another site could
//! make a browser enrol people. With API keys, a page needs a key, and `--allow-origin` lists the
//! origins of pages that may read answers (CORS).

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::error::ApiError;
use crate::request::caller::Caller;

/// Header in which a browser states the relation of the page to the service.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Time for which a browser may cache the answer to a preflight request.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);

/// Origin of a page: normalised scheme, host and port, without the default port of the scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let uri: Uri = text.trim().parse().ok()?;
            let (host, port) = host_and_port(uri.authority()?)?;
            let scheme = uri.scheme_str()?.to_ascii_lowercase();
            let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
            is_bare.then(|| Self {
                port: port.filter(|port| default_port(&scheme) != Some(*port)),
                scheme,
                host,
            })
        };
        let help =
            "write an origin as https://cameras.example or http://192.0.2.1:8080, without a path";
        read().ok_or_else(|| help.to_owned())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl Origin {
    /// Returns true if a `Host` header names the host and port of this origin.
    ///
    /// The scheme is unknown, because a proxy may have ended TLS. Both default ports match an
    /// origin without a port, because the proxy may write the default port of the scheme to which
    /// it forwards. Only a service at the other default port of the same host passes in addition.
    /// Over TLS, `Sec-Fetch-Site` identifies its pages.
    fn has_host(&self, host: &str) -> bool {
        let Some((name, port)) = host
            .trim()
            .parse::<Authority>()
            .ok()
            .and_then(|authority| host_and_port(&authority))
        else {
            return false;
        };
        let is_default = self.port.is_none() && matches!(port, None | Some(80 | 443));
        self.host == name && (is_default || self.port.is_some() && self.port == port)
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Returns the normalised host and the port. The host is in lower case, without the dot of the
/// root, and an IPv6 address has its shortest form.
fn host_and_port(authority: &Authority) -> Option<(String, Option<u16>)> {
    if authority.as_str().contains('@') {
        return None;
    }
    let host = authority.host().to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host).to_owned();
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .map(str::parse::<Ipv6Addr>);
    let host = match address {
        Some(address) => format!("[{}]", address.ok()?),
        None => host,
    };
    // `host:` has no port, and `host:x` is not valid.
    let rest = authority.as_str().get(authority.host().len()..)?;
    let port = rest
        .strip_prefix(':')
        .filter(|port| !port.is_empty())
        .map(str::parse)
        .transpose()
        .ok()?;
    (!host.is_empty()).then_some((host, port))
}

/// Origin of pages that may call the service with a key, or `*` for all origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// All origins.
    Any,
    /// One origin.
    One(Origin),
}

impl FromStr for AllowedOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            Ok(Self::Any)
        } else {
            text.parse().map(Self::One)
        }
    }
}

impl Serialize for AllowedOrigin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("*"),
            Self::One(origin) => origin.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for AllowedOrigin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// Configured access of pages in browsers.
#[derive(Clone, Debug, Default)]
pub struct BrowserAccess {
    /// Origins of the service's own pages, in addition to the host of the request.
    own: Arc<[Origin]>,
    /// Origins of other pages that may send keys.
    allowed: Arc<[AllowedOrigin]>,
}

impl BrowserAccess {
    /// Allows pages of these origins.
    pub fn new(own: Vec<Origin>, allowed: Vec<AllowedOrigin>) -> Self {
        Self {
            own: own.into(),
            allowed: allowed.into(),
        }
    }

    /// Refuses a request that a page of another site made.
    ///
    /// # Errors
    ///
    /// The error names the flag that allows the page, in case it is the service's own.
    pub(crate) fn refuse_other_pages(
        &self,
        caller: &Caller,
        host: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<(), ApiError> {
        let text = |name: &HeaderName| {
            headers
                .get(name)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let (site, origin) = (text(&SEC_FETCH_SITE), text(&header::ORIGIN));
        let parsed = origin
            .as_deref()
            .and_then(|origin| origin.parse::<Origin>().ok());
        if parsed
            .as_ref()
            .is_some_and(|origin| self.own.contains(origin))
        {
            return Ok(());
        }
        let has_host = |origin: &Origin| {
            host.into_iter()
                .chain(caller.forwarded_hosts.iter().map(String::as_str))
                .any(|host| origin.has_host(host))
        };
        let is_own = match site.as_deref() {
            // A page cannot forge this header.
            Some("same-origin") => true,
            // Browsers omit the header on plain HTTP, and send `none` for a typed address.
            None | Some("none") => origin.is_none() || parsed.as_ref().is_some_and(has_host),
            Some(_) => false,
        };
        if is_own {
            Ok(())
        } else {
            Err(refusal(parsed.as_ref(), host, caller))
        }
    }

    /// Returns the CORS layer that lets pages of other sites send keys and read answers. Returns
    /// `None` if no other site is allowed.
    pub(crate) fn cors(&self) -> Option<CorsLayer> {
        if self.allowed.is_empty() {
            return None;
        }
        let allowed = Arc::clone(&self.allowed);
        let is_allowed = move |origin: &HeaderValue, _: &_| {
            let origin = origin.to_str().ok().and_then(|origin| origin.parse().ok());
            allowed.contains(&AllowedOrigin::Any)
                || origin.is_some_and(|origin| allowed.contains(&AllowedOrigin::One(origin)))
        };
        let name = HeaderName::from_static;
        let request_headers = [
            "x-api-key",
            "x-request-id",
            "x-rostro-canary",
            "traceparent",
            "last-event-id",
        ]
        .map(name);
        let answer_headers = ["x-request-id", "x-rostro-pipeline", "x-rostro-stale"].map(name);
        let layer = CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(is_allowed))
            .allow_methods([
                Method::GET,
                Method::POST,
                Method::PUT,
                Method::PATCH,
                Method::DELETE,
            ])
            .allow_headers(
                [header::AUTHORIZATION, header::CONTENT_TYPE]
                    .into_iter()
                    .chain(request_headers)
                    .collect::<Vec<_>>(),
            )
            .expose_headers(
                [header::RETRY_AFTER]
                    .into_iter()
                    .chain(answer_headers)
                    .collect::<Vec<_>>(),
            )
            .max_age(PREFLIGHT_MAX_AGE);
        Some(layer)
    }
}

/// Returns the refusal, with the flags that would allow the page.
fn refusal(origin: Option<&Origin>, host: Option<&str>, caller: &Caller) -> ApiError {
    let refused =
        |message: String| ApiError::new(StatusCode::FORBIDDEN, "cross_origin_refused", message);
    let Some(origin) = origin else {
        return refused("Pages of other sites may not use the service.".to_owned());
    };
    let mut add = vec![format!("--public-origin {origin}")];
    let mut message = format!(
        "Pages of other sites may not use the service. If {origin} is the service's own address, \
         start it with '--public-origin {origin}'"
    );
    if let Some(proxy) = caller.unknown_proxy {
        add.push(format!("--trusted-proxies {proxy}"));
        message.push_str(&format!(
            ", or with '--trusted-proxies {proxy}' if {proxy} is your proxy and forwards the host"
        ));
    }
    message.push('.');
    let host: String = host.unwrap_or_default().chars().take(200).collect();
    refused(message)
        .with("origin", origin.to_string())
        .with("host", host)
        .with("add", add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        text.parse().unwrap()
    }

    fn check(
        access: &BrowserAccess,
        caller: &Caller,
        host: &str,
        pairs: &[(&'static str, &str)],
    ) -> Result<(), ApiError> {
        let headers = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        access.refuse_other_pages(caller, Some(host), &headers)
    }

    #[test]
    fn origin_is_normalised_or_refused() {
        for (text, shown) in [
            ("https://Cameras.Example:443/", "https://cameras.example"),
            ("HTTP://192.0.2.1:80", "http://192.0.2.1"),
            ("http://192.0.2.1:4000", "http://192.0.2.1:4000"),
            ("http://[0:0::0:1]:80", "http://[::1]"),
            (
                "https://cameras.example.:8443",
                "https://cameras.example:8443",
            ),
            ("chrome-extension://abc", "chrome-extension://abc"),
        ] {
            assert_eq!(origin(text).to_string(), shown);
        }
        for wrong in [
            "",
            "null",
            "cameras.example",
            "https://",
            "https://a/b",
            "https://a?b",
            "https://u@a",
            "https://a:b",
            "file:///x",
        ] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn origin_matches_normalised_host() {
        for (text, host) in [
            ("http://cam.example", "cam.example"),
            ("http://cam.example", "Cam.Example:80"),
            ("https://cam.example", "cam.example:443"),
            ("https://cam.example:443", "cam.example."),
            ("http://cam.example.", "cam.example"),
            // A proxy that ends TLS may write the port to which it forwards.
            ("https://cam.example", "cam.example:80"),
            ("http://cam.example", "cam.example:443"),
            ("https://cam.example:80", "cam.example:80"),
            ("http://[::1]:4000", "[0:0:0:0:0:0:0:1]:4000"),
            ("http://CAM.example:4000", "cam.EXAMPLE:4000"),
        ] {
            assert!(origin(text).has_host(host), "{text} {host}");
        }
        for (text, host) in [
            ("http://cam.example", "cam.example:4000"),
            ("http://cam.example:4000", "cam.example"),
            ("https://cam.example:80", "cam.example"),
            ("https://cam.example:80", "cam.example:443"),
            ("https://cam.example", "cam.example:8443"),
            ("http://cam.example", "evil.cam.example:443"),
            ("http://cam.example", "evil.cam.example"),
            ("http://cam.example", ""),
            ("http://cam.example", "x@cam.example"),
            ("http://cam.example", "cam.example:x"),
        ] {
            assert!(!origin(text).has_host(host), "{text} {host}");
        }
    }

    #[test]
    fn only_own_pages_pass() {
        let (access, caller) = (BrowserAccess::default(), Caller::default());
        let result = |pairs: &[(&'static str, &str)]| {
            check(&access, &caller, "127.0.0.1:4000", pairs).map_err(|error| error.code)
        };
        assert_eq!(result(&[]), Ok(()));
        assert_eq!(result(&[("origin", "http://127.0.0.1:4000")]), Ok(()));
        // A proxy may have changed the host.
        assert_eq!(
            result(&[
                ("origin", "https://cam.example"),
                ("sec-fetch-site", "same-origin")
            ]),
            Ok(())
        );
        for other in ["http://evil.example", "http://127.0.0.1:4001", "null", ""] {
            assert_eq!(
                result(&[("origin", other)]),
                Err("cross_origin_refused"),
                "{other}"
            );
        }
        for site in ["cross-site", "same-site", "same-origin, cross-site"] {
            assert_eq!(
                result(&[
                    ("sec-fetch-site", site),
                    ("origin", "http://127.0.0.1:4000")
                ]),
                Err("cross_origin_refused"),
                "{site}"
            );
        }
    }

    #[test]
    fn public_origin_and_forwarded_host_pass() {
        let access = BrowserAccess::new(vec![origin("https://cam.example")], Vec::new());
        let by_name = [("origin", "https://CAM.example:443")];
        assert!(check(&access, &Caller::default(), "rostro", &by_name).is_ok());
        let forwarded = Caller {
            forwarded_hosts: vec!["cam.example".to_owned()],
            ..Caller::default()
        };
        assert!(check(&BrowserAccess::default(), &forwarded, "rostro", &by_name).is_ok());
        assert!(
            check(
                &BrowserAccess::default(),
                &Caller::default(),
                "rostro",
                &by_name
            )
            .is_err()
        );
    }

    #[test]
    fn refusal_names_flags() {
        let caller = Caller {
            unknown_proxy: Some("10.0.0.1".parse().unwrap()),
            ..Caller::default()
        };
        let error = check(
            &BrowserAccess::default(),
            &caller,
            "rostro",
            &[("origin", "https://cam.example")],
        )
        .unwrap_err();
        assert!(
            error
                .message
                .contains("--public-origin https://cam.example")
                && error.message.contains("--trusted-proxies 10.0.0.1")
        );
        let error = check(
            &BrowserAccess::default(),
            &caller,
            "rostro",
            &[("origin", "null")],
        )
        .unwrap_err();
        assert!(!error.message.contains("null"), "{}", error.message);
    }
}
