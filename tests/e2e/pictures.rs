//! Pictures of real cameras and phones: damaged, huge, rotated and in other formats.

use std::io::{Cursor, Write};
use std::path::Path;
use std::process::Stdio;

use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};
use serde_json::Value;

use crate::bad_input::UNDECODABLE;
use crate::harness::{Answer, Options, Server, drawn, file, rostro, shared};

/// Reads a picture of the shared folder. Each one shows alice.
fn odd(name: &str) -> Vec<u8> {
    std::fs::read(shared(&format!("pictures/{name}"))).unwrap()
}

fn with_alice() -> Server {
    let server = Options::drawn().start();
    server
        .enroll(
            "alice",
            [1, 2, 3].map(|number| drawn(&format!("alice-{number}.png"))),
        )
        .ok();
    server
}

/// Returns the sorted codes of the warnings of an answer.
fn codes(answer: &Value) -> Vec<String> {
    let warnings = answer["warnings"].as_array().unwrap();
    let code = |warning: &Value| {
        assert!(
            warning["message"].as_str().unwrap().ends_with('.'),
            "{warning}"
        );
        warning["code"].as_str().unwrap().to_owned()
    };
    let mut codes: Vec<_> = warnings.iter().map(code).collect();
    codes.sort();
    codes
}

fn names(answer: &Value) -> Vec<&str> {
    answer["recognized_faces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|face| face["identity"].as_str().unwrap())
        .collect()
}

/// Returns code and message of the reason for the refusal of a photo.
fn refusal(answer: &Answer) -> (String, String) {
    answer.error(400, "no_usable_image");
    let reason = &answer.json["details"]["rejected"][0]["reasons"][0];
    (
        reason["code"].as_str().unwrap().to_owned(),
        reason["message"].as_str().unwrap().to_owned(),
    )
}

/// Returns `ok.jpg` with a restart marker after each row of blocks, and the positions of the
/// markers.
fn with_restarts() -> (Vec<u8>, Vec<usize>) {
    let picture = image::load_from_memory(&odd("ok.jpg")).unwrap().into_rgb8();
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let encoder = Encoder::new(&picture, width, height, PixelFormat::Rgb)
        .quality(90)
        .subsampling(Subsampling::S420);
    let bytes = encoder.restart_rows(1).encode().unwrap();
    let markers = (600..bytes.len() - 1)
        .filter(|at| bytes[*at] == 0xff && matches!(bytes[at + 1], 0xd0..=0xd7))
        .collect();
    (bytes, markers)
}

#[test]
fn unusual_pictures_are_recognised() {
    let server = with_alice();
    let ok = odd("ok.jpg");
    let (restarts, markers) = with_restarts();
    let last = markers[markers.len() - 2];
    for (case, bytes, wanted) in [
        ("ok", ok.clone(), vec![]),
        ("a tail", odd("dahua-tail.jpg"), vec![]),
        ("no tables", odd("mjpg-no-dht.jpg"), vec![]),
        ("two pictures", odd("two-pictures.mpo.jpg"), vec![]),
        ("YCCK", odd("ycck-adobe.jpg"), vec![]),
        ("GIF", odd("plain.gif.jpg"), vec![]),
        ("a turned WebP", odd("exif-6-prefixed.webp"), vec![]),
        (
            "a stray byte",
            odd("stray-before-dqt.jpg"),
            vec!["jpeg_stray_bytes"],
        ),
        (
            "stray bytes at the front",
            [&ok[..2], b"stray", &ok[2..]].concat(),
            vec!["jpeg_stray_bytes"],
        ),
        (
            "padding",
            odd("no-eoi-zero-padded.jpg"),
            vec!["jpeg_no_end_marker"],
        ),
        (
            "no end",
            ok[..ok.len() - 2].to_vec(),
            vec!["jpeg_no_end_marker"],
        ),
        (
            "a lost packet",
            odd("lost-packet.jpg"),
            vec!["jpeg_missing_data"],
        ),
        (
            "a lost restart marker",
            [&restarts[..last], &restarts[last + 2..]].concat(),
            vec!["jpeg_missing_data", "jpeg_restart_markers"],
        ),
        (
            "a lost end",
            restarts[..last].to_vec(),
            vec![
                "jpeg_missing_data",
                "jpeg_no_end_marker",
                "jpeg_restart_markers",
            ],
        ),
    ] {
        for endpoint in ["/process_frame", "/v1/detect"] {
            let answer = server
                .form(endpoint, &[file("image", "frame.jpg", bytes.clone())])
                .ok();
            assert_eq!(codes(&answer), wanted, "{case} at {endpoint}");
            // After a lost packet the rest is displaced: the face is cut in two, as libjpeg shows
            // it.
            if endpoint == "/process_frame" && case != "a lost packet" {
                assert_eq!(names(&answer), ["alice"], "{case}");
            }
        }
        // Enrolment needs a picture without missing data.
        let answer = server.enroll("alice", [bytes]);
        if wanted.contains(&"jpeg_missing_data") {
            let (code, message) = refusal(&answer);
            assert!(
                code == "undecodable" && message.contains("missing"),
                "{case}: {code} {message}"
            );
        } else {
            answer.ok();
        }
    }
}

#[test]
fn opencv_formats_are_decoded() {
    let server = with_alice();
    let picture = image::load_from_memory(&drawn("alice-probe.png")).unwrap();
    for format in [
        image::ImageFormat::Bmp,
        image::ImageFormat::Gif,
        image::ImageFormat::Tiff,
    ] {
        let mut bytes = Cursor::new(Vec::new());
        image::DynamicImage::from(picture.to_rgb8())
            .write_to(&mut bytes, format)
            .unwrap();
        assert_eq!(server.names(bytes.into_inner()), ["alice"], "{format:?}");
    }
}

/// Answers, the log and `rostro watch` name the unsupported format of a picture.
#[test]
fn unsupported_format_is_named() {
    let server = with_alice();
    for (name, wanted) in [
        ("iphone.heic.jpg", "this is a HEIC photo; send it as JPEG"),
        ("plain.avif.jpg", "this is an AVIF image; send it as JPEG"),
    ] {
        let answer = server.recognize(odd(name));
        assert_eq!(answer.error(400, "undecodable_image"), UNDECODABLE);
        assert!(
            answer.json["details"]["cause"]
                .as_str()
                .unwrap()
                .starts_with(wanted),
            "{}",
            answer.json
        );
        let log = server.log_of(&answer);
        assert!(log.contains(wanted), "{log}");
        let answer = server.enroll("phone", [odd(name)]);
        let (code, message) = refusal(&answer);
        assert!(
            code == "undecodable" && message.starts_with(wanted),
            "{message}"
        );
        let log = server.log_of(&answer);
        assert!(log.contains(wanted), "{log}");
        let (lines, code) = watch(&server, &shared(&format!("pictures/{name}")), &[]);
        let kind = wanted.replacen("this", "This", 1);
        assert!(
            lines.len() == 1 && lines[0].contains(&format!("refused: {UNDECODABLE} {kind}")),
            "{lines:?}"
        );
        assert_eq!(code, Some(1));
    }
}

/// Returns a JPEG of 16,320 × 12,224 pixels, 200 megapixels, with alice in its upper left. Her rows
/// of blocks are followed by one white row, repeated.
fn huge() -> Vec<u8> {
    const WIDTH: usize = 16_320;
    let alice = image::load_from_memory(&drawn("alice-probe.png"))
        .unwrap()
        .into_rgb8();
    let alice = image::imageops::resize(
        &alice,
        5 * alice.width(),
        5 * alice.height(),
        image::imageops::FilterType::Nearest,
    );
    let rows = alice.height() as usize / 16;
    let encode = |rows: usize, picture: &image::RgbImage| {
        let mut pixels = vec![255; 3 * WIDTH * 16 * rows];
        let row = 3 * picture.width() as usize;
        for (line, from) in pixels
            .chunks_exact_mut(3 * WIDTH)
            .zip(picture.chunks_exact(row.max(1)))
        {
            line[..row].copy_from_slice(from);
        }
        let encoder = Encoder::new(&pixels, WIDTH, 16 * rows, PixelFormat::Rgb)
            .quality(60)
            .subsampling(Subsampling::S420);
        encoder.restart_rows(1).encode().unwrap()
    };
    let data = |jpeg: &[u8]| {
        jpeg.windows(2)
            .position(|pair| pair == [0xff, 0xda])
            .unwrap()
            + 14
    };
    let (mut jpeg, blank) = (encode(rows, &alice), encode(1, &image::RgbImage::new(0, 0)));
    let row = &blank[data(&blank)..blank.len() - 2];
    jpeg.truncate(jpeg.len() - 2);
    for number in rows..764 {
        jpeg.extend([0xff, 0xd0 | ((number - 1) % 8) as u8]);
        jpeg.extend(row);
    }
    jpeg.extend([0xff, 0xd9]);
    let frame = jpeg
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0])
        .unwrap();
    jpeg[frame + 5..frame + 7].copy_from_slice(&(764 * 16_u16).to_be_bytes());
    jpeg
}

