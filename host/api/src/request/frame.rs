//! Reading one image: from the file field `image` of a form, or as the body itself.

use axum::extract::Request;
use bytes::Bytes;

use crate::error::ApiError;
use crate::request::body::{self, BodyLimit};
use crate::request::form::{Form, FormFields, FormLimits, is_binary};
use crate::request::headers::ContentType;

/// Content types that routes with one image accept, for the error about others.
pub(crate) const ACCEPTED: &str = "multipart/form-data with the file field 'image', or the image \
                                   itself as image/jpeg, image/png or image/webp";

/// Cause of a missing image: curl's default type, and a body that is no image.
const FORM_WITHOUT_FILES: &str = "the body is a form without files \
     (application/x-www-form-urlencoded); send the image with its content type, as \
     `curl -H 'Content-Type: image/jpeg' --data-binary @photo.jpg` does, or a form with the file \
     field 'image', as `curl -F image=@photo.jpg` does";

/// Cause of a missing image: neither a type nor bytes of an image.
const UNTYPED_TEXT: &str =
    "the body has no content type and is no image; send a form with the file field 'image'";

/// An encoded image and the form in which it came.
#[derive(Debug)]
pub(crate) struct FrameRequest {
    /// The encoded image.
    pub(crate) image: Bytes,
    /// Other fields of the form. Empty if the body was the image.
    pub(crate) form: Form,
}

/// Reads an encoded image.
pub(crate) async fn read(
    request: Request,
    fields: FormFields,
    limits: &FormLimits,
) -> Result<FrameRequest, ApiError> {
    match ContentType::of(request.headers()) {
        ContentType::Multipart => {
            let mut form = Form::read(request, fields, limits).await?;
            let photo = std::mem::take(&mut form.files).into_iter().next();
            let image = photo.ok_or_else(|| missing(&form))?.content;
            Ok(FrameRequest { image, form })
        }
        kind @ (ContentType::Image
        | ContentType::Bytes
        | ContentType::UrlEncoded
        | ContentType::Missing) => {
            let limit = BodyLimit::Image(limits.file_bytes);
            let body = body::read(request.into_body(), &limits.memory, limit).await?;
            let image = body.into_bytes();
            check_image(kind, &image, fields)?;
            Ok(FrameRequest {
                image,
                form: Form::default(),
            })
        }
        ContentType::Zip | ContentType::Other => Err(ApiError::unsupported_media_type(ACCEPTED)),
    }
}

/// Checks that a body of this kind may be an image. Decoding finds out whether it is one.
fn check_image(kind: ContentType, body: &Bytes, fields: FormFields) -> Result<(), ApiError> {
    match kind {
        ContentType::Image => Ok(()),
        // A client that sets no type for the bytes of an image sends its default type: curl's is
        // that of a form.
        _ if is_binary(body) => Ok(()),
        ContentType::Bytes if !body.is_empty() => Ok(()),
        ContentType::UrlEncoded => {
            let form = Form::of_url_encoded(body, fields)?;
            Err(missing(&form).with("cause", FORM_WITHOUT_FILES))
        }
        _ if body.is_empty() => Err(missing(&Form::default()).with("cause", "there is no body")),
        _ => Err(missing(&Form::default()).with("cause", UNTYPED_TEXT)),
    }
}

fn missing(form: &Form) -> ApiError {
    let error = ApiError::bad_request("image_missing", "Image file not found in the request.");
    form.without_file(error, "image")
}
