//! What the crate `image` decodes: PNG, WebP, BMP, GIF, TIFF, and JPEGs of other coding processes than cameras use.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::{DecodeError, MOST_ALLOCATED, Rgb, orientation, refuse_oversize, upright};

/// Decodes a picture whose first bytes are those of `format`.
pub(super) fn decode(bytes: &[u8], format: ImageFormat, max_pixels: u64) -> Result<Rgb, DecodeError> {
    let undecodable = |cause: image::ImageError| DecodeError::Undecodable(cause.to_string());
    // A header that this cannot read is left to the decoder, which says what is wrong with it.
    if let Ok(size) = imagesize::blob_size(bytes) {
        refuse_oversize(size.width as u64, size.height as u64, max_pixels)?;
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // The number of pixels is the limit here; what a decoder wants in addition, such as a colour profile that unpacks without end, has
    // one of its own below the sandbox's memory, so that it is the picture's fault and not a trap.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MOST_ALLOCATED);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(undecodable)?;
    let (width, height) = decoder.dimensions();
    refuse_oversize(width.into(), height.into(), max_pixels)?;
    let orientation = match format {
        // The file itself is what EXIF data is.
        ImageFormat::Tiff => orientation::of_exif(bytes),
        _ => decoder.exif_metadata().map_err(undecodable)?.as_deref().and_then(orientation::of_exif),
    };
    // To 8 bits before it is turned, which takes a second copy: a large picture of 16 bits would not fit twice.
    let picture = DynamicImage::from_decoder(decoder).map_err(undecodable)?.into_rgb8();
    Ok(upright(picture, orientation.unwrap_or(Orientation::NoTransforms)))
}
