//! Limits of a machine: little memory, few addresses, linked files and shared folders.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Options, Server, component, drawn, refusal, rostro};

/// Returns a command prefix that limits the address space to `kib` KiB.
fn with_addresses(kib: u32) -> Vec<String> {
    ["sh", "-c", &format!("ulimit -v {kib} && exec \"$@\""), "sh"]
        .map(str::to_owned)
        .to_vec()
}

/// Returns the MiB that the log reports for a budget.
fn budget(server: &Server, name: &str) -> usize {
    let log = server.log();
    let line = log.lines().find(|line| line.contains("sized for")).unwrap();
    let value = line.split_once(&format!("{name}=")).unwrap().1;
    value
        .split(|letter: char| !letter.is_ascii_digit())
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// The address space is smaller than the pool of guests and also bounds the memory. Unfinished
/// bodies take at most their share.
#[test]
fn small_machine_survives_partial_bodies() {
    let server = Options::drawn().within(with_addresses(1_600_000)).start();
    let log = server.log();
    assert!(
        log.contains("cannot reserve addresses for all guests")
            && log.contains("ulimit -v unlimited"),
        "{log}"
    );
    assert!(log.contains("1562 MiB (ulimit -v)"), "{log}");
    let bodies = budget(&server, "max_bodies_mib");
    assert!(
        bodies + budget(&server, "max_guests_mib") < 1562
            && 2 * budget(&server, "max_body_mib") <= bodies,
        "{log}"
    );
    let length = budget(&server, "max_body_mib") << 20;
    let address = server.url.trim_start_matches("http://").to_owned();
    let chunk = vec![b'x'; 1 << 20];
    let open: Vec<TcpStream> = (0..6)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
            write!(stream, "POST /process_frame HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: {length}\r\n\r\n")
                .unwrap();
            // The service stops reading when the budget for bodies is full.
            let _ = (1..length >> 20).try_for_each(|_| stream.write_all(&chunk));
            stream
        })
        .collect();
    drop(open);
    let begun = Instant::now();
    while server.recognize(drawn("alice-probe.png")).status != 200 {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{}",
            server.log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn oversized_budgets_refused_with_remedy() {
    let error = Options::drawn().arg("--max-bodies-mib", "900000").refuse();
    for words in [
        "cannot fit the service into",
        "/proc/meminfo",
        "it needs at least",
        "lower --max-bodies-mib, or use a machine with more memory",
    ] {
        assert!(error.contains(words), "`{words}` is not in: {error}");
    }
    let error = Options::drawn().within(with_addresses(250_000)).refuse();
    assert!(
        error.contains("cannot fit the service into 244 MiB of memory (ulimit -v)"),
        "{error}"
    );
}

#[test]
fn malformed_flags_report_range() {
    for (flag, value, message) in [
        (
            "--workers",
            "0",
            "workers is 0; it must be between 1 and 1024",
        ),
        ("--breaker", "0", "breaker is 0; it must be at least 1"),
    ] {
        let error = Options::drawn().arg(flag, value).refuse();
        assert!(error.contains(message), "{error}");
    }
    for (flag, value, message) in [
        ("--workers", "-1", "it must not be negative"),
        ("--queue", "many", "it is not a number"),
        ("--max-body-mib", "1.5", "it must be a whole number"),
        ("--listen", "localhost", "write HOST:PORT"),
        ("--admin", "4001", "write HOST:PORT"),
    ] {
        let output = rostro().args(["serve", flag, value]).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(2) && error.contains(message) && error.contains(flag),
            "{error}"
        );
    }
}

#[test]
fn addresses_accept_host_names() {
    let error = Options::drawn()
        .arg("--admin", "nowhere.invalid:0")
        .refuse();
    assert!(
        error.contains("cannot resolve nowhere.invalid:0"),
        "{error}"
    );
    let error = Options::drawn()
        .arg("--listen", "nowhere.invalid:0")
        .refuse();
    assert!(
        error.contains("cannot listen on nowhere.invalid:0") && error.contains("--listen"),
        "{error}"
    );
    let server = Options::drawn()
        .arg("--listen", "localhost:0")
        .arg("--admin", "localhost:0")
        .start();
    assert!(
        server.url.starts_with("http://127.0.0.1:")
            && server.admin.starts_with("http://127.0.0.1:"),
        "{server:?}"
    );
    server.recognize(drawn("empty.png")).ok();
}

