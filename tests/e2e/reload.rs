//! Reload on SIGHUP. Reloads of API keys and certificates are tested in `people` and `connections`.

use std::process::Command;

use ureq::http::Method;

use crate::harness::{Options, Server, drawn, rostro};
use crate::operator::metrics;

/// Sends SIGHUP, and waits until the log has the message.
fn reload(server: &Server, message: &str) {
    let before = server.log().matches(message).count();
    server.signal("HUP");
    server.wait_for_log_again(message, before);
}

/// A reload applies the configuration, and names the settings that need a restart.
#[test]
fn reload_names_settings_needing_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rostro.toml");
    std::fs::write(&file, "review = \"off\"\n").unwrap();
    let server = Options::drawn().arg("--config", &file).start();
    let enrolled = || server.enroll("alice", [drawn("alice-1.png")]);
    assert_eq!(enrolled().ok()["review"], "off");

    std::fs::write(&file, "review = \"standard\"\nworkers = 7\n").unwrap();
    reload(&server, "in force from a restart on: workers");
    assert_eq!(enrolled().ok()["review"], "standard");

    // An unusable file changes nothing.
    std::fs::write(&file, "review = \"strict\"\nworkerss = 7\n").unwrap();
    reload(&server, "the configuration stays as it was");
    assert!(
        server.log().contains("unknown field `workerss`"),
        "{}",
        server.log()
    );
    assert_eq!(enrolled().ok()["review"], "standard");
    // A file that never ends or waits for a writer changes nothing either.
    std::fs::remove_file(&file).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&file)
            .status()
            .unwrap()
            .success()
    );
    reload(&server, "the configuration stays as it was");
    std::fs::remove_file(&file).unwrap();
    std::fs::File::create(&file)
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    reload(&server, "it is larger than 1 MiB");
    std::fs::remove_file(&file).unwrap();

    // Each setting takes effect, and an empty file restores the defaults.
    std::fs::write(&file, "deadline = 0.001\n").unwrap();
    reload(&server, "configuration read again");
    server
        .recognize(drawn("alice-probe.png"))
        .error(504, "deadline_exceeded");
    std::fs::write(&file, "").unwrap();
    reload(&server, "configuration read again");
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
}

#[test]
fn operator_tokens_are_reloaded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "alice:0123456789abcdef-a\n").unwrap();
    let server = Options::drawn().arg("--admin-token-file", &file).start();
    let status = |token: &str| {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        let request = agent
            .get(format!("{}/v1/revisions", server.admin))
            .header("authorization", format!("Bearer {token}"));
        request.call().unwrap().status().as_u16()
    };
    assert_eq!(
        (status("0123456789abcdef-a"), status("0123456789abcdef-b")),
        (200, 401)
    );
    std::fs::write(&file, "bob:0123456789abcdef-b\n").unwrap();
    reload(&server, "tokens read again");
    assert_eq!(
        (status("0123456789abcdef-a"), status("0123456789abcdef-b")),
        (401, 200)
    );
    assert!(!server.log().contains("0123456789"));
}

/// Runs `rostro serve --check`, and returns its success and its output.
fn check(args: &[&std::ffi::OsStr]) -> (bool, String) {
    let output = rostro()
        .args(["serve", "--check"])
        .args(args)
        .output()
        .unwrap();
    (
        output.status.success(),
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap(),
    )
}