#[test]
fn huge_photo_is_recognised() {
    let server = with_alice();
    let answer = server.recognize(huge()).ok();
    assert_eq!(
        (names(&answer), codes(&answer)),
        (vec!["alice"], vec![]),
        "{answer}"
    );
    assert_eq!(
        answer["frame"],
        serde_json::json!({ "width": 16_320, "height": 12_224 })
    );
    // Her box is five times as far from the corner as in the small picture.
    let small = server.recognize(drawn("alice-probe.png")).ok();
    for edge in 0..4 {
        let at = |answer: &Value| {
            answer["recognized_faces"][0]["bbox"][edge]
                .as_f64()
                .unwrap()
        };
        assert!(
            (at(&answer) - 5.0 * at(&small)).abs() < 100.0,
            "edge {edge}: {} and {}",
            at(&answer),
            at(&small)
        );
    }
    server.enroll("large", [huge()]).ok();
}

/// A small file that needs more memory than the limit is refused. Repeated, it never counts as a
/// failure of the revision.
#[test]
fn picture_beyond_memory_is_refused() {
    let server = Options::drawn().arg("--limit", "memory-mib=64").start();
    let mut bytes = Cursor::new(Vec::new());
    image::DynamicImage::from(image::GrayImage::new(6000, 4000))
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    for _ in 0..12 {
        let answer = server.recognize(bytes.get_ref().clone());
        answer.error(400, "undecodable_image");
        let cause = answer.json["details"]["cause"].as_str().unwrap();
        assert!(
            cause.starts_with("the PNG of 6000×4000 pixels takes")
                && cause.contains("the limit memory-mib of 64"),
            "{cause}"
        );
    }
    server.recognize(odd("ok.jpg")).ok();
}

