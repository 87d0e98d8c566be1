//! Multipart forms, read with bounds.
//!
//! A part with a file name is a file, and one without is text. Content types of parts do not count,
//! as in the replaced service. Unknown parts are skipped.

mod disposition;
mod field_names;

use std::collections::HashMap;

use axum::extract::multipart::{Field, Multipart, MultipartError, MultipartRejection};
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use bytes::Bytes;

use rostro_service::Photo;
use rostro_service::executor::Client;

use self::disposition::Disposition;
use self::field_names::{FieldKind, FieldNames};
use crate::error::ApiError;
use crate::request::body::{self, BodyLimit, body_too_large, image_too_large};
use crate::request::headers::ContentType;
use crate::request::memory::{BodyMemory, Reservation};
use crate::request::query::{RESTRICTING, intended_name, misspelt_field};

/// Longest text field, in bytes. The longest meaningful one is an id.
const MAX_TEXT_BYTES: usize = 8 << 10;

/// Longest URL-encoded form, in bytes.
const MAX_URL_ENCODED_BYTES: usize = 64 << 10;

/// Largest number of files in one form.
const MAX_FILES: usize = 100;

/// Description of a binary body that came in place of a form.
const BINARY_BODY: &str = "the body is an image, or other binary data, and no form";

/// Limits of one request.
#[derive(Clone, Debug)]
pub(crate) struct FormLimits {
    /// Bytes of one file.
    pub(crate) file_bytes: usize,
    /// Bytes of the whole body.
    pub(crate) body_bytes: usize,
    /// Memory that all requests share.
    pub(crate) memory: BodyMemory,
}

impl FormLimits {
    /// Returns the limits with the client's share of memory.
    pub(crate) fn of(&self, client: &Client) -> Self {
        Self {
            memory: self.memory.of(client),
            ..self.clone()
        }
    }
}

/// Fields that a route reads from a form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FormFields {
    /// Names of text fields.
    pub(crate) texts: &'static [&'static str],
    /// Names of the file fields.
    pub(crate) files: &'static [&'static str],
    /// Whether a misspelt field that would restrict a search is refused.
    pub(crate) refuses_misspelt: bool,
    /// Command that sends such a form, for the error about a body that is no form.
    pub(crate) example: &'static str,
    /// Accepted content types, for the error about others.
    pub(crate) accepted: &'static str,
}

impl FormFields {
    /// Refuses a field that the caller meant and that would be skipped.
    fn check(&self, name: &str, kind: FieldKind) -> Result<(), ApiError> {
        if !self.refuses_misspelt {
            return Ok(());
        }
        if let Some(intended) = intended_name(name) {
            return Err(misspelt_field(name, intended));
        }
        // Skipping it as an unknown file would search all people.
        if kind == FieldKind::File && RESTRICTING.contains(&name) && self.texts.contains(&name) {
            let message =
                format!("The field '{name}' came as a file: send it as text, without a file name.");
            return Err(ApiError::bad_request("invalid_group", message));
        }
        Ok(())
    }
}

/// Parts of a form that the route reads.
#[derive(Debug, Default)]
pub(crate) struct Form {
    texts: HashMap<String, String>,
    /// Second value of a text field: the last one that differs from the first, or else an equal
    /// one.
    repeated: HashMap<String, String>,
    /// Files of the expected fields, in order.
    pub(crate) files: Vec<Photo>,
    /// Names of all fields, for errors about missing ones.
    received: FieldNames,
}

impl Form {
    /// Reads a form of any encoding.
    pub(crate) async fn read_any(
        request: Request,
        fields: FormFields,
        limits: &FormLimits,
    ) -> Result<Self, ApiError> {
        match ContentType::of(request.headers()) {
            ContentType::Multipart => Self::read(request, fields, limits).await,
            ContentType::UrlEncoded => Self::read_url_encoded(request, fields, limits).await,
            ContentType::Missing => Self::read_untyped(request, fields, limits).await,
            ContentType::Image | ContentType::Bytes | ContentType::Zip | ContentType::Other => {
                Err(ApiError::unsupported_media_type(fields.accepted))
            }
        }
    }

    /// Reads a multipart form.
    pub(crate) async fn read(
        request: Request,
        fields: FormFields,
        limits: &FormLimits,
    ) -> Result<Self, ApiError> {
        // The body is buffered first, because the parser keeps incomplete parts in memory that is
        // not counted, and scans them again with every chunk.
        let (head, body) = request.into_parts();
        let limit = BodyLimit::Form(limits.body_bytes);
        let body = body::read(body, &limits.memory, limit).await?;
        // Parts are slices of these bytes and need no memory of their own.
        let (bytes, memory) = body.into_parts();
        let request = Request::from_parts(head, bytes.into());
        let mut parts = Multipart::from_request(request, &())
            .await
            .map_err(|error| without_boundary(&error))?;
        Self::read_parts(&mut parts, fields, limits, &memory).await
    }

