//! Topics of a broker, and Home Assistant's discovery
//! (<https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery>).

use rostro_sessions::StreamName;
use serde_json::{Value, json};

use crate::message::KINDS;
use crate::receivers::MqttBroker;

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RetainedMessage {
    pub(super) topic: String,
    pub(super) payload: String,
}

/// Returns the topic of the availability.
pub(super) fn status(broker: &MqttBroker) -> String {
    format!("{}/status", broker.prefix)
}

/// Returns the topic of a stream's events, which are not retained.
pub(super) fn events(broker: &MqttBroker, stream: &StreamName) -> String {
    format!("{}/{stream}/events", broker.prefix)
}

/// Returns the topic of a stream's counts.
pub(super) fn attendance(broker: &MqttBroker, stream: &StreamName) -> String {
    format!("{}/{stream}/attendance", broker.prefix)
}

/// Returns the messages by which Home Assistant finds a stream: a device with two sensors and an
/// entity of events. There are none if discovery is off.
pub(super) fn discovery(broker: &MqttBroker, stream: &StreamName) -> Vec<RetainedMessage> {
    let Some(prefix) = &broker.discovery_prefix else {
        return Vec::new();
    };
    let node = format!("rostro_{}", node_id(&format!("{}/{stream}", broker.prefix)));
    let common = json!({
        "availability_topic": status(broker),
        "device": {
            "identifiers": [node],
            "name": stream,
            "manufacturer": "Rostro",
            "model": "Stream",
        },
        "origin": { "name": "Rostro", "sw_version": env!("CARGO_PKG_VERSION") },
    });
    let message = |component: &str, object: &str, own: Value| {
        let mut config = common.clone();
        if let (Some(config), Value::Object(own)) = (config.as_object_mut(), own) {
            config.insert("unique_id".to_owned(), json!(format!("{node}_{object}")));
            config.extend(own);
        }
        RetainedMessage {
            topic: format!("{prefix}/{component}/{node}/{object}/config"),
            payload: config.to_string(),
        }
    };
    let sensor = |object: &str, name: &str, icon: &str| {
        let own = json!({
            "name": name,
            "icon": icon,
            "state_topic": attendance(broker, stream),
            "value_template": format!("{{{{ value_json.{object} }}}}"),
            "json_attributes_topic": attendance(broker, stream),
            "state_class": "measurement",
        });
        message("sensor", object, own)
    };
    let kinds = KINDS.iter().copied();
    let kinds: Vec<_> = kinds
        .filter(|kind| broker.filter.wants_kind_named(kind))
        .collect();
    let event = json!({
        "name": "Event",
        "icon": "mdi:account-clock",
        "state_topic": events(broker, stream),
        "event_types": kinds,
        "value_template": "{{ dict(value_json, event_type=value_json.kind) | tojson }}",
    });
    vec![
        sensor("present", "Present", "mdi:account-check"),
        sensor("uncertain", "Uncertain", "mdi:account-question"),
        message("event", "event", event),
    ]
}

/// Returns an id of letters, digits, '-' and '_', a different one for each path of topics.
fn node_id(path: &str) -> String {
    // '_' begins an escape.
    path.replace('_', "__")
        .replace('.', "_-")
        .replace('/', "_0")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn node_ids_differ() {
        let paths = [
            "a.b", "a_b", "a-b", "a/b", "a_-b", "a__b", "a_0b", "a0b", "a._b", "a_.b",
        ];
        let ids: BTreeSet<String> = paths.iter().map(|path| node_id(path)).collect();
        assert_eq!(ids.len(), paths.len());
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        assert!(ids.iter().all(|id| id.chars().all(is_allowed)));
    }
}
