//! Multipart forms, read with bounds.
//!
//! As the replaced service did, a part with a file name is a file and one without is text, whatever their content types.

use std::collections::HashMap;

use axum::extract::multipart::{Field, Multipart, MultipartError, MultipartRejection};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};

use super::error::ApiError;
use crate::service::Photo;

/// The longest text field that is taken, in bytes; the longest that means anything is an id of 128.
const LONGEST_TEXT: usize = 8 << 10;

/// The most files in one form.
const MOST_FILES: usize = 100;

/// What a form may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct FormLimits {
    /// Bytes of one file.
    pub(super) file_bytes: usize,
    /// Bytes of the whole body.
    pub(super) body_bytes: usize,
}

/// The parts of a form that are of use.
#[derive(Debug, Default)]
pub(super) struct Form {
    texts: HashMap<String, String>,
    /// The files of the wanted field, in their order.
    pub(super) files: Vec<Photo>,
}

impl Form {
    /// Reads a form, of whose files only those of the field `wanted` are kept.
    pub(super) async fn read(request: Request, wanted: &str, limits: FormLimits) -> Result<Self, ApiError> {
        let mut parts = Multipart::from_request(request, &()).await.map_err(|error| rejected(&error))?;
        let mut form = Self::default();
        while let Some(part) = parts.next_field().await.map_err(|error| broken(&error, limits))? {
            let name = part.name().unwrap_or_default().to_owned();
            match part.file_name().map(str::to_owned) {
                None => {
                    let text = bounded(part, LONGEST_TEXT, limits).await?.ok_or_else(|| {
                        ApiError::bad_request("field_too_long", format!("Field '{name}' is longer than {LONGEST_TEXT} bytes."))
                    })?;
                    // The first of several fields of one name counts, as it did.
                    form.texts.entry(name).or_insert_with(|| String::from_utf8_lossy(&text).into_owned());
                }
                Some(file_name) if name == wanted => form.add(file_name, part, limits).await?,
                Some(_) => skip(part, limits).await?,
            }
        }
        Ok(form)
    }

    /// Reads a form that holds only text.
    pub(super) async fn read_url_encoded(request: Request, limits: FormLimits) -> Result<Self, ApiError> {
        let body = whole_body(request, limits).await?;
        let mut form = Self::default();
        for (name, text) in form_urlencoded::parse(&body) {
            form.texts.entry(name.into_owned()).or_insert_with(|| text.into_owned());
        }
        Ok(form)
    }

    async fn add(&mut self, file_name: String, part: Field<'_>, limits: FormLimits) -> Result<(), ApiError> {
        if self.files.len() == MOST_FILES {
            return Err(ApiError::too_large("too_many_images", format!("At most {MOST_FILES} images are taken in one request.")));
        }
        let bytes = bounded(part, limits.file_bytes, limits).await?.ok_or_else(|| file_too_large(&file_name, limits))?;
        self.files.push(Photo { file_name, bytes });
        Ok(())
    }

    /// The value of the first of these text fields that is present and not empty.
    pub(super) fn text(&self, names: &[&str]) -> Option<&str> {
        names.iter().filter_map(|name| self.texts.get(*name)).map(String::as_str).find(|text| !text.is_empty())
    }
}

/// The body as it is.
pub(super) async fn whole_body(request: Request, limits: FormLimits) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, &()).await.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => body_too_large(limits.body_bytes),
        _ => ApiError::bad_request("incomplete_body", "The body ended before it was complete.").with("cause", error.body_text()),
    })
}

/// The error for a body over its limit.
pub(super) fn body_too_large(limit: usize) -> ApiError {
    ApiError::too_large("body_too_large", format!("The body is larger than {limit} bytes.")).with("max_bytes", limit)
}

/// The error for one image over its limit.
pub(super) fn file_too_large(file_name: &str, limits: FormLimits) -> ApiError {
    ApiError::too_large("image_too_large", format!("The image '{file_name}' is larger than {} bytes.", limits.file_bytes))
        .with("file_name", file_name)
        .with("max_bytes", limits.file_bytes)
}

/// The content of a part, or nothing if it is longer than `most`.
async fn bounded(mut part: Field<'_>, most: usize, limits: FormLimits) -> Result<Option<Bytes>, ApiError> {
    let mut content = BytesMut::new();
    while let Some(chunk) = part.chunk().await.map_err(|error| broken(&error, limits))? {
        if content.len() + chunk.len() > most {
            return Ok(None);
        }
        content.extend_from_slice(&chunk);
    }
    Ok(Some(content.freeze()))
}

async fn skip(mut part: Field<'_>, limits: FormLimits) -> Result<(), ApiError> {
    while part.chunk().await.map_err(|error| broken(&error, limits))?.is_some() {}
    Ok(())
}

fn broken(error: &MultipartError, limits: FormLimits) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return body_too_large(limits.body_bytes);
    }
    ApiError::bad_request("malformed_multipart", "The multipart body is malformed or cut off.").with("cause", error.body_text())
}

fn rejected(error: &MultipartRejection) -> ApiError {
    ApiError::bad_request("malformed_multipart", "The content type multipart/form-data lacks a usable boundary.")
        .with("cause", error.body_text())
}
