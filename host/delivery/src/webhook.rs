//! Thread of a webhook: a signed request for each event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use rostro_sessions::{SessionEvent, SessionPosition, SessionStoreError};
use tokio::runtime::Runtime;
use ureq::Agent;

use crate::backoff::{BackoffLimits, RetryBackoff};
use crate::message;
use crate::outbox::Outbox;
use crate::receivers::Webhook;
use crate::signals::Signals;
use crate::status::Monitor;

/// Number of events of one session in a row, so that no session waits long for another.
const MAX_IN_ROW: usize = 16;

/// Maximum length of an answer that is read, so that the connection can be used again.
const MAX_ANSWER: u64 = 16 << 10;

/// Delivers events to a webhook.
#[derive(Debug)]
pub(crate) struct WebhookWorker {
    webhook: Webhook,
    agent: Agent,
    outbox: Outbox,
    monitor: Arc<Monitor>,
    limits: BackoffLimits,
    /// Failures of the whole receiver in a row.
    backoff: RetryBackoff,
    /// Time until which the receiver is not asked at all.
    paused_until: Option<Instant>,
}

/// Result of one request.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    Delivered,
    /// The receiver refuses the event, and may take those of other sessions.
    Refused {
        error: String,
        retry_after: Option<Duration>,
    },
    /// The receiver takes no event now.
    Unavailable {
        error: String,
        retry_after: Option<Duration>,
    },
    /// The receiver does not want events any more.
    Gone,
}

impl WebhookWorker {
    pub(crate) fn new(
        webhook: Webhook,
        outbox: Outbox,
        monitor: Arc<Monitor>,
        limits: BackoffLimits,
    ) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(webhook.timeout))
            .user_agent(concat!("rostro/", env!("CARGO_PKG_VERSION")));
        if let Some(tls) = &webhook.tls {
            config = config.tls_config(tls.clone());
        }
        Self {
            agent: config.build().into(),
            webhook,
            outbox,
            monitor,
            limits,
            backoff: RetryBackoff::default(),
            paused_until: None,
        }
    }

    /// Delivers until the stop, or until the receiver is gone.
    pub(crate) fn run(mut self, runtime: &Runtime, mut signals: Signals) {
        while !signals.is_stopped() {
            signals.mark_seen();
            let sessions = match self.outbox.sessions() {
                Ok(sessions) => sessions,
                Err(error) => {
                    self.monitor.failed(&error.to_string());
                    let delay = self.backoff.fail(self.limits, None);
                    runtime.block_on(signals.pause(Instant::now() + delay));
                    continue;
                }
            };
            self.monitor.set_waiting(self.outbox.waiting(&sessions));
            let Ok(is_more) = self.pass(&sessions, &signals) else {
                return;
            };
            if self.paused_until.is_none() && !self.outbox.is_failing() {
                self.monitor.recovered();
            }
            match self.paused_until {
                Some(until) => runtime.block_on(signals.pause(until)),
                None if is_more => {}
                None => runtime.block_on(signals.wait(self.outbox.next_retry())),
            }
        }
    }

    /// Delivers at most [`MAX_IN_ROW`] events of each session. Returns true if more may wait.
    ///
    /// # Errors
    ///
    /// If the receiver is gone.
    fn pass(&mut self, sessions: &[SessionPosition], signals: &Signals) -> Result<bool, Gone> {
        self.paused_until = None;
        let mut is_more = false;
        for position in sessions {
            for count in 0.. {
                if signals.is_stopped() || !self.outbox.is_due(position, Instant::now()) {
                    break;
                }
                if count == MAX_IN_ROW {
                    is_more = true;
                    break;
                }
                if !self.deliver_next(position)? {
                    break;
                }
            }
            if self.paused_until.is_some() {
                break;
            }
        }
        Ok(is_more)
    }

    /// Delivers the next event of a session. Returns false if there is none or it failed.
    fn deliver_next(&mut self, position: &SessionPosition) -> Result<bool, Gone> {
        let event = match self.outbox.next_event(position.id) {
            Ok(Some(event)) => event,
            Ok(None) => {
                self.outbox.skip_removed(position);
                return Ok(false);
            }
            Err(SessionStoreError::Unknown(_)) => return Ok(false),
            Err(error) => {
                self.monitor.failed(&error.to_string());
                self.outbox.failed(position.id, Instant::now(), None);
                return Ok(false);
            }
        };
        match self.attempt(&event, position) {
            Attempt::Delivered => {
                self.backoff = RetryBackoff::default();
                self.outbox.delivered(event.id);
                self.monitor.delivered();
                return Ok(true);
            }
            Attempt::Refused { error, retry_after } => {
                self.backoff = RetryBackoff::default();
                self.monitor.failed(&error);
                self.outbox.failed(position.id, Instant::now(), retry_after);
            }
            Attempt::Unavailable { error, retry_after } => {
                self.monitor.failed(&error);
                let delay = self.backoff.fail(self.limits, retry_after);
                self.paused_until = Some(Instant::now() + delay);
            }
            Attempt::Gone => {
                self.monitor.disable("it answered 410 Gone");
                return Err(Gone);
            }
        }
        Ok(false)
    }

    /// Sends one request.
    fn attempt(&self, event: &SessionEvent, position: &SessionPosition) -> Attempt {
        let body = match message::body(event, position) {
            Ok(body) => body,
            Err(error) => {
                return Attempt::Refused {
                    error: format!("cannot write the event: {error}"),
                    retry_after: None,
                };
            }
        };
        let now = Timestamp::now();
        let id = event.id.to_string();
        let signature = self.webhook.key.sign(&id, now.as_second(), &body);
        let answer = self
            .agent
            .post(self.webhook.address.uri())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", now.as_second().to_string())
            .header("webhook-signature", signature)
            .send(&body);
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                return Attempt::Unavailable {
                    error: format!("cannot reach {}: {}", self.webhook.address, cause(&error)),
                    retry_after: None,
                };
            }
        };
        let retry_after = answer
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| delay(value.to_str().ok()?, now));
        let attempt = judge(
            answer.status(),
            &self.webhook.address.to_string(),
            retry_after,
        );
        // The content does not matter. After too long an answer the connection is closed.
        let _ = answer
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec();
        attempt
    }
}

