//! Bad input: a clear JSON error and no lasting effect.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::harness::{BOUNDARY, Options, Server, drawn, drawn_jpeg, file, multipart, text};

// Error texts of the replaced service. Its callers compare them, so they never change.
pub(crate) const MISSING_ID: &str = "Field 'student_id' is required.";
pub(crate) const MISSING_IMAGES: &str = "No images provided in the 'images' field.";
pub(crate) const NONE_USABLE: &str =
    "Could not extract any high-quality embeddings from the provided images.";
pub(crate) const MISSING_IMAGE: &str = "Image file not found in the request.";
pub(crate) const UNDECODABLE: &str = "Could not decode image.";

/// Asserts that the service still recognises and that the gallery is empty.
fn assert_unharmed(server: &Server) {
    assert_eq!(server.names(drawn("empty.png")), Vec::<String>::new());
    let files = server
        .gallery
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path());
    // The lock file exists as long as the service runs.
    let left: Vec<_> = files.filter(|path| !path.ends_with(".lock")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Each error that the replaced service had keeps its text.
#[test]
fn legacy_messages_are_frozen() {
    let server = Options::drawn().start();
    let photo = || file("images", "a.png", drawn("alice-1.png"));
    let no_image = || b"this is a text file, not an image".to_vec();
    let enroll = |parts: &[_]| server.form("/process-images", parts);
    assert_eq!(
        enroll(&[photo()]).error(400, "student_id_missing"),
        MISSING_ID
    );
    assert_eq!(
        enroll(&[text("student_id", ""), photo()]).error(400, "student_id_missing"),
        MISSING_ID
    );
    assert_eq!(
        enroll(&[text("student_id", "a")]).error(400, "images_missing"),
        MISSING_IMAGES
    );
    assert_eq!(
        enroll(&[text("id", "a")]).error(400, "images_missing"),
        MISSING_IMAGES
    );
    // A text field of that name is not a file.
    assert_eq!(
        enroll(&[text("student_id", "a"), text("images", "b")]).error(400, "images_missing"),
        MISSING_IMAGES
    );
    // Clients without files send another content type, or none.
    let url_encoded = Some("application/x-www-form-urlencoded");
    assert_eq!(
        server
            .post("/process-images", url_encoded, b"student_id=a")
            .error(400, "images_missing"),
        MISSING_IMAGES
    );
    assert_eq!(
        server
            .post("/process-images", None, b"")
            .error(400, "student_id_missing"),
        MISSING_ID
    );
    assert_eq!(
        server
            .post("/process_frame", None, b"")
            .error(400, "image_missing"),
        MISSING_IMAGE
    );
    assert_eq!(
        server
            .form("/process_frame", &[text("schedule_id", "7")])
            .error(400, "image_missing"),
        MISSING_IMAGE
    );
    assert_eq!(
        server.recognize(no_image()).error(400, "undecodable_image"),
        UNDECODABLE
    );
    assert_eq!(
        server
            .enroll("a", [no_image()])
            .error(400, "no_usable_image"),
        NONE_USABLE
    );
    assert_unharmed(&server);
}

/// Ids that could name another path or hide characters are refused.
#[test]
fn unsafe_ids_are_refused() {
    let server = Options::drawn().start();
    let long = "a".repeat(129);
    for id in [
        "../s6",
        "..",
        ".hidden",
        "a/b",
        "/etc/passwd",
        "a\\b",
        "a\0b",
        "a\u{202e}b",
        "a\u{200b}b",
        "a;b",
        &"x".repeat(200),
        &long,
        "a\nb",
    ] {
        let answer = server.enroll(id, [drawn("alice-1.png")]);
        let message = answer.error(400, "invalid_student_id");
        assert!(
            message.starts_with("Field 'student_id' is not valid"),
            "{message}"
        );
    }
    assert_unharmed(&server);
    let outside: Vec<_> = server
        .gallery
        .parent()
        .unwrap()
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(outside, ["gallery"]);
}

#[test]
fn undecodable_images_are_refused() {
    let server = Options::drawn().start();
    let photo = drawn("alice-1.png");
    let jpeg = drawn_jpeg("alice-1.png");
    let bad: [(&str, Vec<u8>); 5] = [
        ("text", b"this is a text file, not an image".to_vec()),
        ("zero bytes", Vec::new()),
        ("truncated PNG", photo[..photo.len() / 2].to_vec()),
        ("truncated header of a JPEG", jpeg[..300].to_vec()),
        ("header only", photo[..8].to_vec()),
    ];
    for (case, bytes) in bad {
        assert_eq!(
            server
                .recognize(bytes.clone())
                .error(400, "undecodable_image"),
            UNDECODABLE,
            "{case}"
        );
        let answer = server.enroll("a", [bytes]);
        assert_eq!(answer.error(400, "no_usable_image"), NONE_USABLE, "{case}");
        assert_eq!(
            answer.json["details"]["rejected"][0]["reasons"][0]["code"], "undecodable",
            "{case}"
        );
    }
    assert_unharmed(&server);
}

/// Returns a PNG with these dimensions and only the start of its pixel data.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 2, 0, 0, 0]);
    let crc = !chunk.iter().fold(!0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            }
        })
    });
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    png.extend(chunk);
    png.extend(crc.to_be_bytes());
    // Only the dimensions can be the reason to refuse it, because pixel data begins here.
    png.extend(b"\0\0\0\x10IDAT");
    png
}

