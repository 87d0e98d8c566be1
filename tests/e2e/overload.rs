//! Overload: fair queueing among clients, and cancellation when a client disconnects.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ureq::http::Method;

use crate::harness::{
    BOUNDARY, Options, Server, component, drawn, file, holds_within, multipart, text,
};
use crate::operator::{bytes, metrics};

/// Returns a value of `/metrics`, or 0 if it does not exist.
fn metric(server: &Server, line: &str) -> u64 {
    let value = metrics(server).lines().find_map(|other| {
        other
            .strip_prefix(line)?
            .strip_prefix(' ')
            .map(str::to_owned)
    });
    value.map_or(0, |value| value.parse().unwrap())
}

/// Waits until a value of `/metrics` is as wanted, and returns the time that this took.
fn wait_for(server: &Server, line: &str, wanted: u64) -> Duration {
    let begun = Instant::now();
    assert!(
        holds_within(Duration::from_secs(30), || metric(server, line) == wanted),
        "{line} does not become {wanted}\n{}",
        server.log()
    );
    begun.elapsed()
}

/// Returns a slow picture: white, with many pixels in a small file.
fn slow() -> Vec<u8> {
    let mut picture = Vec::new();
    let pixels = image::RgbImage::from_pixel(6000, 6000, image::Rgb([255; 3]));
    pixels
        .write_to(
            &mut std::io::Cursor::new(&mut picture),
            image::ImageFormat::Png,
        )
        .unwrap();
    picture
}

/// Sends a form and does not read the response.
fn send(server: &Server, path: &str, body: &[u8]) -> TcpStream {
    let mut connection = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: rostro\r\ncontent-type: multipart/form-data; boundary={BOUNDARY}\r\ncontent-length: {length}\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(body).unwrap();
    connection
}

#[test]
fn flooding_client_delays_only_itself() {
    const FLOOD: usize = 24;
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(
        &keys,
        "flood:recognise:0123456789abcdef\ncamera:recognise:fedcba9876543210\n",
    )
    .unwrap();
    let server = Options::drawn()
        .arg("--api-keys", &keys)
        .arg("--workers", "1")
        .arg("--queue", "8")
        .start();
    let picture = drawn("alice-probe.png");
    let ask = |key: &str| {
        let begun = Instant::now();
        let status = server
            .post_with(
                "/process_frame",
                &[("content-type", "image/png"), ("x-api-key", key)],
                &picture,
            )
            .status;
        (status, begun.elapsed())
    };
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let camera = || (0..15).map(|_| ask("fedcba9876543210")).collect::<Vec<_>>();
    let alone = median(camera().into_iter().map(|(_, took)| took).collect());
    let (stop, turned_away, answered) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let (contended, flooding) = std::thread::scope(|scope| {
        let flood: Vec<_> = (0..FLOOD)
            .map(|_| {
                scope.spawn(|| {
                    let mut times = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        match ask("0123456789abcdef") {
                            (200, took) => {
                                answered.fetch_add(1, Ordering::Relaxed);
                                times.push(took);
                            }
                            (503, _) => {
                                turned_away.fetch_add(1, Ordering::Relaxed);
                            }
                            (status, _) => panic!("{status}"),
                        }
                    }
                    times
                })
            })
            .collect();
        while turned_away.load(Ordering::Relaxed) < FLOOD {
            std::thread::sleep(Duration::from_millis(5));
        }
        let contended = camera();
        stop.store(true, Ordering::Relaxed);
        (
            contended,
            flood
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect::<Vec<_>>(),
        )
    });
    assert!(
        contended.iter().all(|(status, _)| *status == 200),
        "{contended:?}"
    );
    let (contended, flooding) = (
        median(contended.into_iter().map(|(_, took)| took).collect()),
        median(flooding),
    );
    println!(
        "a request alone takes {alone:?}; during a flood of {FLOOD} ({} answered, {} turned away) it takes {contended:?}, and a request of the flood {flooding:?}",
        answered.into_inner(),
        turned_away.into_inner()
    );
    assert!(
        contended * 2 < flooding,
        "{contended:?} against {flooding:?}"
    );
}

