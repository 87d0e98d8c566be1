//! Tests of webhooks with receivers that fail.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;

use super::http_receiver::HttpReceiver;
use super::*;

/// Every event arrives, in the order of its session, also across restarts.
#[test]
fn half_failing_receiver_gets_all() {
    let mut sessions = Sessions::new();
    let ids = ["door", "hall", "yard"].map(|stream| sessions.create(stream));
    let receiver = HttpReceiver::start(|number, _| match number % 2 {
        0 => (500, ""),
        _ => (200, ""),
    });
    for round in 0..3 {
        let delivery = sessions.deliver(&receiver.toml("desk"));
        for id in ids {
            for person in 0..10 {
                sessions.see(id, round, &[&format!("p{round}-{person}")]);
            }
        }
        if round < 2 {
            // In the middle.
            delivery.stop();
            sessions.restart();
            continue;
        }
        for id in ids {
            sessions.store.end(id, at(100)).unwrap();
        }
        let expected = sessions.numbers();
        wait_for("all events", || {
            numbers_of(&receiver.accepted()) == expected
        });
        let done = || is_in_state(&delivery, "desk", ReceiverState::Working);
        wait_for("recovery", done);
        let status = status(&delivery, "desk");
        assert!(
            status.failed_attempts > 10 && status.delivered > 10,
            "{status:?}"
        );
        assert_eq!(status.waiting, 0);
        assert!(status.last_error.unwrap().contains("answered 500"));
        delivery.stop();
    }
    let request = &receiver.requests()[0];
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(request.body["group"], "maths");
}

#[test]
fn gone_receiver_is_disabled() {
    let sessions = Sessions::new();
    let id = sessions.create("door");
    let receiver = HttpReceiver::start(|_, _| (410, ""));
    let delivery = sessions.deliver(&receiver.toml("desk"));
    wait_for("410", || {
        is_in_state(&delivery, "desk", ReceiverState::Disabled)
    });
    sessions.see(id, 1, &["a"]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(receiver.requests().len(), 1);
    delivery.stop();
    // It is asked again after a restart.
    let delivery = sessions.deliver(&receiver.toml("desk"));
    wait_for("second request", || receiver.requests().len() == 2);
    delivery.stop();
}

#[test]
fn redirect_is_not_followed() {
    let sessions = Sessions::new();
    sessions.create("door");
    let receiver = HttpReceiver::start(|number, _| match number {
        0 => (307, "location: /hook\r\n"),
        _ => (302, "location: /hook\r\n"),
    });
    let delivery = sessions.deliver(&receiver.toml("desk"));
    wait_for("retries", || receiver.requests().len() > 3);
    let status = status(&delivery, "desk");
    assert_eq!(
        (status.delivered, status.state),
        (0, ReceiverState::Failing)
    );
    assert!(
        status
            .last_error
            .unwrap()
            .contains("redirects are not followed")
    );
    delivery.stop();
    assert!(receiver.accepted().is_empty());
}

#[test]
fn slow_receiver_delays_no_other() {
    let sessions = Sessions::new();
    let id = sessions.create("door");
    let slow = HttpReceiver::start(|_, _| {
        std::thread::sleep(Duration::from_millis(1500));
        (200, "")
    });
    let quick = HttpReceiver::start(|_, _| (200, ""));
    let toml = slow.toml("slow") + &quick.toml("quick");
    let delivery = sessions.deliver(&toml);
    let names: Vec<String> = (0..30).map(|number| format!("p{number}")).collect();
    for name in &names {
        sessions.see(id, 1, &[name]);
    }
    wait_for("quick receiver", || quick.accepted().len() == 31);
    wait_for("timeout", || status(&delivery, "slow").failed_attempts > 0);
    let slow_status = status(&delivery, "slow");
    assert_eq!(slow_status.delivered, 0);
    assert!(
        slow_status
            .last_error
            .unwrap()
            .contains("did not answer in time")
    );
    let start = Instant::now();
    delivery.stop();
    // The request in flight lasts a second at most.
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn refused_event_keeps_session_order() {
    let sessions = Sessions::new();
    let [bad, good] = ["bad", "good"].map(|stream| sessions.create(stream));
    let is_fixed = Arc::new(AtomicBool::new(false));
    let fixed = Arc::clone(&is_fixed);
    let receiver = HttpReceiver::start(move |_, body| {
        match body["kind"] == "arrived" && body["stream"] == "bad" && !fixed.load(Ordering::Relaxed)
        {
            true => (400, ""),
            false => (200, ""),
        }
    });
    let delivery = sessions.deliver(&receiver.toml("desk"));
    sessions.see(bad, 1, &["a", "b"]);
    sessions.see(good, 1, &["a", "b"]);
    wait_for("other session", || {
        numbers_of(&receiver.accepted()).get(&good.to_string()) == Some(&vec![1, 2, 3])
    });
    assert_eq!(numbers_of(&receiver.accepted())[&bad.to_string()], [1]);
    is_fixed.store(true, Ordering::Relaxed);
    let expected = sessions.numbers();
    wait_for("all events", || {
        numbers_of(&receiver.accepted()) == expected
    });
    delivery.stop();
}

/// Retries after the deletion have no event of the person.
#[test]
fn deleted_person_is_not_sent() {
    let sessions = Sessions::new();
    let id = sessions.create("door");
    let code = Arc::new(AtomicU16::new(503));
    let answer = Arc::clone(&code);
    let receiver = HttpReceiver::start(move |_, _| (answer.load(Ordering::Relaxed), ""));
    let delivery = sessions.deliver(&receiver.toml("desk"));
    sessions.see(id, 1, &["s6", "b", "s6"]);
    wait_for("attempts", || receiver.requests().len() > 3);
    sessions.remove("s6");
    // A request in flight may still have the event.
    std::thread::sleep(Duration::from_millis(200));
    let before = receiver.requests().len();
    code.store(200, Ordering::Relaxed);
    let expected = sessions.numbers();
    wait_for("all events", || {
        numbers_of(&receiver.accepted()) == expected
    });
    let after = receiver.requests();
    let is_named = |body: &Value| body.to_string().contains("\"s6\"");
    assert!(
        !after[before..]
            .iter()
            .any(|request| is_named(&request.body))
    );
    delivery.stop();
    let folder = sessions.path().join(crate::DELIVERIES);
    for entry in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!text.contains("s6"), "{text}");
    }
}

