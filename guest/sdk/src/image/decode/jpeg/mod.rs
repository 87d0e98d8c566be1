//! JPEG, decoded by `libjpeg-turbo-rs` pixel for pixel as OpenCV, with vector code for WebAssembly.
//!
//! The decoder upsamples chroma of half the width and half the height, which most cameras write,
//! without vector code. So it returns the planes, and [`planes`] converts them to RGB.
//!
//! In WebAssembly, [`baseline`] decodes files of the usual kinds, because it takes less time.
//!
//! A picture is first decoded strictly, which costs nothing extra. If that fails, it is
//! [repaired](mod@repair) and decoded with grey for missing parts. Restart markers out of order
//! count as a failure, because the decoder does not notice them.

use image::metadata::Orientation;
use libjpeg_turbo_rs::{
    ColorSpace, DecodeLimits, DecodeWarning, Decoder, FrameHeader, JpegError, PixelFormat,
    ScalingFactor,
};

use self::planes::Planes;
pub(super) use self::repair::has_mixed_scans;
use self::repair::{RepairedJpeg, has_restart_faults, repair};
pub(super) use self::structure::{Header, MIXED_SCANS};
use super::{DecodeError, Flaw, LONGEST_SIDE, OVERHEAD, orientation};
use crate::image::vector::HAS_VECTORS;

pub(super) mod baseline;
mod planes;
mod repair;
mod structure;

/// The most scans, more than encoders write. Each costs a pass over the whole picture, and a file
/// can hold thousands.
const MOST_SCANS: usize = 100;

/// The most attempts to find the decodable part of a damaged progressive picture: enough to bisect
/// [`MOST_SCANS`], or a position in the first scan.
const MOST_ATTEMPTS: u32 = 7;

/// Bytes that decoding takes in addition to coefficients, planes and pixels: tables and rows.
const ROOM: u64 = 1 << 20;

/// A picture in the file's orientation.
#[derive(Debug, PartialEq)]
pub(super) struct DecodedJpeg {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Red, green and blue of each pixel: 3 × width × height bytes.
    pub(super) pixels: Vec<u8>,
    pub(super) orientation: Orientation,
    pub(super) flaws: Vec<Flaw>,
}

impl Header {
    /// Returns true if the decoder reads the same header. It may use another one of the file.
    fn is_of(&self, frame: &FrameHeader) -> bool {
        let own = self.components.iter();
        (self.width, self.height) == (frame.width.into(), frame.height.into())
            && own.map(|each| (each.id, each.across, each.down)).eq(frame
                .components
                .iter()
                .map(|each| (each.id, each.horizontal_sampling, each.vertical_sampling)))
    }

    /// Returns the size at 1/`divisor`, in pixels.
    pub(super) fn size_at(&self, divisor: u32) -> (u32, u32) {
        (self.width.div_ceil(divisor), self.height.div_ceil(divisor))
    }

    /// Returns the most bytes for decoding at 1/`divisor`, if nothing is damaged.
    pub(super) fn memory_at(&self, divisor: u32) -> u64 {
        let (width, height) = self.size_at(divisor);
        let planes = self.components.len() as u64 + 3;
        let pixels = u64::from(width) * u64::from(height);
        // Each block of a progressive picture keeps 64 coefficients of 16 bits, and a byte, until
        // the last scan.
        let (across, down) = self.largest_sampling();
        let units =
            u64::from(self.width.div_ceil(8 * across)) * u64::from(self.height.div_ceil(8 * down));
        let blocks: u64 = self
            .components
            .iter()
            .map(|component| u64::from(component.across) * u64::from(component.down))
            .sum();
        let coefficients = if self.is_progressive {
            units * blocks * (2 * 64 + 1)
        } else {
            0
        };
        planes * pixels + coefficients + ROOM
    }

