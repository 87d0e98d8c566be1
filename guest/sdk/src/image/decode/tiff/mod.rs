//! TIFF, decoded strip by strip or tile by tile into 8-bit RGB.
//!
//! The crate `tiff` reads no palettes, planes of tiles or colours of JPEG strips, and panics on
//! some of them. This module decodes the output of scanners, phones, editors and OpenCV; the error
//! for anything rarer names it. Only the picture and one strip or tile are in memory at a time.

use std::borrow::Cow;

use image::RgbImage;
use image::metadata::Orientation;

use self::chunks::{Compression, Shape, decode_jpeg, decompress};
pub(super) use self::directory::Directory;
use self::directory::Values;
use super::{Budget, DecodeError, Rgb, orientation, refuse_memory, refuse_oversize, upright};

mod chunks;
mod directory;

/// Tags of TIFF 6.0 and its supplements.
mod tag {
    pub(super) const KIND_OF_FILE: u16 = 254;
    pub(super) const WIDTH: u16 = 256;
    pub(super) const HEIGHT: u16 = 257;
    pub(super) const BITS: u16 = 258;
    pub(super) const COMPRESSION: u16 = 259;
    pub(super) const COLOUR: u16 = 262;
    pub(super) const BIT_ORDER: u16 = 266;
    pub(super) const STRIPS: u16 = 273;
    pub(super) const SAMPLES: u16 = 277;
    pub(super) const ROWS_OF_STRIP: u16 = 278;
    pub(super) const STRIP_SIZES: u16 = 279;
    pub(super) const PLANES: u16 = 284;
    pub(super) const FAX_OPTIONS: u16 = 292;
    pub(super) const PREDICTOR: u16 = 317;
    pub(super) const PALETTE: u16 = 320;
    pub(super) const TILE_WIDTH: u16 = 322;
    pub(super) const TILE_HEIGHT: u16 = 323;
    pub(super) const TILES: u16 = 324;
    pub(super) const TILE_SIZES: u16 = 325;
    pub(super) const OTHER_PICTURES: u16 = 330;
    pub(super) const FORMAT: u16 = 339;
    pub(super) const JPEG_TABLES: u16 = 347;
    pub(super) const SUBSAMPLING: u16 = 530;
    pub(super) const DNG_VERSION: u16 = 50_706;
}

/// The most samples a pixel, more than pictures with masks have. Each costs time, although only
/// colours are used.
const MOST_SAMPLES: u64 = 8;

/// The most pixels of tiles beyond the picture's edges, in addition to as many as it has, because
/// each is decompressed.
const MOST_PADDING: u64 = 1 << 22;

/// The least side of a tile, unless the picture is smaller, because each tile costs time. The
/// standard requires 16.
const LEAST_TILE: u64 = 8;

/// Meaning of the samples of a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colour {
    /// One sample, 0 for white if inverted.
    Grey {
        is_inverted: bool,
    },
    Rgb,
    /// One sample: the number of a colour.
    Palette,
    Cmyk,
    /// Brightness, blueness and redness.
    Ycc,
}

impl Colour {
    const fn samples(self) -> usize {
        match self {
            Self::Grey { .. } | Self::Palette => 1,
            Self::Rgb | Self::Ycc => 3,
            Self::Cmyk => 4,
        }
    }
}

/// Storage of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Depth {
    bits: usize,
    is_float: bool,
    is_big_endian: bool,
}

/// The first picture of a file.
#[derive(Debug)]
struct Tiff<'a> {
    bytes: &'a [u8],
    directory: Directory<'a>,
    width: usize,
    height: usize,
    samples: usize,
    colour: Colour,
    depth: Depth,
    compression: Compression,
    /// Whether each sample has strips or tiles of its own.
    is_planar: bool,
    is_predicted: bool,
    /// Width and height of a strip or tile.
    chunk: (usize, usize),
    offsets: Values<'a>,
    sizes: Option<Values<'a>>,
}

