//! Properties that hold for every form, for tests and fuzz targets.
#![expect(clippy::unwrap_used, reason = "only used by tests and fuzz targets")]

use std::io::Cursor;

use axum::body::Body;
use tokio_util::io::ReaderStream;

use super::{
    BodyMemory, Form, FormFields, FormLimits, MAX_FILES, MAX_TEXT_BYTES, MAX_URL_ENCODED_BYTES,
    Request, header,
};
use crate::error::ApiError;

const FIELDS: FormFields = FormFields {
    texts: &["id", "name"],
    files: &["images", "image"],
    refuses_misspelt: true,
    example: "",
    accepted: "",
};

/// Limits of the files and the body of a form, in bytes.
#[derive(Clone, Copy)]
pub(super) struct FormSizes {
    file: usize,
    body: usize,
}

/// Limits that are reached soon, and large enough for every kind of part.
pub(super) const SMALL: FormSizes = FormSizes {
    file: 64,
    body: 2048,
};

/// Limits above the largest number of files and the longest text.
pub(super) const LARGE: FormSizes = FormSizes {
    file: 1024,
    body: 32 << 10,
};

const MEMORY: usize = 1 << 20;

fn limits(sizes: FormSizes) -> FormLimits {
    FormLimits {
        file_bytes: sizes.file,
        body_bytes: sizes.body,
        memory: BodyMemory::new(MEMORY, MEMORY),
    }
}

fn request(content_type: &[u8], body: impl Into<Body>) -> Option<Request> {
    Request::builder()
        .header(header::CONTENT_TYPE, content_type)
        .body(body.into())
        .ok()
}

/// Returns a body that arrives in chunks. Its first byte sets their length.
fn chunked(body: &[u8]) -> Body {
    let length = 1 + body.first().copied().map_or(0, usize::from);
    Body::from_stream(ReaderStream::with_capacity(
        Cursor::new(body.to_vec()),
        length,
    ))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(work)
}

/// Reads a body as a form.
#[cfg(test)]
pub(super) fn read(content_type: &[u8], body: Vec<u8>, sizes: FormSizes) -> Result<Form, ApiError> {
    block_on(Form::read(
        request(content_type, body).unwrap(),
        FIELDS,
        &limits(sizes),
    ))
}

/// Checks the properties of a multipart body:
///
/// - It is read within bounds, with expected fields alone, or refused with a client error.
/// - The result does not depend on the chunks in which it arrives.
/// - A form that is made of the result is read as the same result.
/// - No memory stays reserved.
pub fn check_multipart(content_type: &[u8], body: &[u8]) {
    check_with_limits(SMALL, content_type, body);
    if body.len() > SMALL.body {
        check_with_limits(LARGE, content_type, body);
    }
}

fn check_with_limits(sizes: FormSizes, content_type: &[u8], body: &[u8]) {
    let Some((whole, chunks)) =
        request(content_type, body.to_vec()).zip(request(content_type, chunked(body)))
    else {
        return;
    };
    let limits = limits(sizes);
    let [whole, chunks] =
        [whole, chunks].map(|request| block_on(Form::read(request, FIELDS, &limits)));
    let refusal = |read: &Result<Form, ApiError>| read.as_ref().err().map(|error| error.code);
    assert_eq!(refusal(&whole), refusal(&chunks));
    if let Some((form, from_chunks)) = accepted(whole).zip(accepted(chunks)) {
        assert_same(&form, &from_chunks);
        assert!(body.len() <= sizes.body && form.files.len() <= MAX_FILES);
        assert!(
            form.files
                .iter()
                .all(|file| FIELDS.files.contains(&file.field) && file.content.len() <= sizes.file)
        );
        // An invalid byte becomes a replacement character of three bytes.
        assert!(
            form.texts
                .iter()
                .all(|(name, text)| FIELDS.texts.contains(&name.as_str())
                    && text.len() <= 3 * MAX_TEXT_BYTES)
        );
        if form.texts.values().all(|text| text.len() <= MAX_TEXT_BYTES) {
            assert_same_when_resent(&form);
        }
    }
    assert!(limits.memory.is_free(MEMORY));
}

/// Checks the properties of a URL-encoded body.
pub fn check_url_encoded(body: &[u8]) {
    let limits = limits(SMALL);
    let request = request(b"application/x-www-form-urlencoded", chunked(body)).unwrap();
    if let Some(form) = accepted(block_on(Form::read_url_encoded(request, FIELDS, &limits))) {
        assert!(body.len() <= MAX_URL_ENCODED_BYTES && form.files.is_empty());
        assert!(
            form.texts
                .iter()
                .all(|(name, text)| FIELDS.texts.contains(&name.as_str())
                    && text.len() <= 3 * body.len())
        );
    }
    assert!(limits.memory.is_free(MEMORY));
}

fn accepted(read: Result<Form, ApiError>) -> Option<Form> {
    read.map_err(|error| assert!(error.status.is_client_error(), "{error:?}"))
        .ok()
}

fn assert_same_when_resent(form: &Form) {
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
    // The new boundary may be longer.
    let sizes = FormSizes {
        file: LARGE.file,
        body: 2 * LARGE.body,
    };
    assert_same(
        &block_on(Form::read(request, FIELDS, &limits(sizes))).unwrap(),
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
