//! What SIGHUP has read again; API keys and certificates are shown in `people` and `connections`.

use std::process::Command;

use ureq::http::Method;

use crate::harness::{Options, Server, drawn, rostro};
use crate::operator::metrics;

/// Tells the server to read everything again, and waits until its log says so.
fn hang_up(server: &Server, says: &str) {
    let before = server.log().matches(says).count();
    server.signal("HUP");
    server.wait_for_log_again(says, before);
}

#[test]
fn the_configuration_is_read_again_and_what_takes_a_restart_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rostro.toml");
    std::fs::write(&file, "review = \"off\"\n").unwrap();
    let server = Options::drawn().arg("--config", &file).start();
    let enrolled = || server.enroll("alice", [drawn("alice-1.png")]);
    assert_eq!(enrolled().ok()["review"], "off");

    std::fs::write(&file, "review = \"standard\"\nworkers = 7\n").unwrap();
    hang_up(&server, "in force from a restart on: workers");
    assert_eq!(enrolled().ok()["review"], "standard");

    // A file that cannot be used changes nothing.
    std::fs::write(&file, "review = \"strict\"\nworkerss = 7\n").unwrap();
    hang_up(&server, "the configuration stays as it was");
    assert!(
        server.log().contains("unknown field `workerss`"),
        "{}",
        server.log()
    );
    assert_eq!(enrolled().ok()["review"], "standard");
    // Nor one that never ends, or waits for somebody to write it.
    std::fs::remove_file(&file).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&file)
            .status()
            .unwrap()
            .success()
    );
    hang_up(&server, "the configuration stays as it was");
    std::fs::remove_file(&file).unwrap();
    std::fs::File::create(&file)
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    hang_up(&server, "it is larger than 1 MiB");
    std::fs::remove_file(&file).unwrap();

    std::fs::write(&file, "deadline = 0.001\n").unwrap();
    hang_up(&server, "configuration read again");
    server
        .recognize(drawn("alice-probe.png"))
        .error(504, "deadline_exceeded");
    std::fs::write(&file, "").unwrap();
    hang_up(&server, "configuration read again");
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
}

#[test]
fn tokens_of_operators_are_read_again() {
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
    hang_up(&server, "tokens read again");
    assert_eq!(
        (status("0123456789abcdef-a"), status("0123456789abcdef-b")),
        (401, 200)
    );
    assert!(!server.log().contains("0123456789"));
}

/// Runs `rostro serve --check`: whether it succeeds, and what it prints.
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

/// Every file that a reload reads is checked, all faults are named at once, and a running service
/// does not stand in the way.
#[test]
fn check_names_every_unusable_file() {
    let folder = tempfile::tempdir().unwrap();
    let [config, keys, tokens] =
        ["rostro.toml", "keys", "tokens"].map(|name| folder.path().join(name));
    let write = |path, text: &str| std::fs::write(path, text).unwrap();
    // Editors of Windows begin files with a byte-order mark.
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
    let server = Options::drawn().arg("--config", &config).start();
    let (ok, said) = check(&args);
    assert!(
        ok && said.contains("API keys: 2") && said.contains("tokens: 2"),
        "{said}"
    );

    write(&keys, "office:enrol:short\n");
    write(&tokens, "alice\n");
    let (ok, said) = check(&args);
    assert!(
        !ok && said.contains("keys, line 1: the key is not at least")
            && said.contains("tokens, line 1"),
        "{said}"
    );
    write(&config, "workerss = 3\n");
    let (ok, said) = check(&args);
    assert!(!ok && said.contains("unknown field `workerss`"), "{said}");
    let missing = folder.path().join("missing.pem");
    let (ok, said) = check(&[
        "--tls-certificate".as_ref(),
        missing.as_os_str(),
        "--tls-key".as_ref(),
        missing.as_os_str(),
    ]);
    assert!(!ok && said.contains("missing.pem"), "{said}");
    drop(server);
}

/// Monitoring sees a reload that was refused, and one that was not.
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
    hang_up(&server, "the API keys stay as they were");
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
    hang_up(&server, "API keys read again");
    while value("rostro_reload_success") == 0 {
        assert!(begun.elapsed().as_secs() < 40);
    }
    assert_eq!(last()["failures"], serde_json::json!([]));
}

/// The name of a key is in the line of every request that has it: refused for its scope, its path,
/// its method or its size.
#[test]
fn refused_request_is_logged_with_key_name() {
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
