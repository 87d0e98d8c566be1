//! Encoded pictures to pixels.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

/// The most that a decoder may allocate, in bytes: more than 40 megapixels with 16 bits and alpha take.
const MOST_ALLOCATED: u64 = 400 << 20;

/// The longest side of a picture in pixels: JPEG's. Formats that allow more cost much time for few pixels.
const LONGEST_SIDE: u64 = 65_535;

/// An upright picture of 8-bit RGB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Red, green and blue of each pixel, row by row from the upper left: 3 × width × height bytes.
    pub pixels: Vec<u8>,
}

/// Why a picture cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are in no format that is known, or damaged.
    #[error("{0}")]
    Undecodable(String),
    /// The header says that the picture has too many pixels; none was decoded.
    #[error("the image has {width}×{height} pixels; at most {max_pixels} are decoded")]
    TooLarge {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The most pixels that are decoded.
        max_pixels: u64,
    },
}

/// Decodes JPEG, PNG or WebP (of an animation the first frame), whatever its name says, and turns it upright by its EXIF
/// orientation.
///
/// Greyscale becomes equal channels, 16 bits become 8, CMYK becomes RGB, and alpha is dropped, as OpenCV's `imread` does by default.
///
/// # Errors
///
/// [`DecodeError`]. A JPEG that ends before its end marker is undecodable, although most of it may be there: half a picture
/// must not enrol anyone.
pub fn decode(bytes: &[u8], max_pixels: u64) -> Result<Rgb, DecodeError> {
    let undecodable = |cause: image::ImageError| DecodeError::Undecodable(cause.to_string());
    if bytes.is_empty() {
        return Err(DecodeError::Undecodable("the file is empty".to_owned()));
    }
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|cause| undecodable(cause.into()))?;
    // The number of pixels is the limit here; what a decoder wants beside them, such as a colour profile that unpacks without end, has
    // one of its own below the sandbox's memory, so that it is the picture's fault and not a trap.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MOST_ALLOCATED);
    reader.limits(limits);
    // A header that the next line cannot read is left to the decoder, which says what is wrong with it.
    if let Ok(size) = imagesize::blob_size(bytes) {
        refuse_oversize(size.width as u64, size.height as u64, max_pixels)?;
    }
    let format = reader.format().ok_or_else(|| DecodeError::Undecodable("this is not a JPEG, PNG or WebP image".to_owned()))?;
    let mut decoder = reader.into_decoder().map_err(undecodable)?;
    let (width, height) = decoder.dimensions();
    refuse_oversize(width.into(), height.into(), max_pixels)?;
    if format == ImageFormat::Jpeg && !is_complete_jpeg(bytes) {
        return Err(DecodeError::Undecodable("the JPEG is cut off before its end".to_owned()));
    }
    let orientation = decoder.orientation().map_err(undecodable)?;
    // To 8 bits before it is turned, which takes a second copy: a large picture of 16 bits would not fit twice.
    let picture = DynamicImage::from_decoder(decoder).map_err(undecodable)?.into_rgb8();
    let mut picture = DynamicImage::from(picture);
    picture.apply_orientation(orientation);
    let picture = picture.into_rgb8();
    Ok(Rgb { width: picture.width(), height: picture.height(), pixels: picture.into_raw() })
}

fn refuse_oversize(width: u64, height: u64, max_pixels: u64) -> Result<(), DecodeError> {
    if width.saturating_mul(height) <= max_pixels {
        return match width.max(height) {
            0..=LONGEST_SIDE => Ok(()),
            side => Err(DecodeError::Undecodable(format!("a side of {side} pixels; at most {LONGEST_SIDE} are decoded"))),
        };
    }
    let side = |length: u64| u32::try_from(length).unwrap_or(u32::MAX);
    Err(DecodeError::TooLarge { width: side(width), height: side(height), max_pixels })
}

