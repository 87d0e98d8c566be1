//! WebP, BMP and GIF, decoded by the crate `image`.
//!
//! Its decoders check no memory limit, so size and memory are read from the file first.

use std::io::{Cursor, ErrorKind};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::{Budget, DecodeError, Rgb, orientation, refuse_memory, refuse_oversize, upright};

/// Bytes that a decoder takes in addition to those of each pixel: rows, and tables of which a small
/// file can have many.
const ROOM: u64 = 8 << 20;

/// Bytes for each pixel of a BMP or GIF. Four are red, green, blue and alpha of the whole picture;
/// the rest is RGB, or a frame in the picture.
const OF_PIXEL: u64 = 8;

/// Decodes a BMP.
pub(super) fn decode_bmp(bytes: &[u8], budget: Budget) -> Result<Rgb, DecodeError> {
    let damaged = || DecodeError::Undecodable("the BMP is cut off in its header".to_owned());
    let number = |at: usize| {
        bytes
            .get(at..at + 4)
            .and_then(<[u8]>::first_chunk)
            .map(|number| i32::from_le_bytes(*number))
    };
    let short = |at: usize| {
        bytes
            .get(at..at + 2)
            .and_then(<[u8]>::first_chunk)
            .map(|number| u16::from_le_bytes(*number))
    };
    // OS/2's first header has short sides. In later ones a negative height puts the upper row
    // first.
    let (width, height) = match number(14).ok_or_else(damaged)? {
        12 => (short(18).map(u32::from), short(20).map(u32::from)),
        _ => (
            number(18).map(i32::unsigned_abs),
            number(22).map(i32::unsigned_abs),
        ),
    };
    let size = width.zip(height).ok_or_else(damaged)?;
    let converted = number(14).and_then(|length| convert_os2(bytes, length as usize));
    let bytes = converted.as_deref().unwrap_or(bytes);
    decode(
        "BMP",
        bytes,
        ImageFormat::Bmp,
        size,
        OF_PIXEL,
        Orientation::NoTransforms,
        budget,
    )
}

/// Returns the file with a Windows header in place of OS/2's second one, which is 16 or 64 bytes
/// long and begins alike. None for other headers, and if the file is cut off in it or has a
/// compression of OS/2 only.
fn convert_os2(bytes: &[u8], length: usize) -> Option<Vec<u8>> {
    const WINDOWS: usize = 40;
    let header = bytes
        .get(14..14 + length)
        .filter(|_| matches!(length, 16 | 64))?;
    let mut converted = header.to_vec();
    converted.resize(WINDOWS, 0);
    converted.splice(..4, (WINDOWS as u32).to_le_bytes());
    let is_plain = matches!(converted.get(16..20), Some([0..=2, 0, 0, 0]));
    let pixels = u32::from_le_bytes(*bytes.get(10..14)?.first_chunk()?) as usize + WINDOWS;
    let pixels = u32::try_from(pixels.checked_sub(length)?)
        .ok()?
        .to_le_bytes();
    is_plain.then(|| {
        [
            bytes.get(..10).unwrap_or_default(),
            &pixels,
            &converted,
            bytes.get(14 + length..).unwrap_or_default(),
        ]
        .concat()
    })
}

/// Decodes the first frame of a GIF.
pub(super) fn decode_gif(bytes: &[u8], budget: Budget) -> Result<Rgb, DecodeError> {
    let side = |at: usize| {
        bytes
            .get(at..at + 2)
            .and_then(<[u8]>::first_chunk)
            .map(|side| u32::from(u16::from_le_bytes(*side)))
    };
    let size = side(6)
        .zip(side(8))
        .ok_or_else(|| DecodeError::Undecodable("the GIF is cut off in its header".to_owned()))?;
    decode(
        "GIF",
        bytes,
        ImageFormat::Gif,
        size,
        OF_PIXEL,
        Orientation::NoTransforms,
        budget,
    )
}

/// A chunk of a RIFF file: its name and content.
type Chunk<'a> = (&'a [u8; 4], &'a [u8]);

/// Returns the chunks of a RIFF file, the last one as far as the file has it.
fn riff_chunks(mut bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    std::iter::from_fn(move || {
        let (name, rest) = bytes.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let body = rest.get(..length).unwrap_or(rest);
        bytes = rest
            .get(length.saturating_add(length % 2)..)
            .unwrap_or_default();
        Some((name, body))
    })
}