    async fn read_parts(
        parts: &mut Multipart,
        fields: FormFields,
        limits: &FormLimits,
        memory: &Reservation,
    ) -> Result<Self, ApiError> {
        let mut form = Self::default();
        while let Some(part) = parts
            .next_field()
            .await
            .map_err(|error| malformed(&error, limits))?
        {
            let Disposition { name, file_name } =
                Disposition::of(part.headers().get(header::CONTENT_DISPOSITION));
            let kind = if file_name.is_some() {
                FieldKind::File
            } else {
                FieldKind::Text
            };
            fields.check(&name, kind)?;
            form.received.add(&name, kind);
            match file_name {
                None if fields.texts.contains(&name.as_str()) => {
                    let text = read_part(part, MAX_TEXT_BYTES, limits)
                        .await?
                        .ok_or_else(|| {
                            ApiError::bad_request(
                                "field_too_long",
                                format!("Field '{name}' is longer than {MAX_TEXT_BYTES} bytes."),
                            )
                        })?;
                    form.add_text(name, String::from_utf8_lossy(&text).into_owned());
                }
                Some(file_name) => match fields.files.iter().find(|field| **field == name) {
                    Some(field) => {
                        form.add_file(field, file_name, part, limits, memory)
                            .await?
                    }
                    None => skip(part, limits).await?,
                },
                None => skip(part, limits).await?,
            }
        }
        Ok(form)
    }

    /// Reads a URL-encoded form, which holds only text.
    pub(crate) async fn read_url_encoded(
        request: Request,
        fields: FormFields,
        limits: &FormLimits,
    ) -> Result<Self, ApiError> {
        // The limit is that of other forms, because a client may send an image under this type,
        // and then the error says so.
        let max_bytes = limits.body_bytes.max(MAX_URL_ENCODED_BYTES);
        let limit = BodyLimit::Form(max_bytes);
        let body = body::read(request.into_body(), &limits.memory, limit).await?;
        match &*body.bytes {
            bytes if is_binary(bytes) => Ok(Self::without_fields(BINARY_BODY, fields)),
            bytes if bytes.len() > MAX_URL_ENCODED_BYTES => {
                Err(body_too_large(MAX_URL_ENCODED_BYTES))
            }
            bytes => Self::of_url_encoded(bytes, fields),
        }
    }

    /// Reads a body without a content type. It is no form, and later errors say what it is.
    async fn read_untyped(
        request: Request,
        fields: FormFields,
        limits: &FormLimits,
    ) -> Result<Self, ApiError> {
        let limit = BodyLimit::Form(limits.body_bytes);
        let body = body::read(request.into_body(), &limits.memory, limit).await?;
        let finding = match &*body.bytes {
            [] => "there is no body",
            bytes if is_binary(bytes) => BINARY_BODY,
            _ => "the body has no content type, so that it is no form",
        };
        Ok(Self::without_fields(finding, fields))
    }

    /// Returns an empty form for a body that is no form. `finding` says what the body is.
    fn without_fields(finding: &'static str, fields: FormFields) -> Self {
        Self {
            received: FieldNames::of_other_body(finding, fields.example),
            ..Self::default()
        }
    }

    /// Reads the bytes of a URL-encoded form.
    pub(crate) fn of_url_encoded(bytes: &[u8], fields: FormFields) -> Result<Self, ApiError> {
        let mut form = Self::default();
        for (name, text) in form_urlencoded::parse(bytes) {
            fields.check(&name, FieldKind::Text)?;
            form.received.add(&name, FieldKind::Text);
            if fields.texts.contains(&name.as_ref()) {
                form.add_text(name.into_owned(), text.into_owned());
            }
        }
        Ok(form)
    }

    /// Keeps a text. The first field of a name counts, as in the replaced service.
    fn add_text(&mut self, name: String, text: String) {
        match self.texts.get(&name) {
            None => drop(self.texts.insert(name, text)),
            Some(first) if *first != text || !self.repeated.contains_key(&name) => {
                drop(self.repeated.insert(name, text))
            }
            Some(_) => {}
        }
    }

    async fn add_file(
        &mut self,
        field: &'static str,
        file_name: String,
        part: Field<'_>,
        limits: &FormLimits,
        memory: &Reservation,
    ) -> Result<(), ApiError> {
        if self.files.len() == MAX_FILES {
            return Err(ApiError::too_large(
                "too_many_images",
                format!("At most {MAX_FILES} images are taken in one request."),
            ));
        }
        let bytes = read_part(part, limits.file_bytes, limits)
            .await?
            .ok_or_else(|| image_too_large(&file_name, limits.file_bytes))?;
        self.files.push(Photo {
            field,
            file_name,
            content: memory.part(bytes),
        });
        Ok(())
    }

