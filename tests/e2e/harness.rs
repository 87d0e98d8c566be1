//! Test harness: starts servers and sends them requests. The end-to-end tests, the soak test, the
//! walk-through and the benchmarks share it.
#![allow(
    dead_code,
    reason = "each program that includes this module uses a part of it"
)]

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use image::codecs::jpeg::JpegEncoder;
use serde_json::Value;
use tempfile::TempDir;
use ureq::http::{HeaderMap, Method, Request};

/// Time limit for a start, because components are compiled then, and for an answer.
const START: Duration = Duration::from_secs(120);

/// Idle time after which the client closes a connection. The server does so after 30 s, and a
/// request on a connection that is about to close would fail.
const MAX_IDLE: Duration = Duration::from_secs(20);

/// Time limit of [`eventually`].
const EVENTUALLY: Duration = Duration::from_secs(60);

/// Waits until a condition holds. Fails the test after a minute, naming `what` did not happen.
pub(crate) fn eventually(what: &str, holds: impl FnMut() -> bool) {
    assert!(
        holds_within(EVENTUALLY, holds),
        "{what} did not happen within {EVENTUALLY:?}"
    );
}

/// Waits until a condition holds. Returns false if it still does not after `limit`.
pub(crate) fn holds_within(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// A component that `cargo xtask guest` built.
pub(crate) fn component(name: &str) -> PathBuf {
    existing(
        root().join(format!("target/guest/{name}.wasm")),
        "cargo xtask guest",
    )
}

/// Folder with photos and reference results, which is not part of the repository.
pub(crate) fn shared_folder() -> PathBuf {
    std::env::var_os("ROSTRO_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from)
}

/// A file of [`shared_folder`].
pub(crate) fn shared(path: &str) -> PathBuf {
    existing(
        shared_folder().join(path),
        "the tests with ROSTRO_SHARED naming the folder with the photos",
    )
}

/// A drawn test picture.
pub(crate) fn drawn(name: &str) -> Vec<u8> {
    let path = existing(
        root().join("models/testing/frames").join(name),
        "models/testing/make.py",
    );
    std::fs::read(path).unwrap()
}

/// A drawn test picture as a camera sends it.
pub(crate) fn drawn_jpeg(name: &str) -> Vec<u8> {
    let mut jpeg = Vec::new();
    let picture = image::load_from_memory(&drawn(name)).unwrap().into_rgb8();
    picture
        .write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, 95))
        .unwrap();
    jpeg
}

fn existing(path: PathBuf, remedy: &str) -> PathBuf {
    assert!(path.exists(), "{} is missing; run {remedy}", path.display());
    path
}

/// A program of the workspace, of the profile with which the test was built.
pub(crate) fn program(name: &str) -> PathBuf {
    // Test binaries are in `target/<profile>/deps`, programs one folder up.
    let here = std::env::current_exe().unwrap();
    let program = here.parent().unwrap().parent().unwrap().join(name);
    existing(program, "cargo build --workspace --bins")
}

/// The program with one migration more.
pub(crate) fn next_program() -> PathBuf {
    existing(root().join("target/next-schema/rostro"), "cargo xtask test")
}

/// The `rostro` program that is under test.
pub(crate) fn rostro() -> Command {
    command_of(&program("rostro"))
}

/// Runs a command that must succeed, and returns its output.
pub(crate) fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

