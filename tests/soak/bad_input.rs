//! Bad input of broken clients, and clients that disconnect. None of it changes a person.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use fastrand::Rng;
use ureq::http::Method;

use crate::clients::Clients;
use crate::harness::{FORM, Part, file, multipart, text};
use crate::people;
use crate::stats::Stats;

const FRAME: &str = "/process_frame";
const ENROL: &str = "/process-images";

/// Sends one kind of bad input, chosen at random.
pub(crate) fn send(clients: &Clients, rng: &mut Rng, stats: &Stats, photo: &[u8]) -> Result<()> {
    let half = photo.get(..photo.len() / 2).unwrap_or_default();
    let person = people::id(rng.usize(..people::PEOPLE));
    let id = |id: &str| text("student_id", id);
    let images = |bytes: &[u8]| file("images", "photo.png", bytes);
    let image = || file("image", "photo.png", photo);
    let enrolment = multipart(&[id(&person), images(photo)]);
    let truncated = enrolment.get(..enrolment.len() / 2).unwrap_or_default();
    let form = |path: &str, parts: &[Part]| clients.form(path, parts);
    let (what, answer) = match rng.u8(..26) {
        0 => ("truncated image", clients.post(FRAME, "image/png", half)),
        1 => (
            "text as an image",
            clients.post(FRAME, "image/png", b"this is no image"),
        ),
        2 => (
            "other content type",
            clients.post(FRAME, "application/json", b"{}"),
        ),
        3 => (
            "form without image",
            form(FRAME, &[text("schedule_id", "7")]),
        ),
        4 => (
            "unknown group",
            form(FRAME, &[text("group", "nowhere"), image()]),
        ),
        5 => {
            let headers = [
                ("content-type", "image/png"),
                ("x-rostro-canary", "perhaps"),
            ];
            ("bad header", clients.post_with(FRAME, &headers, photo))
        }
        6 => ("no id", form(ENROL, &[images(photo)])),
        7 => ("no photos", form(ENROL, &[id(&person)])),
        8 => ("id with a path", form(ENROL, &[id("../s6"), images(photo)])),
        // The person keeps the earlier photos, which the audit checks.
        9 => ("no usable photo", form(ENROL, &[id(&person), images(half)])),
        10 => ("truncated form", clients.post(ENROL, FORM, truncated)),
        11 => {
            let content_type = "multipart/form-data; boundary=another";
            (
                "wrong boundary",
                clients.post(ENROL, content_type, &enrolment),
            )
        }
        12 => (
            "no boundary",
            clients.post(ENROL, "multipart/form-data", &enrolment),
        ),
        13 => (
            "unknown person",
            form("/v1/people/unknown/photos", &[images(photo)]),
        ),
        14 => (
            "id that is not UTF-8",
            form("/v1/people/%FF/photos", &[images(photo)]),
        ),
        15 => (
            "one image to compare",
            form("/v1/compare", &[file("a", "a.png", photo)]),
        ),
        16 => (
            "unknown path",
            clients.post("/recognise", "image/png", photo),
        ),
        17 => ("wrong method", clients.get(FRAME)),
        18 => {
            let path = format!("/v1/groups/.hidden/people/{person}");
            ("bad group name", clients.admin(Method::PUT, &path))
        }
        19 => (
            "bad id to delete",
            clients.admin(Method::DELETE, "/v1/people/a%2Fb"),
        ),
        20 => {
            let queries = ["limit=0", "limit=many", "cursor=nonsense", "order=random"];
            let query = rng.choice(queries).context("there are no queries")?;
            (
                "bad query",
                clients.admin(Method::GET, &format!("/v1/people?{query}")),
            )
        }
        kind => {
            raw(clients, stats, kind, photo, &enrolment);
            return Ok(());
        }
    };
    stats.record_bad_input(what, answer);
    Ok(())
}

/// Sends a request that no HTTP library would send.
fn raw(clients: &Clients, stats: &Stats, kind: u8, photo: &[u8], enrolment: &[u8]) {
    let image = |length: usize| format!("content-type: image/png\r\ncontent-length: {length}");
    let truncated = enrolment.get(..enrolment.len() / 2).unwrap_or_default();
    let (what, path, headers, body): (_, _, _, &[u8]) = match kind {
        21 => (
            "too large body announced",
            FRAME,
            image(10_000_000_000),
            b"",
        ),
        22 => {
            let headers = "content-type: image/png\r\ntransfer-encoding: chunked";
            ("broken chunk", FRAME, headers.to_owned(), b"many\r\n")
        }
        23 => {
            let headers = format!(
                "content-type: {FORM}\r\ncontent-length: {}",
                enrolment.len()
            );
            ("disconnect within the body", ENROL, headers, truncated)
        }
        24 => ("disconnect after the head", FRAME, image(1000), b""),
        _ => (
            "disconnect before the answer",
            FRAME,
            image(photo.len()),
            photo,
        ),
    };
    let request = format!("POST {path} HTTP/1.1\r\nhost: soak\r\n{headers}\r\n\r\n");
    let outcome = match exchange(clients, &[request.as_bytes(), body].concat(), kind < 23) {
        Ok(None) => "disconnected".to_owned(),
        Ok(Some(status)) if status.starts_with('4') || status == "503" => status,
        other => {
            stats.fail(format!("bad input ({what}): {other:?}"));
            "no answer".to_owned()
        }
    };
    stats.count("bad input", outcome);
}

/// Sends bytes and either reads the status of the answer or disconnects.
fn exchange(clients: &Clients, request: &[u8], wait: bool) -> std::io::Result<Option<String>> {
    let mut connection = TcpStream::connect(&clients.address)?;
    connection.set_read_timeout(Some(Duration::from_secs(60)))?;
    connection.write_all(request)?;
    if !wait {
        return Ok(None);
    }
    let mut answer = [0; 12];
    connection.read_exact(&mut answer)?;
    let status = String::from_utf8_lossy(&answer);
    Ok(Some(status.trim_start_matches("HTTP/1.1 ").to_owned()))
}
