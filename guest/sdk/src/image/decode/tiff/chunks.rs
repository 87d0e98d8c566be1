//! Strips and tiles of a TIFF, decompressed.

use std::borrow::Cow;

use fax::Color;
use fax::decoder::{decode_g3, decode_g4, pels};
use fdeflate::Decompressor;
use libjpeg_turbo_rs::{DecodeLimits, Decoder, PixelFormat};
use weezl::{BitOrder, LzwStatus, decode::Configuration};

/// The most scans of a JPEG in a strip or tile; each costs a pass over it.
const MOST_SCANS: usize = 16;

/// Compression of strips and tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    PackBits,
    Lzw,
    Deflate,
    Jpeg,
    Fax3,
    Fax4,
}

/// Layout of the samples of a strip or tile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Pixels in a row of it.
    pub(super) width: usize,
    /// Rows of it that are in the picture.
    pub(super) height: usize,
    /// Rows of it that are stored, at most.
    pub(super) stored: usize,
    /// Samples of a pixel that lie next to each other.
    pub(super) samples: usize,
    /// Bytes of a row, before they are compressed.
    pub(super) row: usize,
}

/// Decompresses a strip or a tile. None if it ends before its last row or is damaged.
pub(super) fn decompress<'a>(
    compression: Compression,
    data: &'a [u8],
    shape: Shape,
) -> Option<Cow<'a, [u8]>> {
    let length = shape.row.checked_mul(shape.height)?;
    if compression == Compression::None {
        return data.get(..length).map(Cow::Borrowed);
    }
    let mut out = vec![0; length];
    let filled = match compression {
        Compression::PackBits => unpack(data, &mut out),
        Compression::Lzw => expand_lzw(data, &mut out),
        Compression::Deflate => inflate(data, &mut out),
        Compression::Fax3 | Compression::Fax4 => read_fax(compression, data, shape, &mut out),
        Compression::Jpeg | Compression::None => 0,
    };
    (filled == length).then_some(Cow::Owned(out))
}

fn unpack(mut data: &[u8], out: &mut [u8]) -> usize {
    let mut filled = 0;
    while let (Some((code, rest)), true) = (data.split_first(), filled < out.len()) {
        let free = out.get_mut(filled..).unwrap_or_default();
        let (count, used) = match *code {
            length @ 0..=127 => {
                let run = rest.get(..usize::from(length) + 1).unwrap_or(rest);
                let count = run.len().min(free.len());
                free.iter_mut().zip(run).for_each(|(to, from)| *to = *from);
                (count, run.len())
            }
            128 => (0, 0),
            repeat => {
                let Some(value) = rest.first() else { break };
                let count = (257 - usize::from(repeat)).min(free.len());
                free.iter_mut().take(count).for_each(|to| *to = *value);
                (count, 1)
            }
        };
        filled += count;
        data = rest.get(used..).unwrap_or_default();
    }
    filled
}

/// Decompresses as far as possible, because some writers omit the end code.
fn expand_lzw(mut data: &[u8], out: &mut [u8]) -> usize {
    let mut decoder = Configuration::with_tiff_size_switch(BitOrder::Msb, 8)
        .with_yield_on_full_buffer(true)
        .build();
    let mut filled = 0;
    while let Some(free) = out.get_mut(filled..).filter(|free| !free.is_empty()) {
        let result = decoder.decode_bytes(data, free);
        data = data.get(result.consumed_in..).unwrap_or_default();
        filled += result.consumed_out;
        let is_stuck = result.consumed_in == 0 && result.consumed_out == 0;
        if is_stuck || !matches!(result.status, Ok(LzwStatus::Ok)) {
            break;
        }
    }
    filled
}

fn inflate(mut data: &[u8], out: &mut [u8]) -> usize {
    let mut decoder = Decompressor::new();
    let mut filled = 0;
    while filled < out.len() && !decoder.is_done() {
        match decoder.read(data, out, filled, true) {
            Ok((0, 0)) | Err(_) => break,
            Ok((consumed, produced)) => {
                data = data.get(consumed..).unwrap_or_default();
                filled += produced;
            }
        }
    }
    filled
}

/// Reads lines of black and white, and packs them eight pixels a byte, black as 1.
fn read_fax(compression: Compression, data: &[u8], shape: Shape, out: &mut [u8]) -> usize {
    let (Ok(width), Ok(height)) = (u16::try_from(shape.width), u16::try_from(shape.height)) else {
        return 0;
    };
    let mut rows = out.chunks_exact_mut(shape.row);
    let mut filled = 0;
    let line = |line: &[u16]| {
        let Some(row) = rows.next() else { return };
        // A line beyond the width would be another picture's.
        let is_sound = line.is_sorted() && line.last().is_none_or(|end| *end <= width);
        for (index, _) in pels(line, width)
            .enumerate()
            .filter(|(_, colour)| is_sound && *colour == Color::Black)
        {
            if let Some(byte) = row.get_mut(index / 8) {
                *byte |= 0x80 >> (index % 8);
            }
        }
        filled += shape.row;
    };
    let data = data.iter().copied();
    // Lines before an error count. TIFF lacks the end of the last line that the decoder needs.
    let _ = match compression {
        Compression::Fax4 => decode_g4(data, width, Some(height), line),
        _ => decode_g3(data.chain([0, 0, 1]), line),
    };
    filled
}

/// Decodes a strip or tile with JPEG data, with optional tables from a tag. With `is_ycc`, three
/// components are brightness and colours, which become RGB. Returns the samples, and the number of
/// pixels in a row.
pub(super) fn decode_jpeg(
    tables: Option<&[u8]>,
    data: &[u8],
    shape: Shape,
    is_ycc: bool,
) -> Option<(Vec<u8>, usize)> {
    let body = data.strip_prefix(b"\xff\xd8")?;
    let tables = tables
        .and_then(|tables| tables.strip_prefix(b"\xff\xd8"))
        .unwrap_or_default();
    let tables = tables.strip_suffix(b"\xff\xd9").unwrap_or(tables);
    // Adobe's marker defines the components; without it the decoder would guess them from their
    // numbers.
    let adobe = [
        b"\xff\xd8\xff\xee\0\x0eAdobe\0\x64\0\0\0\0".as_slice(),
        &[u8::from(is_ycc)],
    ]
    .concat();
    let jpeg = [adobe.as_slice(), tables, body].concat();
    let most = |side: usize| side.div_ceil(16).saturating_mul(16);
    let (width, height) = (most(shape.width), most(shape.stored));
    let max_pixels = (width as u64).saturating_mul(height as u64);
    let limits = DecodeLimits {
        max_width: width,
        max_height: height,
        max_pixels,
        max_scans: MOST_SCANS,
        max_memory: None,
    };
    let mut decoder = Decoder::new_with_limits(&jpeg, limits).ok()?;
    let format = match (shape.samples, decoder.header().components.len()) {
        (1, 1) => PixelFormat::Grayscale,
        (3, 3) => PixelFormat::Rgb,
        (4, 4) => PixelFormat::Cmyk,
        _ => return None,
    };
    decoder.set_output_format(format);
    let picture = decoder.decode_image().ok()?;
    (picture.width >= shape.width && picture.height >= shape.height)
        .then_some((picture.data, picture.width))
}
