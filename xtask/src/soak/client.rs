//! Asking the service as its callers and its operator do.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use ureq::http::{Method, Request};

const BOUNDARY: &str = "a-boundary-that-no-photo-contains";

/// A form's content type.
pub(super) const FORM: &str = "multipart/form-data; boundary=a-boundary-that-no-photo-contains";

/// Longer than the service's own deadline: what it does not answer in its time is its failure and
/// not the client's.
const PATIENCE: Duration = Duration::from_secs(60);

/// The service closes a connection that was idle for 30 s; one that it is about to close must not
/// be used for a request.
const IDLE: Duration = Duration::from_secs(20);

/// An answer, as far as it is judged.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: bool,
    /// By which the request is found in the service's log.
    pub(super) request: String,
    /// Null if the body is none.
    pub(super) json: Value,
}

/// A connection to each of the service's two listeners, kept open.
#[derive(Debug)]
pub(super) struct Client {
    agent: ureq::Agent,
    url: String,
    admin: String,
}

impl Client {
    pub(super) fn new(url: &str, admin: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .max_idle_age(IDLE);
        Self {
            agent: config.build().into(),
            url: url.to_owned(),
            admin: admin.to_owned(),
        }
    }

    /// Where the service listens.
    pub(super) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Posts a body to the service.
    pub(super) fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Result<Answer> {
        self.post_with(path, &[("content-type", content_type)], body)
    }

    /// Posts a body with these headers to the service.
    pub(super) fn post_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(self.agent.run(request.body(body)?)?)
    }

    /// Asks the service for something without a body.
    pub(super) fn public(&self, method: Method, path: &str) -> Result<Answer> {
        answer(
            self.agent.run(
                Request::builder()
                    .method(method)
                    .uri(format!("{}{path}", self.url))
                    .body(())?,
            )?,
        )
    }

    /// Asks the admin interface.
    pub(super) fn admin(&self, method: Method, path: &str) -> Result<Answer> {
        answer(
            self.agent.run(
                Request::builder()
                    .method(method)
                    .uri(format!("{}{path}", self.admin))
                    .body(())?,
            )?,
        )
    }
}

fn answer(mut answer: ureq::http::Response<ureq::Body>) -> Result<Answer> {
    let header = |name: &str| {
        answer
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let (retry_after, request) = (
        header("retry-after").is_some(),
        header("x-request-id").unwrap_or_default(),
    );
    let text = answer.body_mut().read_to_string()?;
    let json = serde_json::from_str(&text).unwrap_or_default();
    Ok(Answer {
        status: answer.status().as_u16(),
        retry_after,
        request,
        json,
    })
}

/// A part of a form.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'p> {
    Text(&'p str, &'p str),
    File(&'p str, &'p [u8]),
}

/// A form's body.
pub(super) fn form(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        let (name, more, content) = match part {
            Part::Text(name, text) => (name, "", text.as_bytes()),
            Part::File(name, bytes) => (
                name,
                "; filename=\"photo.png\"\r\nContent-Type: image/png",
                *bytes,
            ),
        };
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n"
        );
        body.extend_from_slice(&[head.as_bytes(), content, b"\r\n"].concat());
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}