/// Checks every file of a reload and names all faults at once, even while the service runs.
#[test]
fn check_names_every_unusable_file() {
    let folder = tempfile::tempdir().unwrap();
    let [config, keys, tokens] =
        ["rostro.toml", "keys", "tokens"].map(|name| folder.path().join(name));
    let write = |path, text: &str| std::fs::write(path, text).unwrap();
    // Editors on Windows begin files with a byte-order mark.
    write(
        &config,
        &format!(
            "\u{feff}queue = 4\napi-keys = '{}'\nadmin-token-file = '{}'\n",
            keys.display(),
            tokens.display()
        ),
    );
    write(
        &keys,
        "\u{feff}office:enrol:0123456789abcdef-1\noffice:manage:0123456789abcdef-2\n",
    );
    write(
        &tokens,
        "\u{feff}alice:0123456789abcdef-a\nalice:0123456789abcdef-b\n",
    );
    let args = ["--config".as_ref(), config.as_os_str()];
    // Usable files, while a service runs.
    let server = Options::drawn().arg("--config", &config).start();
    let (ok, output) = check(&args);
    assert!(
        ok && output.contains("API keys: 2") && output.contains("tokens: 2"),
        "{output}"
    );

    // Unusable files.
    write(&keys, "office:enrol:short\n");
    write(&tokens, "alice\n");
    let (ok, output) = check(&args);
    assert!(
        !ok && output.contains("keys, line 1: the key is not at least")
            && output.contains("tokens, line 1"),
        "{output}"
    );
    write(&config, "workerss = 3\n");
    let (ok, output) = check(&args);
    assert!(
        !ok && output.contains("unknown field `workerss`"),
        "{output}"
    );
    let missing = folder.path().join("missing.pem");
    let (ok, output) = check(&[
        "--tls-certificate".as_ref(),
        missing.as_os_str(),
        "--tls-key".as_ref(),
        missing.as_os_str(),
    ]);
    assert!(!ok && output.contains("missing.pem"), "{output}");
    drop(server);
}

/// Metrics and readiness report a refused reload, and a successful one.
#[test]
fn refused_reload_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    std::fs::write(&file, "office:manage:0123456789abcdef\n").unwrap();
    let server = Options::drawn().arg("--api-keys", &file).start();
    let value = |name: &str| {
        let text = metrics(&server);
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}: {text}"))
            .parse::<i64>()
            .unwrap()
    };
    let last = || server.admin_get("/readyz")["last_reload"].clone();
    assert_eq!(
        (value("rostro_reload_success"), &last()["success"]),
        (1, &true.into())
    );
    std::fs::write(&file, "office:manage\n").unwrap();
    reload(&server, "the API keys stay as they were");
    let begun = std::time::Instant::now();
    while value("rostro_reload_success") == 1 {
        assert!(begun.elapsed().as_secs() < 20);
    }
    assert!(
        last()["failures"][0].as_str().unwrap().contains("line 1"),
        "{}",
        last()
    );
    assert!(value("rostro_reload_timestamp_seconds") > 1_700_000_000);
    std::fs::write(
        &file,
        "office:manage:0123456789abcdef\noffice:manage:fedcba9876543210\n",
    )
    .unwrap();
    reload(&server, "API keys read again");
    while value("rostro_reload_success") == 0 {
        assert!(begun.elapsed().as_secs() < 40);
    }
    assert_eq!(last()["failures"], serde_json::json!([]));
}

/// The log has the name of the key for each request, also if its scope, path, method or size is
/// refused.
#[test]
fn refused_request_logs_key_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    std::fs::write(&file, "camera:recognise:0123456789abcdef\n").unwrap();
    let server = Options::drawn()
        .arg("--api-keys", &file)
        .arg("--max-body-mib", "1")
        .start();
    let ask = |method: Method, path: &str, body: &[u8]| {
        let answer = server.ask(&method, path, body, &[("x-api-key", "0123456789abcdef")]);
        (answer.status, server.log_of(&answer))
    };
    for (status, method, path, body) in [
        (403, Method::GET, "/v1/people", &[][..]),
        (404, Method::GET, "/nothing", &[]),
        (405, Method::GET, "/process_frame", &[]),
        (413, Method::POST, "/process_frame", &vec![0; 2 << 20]),
    ] {
        let (answered, log) = ask(method, path, body);
        assert_eq!(answered, status, "{path}: {log}");
        assert!(log.contains("who=\"key camera\""), "{log}");
        assert!(!log.contains("0123456789"), "{log}");
    }
}