/// Decodes the first picture of a TIFF or BigTIFF.
pub(super) fn decode(bytes: &[u8], budget: Budget) -> Result<Rgb, DecodeError> {
    let damaged = || DecodeError::Undecodable("the TIFF is damaged or cut off".to_owned());
    let directory = Directory::read(bytes).ok_or_else(damaged)?;
    let (width, height) = directory
        .number(tag::WIDTH)
        .zip(directory.number(tag::HEIGHT))
        .ok_or_else(damaged)?;
    if is_raw(&directory) {
        return Err(DecodeError::Undecodable(format!(
            "this is a raw photo of a camera; {}",
            super::format::SEND_JPEG
        )));
    }
    refuse_oversize(width, height, budget.max_pixels)?;
    let tiff = Tiff::read(bytes, directory, width, height)?;
    let orientation = orientation::of_exif(bytes).unwrap_or(Orientation::NoTransforms);
    refuse_memory(
        "TIFF",
        (width, height),
        bytes,
        3 * width * height + tiff.memory().ok_or_else(damaged)?,
        orientation,
        budget,
    )?;
    let mut pixels = vec![0; 3 * tiff.width * tiff.height];
    tiff.read_into(&mut pixels).ok_or_else(damaged)?;
    let picture = RgbImage::from_raw(width as u32, height as u32, pixels).ok_or_else(damaged)?;
    Ok(upright(picture, orientation))
}

/// Returns true for raw photos: a TIFF with a preview as the first picture, or with samples of a
/// sensor.
fn is_raw(directory: &Directory<'_>) -> bool {
    let has_preview = directory
        .number(tag::KIND_OF_FILE)
        .is_some_and(|kind| kind & 1 == 1);
    directory.number(tag::DNG_VERSION).is_some()
        || (has_preview && directory.number(tag::OTHER_PICTURES).is_some())
        || matches!(directory.number(tag::COLOUR), Some(32_803 | 34_892))
        || matches!(
            directory.number(tag::COMPRESSION),
            Some(32_767 | 34_713 | 65_535)
        )
}

/// Returns the error for an unsupported kind of TIFF.
fn unsupported(kind: &str) -> DecodeError {
    DecodeError::Undecodable(format!(
        "this kind of TIFF ({kind}) is not decoded; save it as JPEG or PNG"
    ))
}

impl<'a> Tiff<'a> {
    /// Reads the tags of a picture of this size, which the caller checked.
    fn read(
        bytes: &'a [u8],
        directory: Directory<'a>,
        width: u64,
        height: u64,
    ) -> Result<Self, DecodeError> {
        let damaged = || {
            DecodeError::Undecodable(
                "the TIFF is damaged: its strips or tiles do not make up the picture".to_owned(),
            )
        };
        let number = |tag: u16, default: u64| directory.number(tag).unwrap_or(default);
        let compression = read_compression(number(tag::COMPRESSION, 1), &directory)?;
        let samples = number(tag::SAMPLES, 1);
        if samples > MOST_SAMPLES {
            return Err(unsupported(&format!("{samples} samples a pixel")));
        }
        let is_planar = number(tag::PLANES, 1) == 2;
        let depth = read_depth(&directory, samples)?;
        let colour = read_colour(&directory, compression, samples, depth)?;
        if samples < colour.samples() as u64 {
            return Err(damaged());
        }
        let is_predicted = match number(tag::PREDICTOR, 1) {
            // A predictor has no meaning without a general compression method.
            _ if !matches!(compression, Compression::Lzw | Compression::Deflate) => false,
            1 => false,
            2 if depth.bits >= 8 && !depth.is_float => true,
            predictor => return Err(unsupported(&format!("predictor {predictor}"))),
        };
        let is_tiled = directory.values(tag::TILES).is_some();
        let (offsets, sizes) = if is_tiled {
            (tag::TILES, tag::TILE_SIZES)
        } else {
            (tag::STRIPS, tag::STRIP_SIZES)
        };
        let chunk = if is_tiled {
            (number(tag::TILE_WIDTH, 0), number(tag::TILE_HEIGHT, 0))
        } else {
            // Many writers use 2^32 - 1 for one strip.
            (width, number(tag::ROWS_OF_STRIP, height).min(height))
        };
        if chunk.0 < LEAST_TILE.min(width)
            || chunk.1 < if is_tiled { LEAST_TILE.min(height) } else { 1 }
        {
            return Err(damaged());
        }
        let (across, down) = (width.div_ceil(chunk.0), height.div_ceil(chunk.1));
        let padded = across
            .saturating_mul(chunk.0)
            .saturating_mul(down.saturating_mul(chunk.1));
        let offsets = directory.values(offsets).ok_or_else(damaged)?;
        let planes = if is_planar { samples } else { 1 };
        if offsets.count < across * down * planes
            || (is_tiled && padded > 2 * width * height + MOST_PADDING)
        {
            return Err(damaged());
        }
        Ok(Self {
            bytes,
            directory,
            width: width as usize,
            height: height as usize,
            samples: samples as usize,
            colour,
            depth,
            compression,
            is_planar,
            is_predicted,
            chunk: (chunk.0 as usize, chunk.1 as usize),
            offsets,
            sizes: directory.values(sizes),
        })
    }

