//! Decoder of JPEGs as cameras write them: one scan of all components with Huffman codes, and
//! colour at the full size, half the width, or half the width and height. A *unit* is the standard's
//! minimum coded unit (MCU): the blocks of all components at one place.
//!
//! In WebAssembly it is faster than `libjpeg-turbo-rs` (docs/performance.md): it transforms blocks
//! [with vectors](transform), and writes no plane of brightness. The pixels are the same. It refuses
//! other kinds and any irregularity, so that `libjpeg-turbo-rs` alone decides what is damaged.

use self::bits::Bits;
use self::huffman::{Coder, Places, Table, places};
use self::transform::samples;
use super::Header;
use super::planes::{ACROSS, BOTH_WAYS, Plane, Upsampler, colour_rows, convert};
use super::structure::{END_OF_IMAGE, RESTART_INTERVAL, START_OF_SCAN, Segments};

mod bits;
mod huffman;
#[cfg(any(test, fuzzing))]
pub mod property;
#[cfg(test)]
mod tests;
mod transform;

/// The frame header of baseline JPEGs.
const BASELINE: u8 = 0xc0;

/// Markers of segments with tables (DHT and DQT).
const HUFFMAN_TABLES: u8 = 0xc4;
const QUANTIZATION_TABLES: u8 = 0xdb;

/// The first of eight restart markers (RST0).
const FIRST_RESTART: u8 = 0xd0;

/// Samples of a block along a side.
const SIDE: usize = 8;

/// Sampling of brightness relative to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sampling {
    across: usize,
    down: usize,
}

/// Decodes a picture of three components, brightness, blue and red, and returns red, green
/// and blue of each pixel: 3 × width × height bytes. None for other kinds, and for any irregularity
/// of the file.
pub(super) fn decode(bytes: &[u8], header: &Header) -> Option<Vec<u8>> {
    let sampling = sampling(header)?;
    let tables = Tables::read(bytes, header)?;
    let coders = [0, 1, 2].map(|index| tables.coder(index));
    let [Some(luma), Some(blue), Some(red)] = coders else {
        return None;
    };
    let scan = Scan {
        data: bytes,
        bits: Bits::new(header.data),
        coders: [luma, blue, red],
        interval: header.interval,
        begun: 0,
    };
    Picture::new(header, sampling).decode(scan)
}

fn sampling(header: &Header) -> Option<Sampling> {
    let [luma, blue, red] = header.components.as_slice() else {
        return None;
    };
    let is_usual = header.stray == 0
        && header.obstacle.is_none()
        && !(header.is_progressive || header.is_arithmetic)
        && [blue, red].map(|colour| (colour.across, colour.down)) == [(1, 1); 2]
        && [(1, 1), (2, 1), (2, 2)].contains(&(luma.across, luma.down))
        && header.width > 0
        && header.height > 0;
    is_usual.then_some(Sampling {
        across: luma.across.into(),
        down: luma.down.into(),
    })
}

/// The tables before a scan.
#[derive(Debug, Default)]
struct Tables {
    /// For first coefficients, and for the others.
    codes: [[Option<Box<Table>>; 4]; 2],
    places: [Option<Places>; 4],
    /// Each component's number of the table of quantisation.
    steps: [usize; 3],
    /// Each component's numbers of the tables of codes.
    selected: [[usize; 2]; 3],
}

impl Tables {
    /// Reads the segments up to the first scan.
    fn read(bytes: &[u8], header: &Header) -> Option<Self> {
        let mut tables = Self::default();
        let mut has_frame = false;
        let mut segments = Segments::new(bytes)?;
        loop {
            let segment = segments.read().ok()?;
            match (segment.marker, segment.body) {
                (BASELINE, [_, _, _, _, _, 3, components @ ..]) if !has_frame => {
                    let components = components.as_chunks::<3>();
                    for ([_, _, number], steps) in components.0.iter().zip(&mut tables.steps) {
                        *steps = usize::from(*number);
                    }
                    has_frame = components.0.len() == 3 && components.1.is_empty();
                }
                (HUFFMAN_TABLES, body) => tables.add_codes(body)?,
                (QUANTIZATION_TABLES, body) => tables.add_steps(body)?,
                // Pictures and text of applications, comments.
                (0xe0..=0xef | 0xfe | RESTART_INTERVAL, _) => {}
                (START_OF_SCAN, [3, scan @ .., 0, 63, 0]) if has_frame => {
                    tables.select(scan, header)?;
                    return (segment.end == header.data).then_some(tables);
                }
                _ => return None,
            }
        }
    }

