//! Errors at the start, each with its remedy, and the end of the service.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ureq::http::Method;

use crate::harness::{Options, Server, component, drawn, refusal, rostro};

fn assert_says(error: &str, wanted: &[&str]) {
    for words in wanted {
        assert!(error.contains(words), "`{words}` is not in: {error}");
    }
}

/// Templates that a start made serve the next one, until a person is deleted.
#[test]
fn kept_templates_serve_next_start() {
    let (gallery, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = || {
        Options::drawn()
            .gallery(gallery.path())
            .state(state.path())
            .start()
    };
    let file = state.path().join("templates");
    let says = |server: &Server, words: &str| {
        assert!(server.log().contains(words), "{}", server.log());
        assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    };
    let server = start();
    for name in ["alice", "bob"] {
        server.enroll(name, [drawn(&format!("{name}-1.png"))]).ok();
    }
    drop(server);
    says(&start(), "people=2 kept_templates=0");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    says(&start(), "people=2 kept_templates=2");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&file, bytes).unwrap();
    says(&start(), "cannot read the templates");
    // A file that another program changes has other samples.
    std::fs::copy(
        gallery.path().join("alice.csv"),
        gallery.path().join("carol.csv"),
    )
    .unwrap();
    std::fs::remove_file(gallery.path().join("alice.csv")).unwrap();
    let server = start();
    assert_eq!(server.names(drawn("alice-probe.png")), ["carol"]);
    assert!(file.exists());
    server
        .ask_admin(&Method::DELETE, "/v1/people/carol", &[], &[])
        .ok();
    assert!(!file.exists());
    drop(server);
    let server = start();
    assert!(server.log().contains("people=1 kept_templates=0"));
    assert_eq!(server.names(drawn("alice-probe.png")), ["Unknown"]);
}

#[test]
fn missing_pack_names_remedy() {
    let models = tempfile::tempdir().unwrap();
    let error = Options::drawn()
        .arg("--models", models.path())
        .pack("buffalo_l")
        .refuse();
    assert_says(&error, &["buffalo_l", "rostro models install buffalo_l"]);
}

/// A corrupt model is refused with its file and the remedy.
#[test]
fn corrupt_model_names_file() {
    let models = tempfile::tempdir().unwrap();
    let install = |command: &mut Command| assert!(command.status().unwrap().success());
    install(
        rostro()
            .args(["models", "--models"])
            .arg(models.path())
            .args(["install", "testing"]),
    );
    let model = models.path().join("testing/detector.onnx");
    let mut bytes = std::fs::read(&model).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&model, bytes).unwrap();
    let error = Options::drawn().arg("--models", models.path()).refuse();
    assert_says(&error, &["detector.onnx", "rostro models install testing"]);
}

#[test]
fn missing_onnx_runtime_names_remedy() {
    let nowhere = tempfile::tempdir().unwrap();
    let error = Options::drawn().arg("--runtime", nowhere.path()).refuse();
    assert_says(&error, &["ONNX Runtime", "rostro runtime install"]);
}

#[test]
fn invalid_onnx_runtime_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libonnxruntime.so");
    std::fs::write(&library, "not a library").unwrap();
    let error = Options::drawn().arg("--onnxruntime", &library).refuse();
    assert_says(
        &error,
        &["cannot load ONNX Runtime", "rostro runtime install"],
    );
}

#[test]
fn wrong_world_names_missing_export() {
    let error = Options::drawn()
        .pipeline(component("attendance-policy"))
        .refuse();
    assert_says(
        &error,
        &[
            "no component of the revision exports `vision`",
            "rostro:pipeline/review@0.2.0",
        ],
    );
}

#[test]
fn forbidden_imports_are_named_together() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nosy.wasm");
    let imports = [
        "wasi:sockets/tcp@0.2.6",
        "wasi:http/outgoing-handler@0.2.6",
        "rostro:pipeline/gallery@0.1.0",
    ];
    let text: String = imports
        .iter()
        .map(|name| format!("(import \"{name}\" (instance))"))
        .collect();
    std::fs::write(
        &file,
        wat::parse_str(format!("(component {text})")).unwrap(),
    )
    .unwrap();
    assert_says(&Options::drawn().pipeline(file).refuse(), &imports);
}

/// A file that is not a component is refused with the format that it has.
#[test]
fn invalid_component_is_identified() {
    let folder = tempfile::tempdir().unwrap();
    for (bytes, words) in [
        (b"hello".as_slice(), "not a WebAssembly component"),
        (
            b"\0asm\x01\0\0\0",
            "a core WebAssembly module, not a component",
        ),
        (b"\x7fELF\x02\x01\x01\0", "native or precompiled"),
        (b"", "not a WebAssembly component"),
    ] {
        let file = folder.path().join("pipeline.wasm");
        std::fs::write(&file, bytes).unwrap();
        assert_says(
            &Options::drawn().pipeline(file).refuse(),
            &[words, "wasm32-wasip2"],
        );
    }
}