    /// Returns the shape of a strip or tile with `height` rows inside the picture. None if it
    /// exceeds the address space.
    fn shape(&self, height: usize) -> Option<Shape> {
        let samples = if self.is_planar { 1 } else { self.samples };
        let row = self
            .chunk
            .0
            .checked_mul(samples)?
            .checked_mul(self.depth.bits)?
            .div_ceil(8);
        Some(Shape {
            width: self.chunk.0,
            height,
            stored: self.chunk.1,
            samples,
            row,
        })
    }

    /// Returns the bytes for reading a strip or tile.
    fn memory(&self) -> Option<u64> {
        let shape = self.shape(self.chunk.1.min(self.height))?;
        let row = shape.row as u64;
        let copies = match self.compression {
            Compression::None => 0,
            // Coefficients of several scans, planes and pixels; the data is copied next to its
            // tables.
            Compression::Jpeg => {
                (4 * (row + 16)).checked_mul(shape.stored as u64 + 16)? + self.bytes.len() as u64
            }
            _ => row.checked_mul(shape.height as u64)?,
        };
        Some(copies + 4 * shape.row as u64)
    }

    /// Fills the picture. None if a strip or tile is damaged.
    fn read_into(&self, pixels: &mut [u8]) -> Option<()> {
        let (across, down) = (
            self.width.div_ceil(self.chunk.0),
            self.height.div_ceil(self.chunk.1),
        );
        let palette = if self.colour == Colour::Palette {
            self.read_palette()?
        } else {
            Vec::new()
        };
        let is_jpeg = self.compression == Compression::Jpeg;
        // The JPEG decoder converts interleaved samples to RGB.
        let is_converted = self.colour == Colour::Ycc && is_jpeg && !self.is_planar;
        let colour = if is_converted {
            Colour::Rgb
        } else {
            self.colour
        };
        let planes = if self.is_planar { colour.samples() } else { 1 };
        let (mut row, mut samples) = (Vec::new(), Vec::new());
        for index in 0..planes * down * across {
            let (plane, place) = (index / (down * across), index % (down * across));
            let (left, top) = (place % across * self.chunk.0, place / across * self.chunk.1);
            let columns = self.chunk.0.min(self.width - left);
            let shape = self.shape(self.chunk.1.min(self.height - top))?;
            let (data, stride) = self.read_chunk(index as u64, shape, is_converted)?;
            for (line, packed) in data.chunks_exact(stride).take(shape.height).enumerate() {
                let begin = 3 * ((top + line) * self.width + left);
                let out = pixels.get_mut(begin..begin + 3 * columns)?;
                let packed = if self.is_predicted {
                    row.clear();
                    row.extend_from_slice(packed);
                    self.depth.add_neighbours(&mut row, shape.samples);
                    &row
                } else {
                    packed
                };
                samples.clear();
                self.depth.unpack(
                    packed,
                    columns * shape.samples,
                    colour != Colour::Palette,
                    &mut samples,
                );
                place_samples(
                    colour,
                    &palette,
                    self.is_planar.then_some(plane),
                    shape.samples,
                    &samples,
                    out,
                );
            }
        }
        if colour == Colour::Ycc {
            pixels
                .as_chunks_mut()
                .0
                .iter_mut()
                .for_each(|pixel| *pixel = to_rgb(*pixel));
        }
        Some(())
    }

