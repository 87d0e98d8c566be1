//! Encoded pictures to pixels: upright 8-bit RGB, within the host's limit.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use self::jpeg::Header;

mod jpeg;

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
    /// The bytes are in no format that is known, or damaged, or a side is longer than 65,535 pixels; with the cause.
    #[error("{0}")]
    Undecodable(String),
    /// The header says that the picture has too many pixels; none was decoded.
    #[error("the image has {width}×{height} pixels; at most {max_pixels} are decoded")]
    TooLarge {
        /// Width in pixels, as the header says.
        width: u32,
        /// Height in pixels, as the header says.
        height: u32,
        /// The most pixels that are decoded.
        max_pixels: u64,
    },
}

/// A picture at its size or at a half, a quarter or an eighth of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduced {
    /// The upright picture. Its sides are those of [`Self::full`] divided by [`Self::divisor`] and rounded up.
    pub picture: Rgb,
    /// 1, 2, 4 or 8: pixels of the whole picture, along a side, for one of this. Places in [`Self::picture`] times this are places in the
    /// whole one ([`Detection::scaled`](crate::scrfd::Detection::scaled)).
    pub divisor: u32,
    /// Width and height of the upright picture in the file, in pixels.
    pub full: (u32, u32),
}

/// Decodes JPEG, PNG or WebP (of an animation the first frame), whatever its name says, and turns it upright by its EXIF
/// orientation.
///
/// `max_pixels`, width × height, is the host's ([`Host::max_pixels`](crate::host::Host::max_pixels)); it is checked before pixels are
/// decoded.
///
/// Greyscale becomes equal channels, 16 bits become 8, CMYK becomes RGB, and alpha is dropped, as OpenCV's `imread` does by default.
/// The pixels of a grey or coloured JPEG are those that libjpeg-turbo gives, and so OpenCV.
///
/// # Errors
///
/// [`DecodeError`]: it is no such image, damaged, or has too many pixels. A JPEG that ends before its end marker is undecodable, although
/// most of it may be there: half a picture must not enrol anyone.
pub fn decode(bytes: &[u8], max_pixels: u64) -> Result<Rgb, DecodeError> {
    decode_at_least(bytes, max_pixels, u32::MAX).map(|reduced| reduced.picture)
}

/// Decodes as [`decode`] does, but a JPEG only at the smallest of its sizes (whole, a half, a quarter or an eighth) whose longer side
/// has `min_longer_side` pixels or more; other formats, and JPEGs that are smaller, whole.
///
/// A JPEG is made smaller before its pixels exist, by leaving out the high frequencies of its blocks (libjpeg's scaled inverse DCT), which
/// is about the mean of the pixels. That costs less time and memory than decoding and shrinking a photo of many megapixels.
///
/// # Errors
///
/// As [`decode`]. `max_pixels` holds for the picture in the file, whatever becomes of it: all of it must be read.
pub fn decode_at_least(bytes: &[u8], max_pixels: u64, min_longer_side: u32) -> Result<Reduced, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Undecodable("the file is empty".to_owned()));
    }
    // A header that this cannot read is left to the decoder, which says what is wrong with it.
    if let Ok(size) = imagesize::blob_size(bytes) {
        refuse_oversize(size.width as u64, size.height as u64, max_pixels)?;
    }
    if image::guess_format(bytes).is_ok_and(|format| format == ImageFormat::Jpeg) {
        let header = Header::read(bytes).filter(|header| header.is_complete);
        let header = header.ok_or_else(|| DecodeError::Undecodable("the JPEG is cut off before its end".to_owned()))?;
        refuse_oversize(header.width.into(), header.height.into(), max_pixels)?;
        if header.is_common {
            let longer = header.width.max(header.height);
            let divisor = [8, 4, 2].into_iter().find(|divisor| longer.div_ceil(*divisor) >= min_longer_side).unwrap_or(1);
            let decoded = jpeg::decode(bytes, divisor, max_pixels)?;
            let mismatch = || DecodeError::Undecodable("the JPEG's pixels are not of its size".to_owned());
            // A file may hold several headers, of which the decoder took another.
            if (decoded.width, decoded.height) != (header.width.div_ceil(divisor), header.height.div_ceil(divisor)) {
                return Err(mismatch());
            }
            let picture = RgbImage::from_raw(decoded.width, decoded.height, decoded.pixels).ok_or_else(mismatch)?;
            let picture = upright(picture, decoded.orientation);
            let full = match decoded.orientation {
                Orientation::NoTransforms | Orientation::Rotate180 | Orientation::FlipHorizontal | Orientation::FlipVertical => {
                    (header.width, header.height)
                }
                _ => (header.height, header.width),
            };
            return Ok(Reduced { picture, divisor, full });
        }
    }
    let picture = decode_others(bytes, max_pixels)?;
    let full = (picture.width, picture.height);
    Ok(Reduced { picture, divisor: 1, full })
}

