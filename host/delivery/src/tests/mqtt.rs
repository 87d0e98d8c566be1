//! Tests of MQTT with a real mosquitto.

use rcgen::{CertifiedKey, generate_simple_self_signed};

use super::broker::{Mosquitto, Subscriber};
use super::*;

/// Returns the events that a subscriber got.
fn events(subscriber: &Subscriber) -> Vec<Value> {
    let messages = subscriber.messages().into_iter();
    let events = messages.filter(|message| message.topic.ends_with("/events"));
    events
        .map(|message| {
            let body: Value = serde_json::from_str(&message.payload).unwrap();
            assert!(!message.is_retained, "{message:?}");
            assert_eq!(
                message.topic,
                format!("rostro/{}/events", body["stream"].as_str().unwrap())
            );
            body
        })
        .collect()
}

/// Waits for counts of a stream.
fn wait_for_counts(subscriber: &Subscriber, stream: &str, expected: &Value) {
    let topic = format!("rostro/{stream}/attendance");
    wait_for(&topic, || {
        let last = subscriber.last(&topic).unwrap_or_default();
        serde_json::from_str::<Value>(&last).ok().as_ref() == Some(expected)
    });
}

#[test]
fn broker_gets_events_and_counts() {
    let sessions = Sessions::new();
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe();
    let [door, hall] = ["door", "hall.left"].map(|stream| sessions.create(stream));
    let delivery = sessions.deliver(&broker.toml("home"));
    for number in 0..20 {
        sessions.see(door, number, &[&format!("p{number}")]);
        sessions.see(hall, number, &[&format!("q{number}")]);
    }
    let expected = sessions.numbers();
    wait_for("all events", || {
        numbers_of(&events(&subscriber)) == expected
    });
    let counts = |present: u32, session: Option<SessionId>| {
        let session = session.map(|id| id.to_string());
        json!({"present": present, "late": 0, "uncertain": 0, "session": session})
    };
    wait_for_counts(&subscriber, "door", &counts(20, Some(door)));
    sessions.remove("p3");
    wait_for_counts(&subscriber, "door", &counts(19, Some(door)));
    assert_eq!(subscriber.last("rostro/status").as_deref(), Some("online"));
    // What a later subscriber finds: no people.
    let late = broker.subscribe();
    wait_for("retained messages", || late.messages().len() == 9);
    for message in late.messages() {
        assert!(
            message.is_retained && !message.topic.ends_with("/events"),
            "{message:?}"
        );
        for person in ["p1", "q1", "p19"] {
            assert!(
                !message.payload.contains(&format!("{person}\"")),
                "{message:?}"
            );
        }
        let _: Value = match message.topic.as_str() {
            "rostro/status" => Value::Null,
            _ => serde_json::from_str(&message.payload).unwrap(),
        };
    }
    let config = |component: &str, object: &str| {
        let topic = format!("homeassistant/{component}/rostro_rostro_0hall_-left/{object}/config");
        serde_json::from_str::<Value>(&late.last(&topic).unwrap()).unwrap()
    };
    let (present, event) = (config("sensor", "present"), config("event", "event"));
    assert_eq!(present["state_topic"], "rostro/hall.left/attendance");
    assert_eq!(present["value_template"], "{{ value_json.present }}");
    assert_eq!(event["state_topic"], "rostro/hall.left/events");
    assert_eq!(event["device"], present["device"]);
    assert_ne!(event["unique_id"], present["unique_id"]);
    sessions.store.end(door, at(100)).unwrap();
    wait_for_counts(&subscriber, "door", &counts(0, None));
    sessions.store.delete(door).unwrap();
    wait_for("cleared topics", || {
        let last = |topic: &str| subscriber.last(topic).unwrap_or_default();
        last("rostro/door/attendance").is_empty()
            && last("homeassistant/event/rostro_rostro_0door/event/config").is_empty()
    });
    let start = Instant::now();
    delivery.stop();
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    wait_for("goodbye", || {
        subscriber.last("rostro/status").as_deref() == Some("offline")
    });
    drop(late);
    let late = broker.subscribe();
    wait_for("retained messages", || late.messages().len() == 5);
}

/// Topics of a stream that was deleted while the service was down are cleared at the next start.
#[test]
fn stale_topics_are_cleared() {
    let sessions = Sessions::new();
    let broker = Mosquitto::start();
    let id = sessions.create("door");
    let delivery = sessions.deliver(&broker.toml("home"));
    let subscriber = broker.subscribe();
    let topic = "rostro/door/attendance";
    wait_for("counts", || subscriber.last(topic).is_some());
    delivery.stop();
    sessions.store.delete(id).unwrap();
    let toml = broker.toml("home") + "prefix = \"school\"\n";
    let delivery = sessions.deliver(&toml);
    wait_for("cleared", || subscriber.last(topic).as_deref() == Some(""));
    delivery.stop();
    drop(subscriber);
    // The availability of the old prefix is not of a stream.
    let late = broker.subscribe();
    wait_for("status", || late.last("school/status").is_some());
    assert!(
        late.messages()
            .iter()
            .all(|message| message.topic.ends_with("/status"))
    );
}