    /// Returns a strip or tile, and the bytes of one of its rows.
    fn read_chunk(&self, index: u64, shape: Shape, is_ycc: bool) -> Option<(Cow<'a, [u8]>, usize)> {
        let begin = usize::try_from(self.offsets.get(index)?).ok()?;
        let rest = self.bytes.get(begin..)?;
        let size = self
            .sizes
            .and_then(|sizes| sizes.get(index))
            .and_then(|size| usize::try_from(size).ok());
        // Uncompressed data has a known size, so the tag is ignored.
        let size = if self.compression == Compression::None {
            None
        } else {
            size.filter(|size| *size > 0)
        };
        let data = size.and_then(|size| rest.get(..size)).unwrap_or(rest);
        if self.compression == Compression::Jpeg {
            let tables = self.directory.values(tag::JPEG_TABLES);
            let (samples, width) =
                decode_jpeg(tables.as_ref().map(Values::bytes), data, shape, is_ycc)?;
            return Some((Cow::Owned(samples), width * shape.samples));
        }
        let is_mirrored = matches!(self.compression, Compression::Fax3 | Compression::Fax4)
            && self.directory.number(tag::BIT_ORDER) == Some(2);
        if is_mirrored {
            let data: Vec<u8> = data.iter().map(|byte| byte.reverse_bits()).collect();
            return Some((
                Cow::Owned(decompress(self.compression, &data, shape)?.into_owned()),
                shape.row,
            ));
        }
        Some((decompress(self.compression, data, shape)?, shape.row))
    }

    /// Returns red, green and blue of each number. Writers scale them to 16 bits, or leave them at
    /// 8.
    fn read_palette(&self) -> Option<Vec<[u8; 3]>> {
        let values = self.directory.values(tag::PALETTE)?;
        let count = 1_u64 << self.depth.bits;
        let is_deep = values
            .iter()
            .take(3 << self.depth.bits)
            .any(|value| value > 255);
        let value = |index: u64| {
            values
                .get(index)
                .map(|value| (if is_deep { value >> 8 } else { value }) as u8)
        };
        (0..count)
            .map(|index| {
                Some([
                    value(index)?,
                    value(count + index)?,
                    value(2 * count + index)?,
                ])
            })
            .collect()
    }
}

fn read_compression(number: u64, directory: &Directory<'_>) -> Result<Compression, DecodeError> {
    Ok(match number {
        1 => Compression::None,
        3 if directory.number(tag::FAX_OPTIONS).unwrap_or(0) & 1 == 0 => Compression::Fax3,
        4 => Compression::Fax4,
        5 => Compression::Lzw,
        7 => Compression::Jpeg,
        8 | 32_946 => Compression::Deflate,
        32_773 => Compression::PackBits,
        2 | 3 => {
            return Err(unsupported(
                "a fax in CCITT's Huffman or two-dimensional code",
            ));
        }
        6 => return Err(unsupported("old-style JPEG")),
        34_712 => return Err(unsupported("JPEG 2000")),
        34_925 => return Err(unsupported("LZMA")),
        50_000 => return Err(unsupported("Zstandard")),
        50_001 => return Err(unsupported("WebP")),
        other => return Err(unsupported(&format!("compression {other}"))),
    })
}

