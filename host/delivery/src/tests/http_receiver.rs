//! A receiver of webhooks on loopback.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::signature::SigningKey;

use super::SECRET;

/// A request with the right signature.
#[derive(Clone, Debug)]
pub(super) struct WebhookRequest {
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Value,
    /// Status of the answer.
    pub(super) status: u16,
}

/// Answer of a receiver: the status, and further lines of the head.
pub(super) type Answer = (u16, &'static str);

/// A server that answers each request as a function says. It stops when it is dropped.
#[derive(Debug)]
pub(super) struct HttpReceiver {
    port: u16,
    scheme: &'static str,
    requests: Arc<Mutex<Vec<WebhookRequest>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HttpReceiver {
    /// Starts a receiver. The function gets the number of the request, from 0, and its body.
    pub(super) fn start(answer: impl FnMut(usize, &Value) -> Answer + Send + 'static) -> Self {
        Self::start_with(None, answer)
    }

    /// Starts a receiver with TLS that takes everything.
    pub(super) fn start_tls(config: ServerConfig) -> Self {
        Self::start_with(Some(Arc::new(config)), |_, _| (200, ""))
    }

    fn start_with(
        tls: Option<Arc<ServerConfig>>,
        mut answer: impl FnMut(usize, &Value) -> Answer + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (all, stopped) = (Arc::clone(&requests), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let mut stream = connection(stream.unwrap(), tls.as_ref());
                let Some((headers, body)) = read(&mut *stream) else {
                    continue;
                };
                let number = all.lock().unwrap().len();
                let (status, lines) = answer(number, &body);
                all.lock().unwrap().push(WebhookRequest {
                    headers,
                    body,
                    status,
                });
                // The client may have given up.
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n{lines}\r\n"
                );
            }
        });
        Self {
            port,
            scheme,
            requests,
            stop,
            thread: Some(thread),
        }
    }

    /// Returns the lines of the receiver in a file.
    pub(super) fn toml(&self, name: &str) -> String {
        format!(
            "[[webhook]]\nname = \"{name}\"\nurl = \"{}://127.0.0.1:{}/hook\"\n\
             secret_file = \"secret\"\ntimeout_s = 1\n",
            self.scheme, self.port
        )
    }

    pub(super) fn requests(&self) -> Vec<WebhookRequest> {
        self.requests.lock().unwrap().clone()
    }

    /// Returns the bodies that were answered with success.
    pub(super) fn accepted(&self) -> Vec<Value> {
        let requests = self.requests().into_iter();
        let accepted = requests.filter(|request| request.status == 200);
        accepted.map(|request| request.body).collect()
    }
}

impl Drop for HttpReceiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A connection with or without TLS.
trait Connection: Read + Write {}

impl<T: Read + Write> Connection for T {}

/// Returns a connection. The first read makes the handshake.
fn connection(stream: TcpStream, tls: Option<&Arc<ServerConfig>>) -> Box<dyn Connection> {
    match tls {
        Some(tls) => {
            let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
            Box::new(StreamOwned::new(connection, stream))
        }
        None => Box::new(stream),
    }
}

/// Reads a request and verifies its signature.
fn read(stream: &mut dyn Connection) -> Option<(HashMap<String, String>, Value)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    if line.is_empty() {
        return None;
    }
    assert_eq!(line, "POST /hook HTTP/1.1\r\n");
    let mut headers = HashMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).ok()?;
    let key = SigningKey::parse(SECRET).unwrap();
    let timestamp: i64 = headers["webhook-timestamp"].parse().unwrap();
    assert!((jiff::Timestamp::now().as_second() - timestamp).abs() < 60);
    let signature = key.sign(&headers["webhook-id"], timestamp, &body);
    assert_eq!(headers["webhook-signature"], signature);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["id"], headers["webhook-id"].as_str());
    Some((headers, body))
}