/// The receiver is gone.
#[derive(Debug)]
struct Gone;

/// Returns what an answer means.
fn judge(status: StatusCode, address: &str, retry_after: Option<Duration>) -> Attempt {
    let error = format!("{address} answered {}", status.as_u16());
    match status {
        status if status.is_success() => Attempt::Delivered,
        StatusCode::GONE => Attempt::Gone,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Attempt::Unavailable { error, retry_after }
        }
        status if status.is_redirection() => Attempt::Refused {
            error: format!("{error}, and redirects are not followed: configure the last address"),
            retry_after,
        },
        _ => Attempt::Refused { error, retry_after },
    }
}

/// Returns the delay of a `retry-after`: seconds, or a time.
fn delay(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

/// Returns the cause of a failed request, without its address, because the path may be secret.
fn cause(error: &ureq::Error) -> String {
    match error {
        ureq::Error::BadUri(_) | ureq::Error::RequireHttpsOnly(_) => "bad address".to_owned(),
        ureq::Error::Timeout(_) => "it did not answer in time".to_owned(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_decides_about_retry() {
        let attempt = |code: u16| judge(StatusCode::from_u16(code).unwrap(), "a", None);
        for code in [200, 202, 204] {
            assert_eq!(attempt(code), Attempt::Delivered);
        }
        for code in [301, 307, 400, 401, 404, 500, 502] {
            assert!(matches!(attempt(code), Attempt::Refused { .. }), "{code}");
        }
        for code in [429, 503] {
            assert!(matches!(attempt(code), Attempt::Unavailable { .. }));
        }
        assert_eq!(attempt(410), Attempt::Gone);
    }

    #[test]
    fn retry_after_is_seconds_or_time() {
        let now: Timestamp = "1994-11-06T08:49:30Z".parse().unwrap();
        for (text, seconds) in [
            (" 120 ", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(delay(text, now), expected, "{text}");
        }
    }
}