/// A command in the repository's root, without the variables that configure the program.
pub(crate) fn command_of(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROSTRO_"))
    {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").current_dir(root());
    command
}

/// How to start a server.
#[derive(Debug)]
pub(crate) struct Options {
    args: Vec<String>,
    pack: &'static str,
    pipeline: PathBuf,
    gallery: Option<PathBuf>,
    state: Option<PathBuf>,
    within: Vec<String>,
    variables: Vec<(&'static str, OsString)>,
    log: Option<PathBuf>,
    program: Option<PathBuf>,
}

impl Options {
    /// Options with the models of the drawn faces, which need no weights.
    pub(crate) fn drawn() -> Self {
        Self {
            args: Vec::new(),
            pack: "testing",
            pipeline: component("insightface"),
            gallery: None,
            state: None,
            within: Vec::new(),
            variables: Vec::new(),
            log: None,
            program: None,
        }
    }

    /// Options with the pack `mobile`, for photos of people.
    pub(crate) fn real() -> Self {
        existing(
            root().join("models/installed/mobile/manifest.toml"),
            "cargo xtask setup",
        );
        Self {
            pack: "mobile",
            ..Self::drawn()
        }
    }

    pub(crate) fn arg(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.args
            .extend([name.to_owned(), value.as_ref().to_str().unwrap().to_owned()]);
        self
    }

    pub(crate) fn pack(mut self, pack: &'static str) -> Self {
        self.pack = pack;
        self
    }

    pub(crate) fn pipeline(mut self, pipeline: PathBuf) -> Self {
        self.pipeline = pipeline;
        self
    }

    pub(crate) fn gallery(mut self, gallery: &Path) -> Self {
        self.gallery = Some(gallery.to_owned());
        self
    }

    /// Folder for the server's state, for tests that read it or start with it again.
    pub(crate) fn state(mut self, state: &Path) -> Self {
        self.state = Some(state.to_owned());
        self
    }

    /// Command line of another program that runs the server, for example with other rights.
    pub(crate) fn within(mut self, command: Vec<String>) -> Self {
        self.within = command;
        self
    }

    /// Environment variable of the server.
    pub(crate) fn variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// File for the server's log. Without one, the log is kept in memory.
    pub(crate) fn log(mut self, file: &Path) -> Self {
        self.log = Some(file.to_owned());
        self
    }

    /// Returns the command that starts the server. `own` is its state folder by default.
    fn command(&self, gallery: &Path, own: &Path) -> Command {
        let mut command = match &self.program {
            Some(program) => command_of(program),
            None => rostro(),
        };
        command
            .args(["serve", "--pack", self.pack])
            .arg("--state")
            .arg(self.state.clone().unwrap_or_else(|| own.to_owned()))
            .arg("--pipeline")
            .arg(&self.pipeline)
            .arg("--gallery")
            .arg(gallery)
            .args(&self.args);
        let is_given = |flag: &str| self.args.iter().any(|arg| arg == flag);
        if !is_given("--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if !is_given("--admin") {
            command.args(["--admin", "127.0.0.1:0"]);
        }
        if !is_given("--compiled") {
            // Servers share compiled components, because compiling takes most of a start.
            command
                .arg("--compiled")
                .arg(root().join("target/tmp/compiled"));
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        match self.within.split_first() {
            None => command,
            Some((program, args)) => {
                let mut outer = Command::new(program);
                outer.args(args);
                inside(outer, &command)
            }
        }
    }

    /// Starts a server and waits until it serves.
    pub(crate) fn start(self) -> Server {
        self.try_start()
            .unwrap_or_else(|log| panic!("the server did not start:\n{log}"))
    }

    /// Starts a server and waits until it serves. Returns its log if it does not.
    pub(crate) fn try_start(self) -> Result<Server, String> {
        let (own, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let gallery = self
            .gallery
            .clone()
            .unwrap_or_else(|| own.path().join("gallery"));
        let mut child = self
            .command(&gallery, state.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::new(self.log.clone());
        let address = log.follow(child.stderr.take().unwrap());
        match address.recv_timeout(START) {
            Ok(address) => {
                let text = log.text();
                let admin = text
                    .lines()
                    .find_map(|line| line.split_once("admin interface on "))
                    .map(|(_, url)| url.trim().to_owned());
                Ok(Server {
                    child,
                    url: address,
                    admin: admin.unwrap_or_default(),
                    log,
                    gallery,
                    _own: [own, state],
                })
            }
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(log.text())
            }
        }
    }

    /// Starts another build of the program, for comparisons.
    pub(crate) fn program(self, program: &Path) -> Self {
        Self {
            program: Some(program.to_owned()),
            ..self
        }
    }

    /// Starts a server that must fail to start. Returns its error.
    pub(crate) fn refuse(self) -> String {
        let (own, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let gallery = self
            .gallery
            .clone()
            .unwrap_or_else(|| own.path().join("gallery"));
        refusal(self.command(&gallery, state.path()))
    }
}

/// Wraps a command in another program, in the same folder even if that program changes it.
fn inside(mut command: Command, inner: &Command) -> Command {
    command
        .args(["env", "--chdir"])
        .arg(root())
        .arg(inner.get_program())
        .args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// Runs a command that must fail with exit code 1. Returns its error.
pub(crate) fn refusal(mut command: Command) -> String {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > START {
            // A server that starts in spite of the error would never end.
            child.kill().unwrap();
            child.wait().unwrap();
            panic!(
                "the command keeps running, but must fail:\n{}",
                reader.join().unwrap()
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let stderr = reader.join().unwrap();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

/// Log of a server up to now, in a file if there is one, else in memory.
#[derive(Clone, Debug)]
struct Log {
    file: Option<PathBuf>,
    memory: Arc<Mutex<String>>,
}

impl Log {
    fn new(file: Option<PathBuf>) -> Self {
        let memory = Arc::default();
        Self { file, memory }
    }

    fn text(&self) -> String {
        match &self.file {
            Some(file) => {
                String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned()
            }
            None => self.memory.lock().unwrap().clone(),
        }
    }

    /// Collects lines in the background. Sends the server's address once a line names it.
    fn follow(&self, stderr: impl Read + Send + 'static) -> std::sync::mpsc::Receiver<String> {
        let (send, receive) = std::sync::mpsc::channel();
        let memory = Arc::clone(&self.memory);
        let mut file = self.file.as_ref().map(|file| File::create(file).unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some((_, url)) = line.split_once("serving on ") {
                    let _ = send.send(url.trim().to_owned());
                }
                match &mut file {
                    Some(file) => writeln!(file, "{line}").unwrap(),
                    None => memory.lock().unwrap().extend([line.as_str(), "\n"]),
                }
            }
        });
        receive
    }
}

/// A running server. Dropping it ends the server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    /// The admin interface.
    pub(crate) admin: String,
    log: Log,
    pub(crate) gallery: PathBuf,
    _own: [TempDir; 2],
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log.text());
        }
    }
}

/// A part of a multipart form.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Value of `Content-Disposition`, which need not be UTF-8.
    disposition: Vec<u8>,
    content_type: Option<&'static str>,
    bytes: Vec<u8>,
}

pub(crate) fn text(name: &str, value: &str) -> Part {
    part(format!("form-data; name=\"{name}\""), value)
}

pub(crate) fn file(name: &str, file_name: &str, bytes: impl Into<Vec<u8>>) -> Part {
    let disposition = format!("form-data; name=\"{name}\"; filename=\"{file_name}\"");
    Part {
        content_type: Some("image/jpeg"),
        ..part(disposition, bytes)
    }
}

/// Returns a part with any disposition and without a content type.
pub(crate) fn part(disposition: impl Into<Vec<u8>>, bytes: impl Into<Vec<u8>>) -> Part {
    Part {
        disposition: disposition.into(),
        content_type: None,
        bytes: bytes.into(),
    }
}

pub(crate) const BOUNDARY: &str = "a-boundary-that-no-part-contains";

/// Content type of [`multipart`].
pub(crate) const FORM: &str = "multipart/form-data; boundary=a-boundary-that-no-part-contains";

/// The body of a multipart form.
pub(crate) fn multipart(parts: &[Part]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        body.extend(format!("--{BOUNDARY}\r\nContent-Disposition: ").bytes());
        body.extend(&part.disposition);
        body.extend(b"\r\n");
        if let Some(content_type) = part.content_type {
            body.extend(format!("Content-Type: {content_type}\r\n").bytes());
        }
        body.extend(b"\r\n");
        body.extend(&part.bytes);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").bytes());
    body
}

/// An answer: status, body and headers.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The body; a string if it is not JSON.
    pub(crate) json: Value,
    pub(crate) headers: HeaderMap,
}

/// HTTP client that keeps its connections.
#[derive(Debug)]
pub(crate) struct Client {
    agent: ureq::Agent,
    url: String,
}

impl Client {
    /// A client of the listener at `url`.
    pub(crate) fn new(url: &str) -> Self {
        Self::with_timeout(url, START)
    }

    /// A client that waits this long for an answer.
    pub(crate) fn with_timeout(url: &str, timeout: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(timeout))
            .max_idle_age(MAX_IDLE);
        Self {
            agent: config.build().into(),
            url: url.to_owned(),
        }
    }

    /// Sends a request. Fails only if there is no answer.
    pub(crate) fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, ureq::Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = self.agent.run(request.body(body)?)?;
        let text = response.body_mut().read_to_string()?;
        Ok(Answer {
            status: response.status().as_u16(),
            json: serde_json::from_str(&text).unwrap_or(Value::String(text)),
            headers: response.headers().clone(),
        })
    }
}

