//! A real mosquitto on loopback, and a client that records messages.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tokio::sync::oneshot;

/// Place of Debian's package.
const PROGRAM: &str = "/usr/sbin/mosquitto";

/// A broker. It is killed when it is dropped.
#[derive(Debug)]
pub(super) struct Mosquitto {
    folder: tempfile::TempDir,
    pub(super) port: u16,
    child: Child,
}

impl Mosquitto {
    pub(super) fn start() -> Self {
        Self::start_with("allow_anonymous true\n")
    }

    /// Starts a broker with lines of its configuration. `FOLDER` stands for its folder.
    pub(super) fn start_with(lines: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), lines)
    }

    pub(super) fn start_in(folder: tempfile::TempDir, lines: &str) -> Self {
        assert!(
            Path::new(PROGRAM).exists(),
            "this test needs mosquitto: apt-get install mosquitto"
        );
        let port = free_port();
        let lines = lines.replace("FOLDER", &folder.path().display().to_string());
        // As root it would become a user that cannot read the folder.
        let text = format!("user root\nlistener {port} 127.0.0.1\n{lines}");
        fs::write(folder.path().join("mosquitto.conf"), text).unwrap();
        let child = run(folder.path(), port);
        Self {
            folder,
            port,
            child,
        }
    }

    /// Kills the broker.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops the broker, which writes what it persists.
    pub(super) fn terminate(&mut self) {
        let id = self.child.id().to_string();
        let killed = Command::new("kill").arg(&id).status();
        assert!(killed.unwrap().success());
        let _ = self.child.wait();
    }

    /// Starts the broker again.
    pub(super) fn restart(&mut self) {
        self.child = run(self.folder.path(), self.port);
    }

    /// Returns the lines of the broker in a file.
    pub(super) fn toml(&self, name: &str) -> String {
        format!(
            "[[mqtt]]\nname = \"{name}\"\nurl = \"mqtt://127.0.0.1:{}\"\n",
            self.port
        )
    }

    /// Subscribes to all messages.
    pub(super) fn subscribe(&self) -> Subscriber {
        self.subscribe_with(format!("observer-{:08x}", fastrand::u32(..)), true)
    }

    /// Subscribes to all messages. The broker keeps those that come while the client is away.
    pub(super) fn subscribe_durably(&self) -> Subscriber {
        self.subscribe_with("observer".to_owned(), false)
    }

    fn subscribe_with(&self, id: String, is_clean: bool) -> Subscriber {
        let mut options = MqttOptions::new(id, ("127.0.0.1", self.port));
        options.set_clean_session(is_clean);
        let messages = Arc::new(Mutex::new(Vec::new()));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let all = Arc::clone(&messages);
        std::thread::spawn(move || {
            let runtime = crate::signals::runtime().unwrap();
            runtime.block_on(async {
                let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
                client.subscribe("#", QoS::AtLeastOnce).await.unwrap();
                let receive = async {
                    loop {
                        // The broker may stop before the subscriber.
                        let event = match events.poll().await {
                            Ok(event) => event,
                            Err(error) => {
                                eprintln!("subscriber: {error}");
                                return;
                            }
                        };
                        match event {
                            Event::Incoming(Packet::SubAck(_)) => ready.send(()).unwrap(),
                            Event::Incoming(Packet::Publish(publish)) => {
                                all.lock().unwrap().push(Message {
                                    topic: String::from_utf8(publish.topic.to_vec()).unwrap(),
                                    payload: String::from_utf8(publish.payload.to_vec()).unwrap(),
                                    is_retained: publish.retain,
                                });
                            }
                            _ => {}
                        }
                    }
                };
                tokio::select! {
                    () = receive => {}
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv_timeout(Duration::from_secs(30)).unwrap();
        Subscriber {
            messages,
            _stop: stop,
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns a port that is free after the return.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Starts the program and waits until it listens.
fn run(folder: &Path, port: u16) -> Child {
    let child = Command::new(PROGRAM)
        .arg("-c")
        .arg(folder.join("mosquitto.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

/// A message as a subscriber gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: String,
    /// True for a message that the broker had retained before the subscription.
    pub(super) is_retained: bool,
}

/// A client that records all messages until it is dropped.
#[derive(Debug)]
pub(super) struct Subscriber {
    messages: Arc<Mutex<Vec<Message>>>,
    _stop: oneshot::Sender<()>,
}

impl Subscriber {
    pub(super) fn messages(&self) -> Vec<Message> {
        self.messages.lock().unwrap().clone()
    }

    /// Returns the last payload of a topic.
    pub(super) fn last(&self, topic: &str) -> Option<String> {
        let messages = self.messages();
        let last = messages.iter().rfind(|message| message.topic == topic);
        last.map(|message| message.payload.clone())
    }
}
