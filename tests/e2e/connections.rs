//! Slow, idle and encrypted connections, metrics, and the OpenAPI document.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::harness::{Options, Server, drawn};

fn connect(server: &Server) -> TcpStream {
    let connection = TcpStream::connect(server.url.split_once("://").unwrap().1).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    connection
}

/// Returns how long the server takes to close a connection.
fn time_until_closed(mut connection: TcpStream) -> Duration {
    let begun = Instant::now();
    let mut rest = Vec::new();
    match connection.read_to_end(&mut rest) {
        Ok(_) => {}
        // The server resets the connection if it did not read everything.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    begun.elapsed()
}

/// Silent connections and those with a slow request head are closed.
#[test]
fn silent_connections_are_closed() {
    let server = Options::drawn().arg("--deadline", "1").start();
    let silent = connect(&server);
    let mut half = connect(&server);
    half.write_all(b"POST /process_frame HTTP/1.1\r\nhost: x\r\nx-slow: ")
        .unwrap();
    let mut one_byte = connect(&server);
    one_byte.write_all(b"P").unwrap();
    let mut half_of_preface = connect(&server);
    half_of_preface.write_all(b"PRI * HTTP/2.0\r\n").unwrap();
    let mut idle = connect(&server);
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    for (case, connection) in [
        ("silent", silent),
        ("half a head", half),
        ("a letter", one_byte),
        ("half a preface", half_of_preface),
        ("idle", idle),
    ] {
        let took = time_until_closed(connection);
        assert!(took < Duration::from_secs(10), "{case}: {took:?}");
    }
    // A head that arrives byte by byte does not keep a connection open.
    let mut dripping = connect(&server);
    let begun = Instant::now();
    while dripping.write_all(b"x").is_ok() {
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "the server waits for an endless head"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    server.recognize(drawn("alice-probe.png")).ok();
}

/// A dripping body holds a connection and its memory for 10 s at most, regardless of the deadline.
#[test]
fn dripping_body_times_out() {
    let server = Options::drawn().arg("--deadline", "1").start();
    let mut dripping = connect(&server);
    dripping.write_all(b"POST /process_frame HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: 100000\r\n\r\n").unwrap();
    let begun = Instant::now();
    let mut writer = dripping.try_clone().unwrap();
    let drip = std::thread::spawn(move || {
        while writer.write_all(b"x").is_ok() && begun.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let mut answer = Vec::new();
    let _ = dripping.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.starts_with("HTTP/1.1 408")
            && answer.contains("64 KiB/s on average are needed from 10 s on"),
        "{answer}"
    );
    assert!(
        (9..20).contains(&begun.elapsed().as_secs()),
        "{:?}",
        begun.elapsed()
    );
    drop(dripping);
    drip.join().unwrap();
}

#[test]
fn idle_connections_do_not_delay_shutdown() {
    let mut server = Options::drawn().start();
    let _silent = connect(&server);
    let mut idle = connect(&server);
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut answer = [0; 15];
    idle.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    let begun = Instant::now();
    assert_eq!(server.terminate(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn tls_reloads_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (
        folder.path().join("certificate.pem"),
        folder.path().join("key.pem"),
    );
    let create_certificate = || {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&certificate, cert.pem()).unwrap();
        std::fs::write(&key, signing_key.serialize_pem()).unwrap();
        cert.pem()
    };
    let first = create_certificate();
    let server = Options::drawn()
        .arg("--tls-certificate", &certificate)
        .arg("--tls-key", &key)
        .start();
    let port = server.url.rsplit_once(':').unwrap().1;
    assert!(server.url.starts_with("https://"));
    let ask = |root: &str| -> Result<String, ureq::Error> {
        let roots = RootCerts::new_with_certs(&[Certificate::from_pem(root.as_bytes()).unwrap()]);
        let tls = TlsConfig::builder().root_certs(roots).build();
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(Duration::from_secs(10)))
            .build()
            .into();
        let frame = drawn("alice-probe.png");
        let mut answer = agent
            .post(format!("https://localhost:{port}/process_frame"))
            .header("content-type", "image/png")
            .send(&frame)?;
        answer.body_mut().read_to_string()
    };
    assert!(ask(&first).unwrap().contains("recognized_faces"));
    // Plain HTTP gets no answer.
    let mut plain = connect(&server);
    plain
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut response = Vec::new();
    let _ = plain.read_to_end(&mut response);
    assert!(!response.starts_with(b"HTTP"), "{response:?}");

    // SIGHUP loads a new certificate.
    let second = create_certificate();
    server.signal("HUP");
    let begun = Instant::now();
    while ask(&second).is_err() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{}",
            server.log()
        );
    }
    assert!(ask(&first).is_err(), "the old certificate is still served");
    // An unusable key changes nothing.
    std::fs::write(&key, "no key").unwrap();
    server.signal("HUP");
    server.wait_for_log("the certificate stays as it was");
    assert!(ask(&second).is_ok());
}

#[test]
fn incomplete_tls_settings_stop_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("it.pem");
    std::fs::write(&file, "nothing").unwrap();
    let error = Options::drawn().arg("--tls-certificate", &file).refuse();
    assert!(
        error.contains("TLS needs both --tls-certificate and --tls-key"),
        "{error}"
    );
    let error = Options::drawn()
        .arg("--tls-certificate", &file)
        .arg("--tls-key", &file)
        .refuse();
    assert!(error.contains("there is no certificate in"), "{error}");
}