const PERSISTENT: &str = "allow_anonymous true\npersistence true\npersistence_location FOLDER/\n";

/// A broker that is away loses no event, and a person who is deleted meanwhile is not sent.
#[test]
fn restarted_broker_gets_all() {
    let sessions = Sessions::new();
    let mut broker = Mosquitto::start_with(PERSISTENT);
    let subscriber = broker.subscribe_durably();
    let id = sessions.create("door");
    let delivery = sessions.deliver(&broker.toml("home"));
    sessions.see(id, 1, &["a"]);
    wait_for("first events", || events(&subscriber).len() == 2);
    let first = events(&subscriber);
    drop(subscriber);
    broker.terminate();
    sessions.see(id, 2, &["s6", "b"]);
    wait_for("failure", || {
        is_in_state(&delivery, "home", ReceiverState::Failing)
    });
    sessions.remove("s6");
    let expected = sessions.numbers();
    broker.restart();
    let subscriber = broker.subscribe_durably();
    let all = || [first.clone(), events(&subscriber)].concat();
    wait_for("all events", || numbers_of(&all()) == expected);
    for message in subscriber.messages() {
        assert!(!message.payload.contains("s6"), "{message:?}");
    }
    let recovered = || is_in_state(&delivery, "home", ReceiverState::Working);
    wait_for("recovery", recovered);
    delivery.stop();
}

/// The broker restarts while events flow.
#[test]
fn restart_in_flow_loses_no_event() {
    let sessions = Sessions::new();
    let mut broker = Mosquitto::start_with(PERSISTENT);
    let ids = ["door", "hall"].map(|stream| sessions.create(stream));
    drop(broker.subscribe_durably());
    let delivery = sessions.deliver(&broker.toml("home"));
    for round in 0..3 {
        for number in 0..30 {
            for id in ids {
                sessions.see(id, round, &[&format!("p{round}-{number}")]);
            }
        }
        broker.terminate();
        broker.restart();
    }
    let expected = sessions.numbers();
    let subscriber = broker.subscribe_durably();
    wait_for("all events", || {
        numbers_of(&events(&subscriber)) == expected
    });
    delivery.stop();
}

#[test]
fn broker_is_reached_by_tls_and_password() {
    let sessions = Sessions::new();
    let folder = tempfile::tempdir().unwrap();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    for (name, text) in [
        ("cert.pem", cert.pem()),
        ("key.pem", signing_key.serialize_pem()),
        ("users", "rostro:p4ssw0rd\n".to_owned()),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let hashed = std::process::Command::new("/usr/bin/mosquitto_passwd")
        .arg("-U")
        .arg(folder.path().join("users"))
        .status();
    assert!(hashed.unwrap().success());
    fs::write(sessions.path().join("ca.pem"), cert.pem()).unwrap();
    fs::write(sessions.path().join("good"), "p4ssw0rd\n").unwrap();
    fs::write(sessions.path().join("bad"), "guessed\n").unwrap();
    let broker = Mosquitto::start_in(
        folder,
        "allow_anonymous false\npassword_file FOLDER/users\ncertfile FOLDER/cert.pem\n\
         keyfile FOLDER/key.pem\n",
    );
    let toml = |password: &str| {
        format!(
            "[[mqtt]]\nname = \"home\"\nurl = \"mqtts://localhost:{}\"\nca_file = \"ca.pem\"\n\
             username = \"rostro\"\npassword_file = \"{password}\"\n",
            broker.port
        )
    };
    sessions.create("door");
    let delivery = sessions.deliver(&toml("bad"));
    wait_for("refusal", || {
        is_in_state(&delivery, "home", ReceiverState::Failing)
    });
    let error = status(&delivery, "home").last_error.unwrap();
    assert!(
        error.contains("refused") && !error.contains("guessed"),
        "{error}"
    );
    delivery.stop();
    let delivery = sessions.deliver(&toml("good"));
    wait_for("event", || status(&delivery, "home").delivered == 1);
    delivery.stop();
}

#[test]
fn unreachable_broker_stops_promptly() {
    let sessions = Sessions::new();
    sessions.create("door");
    let mut broker = Mosquitto::start();
    broker.kill();
    let delivery = sessions.deliver(&broker.toml("home"));
    wait_for("failure", || {
        is_in_state(&delivery, "home", ReceiverState::Failing)
    });
    let start = Instant::now();
    delivery.stop();
    assert!(start.elapsed() < Duration::from_secs(2));
}
