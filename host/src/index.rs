//! Exact nearest-neighbour search over everybody's templates.
//!
//! What it is: one row-major matrix of normalised templates, scanned whole for each probe; the cosine is a dot product. What it costs: four
//! bytes a number, and one pass over them a probe. A writer waits for the scans under way, and changes only the rows of one person.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::person::PersonId;

/// Independent sums in a dot product, so that additions need not wait for each other and the compiler can use its widest registers.
const LANES: usize = 16;

/// Searches templates by cosine similarity.
#[derive(Debug)]
pub(crate) struct Index {
    dimension: usize,
    rows: RwLock<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    /// `dimension` numbers a row, of length one.
    values: Vec<f32>,
    /// Whose each row is.
    owners: Vec<PersonId>,
    /// Which rows are whose.
    of: HashMap<PersonId, Vec<usize>>,
}

/// A person who is near to a probe.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Candidate {
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
    /// An empty index for vectors of `dimension` numbers.
    #[must_use]
    pub(crate) fn new(dimension: usize) -> Self {
        Self { dimension, rows: RwLock::default() }
    }

    /// Sets a person's templates, in place of those before. A search sees all of them or none.
    ///
    /// # Errors
    ///
    /// If a template does not fit; nothing is changed then.
    pub(crate) fn upsert(&self, id: &PersonId, templates: &[Vec<f32>]) -> Result<(), IndexError> {
        let templates = templates.iter().map(|template| self.unit(template)).collect::<Result<Vec<_>, _>>()?;
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        rows.remove(id, self.dimension);
        for template in templates {
            rows.push(id, &template);
        }
        Ok(())
    }

    /// The `k` people nearest to `probe`, each once, most similar first; equal ones in the order of their ids.
    ///
    /// # Errors
    ///
    /// If the probe does not fit.
    pub(crate) fn nearest(&self, probe: &[f32], k: usize) -> Result<Vec<Candidate>, IndexError> {
        let probe = self.unit(probe)?;
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        let mut best: Vec<(f32, &PersonId)> = Vec::with_capacity(k + 1);
        for (row, owner) in rows.values.chunks_exact(self.dimension.max(1)).zip(&rows.owners) {
            let similarity = dot(&probe, row);
            // Nearly every row of a large gallery ends here.
            if best.len() == k && best.last().is_some_and(|&(least, _)| similarity < least) {
                continue;
            }
            offer(&mut best, similarity, owner, k);
        }
        Ok(best.into_iter().map(|(similarity, id)| Candidate { id: id.clone(), similarity: similarity.clamp(-1.0, 1.0) }).collect())
    }

    /// The vector at length one.
    fn unit(&self, vector: &[f32]) -> Result<Vec<f32>, IndexError> {
        if vector.len() != self.dimension {
            return Err(IndexError::Dimension { given: vector.len(), wanted: self.dimension });
        }
        let square: f64 = vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        let norm = square.sqrt();
        if !norm.is_finite() || norm == 0.0 {
            return Err(IndexError::Direction);
        }
        Ok(vector.iter().map(|&value| (f64::from(value) / norm) as f32).collect())
    }
}

impl Rows {
    fn push(&mut self, id: &PersonId, template: &[f32]) {
        self.of.entry(id.clone()).or_default().push(self.owners.len());
        self.owners.push(id.clone());
        self.values.extend_from_slice(template);
    }

    /// Removes a person's rows; the last rows take their places, so that it costs no more in a large gallery than in a small.
    fn remove(&mut self, id: &PersonId, dimension: usize) {
        let mut gone = self.of.remove(id).unwrap_or_default();
        // From the last on, so that a row that is moved is never one that goes too.
        gone.sort_unstable_by(|a, b| b.cmp(a));
        for row in gone {
            let last = self.owners.len() - 1;
            self.owners.swap_remove(row);
            self.values.copy_within(last * dimension.., row * dimension);
            self.values.truncate(last * dimension);
            if let Some(moved) = self.owners.get(row).and_then(|owner| self.of.get_mut(owner)) {
                moved.iter_mut().filter(|index| **index == last).for_each(|index| *index = row);
            }
        }
    }
}

/// Puts a row among the best, of which each person keeps only one.
fn offer<'a>(best: &mut Vec<(f32, &'a PersonId)>, similarity: f32, owner: &'a PersonId, k: usize) {
    if let Some(own) = best.iter().position(|&(_, id)| id == owner) {
        if best.get(own).is_some_and(|&(before, _)| before >= similarity) {
            return;
        }
        best.remove(own);
    }
    let place = best.partition_point(|&(better, id)| better > similarity || (better == similarity && id < owner));
    best.insert(place, (similarity, owner));
    best.truncate(k);
}

