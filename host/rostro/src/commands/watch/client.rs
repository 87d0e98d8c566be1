//! HTTP client that sends frames to the service.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::http::StatusCode;

use rostro_common::text::sanitize;

use super::error::WatchError;
use crate::commands::client::{Credentials, TrustArgs, explain};

/// Timeout of an answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Delay before a retry if the service names none.
const DEFAULT_DELAY: Duration = Duration::from_secs(1);
/// Longest delay that is accepted from the service.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// Number of tries for a picture that no newer one replaces.
const TRIES: u32 = 4;

/// Characters that stay as they are in a path segment or a query value.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Codes of the warnings about missing rows or scans, from the SDK's `decode::Flaw`.
const CUT_OFF: [&str; 2] = ["jpeg_missing_data", "jpeg_missing_detail"];

/// Endpoint that takes the frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `/process_frame`, where each frame stands alone.
    Frame {
        /// Group to search; all people if none.
        group: Option<String>,
    },
    /// Frames of a session, by its id.
    Session(String),
}

impl Target {
    /// Returns the address of a frame.
    fn url(&self, server: &str, stamp: &Stamp) -> String {
        let escape = |text| utf8_percent_encode(text, UNRESERVED);
        match self {
            Self::Frame { group: None } => format!("{server}/process_frame"),
            Self::Frame { group: Some(group) } => {
                format!("{server}/process_frame?group={}", escape(group))
            }
            Self::Session(id) => format!(
                "{server}/v1/sessions/{}/frames?seq={}&at={}",
                escape(id),
                stamp.seq,
                escape(&stamp.at.to_string())
            ),
        }
    }
}

/// Number and time of a frame of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    seq: u64,
    at: Timestamp,
}

impl Stamp {
    /// Stamps a frame. Numbers are times in milliseconds, so that they also grow over restarts of
    /// this program. Neither numbers nor times go back if the clock does.
    fn new(at: SystemTime, last: Option<Self>) -> Self {
        let at = Timestamp::try_from(at)
            .unwrap_or(Timestamp::UNIX_EPOCH)
            .round(jiff::Unit::Millisecond)
            .unwrap_or(Timestamp::UNIX_EPOCH);
        let now = u64::try_from(at.as_millisecond()).unwrap_or_default();
        Self {
            seq: last.map_or(now, |last| now.max(last.seq + 1)),
            at: last.map_or(at, |last| at.max(last.at)),
        }
    }
}

/// Fields of the service's answer that a line needs.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    #[serde(default)]
    pub(super) recognized_faces: Vec<Face>,
    #[serde(default)]
    warnings: Vec<AnswerWarning>,
    error: Option<String>,
    code: Option<String>,
    #[serde(default)]
    details: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct AnswerWarning {
    code: String,
}

/// A face of an answer.
#[derive(Debug, Deserialize)]
pub(super) struct Face {
    pub(super) identity: String,
    pub(super) confidence: String,
}

impl Answer {
    /// Returns the error with its cause, as sentences.
    fn refusal(&self) -> String {
        let error = self.error.as_deref().unwrap_or_default();
        match self
            .details
            .get("cause")
            .and_then(serde_json::Value::as_str)
        {
            Some(cause) => {
                let mut letters = cause.trim_end_matches('.').chars();
                let first = letters.next().into_iter().flat_map(char::to_uppercase);
                format!("{error} {}.", first.chain(letters).collect::<String>())
            }
            None => error.to_owned(),
        }
    }
}

/// Client that sends frames to the service.
#[derive(Debug)]
pub(super) struct FrameClient {
    agent: ureq::Agent,
    credentials: Credentials,
    server: String,
    target: Target,
    last: Option<Stamp>,
}

/// Response to a picture.
#[derive(Debug)]
pub(super) struct FrameResponse {
    /// Body.
    pub(super) text: String,
    pub(super) answer: Option<Answer>,
    pub(super) status: StatusCode,
    pub(super) time: Duration,
    /// Delay before a retry, if the service is busy.
    pub(super) retry_after: Option<Duration>,
}

impl FrameClient {
    pub(super) fn new(
        server: &str,
        trust: &TrustArgs,
        credentials: Credentials,
        target: Target,
    ) -> Result<Self, WatchError> {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // A body is not sent again by the library: see `post`.
            .max_redirects(0);
        let server = server.trim_end_matches('/').to_owned();
        Ok(Self {
            agent: trust.agent(&server, config)?,
            credentials,
            server,
            target,
            last: None,
        })
    }

    /// Sends a picture until the service has time for it.
    pub(super) fn send_patiently(&mut self, picture: &[u8]) -> Result<FrameResponse, WatchError> {
        let mut tries = 1;
        loop {
            let response = self.send(picture, SystemTime::now())?;
            match response.retry_after {
                Some(delay) if tries < TRIES => thread::sleep(delay),
                _ => return Ok(response),
            }
            tries += 1;
        }
    }

