//! Logs that cannot be written: the service still answers requests and still stops.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{BOUNDARY, component, drawn, file, multipart, rostro, text};

/// Requests of one loop. Their log lines fill a pipe of 64 KiB.
const REQUESTS: usize = 1000;

/// Service with a standard error that the test chooses.
struct Quiet {
    child: Child,
    url: String,
    admin: String,
    agent: ureq::Agent,
    folder: tempfile::TempDir,
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string()
}

/// Returns the command `rostro serve` with its state in `folder`.
fn serve(folder: &Path, url: &str, admin: &str) -> Command {
    let mut command = rostro();
    command.args([
        "serve", "--pack", "testing", "--listen", url, "--admin", admin,
    ]);
    command
        .arg("--gallery")
        .arg(folder.join("gallery"))
        .arg("--state")
        .arg(folder.join("state"));
    command
        .arg("--compiled")
        .arg(crate::harness::root().join("target/tmp/compiled"));
    command.arg("--pipeline").arg(component("insightface"));
    command
}

impl Quiet {
    fn start(prepare: impl FnOnce(Command) -> Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (address, admin) = (free_address(), free_address());
        let child = prepare(serve(folder.path(), &address, &admin))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .into();
        let quiet = Self {
            child,
            url: format!("http://{address}"),
            admin: format!("http://{admin}"),
            agent,
            folder,
        };
        let begun = Instant::now();
        while quiet
            .agent
            .get(format!("{}/readyz", quiet.url))
            .call()
            .map_or(0, |answer| answer.status().as_u16())
            != 200
        {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "the service does not become ready"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        quiet
    }

    fn post(&self, path: &str, content_type: &str, body: &[u8]) -> (u16, String) {
        let mut answer = self
            .agent
            .post(format!("{}{path}", self.url))
            .header("content-type", content_type)
            .send(body)
            .unwrap();
        (
            answer.status().as_u16(),
            answer.body_mut().read_to_string().unwrap(),
        )
    }

    /// Enrols, recognises and sends invalid pictures, and asserts that each request is answered.
    fn check_requests(&self) {
        let form = multipart(&[
            text("student_id", "alice"),
            file("images", "alice.png", drawn("alice-1.png")),
        ]);
        let (status, body) = self.post(
            "/process-images",
            &format!("multipart/form-data; boundary={BOUNDARY}"),
            &form,
        );
        assert_eq!(status, 200, "{body}");
        assert!(self.folder.path().join("gallery/alice.csv").is_file());
        let (status, body) = self.post("/process_frame", "image/png", &drawn("alice-probe.png"));
        assert!(
            status == 200 && body.contains("\"alice\""),
            "{status}: {body}"
        );
        for _ in 0..REQUESTS {
            let (status, body) = self.post("/process_frame", "image/png", b"no picture");
            assert_eq!(status, 400, "{body}");
        }
    }

    fn dropped_lines(&self) -> u64 {
        let text = self
            .agent
            .get(format!("{}/metrics", self.admin))
            .call()
            .unwrap()
            .body_mut()
            .read_to_string()
            .unwrap();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix("rostro_log_lines_dropped_total "));
        value
            .unwrap_or_else(|| panic!("no metric of dropped lines in:\n{text}"))
            .parse()
            .unwrap()
    }

    /// Sends SIGTERM, and returns the exit code and the time until the exit.
    fn stop(&mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        assert!(
            Command::new("kill")
                .args(["-s", "TERM", &self.child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
        (self.child.wait().unwrap().code(), begun.elapsed())
    }

    fn assert_stops(&mut self) {
        let (code, time) = self.stop();
        assert_eq!(code, Some(0));
        assert!(time < Duration::from_secs(10), "{time:?}");
    }
}

/// The log is a pipe without a reader, as after `| head` or when `tee` died.
#[test]
fn missing_log_reader_is_ignored() {
    let mut quiet = Quiet::start(|mut command| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.stderr(writer);
        command
    });
    quiet.check_requests();
    assert!(quiet.dropped_lines() > REQUESTS as u64);
    quiet.assert_stops();
}

/// The log is on a full disk.
#[test]
fn full_log_disk_is_ignored() {
    let mut quiet = Quiet::start(|mut command| {
        command.stderr(File::options().write(true).open("/dev/full").unwrap());
        command
    });
    quiet.check_requests();
    assert!(quiet.dropped_lines() > REQUESTS as u64);
    quiet.assert_stops();
}

/// The log is a pipe with a stalled reader, as in a paused terminal.
#[test]
fn stalled_log_reader_is_ignored() {
    let (_reader, writer) = std::io::pipe().unwrap();
    let mut quiet = Quiet::start(|mut command| {
        command.stderr(writer);
        command
    });
    quiet.check_requests();
    quiet.assert_stops();
}

/// Standard error is a closed descriptor.
#[test]
fn closed_log_descriptor_is_ignored() {
    let mut quiet = Quiet::start(|command| {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "exec \"$@\" 2>&-", "sh"])
            .arg(command.get_program())
            .args(command.get_args());
        shell.current_dir(command.get_current_dir().unwrap());
        shell
    });
    quiet.check_requests();
    quiet.assert_stops();
}

/// Neither the log nor the error can be shown, but the exit code reports the failure.
#[test]
fn failed_start_without_reader_exits() {
    let folder = tempfile::tempdir().unwrap();
    for log in [
        File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
            .into(),
        {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            Stdio::from(writer)
        },
    ] {
        let mut command = serve(folder.path(), "127.0.0.1:0", "off");
        let status = command
            .args(["--runtime", "/nowhere"])
            .stdin(Stdio::null())
            .stderr::<Stdio>(log)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(1));
    }
}

/// Standard output is closed early, full, or shared with a closed standard error.
#[test]
fn commands_survive_closed_output() {
    for (redirection, code) in [
        ("2>/dev/full", 0),
        (">/dev/full", 1),
        (">/dev/full 2>/dev/full", 1),
        ("| true", 0),
        ("2>&- >/dev/null", 0),
    ] {
        let mut shell = Command::new("bash");
        let line = format!("set -o pipefail; \"$@\" {redirection}");
        let program = rostro();
        let status = shell
            .args(["-c", &line, "bash"])
            .arg(program.get_program())
            .args(["openapi"])
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code), "{redirection}");
    }
}

/// The JSON log writes numbers as numbers, and probes during the start log no warning.
#[test]
fn json_log_has_numbers() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut quiet = Quiet::start(|mut command| {
        command
            .args(["--log-format", "json"])
            .stderr(log.reopen().unwrap());
        command
    });
    assert_eq!(
        quiet.post("/process_frame", "image/png", b"no picture").0,
        400
    );
    quiet.assert_stops();
    let text = std::fs::read_to_string(log.path()).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let refused: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "refused")
        .collect();
    assert!(
        !refused.is_empty()
            && refused
                .iter()
                .all(|line| line["ms"].is_u64() && line["status"] == 400),
        "{text}"
    );
    assert!(lines.iter().all(|line| line["level"] != "WARN"), "{text}");
    assert_eq!(lines.last().unwrap()["message"], "stopped", "{text}");
}