/// Work is cancelled when its client disconnects, both at a worker and in the queue.
#[test]
fn disconnect_cancels_running_and_queued() {
    let server = Options::drawn()
        .arg("--workers", "1")
        .arg("--queue", "4")
        .arg("--deadline", "600")
        .start();
    let photos: Vec<_> = std::iter::once(text("student_id", "gone"))
        .chain(std::iter::repeat_n(slow(), 40).map(|photo| file("images", "a.png", photo)))
        .collect();
    let begun = Instant::now();
    let enrolling = send(&server, "/process-images", &multipart(&photos));
    wait_for(&server, "rostro_workers_busy", 1);
    let waiting = send(
        &server,
        "/process_frame",
        &multipart(&[file("image", "a.png", slow())]),
    );
    wait_for(&server, "rostro_requests_waiting", 1);
    drop(waiting);
    let left = wait_for(&server, "rostro_requests_waiting", 0);
    assert_eq!(
        metric(&server, "rostro_workers_busy"),
        1,
        "the first is still at work"
    );
    drop(enrolling);
    let stopped = wait_for(&server, "rostro_workers_busy", 0);
    println!(
        "a client that waited left the queue within {left:?}; the work of one at a worker stopped within {stopped:?}, {:?} after it began",
        begun.elapsed()
    );
    assert!(stopped < Duration::from_secs(3), "{stopped:?}");
    assert_eq!(
        metric(
            &server,
            "rostro_requests_total{route=\"/process-images\",status=\"499\"}"
        ),
        1
    );
    assert_eq!(
        metric(
            &server,
            "rostro_requests_total{route=\"/process_frame\",status=\"499\"}"
        ),
        1
    );
    // No person was enrolled, no error was logged, and the next request is served.
    assert_eq!(
        server.admin_get("/v1/people")["people"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    assert!(!server.log().contains("ERROR"), "{}", server.log());
    server.enroll("gone", [drawn("alice-1.png")]).ok();
    assert_eq!(server.names(drawn("alice-probe.png")), ["gone"]);
}

/// Guests share one memory budget, and a request beyond it gets 503 with `retry-after`.
#[test]
fn guest_memory_budget_is_shared() {
    let (budget, picture) = ("160", slow());
    let server = Options::drawn()
        .arg("--workers", "2")
        .arg("--limit", "memory-mib=160")
        .arg("--max-guests-mib", budget)
        .start();
    server.recognize(picture.clone()).ok();
    let (mut done, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        let ask = || server.recognize(picture.clone());
        for thread in (0..4).map(|_| scope.spawn(ask)).collect::<Vec<_>>() {
            let answer = thread.join().unwrap();
            if answer.status == 200 {
                done += 1;
            } else {
                refused += 1;
                answer.error(503, "overloaded");
                assert_eq!(answer.headers["retry-after"], "1");
                assert!(
                    server.log_of(&answer).contains("--max-guests-mib"),
                    "{}",
                    server.log()
                );
            }
        }
    });
    println!(
        "{budget} MiB for all: of four large pictures at a time {done} were analysed and {refused} refused"
    );
    assert!(done > 0 && refused > 0);
    // The pipeline is not blamed. All memory is free once the instances are dropped in the
    // background.
    wait_for(&server, "rostro_guest_memory_bytes{guest=\"vision\"}", 0);
    assert_eq!(
        metric(
            &server,
            &format!(
                "rostro_revision_failures_total{{revision=\"{}\"}}",
                server.active()
            )
        ),
        0
    );
    server.recognize(picture).ok();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
}

/// Staging and import succeed while pictures use all the memory of guests.
#[test]
fn saturation_spares_staging_and_import() {
    let server = Options::drawn()
        .arg("--workers", "2")
        .arg("--limit", "memory-mib=160")
        .arg("--max-guests-mib", "160")
        .start();
    for id in ["alice", "bob", "carol"] {
        server.enroll(id, [drawn("alice-1.png")]).ok();
    }
    let archive = ureq::get(format!("{}/v1/gallery", server.admin))
        .call()
        .unwrap()
        .body_mut()
        .read_to_vec()
        .unwrap();
    let (picture, stop, refused) = (slow(), AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    match server.recognize(picture.clone()).status {
                        200 => {}
                        503 => drop(refused.fetch_add(1, Ordering::Relaxed)),
                        status => panic!("{status}"),
                    }
                }
            });
        }
        while refused.load(Ordering::Relaxed) < 3 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let staged = server.stage(&bytes(component("attendance-policy")), "");
        let imported = server.ask_admin(
            &Method::POST,
            "/v1/gallery",
            &archive,
            &[("content-type", "application/zip")],
        );
        stop.store(true, Ordering::Relaxed);
        assert_eq!(
            (&staged["state"], &staged["known"]),
            (&"staged".into(), &3.into()),
            "{staged}"
        );
        let imported = imported.ok();
        assert_eq!(
            (&imported["people"], &imported["left_out_count"]),
            (&3.into(), &0.into()),
            "{imported}"
        );
    });
    println!(
        "{} pictures found no memory meanwhile",
        refused.into_inner()
    );
}

