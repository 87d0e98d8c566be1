//! Storage of the templates: chunks of rows, shared by readers and the writer (copy on write).
//!
//! A reader keeps the chunks that it has seen. The writer changes a chunk in place if no reader has
//! it, otherwise a copy of that chunk. Readers and the writer therefore never wait for each other,
//! and growth copies nothing. A row never moves: a removed row is a hole until it is filled again.

use std::ops::Range;
use std::sync::Arc;

use rostro_common::ids::PersonId;

use crate::int8::Int8Rows;
use crate::sign_bits::{BLOCK, SignBits};

/// Rows of a chunk. A writer copies at most one chunk for a change (512 KiB at 512 numbers, 129 KiB
/// in 8 bits), and a reader copies 8 bytes for each chunk.
pub(super) const CHUNK: usize = 256;

/// The length of a row is a multiple of this, padded with zeros, so that every vector register is
/// full.
const ALIGNMENT: usize = 16;

/// Format of the stored numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowFormat {
    /// 32-bit floats, four bytes a number.
    Float32,
    /// One byte a number, and four bytes a row.
    Int8,
}

/// Templates with their owners.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    stride: usize,
    format: RowFormat,
    chunks: Vec<Arc<Chunk>>,
    signs: Vec<Arc<SignBits>>,
}

/// Rows that are copied together.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    values: Values,
    /// Owner of each row that was ever filled; `None` for a hole.
    owners: Vec<Option<PersonId>>,
}

/// `stride` numbers for each row, normalised; allocated for all rows at once.
#[derive(Clone, Debug)]
enum Values {
    Float32(Vec<f32>),
    Int8(Int8Rows),
}

/// Returns the distance of two rows in numbers, for vectors of `dimension` numbers.
pub(super) fn stride(dimension: usize) -> usize {
    dimension.max(1).next_multiple_of(ALIGNMENT)
}

impl Rows {
    /// Creates an empty storage for vectors of `dimension` numbers.
    pub(super) fn new(dimension: usize, format: RowFormat) -> Self {
        Self {
            stride: stride(dimension),
            format,
            chunks: Vec::new(),
            signs: Vec::new(),
        }
    }

    /// Returns the distance of two rows in numbers.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Returns the format of the numbers.
    pub(super) fn format(&self) -> RowFormat {
        self.format
    }

    /// Returns the chunks in order.
    pub(super) fn chunks(&self) -> &[Arc<Chunk>] {
        &self.chunks
    }

    /// Returns the sign bits of every [block](BLOCK) of rows, in order.
    pub(super) fn signs(&self) -> &[Arc<SignBits>] {
        &self.signs
    }

    /// Returns the number after the last row that was ever filled.
    pub(super) fn end(&self) -> usize {
        self.chunks
            .last()
            .map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.end())
    }

    /// Returns a row's numbers; zeros for a hole. If they are stored in another format, they are
    /// written to `buffer`, which has the length of a row.
    #[inline(always)]
    pub(super) fn read<'v>(&'v self, row: usize, buffer: &'v mut [f32]) -> &'v [f32] {
        let within = row % CHUNK;
        match self.chunks.get(row / CHUNK) {
            Some(chunk) => chunk.read(within..within + 1, self.stride, buffer),
            None => &[],
        }
    }

    /// Returns the owner of a row; `None` for a hole.
    pub(super) fn owner(&self, row: usize) -> Option<&PersonId> {
        self.chunks.get(row / CHUNK)?.owner(row % CHUNK)
    }

    /// Fills a row, which is a hole or [`Self::end`].
    pub(super) fn set(&mut self, row: usize, owner: &PersonId, template: &[f32]) {
        if row / CHUNK == self.chunks.len() {
            self.chunks.push(Arc::new(Chunk {
                values: match self.format {
                    RowFormat::Float32 => Values::Float32(vec![0.0; CHUNK * self.stride]),
                    RowFormat::Int8 => Values::Int8(Int8Rows::new(CHUNK, self.stride)),
                },
                owners: Vec::new(),
            }));
        }
        let Some(chunk) = self.chunks.get_mut(row / CHUNK).map(Arc::make_mut) else {
            return;
        };
        match chunk.owners.get_mut(row % CHUNK) {
            Some(place) => *place = Some(owner.clone()),
            None => chunk.owners.push(Some(owner.clone())),
        }
        match &mut chunk.values {
            Values::Float32(values) => values
                .iter_mut()
                .skip(row % CHUNK * self.stride)
                .zip(template)
                .for_each(|(place, value)| *place = *value),
            Values::Int8(rows) => rows.set(row % CHUNK, template),
        }
        if row / BLOCK == self.signs.len() {
            self.signs.push(Arc::new(SignBits::new(self.stride)));
        }
        if let Some(signs) = self.signs.get_mut(row / BLOCK).map(Arc::make_mut) {
            signs.set(row % BLOCK, template);
        }
    }

    /// Turns a row into a hole.
    pub(super) fn clear(&mut self, row: usize) {
        let chunk = self.chunks.get_mut(row / CHUNK).map(Arc::make_mut);
        if let Some(chunk) = chunk {
            if let Some(owner) = chunk.owners.get_mut(row % CHUNK) {
                *owner = None;
            }
            // The template of a deleted person must not stay in memory.
            match &mut chunk.values {
                Values::Float32(values) => values
                    .iter_mut()
                    .skip(row % CHUNK * self.stride)
                    .take(self.stride)
                    .for_each(|value| *value = 0.0),
                Values::Int8(rows) => rows.clear(row % CHUNK, self.stride),
            }
        }
        if let Some(signs) = self.signs.get_mut(row / BLOCK).map(Arc::make_mut) {
            signs.set(row % BLOCK, &vec![0.0; self.stride]);
        }
    }
}

impl Chunk {
    /// Returns the number of rows that were ever filled.
    pub(super) fn end(&self) -> usize {
        self.owners.len()
    }

    /// Returns the numbers of rows. If they are stored in another format, they are written to
    /// `buffer`, which has at least their length.
    #[inline(always)]
    pub(super) fn read<'v>(
        &'v self,
        rows: Range<usize>,
        stride: usize,
        buffer: &'v mut [f32],
    ) -> &'v [f32] {
        match &self.values {
            Values::Float32(values) => values
                .get(rows.start * stride..rows.end * stride)
                .unwrap_or_default(),
            Values::Int8(int8) => int8.read(rows, stride, buffer),
        }
    }

    /// Returns the owner of a row of this chunk; `None` for a hole.
    pub(super) fn owner(&self, row: usize) -> Option<&PersonId> {
        self.owners.get(row).and_then(Option::as_ref)
    }
}