    fn add_codes(&mut self, mut body: &[u8]) -> Option<()> {
        while let Some((number, rest)) = body.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let count = counts.iter().map(|count| usize::from(*count)).sum();
            let (symbols, rest) = rest.split_at_checked(count)?;
            let class = self.codes.get_mut(usize::from(number >> 4))?;
            let table = class.get_mut(usize::from(number & 15))?;
            *table = Some(Box::new(Table::new(*counts, symbols)?));
            body = rest;
        }
        Some(())
    }

    fn add_steps(&mut self, mut body: &[u8]) -> Option<()> {
        while let Some((number, rest)) = body.split_first() {
            // Steps of 16 bits have 16 here, which is no number of a table.
            let table = self.places.get_mut(usize::from(*number))?;
            let (steps, rest) = rest.split_first_chunk::<64>()?;
            *table = Some(places(steps));
            body = rest;
        }
        Some(())
    }

    /// Reads which tables the components of the scan use. They must be in the frame's order.
    fn select(&mut self, scan: &[u8], header: &Header) -> Option<()> {
        let (components, rest) = scan.as_chunks::<2>();
        let ids = components.iter().map(|[id, _]| *id);
        if !rest.is_empty() || !ids.eq(header.components.iter().map(|each| each.id)) {
            return None;
        }
        for ([_, numbers], selected) in components.iter().zip(&mut self.selected) {
            *selected = [numbers >> 4, numbers & 15].map(usize::from);
        }
        Some(())
    }

    fn coder(&self, component: usize) -> Option<Coder<'_>> {
        let [first, others] = *self.selected.get(component)?;
        let [firsts, rest] = &self.codes;
        Some(Coder {
            first: firsts.get(first)?.as_deref()?,
            others: rest.get(others)?.as_deref()?,
            places: (*self.places.get(*self.steps.get(component)?)?)?,
            previous: 0,
        })
    }
}

/// The coded data of the scan.
#[derive(Debug)]
struct Scan<'a> {
    data: &'a [u8],
    bits: Bits,
    /// Of brightness, blue and red.
    coders: [Coder<'a>; 3],
    /// Units from one restart marker to the next, or 0.
    interval: usize,
    /// Units begun so far.
    begun: usize,
}

impl Scan<'_> {
    /// Begins a unit, perhaps after a restart marker. None if the marker is not there.
    #[inline(always)]
    fn begin_unit(&mut self) -> Option<()> {
        if self.interval > 0 && self.begun > 0 && self.begun.is_multiple_of(self.interval) {
            let number = (self.begun / self.interval - 1) % 8;
            self.bits = self
                .bits
                .after_marker(self.data, FIRST_RESTART + number as u8)?;
            for coder in &mut self.coders {
                coder.previous = 0;
            }
        }
        self.begun += 1;
        Some(())
    }
}

/// A plane of samples, row by row.
#[derive(Debug)]
struct Canvas {
    samples: Vec<u8>,
    stride: usize,
}

impl Canvas {
    fn new(stride: usize, height: usize) -> Self {
        Self {
            samples: vec![0; stride * height],
            stride,
        }
    }

    /// Decodes a block to the column `x` and row `y` of its upper left sample.
    #[inline(always)]
    fn decode(
        &mut self,
        (x, y): (usize, usize),
        data: &[u8],
        bits: &mut Bits,
        coder: &mut Coder<'_>,
    ) -> Option<()> {
        let mut block = [0; 64];
        let sum = coder.read(data, bits, &mut block)?;
        let mut rest = self.samples.get_mut(self.stride * y + x..)?;
        for row in samples(&block, sum)? {
            *rest.first_chunk_mut()? = row;
            rest = rest.get_mut(self.stride..).unwrap_or_default();
        }
        Some(())
    }
}

