//! `rostro watch`: a line for each picture.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::bad_input::UNDECODABLE;
use crate::harness::{Options, Server, drawn, drawn_jpeg, refusal, rostro};

fn enroll_alice(server: &Server) {
    server
        .enroll(
            "alice",
            [1, 2, 3].map(|number| drawn(&format!("alice-{number}.png"))),
        )
        .ok();
}

fn watch(server: &str, source: &Path) -> Command {
    let mut command = rostro();
    command.arg("watch").arg(source).args(["--server", server]);
    command
}

/// Returns the lines, the error output and the exit code of a watch.
fn outcome(output: Output) -> (Vec<String>, String, Option<i32>) {
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!error.contains("panicked"), "{error}");
    (
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect(),
        error,
        output.status.code(),
    )
}

/// Runs a watch, asserts that every picture is answered, and returns its lines.
fn lines(mut command: Command) -> Vec<String> {
    let (lines, error, code) = outcome(command.stdin(Stdio::null()).output().unwrap());
    assert_eq!((error.as_str(), code), ("", Some(0)));
    lines
}

/// Asserts that a line has the name of the picture, the text and the duration.
fn assert_line(line: &str, name: &str, says: &str) {
    let parts: Vec<&str> = line.split("  ").collect();
    let [begin, middle, time] = parts.as_slice() else {
        panic!("{line}")
    };
    // Only the format of a confidence counts here, because other tests check its value.
    let middle: String = middle
        .split_inclusive(' ')
        .map(|word| {
            if is_confidence(word.trim()) {
                "0.00"
            } else {
                word
            }
        })
        .collect();
    assert_eq!((*begin, middle.as_str()), (name, says), "{line}");
    assert!(
        time.strip_suffix(" ms")
            .is_some_and(|time| time.parse::<u32>().is_ok()),
        "{line}"
    );
}

fn is_confidence(word: &str) -> bool {
    word.len() == 4
        && word
            .parse::<f32>()
            .is_ok_and(|value| (0.0..=1.0).contains(&value))
}

#[test]
fn picture_line_names_person() {
    let server = Options::drawn().start();
    enroll_alice(&server);
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("door.png");
    // The content counts and not the name; a final slash of the address is ignored.
    for (name, says) in [
        ("alice-probe.png", "alice 0.00"),
        ("stranger.png", "Unknown"),
        ("empty.png", "no faces"),
    ] {
        std::fs::write(&picture, drawn(name)).unwrap();
        let lines = lines(watch(&format!("{}/", server.url), &picture));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_line(&lines[0], picture.to_str().unwrap(), says);
    }
}

/// The pictures of a folder are watched in the order of their names; other files are ignored.
#[test]
fn folder_pictures_follow_name_order() {
    let server = Options::drawn().start();
    enroll_alice(&server);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, drawing) in [
        ("c.webp", "alice-probe.png"),
        ("a.png", "empty.png"),
        ("b.JPG", "stranger.png"),
        ("d.jpeg", "empty.png"),
    ] {
        std::fs::write(path(name), drawn(drawing)).unwrap();
    }
    std::fs::write(path("notes.txt"), "no picture").unwrap();
    std::fs::create_dir(path("b.png")).unwrap();
    let lines = lines(watch(&server.url, folder.path()));
    assert_eq!(lines.len(), 4, "{lines:?}");
    for (line, (name, says)) in lines.iter().zip([
        ("a.png", "no faces"),
        ("b.JPG", "Unknown"),
        ("c.webp", "alice 0.00"),
        ("d.jpeg", "no faces"),
    ]) {
        assert_line(line, path(name).to_str().unwrap(), says);
    }
}

#[test]
fn jpeg_stream_is_split() {
    let server = Options::drawn().start();
    enroll_alice(&server);
    let mut watch = watch(&server.url, Path::new("-"));
    let mut watch = watch
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A stream as `ffmpeg` writes it, which ends within a picture.
    let stream = [
        drawn_jpeg("alice-probe.png"),
        drawn_jpeg("stranger.png"),
        drawn_jpeg("alice-probe.png")[..1000].to_vec(),
    ]
    .concat();
    watch.stdin.take().unwrap().write_all(&stream).unwrap();
    let (lines, error, code) = outcome(watch.wait_with_output().unwrap());
    assert_eq!(
        (lines.len(), error.as_str(), code),
        (2, "", Some(0)),
        "{lines:?}"
    );
    assert_line(&lines[0], "frame 0", "alice 0.00");
    assert_line(&lines[1], "frame 1", "Unknown");
}