/// An image with too many pixels is refused from its header.
#[test]
fn huge_dimensions_are_refused() {
    let server = Options::drawn().start();
    let answer = server.recognize(png_header(60_000, 60_000));
    assert_eq!(
        answer.error(413, "image_too_large"),
        "The image has 60000x60000 pixels; at most 40000000 are decoded."
    );
    let answer = server.enroll("a", [png_header(60_000, 60_000)]);
    answer.error(400, "no_usable_image");
    let reason = &answer.json["details"]["rejected"][0]["reasons"][0];
    assert_eq!(reason["code"], "image_too_large");
    assert_eq!(reason["value"], json!(3.6e9));
    assert_eq!(reason["limit"], json!(4e7));
    assert_unharmed(&server);
}

#[test]
fn frame_without_face_is_empty() {
    let server = Options::drawn().start();
    assert_eq!(
        server.recognize(drawn("empty.png")).ok()["recognized_faces"],
        json!([])
    );
    let answer = server.recognize(drawn("one-pixel.png")).ok();
    assert_eq!(
        (&answer["recognized_faces"], &answer["frame"]),
        (&json!([]), &json!({ "width": 1, "height": 1 }))
    );
}

#[test]
fn malformed_multipart_is_refused() {
    let server = Options::drawn().start();
    let whole = multipart(&[
        text("student_id", "a"),
        file("images", "a.png", drawn("alice-1.png")),
    ]);
    let with_boundary = format!("multipart/form-data; boundary={BOUNDARY}");
    for end in [whole.len() / 2, 60, whole.len() - BOUNDARY.len() - 6] {
        server
            .post("/process-images", Some(&with_boundary), &whole[..end])
            .error(400, "malformed_multipart");
    }
    server
        .post("/process_frame", Some("multipart/form-data"), &whole)
        .error(400, "malformed_multipart");
    server
        .post(
            "/process_frame",
            Some("multipart/form-data; boundary=another"),
            &whole,
        )
        .error(400, "malformed_multipart");
    assert_unharmed(&server);
}

#[test]
fn connection_cut_during_body_is_harmless() {
    let server = Options::drawn().start();
    let whole = multipart(&[
        text("student_id", "a"),
        file("images", "a.png", drawn("alice-1.png")),
    ]);
    let mut connection = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    let head = format!(
        "POST /process-images HTTP/1.1\r\nhost: rostro\r\ncontent-type: multipart/form-data; boundary={BOUNDARY}\r\ncontent-length: {}\r\n\r\n",
        whole.len()
    );
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(&whole[..whole.len() / 2]).unwrap();
    drop(connection);
    assert_unharmed(&server);
}

/// A body over the limit is refused before all of it is read.
#[test]
fn oversized_body_is_refused_early() {
    let server = Options::drawn().arg("--max-body-mib", "1").start();
    let mut connection = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    // Ten gigabytes are announced and nothing is sent.
    let head = "POST /process_frame HTTP/1.1\r\nhost: rostro\r\ncontent-type: image/jpeg\r\ncontent-length: 10000000000\r\n\r\n";
    connection.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    // A client that sends everything before it reads still receives the answer.
    server
        .post("/process_frame", Some("image/jpeg"), &vec![0; 3 << 20])
        .error(413, "body_too_large");
    // One image exceeds `--max-image-mib` in a body within its limit.
    let server = Options::drawn().arg("--max-image-mib", "1").start();
    server
        .recognize(vec![0; (1 << 20) + 1])
        .error(413, "image_too_large");
    assert_unharmed(&server);
}

#[test]
fn oversized_chunked_body_is_refused() {
    let server = Options::drawn().arg("--max-body-mib", "1").start();
    let mut connection = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    connection
        .write_all(b"POST /process_frame HTTP/1.1\r\nhost: rostro\r\ncontent-type: image/jpeg\r\ntransfer-encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[0; 0x10000], b"\r\n"].concat();
    for _ in 0..17 {
        if connection.write_all(&chunk).is_err() {
            break;
        }
    }
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[test]
fn unsupported_content_types_are_refused() {
    let server = Options::drawn().start();
    for content_type in [
        "application/json",
        "text/plain",
        "application/octet-stream",
        "multipart/mixed; boundary=x",
    ] {
        if content_type != "application/octet-stream" {
            server
                .post("/process_frame", Some(content_type), b"{}")
                .error(415, "unsupported_content_type");
        }
        server
            .post("/process-images", Some(content_type), b"{}")
            .error(415, "unsupported_content_type");
    }
    server
        .post("/process-images", Some("image/jpeg"), b"")
        .error(415, "unsupported_content_type");
}

#[test]
fn unknown_routes_get_json() {
    let server = Options::drawn().start();
    server.post("/recognise", None, b"").error(404, "not_found");
    server.post("/", None, b"").error(405, "method_not_allowed");
}

#[test]
fn valid_request_id_is_returned() {
    let server = Options::drawn().start();
    let ask = |id: &str| {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        let answer = agent
            .post(format!("{}/process_frame", server.url))
            .header("x-request-id", id)
            .send_empty()
            .unwrap();
        answer.headers()["x-request-id"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(ask("lesson-7.frame-12"), "lesson-7.frame-12");
    assert_ne!(ask(&"x".repeat(200)), "x".repeat(200));
    assert_ne!(ask("two words"), "two words");
}