#[test]
fn metrics_name_no_person() {
    let server = Options::drawn().start();
    server.enroll("zenobia", [drawn("alice-1.png")]).ok();
    for _ in 0..3 {
        server.recognize(drawn("alice-probe.png")).ok();
    }
    server
        .post("/process_frame", Some("text/plain"), b"x")
        .error(415, "unsupported_content_type");
    server
        .post("/nowhere/at/all", None, b"")
        .error(404, "not_found");
    let get = |url: String| ureq::get(url).call().unwrap();
    let metrics = get(format!("{}/metrics", server.admin))
        .body_mut()
        .read_to_string()
        .unwrap();
    for line in [
        "rostro_requests_total{route=\"/process_frame\",status=\"200\"} 3",
        "rostro_requests_total{route=\"/process_frame\",status=\"415\"} 1",
        "rostro_requests_total{route=\"/process-images\",status=\"200\"} 1",
        "rostro_requests_total{route=\"other\",status=\"404\"} 1",
        "rostro_request_seconds_count{route=\"/process_frame\"} 4",
        "rostro_stage_seconds_count{stage=\"detect\"} 3",
        "rostro_people 1",
    ] {
        assert!(
            metrics.lines().any(|other| other == line),
            "{line} is not in {metrics}"
        );
    }
    assert!(!metrics.contains("zenobia"));

    // The health endpoints set their headers and name the active revision.
    let mut healthy = get(format!("{}/healthz", server.url));
    assert_eq!(healthy.headers()["x-content-type-options"], "nosniff");
    assert_eq!(healthy.headers()["cache-control"], "no-store");
    assert_eq!(
        healthy.body_mut().read_to_string().unwrap(),
        r#"{"status":"ok"}"#
    );
    let ready: serde_json::Value = serde_json::from_str(
        &get(format!("{}/readyz", server.url))
            .body_mut()
            .read_to_string()
            .unwrap(),
    )
    .unwrap();
    assert_eq!(
        (&ready["status"], &ready["pipeline"]["digest"]),
        (&"ready".into(), &server.active().into())
    );

    // The log has the caller's trace id.
    let headers = [
        ("content-type", "image/png"),
        (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
    ];
    let answer = server.post_with("/process_frame", &headers, &drawn("alice-probe.png"));
    assert!(
        server
            .log_of(&answer)
            .contains("trace=\"4bf92f3577b34da6a3ce929d0e0e4736\""),
        "{}",
        server.log()
    );
}

#[test]
fn openapi_document_is_current() {
    let printed = String::from_utf8(
        crate::harness::rostro()
            .arg("openapi")
            .output()
            .unwrap()
            .stdout,
    )
    .unwrap();
    let kept = std::fs::read_to_string(crate::harness::root().join("docs/openapi.json")).unwrap();
    assert!(
        printed == kept,
        "docs/openapi.json is outdated; run `rostro openapi > docs/openapi.json`"
    );
    let server = Options::drawn().start();
    let get = |path: &str| {
        ureq::get(format!("{}{path}", server.url))
            .call()
            .unwrap()
            .body_mut()
            .read_to_string()
            .unwrap()
    };
    let served: serde_json::Value = serde_json::from_str(&get("/openapi.json")).unwrap();
    assert_eq!(
        served,
        serde_json::from_str::<serde_json::Value>(&kept).unwrap()
    );
    assert_eq!(served["openapi"], "3.1.0");
    for path in [
        "/process_frame",
        "/process-images",
        "/v1/compare",
        "/v1/people/{id}",
        "/v1/groups/{group}/people/{id}",
        "/readyz",
    ] {
        assert!(served["paths"][path].is_object(), "{path}");
    }
    assert!(get("/api").contains("api.js") && get("/api.js").contains("openapi.json"));
}