/// The dot product of two vectors of one length.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> PersonId {
        text.parse().unwrap()
    }

    fn found(index: &Index, probe: &[f32], k: usize) -> Vec<(String, f32)> {
        index.nearest(probe, k).unwrap().into_iter().map(|near| (near.id.to_string(), near.similarity)).collect()
    }

    #[test]
    fn the_nearest_come_first_each_person_once_by_the_best_template() {
        let index = Index::new(2);
        index.upsert(&id("east"), &[vec![1.0, 0.0]]).unwrap();
        index.upsert(&id("north"), &[vec![0.0, 5.0], vec![3.0, 4.0]]).unwrap();
        index.upsert(&id("west"), &[vec![-2.0, 0.0]]).unwrap();
        let near = found(&index, &[10.0, 0.0], 3);
        assert_eq!(near.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["east", "north", "west"]);
        assert!((near[0].1 - 1.0).abs() < 1e-6 && (near[1].1 - 0.6).abs() < 1e-6 && (near[2].1 + 1.0).abs() < 1e-6, "{near:?}");
        assert_eq!(found(&index, &[1.0, 0.0], 1).len(), 1);
        assert!(found(&index, &[1.0, 0.0], 0).is_empty());
    }

    #[test]
    fn a_person_enrolled_again_is_known_only_by_the_new_templates() {
        let index = Index::new(2);
        index.upsert(&id("a"), &[vec![1.0, 0.0], vec![0.0, 1.0]]).unwrap();
        index.upsert(&id("b"), &[vec![0.0, -1.0]]).unwrap();
        index.upsert(&id("a"), &[vec![-1.0, 0.0]]).unwrap();
        assert_eq!(found(&index, &[1.0, 0.0], 5), [("b".to_owned(), 0.0), ("a".to_owned(), -1.0)]);
    }

    #[test]
    fn vectors_that_do_not_fit_change_nothing() {
        let index = Index::new(2);
        index.upsert(&id("a"), &[vec![1.0, 0.0]]).unwrap();
        assert_eq!(index.upsert(&id("a"), &[vec![0.0, 1.0], vec![1.0]]), Err(IndexError::Dimension { given: 1, wanted: 2 }));
        assert_eq!(index.upsert(&id("a"), &[vec![0.0, 0.0]]), Err(IndexError::Direction));
        assert_eq!(index.nearest(&[f32::NAN, 0.0], 1), Err(IndexError::Direction));
        assert_eq!(found(&index, &[1.0, 0.0], 1), [("a".to_owned(), 1.0)]);
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_search_after_any_changes(
            changes in prop::collection::vec((0_u8..12, prop::collection::vec(prop::array::uniform3(-9_i8..9), 1..4)), 1..40),
            probe in prop::array::uniform3(-9_i8..9), k in 1_usize..6,
        ) {
            let index = Index::new(3);
            let vector = |numbers: &[i8; 3]| numbers.map(f32::from).to_vec();
            let usable = |numbers: &[i8; 3]| numbers.iter().any(|&number| number != 0);
            let mut people: std::collections::BTreeMap<PersonId, Vec<Vec<f32>>> = std::collections::BTreeMap::new();
            for (who, templates) in &changes {
                let templates: Vec<Vec<f32>> = templates.iter().filter(|t| usable(t)).map(vector).collect();
                index.upsert(&id(&format!("p{who}")), &templates).unwrap();
                people.insert(id(&format!("p{who}")), templates);
            }
            prop_assume!(usable(&probe));
            let probe = vector(&probe);
            let cosine = |a: &[f32], b: &[f32]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
            let best = |templates: &Vec<Vec<f32>>| templates.iter().map(|t| cosine(&probe, t)).reduce(f32::max);
            let mut wanted: Vec<f32> = people.values().filter_map(best).collect();
            wanted.sort_by(|a, b| b.total_cmp(a));
            wanted.truncate(k);
            let given = index.nearest(&probe, k).unwrap();
            prop_assert_eq!(given.len(), wanted.len());
            for (near, wanted) in given.iter().zip(&wanted) {
                prop_assert!((near.similarity - wanted).abs() < 1e-5);
                let own = best(&people[&near.id]).unwrap();
                prop_assert!((near.similarity - own).abs() < 1e-5, "{} is {}, not {}", near.id, own, near.similarity);
            }
        }
    }
}
