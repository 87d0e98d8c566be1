//! `rostro watch` as a camera client: RTSP, videos, files with several cameras, and sessions.
//!
//! The network camera is a real RTSP server: `rtsp_server.py`, by GStreamer's library.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Options, Server, drawn, eventually, output_of, refusal, root, rostro};

/// Login of the network camera. The escaped form differs from the plain one.
const LOGIN: [&str; 2] = ["viewer", "s3cret/w0rd"];
/// The escaped password.
const ESCAPED: &str = "s3cret%2Fw0rd";

/// Makes a video of a drawn picture, with 5 frames a second.
fn video(folder: &Path, picture: &str, seconds: u32) -> PathBuf {
    let path = folder.join(format!("{picture}.mkv"));
    let frame = root().join(format!("models/testing/frames/{picture}.png"));
    output_of(
        Command::new("ffmpeg")
            .args("-nostdin -v error -loop 1 -framerate 5 -i".split(' '))
            .arg(frame)
            .args(["-t", &seconds.to_string()])
            // With frames that depend on later ones, as cameras send them.
            .args("-c:v libx264 -g 10 -bf 3 -crf 12 -pix_fmt yuv420p".split(' '))
            .arg(&path),
    );
    path
}

fn server_with(people: &[&str]) -> Server {
    let server = Options::drawn().start();
    for person in people {
        let photos = [1, 2, 3].map(|number| drawn(&format!("{person}-{number}.png")));
        server.enroll(person, photos).ok();
    }
    server
}

/// A child process that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A network camera.
pub(crate) struct Camera {
    process: Running,
    pub(crate) port: String,
}

impl Camera {
    /// Starts a camera that plays a video, on a free port if it is 0.
    pub(crate) fn start(video: &Path, port: &str, login: &[&str]) -> Self {
        let mut process = Command::new("/usr/bin/python3")
            .arg(root().join("tests/e2e/rtsp_server.py"))
            .arg(video)
            .arg(port)
            .args(login)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        output.read_line(&mut port).unwrap();
        let port = port.trim().to_owned();
        assert!(!port.is_empty(), "run: cargo xtask test");
        Self {
            process: Running(process),
            port,
        }
    }
}

/// A running `rostro watch`.
pub(crate) struct Watch {
    process: Running,
    output: Receiver<String>,
    errors: Arc<Mutex<String>>,
}

fn command(server: &str, args: &[&str]) -> Command {
    let mut command = rostro();
    command.arg("watch").args(args).args(["--server", server]);
    command
}

impl Watch {
    pub(crate) fn start(server: &str, args: &[&str]) -> Self {
        let mut process = command(server, args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, output) = mpsc::channel();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        let errors = Arc::new(Mutex::new(String::new()));
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let lines = Arc::clone(&errors);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                *lines.lock().unwrap() += &format!("{line}\n");
            }
        });
        Self {
            process: Running(process),
            output,
            errors,
        }
    }

    pub(crate) fn errors(&self) -> String {
        self.errors.lock().unwrap().clone()
    }

    /// Waits for a line with a text.
    fn wait_for_line(&self, text: &str) {
        loop {
            match self.output.recv_timeout(Duration::from_secs(60)) {
                Ok(line) if line.contains(text) => return,
                Ok(_) => {}
                Err(error) => panic!("no line has {text} ({error}): {}", self.errors()),
            }
        }
    }

    /// Discards the lines that were printed until now.
    fn forget_lines(&self) {
        while self.output.try_recv().is_ok() {}
    }

    fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Sends a signal and returns the exit code.
    fn stop(mut self, signal: &str) -> Option<i32> {
        let status = Command::new("kill")
            .args([&format!("-{signal}"), &self.pid().to_string()])
            .status();
        assert!(status.unwrap().success());
        self.process.0.wait().unwrap().code()
    }
}

/// Returns the id and the arguments of each child of a process.
fn children(parent: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().map_while(Result::ok) {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        if status.contains(&format!("\nPPid:\t{parent}\n")) {
            found.push((pid, arguments(pid)));
        }
    }
    found
}

