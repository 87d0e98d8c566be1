//! Where the templates are: chunks of rows that readers share with the writer.
//!
//! A reader keeps the chunks that it saw; the writer changes a chunk in place if nobody reads it,
//! and a copy of that one chunk otherwise. So a search under way never waits for the writer, nor
//! the writer for it, and growth copies nothing. A row stays where it is: one that is freed is a
//! hole until it is filled again.

use std::sync::Arc;

use rostro_common::person::PersonId;

use crate::sign_bits::{BLOCK, SignBits};

/// Rows of a chunk. A writer copies one chunk (512 KiB at 512 numbers) beside a reader; a reader's
/// copy of the list costs 8 bytes for each.
pub(super) const CHUNK: usize = 256;

/// The numbers of a row are a multiple of this, filled up with zeros, so that no vector register is
/// ever filled in part.
const UNIT: usize = 16;

/// Templates and whose they are.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    stride: usize,
    chunks: Vec<Arc<Chunk>>,
    signs: Vec<Arc<SignBits>>,
}

/// The rows that are copied together.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    /// `stride` numbers a row, of length one; room for all rows from the beginning.
    values: Vec<f32>,
    /// Whose each row is that was ever filled; none in a hole.
    owners: Vec<Option<PersonId>>,
}

/// Numbers from one row to the next where vectors have `dimension`.
pub(super) fn stride(dimension: usize) -> usize {
    dimension.max(1).next_multiple_of(UNIT)
}

impl Rows {
    /// No rows, for vectors of `dimension` numbers.
    pub(super) fn new(dimension: usize) -> Self {
        Self {
            stride: stride(dimension),
            chunks: Vec::new(),
            signs: Vec::new(),
        }
    }

    /// Numbers from one row to the next.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Every chunk, in order.
    pub(super) fn chunks(&self) -> &[Arc<Chunk>] {
        &self.chunks
    }

    /// The signs of the numbers of every [block](BLOCK) of rows, in order.
    pub(super) fn signs(&self) -> &[Arc<SignBits>] {
        &self.signs
    }

    /// The number after the last row that was ever filled.
    pub(super) fn end(&self) -> usize {
        self.chunks.last().map_or(0, |last| {
            (self.chunks.len() - 1) * CHUNK + last.owners.len()
        })
    }

    /// A row's numbers, zeros if it is a hole.
    pub(super) fn values(&self, row: usize) -> &[f32] {
        let start = row % CHUNK * self.stride;
        self.chunks
            .get(row / CHUNK)
            .and_then(|chunk| chunk.values.get(start..start + self.stride))
            .unwrap_or_default()
    }

    /// Whose a row is, unless it is a hole.
    pub(super) fn owner(&self, row: usize) -> Option<&PersonId> {
        self.chunks.get(row / CHUNK)?.owner(row % CHUNK)
    }

    /// Fills a row, which is a hole or the first that was never filled.
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

    /// Makes a row a hole.
    pub(super) fn clear(&mut self, row: usize) {
        let chunk = self.chunks.get_mut(row / CHUNK).map(Arc::make_mut);
        if let Some(chunk) = chunk {
            if let Some(owner) = chunk.owners.get_mut(row % CHUNK) {
                *owner = None;
            }
            // What is deleted is gone: not only nobody's.
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
    /// The numbers of every row that was ever filled.
    pub(super) fn filled(&self, stride: usize) -> &[f32] {
        self.values
            .get(..self.owners.len() * stride)
            .unwrap_or_default()
    }

    /// Whose a row of this chunk is.
    pub(super) fn owner(&self, row: usize) -> Option<&PersonId> {
        self.owners.get(row).and_then(Option::as_ref)
    }
}