    /// Returns the additional bytes for decoding a damaged file of `length` bytes at 1/`divisor`.
    fn memory_of_repair(&self, length: usize, divisor: u32) -> u64 {
        let (width, height) = self.size_at(divisor);
        let (length, pixels) = (length as u64, u64::from(width) * u64::from(height));
        // The repaired file, with room to grow; for a progressive picture also a part of it, and
        // the best picture so far.
        2 * length
            + if self.is_progressive {
                length + 3 * pixels
            } else {
                0
            }
    }
}

/// Decodes a JPEG without an [obstacle](Header::obstacle) at 1/`divisor` of its size: 1, 2, 4 or 8.
/// The caller checked `memory` for the file and for decoding; only the additional memory for a
/// damaged file is checked here.
pub(super) fn decode(
    bytes: &[u8],
    header: &Header,
    divisor: u32,
    memory: u64,
) -> Result<DecodedJpeg, DecodeError> {
    let undecodable =
        |cause: JpegError| DecodeError::Undecodable(format!("the JPEG cannot be decoded: {cause}"));
    let has_faults = header.interval > 0 && has_restart_faults(bytes, header);
    let strict = if has_faults {
        Err(JpegError::UnexpectedEof)
    } else {
        attempt(bytes, header, divisor, Mode::STRICT)
    };
    let mut stray = header.stray;
    let decoded = match strict {
        Ok(decoded) => decoded,
        Err(cause) if !is_damage(&cause) => return Err(undecodable(cause)),
        Err(cause) => {
            let whole = bytes.len() as u64 + OVERHEAD + header.memory_at(divisor);
            let needed = whole.saturating_add(header.memory_of_repair(bytes.len(), divisor));
            if needed > memory {
                return Err(DecodeError::Undecodable(format!(
                    "the JPEG of {}×{} pixels is damaged, and takes {} MiB to decode, more than the limit memory-mib of {}; send it whole, \
                     or raise the limit",
                    header.width,
                    header.height,
                    needed.div_ceil(1 << 20),
                    memory >> 20,
                )));
            }
            let repaired = repair(bytes, header);
            stray = stray.max(repaired.stray);
            let decoded =
                decode_leniently(&repaired, header, divisor).ok_or_else(|| undecodable(cause))?;
            DecodedJpeg {
                flaws: flaws_of_repair(decoded.flaws, &repaired, header),
                ..decoded
            }
        }
    };
    let mut flaws = Vec::new();
    if stray > 0 {
        note(&mut flaws, Flaw::StrayBytes { count: stray });
    }
    decoded
        .flaws
        .into_iter()
        .for_each(|flaw| note(&mut flaws, flaw));
    if !header.has_end(bytes) {
        note(&mut flaws, Flaw::NoEndMarker);
        // An arithmetic decoder reads on without data, and does not report it.
        if header.is_arithmetic {
            note(&mut flaws, Flaw::MissingData { percent: None });
        }
    }
    Ok(DecodedJpeg { flaws, ..decoded })
}

/// Adds the flaws of a repaired picture that the decoder cannot detect.
fn flaws_of_repair(mut flaws: Vec<Flaw>, repaired: &RepairedJpeg, header: &Header) -> Vec<Flaw> {
    if repaired.has_restart_faults {
        note(&mut flaws, Flaw::RestartMarkers);
    }
    if repaired.is_cut {
        note(&mut flaws, Flaw::CorruptData);
    }
    if repaired.lacks_scans {
        note(&mut flaws, Flaw::MissingData { percent: None });
    }
    // If the first scans of a progressive picture are whole, all rows are there, and the missing
    // scans only sharpened them.
    let lacks_detail = header.is_progressive
        && flaws.iter().any(|flaw| flaw.lacks_rows())
        && repaired
            .all_rows
            .is_some_and(|end| attempt(&repaired.up_to(end), header, 8, Mode::Strict).is_ok());
    if lacks_detail {
        flaws.retain(|flaw| !flaw.lacks_rows());
        note(&mut flaws, Flaw::MissingDetail);
    }
    flaws
}

