//! The file of receivers: TOML with `[[webhook]]` and `[[mqtt]]`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rostro_common::fs::read_text;
use rostro_sessions::StreamName;
use serde::Deserialize;
use toml::Spanned;

use crate::address::{ReceiverAddress, Schemes};
use crate::message::KINDS;
use crate::signature::SigningKey;
use crate::tls;

use super::{EventFilter, MqttBroker, MqttLogin, Receivers, ReceiversError, Webhook};

/// Maximum length of a receiver's name.
const MAX_NAME: usize = 32;

/// Maximum number of receivers, because each has a thread.
const MAX_RECEIVERS: usize = 32;

/// Maximum length of a prefix of topics.
const MAX_PREFIX: usize = 64;

const HTTP: Schemes = Schemes {
    plain: ("http", 80),
    secure: ("https", 443),
};

const MQTT: Schemes = Schemes {
    plain: ("mqtt", 1883),
    secure: ("mqtts", 8883),
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiversToml {
    #[serde(default)]
    webhook: Vec<WebhookToml>,
    #[serde(default)]
    mqtt: Vec<MqttToml>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookToml {
    name: Spanned<String>,
    url: String,
    secret_file: Option<PathBuf>,
    secret_env: Option<String>,
    kinds: Option<Vec<String>>,
    streams: Option<Vec<String>>,
    ca_file: Option<PathBuf>,
    #[serde(default = "default_timeout")]
    timeout_s: u64,
    #[serde(default)]
    insecure: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MqttToml {
    name: Spanned<String>,
    url: String,
    username: Option<String>,
    password_file: Option<PathBuf>,
    kinds: Option<Vec<String>>,
    streams: Option<Vec<String>>,
    ca_file: Option<PathBuf>,
    #[serde(default = "default_prefix")]
    prefix: String,
    #[serde(default = "default_discovery_prefix")]
    discovery_prefix: String,
    #[serde(default)]
    insecure: bool,
}

fn default_timeout() -> u64 {
    10
}

fn default_prefix() -> String {
    "rostro".to_owned()
}

fn default_discovery_prefix() -> String {
    "homeassistant".to_owned()
}

/// Parses the text of a file.
pub(super) fn parse(file: &Path, text: &str) -> Result<Receivers, ReceiversError> {
    let at = |offset: Option<usize>, problem: String| ReceiversError {
        file: file.to_owned(),
        line: offset.map(|offset| line_of(text, offset)),
        problem,
    };
    let parsed: ReceiversToml = toml::from_str(text).map_err(|error| {
        let problem = format!("{}; correct it", error.message().trim());
        at(error.span().map(|span| span.start), problem)
    })?;
    if parsed.webhook.len() + parsed.mqtt.len() > MAX_RECEIVERS {
        let problem = format!("it has more than {MAX_RECEIVERS} receivers; remove some");
        return Err(at(None, problem));
    }
    let folder = file.parent().unwrap_or_else(|| Path::new("."));
    let mut names = BTreeSet::new();
    let mut check_name = |name: &str| {
        check_name(name)?;
        match names.insert(name.to_lowercase()) {
            true => Ok(()),
            false => Err("another receiver has the name; give each its own".to_owned()),
        }
    };
    let mut receivers = Receivers {
        webhooks: Vec::new(),
        brokers: Vec::new(),
    };
    for webhook in parsed.webhook {
        let (start, name) = (webhook.name.span().start, webhook.name.get_ref().clone());
        let built = check_name(&name).and_then(|()| webhook.build(folder));
        let error = |problem| at(Some(start), format!("webhook {name:?}: {problem}"));
        receivers.webhooks.push(built.map_err(error)?);
    }
    for mqtt in parsed.mqtt {
        let (start, name) = (mqtt.name.span().start, mqtt.name.get_ref().clone());
        let built = check_name(&name).and_then(|()| mqtt.build(folder));
        let error = |problem| at(Some(start), format!("mqtt {name:?}: {problem}"));
        receivers.brokers.push(built.map_err(error)?);
    }
    Ok(receivers)
}

impl WebhookToml {
    fn build(self, folder: &Path) -> Result<Webhook, String> {
        let address = ReceiverAddress::parse(&self.url, HTTP, self.insecure)?;
        if !(1..=60).contains(&self.timeout_s) {
            return Err("timeout_s is not from 1 to 60; correct it".to_owned());
        }
        let secret = match (self.secret_file, self.secret_env) {
            (Some(file), None) => read_secret("secret_file", &folder.join(file))?,
            (None, Some(name)) => std::env::var(&name).map_err(|_| {
                format!("the variable {name} of secret_env is not set to a text; set it")
            })?,
            (None, None) => {
                return Err(
                    "secret_file is missing; name a file with the secret, or a variable \
                            with secret_env"
                        .to_owned(),
                );
            }
            (Some(_), Some(_)) => {
                return Err("secret_file and secret_env are both set; remove one".to_owned());
            }
        };
        let ca_file = self.ca_file.map(|file| folder.join(file));
        Ok(Webhook {
            key: SigningKey::parse(&secret)?,
            filter: filter(self.kinds, self.streams)?,
            tls: match address.is_secure() {
                true => Some(tls::for_webhook(ca_file.as_deref())?),
                false => None,
            },
            timeout: Duration::from_secs(self.timeout_s),
            name: self.name.into_inner(),
            address,
        })
    }
}

impl MqttToml {
    fn build(self, folder: &Path) -> Result<MqttBroker, String> {
        let address = ReceiverAddress::parse(&self.url, MQTT, self.insecure)?;
        let uri = address.uri();
        if uri.query().is_some() || !matches!(uri.path(), "" | "/") {
            return Err("url has a path or a query; leave scheme, host and port".to_owned());
        }
        if address.is_secure() && address.host().starts_with('[') {
            return Err("url has an IPv6 address; write a name for TLS".to_owned());
        }
        let login = match (self.username, self.password_file) {
            (Some(username), file) if !username.is_empty() => Some(MqttLogin {
                username,
                password: file
                    .map(|file| read_secret("password_file", &folder.join(file)))
                    .transpose()?,
            }),
            (Some(_), _) => return Err("username is empty; remove it or name a user".to_owned()),
            (None, Some(_)) => {
                return Err("password_file has no username; add it".to_owned());
            }
            (None, None) => None,
        };
        check_prefix("prefix", &self.prefix)?;
        let discovery_prefix = Some(self.discovery_prefix).filter(|prefix| !prefix.is_empty());
        if let Some(prefix) = &discovery_prefix {
            check_prefix("discovery_prefix", prefix)?;
        }
        let ca_file = self.ca_file.map(|file| folder.join(file));
        Ok(MqttBroker {
            login,
            filter: filter(self.kinds, self.streams)?,
            tls: match address.is_secure() {
                true => Some(tls::for_mqtt(ca_file.as_deref())?),
                false => None,
            },
            prefix: self.prefix,
            discovery_prefix,
            name: self.name.into_inner(),
            address,
        })
    }
}

/// Returns the number of the line at an offset.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|&&byte| byte == b'\n').count()
}

/// Checks a name, which is a part of a file's name.
fn check_name(name: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match (1..=MAX_NAME).contains(&name.len()) && name.chars().all(is_allowed) {
        true => Ok(()),
        false => Err(format!(
            "the name is not 1 to {MAX_NAME} letters, digits, '-' and '_'; correct it"
        )),
    }
}

/// Checks a prefix of topics: levels without wildcards.
fn check_prefix(key: &str, prefix: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_level = |level: &str| !level.is_empty() && level.chars().all(is_allowed);
    match prefix.len() <= MAX_PREFIX && prefix.split('/').all(is_level) {
        true => Ok(()),
        false => Err(format!(
            "{key} is not 1 to {MAX_PREFIX} letters, digits, '-', '_' and '.' in levels separated \
             by '/'; correct it"
        )),
    }
}

/// Returns the filter of a receiver. An empty list would want nothing, which is a mistake.
fn filter(kinds: Option<Vec<String>>, streams: Option<Vec<String>>) -> Result<EventFilter, String> {
    for kind in kinds.iter().flatten() {
        if !KINDS.contains(&kind.as_str()) {
            let known = KINDS.join(", ");
            return Err(format!("kinds has {kind:?}; choose from {known}"));
        }
    }
    for stream in streams.iter().flatten() {
        if let Err(error) = stream.parse::<StreamName>() {
            return Err(format!("streams has {stream:?}: {error}; correct it"));
        }
    }
    for (key, list) in [("kinds", &kinds), ("streams", &streams)] {
        if list.as_ref().is_some_and(Vec::is_empty) {
            return Err(format!("{key} is empty; remove it to get all"));
        }
    }
    Ok(EventFilter {
        kinds: kinds.map(|kinds| kinds.into_iter().collect()),
        streams: streams.map(|streams| streams.into_iter().collect()),
    })
}

/// Reads the one line of a secret's file.
fn read_secret(key: &str, file: &Path) -> Result<String, String> {
    let shown = file.display();
    let text = read_text(file)
        .map_err(|error| format!("cannot read {key} {shown}: {error}; name another file"))?;
    let text = text.trim();
    match text.is_empty() || text.contains(['\n', '\r']) {
        true => Err(format!(
            "{key} {shown} does not have one line; write the secret into it"
        )),
        false => Ok(text.to_owned()),
    }
}