    /// Sends a picture that was taken at a time.
    pub(super) fn send(
        &mut self,
        picture: &[u8],
        at: SystemTime,
    ) -> Result<FrameResponse, WatchError> {
        let begun = Instant::now();
        let stamp = Stamp::new(at, self.last);
        self.last = Some(stamp);
        let url = self.target.url(&self.server, &stamp);
        let unreachable = |cause: ureq::Error| WatchError::Unreachable {
            server: self.server.clone(),
            cause: explain(&cause, &url),
        };
        let mut response = self.post(&url, picture).map_err(unreachable)?;
        let text = response.body_mut().read_to_string().map_err(unreachable)?;
        let time = begun.elapsed();
        let status = response.status();
        let answer: Option<Answer> = serde_json::from_str(&text).ok();
        let message = || {
            let error = answer.as_ref().and_then(|answer| answer.error.as_deref());
            error.map_or_else(|| format!("status {status}"), sanitize)
        };
        // The next pictures would be refused, too.
        if let Some(remedy) = self.credentials.advice(status.as_u16()) {
            return Err(WatchError::Unauthorized {
                server: self.server.clone(),
                message: message(),
                remedy,
            });
        }
        if let (Target::Session(id), StatusCode::NOT_FOUND | StatusCode::GONE) =
            (&self.target, status)
        {
            return Err(WatchError::NoSession {
                id: sanitize(id),
                message: message(),
            });
        }
        Ok(FrameResponse {
            retry_after: retry_after(&response),
            answer,
            text,
            status,
            time,
        })
    }

    /// Posts a picture. Follows one redirect, as the node of a fleet gives it to the owner of a
    /// session, unless it leaves TLS.
    fn post(
        &self,
        url: &str,
        picture: &[u8],
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        // The service detects the format from the bytes, not from the content type.
        let post = |url: &str| {
            self.credentials
                .sign(self.agent.post(url).content_type("image/jpeg"))
                .send(picture)
        };
        let response = post(url)?;
        let is_secure = |url: &str| url.starts_with("https://");
        let location = response
            .headers()
            .get("location")
            .and_then(|location| location.to_str().ok())
            .filter(|to| is_secure(to) || to.starts_with("http://") && !is_secure(url));
        match (response.status(), location) {
            (StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT, Some(location)) => {
                post(location)
            }
            _ => Ok(response),
        }
    }
}

/// Returns the delay before a retry, if the service is busy.
fn retry_after<B>(response: &ureq::http::Response<B>) -> Option<Duration> {
    if !matches!(
        response.status(),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    ) {
        return None;
    }
    let seconds = response
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map_or(DEFAULT_DELAY, Duration::from_secs);
    Some(seconds.min(MAX_DELAY))
}

impl FrameResponse {
    /// Returns true if a picture of a stream is cut off: only its pixels show that.
    pub(super) fn is_cut_off(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| {
            answer.code.as_deref() == Some("undecodable_image")
                || answer
                    .warnings
                    .iter()
                    .any(|warning| CUT_OFF.contains(&warning.code.as_str()))
        })
    }

    /// Returns the faces, or the reason for which the picture was refused.
    pub(super) fn faces(&self) -> Result<&[Face], String> {
        match &self.answer {
            Some(Answer {
                error: None,
                recognized_faces,
                ..
            }) => Ok(recognized_faces),
            Some(answer) => Err(answer.refusal()),
            None => Err(format!("status {}", self.status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(milliseconds: u64, last: Option<Stamp>) -> Stamp {
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(milliseconds * 1000 + 7);
        Stamp::new(at, last)
    }

    #[test]
    fn url_follows_target() {
        let stamp = stamp(1_700_000_000_250, None);
        let group = |group: &str| Target::Frame {
            group: Some(group.to_owned()),
        };
        for (target, url) in [
            (Target::Frame { group: None }, "http://s/process_frame"),
            (group("1 b&c"), "http://s/process_frame?group=1%20b%26c"),
            (
                Target::Session("a/b".to_owned()),
                "http://s/v1/sessions/a%2Fb/frames?seq=1700000000250&at=2023-11-14T22%3A13%3A20.25Z",
            ),
        ] {
            assert_eq!(target.url("http://s", &stamp), url);
        }
    }

    #[test]
    fn stamps_grow_despite_clock() {
        let first = stamp(5_000, None);
        let second = stamp(5_000, Some(first));
        let third = stamp(4_000, Some(second));
        assert_eq!([first.seq, second.seq, third.seq], [5_000, 5_001, 5_002]);
        assert_eq!([first.at, second.at], [second.at, third.at]);
    }

    #[test]
    fn retry_after_needs_busy_service() {
        let response = |status: u16, value: Option<&str>| {
            let mut response = ureq::http::Response::builder().status(status);
            if let Some(value) = value {
                response = response.header("retry-after", value);
            }
            retry_after(&response.body(()).unwrap())
        };
        for (status, value, seconds) in [
            (200, Some("5"), None),
            (503, Some("5"), Some(5)),
            (429, Some("5000"), Some(60)),
            (503, None, Some(1)),
            (503, Some("Wed, 21 Oct 2026 07:28:00 GMT"), Some(1)),
        ] {
            assert_eq!(
                response(status, value),
                seconds.map(Duration::from_secs),
                "{status} {value:?}"
            );
        }
    }
}
