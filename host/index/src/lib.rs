//! Nearest-neighbour search over everybody's templates, by cosine similarity.
//!
//! What it is: rows of normalised templates, of which an exact search reads each, for all probes at
//! once and with every idle core; a cosine is a dot product. For a large gallery an operator may
//! choose to read some signs of each first, and only those rows that look likely. What it costs:
//! four bytes and a bit a number. A search under way does not wait for an enrolment, nor that for
//! it; one that begins while chunks are copied waits for the copy.

mod alike;
pub mod approximate;
mod exact;
mod rows;
pub mod sign_bits;
#[cfg(test)]
mod tests;
pub mod top_k;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rostro_common::cores::Cores;
use rostro_common::person::PersonId;

use rows::Rows;
use top_k::TopK;

pub use alike::AlikePair;

/// How to search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Every template is compared with.
    #[default]
    Exact,
    /// With more templates than these, only some thousands are compared with, whose signs are most
    /// like the probe's.
    Approximate {
        /// Up to how many templates the search is exact.
        above: usize,
    },
}

/// Searches templates by cosine similarity.
#[derive(Debug)]
pub struct Index {
    dimension: usize,
    method: Method,
    cores: Cores,
    /// What searches read. Locked only to take or to change it, never for a search.
    rows: RwLock<Arc<Rows>>,
    /// Held by the one who changes something.
    places: Mutex<RowPositions>,
}

/// Where the writer finds what it changes.
#[derive(Debug, Default)]
struct RowPositions {
    /// Which rows are whose.
    of: HashMap<PersonId, Vec<usize>>,
    /// Rows that are holes.
    holes: Vec<usize>,
}

/// A person who is near to a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Who.
    pub id: PersonId,
    /// Cosine similarity of the probe and the nearest of the person's templates, -1 to 1.
    pub similarity: f32,
}

/// A vector that cannot be searched or stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// It has another dimension than the index.
    #[error("a vector of {given} numbers in an index of {wanted}")]
    Dimension {
        /// Its dimension.
        given: usize,
        /// The index's.
        wanted: usize,
    },
    /// It has no direction.
    #[error("a vector whose length is zero or not finite")]
    Direction,
}

impl Index {
    /// An empty index for vectors of `dimension` numbers, whose searches borrow idle `cores`.
    #[must_use]
    pub fn new(dimension: usize, method: Method, cores: Cores) -> Self {
        let rows = RwLock::new(Arc::new(Rows::new(dimension)));
        Self {
            dimension,
            method,
            cores,
            rows,
            places: Mutex::default(),
        }
    }

    /// The same index, searched in another way.
    #[must_use]
    pub fn with_method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    /// Sets a person's templates, in place of those before; without any, the person is not found. A
    /// search sees all of them or none.
    ///
    /// # Errors
    ///
    /// If a template does not fit; nothing is changed then.
    pub fn upsert(&self, id: &PersonId, templates: &[Vec<f32>]) -> Result<(), IndexError> {
        let templates = templates
            .iter()
            .map(|template| self.unit(template))
            .collect::<Result<Vec<_>, _>>()?;
        let mut places = self.places();
        let freed = places.of.remove(id).unwrap_or_default();
        places.holes.extend(&freed);
        // Holes first, so that a person who is enrolled again stays in the same chunk.
        let mut fresh = self.rows().end()..;
        let mut place = || places.holes.pop().or_else(|| fresh.next());
        let set: Vec<(usize, &[f32])> = templates
            .iter()
            .filter_map(|template| Some((place()?, template.as_slice())))
            .collect();
        {
            let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
            let rows = Arc::make_mut(&mut rows);
            freed.iter().for_each(|&row| rows.clear(row));
            set.iter()
                .for_each(|&(row, template)| rows.set(row, id, template));
        }
        if !set.is_empty() {
            places
                .of
                .insert(id.clone(), set.iter().map(|&(row, _)| row).collect());
        }
        Ok(())
    }

    /// How many people have templates.
    #[must_use]
    pub fn people(&self) -> usize {
        self.places().of.len()
    }

    /// Everybody who has templates, in no order.
    #[must_use]
    pub fn ids(&self) -> Vec<PersonId> {
        self.places().of.keys().cloned().collect()
    }

    /// Whether that person has any.
    #[must_use]
    pub fn contains(&self, id: &PersonId) -> bool {
        self.places().of.contains_key(id)
    }

    /// For each probe the `k` people nearest to it, each once, most similar first; equal ones in
    /// the order of their ids.
    ///
    /// # Errors
    ///
    /// If a probe does not fit.
    pub fn nearest(
        &self,
        probes: &[Vec<f32>],
        k: usize,
    ) -> Result<Vec<Vec<Candidate>>, IndexError> {
        let rows = self.rows();
        let probes = probes
            .iter()
            .map(|probe| self.unit(probe))
            .collect::<Result<Vec<_>, _>>()?;
        let best = match self.method {
            Method::Approximate { above } if rows.end() > above => {
                approximate::nearest(&rows, &probes, k, &self.cores)
            }
            _ => exact::nearest(&rows, &probes, k, &self.cores),
        };
        Ok(best.iter().map(TopK::candidates).collect())
    }

    /// The same of these people alone, whose templates are all compared with.
    ///
    /// # Errors
    ///
    /// If a probe does not fit.
    pub fn nearest_among(
        &self,
        probes: &[Vec<f32>],
        k: usize,
        people: &HashSet<PersonId>,
    ) -> Result<Vec<Vec<Candidate>>, IndexError> {
        let probes = probes
            .iter()
            .map(|probe| self.unit(probe))
            .collect::<Result<Vec<_>, _>>()?;
        let (rows, theirs) = {
            // Both at once: while the places are held, no row changes hands.
            let places = self.places();
            let theirs: Vec<usize> = people
                .iter()
                .filter_map(|id| places.of.get(id))
                .flatten()
                .copied()
                .collect();
            (self.rows(), theirs)
        };
        let best_of = |probe: &Vec<f32>| {
            let mut best = TopK::new(k);
            for four in theirs.chunks(4) {
                // Where there are fewer than four, the last of them again.
                let row = |place: usize| {
                    four.get(place)
                        .or(four.last())
                        .map_or(&[] as &[f32], |&row| rows.values(row))
                };
                let similarities = exact::dots(probe, [row(0), row(1), row(2), row(3)]);
                for (&row, similarity) in four.iter().zip(similarities) {
                    if let Some(owner) = rows.owner(row)
                        && best.may_take(similarity)
                    {
                        best.offer(similarity, owner);
                    }
                }
            }
            best.candidates()
        };
        Ok(probes.iter().map(best_of).collect())
    }

    fn places(&self) -> MutexGuard<'_, RowPositions> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rows(&self) -> Arc<Rows> {
        Arc::clone(&self.rows.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The vector at length one, filled up to a row.
    fn unit(&self, vector: &[f32]) -> Result<Vec<f32>, IndexError> {
        if vector.len() != self.dimension {
            return Err(IndexError::Dimension {
                given: vector.len(),
                wanted: self.dimension,
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
