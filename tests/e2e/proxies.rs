//! Service behind a proxy, and pages of browsers that call it.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::Value;
use tempfile::TempDir;
use ureq::http::HeaderMap;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::harness::{BOUNDARY, Options, Server, drawn, file, multipart, root, text};

const KEY: &str = "0123456789abcdef";

/// Address from which nginx connects, so that it differs from the client's address.
const PROXY: &str = "127.0.0.3";

/// Running nginx, which is stopped on drop.
pub(crate) struct Nginx {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Nginx {
    /// Starts nginx. `http` returns the content of `http { … }` for a port and a folder.
    pub(crate) fn start(http: impl Fn(u16, &Path) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let own = folder.path();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/{kind};\n", own.display()))
            .concat();
        let configuration = format!(
            "daemon off; master_process off; pid {0}/pid; error_log stderr;\nevents {{}}\nhttp {{ access_log off;\n{temporary}{1}\n}}\n",
            own.display(),
            http(port, own)
        );
        std::fs::write(own.join("nginx.conf"), configuration).unwrap();
        let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let program = program.expect("nginx is missing; run sudo apt-get install nginx");
        let mut child = Command::new(program)
            .arg("-p")
            .arg(own)
            .arg("-c")
            .arg(own.join("nginx.conf"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "nginx ended");
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "nginx does not listen"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self {
            child,
            port,
            _folder: folder,
        }
    }

    /// Starts nginx as in its manual: `host` has the upstream's name.
    fn plain(server: &Server) -> Self {
        let url = server.url.clone();
        Self::start(|port, _| {
            format!("server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {url}; }} }}")
        })
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// Response: status, JSON and headers.
struct Reply(u16, Value, HeaderMap);

fn send(
    agent: &ureq::Agent,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = agent.run(request.body(body).unwrap()).unwrap();
    let text = response.body_mut().read_to_string().unwrap();
    Reply(
        response.status().as_u16(),
        serde_json::from_str(&text).unwrap_or_default(),
        response.headers().clone(),
    )
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .into()
}

/// Sends a picture of alice as a page of `origin` does.
fn post_page(url: &str, origin: &str, headers: &[(&str, &str)]) -> Reply {
    let headers = [
        &[("content-type", "image/png"), ("origin", origin)],
        headers,
    ]
    .concat();
    send(
        &agent(),
        "POST",
        &format!("{url}/process_frame"),
        &headers,
        &drawn("alice-probe.png"),
    )
}

/// Browsers send `sec-fetch-site` only from secure pages, so only the origin counts on plain HTTP.
#[test]
fn default_nginx_accepts_own_page() {
    let server = Options::drawn().start();
    let nginx = Nginx::plain(&server);
    let own = nginx.origin();
    assert_eq!(
        post_page(&own, &own, &[("sec-fetch-site", "same-origin")]).0,
        200
    );
    let Reply(status, refusal, _) = post_page(&own, &own, &[]);
    let message = refusal["error"].as_str().unwrap();
    assert_eq!(
        (status, refusal["code"].as_str()),
        (403, Some("cross_origin_refused"))
    );
    assert!(
        message.contains(&format!("--public-origin {own}")),
        "{message}"
    );
    assert_eq!(
        post_page(
            &own,
            "http://evil.example",
            &[("sec-fetch-site", "cross-site")]
        )
        .0,
        403
    );

    // The flag that the refusal quotes.
    let server = Options::drawn().arg("--public-origin", &own).start();
    assert_eq!(post_page(&server.url, &own, &[]).0, 200);
    assert_eq!(post_page(&server.url, "http://evil.example", &[]).0, 403);
}

/// Hosts are compared as browsers write them: case, default port, final dot and IPv6 form.
#[test]
fn host_comparison_follows_browsers() {
    let server = Options::drawn().start();
    let port = server.url.rsplit_once(':').unwrap().1;
    for (origin, host) in [
        (
            format!("http://LOCALHOST:{port}"),
            format!("localhost:{port}"),
        ),
        ("http://cam.example".to_owned(), "Cam.Example:80".to_owned()),
        (
            "https://cam.example".to_owned(),
            "cam.example:443".to_owned(),
        ),
        (
            "https://cam.example".to_owned(),
            "cam.example:80".to_owned(),
        ),
        (
            format!("http://cam.example.:{port}"),
            format!("cam.example:{port}"),
        ),
        (
            format!("http://[::1]:{port}"),
            format!("[0:0:0:0:0:0:0:1]:{port}"),
        ),
    ] {
        assert_eq!(
            post_page(&server.url, &origin, &[("host", &host)]).0,
            200,
            "{origin} {host}"
        );
    }
    assert_eq!(
        post_page(
            &server.url,
            "http://cam.example",
            &[("host", "cam.example:81")]
        )
        .0,
        403
    );
    assert_eq!(
        post_page(
            &server.url,
            "http://evil.example",
            &[
                ("host", "cam.example"),
                ("x-forwarded-host", "evil.example")
            ]
        )
        .0,
        403
    );

    // A trusted proxy names the host.
    let server = Options::drawn()
        .arg("--trusted-proxies", "127.0.0.1")
        .start();
    for forwarded in [
        ("x-forwarded-host", "cam.example"),
        (
            "forwarded",
            "for=203.0.113.7;host=\"Cam.Example:443\";proto=https",
        ),
    ] {
        assert_eq!(
            post_page(&server.url, "https://cam.example", &[forwarded]).0,
            200,
            "{forwarded:?}"
        );
        assert_eq!(
            post_page(&server.url, "https://evil.example", &[forwarded]).0,
            403,
            "{forwarded:?}"
        );
    }
    let by_port = [
        ("x-forwarded-host", "cam.example"),
        ("x-forwarded-port", "80"),
        ("x-forwarded-proto", "https"),
    ];
    assert_eq!(
        post_page(&server.url, "https://cam.example", &by_port).0,
        200
    );
}

/// Returns the client address in the last line of the audit log.
fn audited(state: &Path) -> String {
    let text = std::fs::read_to_string(state.join("audit.jsonl")).unwrap();
    let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    line["from"].as_str().unwrap().to_owned()
}

/// Starts nginx with docs/deploy/nginx.conf and the test's port, certificate, upstream and limit of
/// bodies. Returns it with a client and its URL.
fn documented_nginx(server: &Server, limit: &str) -> (Nginx, ureq::Agent, String) {
    let upstream = server.url.trim_start_matches("http://").to_owned();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let documented = std::fs::read_to_string(root().join("docs/deploy/nginx.conf")).unwrap();
    let nginx = Nginx::start(|port, folder| {
        std::fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), signing_key.serialize_pem()).unwrap();
        let shown = |name: &str| folder.join(name).display().to_string();
        let replaced = [
            ("server 127.0.0.1:4000;", format!("server {upstream};")),
            ("listen 443 ssl;", format!("listen 127.0.0.1:{port} ssl;")),
            (
                "server_name cameras.example;",
                "server_name localhost;".to_owned(),
            ),
            ("/etc/ssl/certs/cameras.example.pem", shown("cert.pem")),
            ("/etc/ssl/private/cameras.example.key", shown("key.pem")),
            (
                "proxy_http_version 1.1;",
                format!("proxy_http_version 1.1;\nproxy_bind {PROXY};"),
            ),
            (
                "client_max_body_size 128m;",
                format!("client_max_body_size {limit};"),
            ),
        ];
        replaced
            .iter()
            .fold(documented.clone(), |text, (from, to)| {
                assert_eq!(text.matches(from).count(), 1, "{from}");
                text.replace(from, to)
            })
    });
    let roots = RootCerts::new_with_certs(&[Certificate::from_pem(cert.pem().as_bytes()).unwrap()]);
    let tls = TlsConfig::builder().root_certs(roots).build();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .build()
        .into();
    let url = format!("https://localhost:{}", nginx.port);
    (nginx, agent, url)
}

#[test]
fn documented_nginx_forwards_client() {
    let state = tempfile::tempdir().unwrap();
    let server = Options::drawn()
        .arg("--trusted-proxies", PROXY)
        .state(state.path())
        .start();
    let (_nginx, agent, url) = documented_nginx(&server, "128m");
    let form = multipart(&[
        text("student_id", "alice"),
        file("images", "a.png", drawn("alice-1.png")),
    ]);
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let enrol = |headers: &[(&str, &str)]| {
        let headers = [
            &[("content-type", kind.as_str()), ("origin", url.as_str())],
            headers,
        ]
        .concat();
        send(
            &agent,
            "POST",
            &format!("{url}/process-images"),
            &headers,
            &form,
        )
    };
    // The service's own page, without and with the header of secure pages.
    for headers in [&[][..], &[("sec-fetch-site", "same-origin")]] {
        assert_eq!(enrol(headers).0, 200);
    }
    assert_eq!(audited(state.path()), "127.0.0.1");
    // Headers of the client about itself are not trusted.
    for forged in [
        ("x-forwarded-for", "203.0.113.9"),
        ("forwarded", "for=203.0.113.9;host=evil.example"),
        ("x-forwarded-host", "evil.example"),
    ] {
        assert_eq!(enrol(&[forged]).0, 200);
        assert_eq!(audited(state.path()), "127.0.0.1", "{forged:?}");
        assert_eq!(
            send(
                &agent,
                "POST",
                &format!("{url}/process-images"),
                &[("origin", "https://evil.example"), forged],
                &form
            )
            .0,
            403
        );
    }
}

/// Archives may be larger than any other body.
#[test]
fn documented_nginx_accepts_archives() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, format!("office:recognise,enrol,manage:{KEY}\n")).unwrap();
    let server = Options::drawn()
        .arg("--trusted-proxies", PROXY)
        .arg("--api-keys", &keys)
        .start();
    let (_nginx, agent, url) = documented_nginx(&server, "500");
    let form = multipart(&[
        text("student_id", "alice"),
        file("images", "a.png", drawn("alice-1.png")),
    ]);
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let key = ("x-api-key", KEY);
    assert_eq!(
        server
            .post_with("/process-images", &[("content-type", &kind), key], &form)
            .status,
        200
    );
    assert_eq!(
        send(
            &agent,
            "POST",
            &format!("{url}/process-images"),
            &[("content-type", &kind), key],
            &form
        )
        .0,
        413
    );