#[test]
fn stop_interrupts_long_pause() {
    let sessions = Sessions::new();
    sessions.create("door");
    // An hour, of which five minutes are honoured.
    let receiver = HttpReceiver::start(|_, _| (503, "retry-after: 3600\r\n"));
    let file = sessions.path().join("receivers.toml");
    fs::write(&file, receiver.toml("desk")).unwrap();
    let receivers = Receivers::read(&file).unwrap();
    let store = Arc::clone(&sessions.store);
    let delivery = Delivery::start(receivers, store, sessions.path()).unwrap();
    wait_for("answer", || status(&delivery, "desk").failed_attempts == 1);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(receiver.requests().len(), 1);
    let start = Instant::now();
    delivery.stop();
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn unreachable_receiver_is_reported() {
    let sessions = Sessions::new();
    sessions.create("door");
    let toml = HttpReceiver::start(|_, _| (200, "")).toml("desk");
    let toml = toml.replace("/hook", "/hook-with-secret");
    let delivery = sessions.deliver(&toml);
    wait_for("failure", || {
        is_in_state(&delivery, "desk", ReceiverState::Failing)
    });
    let error = status(&delivery, "desk").last_error.unwrap();
    assert!(
        error.starts_with("cannot reach http://127.0.0.1:"),
        "{error}"
    );
    assert!(!error.contains("secret"), "{error}");
    let start = Instant::now();
    delivery.stop();
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn certificate_is_checked() {
    let sessions = Sessions::new();
    sessions.create("door");
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], signing_key.into())
        .unwrap();
    let receiver = HttpReceiver::start_tls(config);
    let other = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(sessions.path().join("other.pem"), other.cert.pem()).unwrap();
    fs::write(sessions.path().join("ca.pem"), cert.pem()).unwrap();
    let toml = |ca: &str| format!("{}ca_file = \"{ca}\"\n", receiver.toml("desk"));
    let delivery = sessions.deliver(&toml("other.pem"));
    wait_for("refusal", || {
        is_in_state(&delivery, "desk", ReceiverState::Failing)
    });
    delivery.stop();
    assert!(receiver.requests().is_empty());
    let delivery = sessions.deliver(&toml("ca.pem"));
    wait_for("event", || receiver.accepted().len() == 1);
    delivery.stop();
}