fn read_depth(directory: &Directory<'_>, samples: u64) -> Result<Depth, DecodeError> {
    let bits = directory.number(tag::BITS).unwrap_or(1);
    if let Some(values) = directory.values(tag::BITS)
        && values
            .iter()
            .take(samples as usize)
            .any(|other| other != bits)
    {
        return Err(unsupported("samples of several depths"));
    }
    let format = directory.number(tag::FORMAT).unwrap_or(1);
    let depth = |is_float: bool| Depth {
        bits: bits as usize,
        is_float,
        is_big_endian: directory.is_big_endian(),
    };
    match (bits, format) {
        (1 | 2 | 4 | 8 | 16 | 32, 1 | 4) => Ok(depth(false)),
        (32, 3) => Ok(depth(true)),
        (_, 1 | 4) => Err(unsupported(&format!("samples of {bits} bits"))),
        (_, 3) => Err(unsupported(&format!(
            "floating-point samples of {bits} bits"
        ))),
        _ => Err(unsupported("samples that are signed or complex")),
    }
}

fn read_colour(
    directory: &Directory<'_>,
    compression: Compression,
    samples: u64,
    depth: Depth,
) -> Result<Colour, DecodeError> {
    let colour = match directory.number(tag::COLOUR) {
        Some(number @ (0 | 1)) => Colour::Grey {
            is_inverted: number == 0,
        },
        Some(2) => Colour::Rgb,
        Some(3) if depth.bits <= 8 => Colour::Palette,
        Some(5) => Colour::Cmyk,
        Some(6) => Colour::Ycc,
        Some(8..=10) => return Err(unsupported("CIE L*a*b*")),
        Some(other) => return Err(unsupported(&format!("colours of kind {other}"))),
        None => return Err(unsupported("no kind of colours")),
    };
    let is_subsampled = || {
        directory
            .values(tag::SUBSAMPLING)
            .is_none_or(|values| values.iter().any(|value| value != 1))
    };
    match compression {
        Compression::Jpeg if depth.bits != 8 => {
            Err(unsupported(&format!("JPEG of {} bits", depth.bits)))
        }
        Compression::Jpeg
            if directory.number(tag::PLANES) != Some(2) && samples != colour.samples() as u64 =>
        {
            Err(unsupported("JPEG with additional samples"))
        }
        Compression::Jpeg => Ok(colour),
        Compression::Fax3 | Compression::Fax4 if depth.bits != 1 || samples != 1 => {
            Err(unsupported("a fax of more than one bit"))
        }
        _ if colour == Colour::Ycc && is_subsampled() => {
            Err(unsupported("colours at less than the size"))
        }
        _ => Ok(colour),
    }
}

impl Depth {
    /// Undoes the differences to the sample of the same kind in the pixel before.
    fn add_neighbours(self, row: &mut [u8], samples: usize) {
        let width = self.bits / 8;
        let distance = samples * width;
        for at in (distance..row.len()).step_by(width) {
            let number = |from: &[u8]| {
                let append = |number: u32, byte: &u8| number << 8 | u32::from(*byte);
                if self.is_big_endian {
                    from.iter().fold(0, append)
                } else {
                    from.iter().rev().fold(0, append)
                }
            };
            let before = row
                .get(at - distance..at - distance + width)
                .map_or(0, number);
            let Some(sample) = row.get_mut(at..at + width) else {
                break;
            };
            let sum = number(sample).wrapping_add(before);
            if self.is_big_endian {
                sample
                    .iter_mut()
                    .rev()
                    .zip(sum.to_le_bytes())
                    .for_each(|(to, from)| *to = from);
            } else {
                sample
                    .iter_mut()
                    .zip(sum.to_le_bytes())
                    .for_each(|(to, from)| *to = from);
            }
        }
    }

