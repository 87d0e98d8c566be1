//! What holds of every form that is read, whoever made it.
#![expect(clippy::unwrap_used, reason = "of tests and fuzz targets alone")]

use super::{BodyMemory, Form, FormLimits, LONGEST_TEXT, LONGEST_TEXTS, MOST_FILES, Request, Wanted, header};
use crate::http::ApiError;

const WANTED: Wanted = Wanted { texts: &["id", "name"], files: &["images", "image"] };

/// Little room for each form, so that what is too large is found soon, and enough for every part of one.
const FILE: usize = 64;
const BODY: usize = 2048;
const MEMORY: usize = 1 << 20;

fn limits(body_bytes: usize) -> FormLimits {
    FormLimits { file_bytes: FILE, body_bytes, memory: BodyMemory::new(MEMORY, MEMORY) }
}

fn request(content_type: &[u8], body: Vec<u8>) -> Option<Request> {
    Request::builder().header(header::CONTENT_TYPE, content_type).body(body.into()).ok()
}

fn done<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

/// Reads a body as a form.
#[cfg(test)]
pub(super) fn read(content_type: &[u8], body: Vec<u8>) -> Result<Form, ApiError> {
    done(Form::read(request(content_type, body).unwrap(), WANTED, &limits(BODY)))
}

/// A form is refused as its sender's fault, or what is read of it is within bounds and what was asked for, and is the same when it is sent
/// once more. No memory stays reserved.
pub(crate) fn holds(content_type: &[u8], body: &[u8]) {
    let Some(request) = request(content_type, body.to_vec()) else { return };
    let limits = limits(BODY);
    let read = accepted(done(Form::read(request, WANTED, &limits)));
    if let Some(form) = read {
        assert!(body.len() <= BODY && form.files.len() <= MOST_FILES);
        assert!(form.files.iter().all(|file| WANTED.files.contains(&file.field) && file.content.bytes.len() <= FILE));
        // Each byte that is no text may have become a character of three.
        assert!(form.texts.iter().all(|(name, text)| WANTED.texts.contains(&name.as_str()) && text.len() <= 3 * LONGEST_TEXT));
        assert_same_again(&form);
    }
    assert!(limits.memory.is_free(MEMORY));
}

/// The same of a form that holds only text, encoded as in a query.
pub(crate) fn holds_url_encoded(body: &[u8]) {
    let limits = limits(BODY);
    let request = request(b"application/x-www-form-urlencoded", body.to_vec()).unwrap();
    if let Some(form) = accepted(done(Form::read_url_encoded(request, WANTED, &limits))) {
        assert!(body.len() <= LONGEST_TEXTS && form.files.is_empty());
        assert!(form.texts.iter().all(|(name, text)| WANTED.texts.contains(&name.as_str()) && text.len() <= 3 * body.len()));
    }
    assert!(limits.memory.is_free(MEMORY));
}

fn accepted(read: Result<Form, ApiError>) -> Option<Form> {
    read.map_err(|error| assert!(error.status.is_client_error(), "{error:?}")).ok()
}

fn assert_same_again(form: &Form) {
    let texts = form.texts.iter().map(|(name, text)| (format!("name=\"{name}\""), text.as_bytes()));
    let files = form.files.iter().map(|file| (format!("name=\"{}\"; filename=\"again\"", file.field), &*file.content.bytes));
    let parts: Vec<(String, &[u8])> = texts.chain(files).collect();
    let is_free = |boundary: &String| parts.iter().all(|(_, content)| !content.windows(boundary.len()).any(|at| at == boundary.as_bytes()));
    let boundary = (0..).map(|number| format!("again{number}")).find(is_free).unwrap();
    let mut body = Vec::new();
    for (head, content) in parts {
        body.extend(format!("--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n").bytes());
        body.extend(content);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{boundary}--\r\n").bytes());
    let request = request(format!("multipart/form-data; boundary={boundary}").as_bytes(), body).unwrap();
    let again = done(Form::read(request, WANTED, &limits(1 << 16))).unwrap();
    assert_eq!(again.texts, form.texts);
    let contents = |form: &Form| form.files.iter().map(|file| (file.field, file.content.bytes.clone())).collect::<Vec<_>>();
    assert_eq!(contents(&again), contents(form));
}