fn arguments(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Returns a port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A camera that goes away is opened again; its login is in no argument and no message, and the
/// decoder ends with the program.
#[test]
fn network_camera_reconnects_secretly() {
    let server = server_with(&["alice"]);
    let folder = tempfile::tempdir().unwrap();
    let video = video(folder.path(), "alice-probe", 120);
    let camera = Camera::start(&video, "0", &LOGIN);
    let login = folder.path().join("login");
    std::fs::write(&login, format!("{}\n", LOGIN.join(":"))).unwrap();
    let address = format!("rtsp://127.0.0.1:{}/live", camera.port);
    let login = login.to_str().unwrap();
    let watch = Watch::start(
        &server.url,
        &[&address, "--login-file", login, "--rate", "5"],
    );
    for _ in 0..10 {
        watch.wait_for_line("  alice ");
    }
    assert!(
        !watch.errors().contains("cannot read"),
        "{}",
        watch.errors()
    );

    let decoders = children(watch.pid());
    assert_eq!(decoders.len(), 1, "{decoders:?}");
    let (decoder, seen) = &decoders[0];
    assert!(seen.starts_with("ffmpeg "), "{seen}");
    let seen = format!("{seen}{}", arguments(watch.pid()));
    let environment = std::fs::read(format!("/proc/{decoder}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    for secret in [LOGIN[0], LOGIN[1], ESCAPED] {
        assert!(!seen.contains(secret), "{seen}");
        assert!(!environment.contains(secret), "{environment}");
    }

    let port = camera.port.clone();
    drop(camera);
    eventually("the next try", || watch.errors().contains("next try in "));
    watch.forget_lines();
    let camera = Camera::start(&video, &port, &LOGIN);
    watch.wait_for_line("  alice ");

    let errors = watch.errors();
    for secret in [LOGIN[1], ESCAPED] {
        assert!(!errors.contains(secret), "{errors}");
    }
    let decoders = children(watch.pid());
    assert_eq!(watch.stop("TERM"), Some(143));
    for (decoder, _) in decoders {
        eventually("the end of the decoder", || {
            !arguments(decoder).starts_with("ffmpeg ")
        });
    }
    drop(camera.process);
}

#[test]
fn wrong_login_names_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let video = video(folder.path(), "empty", 5);
    let camera = Camera::start(&video, "0", &LOGIN);
    let address = format!("rtsp://viewer:hunter2@127.0.0.1:{}/live", camera.port);
    let error = refusal(command("http://127.0.0.1:9", &[&address, "--retries", "1"]));
    assert!(
        error.contains("other users of this machine can see the login")
            && error.contains("401 Unauthorized; give the camera's login with --login-file")
            && !error.contains("hunter2"),
        "{error}"
    );
}

#[test]
fn dead_address_is_given_up() {
    let address = format!("rtsp://viewer:hunter2@127.0.0.1:{}/live", free_port());
    let error = refusal(command("http://127.0.0.1:9", &[&address]));
    assert!(
        error.contains("Connection refused; next try in 2 s")
            && error.contains("Connection refused; gave up after try 3")
            && !error.contains("hunter2"),
        "{error}"
    );
}

/// A camera that accepts the connection and says nothing ends by the time limit.
#[test]
fn silent_camera_times_out() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("rtsp://{}/live", silent.local_addr().unwrap());
    let error = refusal(command("http://127.0.0.1:9", &[&address, "--retries", "1"]));
    assert!(
        error.contains("no answer within 10 s; gave up after try 1"),
        "{error}"
    );
}

#[test]
fn missing_ffmpeg_names_packages() {
    for args in [
        ["rtsp://127.0.0.1:9/live", "--ffmpeg", "/nowhere/ffmpeg"],
        ["a.mp4", "--ffmpeg", "no-such-program"],
    ] {
        let error = refusal(command("http://127.0.0.1:9", &args));
        assert!(
            error.contains(&format!("cannot find `{}`", args[2]))
                && error.contains("apt install ffmpeg")
                && error.contains("--ffmpeg PATH"),
            "{error}"
        );
    }
}

#[test]
fn video_that_fails_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let junk = folder.path().join("junk.mp4");
    std::fs::write(&junk, [7; 5000]).unwrap();
    let junk = junk.to_str().unwrap();
    for (source, says) in [
        (junk, "Invalid data found"),
        ("/nowhere/a.mp4", "No such file or directory"),
        (
            "http://viewer:hunter2@cam/live",
            "cannot watch http: addresses",
        ),
    ] {
        let error = refusal(command("http://127.0.0.1:9", &[source]));
        assert!(
            error.contains(says) && !error.contains("hunter2"),
            "{error}"
        );
    }
}

/// A video plays at its own speed: a frame for each interval of the rate, and then the end.
#[test]
fn video_file_is_watched() {
    let server = server_with(&["alice"]);
    let folder = tempfile::tempdir().unwrap();
    let video = video(folder.path(), "alice-probe", 3);
    let args = [video.to_str().unwrap(), "--rate", "2"];
    let output = output_of(command(&server.url, &args).stdin(Stdio::null()));
    let count = output.lines().count();
    assert!((3..=6).contains(&count), "{output}");
    assert!(
        output.lines().all(|line| line.contains("  alice ")),
        "{output}"
    );

    let piped = output_of(
        command(&server.url, &["pipe:", "--json"]).stdin(std::fs::File::open(&video).unwrap()),
    );
    for line in piped.lines() {
        let answer: Value = serde_json::from_str(line).unwrap();
        assert_eq!(answer["recognized_faces"][0]["identity"], "alice");
    }
    assert!(!piped.is_empty());
}

