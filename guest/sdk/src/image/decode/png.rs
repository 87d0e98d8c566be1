//! PNG, row by row into 8-bit RGB.
//!
//! Profiles, texts and animations are skipped without unpacking, because a small file can hold
//! hundreds of megabytes of them.

use std::io::{Cursor, ErrorKind};

use image::RgbImage;
use image::metadata::Orientation;
use png::{BitDepth, ColorType, Decoder, DecodingError, Limits, Transformations};

use super::{Budget, DecodeError, Rgb, orientation, refuse_memory, refuse_oversize, upright};

/// The signature of the format.
const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Bytes that the decoder may allocate for tables, and for the rows in addition to four.
const ROOM: u64 = 1 << 20;

/// Returns the EXIF data from any position of the file, because some writers append it to the
/// pixels.
fn find_exif(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.strip_prefix(SIGNATURE)?;
    loop {
        let (length, after) = rest.split_first_chunk()?;
        let (name, after) = after.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        if name == b"eXIf" {
            return after.get(..length);
        }
        // A checksum follows.
        rest = after.get(length.checked_add(4)?..)?;
    }
}

/// Decodes a PNG; of an animation, its default picture.
pub(super) fn decode(bytes: &[u8], budget: Budget) -> Result<Rgb, DecodeError> {
    let undecodable = |cause: DecodingError| match cause {
        DecodingError::LimitsExceeded => DecodeError::Undecodable(
            "the PNG has a palette or another part that is too large".to_owned(),
        ),
        DecodingError::IoError(cause) if cause.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Undecodable("the PNG is cut off before its end".to_owned())
        }
        cause => DecodeError::Undecodable(format!("the PNG cannot be decoded: {cause}")),
    };
    // Checks the size first, so that it is also reported for files that are cut off after it.
    let size = |at: usize| {
        bytes
            .get(at..at + 4)
            .and_then(<[u8]>::first_chunk)
            .map_or(0, |side| u64::from(u32::from_be_bytes(*side)))
    };
    if bytes.get(12..16) == Some(b"IHDR".as_slice()) && bytes.len() >= 24 {
        refuse_oversize(size(16), size(20), budget.max_pixels)?;
    }
    let orientation = find_exif(bytes)
        .and_then(orientation::of_exif)
        .unwrap_or(Orientation::NoTransforms);
    // EXIF data is copied, as far as the file has it.
    let limits = Limits {
        bytes: bytes.len().saturating_add(ROOM as usize),
    };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::EXPAND);
    let info = decoder.read_header_info().map_err(undecodable)?;
    let (width, height, is_interlaced) = (
        u64::from(info.width),
        u64::from(info.height),
        info.interlaced,
    );
    refuse_oversize(width, height, budget.max_pixels)?;
    // Four rows of at most four samples of 16 bits, and of an interlaced picture all of them.
    let unpacked = 8 * width * if is_interlaced { height + 4 } else { 4 };
    let most = 3 * width * height + unpacked + bytes.len() as u64 + ROOM;
    refuse_memory("PNG", (width, height), bytes, most, orientation, budget)?;
    let mut reader = decoder.read_info().map_err(undecodable)?;
    let (colour, depth) = reader.output_color_type();
    let layout = Layout {
        samples: colour.samples(),
        is_grey: matches!(colour, ColorType::Grayscale | ColorType::GrayscaleAlpha),
        is_deep: depth == BitDepth::Sixteen,
    };
    let mut pixels = Vec::with_capacity(usize::try_from(3 * width * height).unwrap_or_default());
    if is_interlaced {
        let mut whole = vec![0; reader.output_buffer_size().unwrap_or_default()];
        reader.next_frame(&mut whole).map_err(undecodable)?;
        layout.append_rgb(&whole, &mut pixels);
    } else {
        while let Some(row) = reader.next_row().map_err(undecodable)? {
            layout.append_rgb(row.data(), &mut pixels);
        }
    }
    let mismatch = || DecodeError::Undecodable("the PNG's pixels are not of its size".to_owned());
    let picture = RgbImage::from_raw(width as u32, height as u32, pixels).ok_or_else(mismatch)?;
    Ok(upright(picture, orientation))
}

/// Layout of the decoder's pixels. It expands palettes to colours, and samples of less than 8 bits
/// to 8.
#[derive(Clone, Copy, Debug)]
struct Layout {
    samples: usize,
    is_grey: bool,
    is_deep: bool,
}

impl Layout {
    /// Appends pixels as RGB, without their alpha.
    fn append_rgb(self, row: &[u8], pixels: &mut Vec<u8>) {
        match (self.is_deep, self.is_grey, self.samples) {
            (false, false, 3) => pixels.extend_from_slice(row),
            (false, false, _) => row
                .as_chunks()
                .0
                .iter()
                .for_each(|[red, green, blue, _]| pixels.extend([red, green, blue])),
            (false, true, 1) => row.iter().for_each(|value| pixels.extend([value; 3])),
            (false, true, _) => row
                .as_chunks()
                .0
                .iter()
                .for_each(|[value, _]| pixels.extend([value; 3])),
            (true, is_grey, samples) => {
                let to_8_bits = |[high, low]: &[u8; 2]| {
                    ((u32::from(u16::from_be_bytes([*high, *low])) + 128) / 257) as u8
                };
                for pixel in row.as_chunks().0.chunks_exact(samples) {
                    match pixel {
                        [red, green, blue, ..] if !is_grey => {
                            pixels.extend([red, green, blue].map(to_8_bits))
                        }
                        [value, ..] => pixels.extend([to_8_bits(value); 3]),
                        [] => {}
                    }
                }
            }
        }
    }
}
