//! Decoding of pictures to upright 8-bit RGB, within the host's limits.

use image::metadata::Orientation;
use image::{DynamicImage, ImageFormat, RgbImage};

pub use self::flaw::Flaw;
use self::format::Kind;
use self::jpeg::Header;
#[cfg(any(test, fuzzing))]
pub use self::jpeg::baseline::property as baseline_property;

mod flaw;
mod format;
mod image_crate;
mod jpeg;
mod orientation;
mod png;
mod tiff;

/// The longest side of a picture in pixels: JPEG's limit. Formats with a higher limit cost much
/// time for few pixels.
const LONGEST_SIDE: u64 = 65_535;

/// The most pixels of a JPEG for a reduced decode, more than the largest sensors of phones. All of
/// them must be read.
const MOST_JPEG_PIXELS: u64 = 250_000_000;

/// Bytes in the guest's memory in addition to the file and the decoder's own: code, stack and
/// memory that the allocator cannot use.
const OVERHEAD: u64 = 8 << 20;

/// The limit of the memory for work on a decoded picture, such as tensors. The work gets as much
/// memory as the pixels, at most this.
const MOST_OF_WORK: u64 = 16 << 20;

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

/// Error of decoding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The format is unknown, the data is damaged, a side is longer than 65,535 pixels, or decoding
    /// takes too much memory. Has the cause and, if there is one, the remedy.
    #[error("{0}")]
    Undecodable(String),
    /// The picture has too many pixels by its header; none was decoded.
    #[error("the image has {width}×{height} pixels; at most {max_pixels} are decoded")]
    TooLarge {
        /// Width in pixels by the header.
        width: u32,
        /// Height in pixels by the header.
        height: u32,
        /// The most pixels that are decoded.
        max_pixels: u64,
    },
}

/// Limits for decoding a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The most pixels (width × height) to decode: the host's limit
    /// ([`Host::max_pixels`](crate::host::Host::max_pixels)). A larger JPEG is decoded at a reduced
    /// size.
    pub max_pixels: u64,
    /// The guest's memory in bytes, including the file: the host's limit
    /// ([`Host::memory`](crate::host::Host::memory)).
    pub memory: u64,
}

/// A picture at full size or reduced to a half, a quarter or an eighth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduced {
    /// The upright picture. Its sides are those of [`Self::full`] divided by [`Self::divisor`] and
    /// rounded up.
    pub picture: Rgb,
    /// Pixels of the whole picture, along a side, per pixel of this one: 1, 2, 4 or 8. Coordinates
    /// in [`Self::picture`] times this are those in the whole one
    /// ([`Detection::scaled`](crate::scrfd::Detection::scaled)).
    pub divisor: u32,
    /// The least [`Self::divisor`] within the budget.
    pub least_divisor: u32,
    /// Width and height of the upright picture in the file, in pixels.
    pub full: (u32, u32),
    /// Flaws of the file; each kind at most once.
    pub flaws: Vec<Flaw>,
}

impl Reduced {
    /// Returns the picture if it is complete. Enrolment must not use an incomplete one.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Undecodable`] if rows, or parts of them, are missing.
    pub fn whole(self) -> Result<Self, DecodeError> {
        match self.flaws.iter().find(|flaw| flaw.lacks_rows()) {
            None => Ok(self),
            Some(Flaw::MissingData {
                percent: Some(percent),
            }) => Err(DecodeError::Undecodable(format!(
                "rows of the JPEG are missing: its data ends or has a gap after {percent} % of the picture; send the whole file"
            ))),
            Some(_) => Err(DecodeError::Undecodable(
                "data of the JPEG is missing; send the whole file".to_owned(),
            )),
        }
    }
}

/// Decodes JPEG, PNG, WebP, BMP, GIF (the first frame) or TIFF (the first page), and turns it
/// upright by its EXIF orientation. The format is recognised by content, not by name.
///
/// `max_pixels`, width × height, is the host's limit
/// ([`Host::max_pixels`](crate::host::Host::max_pixels)), checked before pixels are decoded.
///
/// Greyscale becomes equal channels, 16 bits become 8, CMYK becomes RGB, and alpha is dropped, as
/// in OpenCV's default `imread`. The pixels of a JPEG equal those of libjpeg-turbo, and so
/// OpenCV's.
///
/// # Errors
///
/// [`DecodeError`] if the bytes are not such an image, are damaged, lack rows, or have too many
/// pixels. [`decode_within`] accepts damaged JPEGs, and larger ones.
pub fn decode(bytes: &[u8], max_pixels: u64) -> Result<Rgb, DecodeError> {
    let budget = Budget {
        max_pixels,
        memory: crate::host::DEFAULT_MEMORY,
    };
    Ok(decode_at(&[1], bytes, budget, u32::MAX)?.whole()?.picture)
}