#[test]
fn progressive_photo_names_memory_limit() {
    let server = Options::drawn().arg("--limit", "memory-mib=64").start();
    let pixels = vec![200; 3 * 6_000 * 4_000];
    let encoder =
        Encoder::new(&pixels, 6_000, 4_000, PixelFormat::Rgb).subsampling(Subsampling::S420);
    let answer = server.recognize(encoder.progressive(true).encode().unwrap());
    answer.error(400, "undecodable_image");
    let cause = answer.json["details"]["cause"].as_str().unwrap();
    assert!(
        cause.contains("progressive JPEG of 6000×4000 pixels")
            && cause.contains("the limit memory-mib of 64"),
        "{cause}"
    );
}

/// Runs `rostro watch` with `input` on standard input, and returns its lines and exit code.
fn watch(server: &Server, source: &Path, input: &[u8]) -> (Vec<String>, Option<i32>) {
    let mut command = rostro();
    command
        .arg("watch")
        .arg(source)
        .args(["--server", &server.url]);
    let mut watch = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A watch of a file does not read standard input, so writing may fail.
    let _ = watch.stdin.take().unwrap().write_all(input);
    let output = watch.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
    (
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect(),
        output.status.code(),
    )
}

#[test]
fn watched_stream_survives_bad_frames() {
    let server = with_alice();
    let ok = odd("ok.jpg");
    let (headless, _) = ok.split_at(300);
    let stream = [
        odd("stray-before-dqt.jpg"),
        odd("no-eoi-zero-padded.jpg"),
        ok[..ok.len() - 2].to_vec(),
        headless.to_vec(),
        odd("two-pictures.mpo.jpg"),
        odd("dahua-tail.jpg"),
        ok[..ok.len() * 9 / 10].to_vec(),
        ok.clone(),
        ok[..ok.len() - 2].to_vec(),
    ];
    let (lines, code) = watch(&server, Path::new("-"), &stream.concat());
    assert_eq!((lines.len(), code), (stream.len(), Some(1)), "{lines:?}");
    for (index, line) in lines.iter().enumerate() {
        assert!(line.starts_with(&format!("frame {index}  ")), "{line}");
        let wanted = if index == 3 {
            &format!("refused: {UNDECODABLE} The JPEG is cut off before its first row.")
        } else {
            "alice"
        };
        assert!(line.contains(wanted), "{line}");
    }
}