impl Answer {
    /// Asserts success and returns the body.
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.json);
        self.json
    }

    /// Asserts a documented error with this status and code. Returns its message.
    pub(crate) fn error(&self, status: u16, code: &str) -> String {
        assert_eq!(
            (self.status, self.json["code"].as_str()),
            (status, Some(code)),
            "{}",
            self.json
        );
        assert!(self.json["details"].is_object(), "{}", self.json);
        assert_eq!(
            self.json["request_id"].as_str().unwrap(),
            self.headers["x-request-id"],
            "{}",
            self.json
        );
        self.json["error"]
            .as_str()
            .expect("`error` is a string")
            .to_owned()
    }
}

impl Server {
    /// Posts a body of any type.
    pub(crate) fn post(&self, path: &str, content_type: Option<&str>, body: &[u8]) -> Answer {
        let headers: Vec<(&str, &str)> = content_type
            .map(|value| ("content-type", value))
            .into_iter()
            .collect();
        self.post_with(path, &headers, body)
    }

    /// Posts a body with these headers.
    pub(crate) fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let answer = Client::new(&self.url)
            .send(Method::POST, path, headers, body)
            .expect("the server answers");
        assert!(!answer.json.is_string(), "not JSON: {}", answer.json);
        answer
    }

    /// Posts a form.
    pub(crate) fn form(&self, path: &str, parts: &[Part]) -> Answer {
        self.post(path, Some(FORM), &multipart(parts))
    }

    /// Enrols a person from photos.
    pub(crate) fn enroll<P: Into<Vec<u8>>>(
        &self,
        id: &str,
        photos: impl IntoIterator<Item = P>,
    ) -> Answer {
        let photos = photos
            .into_iter()
            .enumerate()
            .map(|(index, photo)| file("images", &format!("{index}.jpg"), photo));
        self.form(
            "/process-images",
            &std::iter::once(text("student_id", id))
                .chain(photos)
                .collect::<Vec<_>>(),
        )
    }

    /// Recognises the faces of a frame.
    pub(crate) fn recognize(&self, frame: impl Into<Vec<u8>>) -> Answer {
        self.form("/process_frame", &[file("image", "frame.jpg", frame)])
    }

    /// Returns the names in a frame, in the order of the answer.
    pub(crate) fn names(&self, frame: impl Into<Vec<u8>>) -> Vec<String> {
        let answer = self.recognize(frame).ok();
        let faces = answer["recognized_faces"].as_array().unwrap();
        faces
            .iter()
            .map(|face| face["identity"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Returns the names of the gallery's visible files.
    pub(crate) fn people_files(&self) -> Vec<String> {
        let names = self
            .gallery
            .read_dir()
            .unwrap()
            .map(|file| file.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| !name.starts_with('.')).collect()
    }

    /// Returns the process id of the server.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the log up to now. The server writes it in a separate thread, so the end may be
    /// missing for a moment.
    pub(crate) fn log(&self) -> String {
        let begun = Instant::now();
        let mut text = self.log.text();
        loop {
            std::thread::sleep(Duration::from_millis(50));
            let later = self.log.text();
            if later.len() == text.len() || begun.elapsed() > Duration::from_secs(1) {
                return later;
            }
            text = later;
        }
    }

    /// Returns the lines of the log about a request. Waits for the last one.
    pub(crate) fn log_of(&self, answer: &Answer) -> String {
        let id = answer.headers["x-request-id"].to_str().unwrap();
        let is_end = |line: &&str| {
            ["done", "refused", "turned away", "failed"]
                .iter()
                .any(|end| line.contains(&format!(" {end} status=")))
        };
        let begun = Instant::now();
        loop {
            let log = self.log.text();
            let lines: Vec<&str> = log.lines().filter(|line| line.contains(id)).collect();
            if lines.iter().any(is_end) {
                return lines.join("\n");
            }
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "the log says nothing of the end of {id}: {lines:?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends the server a signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
    }

    /// Waits until the log contains a text.
    pub(crate) fn wait_for_log(&self, words: &str) {
        self.wait_for_log_again(words, 0);
    }

    /// Waits until the log contains a text more than `before` times.
    pub(crate) fn wait_for_log_again(&self, words: &str, before: usize) {
        let begun = Instant::now();
        while self.log.text().matches(words).count() <= before {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "the log does not say `{words}`: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills the server.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the server to end and waits for it. Returns its exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.signal("TERM");
        let mut status = None;
        eventually("the server's end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status?.code()
    }
}