/// Many requests for templates are queued, and no request fails.
#[test]
fn template_flood_fails_no_request() {
    let server = Options::drawn().arg("--queue", "200").start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    server
                        .ask_admin(&Method::GET, "/v1/people/alice/embedding", &[], &[])
                        .ok();
                }
            });
        }
        for _ in 0..20 {
            assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        metric(
            &server,
            &format!(
                "rostro_revision_failures_total{{revision=\"{}\"}}",
                server.active()
            )
        ),
        0
    );
}

#[test]
fn accepted_requests_finish_before_exit() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = folder.path().join("gallery");
    let mut server = Options::drawn()
        .arg("--workers", "1")
        .gallery(&gallery)
        .start();
    let photos = std::iter::repeat_n(slow(), 6).chain([drawn("alice-1.png")]);
    let parts: Vec<_> = std::iter::once(text("student_id", "alice"))
        .chain(photos.map(|photo| file("images", "a.png", photo)))
        .collect();
    let (url, body) = (format!("{}/process-images", server.url), multipart(&parts));
    let answer = std::thread::spawn(move || {
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        ureq::post(url)
            .header("content-type", &kind)
            .send(&body)
            .unwrap()
            .status()
            .as_u16()
    });
    wait_for(&server, "rostro_workers_busy", 1);
    assert!(!gallery.join("alice.csv").exists(), "it is not done yet");
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(answer.join().unwrap(), 200);
    assert!(gallery.join("alice.csv").exists());
}

#[test]
fn workers_match_available_cores() {
    let server = Options::drawn().start();
    let all = std::thread::available_parallelism().unwrap().get() as u64;
    assert_eq!(metric(&server, "rostro_workers"), all);
    // ONNX Runtime and the HTTP interface start fewer threads on one core, too.
    let threads = |server: &Server| {
        std::fs::read_dir(format!("/proc/{}/task", server.pid()))
            .unwrap()
            .count()
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let cores = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap()
        .trim();
    let first = cores.split([',', '-']).next().unwrap();
    let pinned = Options::drawn()
        .within(["taskset", "--cpu-list", first].map(str::to_owned).to_vec())
        .start();
    assert_eq!(metric(&pinned, "rostro_workers"), 1);
    pinned.recognize(drawn("alice-probe.png")).ok();
    server.recognize(drawn("alice-probe.png")).ok();
    println!(
        "{all} cores: {} threads; 1 core: {} threads",
        threads(&server),
        threads(&pinned)
    );
    assert!(all == 1 || threads(&pinned) < threads(&server));
}
