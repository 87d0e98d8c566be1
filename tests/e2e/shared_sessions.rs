//! Sessions of nodes that share a database: redirects, takeovers, deletions and deliveries.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::http::{Method, Request};

use crate::cameras::free_port;
use crate::database::{enroll, migrated, on};
use crate::harness::{
    Answer, Client, Server, drawn, eventually, holds_within, output_of, root, rostro,
};
use crate::postgres::OwnDatabase;
use crate::presence::{Receiver, SECRET};
use crate::proxies::Nginx;
use crate::sessions::{create, ids, subscribe, told};

/// Longest time for a takeover: a lease of one second, its margin, and the next frames.
const TAKEOVER: Duration = Duration::from_secs(10);

/// Starts a node that callers reach at its own address.
fn node(database: &OwnDatabase, name: &str, args: &[(&str, &str)]) -> Server {
    let listen = format!("127.0.0.1:{}", free_port());
    let options = on(database)
        .arg("--node", name)
        .arg("--lease", "1")
        .arg("--listen", &listen)
        .arg("--advertise", format!("http://{listen}"));
    args.iter()
        .fold(options, |options, (flag, value)| options.arg(flag, value))
        .start()
}

/// Sends a request, and follows no redirect.
fn ask(server: &Server, method: Method, path: &str, body: &[u8]) -> Answer {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false);
    let agent: ureq::Agent = config.build().into();
    let request = Request::builder()
        .method(method)
        .uri(format!("{}{path}", server.url))
        .header("content-type", "image/png")
        .body(body)
        .unwrap();
    let mut response = agent.run(request).unwrap();
    let text = response.body_mut().read_to_string().unwrap();
    Answer {
        status: response.status().as_u16(),
        json: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        headers: response.headers().clone(),
    }
}

fn frame(server: &Server, id: &str, picture: &str, second: u32) -> Answer {
    let at = format!("2026-01-01T08:{:02}:{:02}Z", second / 60, second % 60);
    let path = format!("/v1/sessions/{id}/frames?seq={second}&at={at}");
    ask(server, Method::POST, &path, &drawn(picture))
}

fn get(server: &Server, path: &str) -> Answer {
    ask(server, Method::GET, path, &[])
}

fn events(server: &Server, id: &str) -> Vec<Value> {
    let page = get(server, &format!("/v1/sessions/{id}/events?limit=1000")).ok();
    page["events"].as_array().unwrap().clone()
}

fn story(server: &Server, id: &str) -> Vec<String> {
    events(server, id).iter().map(told).collect()
}

fn rule() -> Value {
    json!({ "seen": 1, "within_s": 60 })
}

#[test]
fn other_node_redirects_to_owner() {
    let database = migrated();
    let one = node(&database, "one", &[]);
    enroll(&one, "alice");
    let two = node(&database, "two", &[]);
    let id = create(&one, &[], None, &rule());
    let path = format!("/v1/sessions/{id}");
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::GET, format!("{path}/events?after=0&limit=5")),
        (Method::GET, format!("{path}/attendance.csv")),
        (Method::DELETE, path.clone()),
    ] {
        let answer = ask(&two, method, &path, &[]);
        answer.error(307, "session_elsewhere");
        assert_eq!(answer.headers["location"], format!("{}{path}", one.url));
        assert_eq!(answer.json["details"]["node"], "one");
    }
    let redirect = frame(&two, &id, "alice-probe.png", 1);
    redirect.error(307, "session_elsewhere");
    let location = redirect.headers["location"].to_str().unwrap();
    assert!(
        location.starts_with(&one.url) && location.ends_with("Z"),
        "{location}"
    );
    frame(&one, &id, "alice-probe.png", 1).ok();
    let listed = get(&two, "/v1/sessions").ok();
    assert_eq!(listed["sessions"][0]["id"], id.as_str());
    assert_eq!(listed["sessions"][0]["last_event"], 2);
    // The camera client follows.
    let folder = TempDir::new().unwrap();
    let picture = folder.path().join("alice.png");
    std::fs::write(&picture, drawn("alice-1.png")).unwrap();
    let watched = output_of(rostro().arg("watch").arg(&picture).args([
        "--server",
        &two.url,
        "--session",
        &id,
        "--json",
    ]));
    assert!(watched.contains("\"identity\":\"alice\""), "{watched}");
    let view = get(&one, &format!("/v1/sessions/{id}")).ok();
    assert_eq!(view["present"][0]["times_seen"], 2);
}

/// Every answered event is kept, and the next node counts on. The callers' streams begin anew.
#[test]
fn killed_node_hands_its_sessions_over() {
    let database = migrated();
    let mut one = node(&database, "one", &[]);
    for person in ["alice", "bob"] {
        enroll(&one, person);
    }
    let two = node(&database, "two", &[]);
    let id = create(&one, &[], None, &rule());
    frame(&one, &id, "alice-probe.png", 1).ok();
    let before = events(&one, &id);
    one.kill();
    let mut second = 1;
    let taken = holds_within(TAKEOVER, || {
        second += 1;
        let answer = frame(&two, &id, "bob-probe.png", second);
        std::thread::sleep(Duration::from_millis(50));
        // Until its lease ends, the killed node is the owner.
        assert!(matches!(answer.status, 200 | 307 | 503), "{}", answer.json);
        answer.status == 200
    });
    assert!(taken, "the other node did not take the session over");
    let after = events(&two, &id);
    assert_eq!(after[..before.len()], before);
    assert_eq!(
        story(&two, &id),
        ["started", "arrived alice", "arrived bob"]
    );
    let stream = subscribe(&two, &id, before[1]["id"].as_str());
    let event = stream.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(told(&event), "arrived bob");
    // The node that returns is not the owner any more.
    let again = node(&database, "one", &[]);
    frame(&again, &id, "bob-probe.png", 3000).error(307, "session_elsewhere");
}

