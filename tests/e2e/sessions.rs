//! Sessions over HTTP: presence from frames, events, corrections, keys, crashes and deletions.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::http::Method;

use crate::harness::{
    Answer, BOUNDARY, Client, Options, Server, component, drawn, eventually, file, multipart, text,
};
use crate::operator::{again, bytes};

const JSON: (&str, &str) = ("content-type", "application/json");
const CAMERA: (&str, &str) = ("authorization", "Bearer camera-0123456789");
const YARD: (&str, &str) = ("authorization", "Bearer yard-0123456789ab");
const OFFICE: (&str, &str) = ("x-api-key", "office-0123456789abc");
const KEYS: &str = "camera:recognise:camera-0123456789\nyard:recognise:yard-0123456789ab\n\
                    office:enrol,manage,attend:office-0123456789abc\n";

/// Waiting time for an event of a stream.
const EVENT: Duration = Duration::from_secs(20);

/// Number of activations under load.
const SWAPS: usize = 24;

/// A service with a session, and the folders that outlive it.
struct Setup {
    server: Server,
    state: TempDir,
    gallery: TempDir,
    id: String,
}

fn options(gallery: &Path, state: &Path) -> Options {
    Options::drawn().gallery(gallery).state(state)
}

impl Setup {
    /// Enrols people of one group, and creates a session of it.
    fn new(people: &[&str], rule: &Value) -> Self {
        let (gallery, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let server = options(gallery.path(), state.path()).start();
        for person in people {
            let photos = [1, 2, 3].map(|number| drawn(&format!("{person}-{number}.png")));
            server.enroll(person, photos).ok();
            let path = format!("/v1/groups/class/people/{person}");
            server.ask_admin(&Method::PUT, &path, &[], &[]).ok();
        }
        let group = (!people.is_empty()).then_some("class");
        let id = create(&server, &[], group, rule);
        Self {
            server,
            state,
            gallery,
            id,
        }
    }

    /// Starts the service again on the same folders.
    fn restart(&mut self) {
        self.server = options(self.gallery.path(), self.state.path()).start();
    }

    fn frame(&self, picture: &str, query: &str) -> Answer {
        frame(&self.server, &[], &self.id, picture, query)
    }

    fn view(&self) -> Value {
        get(&self.server, &[], &format!("/v1/sessions/{}", self.id)).ok()
    }

    fn events(&self) -> Vec<Value> {
        let path = format!("/v1/sessions/{}/events?limit=1000", self.id);
        let page = get(&self.server, &[], &path).ok();
        page["events"].as_array().unwrap().clone()
    }

    /// Returns kind and person of every event.
    fn story(&self) -> Vec<String> {
        self.events().iter().map(told).collect()
    }
}

pub(crate) fn told(event: &Value) -> String {
    let kind = event["kind"].as_str().unwrap();
    match event["person"].as_str() {
        Some(person) => format!("{kind} {person}"),
        None => kind.to_owned(),
    }
}

fn ask(
    server: &Server,
    method: Method,
    headers: &[(&str, &str)],
    path: &str,
    body: &[u8],
) -> Answer {
    let client = Client::new(&server.url);
    client.send(method, path, headers, body).unwrap()
}

fn get(server: &Server, headers: &[(&str, &str)], path: &str) -> Answer {
    ask(server, Method::GET, headers, path, &[])
}

/// Sends JSON, with a key or none.
fn send(server: &Server, method: Method, key: &[(&str, &str)], path: &str, body: &Value) -> Answer {
    let headers = [key, &[JSON]].concat();
    ask(server, method, &headers, path, body.to_string().as_bytes())
}

pub(crate) fn create(
    server: &Server,
    key: &[(&str, &str)],
    group: Option<&str>,
    rule: &Value,
) -> String {
    let body = json!({ "stream": "room-1", "group": group, "rule": rule });
    let answer = send(server, Method::POST, key, "/v1/sessions", &body);
    assert_eq!(answer.status, 201, "{}", answer.json);
    answer.json["id"].as_str().unwrap().to_owned()
}

fn frame(server: &Server, key: &[(&str, &str)], id: &str, picture: &str, query: &str) -> Answer {
    let headers = [key, &[("content-type", "image/png")]].concat();
    let path = format!("/v1/sessions/{id}/frames?{query}");
    ask(server, Method::POST, &headers, &path, &drawn(picture))
}

/// Returns the ids of a list of a session.
pub(crate) fn ids(view: &Value, list: &str) -> Vec<String> {
    let people = view[list].as_array().unwrap().iter();
    people
        .map(|person| person["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Events of a stream, as they arrive.
pub(crate) fn subscribe(server: &Server, id: &str, last: Option<&str>) -> Receiver<Value> {
    let (sender, events) = mpsc::channel();
    let mut request = ureq::get(format!("{}/v1/sessions/{id}/events", server.url))
        .header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = request.call().unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    std::thread::spawn(move || {
        let reader = BufReader::new(response.into_body().into_reader());
        for line in reader.lines().map_while(Result::ok) {
            if let Some(data) = line.strip_prefix("data: ") {
                let _ = sender.send(serde_json::from_str(data).unwrap());
            }
        }
    });
    events
}

#[test]
fn frames_make_people_present() {
    let setup = Setup::new(
        &["alice", "bob", "carol"],
        &json!({ "seen": 2, "within_s": 60, "late_after": "2026-01-01T08:00:10Z" }),
    );
    let stream = subscribe(&setup.server, &setup.id, None);
    assert_eq!(stream.recv_timeout(EVENT).unwrap()["kind"], "started");
    assert_eq!(ids(&setup.view(), "absent"), ["alice", "bob", "carol"]);
    // Alice in time, Bob once, then late.
    let first = setup
        .frame("alice-probe.png", "seq=1&at=2026-01-01T08:00:00Z")
        .ok();
    assert_eq!(first["recognized_faces"][0]["identity"], "alice");
    assert_eq!(first["session"]["events"], json!([]));
    let view = setup.view();
    assert_eq!(ids(&view, "uncertain"), ["alice"]);
    assert_eq!(view["uncertain"][0]["reasons"], json!(["seen_too_rarely"]));
    let second = setup
        .frame("alice-1.png", "seq=2&at=2026-01-01T08:00:01Z")
        .ok();
    assert_eq!(
        first["recognized_faces"][0]["track"], second["recognized_faces"][0]["track"],
        "the track does not go on"
    );
    assert_eq!(told(&second["session"]["events"][0]), "arrived alice");
    for (number, at) in [(3, "08:00:20"), (4, "08:00:25")] {
        let query = format!("seq={number}&at=2026-01-01T{at}Z");
        setup.frame("bob-probe.png", &query).ok();
    }
    let view = setup.view();
    assert_eq!(ids(&view, "present"), ["alice", "bob"]);
    assert_eq!(ids(&view, "absent"), ["carol"]);
    let [alice, bob] = [0, 1].map(|index| view["present"][index].clone());
    assert_eq!(
        (
            &alice["status"],
            &alice["first_seen"],
            &alice["last_seen"],
            &alice["times_seen"]
        ),
        (
            &json!("present"),
            &json!("2026-01-01T08:00:00Z"),
            &json!("2026-01-01T08:00:01Z"),
            &json!(2)
        )
    );
    assert!(alice["best_similarity"].as_f64().unwrap() > 0.5, "{alice}");
    assert_eq!(bob["status"], "late");
    // The stream had every event, and goes on after the last one that a client names.
    let told_by_stream: Vec<Value> = (0..2)
        .map(|_| stream.recv_timeout(EVENT).unwrap())
        .collect();
    assert_eq!(told_by_stream, setup.events()[1..]);
    let last = told_by_stream[0]["id"].as_str().unwrap();
    let resumed = subscribe(&setup.server, &setup.id, Some(last));
    assert_eq!(told(&resumed.recv_timeout(EVENT).unwrap()), "late bob");
    let ended = ask(
        &setup.server,
        Method::DELETE,
        &[],
        &format!("/v1/sessions/{}", setup.id),
        &[],
    );
    assert!(ended.ok()["ended"].is_string());
    assert_eq!(told(&resumed.recv_timeout(EVENT).unwrap()), "ended");
    setup
        .frame("alice-1.png", "seq=9")
        .error(410, "session_ended");
    assert_eq!(ids(&setup.view(), "present"), ["alice", "bob"]);
}

#[test]
fn unordered_or_invalid_frames_are_refused() {
    let setup = Setup::new(&["alice"], &json!({ "seen": 1 }));
    setup
        .frame("alice-1.png", "seq=5&at=2026-01-01T08:00:00Z")
        .ok();
    for query in [
        "seq=5&at=2026-01-01T08:00:01Z",
        "seq=4&at=2026-01-01T08:00:01Z",
        "seq=6&at=2026-01-01T07:59:59Z",
    ] {
        let answer = setup.frame("alice-1.png", query);
        answer.error(409, "out_of_order");
        assert_eq!(answer.json["details"]["last_frame"]["seq"], 5);
    }
    // Without a number the time counts, and without a time that of the arrival.
    setup.frame("alice-1.png", "at=2026-01-01T08:00:01Z").ok();
    setup.frame("alice-1.png", "").ok();
    for (query, code) in [
        ("seq=x", "invalid_option"),
        ("at=tomorrow", "invalid_option"),
        ("at=2999-01-01T00:00:00Z", "invalid_option"),
        ("at=1969-12-31T23:59:59Z", "invalid_option"),
        ("closeness=near", "invalid_option"),
        ("group=class", "invalid_query"),
    ] {
        setup.frame("alice-1.png", query).error(400, code);
    }
    let broken = ask(
        &setup.server,
        Method::POST,
        &[("content-type", "image/png")],
        &format!("/v1/sessions/{}/frames", setup.id),
        b"broken",
    );
    broken.error(400, "undecodable_image");
    assert_eq!(setup.view()["present"][0]["times_seen"], 3);
    let unknown = "3f2b8c1e-9a47-4d7e-8b55-0c9d1e2f3a4b";
    for id in [unknown, "x", "..%2Fx"] {
        frame(&setup.server, &[], id, "alice-1.png", "").error(404, "unknown_session");
    }
    // A group that is deleted meanwhile.
    let path = "/v1/groups/class";
    setup.server.ask_admin(&Method::DELETE, path, &[], &[]).ok();
    setup.frame("alice-1.png", "").error(404, "unknown_group");
    assert_eq!(ids(&setup.view(), "present"), ["alice"]);
}

#[test]
fn invalid_sessions_are_refused() {
    let server = Options::drawn().arg("--max-sessions", "2").start();
    let refused = |body: &Value, status, code| {
        send(&server, Method::POST, &[], "/v1/sessions", body).error(status, code)
    };
    for (body, part) in [
        (json!({}), "missing field `stream`"),
        (json!({ "stream": "a b" }), "letters and digits of ASCII"),
        (
            json!({ "stream": "a", "rules": {} }),
            "unknown field `rules`",
        ),
        (
            json!({ "stream": "a", "rule": { "seen": 0 } }),
            "1 to 1000 are allowed",
        ),
        (
            json!({ "stream": "a", "rule": { "late_after": "8:00" } }),
            "late_after",
        ),
    ] {
        let message = refused(&body, 400, "invalid_body");
        assert!(message.contains(part), "{message}");
    }
    refused(
        &json!({ "stream": "a", "group": "none" }),
        404,
        "unknown_group",
    );
    let plain = server.post("/v1/sessions", Some("text/plain"), b"{}");
    plain.error(415, "unsupported_content_type");
    let large = json!({ "stream": "x".repeat(70 << 10) });
    refused(&large, 413, "body_too_large");
    let session = json!({ "stream": "a" });
    let first = send(&server, Method::POST, &[], "/v1/sessions", &session).json;
    send(&server, Method::POST, &[], "/v1/sessions", &session);
    refused(&session, 409, "too_many_sessions");
    // An ended one makes room. The list has both, and the latest first.
    let path = format!("/v1/sessions/{}", first["id"].as_str().unwrap());
    ask(&server, Method::DELETE, &[], &path, &[]).ok();
    send(&server, Method::POST, &[], "/v1/sessions", &session);
    let list = |query: &str| get(&server, &[], &format!("/v1/sessions?{query}")).ok();
    let page = list("limit=2");
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = list(&format!("cursor={cursor}"));
    assert_eq!(
        (
            page["sessions"].as_array().unwrap().len(),
            &rest["sessions"][0]["id"]
        ),
        (2, &first["id"])
    );
    assert_eq!(list("open=false")["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(list("stream=b")["sessions"], json!([]));
}

#[test]
fn keys_bind_sessions() {
    let folder = TempDir::new().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, KEYS).unwrap();
    let server = Options::drawn().arg("--api-keys", &keys).start();
    let form = multipart(&[
        text("student_id", "alice"),
        file("images", "a.png", drawn("alice-1.png")),
    ]);
    let boundary = format!("multipart/form-data; boundary={}", BOUNDARY);
    server
        .post_with(
            "/process-images",
            &[OFFICE, ("content-type", &boundary)],
            &form,
        )
        .ok();
    let path = "/v1/groups/class/people/alice";
    ask(&server, Method::PUT, &[OFFICE], path, &[]).ok();
    let id = create(&server, &[CAMERA], Some("class"), &json!({ "seen": 1 }));
    let path = format!("/v1/sessions/{id}");
    let read = |key: &[(&str, &str)], rest: &str| get(&server, key, &format!("{path}{rest}"));
    // The key that made it feeds it, and the scope `attend` reads and corrects.
    frame(&server, &[CAMERA], &id, "alice-1.png", "").ok();
    frame(&server, &[YARD], &id, "alice-1.png", "").error(403, "session_of_other_key");
    frame(&server, &[OFFICE], &id, "alice-1.png", "").error(403, "scope_missing");
    frame(&server, &[], &id, "alice-1.png", "").error(401, "unauthorized");
    for rest in ["", "/events", "/attendance.csv"] {
        read(&[CAMERA], rest).error(403, "scope_missing");
        assert_eq!(read(&[OFFICE], rest).status, 200);
    }
    let correct =
        |key: &[(&str, &str)], body: &Value| send(&server, Method::PATCH, key, &path, body);
    let absent = json!({ "person": "alice", "status": "absent" });
    correct(&[CAMERA], &absent).error(403, "scope_missing");
    let event = correct(&[OFFICE], &absent).ok()["events"][0].clone();
    assert_eq!(
        (told(&event), &event["by"]),
        ("corrected alice".to_owned(), &json!("office"))
    );
    assert_eq!(ids(&read(&[OFFICE], "").ok(), "absent"), ["alice"]);
    let csv = read(&[OFFICE], "/attendance.csv");
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    let csv = csv.json.as_str().unwrap().to_owned();
    assert!(
        csv.contains("\nalice,absent,") && csv.trim_end().ends_with(",office"),
        "{csv}"
    );
    correct(&[OFFICE], &json!({ "person": "alice", "status": null })).ok();
    assert_eq!(ids(&read(&[OFFICE], "").ok(), "present"), ["alice"]);
    for (body, status, code) in [
        (
            json!({ "person": "bob", "status": "late" }),
            404,
            "unknown_person",
        ),
        (
            json!({ "person": "../x", "status": "late" }),
            400,
            "invalid_id",
        ),
        (json!({ "person": "alice" }), 400, "invalid_body"),
        (
            json!({ "person": "alice", "status": "ill" }),
            400,
            "invalid_body",
        ),
    ] {
        correct(&[OFFICE], &body).error(status, code);
    }
    // Who made it may end it, and `attend` may end and delete any.
    let end = |key: &[(&str, &str)], query: &str| {
        ask(&server, Method::DELETE, key, &format!("{path}{query}"), &[])
    };
    end(&[YARD], "").error(403, "session_of_other_key");
    end(&[CAMERA], "?delete=true").error(403, "scope_missing");
    let ended = end(&[CAMERA], "").ok();
    assert!(
        ended["ended"].is_string() && !ended.to_string().contains("alice"),
        "{ended}"
    );
    end(&[OFFICE], "?delete=true").ok();
    read(&[OFFICE], "").error(404, "unknown_session");
}

/// What was answered survives a kill, and counts survive an orderly stop.
#[test]
fn kill_keeps_answered_events() {
    let mut setup = Setup::new(&["alice", "bob"], &json!({ "seen": 1 }));
    setup
        .frame("alice-1.png", "seq=1&at=2026-01-01T08:00:00Z")
        .ok();
    // Long enough for the track of the face in the same place to end.
    setup
        .frame("bob-1.png", "seq=2&at=2026-01-01T08:00:30Z")
        .ok();
    let before = setup.events();
    assert_eq!(setup.story(), ["started", "arrived alice", "arrived bob"]);
    setup.server.kill();
    setup.restart();
    assert_eq!(setup.events(), before);
    setup.frame("bob-1.png", "seq=2").error(409, "out_of_order");
    for seq in 3..6 {
        setup.frame("bob-1.png", &format!("seq={seq}")).ok();
    }
    assert_eq!(setup.server.terminate(), Some(0));
    setup.restart();
    assert_eq!(setup.view()["present"][1]["times_seen"], 4);
    assert_eq!(setup.events(), before);
}

/// After a deletion no file of the service has the person, also if a kill interrupted it.
#[test]
fn deleted_person_leaves_sessions() {
    let mut setup = Setup::new(&["alice", "bob"], &json!({ "seen": 1 }));
    let stream = subscribe(&setup.server, &setup.id, None);
    setup.frame("alice-1.png", "at=2026-01-01T08:00:00Z").ok();
    setup.frame("bob-1.png", "at=2026-01-01T08:00:30Z").ok();
    let delete = |setup: &Setup, person: &str| {
        let path = format!("/v1/people/{person}");
        setup.server.ask_admin(&Method::DELETE, &path, &[], &[])
    };
    delete(&setup, "alice").ok();
    let has = |setup: &Setup, person: &str| -> Vec<String> {
        let folders = [setup.state.path(), setup.gallery.path()];
        let mut found = Vec::new();
        for file in folders.iter().flat_map(|folder| files(folder)) {
            let name = file.to_string_lossy().into_owned();
            let content = std::fs::read(&file).unwrap();
            let is_there = content
                .windows(person.len())
                .any(|part| part == person.as_bytes());
            if is_there || name.contains(person) {
                found.push(name);
            }
        }
        found
    };
    assert_eq!(has(&setup, "alice"), [""; 0]);
    assert_eq!(setup.story(), ["started", "arrived bob", "person_removed"]);
    assert!(!setup.view().to_string().contains("alice"));
    let kinds: Vec<String> = (0..4)
        .map(|_| told(&stream.recv_timeout(EVENT).unwrap()))
        .collect();
    assert_eq!(
        kinds,
        ["started", "arrived alice", "arrived bob", "person_removed"]
    );
    // A kill between the gallery and the sessions: the next start finishes the deletion.
    let journal = setup
        .state
        .path()
        .join(format!("sessions/{}.jsonl", setup.id));
    let with_bob = std::fs::read(&journal).unwrap();
    delete(&setup, "bob").ok();
    setup.server.kill();
    std::fs::write(&journal, with_bob).unwrap();
    setup.restart();
    assert_eq!(has(&setup, "bob"), [""; 0]);
    assert_eq!(
        setup.story(),
        ["started", "person_removed", "person_removed"]
    );
}

/// Returns every file below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![path],
        })
        .collect()
}

/// A stream of events does not delay the stop.
#[test]
fn stop_ends_event_streams() {
    let mut setup = Setup::new(&[], &json!({}));
    let stream = subscribe(&setup.server, &setup.id, None);
    assert_eq!(stream.recv_timeout(EVENT).unwrap()["kind"], "started");
    let begun = std::time::Instant::now();
    assert_eq!(setup.server.terminate(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    eventually("the end of the stream", || {
        matches!(stream.try_recv(), Err(mpsc::TryRecvError::Disconnected))
    });
}

/// Feeds a session and corrects its attendance until the flag is set. Returns the ids of the events
/// that were answered, in their order.
fn feed(url: &str, id: &str, is_over: &AtomicBool) -> Vec<String> {
    let client = Client::new(url);
    let mut answered = Vec::new();
    let pictures = ["alice-probe.png", "bob-probe.png", "group.png"].map(drawn);
    for (seq, picture) in (1..).zip(pictures.iter().cycle()) {
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        let path = format!("/v1/sessions/{id}/frames?seq={seq}");
        let image = [("content-type", "image/png")];
        let answer = client.send(Method::POST, &path, &image, picture).unwrap();
        let events = answer.ok()["session"]["events"].clone();
        let status = ["present", "late", "absent"][seq % 3];
        let body = json!({ "person": "alice", "status": status }).to_string();
        let path = format!("/v1/sessions/{id}");
        let corrected = client.send(Method::PATCH, &path, &[JSON], body.as_bytes());
        let corrected = corrected.unwrap().ok()["events"].clone();
        for event in [events, corrected]
            .iter()
            .flat_map(|list| list.as_array().unwrap())
        {
            answered.push(event["id"].as_str().unwrap().to_owned());
        }
    }
    answered
}

/// Revisions swap under sessions with frames: no event is lost, none comes twice.
#[test]
fn swaps_lose_no_event() {
    let setup = Setup::new(&["alice", "bob"], &json!({ "seen": 1 }));
    let server = &setup.server;
    let first = server.active();
    let second = server.staged(&again(&bytes(component("insightface")), 1), "");
    let sessions: Vec<String> = (0..4)
        .map(|_| create(server, &[], None, &json!({ "seen": 1 })))
        .collect();
    let streams: Vec<_> = sessions
        .iter()
        .map(|id| subscribe(server, id, None))
        .collect();
    let is_over = AtomicBool::new(false);
    let answered: Vec<Vec<String>> = std::thread::scope(|scope| {
        let feeds: Vec<_> = sessions
            .iter()
            .map(|id| scope.spawn(|| feed(&server.url, id, &is_over)))
            .collect();
        for id in [&second, &first].into_iter().cycle().take(SWAPS) {
            std::thread::sleep(Duration::from_millis(300));
            server.activate(id);
        }
        is_over.store(true, Ordering::SeqCst);
        feeds.into_iter().map(|feed| feed.join().unwrap()).collect()
    });
    for ((id, answered), stream) in sessions.iter().zip(answered).zip(streams) {
        assert!(answered.len() > SWAPS, "{} events", answered.len());
        let path = format!("/v1/sessions/{id}/events?after=1&limit=1000");
        let page = get(server, &[], &path).ok();
        let ids = |event: &Value| event["id"].as_str().unwrap().to_owned();
        let stored: Vec<String> = page["events"].as_array().unwrap().iter().map(ids).collect();
        assert_eq!(stored, answered);
        let streamed: Vec<String> = (0..=answered.len())
            .map(|_| ids(&stream.recv_timeout(EVENT).unwrap()))
            .skip(1)
            .collect();
        assert_eq!(streamed, answered);
        assert!(stream.try_recv().is_err());
    }
}