/// Returns true for an error of the stream, not of a limit or an unsupported feature.
fn is_damage(error: &JpegError) -> bool {
    matches!(
        error,
        JpegError::CorruptData(_)
            | JpegError::UnexpectedEof
            | JpegError::InvalidMarker(_)
            | JpegError::UnexpectedMarker(_)
    )
}

/// Adds a flaw unless there is one of its kind.
fn note(flaws: &mut Vec<Flaw>, flaw: Flaw) {
    if flaws.iter().all(|other| other.code() != flaw.code()) {
        flaws.push(flaw);
    }
}

/// Decodes the intact parts of a damaged picture. None if nothing can be decoded.
fn decode_leniently(repaired: &RepairedJpeg, header: &Header, divisor: u32) -> Option<DecodedJpeg> {
    if let Ok(decoded) = attempt(&repaired.bytes, header, divisor, Mode::Lenient) {
        return Some(decoded);
    }
    // The decoder accepts no damaged codes in a progressive picture, so it is decoded up to them.
    if !header.is_progressive {
        return None;
    }
    let up_to = |end: usize| attempt(&repaired.up_to(end), header, divisor, Mode::Lenient).ok();
    let of_scans = longest(repaired.scans.len().checked_sub(1)?, |count| {
        up_to(repaired.scans.get(count.checked_sub(1)?)?.end)
    });
    let decoded = of_scans.or_else(|| {
        let first = repaired.scans.first()?;
        longest(first.len(), |length| up_to(first.start + length)).or_else(|| up_to(first.start))
    });
    decoded.map(|mut decoded| {
        note(&mut decoded.flaws, Flaw::CorruptData);
        note(&mut decoded.flaws, Flaw::MissingData { percent: None });
        decoded
    })
}

/// Returns the result for the largest number from 1 to `most` that has one, if all smaller ones
/// have one, too. Halves the range at most [`MOST_ATTEMPTS`] times.
fn longest<T>(most: usize, mut result: impl FnMut(usize) -> Option<T>) -> Option<T> {
    let (mut least, mut most, mut best) = (0, most, None);
    for _ in 0..MOST_ATTEMPTS {
        if least >= most {
            break;
        }
        let middle = least + (most - least).div_ceil(2);
        match result(middle) {
            Some(found) => (least, best) = (middle, Some(found)),
            None => most = middle - 1,
        }
    }
    best
}

/// How to decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// By `libjpeg-turbo-rs`. Damage is an error.
    Strict,
    /// As [`Self::Strict`], but with grey for damaged parts.
    Lenient,
    /// As [`Self::Strict`], but by [`baseline`] if it can. The result is the same.
    Baseline,
}

impl Mode {
    /// The quicker strict mode.
    const STRICT: Self = if HAS_VECTORS {
        Self::Baseline
    } else {
        Self::Strict
    };
}

