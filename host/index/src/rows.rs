//! Storage of the templates: chunks of rows, shared by readers and the writer (copy on write).
//!
//! A reader keeps the chunks that it has seen. The writer changes a chunk in place if no reader has
//! it, otherwise a copy of that chunk. Readers and the writer therefore never wait for each other,
//! and growth copies nothing. A row never moves: a removed row is a hole until it is filled again.

use std::sync::Arc;

use rostro_common::ids::PersonId;

use crate::sign_bits::{BLOCK, SignBits};

/// Rows of a chunk. A writer copies at most one chunk for a change (512 KiB at 512 numbers), and a
/// reader copies 8 bytes for each chunk.
pub(super) const CHUNK: usize = 256;

/// The length of a row is a multiple of this, padded with zeros, so that every vector register is
/// full.
const ALIGNMENT: usize = 16;

/// Templates with their owners.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    stride: usize,
    chunks: Vec<Arc<Chunk>>,
    signs: Vec<Arc<SignBits>>,
}

/// Rows that are copied together.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    /// `stride` numbers for each row, normalised; allocated for all rows at once.
    values: Vec<f32>,
    /// Owner of each row that was ever filled; `None` for a hole.
    owners: Vec<Option<PersonId>>,
}

/// Returns the distance of two rows in numbers, for vectors of `dimension` numbers.
pub(super) fn stride(dimension: usize) -> usize {
    dimension.max(1).next_multiple_of(ALIGNMENT)
}

impl Rows {
    /// Creates an empty storage for vectors of `dimension` numbers.
    pub(super) fn new(dimension: usize) -> Self {
        Self {
            stride: stride(dimension),
            chunks: Vec::new(),
            signs: Vec::new(),
        }
    }

    /// Returns the distance of two rows in numbers.
    pub(super) fn stride(&self) -> usize {
        self.stride
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
        self.chunks.last().map_or(0, |last| {
            (self.chunks.len() - 1) * CHUNK + last.owners.len()
        })
    }

    /// Returns a row's numbers; zeros for a hole.
    pub(super) fn values(&self, row: usize) -> &[f32] {
        let start = row % CHUNK * self.stride;
        self.chunks
            .get(row / CHUNK)
            .and_then(|chunk| chunk.values.get(start..start + self.stride))
            .unwrap_or_default()
    }

    /// Returns the owner of a row; `None` for a hole.
    pub(super) fn owner(&self, row: usize) -> Option<&PersonId> {
        self.chunks.get(row / CHUNK)?.owner(row % CHUNK)
    }

    /// Fills a row, which is a hole or [`Self::end`].
    pub(super) fn set(&mut self, row: usize, owner: &PersonId, template: &[f32]) {
        if row / CHUNK == self.chunks.len() {
            let values = vec![0.0; CHUNK * self.stride];
            self.chunks.push(Arc::new(Chunk {
                values,
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
        for (place, value) in chunk
            .values
            .iter_mut()
            .skip(row % CHUNK * self.stride)
            .zip(template)
        {
            *place = *value;
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
            chunk
                .values
                .iter_mut()
                .skip(row % CHUNK * self.stride)
                .take(self.stride)
                .for_each(|value| *value = 0.0);
        }
        if let Some(signs) = self.signs.get_mut(row / BLOCK).map(Arc::make_mut) {
            signs.set(row % BLOCK, &vec![0.0; self.stride]);
        }
    }
}

impl Chunk {
    /// Returns the numbers of all rows that were ever filled.
    pub(super) fn filled(&self, stride: usize) -> &[f32] {
        self.values
            .get(..self.owners.len() * stride)
            .unwrap_or_default()
    }

    /// Returns the owner of a row of this chunk; `None` for a hole.
    pub(super) fn owner(&self, row: usize) -> Option<&PersonId> {
        self.owners.get(row).and_then(Option::as_ref)
    }
}