/// Follows the folder of a ConfigMap, where all files are swapped at once.
#[test]
fn config_map_swap_detected() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let version = |name: &str, from: &str| {
        std::fs::create_dir(at(name)).unwrap();
        std::fs::copy(component(from), at(name).join("pipeline.wasm")).unwrap();
        symlink(name, at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    version("..2026_11_30.1", "insightface");
    symlink("..data/pipeline.wasm", at("pipeline.wasm")).unwrap();
    let server = Options::drawn().arg("--pipelines", folder.path()).start();
    let before = server.active();
    version("..2026_11_30.2", "variant");
    let begun = Instant::now();
    while server.active() == before {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{}",
            server.log()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn watched_folder_problems_logged_once() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("pipelines");
    let server = Options::drawn().arg("--pipelines", &folder).start();
    let before = server.active();
    std::fs::copy(component("variant"), parent.path().join("stored")).unwrap();
    symlink(folder.join("nowhere"), folder.join("dangling.wasm")).unwrap();
    symlink(parent.path().join("stored"), folder.join("GOOD.WASM")).unwrap();
    let begun = Instant::now();
    while server.active() == before {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{}",
            server.log()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    std::fs::rename(&folder, parent.path().join("away")).unwrap();
    server.wait_for_log("cannot look into the watched folder");
    std::thread::sleep(Duration::from_secs(3));
    std::fs::rename(parent.path().join("away"), &folder).unwrap();
    server.wait_for_log("INFO the watched folder");
    std::thread::sleep(Duration::from_secs(2));
    let log = server.log();
    assert_eq!(
        log.matches("cannot look into the watched folder").count(),
        1,
        "{log}"
    );
    assert_eq!(log.matches("INFO the watched folder").count(), 1, "{log}");
    assert!(
        (1..=2).contains(&log.matches("dangling.wasm").count()),
        "once before the folder went away, and once after: {log}"
    );
}

#[test]
fn group_writable_state_folder_explained() {
    let volume = tempfile::tempdir().unwrap();
    std::fs::set_permissions(volume.path(), std::fs::Permissions::from_mode(0o2775)).unwrap();
    let error = Options::drawn().state(volume.path()).refuse();
    let own = volume.path().join("rostro");
    assert!(
        error.contains("fsGroup") && error.contains(&format!("--state {}", own.display())),
        "{error}"
    );
    // The remedy works even after the group regains permissions, as at each start of a pod.
    drop(Options::drawn().state(&own).start());
    for folder in [own.clone(), own.join("components")] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o2770)).unwrap();
    }
    let server = Options::drawn().state(&own).start();
    assert!(
        server
            .log()
            .contains("its permissions are for this user alone again"),
        "{}",
        server.log()
    );
}

/// Every command finds the installation from another current folder.
#[test]
fn commands_find_same_installation() {
    let elsewhere = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| -> Command {
        let mut command = rostro();
        command.current_dir(elsewhere.path()).args(args);
        command
    };
    let file = component("insightface");
    let check = run(&["pipeline", "check", file.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
    let install = run(&["runtime", "install"]).output().unwrap();
    assert!(
        String::from_utf8_lossy(&install.stdout).contains("is installed at"),
        "{install:?}"
    );
    // The start fails at the component, not at ONNX Runtime.
    let mut serve = run(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "off",
        "--pack",
        "testing",
        "--pipeline",
        "nowhere.wasm",
    ]);
    serve.args(["--state", "state", "--gallery", "gallery"]);
    let error = refusal(serve);
    assert!(
        error.contains("cannot read the component nowhere.wasm") && !error.contains("ONNX"),
        "{error}"
    );
}
