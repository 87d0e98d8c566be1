//! Slow request bodies and bursts of requests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{Options, Server, drawn};

const A: &str = "0123456789abcdef";
const B: &str = "fedcba9876543210";

/// Starts posting an image and sends a part of it.
fn begin(server: &Server, key: &str, announced: usize, sent: &[u8]) -> TcpStream {
    let mut connection = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let head = format!(
        "POST /process_frame HTTP/1.1\r\nhost: rostro\r\nconnection: close\r\nx-api-key: {key}\r\ncontent-type: image/png\r\ncontent-length: {announced}\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(sent).unwrap();
    connection
}

fn answer(mut connection: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = connection.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A slow upload may take longer than the deadline, which covers only the service's own time.
#[test]
fn deadline_starts_after_body() {
    let server = Options::drawn().arg("--deadline", "2").start();
    let picture = drawn("alice-probe.png");
    let (first, rest) = picture.split_at(picture.len() / 2);
    let mut connection = begin(&server, "", picture.len(), first);
    std::thread::sleep(Duration::from_secs(4));
    connection.write_all(rest).unwrap();
    let answer = answer(connection);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn client_gets_half_of_body_memory() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, format!("a:recognise:{A}\nb:recognise:{B}\n")).unwrap();
    let server = Options::drawn()
        .arg("--max-body-mib", "1")
        .arg("--max-bodies-mib", "2")
        .arg("--api-keys", &keys)
        .start();
    let begun = Instant::now();
    let (first, refused) = loop {
        let first = begin(&server, A, 1_000_000, &[0; 900_000]);
        // A body counts once the server has read it. If it reads the second one first, the first
        // one is refused.
        std::thread::sleep(Duration::from_millis(300));
        let answer = answer(begin(&server, A, 300_000, &[0; 300_000]));
        if answer.starts_with("HTTP/1.1 503") {
            break (first, answer);
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{answer}");
    };
    assert!(
        refused.contains("bodies-of-one-client") && refused.contains("--max-bodies-mib"),
        "{refused}"
    );
    let other = answer(begin(&server, B, 900_000, &[0; 900_000]));
    assert!(other.starts_with("HTTP/1.1 400"), "{other}");
    drop(first);
}

/// A picture that is slow to process: a small file with many white pixels.
fn slow() -> Vec<u8> {
    let mut picture = Vec::new();
    let pixels = image::RgbImage::from_pixel(5000, 5000, image::Rgb([255; 3]));
    pixels
        .write_to(
            &mut std::io::Cursor::new(&mut picture),
            image::ImageFormat::Png,
        )
        .unwrap();
    picture
}

/// Refused cameras get `retry-after` times that follow the queue.
///
/// The times are rounded to seconds. A frame takes at least 40 ms on any machine, so the queue
/// takes longer than a second. The service knows only the time of the first frame, which other work
/// on the machine may have slowed down, so that time bounds its estimate.
#[test]
fn retry_after_follows_the_queue() {
    const CAMERAS: usize = 120;
    const QUEUE: u16 = 60;
    let server = Options::drawn()
        .arg("--workers", "1")
        .arg("--queue", QUEUE.to_string())
        .arg("--deadline", "60")
        .start();
    let picture = slow();
    let begun = Instant::now();
    server.recognize(picture.clone()).ok();
    let known = f64::from(QUEUE) * begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let cameras: Vec<_> = (0..CAMERAS)
            .map(|_| scope.spawn(|| server.recognize(picture.clone())))
            .collect();
        cameras
            .into_iter()
            .map(|camera| camera.join().unwrap())
            .collect()
    });
    let took = begun.elapsed().as_secs_f64();
    let refused: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 503)
        .collect();
    let mut waits: Vec<u64> = refused
        .iter()
        .map(|answer| {
            answer.headers["retry-after"]
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    waits.sort_unstable();
    println!(
        "{} of {CAMERAS} refused; the rest took {took:.1} s, the queue {known:.1} s by the \
         first frame; retry-after {waits:?}",
        refused.len()
    );
    assert!(refused.len() >= CAMERAS / 4, "{waits:?}");
    for answer in &refused {
        let message = answer.error(503, "overloaded");
        assert!(
            message.contains("--queue") && answer.json["details"]["limit"] == "queue",
            "{message}"
        );
    }
    let (first, last) = (waits[0] as f64, waits[waits.len() - 1] as f64);
    assert!(first > 1.0 && last > first, "{waits:?} for {took:.1} s");
    assert!(
        first <= 2.0 * took.max(known) + 2.0 && last <= 60.0,
        "{waits:?} for {took:.1} s, or {known:.1} s by the first frame"
    );
}
