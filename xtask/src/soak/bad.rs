//! Bad input: what broken clients send, and those that hang up.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Result;
use ureq::http::Method;

use super::client::{Client, FORM, Part, form};
use super::load::Chance;
use super::people;
use super::tally::Tally;

/// How many kinds there are.
const KINDS: usize = 26;

/// Sends one kind of bad input. None of it changes anybody, so nobody is claimed for it.
pub(super) fn send(
    client: &Client,
    chance: &mut Chance,
    tally: &Tally,
    photo: &[u8],
) -> Result<()> {
    let half = photo.get(..photo.len() / 2).unwrap_or_default();
    let somebody = people::id(chance.below(people::PEOPLE));
    let image = Part::File("image", photo);
    let enrolment = form(&[
        Part::Text("student_id", &somebody),
        Part::File("images", photo),
    ]);
    let cut_off = enrolment.get(..enrolment.len() / 2).unwrap_or_default();
    let (frame, enrol) = ("/process_frame", "/process-images");
    let (what, answer) = match chance.below(KINDS) {
        0 => ("a truncated image", client.post(frame, "image/png", half)),
        1 => (
            "text as an image",
            client.post(frame, "image/png", b"this is no image"),
        ),
        2 => (
            "another content type",
            client.post(frame, "application/json", b"{}"),
        ),
        3 => (
            "no image in the form",
            client.post(frame, FORM, &form(&[Part::Text("schedule_id", "7")])),
        ),
        4 => (
            "a group that there is not",
            client.post(frame, FORM, &form(&[Part::Text("group", "nowhere"), image])),
        ),
        5 => {
            let headers = [
                ("content-type", "image/png"),
                ("x-rostro-canary", "perhaps"),
            ];
            ("a header's value", client.post_with(frame, &headers, photo))
        }
        6 => (
            "no id",
            client.post(enrol, FORM, &form(&[Part::File("images", photo)])),
        ),
        7 => (
            "no photos",
            client.post(enrol, FORM, &form(&[Part::Text("student_id", &somebody)])),
        ),
        8 => (
            "an id that is a path",
            client.post(
                enrol,
                FORM,
                &form(&[
                    Part::Text("student_id", "../s6"),
                    Part::File("images", photo),
                ]),
            ),
        ),
        9 => {
            // What is known of them stays, and is compared at the end.
            let parts = [
                Part::Text("student_id", &somebody),
                Part::File("images", half),
            ];
            (
                "photos none of which can be used",
                client.post(enrol, FORM, &form(&parts)),
            )
        }
        10 => ("a form that ends early", client.post(enrol, FORM, cut_off)),
        11 => (
            "another boundary",
            client.post(enrol, "multipart/form-data; boundary=another", &enrolment),
        ),
        12 => (
            "no boundary",
            client.post(enrol, "multipart/form-data", &enrolment),
        ),
        13 => (
            "photos for nobody",
            client.post(
                "/v1/people/nobody/photos",
                FORM,
                &form(&[Part::File("images", photo)]),
            ),
        ),
        14 => (
            "an id that is no text",
            client.post(
                "/v1/people/%FF/photos",
                FORM,
                &form(&[Part::File("images", photo)]),
            ),
        ),
        15 => (
            "one image to compare",
            client.post("/v1/compare", FORM, &form(&[Part::File("a", photo)])),
        ),
        16 => (
            "a path that there is not",
            client.post("/recognise", "image/png", photo),
        ),
        17 => ("another method", client.public(Method::GET, frame)),
        18 => (
            "a group's name",
            client.admin(
                Method::PUT,
                &format!("/v1/groups/.hidden/people/{somebody}"),
            ),
        ),
        19 => (
            "an id to delete",
            client.admin(Method::DELETE, "/v1/people/a%2Fb"),
        ),
        20 => {
            let query =
                chance.one_of(&["limit=0", "limit=many", "cursor=nonsense", "order=random"])?;
            (
                "a query",
                client.admin(Method::GET, &format!("/v1/people?{query}")),
            )
        }
        21 => {
            return raw(
                client,
                tally,
                "a body that is announced too large",
                frame,
                "content-length: 10000000000",
                b"",
                true,
            );
        }
        22 => {
            return raw(
                client,
                tally,
                "a broken chunk",
                frame,
                "transfer-encoding: chunked",
                b"many\r\n",
                true,
            );
        }
        23 => {
            let length = format!(
                "content-length: {}\r\ncontent-type: {FORM}",
                enrolment.len()
            );
            return raw(
                client,
                tally,
                "hung up in the middle",
                enrol,
                &length,
                cut_off,
                false,
            );
        }
        24 => {
            return raw(
                client,
                tally,
                "hung up after the head",
                frame,
                "content-length: 1000",
                b"",
                false,
            );
        }
        _ => {
            return raw(
                client,
                tally,
                "hung up before the answer",
                frame,
                &format!("content-length: {}", photo.len()),
                photo,
                false,
            );
        }
    };
    tally.refused(what, answer);
    Ok(())
}

/// Sends what no client library would; waits for a status, or hangs up.
fn raw(
    client: &Client,
    tally: &Tally,
    what: &str,
    path: &str,
    headers: &str,
    body: &[u8],
    wait: bool,
) -> Result<()> {
    let content_type = if headers.contains("content-type") {
        ""
    } else {
        "content-type: image/png\r\n"
    };
    let head = format!("POST {path} HTTP/1.1\r\nhost: soak\r\n{content_type}{headers}\r\n\r\n");
    let sent = TcpStream::connect(client.address()).and_then(|mut connection| {
        connection.set_read_timeout(Some(Duration::from_secs(60)))?;
        connection.write_all(&[head.as_bytes(), body].concat())?;
        let mut answer = [0; 12];
        if wait {
            connection.read_exact(&mut answer)?;
        }
        // After `HTTP/1.1 `.
        Ok(wait.then(|| {
            String::from_utf8_lossy(&answer)
                .chars()
                .skip(9)
                .collect::<String>()
        }))
    });
    let outcome = match sent {
        Ok(None) => "hung up".to_owned(),
        Ok(Some(status)) if status.starts_with('4') || status == "503" => status,
        other => {
            tally.fail(format!("bad input ({what}): {other:?}"));
            "no answer".to_owned()
        }
    };
    tally.count("bad input", outcome);
    Ok(())
}
