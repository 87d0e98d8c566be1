//! Multipart forms, read with bounds.
//!
//! As the replaced service did, a part with a file name is a file and one without is text, whatever
//! their content types. Parts that nobody asked for are skipped.

mod disposition;
mod received;

use std::collections::HashMap;

use axum::extract::multipart::{Field, Multipart, MultipartError, MultipartRejection};
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use bytes::Bytes;

use rostro_service::Photo;
use rostro_service::executor::Client;

use self::disposition::Disposition;
use self::received::{FieldKind, FieldNames};
use super::body::{self, BodyMemory, Reservation};
use super::query::{RESTRICTING, meant, misspelt_field};
use crate::error::ApiError;

/// The longest text field that is taken, in bytes; the longest that means anything is an id of 128.
const LONGEST_TEXT: usize = 8 << 10;

/// The longest form that holds only text, in bytes.
const LONGEST_TEXTS: usize = 64 << 10;

/// The most files in one form.
const MOST_FILES: usize = 100;

/// What a request may hold.
#[derive(Clone, Debug)]
pub(crate) struct FormLimits {
    /// Bytes of one file.
    pub(crate) file_bytes: usize,
    /// Bytes of the whole body.
    pub(crate) body_bytes: usize,
    /// What all requests together may hold.
    pub(crate) memory: BodyMemory,
}

impl FormLimits {
    /// The same for what this client sends.
    pub(crate) fn of(&self, client: &Client) -> Self {
        Self {
            memory: self.memory.of(client),
            ..self.clone()
        }
    }
}

/// The fields of a form that are of use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FormFields {
    /// Names of text fields.
    pub(crate) texts: &'static [&'static str],
    /// Names of the file fields.
    pub(crate) files: &'static [&'static str],
    /// Whether a misspelt field of those that restrict a search is refused.
    pub(crate) refuses_misspelt: bool,
    /// How a form with them is sent, for who sends none.
    pub(crate) example: &'static str,
}

impl FormFields {
    /// Refuses a field that would be skipped although it was meant.
    fn check(&self, name: &str, kind: FieldKind) -> Result<(), ApiError> {
        if !self.refuses_misspelt {
            return Ok(());
        }
        if let Some(meant) = meant(name) {
            return Err(misspelt_field(name, meant));
        }
        // Skipped as a file nobody asked for, it would have everybody searched.
        if kind == FieldKind::File && RESTRICTING.contains(&name) && self.texts.contains(&name) {
            let message =
                format!("The field '{name}' came as a file: send it as text, without a file name.");
            return Err(ApiError::bad_request("invalid_group", message));
        }
        Ok(())
    }
}

/// The parts of a form that are of use.
#[derive(Debug, Default)]
pub(crate) struct Form {
    texts: HashMap<String, String>,
    /// A second value of a text field: the last that differs from the first, else one that is equal
    /// to it.
    repeated: HashMap<String, String>,
    /// The files of the wanted fields, in their order.
    pub(crate) files: Vec<Photo>,
    /// Every field that came.
    received: FieldNames,
}