#[test]
fn missing_pipeline_names_remedy() {
    let error = Options::drawn()
        .pipeline("nowhere/pipeline.wasm".into())
        .refuse();
    assert_says(
        &error,
        &["nowhere/pipeline.wasm", "--pipeline", "cargo xtask guest"],
    );
}

#[test]
fn used_port_names_remedy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut command = rostro();
    let state = tempfile::tempdir().unwrap();
    command
        .args(["serve", "--listen", &address, "--admin", "off", "--state"])
        .arg(state.path());
    assert_says(&refusal(command), &[&address, "--listen"]);
}

#[test]
fn unwritable_gallery_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    // A file in place of the folder, which not even root can write into.
    let file = folder.path().join("gallery");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o444)).unwrap();
    let error = Options::drawn().gallery(&file).refuse();
    assert_says(&error, &["gallery", file.to_str().unwrap()]);
    // A folder that exists, but accepts no files.
    #[cfg(target_os = "linux")]
    assert_says(
        &Options::drawn().gallery("/proc/self".as_ref()).refuse(),
        &["cannot write into the gallery /proc/self", "--gallery"],
    );
}

#[test]
fn unknown_configuration_key_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rostro.toml");
    std::fs::write(&file, "similarity = 0.4\n").unwrap();
    assert_says(
        &Options::drawn().arg("--config", &file).refuse(),
        &["rostro.toml", "unknown field `similarity`"],
    );
}

/// Flags override environment variables, and these override the configuration file.
#[test]
fn flags_override_variables_and_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rostro.toml");
    // Each of these values alone would stop the start with its own message.
    std::fs::write(&file, "similarity-threshold = 3.0\n").unwrap();
    let says = |variable: Option<&str>, flag: Option<&str>| {
        let mut command = rostro();
        command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "off",
                "--config",
            ])
            .arg(&file);
        if let Some(value) = variable {
            command.env("ROSTRO_SIMILARITY_THRESHOLD", value);
        }
        if let Some(value) = flag {
            command.args(["--similarity-threshold", value]);
        }
        refusal(command)
    };
    assert_says(&says(None, None), &["similarity-threshold is 3;"]);
    assert_says(&says(Some("4"), None), &["similarity-threshold is 4;"]);
    assert_says(&says(Some("4"), Some("5")), &["similarity-threshold is 5;"]);
}

#[test]
fn terminated_service_exits_successfully() {
    let mut server = Options::drawn().start();
    server.recognize(drawn("empty.png")).ok();
    assert_eq!(server.terminate(), Some(0));
}

/// Starts a service that has nothing compiled, so that it is not ready for a while. Dropping the
/// guard kills it.
fn start_cold(
    folder: &std::path::Path,
) -> (
    scopeguard::ScopeGuard<Child, impl FnOnce(Child)>,
    SocketAddr,
) {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut command = rostro();
    command.args([
        "serve",
        "--admin",
        "off",
        "--pack",
        "testing",
        "--listen",
        &address.to_string(),
    ]);
    for (flag, name) in [
        ("--gallery", "gallery"),
        ("--state", "state"),
        ("--compiled", "compiled"),
    ] {
        command.arg(flag).arg(folder.join(name));
    }
    let server = command
        .arg("--pipeline")
        .arg(component("insightface"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = scopeguard::guard(server, |mut server| {
        let _ = server.kill();
        let _ = server.wait();
    });
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "the port is not open"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    (server, address)
}

/// Health is answered before the service is ready, and other requests wait until it is.
#[test]
fn health_answers_before_readiness() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, address) = start_cold(folder.path());
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let get = |path: &str| {
        agent
            .get(format!("http://{address}{path}"))
            .call()
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(
        (get("/healthz"), get("/readyz")),
        (200, 503),
        "it is not ready yet"
    );
    let frame = agent
        .post(format!("http://{address}/process_frame"))
        .header("content-type", "image/png");
    let mut answer = frame.send(&drawn("alice-probe.png")).unwrap();
    assert_eq!(
        answer.status(),
        200,
        "{}",
        answer.body_mut().read_to_string().unwrap()
    );
    assert_eq!((get("/healthz"), get("/readyz")), (200, 200));
}

#[test]
fn termination_before_readiness_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, _) = start_cold(folder.path());
    let signalled = Instant::now();
    assert!(
        Command::new("kill")
            .args(["-TERM", &server.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(server.wait().unwrap().code(), Some(0));
    assert!(
        signalled.elapsed() < Duration::from_secs(25),
        "{:?}",
        signalled.elapsed()
    );
}