/// Decodes as [`decode_within`] with the default memory of a guest.
///
/// # Errors
///
/// As [`decode_within`].
pub fn decode_at_least(
    bytes: &[u8],
    max_pixels: u64,
    min_longer_side: u32,
) -> Result<Reduced, DecodeError> {
    decode_within(
        bytes,
        Budget {
            max_pixels,
            memory: crate::host::DEFAULT_MEMORY,
        },
        min_longer_side,
    )
}

/// Decodes as [`decode`], but reduces a JPEG to the smallest size with at least `min_longer_side`
/// pixels on the longer side. The sizes are whole, a half, a quarter and an eighth. Other formats,
/// and smaller JPEGs, are decoded whole. A JPEG beyond the budget is decoded at the largest size
/// within it.
///
/// The decoder omits the high frequencies of a JPEG's blocks (libjpeg's scaled inverse DCT), which
/// is about the mean of the pixels. This costs less time and memory than shrinking a photo of many
/// megapixels after decoding.
///
/// A damaged JPEG is decoded as far as libjpeg can, with grey for missing parts, and
/// [`Reduced::flaws`] lists the damage. For an enrolment call [`Reduced::whole`].
///
/// # Errors
///
/// As [`decode`]. A JPEG has too many pixels if an eighth of its size has too many, or if it has
/// more than 250 million.
pub fn decode_within(
    bytes: &[u8],
    budget: Budget,
    min_longer_side: u32,
) -> Result<Reduced, DecodeError> {
    decode_at(&[1, 2, 4, 8], bytes, budget, min_longer_side)
}

/// Decodes a JPEG at one of these divisors, the smallest first, and other formats whole.
fn decode_at(
    divisors: &[u32],
    bytes: &[u8],
    budget: Budget,
    min_longer_side: u32,
) -> Result<Reduced, DecodeError> {
    let format = match Kind::of(bytes) {
        Kind::Decoded(ImageFormat::Jpeg) => {
            let header = Header::read(bytes)
                .map_err(|cause| DecodeError::Undecodable(format!("the JPEG {cause}")))?;
            let mixed =
                || jpeg::has_mixed_scans(bytes, &header).then(|| jpeg::MIXED_SCANS.to_owned());
            return match header.obstacle.clone().or_else(mixed) {
                Some(obstacle) => Err(DecodeError::Undecodable(format!("the JPEG {obstacle}"))),
                None => decode_jpeg(divisors, bytes, &header, budget, min_longer_side),
            };
        }
        Kind::Decoded(format) => format,
        Kind::Known(name, advice) => {
            return Err(DecodeError::Undecodable(format!(
                "this is {name}; {advice}"
            )));
        }
        Kind::Unknown if bytes.is_empty() => {
            return Err(DecodeError::Undecodable("the file is empty".to_owned()));
        }
        Kind::Unknown => {
            return Err(DecodeError::Undecodable(
                "this is not a JPEG, PNG, WebP, BMP, GIF or TIFF image".to_owned(),
            ));
        }
    };
    let picture = match format {
        ImageFormat::Png => png::decode(bytes, budget),
        ImageFormat::Tiff => tiff::decode(bytes, budget),
        ImageFormat::Bmp => image_crate::decode_bmp(bytes, budget),
        ImageFormat::Gif => image_crate::decode_gif(bytes, budget),
        _ => image_crate::decode_webp(bytes, budget),
    }?;
    let full = (picture.width, picture.height);
    Ok(Reduced {
        picture,
        divisor: 1,
        least_divisor: 1,
        full,
        flaws: Vec::new(),
    })
}

