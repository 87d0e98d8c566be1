//! Receivers of an operator's file. They are configuration, never a caller's choice, because a
//! caller could make the host send requests into its own network.

mod file;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rostro_common::fs::read_text;
use rostro_sessions::{EventKind, StreamName};
use rustls::ClientConfig;
use ureq::tls::TlsConfig;

use crate::address::ReceiverAddress;
use crate::message;
use crate::signature::SigningKey;

/// Receivers of events.
#[derive(Clone, Debug, Default)]
pub struct Receivers {
    pub(crate) webhooks: Vec<Webhook>,
    pub(crate) brokers: Vec<MqttBroker>,
}

impl Receivers {
    /// Returns true if there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.webhooks.is_empty() && self.brokers.is_empty()
    }
}

/// Reason why a file of receivers cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot use {file}{line}: {problem}",
    file = .file.display(),
    line = .line.map(|line| format!(", line {line}")).unwrap_or_default()
)]
pub struct ReceiversError {
    /// Path of the file.
    pub file: PathBuf,
    /// Number of the line, from 1, if one line is at fault.
    pub line: Option<usize>,
    /// Description of the problem with its remedy.
    pub problem: String,
}

/// A webhook.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    pub(crate) name: String,
    pub(crate) address: ReceiverAddress,
    pub(crate) key: SigningKey,
    pub(crate) filter: EventFilter,
    /// None for an address without TLS.
    pub(crate) tls: Option<TlsConfig>,
    pub(crate) timeout: Duration,
}

/// An MQTT broker.
#[derive(Clone, Debug)]
pub(crate) struct MqttBroker {
    pub(crate) name: String,
    pub(crate) address: ReceiverAddress,
    pub(crate) login: Option<MqttLogin>,
    pub(crate) filter: EventFilter,
    /// None for an address without TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Prefix of all topics.
    pub(crate) prefix: String,
    /// Prefix of Home Assistant's discovery; none if it is off.
    pub(crate) discovery_prefix: Option<String>,
}

/// User and password of a broker. The debug output has no password.
#[derive(Clone)]
pub(crate) struct MqttLogin {
    pub(crate) username: String,
    pub(crate) password: Option<String>,
}

impl fmt::Debug for MqttLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MqttLogin")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Events that a receiver wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EventFilter {
    /// Names of kinds; none for all.
    kinds: Option<BTreeSet<String>>,
    /// None for all.
    streams: Option<BTreeSet<String>>,
}

impl EventFilter {
    pub(crate) fn wants_stream(&self, stream: &StreamName) -> bool {
        let streams = self.streams.as_ref();
        streams.is_none_or(|streams| streams.contains(stream.as_str()))
    }

    pub(crate) fn wants_kind(&self, kind: &EventKind) -> bool {
        self.wants_kind_named(message::kind_name(kind))
    }

    pub(crate) fn wants_kind_named(&self, name: &str) -> bool {
        let kinds = self.kinds.as_ref();
        kinds.is_none_or(|kinds| kinds.contains(name))
    }
}

impl Receivers {
    /// Reads a file of receivers, with their secrets. Relative paths in it start at its folder.
    ///
    /// # Errors
    ///
    /// [`ReceiversError`] names the line and the remedy, and never a secret.
    pub fn read(file: &Path) -> Result<Self, ReceiversError> {
        let text = read_text(file).map_err(|error| ReceiversError {
            file: file.to_owned(),
            line: None,
            problem: format!("{error}; name a file with [[webhook]] or [[mqtt]]"),
        })?;
        file::parse(file, &text)
    }

    /// Returns the names of the receivers, webhooks first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let webhooks = self.webhooks.iter().map(|webhook| webhook.name.as_str());
        webhooks.chain(self.brokers.iter().map(|broker| broker.name.as_str()))
    }
}
