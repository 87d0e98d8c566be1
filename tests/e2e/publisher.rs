//! HTTP server of one file, which simulates failing downloads.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Time limit of one step of a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Response to one request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// The whole file, even if a range was requested.
    Whole,
    /// The rest of the file, as the client requested.
    Rest,
    /// The first bytes of the file, and then a closed connection.
    CutOff(usize),
    /// The first bytes of the file, and then silence.
    Silent(usize),
    /// A status without a file.
    Status(&'static str),
}

/// Server of one file. It answers one request per reply, and then stops.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) url: String,
    starts: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Publisher {
    pub(crate) fn new(file: Vec<u8>, replies: impl Into<Vec<Reply>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/pack.zip", listener.local_addr().unwrap());
        let starts = Arc::<Mutex<Vec<Option<usize>>>>::default();
        let (seen, replies) = (Arc::clone(&starts), replies.into());
        std::thread::spawn(move || {
            for reply in replies {
                let (stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let start = range_start(&stream);
                seen.lock().unwrap().push(start);
                answer(stream, start, &file, &reply);
            }
        });
        Self { url, starts }
    }

    /// Returns the first requested byte for each request so far, or `None` for the whole file.
    pub(crate) fn starts(&self) -> Vec<Option<usize>> {
        self.starts.lock().unwrap().clone()
    }
}

/// Reads a request, and returns the first byte of its header `range`, if it has one.
fn range_start(stream: &TcpStream) -> Option<usize> {
    let lines = BufReader::new(stream)
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty());
    let lines: Vec<String> = lines.map(|line| line.to_lowercase()).collect();
    let range = lines.iter().find_map(|line| line.strip_prefix("range: "))?;
    Some(
        range
            .strip_prefix("bytes=")
            .and_then(|range| range.strip_suffix('-'))
            .and_then(|start| start.parse().ok())
            .expect(range),
    )
}

fn answer(mut stream: TcpStream, start: Option<usize>, file: &[u8], reply: &Reply) {
    let all = 0..file.len();
    let mut send = |status: &str, announced: Range<usize>, sent: Range<usize>| {
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            announced.len()
        );
        // The client may have disconnected.
        let _ = stream.write_all(&[head.as_bytes(), &file[sent]].concat());
    };
    match *reply {
        Reply::Whole => send("200 OK", all.clone(), all),
        Reply::Rest => {
            let rest = start.expect("a request for the rest")..file.len();
            send("206 Partial Content", rest.clone(), rest);
        }
        Reply::CutOff(end) => send("200 OK", all, 0..end),
        Reply::Silent(end) => {
            send("200 OK", all, 0..end);
            let _ = stream.read(&mut [0]);
        }
        Reply::Status(status) => send(status, 0..0, 0..0),
    }
}
