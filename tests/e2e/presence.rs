//! A lesson from the camera to the receivers: RTSP, `rostro watch`, a session, server-sent events, a
//! webhook and MQTT.
//!
//! Thirty people with photos are enrolled. Three stay away, two come late, and one leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageFormat, RgbImage};
use jiff::{SignedDuration, Timestamp};
use rumqttc::{Client as MqttClient, Event, MqttOptions, Packet, QoS};
use serde_json::{Value, json};
use ureq::http::Method;

use crate::cameras::{Camera, Running, Watch, free_port};
use crate::harness::{Client, Options, Server, holds_within, output_of, shared};

const JSON: (&str, &str) = ("content-type", "application/json");

/// Secret of the webhook.
pub(crate) const SECRET: &str = "a secret of more than twenty characters";

/// Columns and rows of people in a frame.
const GRID: (u32, u32) = (6, 5);

/// Width and height of the place of a person in a frame.
const PLACE: (u32, u32) = (320, 216);

/// Longest wait for people to be seen.
const SEEN: Duration = Duration::from_secs(180);

/// Returns the people with photos, in the order of their ids.
fn people() -> Vec<(String, PathBuf)> {
    let mut people: Vec<_> = shared("faces/students")
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .collect();
    people.sort();
    assert_eq!(people.len(), 30);
    people
}

/// Draws a classroom with these people, each in the place of their number.
fn classroom(people: &[(String, PathBuf)], present: &BTreeSet<usize>) -> RgbImage {
    let mut room = RgbImage::from_pixel(1920, 1080, image::Rgb([96, 96, 92]));
    for &number in present {
        let photo = image::open(people[number].1.join("test.jpg")).unwrap();
        let photo = photo.resize(PLACE.0, PLACE.1, FilterType::Triangle);
        let place = u32::try_from(number).unwrap();
        let (column, row) = (place % GRID.0, place / GRID.0);
        let (x, y) = (column * PLACE.0, row * PLACE.1);
        imageops::overlay(&mut room, &photo.into_rgb8(), x.into(), y.into());
    }
    room
}

/// Makes a video of a frame, long enough for the test.
fn video(folder: &Path, name: &str, frame: &RgbImage) -> PathBuf {
    let (picture, path) = (
        folder.join(format!("{name}.png")),
        folder.join(format!("{name}.mkv")),
    );
    DynamicImage::from(frame.clone()).save(&picture).unwrap();
    output_of(
        Command::new("ffmpeg")
            .args("-nostdin -v error -loop 1 -framerate 2 -i".split(' '))
            .arg(picture)
            .args("-t 240 -c:v libx264 -preset ultrafast -g 4 -crf 16 -pix_fmt yuv420p".split(' '))
            .arg(&path),
    );
    path
}

/// Receiver of a webhook that fails half of the time.
pub(crate) struct Receiver {
    pub(crate) url: String,
    /// Bodies that it confirmed, in their order, and the number of refused ones.
    received: Arc<Mutex<(Vec<Value>, usize)>>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new((Vec::new(), 0)));
        let kept = Arc::clone(&received);
        std::thread::spawn(move || {
            let mut number = 0;
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = Arc::clone(&kept);
                number += 1;
                answer(stream, number % 2 == 0, &kept);
            }
        });
        Self { url, received }
    }

    pub(crate) fn received(&self) -> Vec<Value> {
        self.received.lock().unwrap().0.clone()
    }
}

/// Answers one request and closes the connection.
fn answer(stream: TcpStream, confirms: bool, kept: &Mutex<(Vec<Value>, usize)>) {
    let mut reader = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let status = match confirms {
        true => "204 No Content",
        false => "500 Internal Server Error",
    };
    let mut kept = kept.lock().unwrap();
    match confirms {
        true => kept.0.push(serde_json::from_slice(&body).unwrap()),
        false => kept.1 += 1,
    }
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    let _ = reader.into_inner().write_all(head.as_bytes());
}

/// A broker with a subscriber of every topic.
struct Broker {
    port: u16,
    _broker: Running,
    /// Topic and payload of every message.
    messages: Arc<Mutex<Vec<(String, String)>>>,
}

impl Broker {
    fn start(folder: &Path) -> Self {
        let port = free_port();
        let file = folder.join("mosquitto.conf");
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n");
        std::fs::write(&file, text).unwrap();
        let broker = Command::new("/usr/sbin/mosquitto")
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is missing; run: cargo xtask test");
        let broker = Running(broker);
        assert!(holds_within(Duration::from_secs(10), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        }));
        let options = MqttOptions::new("observer", ("127.0.0.1", port));
        let (client, mut connection) = MqttClient::builder(options).capacity(10).build();
        client.subscribe("#", QoS::AtLeastOnce).unwrap();
        let messages = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&messages);
        std::thread::spawn(move || {
            // Requests end with the client.
            let _client = client;
            for event in connection.iter().map_while(Result::ok) {
                if let Event::Incoming(Packet::Publish(publish)) = event {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    let message = (text(&publish.topic), text(&publish.payload));
                    kept.lock().unwrap().push(message);
                }
            }
        });
        Self {
            port,
            _broker: broker,
            messages,
        }
    }

    /// Returns the events of a stream.
    fn events(&self, stream: &str) -> Vec<Value> {
        let topic = format!("rostro/{stream}/events");
        let messages = self.messages.lock().unwrap();
        let events = messages.iter().filter(|message| message.0 == topic);
        events
            .map(|message| serde_json::from_str(&message.1).unwrap())
            .collect()
    }

    /// Returns true if a message came on a topic below this one.
    fn has_below(&self, topic: &str) -> bool {
        let messages = self.messages.lock().unwrap();
        messages.iter().any(|message| message.0.starts_with(topic))
    }
}