    let archives = format!("{url}/v1/gallery");
    let export = agent
        .get(&archives)
        .header("x-api-key", KEY)
        .call()
        .unwrap()
        .body_mut()
        .read_to_vec()
        .unwrap();
    assert!(export.len() > 500, "{}", export.len());
    let Reply(status, answer, _) = send(
        &agent,
        "POST",
        &archives,
        &[("content-type", "application/zip"), key],
        &export,
    );
    assert_eq!(
        (status, answer["people"].as_u64()),
        (200, Some(1)),
        "{answer}"
    );
}

/// The log and the audit log name the forwarded client.
#[test]
fn forwarded_client_is_audited() {
    let state = tempfile::tempdir().unwrap();
    let server = Options::drawn()
        .arg("--trusted-proxies", "10.0.0.0/8,127.0.0.1")
        .state(state.path())
        .start();
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let form = multipart(&[
        text("student_id", "alice"),
        file("images", "a.png", drawn("alice-1.png")),
    ]);
    for (headers, wanted) in [
        (
            &[("x-forwarded-for", "1.1.1.1, 203.0.113.7, 10.0.0.2")][..],
            "203.0.113.7",
        ),
        (
            &[
                ("forwarded", "for=\"[2001:db8::7]:4711\""),
                ("x-forwarded-for", "203.0.113.7"),
            ],
            "[2001:db8::7]:4711",
        ),
        (
            &[("x-forwarded-for", "203.0.113.9,,10.0.0.2,")],
            "203.0.113.9",
        ),
        // An open quote of the client hides the proxy's element. Then the proxy is named, not an
        // address that the client chose.
        (
            &[("forwarded", "for=1.2.3.4;x=\", for=203.0.113.7")],
            "127.0.0.1:",
        ),
    ] {
        let headers = [&[("content-type", kind.as_str())], headers].concat();
        let answer = server.post_with("/process-images", &headers, &form);
        assert_eq!(answer.status, 200, "{}", answer.json);
        let from = audited(state.path());
        assert!(from.starts_with(wanted), "{from}");
        assert!(
            server.log_of(&answer).contains(&format!("from={wanted}")),
            "{}",
            server.log()
        );
    }
    // Without the flag the peer address counts.
    let state = tempfile::tempdir().unwrap();
    let server = Options::drawn().state(state.path()).start();
    let headers = [
        ("content-type", kind.as_str()),
        ("x-forwarded-for", "203.0.113.7"),
    ];
    assert_eq!(
        server.post_with("/process-images", &headers, &form).status,
        200
    );
    assert!(audited(state.path()).starts_with("127.0.0.1:"));
}