/// Returns the size in the header of a WebP bitstream.
fn size_of_bitstream((name, body): Chunk<'_>) -> Option<(u32, u32)> {
    let side = |at: usize| {
        body.get(at..at + 2)
            .and_then(<[u8]>::first_chunk)
            .map(|side| u32::from(u16::from_le_bytes(*side) & 0x3fff))
    };
    match name {
        b"VP8 " => side(6).zip(side(8)),
        b"VP8L" => {
            let bits = u32::from_le_bytes(*body.get(1..)?.first_chunk()?);
            Some(((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1))
        }
        _ => None,
    }
}

/// Decodes a WebP; of an animation, the first frame.
pub(super) fn decode_webp(bytes: &[u8], budget: Budget) -> Result<Rgb, DecodeError> {
    let damaged = || {
        DecodeError::Undecodable(
            "the WebP is damaged: a frame is missing or not of its size".to_owned(),
        )
    };
    let side = |body: &[u8], at: usize| {
        let [low, middle, high] = body.get(at..at + 3)?.first_chunk()?;
        Some(u32::from_le_bytes([*low, *middle, *high, 0]) + 1)
    };
    let chunks = || riff_chunks(bytes.get(12..).unwrap_or_default());
    let canvas = chunks()
        .next()
        .filter(|(name, _)| *name == b"VP8X")
        .map(|(_, body)| side(body, 4).zip(side(body, 7)));
    let size = match canvas {
        Some(canvas) => canvas,
        None => chunks().next().and_then(size_of_bitstream),
    };
    let size = size.ok_or_else(damaged)?;
    refuse_oversize(size.0.into(), size.1.into(), budget.max_pixels)?;
    // The decoder allocates memory for the bitstream's size before it compares it with the canvas
    // or the frame.
    let is_of_size = |chunk: Chunk<'_>, wanted: (u32, u32)| {
        !matches!(chunk.0, b"VP8 " | b"VP8L") || size_of_bitstream(chunk) == Some(wanted)
    };
    let frame = chunks()
        .find(|(name, _)| *name == b"ANMF")
        .map(|(_, body)| body);
    let of_frame = || {
        frame
            .and_then(|body| body.get(16..))
            .into_iter()
            .flat_map(riff_chunks)
    };
    let frame_size = frame.map(|body| side(body, 6).zip(side(body, 9)).unwrap_or_default());
    let is_sound = chunks().all(|chunk| is_of_size(chunk, size))
        && frame_size
            .is_none_or(|size| size != (0, 0) && of_frame().all(|chunk| is_of_size(chunk, size)));
    if !is_sound {
        return Err(damaged());
    }
    let has = |wanted: &[u8; 4]| chunks().chain(of_frame()).any(|(name, _)| name == wanted);
    // A lossy bitstream takes planes of brightness and half the colours, then RGB; a lossless one
    // RGBA, and so does alpha.
    let bitstream = if has(b"ALPH") {
        12
    } else if has(b"VP8L") {
        9
    } else {
        5
    };
    let animation = if frame.is_some() { 8 } else { 0 };
    let exif = chunks()
        .find(|(name, _)| *name == b"EXIF")
        .and_then(|(_, body)| orientation::of_exif(body));
    let orientation = exif.unwrap_or(Orientation::NoTransforms);
    decode(
        "WebP",
        bytes,
        ImageFormat::WebP,
        size,
        bitstream + animation,
        orientation,
        budget,
    )
}

/// Decodes a picture of this size. The decoder takes `each` bytes per pixel.
fn decode(
    kind: &str,
    bytes: &[u8],
    format: ImageFormat,
    (width, height): (u32, u32),
    each: u64,
    orientation: Orientation,
    budget: Budget,
) -> Result<Rgb, DecodeError> {
    let undecodable = |cause: image::ImageError| match cause {
        image::ImageError::IoError(cause) if cause.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Undecodable(format!("the {kind} is cut off before its end"))
        }
        cause => DecodeError::Undecodable(format!("the {kind} cannot be decoded: {cause}")),
    };
    let mismatch = || {
        DecodeError::Undecodable(format!(
            "the {kind} is damaged: its pixels are not of its size"
        ))
    };
    let size = (u64::from(width), u64::from(height));
    refuse_oversize(size.0, size.1, budget.max_pixels)?;
    // OS/2's header is converted in a copy.
    let needed = each * size.0 * size.1
        + ROOM
        + if format == ImageFormat::Bmp {
            bytes.len() as u64
        } else {
            0
        };
    // The decoder's own limit, for example for a frame beyond the picture, is the rest of the
    // memory.
    let file = bytes.len() as u64 + super::OVERHEAD;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(budget.memory.saturating_sub(file));
    refuse_memory(kind, size, bytes, needed, orientation, budget)?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(undecodable)?;
    if decoder.dimensions() != (width, height) {
        return Err(mismatch());
    }
    // Converts to 8 bits first, because turning takes a second copy.
    let picture = DynamicImage::from_decoder(decoder)
        .map_err(undecodable)?
        .into_rgb8();
    Ok(upright(picture, orientation))
}