/// Events of a session as a client reads them, which connects again after the service went away.
struct EventLog(Arc<Mutex<Vec<Value>>>);

impl EventLog {
    fn follow(url: String) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&events);
        std::thread::spawn(move || {
            let mut last = String::new();
            loop {
                let request = ureq::get(&url)
                    .header("accept", "text/event-stream")
                    .header("last-event-id", &last);
                if let Ok(response) = request.call() {
                    let reader = BufReader::new(response.into_body().into_reader());
                    for line in reader.lines().map_while(Result::ok) {
                        if let Some(data) = line.strip_prefix("data: ") {
                            let event: Value = serde_json::from_str(data).unwrap();
                            event["id"].as_str().unwrap().clone_into(&mut last);
                            kept.lock().unwrap().push(event);
                        }
                    }
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        Self(events)
    }

    fn all(&self) -> Vec<Value> {
        self.0.lock().unwrap().clone()
    }
}

/// Returns the people of the events of a kind.
fn people_of(events: &[Value], kind: &str) -> BTreeSet<String> {
    let events = events.iter().filter(|event| event["kind"] == kind);
    events
        .map(|event| event["person"].as_str().unwrap().to_owned())
        .collect()
}

/// Returns id and content of each event, without what a receiver gets in addition.
fn by_id(events: &[Value]) -> BTreeMap<String, (String, Option<String>)> {
    let entry = |event: &Value| {
        (
            event["id"].as_str().unwrap().to_owned(),
            (
                event["kind"].as_str().unwrap().to_owned(),
                event["person"].as_str().map(str::to_owned),
            ),
        )
    };
    events.iter().map(entry).collect()
}

fn enroll_class(server: &Server, people: &[(String, PathBuf)]) {
    for (id, folder) in people {
        let photos = ["front", "left", "right"]
            .map(|name| std::fs::read(folder.join(format!("{name}.jpg"))).unwrap());
        server.enroll(id, photos).ok();
        let path = format!("/v1/groups/class/people/{id}");
        server.ask_admin(&Method::PUT, &path, &[], &[]).ok();
    }
}

#[test]
fn lesson_reaches_every_receiver() {
    let folder = tempfile::tempdir().unwrap();
    let (receiver, broker) = (Receiver::start(), Broker::start(folder.path()));
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    let webhooks = folder.path().join("webhooks.toml");
    let text = format!(
        "[[webhook]]\nname = \"sis\"\nurl = \"{}\"\nsecret_file = \"secret\"\n\n\
         [[mqtt]]\nname = \"home\"\nurl = \"mqtt://127.0.0.1:{}\"\n",
        receiver.url, broker.port
    );
    std::fs::write(&webhooks, text).unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let options = || {
        Options::real()
            .arg("--listen", &listen)
            .arg("--webhooks", &webhooks)
            .gallery(&folder.path().join("gallery"))
            .state(&folder.path().join("state"))
    };
    let mut server = options().start();
    let people = people();
    enroll_class(&server, &people);

    // 25 in time, 2 late, 3 absent; one of those in time leaves.
    let absent: BTreeSet<usize> = [3, 11, 28].into();
    let late: BTreeSet<usize> = [7, 19].into();
    let in_time: BTreeSet<usize> = (0..30)
        .filter(|number| !absent.contains(number) && !late.contains(number))
        .collect();
    let mut later: BTreeSet<usize> = in_time.union(&late).copied().collect();
    later.remove(&0);
    let names = |numbers: &BTreeSet<usize>| -> BTreeSet<String> {
        numbers
            .iter()
            .map(|&number| people[number].0.clone())
            .collect()
    };
    let first = video(folder.path(), "first", &classroom(&people, &in_time));
    let second = video(folder.path(), "second", &classroom(&people, &later));

    // Time for the first frames on this machine.
    let mut picture = Vec::new();
    classroom(&people, &in_time)
        .write_to(&mut Cursor::new(&mut picture), ImageFormat::Png)
        .unwrap();
    let begun = Instant::now();
    server.recognize(picture).ok();
    let late_after = Timestamp::now()
        + SignedDuration::from_secs(40)
        + 20 * SignedDuration::try_from(begun.elapsed()).unwrap();
    let rule = json!({ "seen": 2, "within_s": 120, "late_after": late_after });
    let session = json!({ "stream": "room-1", "group": "class", "rule": rule });
    let client = Client::new(&server.url);
    let created = client
        .send(
            Method::POST,
            "/v1/sessions",
            &[JSON],
            session.to_string().as_bytes(),
        )
        .unwrap();
    let id = created.json["id"].as_str().unwrap().to_owned();
    let events = EventLog::follow(format!("http://{listen}/v1/sessions/{id}/events"));
    let camera = Camera::start(&first, "0", &[]);
    let address = format!("rtsp://127.0.0.1:{}/live", camera.port);
    let watch = Watch::start(&server.url, &[&address, "--session", &id, "--rate", "1"]);
    let wait = |what: &str, kind: &str, expected: &BTreeSet<String>| {
        let has_all = || people_of(&events.all(), kind).is_superset(expected);
        assert!(
            holds_within(SEEN, has_all),
            "{what}: {:?}\n{}",
            people_of(&events.all(), kind),
            watch.errors()
        );
    };
    wait("in time", "arrived", &names(&in_time));
    assert!(
        Timestamp::now() < late_after,
        "this machine is too slow for the test"
    );

    // The service dies, and the camera goes on with those who are late.
    let answered = events.all();
    server.kill();
    std::thread::sleep(Duration::from_secs(1));
    let mut server = options().start();
    std::thread::sleep(
        Duration::try_from(late_after.duration_since(Timestamp::now())).unwrap_or_default(),
    );
    let port = camera.port.clone();
    drop(camera);
    let _camera = Camera::start(&second, &port, &[]);
    wait("late", "late", &names(&late));

    let client = Client::new(&server.url);
    let path = format!("/v1/sessions/{id}");
    let read = || client.send(Method::GET, &path, &[], &[]).unwrap().ok();
    let view = read();
    let listed = |list: &str, status: &str| -> BTreeSet<String> {
        let people = view[list].as_array().unwrap().iter();
        people
            .filter(|person| person["status"] == status)
            .map(|person| person["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(listed("present", "present"), names(&in_time));
    assert_eq!(listed("present", "late"), names(&late));
    assert_eq!(listed("absent", "absent"), names(&absent));
    assert_eq!(view["uncertain"], json!([]));
    // The late people are only in the second video, so the person who left is no longer seen.
    let last_seen = |view: &Value, number: usize| {
        let present = view["present"].as_array().unwrap().iter();
        let mut person = present.filter(|person| person["id"] == people[number].0.as_str());
        let time = person.next().unwrap()["last_seen"].as_str().unwrap();
        time.parse::<Timestamp>().unwrap()
    };
    let left = last_seen(&view, 0);
    let stays = last_seen(&view, 1) + SignedDuration::from_secs(3);
    assert!(
        holds_within(SEEN, || last_seen(&read(), 1) > stays),
        "the person who stays is no longer seen"
    );
    assert_eq!(
        last_seen(&read(), 0),
        left,
        "the person who left is still seen"
    );

    client.send(Method::DELETE, &path, &[], &[]).unwrap().ok();
    let page = client
        .send(Method::GET, &format!("{path}/events?limit=1000"), &[], &[])
        .unwrap()
        .ok();
    let stored = page["events"].as_array().unwrap().clone();
    let expected = by_id(&stored);
    // No event that was seen before the kill is lost or changed, and none comes twice.
    let seen = by_id(&answered);
    assert!(
        seen.iter()
            .all(|(id, event)| expected.get(id) == Some(event)),
        "{seen:?}"
    );
    assert_eq!(people_of(&stored, "arrived"), names(&in_time));
    assert_eq!(people_of(&stored, "late"), names(&late));
    assert_eq!(stored.len(), 2 + 27, "{stored:?}");
    // Each receiver got each event at least once.
    let got_all = |what: &str, received: &dyn Fn() -> Vec<Value>| {
        let all = || by_id(&received()) == expected;
        assert!(holds_within(SEEN, all), "{what}: {:?}", by_id(&received()));
    };
    got_all("server-sent events", &|| events.all());
    got_all("webhook", &|| receiver.received());
    got_all("MQTT", &|| broker.events("room-1"));
    assert!(
        receiver.received.lock().unwrap().1 > 10,
        "the receiver never failed"
    );
    assert!(
        broker.has_below("homeassistant/"),
        "nothing was announced to Home Assistant"
    );

    // A deletion removes the person from the state of the deliveries, too.
    let person = &people[1].0;
    let search = || {
        Command::new("grep")
            .args(["-rlF", person])
            .args(["state", "gallery"].map(|name| folder.path().join(name)))
            .output()
            .unwrap()
    };
    assert_eq!(search().status.code(), Some(0), "the search finds nothing");
    let deletion = format!("/v1/people/{person}");
    server.ask_admin(&Method::DELETE, &deletion, &[], &[]).ok();
    let found = search();
    let text = String::from_utf8_lossy(&found.stdout);
    assert_eq!(found.status.code(), Some(1), "{text}");
    for rest in ["", "/events?limit=1000", "/attendance.csv"] {
        let answer = client.send(Method::GET, &format!("{path}{rest}"), &[], &[]);
        let text = answer.unwrap().json.to_string();
        assert!(!text.contains(person.as_str()), "{text}");
    }
    assert_eq!(server.terminate(), Some(0));
}