    /// Returns the first value of a text field, and another one if the field is repeated.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.texts
            .get(name)
            .into_iter()
            .chain(self.repeated.get(name))
            .map(String::as_str)
    }

    /// Adds the expected field and the received ones to the error for a missing file field.
    pub(crate) fn without_file(&self, error: ApiError, name: &str) -> ApiError {
        self.received.explain(error, name, FieldKind::File)
    }

    /// Adds the expected field and the received ones to the error for a text field that is missing
    /// or empty under all of its names.
    pub(crate) fn without_text(&self, error: ApiError, name: &str, names: &[&str]) -> ApiError {
        let error = self.received.explain(error, name, FieldKind::Text);
        match names.iter().find(|name| self.texts.contains_key(**name)) {
            Some(empty) => error.with("cause", format!("the text field '{empty}' is empty")),
            None => error,
        }
    }

    /// Returns the value of the first of these text fields that is present and not empty.
    pub(crate) fn text(&self, names: &[&str]) -> Option<&str> {
        names
            .iter()
            .filter_map(|name| self.texts.get(*name))
            .map(String::as_str)
            .find(|text| !text.is_empty())
    }
}

/// Returns true if bytes are no text. Every image has such bytes, and no URL-encoded form has any.
pub(crate) fn is_binary(bytes: &[u8]) -> bool {
    bytes.contains(&0) || std::str::from_utf8(bytes).is_err()
}

/// Reads the content of a part. Returns `None` if it is longer than `max_bytes`.
async fn read_part(
    mut part: Field<'_>,
    max_bytes: usize,
    limits: &FormLimits,
) -> Result<Option<Bytes>, ApiError> {
    let mut content = Bytes::new();
    while let Some(chunk) = part
        .chunk()
        .await
        .map_err(|error| malformed(&error, limits))?
    {
        if content.len() + chunk.len() > max_bytes {
            return Ok(None);
        }
        // A part of a buffered body arrives as one chunk.
        content = if content.is_empty() {
            chunk
        } else {
            [content, chunk].concat().into()
        };
    }
    Ok(Some(content))
}

async fn skip(mut part: Field<'_>, limits: &FormLimits) -> Result<(), ApiError> {
    while part
        .chunk()
        .await
        .map_err(|error| malformed(&error, limits))?
        .is_some()
    {}
    Ok(())
}

fn malformed(error: &MultipartError, limits: &FormLimits) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return body_too_large(limits.body_bytes);
    }
    ApiError::bad_request(
        "malformed_multipart",
        "The multipart body is malformed or cut off.",
    )
    .with("cause", error.body_text())
}

fn without_boundary(error: &MultipartRejection) -> ApiError {
    ApiError::bad_request(
        "malformed_multipart",
        "The content type multipart/form-data lacks a usable boundary.",
    )
    .with("cause", error.body_text())
}

#[cfg(any(test, fuzzing))]
pub mod property;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::property::{LARGE, SMALL, check_multipart, read};
    use super::{MAX_FILES, MAX_TEXT_BYTES};

    const TYPE: &[u8] = b"multipart/form-data; boundary=b";

    fn form(parts: &[(&str, &str)]) -> Vec<u8> {
        let part = |(head, body): &(&str, &str)| {
            format!("--b\r\ncontent-disposition: form-data; {head}\r\n\r\n{body}\r\n")
        };
        (parts.iter().map(part).collect::<String>() + "--b--\r\n").into_bytes()
    }

    const GOOD: [(&str, &str); 3] = [
        ("name=\"id\"", "alice"),
        ("name=\"images\"; filename=\"a.jpg\"", "photo"),
        ("name=\"images\"; filename*=UTF-8''b", "second"),
    ];

    #[test]
    fn expected_parts_are_read() {
        let read = read(TYPE, form(&GOOD), SMALL).unwrap();
        let files: Vec<&str> = read
            .files
            .iter()
            .map(|photo| photo.file_name.as_str())
            .collect();
        assert_eq!(
            (read.text(&["id"]), files),
            (Some("alice"), vec!["a.jpg", "b"])
        );
    }

    #[test]
    fn oversized_parts_are_refused() {
        let files = |count| form(&vec![("name=\"images\"; filename=\"a\"", "x"); count]);
        let text = |length| form(&[("name=\"id\"", &*"a".repeat(length))]);
        for (largest, too_large, code) in [
            (files(MAX_FILES), files(MAX_FILES + 1), "too_many_images"),
            (
                text(MAX_TEXT_BYTES),
                text(MAX_TEXT_BYTES + 1),
                "field_too_long",
            ),
        ] {
            assert!(read(TYPE, largest.clone(), LARGE).is_ok());
            assert_eq!(read(TYPE, too_large.clone(), LARGE).unwrap_err().code, code);
            check_multipart(TYPE, &largest);
            check_multipart(TYPE, &too_large);
        }
    }

    proptest! {
        /// Reading an arbitrary body does not panic, and a refusal is a client error.
        #[test]
        fn arbitrary_body_is_read_or_refused(
            noise in prop::collection::vec(any::<u8>(), 0..300),
            changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6),
            cut in any::<Index>(),
            kind in 0..3,
        ) {
            let mut body = form(&GOOD);
            for (place, byte) in changes {
                let place = place.index(body.len());
                body[place] = byte;
            }
            match kind {
                0 => body = noise,
                1 => body.truncate(cut.index(body.len())),
                _ => {}
            }
            check_multipart(TYPE, &body);
        }
    }
}
