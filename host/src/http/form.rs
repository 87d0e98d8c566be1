//! Multipart forms, read with bounds.
//!
//! As the replaced service did, a part with a file name is a file and one without is text, whatever their content types. Parts that nobody
//! asked for are skipped.

use std::collections::HashMap;

use axum::extract::multipart::{Field, Multipart, MultipartError, MultipartRejection};
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};

use super::body::{self, BodyMemory, Content};
use super::error::ApiError;
use crate::executor::Client;
use crate::service::Photo;

/// The longest text field that is taken, in bytes; the longest that means anything is an id of 128.
const LONGEST_TEXT: usize = 8 << 10;

/// The longest form that holds only text, in bytes.
const LONGEST_TEXTS: usize = 64 << 10;

/// The most files in one form.
const MOST_FILES: usize = 100;

/// What a request may hold.
#[derive(Clone, Debug)]
pub(super) struct FormLimits {
    /// Bytes of one file.
    pub(super) file_bytes: usize,
    /// Bytes of the whole body.
    pub(super) body_bytes: usize,
    /// What all requests together may hold.
    pub(super) memory: BodyMemory,
}

impl FormLimits {
    /// The same for what this client sends.
    pub(super) fn of(&self, client: &Client) -> Self {
        Self { memory: self.memory.of(client), ..self.clone() }
    }
}

/// The fields of a form that are of use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Names of text fields.
    pub(super) texts: &'static [&'static str],
    /// Names of the file fields.
    pub(super) files: &'static [&'static str],
}

/// The parts of a form that are of use.
#[derive(Debug, Default)]
pub(super) struct Form {
    texts: HashMap<String, String>,
    /// The files of the wanted fields, in their order.
    pub(super) files: Vec<Photo>,
}

impl Form {
    /// Reads a form.
    pub(super) async fn read(request: Request, wanted: Wanted, limits: &FormLimits) -> Result<Self, ApiError> {
        // Whole first: the parser keeps what it does not understand yet, uncounted, and looks through it again with every byte that comes.
        let (head, body) = request.into_parts();
        let content = body::read(body, limits.memory.collect(limits.body_bytes)).await?;
        let content = content.ok_or_else(|| body_too_large(limits.body_bytes))?;
        let request = Request::from_parts(head, content.bytes.clone().into());
        let mut parts = Multipart::from_request(request, &()).await.map_err(|error| rejected(&error))?;
        Self::read_parts(&mut parts, wanted, limits).await
    }

    async fn read_parts(parts: &mut Multipart, wanted: Wanted, limits: &FormLimits) -> Result<Self, ApiError> {
        let mut form = Self::default();
        while let Some(part) = parts.next_field().await.map_err(|error| broken(&error, limits))? {
            let name = part.name().unwrap_or_default().to_owned();
            match file_name(&part) {
                None if wanted.texts.contains(&name.as_str()) => {
                    let text = bounded(part, LONGEST_TEXT, limits).await?.ok_or_else(|| {
                        ApiError::bad_request("field_too_long", format!("Field '{name}' is longer than {LONGEST_TEXT} bytes."))
                    })?;
                    // The first of several fields of one name counts, as it did.
                    form.texts.entry(name).or_insert_with(|| String::from_utf8_lossy(&text.bytes).into_owned());
                }
                Some(file_name) => match wanted.files.iter().find(|field| **field == name) {
                    Some(field) => form.add(field, file_name, part, limits).await?,
                    None => skip(part, limits).await?,
                },
                None => skip(part, limits).await?,
            }
        }
        Ok(form)
    }

    /// Reads a form that holds only text.
    pub(super) async fn read_url_encoded(request: Request, wanted: Wanted, limits: &FormLimits) -> Result<Self, ApiError> {
        let content = body::read(request.into_body(), limits.memory.collect(LONGEST_TEXTS)).await?;
        let content = content.ok_or_else(|| body_too_large(LONGEST_TEXTS))?;
        let mut form = Self::default();
        for (name, text) in form_urlencoded::parse(&content.bytes).filter(|(name, _)| wanted.texts.contains(&name.as_ref())) {
            form.texts.entry(name.into_owned()).or_insert_with(|| text.into_owned());
        }
        Ok(form)
    }

    async fn add(&mut self, field: &'static str, file_name: String, part: Field<'_>, limits: &FormLimits) -> Result<(), ApiError> {
        if self.files.len() == MOST_FILES {
            return Err(ApiError::too_large("too_many_images", format!("At most {MOST_FILES} images are taken in one request.")));
        }
        let content = bounded(part, limits.file_bytes, limits).await?.ok_or_else(|| file_too_large(&file_name, limits))?;
        self.files.push(Photo { field, file_name, content });
        Ok(())
    }