/// Decodes once.
fn attempt(
    bytes: &[u8],
    header: &Header,
    divisor: u32,
    mode: Mode,
) -> Result<DecodedJpeg, JpegError> {
    let limits = DecodeLimits {
        max_width: LONGEST_SIDE as usize,
        max_height: LONGEST_SIDE as usize,
        // The header's size was checked, but the decoder may use another header of the file.
        max_pixels: u64::from(header.width) * u64::from(header.height),
        max_scans: MOST_SCANS,
        max_memory: None,
    };
    let mut decoder = Decoder::new_with_limits(bytes, limits)?;
    decoder.set_lenient(mode == Mode::Lenient);
    // As for other formats, because the function is shared.
    let orientation = decoder
        .exif_data()
        .and_then(orientation::of_exif)
        .unwrap_or(Orientation::NoTransforms);
    let sampling: Vec<(u8, u8)> = decoder
        .header()
        .components
        .iter()
        .map(|each| (each.horizontal_sampling, each.vertical_sampling))
        .collect();
    let mismatch = || JpegError::CorruptData("its planes are not of its size".to_owned());
    let is_usual = mode == Mode::Baseline
        && divisor == 1
        && decoder.jpeg_color_space() == ColorSpace::YCbCr
        && header.is_of(decoder.header());
    let baseline = || baseline::decode(bytes, header);
    let (width, height, pixels, warnings) = if let Some(pixels) = is_usual.then(baseline).flatten()
    {
        (
            header.width as usize,
            header.height as usize,
            pixels,
            Vec::new(),
        )
    } else if header.has_fine_colours() {
        let (planes, warnings) = decoder.decode_raw_with_warnings()?;
        let pixels = planes::upsample_nearest(&planes, &sampling).ok_or_else(mismatch)?;
        (planes.width, planes.height, pixels, warnings)
    } else if divisor == 1
        && sampling == [(2, 2), (1, 1), (1, 1)]
        && decoder.jpeg_color_space() == ColorSpace::YCbCr
    {
        let (planes, warnings) = decoder.decode_raw_with_warnings()?;
        let pixels = Planes::of(&planes)
            .map(|planes| planes.to_rgb())
            .ok_or_else(mismatch)?;
        (planes.width, planes.height, pixels, warnings)
    } else {
        decoder.set_output_format(if sampling.len() == 4 {
            PixelFormat::Cmyk
        } else {
            PixelFormat::Rgb
        });
        decoder.set_scale(ScalingFactor::try_new(1, divisor)?);
        let picture = decoder.decode_image()?;
        let pixels = if sampling.len() == 4 {
            from_cmyk(&picture.data)
        } else {
            picture.data
        };
        (picture.width, picture.height, pixels, picture.warnings)
    };
    let (width, height) = (
        u32::try_from(width).unwrap_or(u32::MAX),
        u32::try_from(height).unwrap_or(u32::MAX),
    );
    if (width, height) != header.size_at(divisor) {
        return Err(mismatch());
    }
    Ok(DecodedJpeg {
        width,
        height,
        pixels,
        orientation,
        flaws: flaws(&warnings, header)?,
    })
}

/// Converts the decoder's warnings to flaws.
fn flaws(warnings: &[DecodeWarning], header: &Header) -> Result<Vec<Flaw>, JpegError> {
    let mut flaws = Vec::new();
    let mut damaged = 0;
    for warning in warnings {
        match warning {
            DecodeWarning::ExtraneousData { bytes } => {
                note(&mut flaws, Flaw::StrayBytes { count: *bytes })
            }
            DecodeWarning::TruncatedData {
                decoded_mcus,
                total_mcus,
            } => {
                // In a progressive picture the rest may be there, less sharp.
                let percent = (!header.is_progressive)
                    .then(|| (100 * decoded_mcus / (*total_mcus).max(1)).min(99));
                note(&mut flaws, Flaw::MissingData { percent });
            }
            DecodeWarning::HuffmanError { .. } => damaged += 1,
            DecodeWarning::WarningsSuppressed { count } => damaged += count,
            other => return Err(JpegError::Unsupported(other.to_string())),
        }
    }
    if damaged > 0 {
        note(&mut flaws, Flaw::CorruptData);
    }
    // At least as many grey units as a row has.
    let (across, _) = header.largest_sampling();
    if damaged > 0 && damaged >= header.width.div_ceil(8 * across) as usize {
        note(&mut flaws, Flaw::MissingData { percent: None });
    }
    Ok(flaws)
}

/// Converts pixels of inverted CMYK, as Adobe's programs write it, to RGB as OpenCV does.
fn from_cmyk(pixels: &[u8]) -> Vec<u8> {
    let rgb = |[cyan, magenta, yellow, black]: &[u8; 4]| {
        let black = i32::from(*black);
        [cyan, magenta, yellow]
            .map(|ink| (black - (((255 - i32::from(*ink)) * black) >> 8)).clamp(0, 255) as u8)
    };
    let mut converted = Vec::with_capacity(pixels.len() / 4 * 3);
    pixels
        .as_chunks()
        .0
        .iter()
        .for_each(|pixel| converted.extend(rgb(pixel)));
    converted
}