/// Each client behind one proxy has its own share of the memory for bodies.
#[test]
fn forwarded_clients_have_own_shares() {
    use std::io::{Read, Write};

    let flags = |server: Options| {
        server
            .arg("--max-body-mib", "1")
            .arg("--max-bodies-mib", "2")
            .start()
    };
    let begin = |server: &Server, client: &str, sent: usize| {
        let mut connection = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
        connection
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let head = format!(
            "POST /process_frame HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-forwarded-for: {client}\r\ncontent-type: image/png\r\ncontent-length: 900000\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).unwrap();
        connection.write_all(&vec![0; sent]).unwrap();
        connection
    };
    let status = |mut connection: TcpStream| {
        let mut answer = [0; 12];
        connection.read_exact(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[9..]).into_owned()
    };
    let server = flags(Options::drawn().arg("--trusted-proxies", "127.0.0.1"));
    let _held = begin(&server, "203.0.113.1", 890_000);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(status(begin(&server, "203.0.113.1", 900_000)), "503");
    assert_eq!(status(begin(&server, "203.0.113.2", 900_000)), "400");
}

#[test]
fn allowed_origin_needs_key() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, format!("page:recognise:{KEY}\n")).unwrap();
    let server = Options::drawn()
        .arg("--api-keys", &keys)
        .arg("--allow-origin", "https://app.example")
        .start();
    let allowed = |reply: &Reply| {
        reply
            .2
            .get("access-control-allow-origin")
            .map(|value| value.to_str().unwrap().to_owned())
    };
    // Preflight requests.
    let preflight = |origin: &str| {
        let asks = [
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "x-api-key,content-type"),
        ];
        send(
            &agent(),
            "OPTIONS",
            &format!("{}/process_frame", server.url),
            &[&[("origin", origin)], &asks[..]].concat(),
            &[],
        )
    };
    let answer = preflight("https://app.example");
    assert_eq!(
        (answer.0, allowed(&answer).as_deref()),
        (200, Some("https://app.example"))
    );
    assert!(
        answer.2["access-control-allow-headers"]
            .to_str()
            .unwrap()
            .contains("x-api-key"),
        "{:?}",
        answer.2
    );
    assert!(answer.2.contains_key("x-request-id"));
    assert_eq!(allowed(&preflight("https://evil.example")), None);

    // Requests with a key.
    let reply = post_page(
        &server.url,
        "https://app.example",
        &[("x-api-key", KEY), ("sec-fetch-site", "cross-site")],
    );
    assert_eq!(
        (reply.0, allowed(&reply).as_deref()),
        (200, Some("https://app.example"))
    );
    // A page must be able to read the refusal.
    let refused = post_page(&server.url, "https://app.example", &[]);
    assert_eq!(
        (refused.0, allowed(&refused).as_deref()),
        (401, Some("https://app.example"))
    );
    assert_eq!(
        allowed(&post_page(
            &server.url,
            "https://evil.example",
            &[("x-api-key", KEY)]
        )),
        None
    );
}

#[test]
fn origins_without_keys_refused() {
    let error = Options::drawn()
        .arg("--allow-origin", "https://app.example")
        .refuse();
    assert!(
        error.contains("--allow-origin") && error.contains("--api-keys"),
        "{error}"
    );
}