impl Form {
    /// Reads a form.
    pub(crate) async fn read(
        request: Request,
        fields: FormFields,
        limits: &FormLimits,
    ) -> Result<Self, ApiError> {
        // Whole first: the parser keeps what it does not understand yet, uncounted, and looks
        // through it again with every byte that comes.
        let (head, body) = request.into_parts();
        let content = body::read(body, limits.memory.collect(limits.body_bytes)).await?;
        let content = content.ok_or_else(|| body_too_large(limits.body_bytes))?;
        // Parts are pieces of these bytes and need no memory of their own.
        let (bytes, memory) = content.into_parts();
        let request = Request::from_parts(head, bytes.into());
        let mut parts = Multipart::from_request(request, &())
            .await
            .map_err(|error| rejected(&error))?;
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
            .map_err(|error| broken(&error, limits))?
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
                    let text = bounded(part, LONGEST_TEXT, limits).await?.ok_or_else(|| {
                        ApiError::bad_request(
                            "field_too_long",
                            format!("Field '{name}' is longer than {LONGEST_TEXT} bytes."),
                        )
                    })?;
                    form.add_text(name, String::from_utf8_lossy(&text).into_owned());
                }
                Some(file_name) => match fields.files.iter().find(|field| **field == name) {
                    Some(field) => form.add(field, file_name, part, limits, memory).await?,
                    None => skip(part, limits).await?,
                },
                None => skip(part, limits).await?,
            }
        }
        Ok(form)
    }

    /// Reads a form that holds only text.
    pub(crate) async fn read_url_encoded(
        request: Request,
        fields: FormFields,
        limits: &FormLimits,
    ) -> Result<Self, ApiError> {
        // As much as of other forms, because it may be an image that a client sends under its
        // default type.
        let most = limits.body_bytes.max(LONGEST_TEXTS);
        let content = body::read(request.into_body(), limits.memory.collect(most)).await?;
        let content = content.ok_or_else(|| body_too_large(most))?;
        match &*content.bytes {
            bytes if is_binary(bytes) => Ok(Self::instead_of(
                "the body is an image, or other binary data, and no form",
                fields,
            )),
            bytes if bytes.len() > LONGEST_TEXTS => Err(body_too_large(LONGEST_TEXTS)),
            bytes => Self::of_url_encoded(bytes, fields),
        }
    }

    /// Reads the body of a request that has no content type: it is no form, and the error says what
    /// it is.
    pub(crate) async fn read_untyped(
        request: Request,
        fields: FormFields,
        limits: &FormLimits,
    ) -> Result<Self, ApiError> {
        let content = body::read(
            request.into_body(),
            limits.memory.collect(limits.body_bytes),
        )
        .await?;
        let content = content.ok_or_else(|| body_too_large(limits.body_bytes))?;
        let is = match &*content.bytes {
            [] => "there is no body",
            bytes if is_binary(bytes) => "the body is an image, or other binary data, and no form",
            _ => "the body has no content type, so that it is no form",
        };
        Ok(Self::instead_of(is, fields))
    }

    /// A form without fields, in whose place came this.
    fn instead_of(is: &'static str, fields: FormFields) -> Self {
        Self {
            received: FieldNames::instead_of(is, fields.example),
            ..Self::default()
        }
    }

    /// Reads the bytes of a form that holds only text.
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

    /// Keeps a text. The first of several fields of one name counts, as it did.
    fn add_text(&mut self, name: String, text: String) {
        match self.texts.get(&name) {
            None => drop(self.texts.insert(name, text)),
            Some(first) if *first != text || !self.repeated.contains_key(&name) => {
                drop(self.repeated.insert(name, text))
            }
            Some(_) => {}
        }
    }

    async fn add(
        &mut self,
        field: &'static str,
        file_name: String,
        part: Field<'_>,
        limits: &FormLimits,
        memory: &Reservation,
    ) -> Result<(), ApiError> {
        if self.files.len() == MOST_FILES {
            return Err(ApiError::too_large(
                "too_many_images",
                format!("At most {MOST_FILES} images are taken in one request."),
            ));
        }
        let bytes = bounded(part, limits.file_bytes, limits)
            .await?
            .ok_or_else(|| file_too_large(&file_name, limits))?;
        self.files.push(Photo {
            field,
            file_name,
            content: memory.part(bytes),
        });
        Ok(())
    }

    /// The values of a text field: the first, and another if it came again.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.texts
            .get(name)
            .into_iter()
            .chain(self.repeated.get(name))
            .map(String::as_str)
    }

    /// Adds to the error for a missing file field which one is wanted, and which came.
    pub(crate) fn without_file(&self, error: ApiError, name: &str) -> ApiError {
        self.received.explain(error, name, FieldKind::File)
    }

    /// Adds to the error for a text field that is missing or empty under all of its names which one
    /// is wanted, and which came.
    pub(crate) fn without_text(&self, error: ApiError, name: &str, names: &[&str]) -> ApiError {
        let error = self.received.explain(error, name, FieldKind::Text);
        match names.iter().find(|name| self.texts.contains_key(**name)) {
            Some(empty) => error.with("cause", format!("the text field '{empty}' is empty")),
            None => error,
        }
    }

    /// The value of the first of these text fields that is present and not empty.
    pub(crate) fn text(&self, names: &[&str]) -> Option<&str> {
        names
            .iter()
            .filter_map(|name| self.texts.get(*name))
            .map(String::as_str)
            .find(|text| !text.is_empty())
    }
}

/// Returns true if bytes are no text: every file of an image has such, and no form that is encoded
/// as a URL has any.
pub(crate) fn is_binary(bytes: &[u8]) -> bool {
    bytes.contains(&0) || std::str::from_utf8(bytes).is_err()
}

/// The error for a body over its limit.
pub(crate) fn body_too_large(limit: usize) -> ApiError {
    ApiError::too_large(
        "body_too_large",
        format!("The body is larger than {limit} bytes."),
    )
    .with("max_bytes", limit)
}

/// The error for one image over its limit.
pub(crate) fn file_too_large(file_name: &str, limits: &FormLimits) -> ApiError {
    ApiError::too_large(
        "image_too_large",
        format!(
            "The image '{file_name}' is larger than {} bytes.",
            limits.file_bytes
        ),
    )
    .with("file_name", file_name)
    .with("max_bytes", limits.file_bytes)
}

/// The content of a part, or nothing if it is longer than `most`.
async fn bounded(
    mut part: Field<'_>,
    most: usize,
    limits: &FormLimits,
) -> Result<Option<Bytes>, ApiError> {
    let mut content = Bytes::new();
    while let Some(chunk) = part.chunk().await.map_err(|error| broken(&error, limits))? {
        if content.len() + chunk.len() > most {
            return Ok(None);
        }
        // Of a body that is whole a part comes as one piece.
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
        .map_err(|error| broken(&error, limits))?
        .is_some()
    {}
    Ok(())
}

fn broken(error: &MultipartError, limits: &FormLimits) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return body_too_large(limits.body_bytes);
    }
    ApiError::bad_request(
        "malformed_multipart",
        "The multipart body is malformed or cut off.",
    )
    .with("cause", error.body_text())
}

fn rejected(error: &MultipartRejection) -> ApiError {
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

    use super::property::{LITTLE, MUCH, holds, read};
    use super::{LONGEST_TEXT, MOST_FILES};

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
    fn the_wanted_parts_are_read() {
        let read = read(TYPE, form(&GOOD), LITTLE).unwrap();
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
    fn as_many_files_and_as_long_texts_are_read_as_are_taken_and_more_is_refused() {
        let files = |count| form(&vec![("name=\"images\"; filename=\"a\"", "x"); count]);
        let text = |length| form(&[("name=\"id\"", &*"a".repeat(length))]);
        for (most, more, refusal) in [
            (files(MOST_FILES), files(MOST_FILES + 1), "too_many_images"),
            (text(LONGEST_TEXT), text(LONGEST_TEXT + 1), "field_too_long"),
        ] {
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
