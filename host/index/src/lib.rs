//! Nearest-neighbour search in memory over all templates, by cosine similarity.
//!
//! [`Index`] stores normalised templates, so that a cosine is a dot product. The exact search
//! compares all of them with all probes at once on the idle cores. For a large gallery the operator
//! can choose an approximate search.
//!
//! | module | content |
//! | --- | --- |
//! | `rows` | storage of the templates, copied on write |
//! | `int8` | templates in 8 bits |
//! | `positions` | rows of each person |
//! | `exact` | search that compares every template |
//! | `approximate` | search by binary quantization and exact rescoring |
//! | `sign_bits` | sign bits of the templates and their Hamming distances |
//! | `top_k` | the best candidates for one probe |
//! | `alike` | similar people within the index |
//!
//! A template takes four bytes and one bit for each number, or one byte and one bit in 8 bits, and
//! some 60 bytes for its person. A running search and an enrolment do not wait for each other; a
//! search that begins while chunks are copied waits for the copy.
//!
//! Among the host's crates (rostro → api → service → sandbox → {inference, models}, service →
//! {gallery, index}, all → common) it uses only common, and the service uses it.

mod alike;
mod approximate;
mod exact;
mod int8;
mod positions;
mod rows;
mod sign_bits;
#[cfg(test)]
mod tests;
mod top_k;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rostro_common::cores::Cores;
use rostro_common::ids::PersonId;

use exact::DOT_ROWS;
use positions::{MAX_ROWS, RowPositions};
use rows::{RowFormat, Rows};
use top_k::TopK;

pub use alike::AlikePair;
pub use top_k::Candidate;

/// Search method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Compares every template.
    #[default]
    Exact,
    /// Compares only the templates with the most similar signs, about a thousand.
    Approximate {
        /// Number of templates up to which the search is exact nevertheless.
        above: usize,
    },
    /// Stores the templates in 8 bits, a quarter of the memory, and compares those with the most
    /// similar signs, about four thousand. Similarities have a small error (see `int8`).
    Int8 {
        /// Number of templates up to which every template is compared.
        above: usize,
    },
}

/// The templates of all people, searchable by cosine similarity.
#[derive(Debug)]
pub struct Index {
    dimension: usize,
    method: Method,
    cores: Cores,
    /// Rows that searches read. The lock is never held during a search.
    rows: RwLock<Arc<Rows>>,
    /// Positions of the rows, locked during a change. Lock order: positions, then rows.
    positions: Mutex<RowPositions>,
}

/// Error of a vector that cannot be searched or stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// The vector has another dimension than the index.
    #[error("a vector of {actual} numbers in an index of {expected}")]
    Dimension {
        /// Dimension of the vector.
        actual: usize,
        /// Dimension of the index.
        expected: usize,
    },
    /// The vector has no direction.
    #[error("a vector whose length is zero or not finite")]
    Direction,
    /// The index has as many templates as it can number.
    #[error("an index of {MAX_ROWS} vectors is full")]
    Full,
}

impl Index {
    /// Creates an empty index for vectors of `dimension` numbers. Searches borrow idle `cores`.
    #[must_use]
    pub fn new(dimension: usize, method: Method, cores: Cores) -> Self {
        let format = match method {
            Method::Exact | Method::Approximate { .. } => RowFormat::Float32,
            Method::Int8 { .. } => RowFormat::Int8,
        };
        let rows = RwLock::new(Arc::new(Rows::new(dimension, format)));
        Self {
            dimension,
            method,
            cores,
            rows,
            positions: Mutex::default(),
        }
    }

    /// Changes the search method. Templates keep the format of the method of [`Self::new`].
    #[must_use]
    pub fn with_method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    /// Replaces a person's templates. An empty list removes the person. A search sees all of the
    /// changes or none.
    ///
    /// # Errors
    ///
    /// If a template has no direction or another dimension, or the index is full. The index is
    /// unchanged then.
    pub fn upsert(&self, id: &PersonId, templates: &[Vec<f32>]) -> Result<(), IndexError> {
        let templates = templates
            .iter()
            .map(|template| self.normalize(template))
            .collect::<Result<Vec<_>, _>>()?;
        let mut positions = self.positions();
        let (freed, end) = {
            let rows = self.rows();
            (positions.of(id, &rows), rows.end())
        };
        if end.saturating_add(templates.len()) > MAX_ROWS {
            return Err(IndexError::Full);
        }
        positions.release(id, &freed);
        // Holes first, so that a person who is enrolled again stays in the same chunk.
        let mut new_rows = end..;
        let mut next_row = || positions.take_hole().or_else(|| new_rows.next());
        let set: Vec<(usize, &[f32])> = templates
            .iter()
            .filter_map(|template| Some((next_row()?, template.as_slice())))
            .collect();
        {
            let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
            let rows = Arc::make_mut(&mut rows);
            freed.iter().for_each(|&row| rows.clear(row));
            set.iter()
                .for_each(|&(row, template)| rows.set(row, id, template));
        }
        let assigned: Vec<usize> = set.iter().map(|&(row, _)| row).collect();
        positions.assign(id, &assigned, &self.rows());
        Ok(())
    }