/// Also from the sessions of nodes that died.
#[test]
fn deletion_reaches_sessions_of_all_nodes() {
    let database = migrated();
    let (mut one, two) = (node(&database, "one", &[]), node(&database, "two", &[]));
    for person in ["alice", "bob"] {
        enroll(&one, person);
    }
    let sessions = [&one, &two].map(|server| {
        let id = create(server, &[], None, &rule());
        frame(server, &id, "alice-probe.png", 1).ok();
        frame(server, &id, "bob-probe.png", 2).ok();
        id
    });
    one.kill();
    two.ask_admin(&Method::DELETE, "/v1/people/alice", &[], &[])
        .ok();
    let tables = ["session", "session_person", "session_event"];
    let rows = tables.map(|table| database.query(&format!("SELECT * FROM rostro.{table}")));
    assert!(!rows.concat().contains("alice"), "{rows:?}");
    for id in &sessions {
        let view = get(&two, &format!("/v1/sessions/{id}")).ok();
        assert_eq!(ids(&view, "present"), ["bob"]);
        assert!(!story(&two, id).contains(&"arrived alice".to_owned()));
    }
}

/// Both nodes have the receivers, and one of them delivers: each event at least once, in order.
#[test]
fn deliveries_outlive_their_node() {
    let database = migrated();
    let receiver = Receiver::start();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("webhooks.toml");
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    let text = format!(
        "[[webhook]]\nname = \"sis\"\nurl = \"{}\"\nsecret_file = \"secret\"\n",
        receiver.url
    );
    std::fs::write(&file, text).unwrap();
    let webhooks = [("--webhooks", file.to_str().unwrap())];
    let mut one = node(&database, "one", &webhooks);
    for person in ["alice", "bob", "carol"] {
        enroll(&one, person);
    }
    one.wait_for_log("this node delivers the events of sessions");
    let two = node(&database, "two", &webhooks);
    let sessions = [
        create(&one, &[], None, &rule()),
        create(&two, &[], None, &rule()),
    ];
    for (server, id) in [&one, &two].into_iter().zip(&sessions) {
        frame(server, id, "alice-probe.png", 1).ok();
        frame(server, id, "bob-probe.png", 2).ok();
    }
    // Numbers by session, in the order of their first arrival.
    let received = || -> BTreeMap<String, Vec<u64>> {
        let mut numbers: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for event in receiver.received() {
            let (session, number) = event["id"].as_str().unwrap().rsplit_once('-').unwrap();
            let own = numbers.entry(session.to_owned()).or_default();
            let number = number.parse().unwrap();
            if !own.contains(&number) {
                own.push(number);
            }
        }
        numbers
    };
    let has_all = |count: u64| {
        let (received, expected) = (received(), (1..=count).collect());
        sessions
            .iter()
            .all(|id| received.get(id) == Some(&expected))
    };
    eventually("the events of both nodes", || has_all(3));
    frame(&one, &sessions[0], "carol-probe.png", 3).ok();
    one.kill();
    frame(&two, &sessions[1], "carol-probe.png", 3).ok();
    two.wait_for_log("this node delivers the events of sessions");
    eventually("the events that waited", || has_all(4));
}

/// The documented nginx follows the redirect, so that callers need not reach the nodes.
#[test]
fn documented_proxy_follows_redirects() {
    let database = migrated();
    let one = node(&database, "one", &[]);
    enroll(&one, "alice");
    let two = node(&database, "two", &[]);
    let documented = std::fs::read_to_string(root().join("docs/deploy/nginx-fleet.conf")).unwrap();
    let http = documented.split_once("http {").unwrap().1;
    let http = http.rsplit_once('}').unwrap().0.to_owned();
    let is_kept = |line: &&str| !line.contains("_temp_path") && !line.contains("access_log");
    let address = |server: &Server| server.url.replace("http://", "");
    let nginx = Nginx::start(|port, _| {
        let lines: Vec<&str> = http.lines().filter(is_kept).collect();
        lines
            .join("\n")
            .replace("172.30.4.11:4000", &address(&one))
            .replace("172.30.4.12:4000", &address(&two))
            .replace(
                "        server 172.30.4.13:4000 max_fails=1 fail_timeout=2s;\n",
                "",
            )
            .replace("listen 8080", &format!("listen 127.0.0.1:{port}"))
    });
    let ask = |method: Method, path: &str, body: &[u8]| {
        let client = Client::new(&nginx.origin());
        let headers = [("content-type", "image/png")];
        client.send(method, path, &headers, body).unwrap()
    };
    for server in [&one, &two] {
        let id = create(server, &[], None, &rule());
        // Both nodes are asked in turns.
        for seq in 1..=6 {
            let path = format!("/v1/sessions/{id}/frames?seq={seq}");
            let answer = ask(Method::POST, &path, &drawn("alice-probe.png")).ok();
            assert_eq!(answer["recognized_faces"][0]["identity"], "alice");
        }
        let view = ask(Method::GET, &format!("/v1/sessions/{id}"), &[]).ok();
        assert_eq!(view["present"][0]["times_seen"], 6);
    }
}
