//! What holds of every form that is read, whoever made it.
#![expect(clippy::unwrap_used, reason = "of tests and fuzz targets alone")]

use std::io::Cursor;

use axum::body::Body;
use tokio_util::io::ReaderStream;

use super::{
    BodyMemory, Form, FormFields, FormLimits, LONGEST_TEXT, LONGEST_TEXTS, MOST_FILES, Request,
    header,
};
use crate::ApiError;

const WANTED: FormFields = FormFields {
    texts: &["id", "name"],
    files: &["images", "image"],
    refuses_misspelt: true,
    example: "",
};

/// How large the files and the body of a form may be.
#[derive(Clone, Copy)]
pub(super) struct FormSizes {
    file: usize,
    body: usize,
}

/// Little room, so that what is too large is found soon, and enough for every part of a form.
pub(super) const LITTLE: FormSizes = FormSizes {
    file: 64,
    body: 2048,
};

/// Room for more files and longer texts than are taken.
pub(super) const MUCH: FormSizes = FormSizes {
    file: 1024,
    body: 32 << 10,
};

const MEMORY: usize = 1 << 20;

fn limits(room: FormSizes) -> FormLimits {
    FormLimits {
        file_bytes: room.file,
        body_bytes: room.body,
        memory: BodyMemory::new(MEMORY, MEMORY),
    }
}

fn request(content_type: &[u8], body: impl Into<Body>) -> Option<Request> {
    Request::builder()
        .header(header::CONTENT_TYPE, content_type)
        .body(body.into())
        .ok()
}

/// A body that arrives in pieces, as long as its first byte says.
fn in_pieces(body: &[u8]) -> Body {
    let piece = 1 + body.first().copied().map_or(0, usize::from);
    Body::from_stream(ReaderStream::with_capacity(
        Cursor::new(body.to_vec()),
        piece,
    ))
}

fn done<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(work)
}

/// Reads a body as a form.
#[cfg(test)]
pub(super) fn read(content_type: &[u8], body: Vec<u8>, room: FormSizes) -> Result<Form, ApiError> {
    done(Form::read(
        request(content_type, body).unwrap(),
        WANTED,
        &limits(room),
    ))
}

/// A form is refused as its sender's fault, or what is read of it is within bounds and what was
/// asked for, and is the same when it is sent once more. However it arrives, it is refused or read
/// alike. No memory stays reserved.
pub fn holds(content_type: &[u8], body: &[u8]) {
    holds_in(LITTLE, content_type, body);
    if body.len() > LITTLE.body {
        holds_in(MUCH, content_type, body);
    }
}

fn holds_in(room: FormSizes, content_type: &[u8], body: &[u8]) {
    let Some((whole, pieces)) =
        request(content_type, body.to_vec()).zip(request(content_type, in_pieces(body)))
    else {
        return;
    };
    let limits = limits(room);
    let [whole, pieces] = [whole, pieces].map(|request| done(Form::read(request, WANTED, &limits)));
    let refusal = |read: &Result<Form, ApiError>| read.as_ref().err().map(|error| error.code);
    assert_eq!(refusal(&whole), refusal(&pieces));
    if let Some((form, arrived_in_pieces)) = accepted(whole).zip(accepted(pieces)) {
        assert_same(&form, &arrived_in_pieces);
        assert!(body.len() <= room.body && form.files.len() <= MOST_FILES);
        assert!(
            form.files
                .iter()
                .all(|file| WANTED.files.contains(&file.field) && file.content.len() <= room.file)
        );
        // Each byte that is no text may have become a character of three.
        assert!(
            form.texts
                .iter()
                .all(|(name, text)| WANTED.texts.contains(&name.as_str())
                    && text.len() <= 3 * LONGEST_TEXT)
        );
        if form.texts.values().all(|text| text.len() <= LONGEST_TEXT) {
            assert_same_again(&form);
        }
    }
    assert!(limits.memory.is_free(MEMORY));
}

/// The same of a form that holds only text, encoded as in a query.
pub fn holds_url_encoded(body: &[u8]) {
    let limits = limits(LITTLE);
    let request = request(b"application/x-www-form-urlencoded", in_pieces(body)).unwrap();
    if let Some(form) = accepted(done(Form::read_url_encoded(request, WANTED, &limits))) {
        assert!(body.len() <= LONGEST_TEXTS && form.files.is_empty());
        assert!(
            form.texts
                .iter()
                .all(|(name, text)| WANTED.texts.contains(&name.as_str())
                    && text.len() <= 3 * body.len())
        );
    }
    assert!(limits.memory.is_free(MEMORY));
}

fn accepted(read: Result<Form, ApiError>) -> Option<Form> {
    read.map_err(|error| assert!(error.status.is_client_error(), "{error:?}"))
        .ok()
}

fn assert_same_again(form: &Form) {
    let texts = form
        .texts
        .iter()
        .map(|(name, text)| (format!("name=\"{name}\""), text.as_bytes()));
    let files = form.files.iter().map(|file| {
        (
            format!("name=\"{}\"; filename=\"again\"", file.field),
            &*file.content,
        )
    });
    let parts: Vec<(String, &[u8])> = texts.chain(files).collect();
    let is_free = |boundary: &String| {
        parts.iter().all(|(_, content)| {
            !content
                .windows(boundary.len())
                .any(|at| at == boundary.as_bytes())
        })
    };
    let boundary = (0..)
        .map(|number| format!("again{number}"))
        .find(is_free)
        .unwrap();
    let mut body = Vec::new();
    for (head, content) in parts {
        body.extend(
            format!("--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n").bytes(),
        );
        body.extend(content);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{boundary}--\r\n").bytes());
    let request = request(
        format!("multipart/form-data; boundary={boundary}").as_bytes(),
        body,
    )
    .unwrap();
    // Its boundary may be longer.
    let room = FormSizes {
        file: MUCH.file,
        body: 2 * MUCH.body,
    };
    assert_same(
        &done(Form::read(request, WANTED, &limits(room))).unwrap(),
        form,
    );
}

fn assert_same(one: &Form, other: &Form) {
    assert_eq!(one.texts, other.texts);
    let contents = |form: &Form| {
        form.files
            .iter()
            .map(|file| (file.field, file.content.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(contents(one), contents(other));
}
