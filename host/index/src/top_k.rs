//! The best candidates for one probe.

use rostro_common::ids::PersonId;

/// A person who is similar to a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Id of the person.
    pub id: PersonId,
    /// Cosine similarity of the probe and the person's nearest template, -1 to 1.
    pub similarity: f32,
}

/// The `k` people with the highest similarity to one probe so far.
#[derive(Clone, Debug)]
pub(super) struct TopK<'a> {
    k: usize,
    /// Each person once, by descending similarity and then by id.
    people: Vec<(f32, &'a PersonId)>,
    /// Lowest similarity that can still enter.
    min_similarity: f32,
}

impl<'a> TopK<'a> {
    /// Creates an empty list.
    pub(super) fn new(k: usize) -> Self {
        Self {
            k,
            people: Vec::new(),
            min_similarity: if k == 0 {
                f32::INFINITY
            } else {
                f32::NEG_INFINITY
            },
        }
    }

    /// Returns true if a row with this similarity can enter. Most rows of a large gallery cannot.
    pub(super) fn can_enter(&self, similarity: f32) -> bool {
        similarity >= self.min_similarity
    }

    /// Inserts a row if it is among the best. A person keeps only the best row.
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
        if let (true, Some(&(lowest, _))) = (self.people.len() == self.k, self.people.last()) {
            self.min_similarity = lowest;
        }
    }

    /// Merges the results of several threads, each with one list for each probe.
    pub(super) fn merge(threads: Vec<Vec<Self>>) -> Vec<Self> {
        let mut threads = threads.into_iter();
        let mut merged = threads.next().unwrap_or_default();
        for (best, other) in threads.flat_map(|other| other.into_iter().enumerate()) {
            let Some(best) = merged.get_mut(best) else {
                continue;
            };
            for (similarity, owner) in other.people {
                if best.can_enter(similarity) {
                    best.offer(similarity, owner);
                }
            }
        }
        merged
    }

    /// Returns the people as candidates.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let candidate = |&(similarity, id): &(f32, &PersonId)| Candidate {
            id: id.clone(),
            similarity: similarity.clamp(-1.0, 1.0),
        };
        self.people.iter().map(candidate).collect()
    }
}