    /// Returns the number of people with templates.
    #[must_use]
    pub fn people(&self) -> usize {
        self.positions().people()
    }

    /// Returns the ids of all people with templates, in no order.
    #[must_use]
    pub fn ids(&self) -> Vec<PersonId> {
        self.positions().ids(&self.rows())
    }

    /// Returns true if the person has templates.
    #[must_use]
    pub fn contains(&self, id: &PersonId) -> bool {
        self.positions().contains(id, &self.rows())
    }

    /// Returns the `k` nearest people for each probe, each person once, by descending similarity
    /// and then by id.
    ///
    /// # Errors
    ///
    /// If a probe has no direction or another dimension.
    pub fn nearest(
        &self,
        probes: &[Vec<f32>],
        k: usize,
    ) -> Result<Vec<Vec<Candidate>>, IndexError> {
        let rows = self.rows();
        let probes = probes
            .iter()
            .map(|probe| self.normalize(probe))
            .collect::<Result<Vec<_>, _>>()?;
        let best = match self.method {
            Method::Approximate { above } | Method::Int8 { above } if rows.end() > above => {
                approximate::nearest(&rows, &probes, k, &self.cores)
            }
            _ => exact::nearest(&rows, &probes, k, &self.cores),
        };
        Ok(best.iter().map(TopK::candidates).collect())
    }

    /// Returns the `k` nearest of `people` for each probe, always by an exact search.
    ///
    /// # Errors
    ///
    /// If a probe has no direction or another dimension.
    pub fn nearest_among(
        &self,
        probes: &[Vec<f32>],
        k: usize,
        people: &HashSet<PersonId>,
    ) -> Result<Vec<Vec<Candidate>>, IndexError> {
        let probes = probes
            .iter()
            .map(|probe| self.normalize(probe))
            .collect::<Result<Vec<_>, _>>()?;
        let (rows, own_rows) = {
            // Under the writer's lock, no row changes its owner between the two reads.
            let positions = self.positions();
            let rows = self.rows();
            let own_rows: Vec<usize> = people
                .iter()
                .flat_map(|id| positions.of(id, &rows))
                .collect();
            (rows, own_rows)
        };
        let mut buffer = vec![0.0; DOT_ROWS * rows.stride()];
        let best_of = |probe: &Vec<f32>| {
            let mut best = TopK::new(k);
            for part in own_rows.chunks(DOT_ROWS) {
                let similarities = exact::dot_products(probe, &rows, part, &mut buffer);
                for (&row, similarity) in part.iter().zip(similarities) {
                    if best.can_enter(similarity)
                        && let Some(owner) = rows.owner(row)
                    {
                        best.offer(similarity, owner);
                    }
                }
            }
            best.candidates()
        };
        Ok(probes.iter().map(best_of).collect())
    }

    fn positions(&self) -> MutexGuard<'_, RowPositions> {
        self.positions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn rows(&self) -> Arc<Rows> {
        Arc::clone(&self.rows.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the vector with length one, padded to a row.
    fn normalize(&self, vector: &[f32]) -> Result<Vec<f32>, IndexError> {
        if vector.len() != self.dimension {
            return Err(IndexError::Dimension {
                actual: vector.len(),
                expected: self.dimension,
            });
        }
        let square: f64 = vector
            .iter()
            .map(|&value| f64::from(value) * f64::from(value))
            .sum();
        let norm = square.sqrt();
        if !norm.is_finite() || norm == 0.0 {
            return Err(IndexError::Direction);
        }
        let mut unit: Vec<f32> = vector
            .iter()
            .map(|&value| (f64::from(value) / norm) as f32)
            .collect();
        unit.resize(rows::stride(self.dimension), 0.0);
        Ok(unit)
    }
}