/// Each camera of a file has its own settings, and lines name it.
#[test]
fn cameras_file_watches_each() {
    let server = server_with(&["alice", "bob"]);
    let folder = tempfile::tempdir().unwrap();
    video(folder.path(), "alice-probe", 2);
    let camera = Camera::start(&video(folder.path(), "bob-probe", 60), "0", &[]);
    let file = folder.path().join("cameras.toml");
    let text = format!(
        "[back]\nsource = \"alice-probe.mkv\"\nrate = 2\n\
         [front]\nsource = \"rtsp://127.0.0.1:{}/live\"\nretries = 1\n\
         [gone]\nsource = \"gone.mkv\"\n",
        camera.port
    );
    std::fs::write(&file, &text).unwrap();
    let file = file.to_str().unwrap();
    let watch = Watch::start(&server.url, &["--cameras", file]);
    let (mut back, mut front) = (0, 0);
    while back < 2 || front < 3 {
        let line = watch
            .output
            .recv_timeout(Duration::from_secs(60))
            .unwrap_or_else(|error| panic!("{error}: {}", watch.errors()));
        match line.split("  ").next().unwrap() {
            "back" if line.contains("  alice ") => back += 1,
            "front" if line.contains("  bob ") => front += 1,
            _ => panic!("{line}"),
        }
    }
    drop(camera);
    let mut watch = watch;
    let code = watch.process.0.wait().unwrap().code();
    eventually("the result", || {
        watch.errors().contains("error: 2 of 3 cameras failed")
    });
    let errors = watch.errors();
    assert!(
        errors.contains("front: error: cannot read rtsp://")
            && errors.contains("gone: error: cannot read ")
            && errors.contains("back: the stream ended"),
        "{errors}"
    );
    assert_eq!(code, Some(1));

    std::fs::write(file, text.replace("retries", "retry")).unwrap();
    let error = refusal(command(&server.url, &["--cameras", file]));
    assert!(
        error.contains("[front] has the unknown key `retry` (did you mean `retries`?)"),
        "{error}"
    );
}

/// A service that answers with prepared statuses, heads and bodies, and records the requests.
fn scripted_service(answers: Vec<&'static str>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            requests.push(serve_once(stream, answer));
        }
        requests
    });
    (url, requests)
}

/// Reads a request, answers it, and returns its first line.
fn serve_once(stream: TcpStream, answer: &str) -> String {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(_) => {}
            None => break,
        }
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
    let (head, body) = answer.rsplit_once('\n').unwrap();
    write!(
        reader.get_mut(),
        "HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    first.trim().to_owned()
}

/// Frames of a session have growing numbers and times. A busy service is asked again after the time
/// that it names, and a session that does not exist ends the watch.
#[test]
fn session_frames_are_numbered() {
    const NO_FACES: &str = "200 OK\n{\"recognized_faces\":[]}";
    let folder = tempfile::tempdir().unwrap();
    let video = video(folder.path(), "alice-probe", 30);
    let video = video.to_str().unwrap();
    let (url, requests) = scripted_service(vec![
        NO_FACES,
        "503 Service Unavailable\r\nretry-after: 1\n{\"error\":\"Busy.\"}",
        NO_FACES,
        "404 Not Found\n{\"error\":\"No such session.\"}",
    ]);
    let args = [video, "--session", "class 1", "--rate", "5"];
    let error = refusal(command(&url, &args));
    assert!(
        error.contains("the service is busy (status 503); next frame in 1 s")
            && error.contains("cannot send frames to session class 1: No such session.;"),
        "{error}"
    );
    let requests = requests.join().unwrap();
    let stamps: Vec<(u64, jiff::Timestamp)> = requests
        .iter()
        .map(|request| {
            let query = request
                .strip_prefix("POST /v1/sessions/class%201/frames?seq=")
                .and_then(|rest| rest.strip_suffix(" HTTP/1.1"))
                .unwrap_or_else(|| panic!("{request}"));
            let (number, at) = query.split_once("&at=").unwrap();
            (
                number.parse().unwrap(),
                at.replace("%3A", ":").parse().unwrap(),
            )
        })
        .collect();
    assert_eq!(stamps.len(), 4);
    for pair in stamps.windows(2) {
        assert!(pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1, "{pair:?}");
    }
}