fn decode_jpeg(
    divisors: &[u32],
    bytes: &[u8],
    header: &Header,
    budget: Budget,
    min_longer_side: u32,
) -> Result<Reduced, DecodeError> {
    // No camera writes these, and the decoder cannot reduce them.
    let divisors = if header.has_fine_colours() {
        &[1]
    } else {
        divisors
    };
    let pixels_at = |divisor: u32| {
        let (width, height) = header.size_at(divisor);
        u64::from(width) * u64::from(height)
    };
    let smallest = divisors.last().copied().unwrap_or(1);
    if pixels_at(smallest) > budget.max_pixels || pixels_at(1) > MOST_JPEG_PIXELS {
        let max_pixels = budget
            .max_pixels
            .saturating_mul(u64::from(smallest * smallest))
            .min(MOST_JPEG_PIXELS);
        return Err(DecodeError::TooLarge {
            width: header.width,
            height: header.height,
            max_pixels,
        });
    }
    refuse_oversize(header.width.into(), header.height.into(), MOST_JPEG_PIXELS)?;
    let file = bytes.len() as u64 + OVERHEAD;
    let memory_at = |divisor: u32| file.saturating_add(header.memory_at(divisor));
    let fits = |divisor: &u32| {
        pixels_at(*divisor) <= budget.max_pixels && memory_at(*divisor) <= budget.memory
    };
    let least_divisor = divisors.iter().copied().find(fits).ok_or_else(|| {
        let kind = if header.is_progressive { "progressive " } else { "" };
        let remedy = if header.is_progressive { "save it as a baseline JPEG or smaller" } else { "send a smaller one" };
        DecodeError::Undecodable(format!(
            "the {kind}JPEG of {}×{} pixels takes {} MiB to decode, more than the limit memory-mib of {}; {remedy}, or raise the limit",
            header.width,
            header.height,
            memory_at(smallest).div_ceil(1 << 20),
            budget.memory >> 20,
        ))
    })?;
    let longer = header.width.max(header.height);
    let wanted = [8, 4, 2]
        .into_iter()
        .find(|divisor| longer.div_ceil(*divisor) >= min_longer_side)
        .unwrap_or(1);
    let divisor = if divisors.contains(&wanted) {
        wanted.max(least_divisor)
    } else {
        least_divisor
    };
    let decoded = jpeg::decode(bytes, header, divisor, budget.memory)?;
    let mismatch = || DecodeError::Undecodable("the JPEG's pixels are not of its size".to_owned());
    let picture =
        RgbImage::from_raw(decoded.width, decoded.height, decoded.pixels).ok_or_else(mismatch)?;
    let picture = upright(picture, decoded.orientation);
    let full = if is_turned(decoded.orientation) {
        (header.height, header.width)
    } else {
        (header.width, header.height)
    };
    Ok(Reduced {
        picture,
        divisor,
        least_divisor,
        full,
        flaws: decoded.flaws,
    })
}

fn upright(picture: RgbImage, orientation: Orientation) -> Rgb {
    let mut picture = DynamicImage::from(picture);
    picture.apply_orientation(orientation);
    let picture = picture.into_rgb8();
    Rgb {
        width: picture.width(),
        height: picture.height(),
        pixels: picture.into_raw(),
    }
}

/// Refuses a picture if decoding takes more memory than the budget, before any allocation. It takes
/// the file, and `needed` bytes or the pixels with a copy, if these are more. The copy is for a
/// quarter turn, or else for work with the pixels.
fn refuse_memory(
    kind: &str,
    (width, height): (u64, u64),
    bytes: &[u8],
    needed: u64,
    orientation: Orientation,
    budget: Budget,
) -> Result<(), DecodeError> {
    let pixels = 3 * width * height;
    let copy = if is_turned(orientation) {
        pixels
    } else {
        pixels.min(MOST_OF_WORK)
    };
    let needed = needed
        .max(pixels + copy)
        .saturating_add(bytes.len() as u64 + OVERHEAD);
    if needed <= budget.memory {
        return Ok(());
    }
    Err(DecodeError::Undecodable(format!(
        "the {kind} of {width}×{height} pixels takes {} MiB to decode, more than the limit memory-mib of {}; send a smaller one or a JPEG, or \
         raise the limit",
        needed.div_ceil(1 << 20),
        budget.memory >> 20,
    )))
}

/// Returns true if the orientation exchanges width and height.
const fn is_turned(orientation: Orientation) -> bool {
    !matches!(
        orientation,
        Orientation::NoTransforms
            | Orientation::Rotate180
            | Orientation::FlipHorizontal
            | Orientation::FlipVertical
    )
}

fn refuse_oversize(width: u64, height: u64, max_pixels: u64) -> Result<(), DecodeError> {
    if width == 0 || height == 0 {
        return Err(DecodeError::Undecodable(
            "the image has no pixels".to_owned(),
        ));
    }
    if width.saturating_mul(height) <= max_pixels {
        return match width.max(height) {
            0..=LONGEST_SIDE => Ok(()),
            side => Err(DecodeError::Undecodable(format!(
                "a side of {side} pixels; at most {LONGEST_SIDE} are decoded"
            ))),
        };
    }
    let side = |length: u64| u32::try_from(length).unwrap_or(u32::MAX);
    Err(DecodeError::TooLarge {
        width: side(width),
        height: side(height),
        max_pixels,
    })
}

#[cfg(test)]
mod tests;
