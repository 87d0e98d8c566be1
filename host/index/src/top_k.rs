//! The best so far.

use rostro_common::person::PersonId;

use super::Candidate;

/// The `k` people most similar to one probe, of those that were offered.
#[derive(Clone, Debug)]
pub(super) struct TopK<'a> {
    k: usize,
    /// Most similar first, equal ones in the order of their ids, each person once.
    people: Vec<(f32, &'a PersonId)>,
    /// What is less similar than this is of no use.
    least: f32,
}

impl<'a> TopK<'a> {
    /// Nobody yet.
    pub(super) fn new(k: usize) -> Self {
        Self {
            k,
            people: Vec::new(),
            least: if k == 0 {
                f32::INFINITY
            } else {
                f32::NEG_INFINITY
            },
        }
    }

    /// Whether a row that is this similar may be among the best. Nearly no row of a large gallery
    /// is.
    pub(super) fn may_take(&self, similarity: f32) -> bool {
        similarity >= self.least
    }

    /// Takes a row if it is among the best, of which each person keeps only one.
    pub(super) fn offer(&mut self, similarity: f32, owner: &'a PersonId) {
        if let Some(own) = self.people.iter().position(|&(_, id)| id == owner) {
            if self
                .people
                .get(own)
                .is_some_and(|&(before, _)| before >= similarity)
            {
                return;
            }
            self.people.remove(own);
        }
        let place = self.people.partition_point(|&(better, id)| {
            better > similarity || (better == similarity && id < owner)
        });
        self.people.insert(place, (similarity, owner));
        self.people.truncate(self.k);
        if let (true, Some(&(least, _))) = (self.people.len() == self.k, self.people.last()) {
            self.least = least;
        }
    }

    /// For each probe the best of what several threads found for it.
    pub(super) fn merged(threads: Vec<Vec<Self>>) -> Vec<Self> {
        let mut threads = threads.into_iter();
        let mut merged = threads.next().unwrap_or_default();
        for (best, other) in threads.flat_map(|other| other.into_iter().enumerate()) {
            let Some(best) = merged.get_mut(best) else {
                continue;
            };
            for (similarity, owner) in other.people {
                if best.may_take(similarity) {
                    best.offer(similarity, owner);
                }
            }
        }
        merged
    }

    /// What is answered.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let candidate = |&(similarity, id): &(f32, &PersonId)| Candidate {
            id: id.clone(),
            similarity: similarity.clamp(-1.0, 1.0),
        };
        self.people.iter().map(candidate).collect()
    }
}
