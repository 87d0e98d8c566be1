//! An event as receivers get it: the JSON of the session's events, with its stream and group.

use rostro_sessions::{EventKind, SessionEvent, SessionPosition, StreamName};
use serde::Serialize;

/// Names of all kinds of events, as their JSON has them.
pub(crate) const KINDS: [&str; 8] = [
    "started",
    "arrived",
    "late",
    "corrected",
    "policy",
    "person_removed",
    "too_many_events",
    "ended",
];

#[derive(Serialize)]
struct EventMessage<'e> {
    #[serde(flatten)]
    event: &'e SessionEvent,
    stream: &'e StreamName,
    group: Option<&'e str>,
}

/// Returns the name of an event's kind.
pub(crate) fn kind_name(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Started => "started",
        EventKind::Arrived { .. } => "arrived",
        EventKind::Late { .. } => "late",
        EventKind::Corrected { .. } => "corrected",
        EventKind::Policy(_) => "policy",
        EventKind::PersonRemoved => "person_removed",
        EventKind::TooManyEvents => "too_many_events",
        EventKind::Ended => "ended",
    }
}

/// Returns the JSON of an event.
///
/// # Errors
///
/// Never in practice, because every field has a form in JSON.
pub(crate) fn body(
    event: &SessionEvent,
    position: &SessionPosition,
) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&EventMessage {
        event,
        stream: &position.stream,
        group: position.group.as_deref(),
    })
}

#[cfg(test)]
mod tests {
    use rostro_sessions::{EventId, SessionId};

    use super::*;

    #[test]
    fn message_has_stream_and_group() {
        let id = SessionId::random().unwrap();
        let event = SessionEvent {
            id: EventId {
                session: id,
                number: 2,
            },
            at: "2026-12-02T08:00:02Z".parse().unwrap(),
            kind: EventKind::Arrived {
                person: "s6".parse().unwrap(),
                similarity: Some(0.5),
            },
        };
        let position = SessionPosition {
            id,
            stream: "door".parse().unwrap(),
            group: Some("maths".to_owned()),
            created: event.at,
            is_open: true,
            last_event: 2,
        };
        let text = String::from_utf8(body(&event, &position).unwrap()).unwrap();
        assert_eq!(
            text,
            format!(
                r#"{{"id":"{id}-2","number":2,"at":"2026-12-02T08:00:02Z","kind":"arrived","person":"s6","similarity":0.5,"stream":"door","group":"maths"}}"#
            )
        );
    }

    #[test]
    fn kind_names_are_those_of_json() {
        for kind in [
            EventKind::Started,
            EventKind::PersonRemoved,
            EventKind::TooManyEvents,
            EventKind::Ended,
        ] {
            let json = serde_json::to_value(&kind).unwrap();
            assert_eq!(json["kind"], kind_name(&kind));
            assert!(KINDS.contains(&kind_name(&kind)));
        }
    }
}
