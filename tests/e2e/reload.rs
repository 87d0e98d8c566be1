//! What SIGHUP has read again; API keys and certificates are shown in `people` and `connections`.

use std::process::Command;

use crate::harness::{Options, Server, drawn};

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
    assert!(server.log().contains("unknown field `workerss`"), "{}", server.log());
    assert_eq!(enrolled().ok()["review"], "standard");
    // Nor one that never ends, or waits for somebody to write it.
    std::fs::remove_file(&file).unwrap();
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    hang_up(&server, "the configuration stays as it was");
    std::fs::remove_file(&file).unwrap();
    std::fs::File::create(&file).unwrap().set_len(1 << 30).unwrap();
    hang_up(&server, "it is larger than 1 MiB");
    std::fs::remove_file(&file).unwrap();

    std::fs::write(&file, "deadline = 0.001\n").unwrap();
    hang_up(&server, "configuration read again");
    server.recognize(drawn("alice-probe.png")).error(504, "deadline_exceeded");
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
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = agent.get(format!("{}/v1/revisions", server.admin)).header("authorization", format!("Bearer {token}"));
        request.call().unwrap().status().as_u16()
    };
    assert_eq!((status("0123456789abcdef-a"), status("0123456789abcdef-b")), (200, 401));
    std::fs::write(&file, "bob:0123456789abcdef-b\n").unwrap();
    hang_up(&server, "tokens read again");
    assert_eq!((status("0123456789abcdef-a"), status("0123456789abcdef-b")), (401, 200));
    assert!(!server.log().contains("0123456789"));
}