    /// Appends `count` samples as 8 bits, or as their numbers if they are not to be scaled.
    fn unpack(self, row: &[u8], count: usize, is_scaled: bool, samples: &mut Vec<u8>) {
        match self.bits {
            8 => samples.extend(row.iter().take(count)),
            16 => samples.extend(row.as_chunks().0.iter().take(count).map(|bytes| {
                let value = if self.is_big_endian {
                    u16::from_be_bytes(*bytes)
                } else {
                    u16::from_le_bytes(*bytes)
                };
                ((u32::from(value) + 128) / 257) as u8
            })),
            32 => samples.extend(row.as_chunks().0.iter().take(count).map(|bytes| {
                let value = if self.is_big_endian {
                    u32::from_be_bytes(*bytes)
                } else {
                    u32::from_le_bytes(*bytes)
                };
                if self.is_float {
                    (f32::from_bits(value).clamp(0.0, 1.0) * 255.0).round() as u8
                } else {
                    (value >> 24) as u8
                }
            })),
            bits => {
                let most = (1_u8 << bits) - 1;
                let each = |index: usize| {
                    row.get(index * bits / 8)
                        .map(|byte| byte >> (8 - bits - index * bits % 8) & most)
                };
                let scale = if is_scaled { 255 / most } else { 1 };
                samples.extend((0..count).map_while(each).map(|value| value * scale));
            }
        }
    }
}

/// Writes samples to pixels of RGB; those of a plane to its own channel.
fn place_samples(
    colour: Colour,
    palette: &[[u8; 3]],
    plane: Option<usize>,
    each: usize,
    samples: &[u8],
    out: &mut [u8],
) {
    let pixels = out
        .as_chunks_mut::<3>()
        .0
        .iter_mut()
        .zip(samples.chunks_exact(each));
    match (colour, plane) {
        (Colour::Grey { is_inverted }, _) => {
            let flip = if is_inverted { 255 } else { 0 };
            pixels.for_each(|(pixel, sample)| {
                *pixel = [sample.first().copied().unwrap_or_default() ^ flip; 3]
            });
        }
        (Colour::Palette, _) => pixels.for_each(|(pixel, sample)| {
            let number = sample.first().copied().unwrap_or_default();
            *pixel = palette
                .get(usize::from(number))
                .copied()
                .unwrap_or_default();
        }),
        (Colour::Rgb | Colour::Ycc, None) => pixels.for_each(|(pixel, sample)| {
            if let Some(colours) = sample.first_chunk() {
                *pixel = *colours;
            }
        }),
        (Colour::Cmyk, None) => pixels.for_each(|(pixel, sample)| {
            if let Some([inks @ .., black]) = sample.first_chunk::<4>() {
                *pixel = inks.map(|ink| darken(255 - ink, *black));
            }
        }),
        // Black comes after the other inks.
        (Colour::Cmyk, Some(3)) => pixels.for_each(|(pixel, sample)| {
            let black = sample.first().copied().unwrap_or_default();
            *pixel = pixel.map(|value| darken(value, black));
        }),
        (Colour::Rgb | Colour::Ycc | Colour::Cmyk, Some(plane)) => {
            pixels.for_each(|(pixel, sample)| {
                if let (Some(place), Some(sample)) = (pixel.get_mut(plane), sample.first()) {
                    *place = if colour == Colour::Cmyk {
                        255 - sample
                    } else {
                        *sample
                    };
                }
            })
        }
    }
}

fn darken(value: u8, black: u8) -> u8 {
    (u32::from(value) * u32::from(255 - black) / 255) as u8
}

/// Converts by the matrix of ITU-R BT.601, as in JPEG.
fn to_rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    [
        y + 1.402 * cr,
        y - 0.344_136 * cb - 0.714_136 * cr,
        y + 1.772 * cb,
    ]
    .map(|value| value.round().clamp(0.0, 255.0) as u8)
}