    /// The value of the first of these text fields that is present and not empty.
    pub(super) fn text(&self, names: &[&str]) -> Option<&str> {
        names.iter().filter_map(|name| self.texts.get(*name)).map(String::as_str).find(|text| !text.is_empty())
    }
}

/// The file name of a part that has one. One in another form than the parser reads (RFC 5987, Latin-1) still makes it a file.
fn file_name(part: &Field<'_>) -> Option<String> {
    let disposition = || part.headers().get(header::CONTENT_DISPOSITION).map(|value| value.as_bytes().to_ascii_lowercase());
    let has_one = || disposition().is_some_and(|text| text.windows(8).any(|window| window == b"filename"));
    part.file_name().map(str::to_owned).or_else(|| has_one().then(|| "unnamed".to_owned()))
}

/// The error for a body over its limit.
pub(super) fn body_too_large(limit: usize) -> ApiError {
    ApiError::too_large("body_too_large", format!("The body is larger than {limit} bytes.")).with("max_bytes", limit)
}

/// The error for one image over its limit.
pub(super) fn file_too_large(file_name: &str, limits: &FormLimits) -> ApiError {
    ApiError::too_large("image_too_large", format!("The image '{file_name}' is larger than {} bytes.", limits.file_bytes))
        .with("file_name", file_name)
        .with("max_bytes", limits.file_bytes)
}

/// The content of a part, or nothing if it is longer than `most`.
async fn bounded(mut part: Field<'_>, most: usize, limits: &FormLimits) -> Result<Option<Content>, ApiError> {
    let mut collector = limits.memory.collect(most);
    while let Some(chunk) = part.chunk().await.map_err(|error| broken(&error, limits))? {
        if !collector.push(&chunk)? {
            return Ok(None);
        }
    }
    Ok(Some(collector.finish()))
}

async fn skip(mut part: Field<'_>, limits: &FormLimits) -> Result<(), ApiError> {
    while part.chunk().await.map_err(|error| broken(&error, limits))?.is_some() {}
    Ok(())
}

fn broken(error: &MultipartError, limits: &FormLimits) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return body_too_large(limits.body_bytes);
    }
    ApiError::bad_request("malformed_multipart", "The multipart body is malformed or cut off.").with("cause", error.body_text())
}

fn rejected(error: &MultipartRejection) -> ApiError {
    ApiError::bad_request("malformed_multipart", "The content type multipart/form-data lacks a usable boundary.")
        .with("cause", error.body_text())
}

#[cfg(any(test, fuzzing))]
pub(crate) mod property;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::property::{LITTLE, MUCH, holds, read};
    use super::{LONGEST_TEXT, MOST_FILES};

    const TYPE: &[u8] = b"multipart/form-data; boundary=b";

    fn form(parts: &[(&str, &str)]) -> Vec<u8> {
        let part = |(head, body): &(&str, &str)| format!("--b\r\ncontent-disposition: form-data; {head}\r\n\r\n{body}\r\n");
        (parts.iter().map(part).collect::<String>() + "--b--\r\n").into_bytes()
    }

    const GOOD: [(&str, &str); 3] =
        [("name=\"id\"", "alice"), ("name=\"images\"; filename=\"a.jpg\"", "photo"), ("name=\"images\"; filename*=UTF-8''b", "second")];

    #[test]
    fn the_wanted_parts_are_read() {
        let read = read(TYPE, form(&GOOD), LITTLE).unwrap();
        let files: Vec<&str> = read.files.iter().map(|photo| photo.file_name.as_str()).collect();
        assert_eq!((read.text(&["id"]), files), (Some("alice"), vec!["a.jpg", "unnamed"]));
    }

    #[test]
    fn as_many_files_and_as_long_texts_are_read_as_are_taken_and_more_is_refused() {
        let files = |count| form(&vec![("name=\"images\"; filename=\"a\"", "x"); count]);
        let text = |length| form(&[("name=\"id\"", &*"a".repeat(length))]);
        for (most, more, refusal) in
            [(files(MOST_FILES), files(MOST_FILES + 1), "too_many_images"), (text(LONGEST_TEXT), text(LONGEST_TEXT + 1), "field_too_long")]
        {
            assert!(read(TYPE, most.clone(), MUCH).is_ok());
            assert_eq!(read(TYPE, more.clone(), MUCH).unwrap_err().code, refusal);
            holds(TYPE, &most);
            holds(TYPE, &more);
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_reading_it_panic_and_every_refusal_is_the_callers_fault(
            noise in prop::collection::vec(any::<u8>(), 0..300), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in any::<prop::sample::Index>(), way in 0..3,
        ) {
            let mut body = form(&GOOD);
            for (place, byte) in changes {
                let place = place.index(body.len());
                body[place] = byte;
            }
            match way {
                0 => body = noise,
                1 => body.truncate(cut.index(body.len())),
                _ => {}
            }
            holds(TYPE, &body);
        }
    }
}