/// Frames with damaged coded data or EXIF data, or with previews, affect no other frame.
#[test]
fn damaged_frames_spare_others() {
    let server = Options::drawn().start();
    enroll_alice(&server);
    let frame = drawn_jpeg("alice-probe.png");
    let insert = |at: usize, bytes: &[u8]| [&frame[..at], bytes, &frame[at..]].concat();
    let segment = |marker: u8, body: &[u8]| {
        [
            &[0xff, marker],
            (body.len() as u16 + 2).to_be_bytes().as_slice(),
            body,
        ]
        .concat()
    };
    let exif = segment(
        0xe1,
        &[b"Exif\0\0II*\0\x08\0\0\0", [0; 40_000].as_slice()].concat(),
    );
    let preview = segment(
        0xe2,
        &[
            b"VENDOR\0\0".as_slice(),
            b"\xff\xd8\xff\xdb\0\x04\x01\x02\xff\xda\0\x02\x11\xff\xd9",
        ]
        .concat(),
    );
    for (name, damaged, refused) in [
        (
            "false marker",
            insert(frame.len() - 600, b"\xff\xe1\xff\xff"),
            None,
        ),
        ("cut in EXIF", insert(2, &exif)[..100].to_vec(), Some(true)),
        (
            "preview and stray byte",
            insert(2, &[&preview, b"\0".as_slice()].concat()),
            Some(false),
        ),
        (
            "binary tail",
            [&frame, b"abc\xff\xd8def\xff\xd8ghi".as_slice()].concat(),
            Some(false),
        ),
    ] {
        let mut watch = watch(&server.url, Path::new("-"));
        let mut watch = watch
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stream = [
            frame.clone(),
            damaged,
            frame.clone(),
            frame.clone(),
            frame.clone(),
            frame.clone(),
        ]
        .concat();
        watch.stdin.take().unwrap().write_all(&stream).unwrap();
        let (lines, error, _) = outcome(watch.wait_with_output().unwrap());
        assert_eq!(lines.len(), 6, "{name}: {lines:?} {error}");
        for number in [0, 2, 3, 4, 5] {
            assert_line(&lines[number], &format!("frame {number}"), "alice 0.00");
        }
        assert!(
            refused.is_none_or(|refused| refused == lines[1].contains("refused")),
            "{name}: {lines:?}"
        );
    }
}

/// Pictures that the service cannot decode are named with the reason.
#[test]
fn unsupported_formats_are_not_skipped() {
    let server = Options::drawn().start();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("b.heic"), b"\0\0\0\x18ftypheic\0\0\0\0heicmif1").unwrap();
    let (lines, error, code) = outcome(watch(&server.url, folder.path()).output().unwrap());
    assert!(
        lines.len() == 1 && lines[0].contains("refused") && lines[0].contains("HEIC"),
        "{lines:?}"
    );
    assert_eq!(
        (error.as_str(), code),
        ("error: 1 of 1 pictures were refused\n", Some(1))
    );
    for name in ["c.JFIF", "d.mpo", "e.jpe", "f.BMP", "g.dib"] {
        std::fs::write(path(name), drawn_jpeg("empty.png")).unwrap();
    }
    std::fs::remove_file(path("b.heic")).unwrap();
    assert_eq!(self::lines(watch(&server.url, folder.path())).len(), 5);
}

#[test]
fn json_prints_answers_unchanged() {
    let server = Options::drawn().start();
    enroll_alice(&server);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.png"), drawn("alice-probe.png")).unwrap();
    std::fs::write(folder.path().join("b.png"), "no picture").unwrap();
    let mut command = watch(&server.url, folder.path());
    let (lines, _, code) = outcome(command.arg("--json").output().unwrap());
    let [alice, refused]: [Value; 2] = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    assert_eq!(
        (
            &alice["recognized_faces"][0]["identity"],
            alice["frame"].is_object()
        ),
        (&"alice".into(), true)
    );
    assert_eq!(
        (&refused["error"], &refused["code"]),
        (&UNDECODABLE.into(), &"undecodable_image".into())
    );
    assert_eq!(code, Some(1));
}

#[test]
fn refused_picture_continues_watch() {
    let server = Options::drawn().start();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("a.jpg"), "no picture").unwrap();
    std::fs::write(path("b.png"), drawn("empty.png")).unwrap();
    let (lines, error, code) = outcome(watch(&server.url, folder.path()).output().unwrap());
    assert_eq!(lines.len(), 2, "{lines:?}");
    let cause = "This is not a JPEG, PNG, WebP, BMP, GIF or TIFF image.";
    assert_eq!(
        lines[0],
        format!(
            "{}  refused: {UNDECODABLE} {cause}",
            path("a.jpg").display()
        )
    );
    assert_line(&lines[1], path("b.png").to_str().unwrap(), "no faces");
    assert_eq!(
        (error.as_str(), code),
        ("error: 1 of 2 pictures were refused\n", Some(1))
    );
}

#[test]
fn closed_output_ends_watch() {
    let server = Options::drawn().start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.png"), drawn("empty.png")).unwrap();
    let mut watch = watch(&server.url, folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(watch.stdout.take());
    let mut error = String::new();
    watch
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut error)
        .unwrap();
    assert!(
        error.starts_with("error: cannot print: Broken pipe"),
        "{error}"
    );
    assert_eq!(watch.wait().unwrap().code(), Some(1));
}

#[test]
fn unreachable_service_names_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("a.png");
    std::fs::write(&picture, drawn("empty.png")).unwrap();
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let server = format!("http://127.0.0.1:{port}");
    let error = refusal(watch(&server, &picture));
    assert!(
        error.contains(&format!("no answer from {server}"))
            && error.contains("is `rostro serve` running there?"),
        "{error}"
    );
}

#[test]
fn source_without_pictures_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes.txt"), "no picture").unwrap();
    for (source, wanted) in [
        (
            folder.path(),
            "holds no pictures (.jpg, .png, .webp, .heic and the like): it has notes.txt",
        ),
        (Path::new("nowhere/a.jpg"), "cannot read nowhere/a.jpg"),
        // `refusal` gives an empty standard input.
        (Path::new("-"), "standard input holds no whole JPEG"),
    ] {
        let error = refusal(watch("http://127.0.0.1:9", source));
        assert!(error.contains(wanted), "{error}");
    }
}