/// Whether a JPEG has an end marker after its first scan began. Segments before that are skipped by their lengths, so that the end
/// of a thumbnail inside one does not count.
fn is_complete_jpeg(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    let mut rest = bytes.get(2..).unwrap_or_default();
    while let [0xff, marker, after @ ..] = rest {
        rest = match (*marker, after) {
            // Fill bytes before a marker.
            (0xff, _) => rest.get(1..).unwrap_or_default(),
            (START_OF_SCAN, coded) => return coded.windows(2).any(|pair| pair == [0xff, 0xd9]),
            (_, [high, low, ..]) => after.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default(),
            _ => return false,
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder, codecs::png::PngEncoder, codecs::webp::WebPEncoder};

    use super::*;

    const PIXELS: u64 = 1 << 20;

    fn png(width: u32, height: u32, colour: ExtendedColorType, samples: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes).write_image(samples, width, height, colour).unwrap();
        bytes
    }

    /// A JPEG, left half black and right half white.
    fn jpeg(width: u32, height: u32) -> Vec<u8> {
        let samples: Vec<u8> = (0..width * height).flat_map(|index| [if index % width < width / 2 { 0 } else { 255 }; 3]).collect();
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 95).write_image(&samples, width, height, ExtendedColorType::Rgb8).unwrap();
        bytes
    }

    /// The JPEG with an EXIF segment that holds an orientation.
    fn oriented(jpeg: &[u8], orientation: u8) -> Vec<u8> {
        let tiff = [b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(), &[orientation], b"\0\0\0\0\0\0"].concat();
        let length = u16::try_from(tiff.len() + 8).unwrap().to_be_bytes();
        [&jpeg[..2], &[0xff, 0xe1], &length, b"Exif\0\0", &tiff, &jpeg[2..]].concat()
    }

    #[test]
    fn every_colour_type_becomes_rgb() {
        for (colour, samples, wanted) in [
            (ExtendedColorType::L8, vec![7], [7, 7, 7]),
            (ExtendedColorType::La8, vec![7, 0], [7, 7, 7]),
            (ExtendedColorType::Rgb8, vec![1, 2, 3], [1, 2, 3]),
            (ExtendedColorType::Rgba8, vec![1, 2, 3, 0], [1, 2, 3]),
            (ExtendedColorType::L16, 0x0707_u16.to_ne_bytes().to_vec(), [7, 7, 7]),
            (ExtendedColorType::Rgb16, [0x0101_u16, 0x0202, 0x0303].iter().flat_map(|v| v.to_ne_bytes()).collect(), [1, 2, 3]),
        ] {
            let picture = decode(&png(1, 1, colour, &samples), PIXELS).unwrap();
            assert_eq!((picture.width, picture.height, picture.pixels.as_slice()), (1, 1, wanted.as_slice()), "{colour:?}");
        }
    }

    #[test]
    fn webp_is_decoded() {
        let mut bytes = Vec::new();
        WebPEncoder::new_lossless(&mut bytes).write_image(&[9, 8, 7], 1, 1, ExtendedColorType::Rgb8).unwrap();
        assert_eq!(decode(&bytes, PIXELS).unwrap().pixels, [9, 8, 7]);
    }

    #[test]
    fn pictures_are_turned_upright() {
        let brightness = |picture: &Rgb, x: u32, y: u32| picture.pixels[((y * picture.width + x) * 3) as usize];
        // Where the white half lies after each orientation of the EXIF standard: right, left, left, right, then lower or upper.
        for (orientation, size, white) in [
            (1, (32, 16), (28, 8)),
            (2, (32, 16), (4, 8)),
            (3, (32, 16), (4, 8)),
            (4, (32, 16), (28, 8)),
            (5, (16, 32), (8, 28)),
            (6, (16, 32), (8, 28)),
            (7, (16, 32), (8, 4)),
            (8, (16, 32), (8, 4)),
        ] {
            let picture = decode(&oriented(&jpeg(32, 16), orientation), PIXELS).unwrap();
            assert_eq!((picture.width, picture.height), size, "orientation {orientation}");
            assert!(brightness(&picture, white.0, white.1) > 200, "orientation {orientation}");
            let black = (size.0 - 1 - white.0, size.1 - 1 - white.1);
            assert!(brightness(&picture, black.0, black.1) < 50, "orientation {orientation}");
        }
    }

    #[test]
    fn a_jpeg_cut_off_anywhere_is_undecodable() {
        let whole = oriented(&jpeg(64, 64), 1);
        decode(&whole, PIXELS).unwrap();
        for end in (1..whole.len() - 1).step_by(7) {
            assert!(matches!(decode(&whole[..end], PIXELS), Err(DecodeError::Undecodable(_))), "cut at {end} of {}", whole.len());
        }
    }

    #[test]
    fn what_is_no_picture_is_undecodable() {
        for bytes in [b"".as_slice(), b"text", b"\x89PNG\r\n\x1a\n", b"GIF89a\x01\0\x01\0", b"RIFF\0\0\0\0WEBPVP8 "] {
            assert!(matches!(decode(bytes, PIXELS), Err(DecodeError::Undecodable(_))), "{bytes:?}");
        }
    }

    #[test]
    fn too_many_pixels_are_refused_from_the_header() {
        let bytes = png(64, 64, ExtendedColorType::L8, &[0; 4096]);
        assert!(decode(&bytes, 4096).is_ok());
        // Cut after the header: nothing more is needed to refuse it.
        let error = decode(&png(70_000, 1, ExtendedColorType::L8, &[0; 70_000]), PIXELS).unwrap_err();
        assert_eq!(error, DecodeError::Undecodable("a side of 70000 pixels; at most 65535 are decoded".to_owned()));
        let error = decode(&bytes[..60], 4095).unwrap_err();
        assert_eq!(error, DecodeError::TooLarge { width: 64, height: 64, max_pixels: 4095 });
    }
}