/// Decodes what the crate `image` does: PNG, WebP and JPEGs of printers.
fn decode_others(bytes: &[u8], max_pixels: u64) -> Result<Rgb, DecodeError> {
    let undecodable = |cause: image::ImageError| DecodeError::Undecodable(cause.to_string());
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|cause| undecodable(cause.into()))?;
    // The number of pixels is the limit here; what a decoder wants beside them, such as a colour profile that unpacks without end, has
    // one of its own below the sandbox's memory, so that it is the picture's fault and not a trap.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MOST_ALLOCATED);
    reader.limits(limits);
    if reader.format().is_none() {
        return Err(DecodeError::Undecodable("this is not a JPEG, PNG or WebP image".to_owned()));
    }
    let mut decoder = reader.into_decoder().map_err(undecodable)?;
    let (width, height) = decoder.dimensions();
    refuse_oversize(width.into(), height.into(), max_pixels)?;
    let orientation = decoder.orientation().map_err(undecodable)?;
    // To 8 bits before it is turned, which takes a second copy: a large picture of 16 bits would not fit twice.
    let picture = DynamicImage::from_decoder(decoder).map_err(undecodable)?.into_rgb8();
    Ok(upright(picture, orientation))
}

fn upright(picture: RgbImage, orientation: Orientation) -> Rgb {
    let mut picture = DynamicImage::from(picture);
    picture.apply_orientation(orientation);
    let picture = picture.into_rgb8();
    Rgb { width: picture.width(), height: picture.height(), pixels: picture.into_raw() }
}

fn refuse_oversize(width: u64, height: u64, max_pixels: u64) -> Result<(), DecodeError> {
    if width == 0 || height == 0 {
        return Err(DecodeError::Undecodable("the image has no pixels".to_owned()));
    }
    if width.saturating_mul(height) <= max_pixels {
        return match width.max(height) {
            0..=LONGEST_SIDE => Ok(()),
            side => Err(DecodeError::Undecodable(format!("a side of {side} pixels; at most {LONGEST_SIDE} are decoded"))),
        };
    }
    let side = |length: u64| u32::try_from(length).unwrap_or(u32::MAX);
    Err(DecodeError::TooLarge { width: side(width), height: side(height), max_pixels })
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
    fn a_jpeg_whose_header_says_that_it_has_no_pixels_is_undecodable() {
        let whole = jpeg(64, 32);
        let header = whole.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        // After the marker: the length, the bits of a sample, then the height and the width.
        for side in [header + 5, header + 7] {
            let mut empty = whole.clone();
            empty[side..side + 2].fill(0);
            assert!(matches!(decode(&empty, PIXELS), Err(DecodeError::Undecodable(_))));
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

    /// A coloured JPEG with colour of half the width and half the height.
    fn subsampled(width: usize, height: usize) -> Vec<u8> {
        use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress};
        let samples: Vec<u8> = (0..3 * width * height).map(|index| (index * index / 7 + index * 31) as u8).collect();
        compress(&samples, width, height, PixelFormat::Rgb, 90, Subsampling::S420).unwrap()
    }

    #[test]
    fn planes_become_the_pixels_that_the_decoder_itself_would_make_of_them() {
        for (width, height) in (1..40).flat_map(|width| [1, 2, 3, 16, 33].map(|height| (width, height))) {
            let bytes = subsampled(width, height);
            let wanted = libjpeg_turbo_rs::decompress_to(&bytes, libjpeg_turbo_rs::PixelFormat::Rgb).unwrap();
            assert_eq!(decode(&bytes, PIXELS).unwrap().pixels, wanted.data, "{width}×{height}");
        }
    }

    #[test]
    fn a_large_jpeg_is_decoded_at_the_smallest_size_that_suffices() {
        let bytes = subsampled(203, 101);
        for (least, divisor, size) in
            [(204, 1, (203, 101)), (203, 1, (203, 101)), (102, 2, (102, 51)), (51, 4, (51, 26)), (26, 8, (26, 13)), (0, 8, (26, 13))]
        {
            let reduced = decode_at_least(&bytes, PIXELS, least).unwrap();
            assert_eq!((reduced.divisor, (reduced.picture.width, reduced.picture.height)), (divisor, size), "at least {least}");
            assert_eq!((reduced.full, reduced.picture.pixels.len()), ((203, 101), (3 * size.0 * size.1) as usize));
        }
        let turned = decode_at_least(&oriented(&bytes, 6), PIXELS, 102).unwrap();
        assert_eq!((turned.full, turned.picture.width, turned.picture.height), ((101, 203), 51, 102));
        let error = decode_at_least(&bytes, 203 * 101 - 1, 10).unwrap_err();
        assert!(matches!(error, DecodeError::TooLarge { .. }), "the limit holds for the picture in the file: {error}");
        // Other formats have no smaller sizes.
        assert_eq!(decode_at_least(&png(64, 64, ExtendedColorType::L8, &[0; 4096]), PIXELS, 8).unwrap().divisor, 1);
    }

    #[test]
    fn a_damaged_jpeg_never_panics() {
        let whole = subsampled(50, 50);
        for seed in 0..4000_usize {
            let mut bytes = whole.clone();
            for change in 0..1 + seed % 4 {
                let place = 2 + (seed * 7919 + change * 104_729) % (bytes.len() - 2);
                bytes[place] = (seed * 31 + change * 17) as u8;
            }
            let _ = decode_at_least(&bytes, PIXELS, [u32::MAX, 10][seed % 2]);
        }
    }
}