/// A picture while it is decoded. Each row of units becomes pixels while its brightness is in the
/// processor's cache.
#[derive(Debug)]
struct Picture {
    sampling: Sampling,
    /// Width and height in pixels.
    size: (usize, usize),
    /// Units across and down.
    units: (usize, usize),
    /// Brightness of a row of units, below the [late](Self::late) rows of the one before.
    luma: Canvas,
    /// Blue and red of the whole picture.
    colours: [Canvas; 2],
    /// For blue and red.
    upsamplers: [Upsampler; 2],
    /// Red, green and blue of the rows that are complete.
    pixels: Vec<u8>,
}

impl Picture {
    fn new(header: &Header, sampling: Sampling) -> Self {
        let Sampling { across, down } = sampling;
        let size = (header.width as usize, header.height as usize);
        let units = (size.0.div_ceil(SIDE * across), size.1.div_ceil(SIDE * down));
        let rounding = if down == 2 { BOTH_WAYS } else { ACROSS };
        Self {
            sampling,
            size,
            units,
            luma: Canvas::new(SIDE * across * units.0, SIDE * down + Self::late(sampling)),
            colours: [(); 2].map(|()| Canvas::new(SIDE * units.0, SIDE * units.1)),
            upsamplers: [(); 2].map(|()| Upsampler::new(size.0.div_ceil(across), rounding)),
            pixels: Vec::with_capacity(3 * size.0 * size.1),
        }
    }

    /// Returns for how many rows of brightness the colour is known only with the next units: the
    /// last row, if it lies between two rows of colour.
    const fn late(sampling: Sampling) -> usize {
        sampling.down - 1
    }

    fn decode(mut self, mut scan: Scan<'_>) -> Option<Vec<u8>> {
        for y in 0..self.units.1 {
            self.decode_units(&mut scan, y)?;
            self.convert(y)?;
        }
        scan.bits.after_marker(scan.data, END_OF_IMAGE)?;
        Some(self.pixels)
    }

    /// Decodes a row of units.
    fn decode_units(&mut self, scan: &mut Scan<'_>, y: usize) -> Option<()> {
        let Sampling { across, down } = self.sampling;
        let late = Self::late(self.sampling);
        for x in 0..self.units.0 {
            scan.begin_unit()?;
            let (data, bits) = (scan.data, &mut scan.bits);
            let [luma, blue, red] = &mut scan.coders;
            for row in 0..down {
                for column in 0..across {
                    let at = (SIDE * (across * x + column), SIDE * row + late);
                    self.luma.decode(at, data, bits, luma)?;
                }
            }
            for (canvas, coder) in self.colours.iter_mut().zip([blue, red]) {
                canvas.decode((SIDE * x, SIDE * y), data, bits, coder)?;
            }
        }
        Some(())
    }

    /// Converts the rows of a row of units to RGB, with late ones of the row before.
    fn convert(&mut self, y: usize) -> Option<()> {
        let Sampling { across, down } = self.sampling;
        let late = Self::late(self.sampling);
        let (width, height) = self.size;
        let first = SIDE * down * y;
        let begin = first.saturating_sub(late);
        let end = if y + 1 == self.units.1 {
            height
        } else {
            first + SIDE * down - late
        };
        let colours = self.colours.each_ref().map(|canvas| Plane {
            samples: &canvas.samples,
            stride: canvas.stride,
            width: width.div_ceil(across),
            height: height.div_ceil(down),
        });
        let ([blue, red], [blues, reds]) = (colours, &mut self.upsamplers);
        self.pixels.resize(3 * width * end, 0);
        let pixels = self.pixels.get_mut(3 * width * begin..)?;
        let lumas = self
            .luma
            .samples
            .get(self.luma.stride * (late + begin - first)..)?;
        let rows = pixels.chunks_exact_mut(3 * width);
        for ((index, pixels), luma) in (begin..)
            .zip(rows)
            .zip(lumas.chunks_exact(self.luma.stride))
        {
            let luma = luma.get(..width)?;
            let (near, far) = if down == 2 {
                colour_rows(index)
            } else {
                (index, index)
            };
            let (blue, red) = if across == 1 {
                (blue.row(near), red.row(near))
            } else {
                (
                    blues.between(blue.row(near), blue.row(far)),
                    reds.between(red.row(near), red.row(far)),
                )
            };
            convert(luma, blue, red, pixels);
        }
        let kept = self.luma.stride * SIDE * down;
        self.luma.samples.copy_within(kept.., 0);
        Some(())
    }
}
