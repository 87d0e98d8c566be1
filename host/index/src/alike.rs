//! Who is alike whom among the people themselves: one person under two ids shows here.

use std::collections::BTreeMap;

use rostro_common::person::PersonId;

use super::{Index, exact};
use crate::top_k::TopK;

/// Two people whose templates are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct AlikePair {
    /// The one that was asked about.
    pub id: PersonId,
    /// The other.
    pub other: PersonId,
    /// Cosine similarity of their two nearest templates.
    pub similarity: f32,
}

impl Index {
    /// Returns for each of `ids` up to `most` other people whose similarity is at least
    /// `threshold`, by the order of the ids and then most similar first. Every template is compared
    /// with, whatever the method of searches: those after the nearest matter here.
    pub fn alike(&self, ids: &[PersonId], most: usize, threshold: f32) -> Vec<AlikePair> {
        let (rows, theirs) = {
            // Both at once: while the places are held, no row changes hands.
            let places = self.places();
            let rows_of = |id| {
                places
                    .of
                    .get(id)
                    .into_iter()
                    .flatten()
                    .map(move |&row| (id, row))
            };
            let theirs: Vec<(&PersonId, usize)> = ids.iter().flat_map(rows_of).collect();
            (self.rows(), theirs)
        };
        let probes: Vec<Vec<f32>> = theirs
            .iter()
            .map(|&(_, row)| rows.values(row).to_vec())
            .collect();
        // A person is always among the nearest to their own template.
        let best = exact::nearest(&rows, &probes, most.saturating_add(1), &self.cores);
        let mut pairs: BTreeMap<(&PersonId, PersonId), f32> = BTreeMap::new();
        for (&(id, _), candidates) in theirs.iter().zip(best.iter().map(TopK::candidates)) {
            for near in candidates
                .into_iter()
                .filter(|near| near.id != *id && near.similarity >= threshold)
            {
                let similarity = pairs.entry((id, near.id)).or_insert(near.similarity);
                *similarity = similarity.max(near.similarity);
            }
        }
        let pair = |((id, other), similarity): ((&PersonId, PersonId), f32)| AlikePair {
            id: id.clone(),
            other,
            similarity,
        };
        let mut pairs: Vec<AlikePair> = pairs.into_iter().map(pair).collect();
        pairs.sort_by(|a, b| {
            a.id.cmp(&b.id)
                .then(b.similarity.total_cmp(&a.similarity))
                .then_with(|| a.other.cmp(&b.other))
        });
        pairs
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::Method;
    use rostro_common::cores::Cores;

    fn id(text: &str) -> PersonId {
        text.parse().unwrap()
    }

    #[test]
    fn alike_finds_nearest_templates_of_others() {
        let index = Index::new(
            2,
            Method::Approximate { above: 0 },
            Cores::new(NonZeroUsize::MIN),
        );
        index
            .upsert(&id("a"), &[vec![1.0, 0.0], vec![0.0, 1.0]])
            .unwrap();
        index.upsert(&id("b"), &[vec![0.1, 1.0]]).unwrap();
        index.upsert(&id("c"), &[vec![-1.0, 0.0]]).unwrap();
        index
            .upsert(&id("d"), &[vec![1.0, 0.05], vec![1.0, 0.5]])
            .unwrap();
        let found = |ids: &[&str], most| -> Vec<(String, String)> {
            let ids: Vec<PersonId> = ids.iter().map(|text| id(text)).collect();
            index
                .alike(&ids, most, 0.9)
                .into_iter()
                .map(|pair| (pair.id.to_string(), pair.other.to_string()))
                .collect()
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            found(&["a", "b", "c", "d"], 9),
            [
                pair("a", "d"),
                pair("a", "b"),
                pair("b", "a"),
                pair("d", "a")
            ]
        );
        assert_eq!(
            found(&["a", "nobody"], 1),
            [pair("a", "d"), pair("a", "b")],
            "one for each template"
        );
        assert!(
            index
                .alike(&[id("a")], 9, 0.9)
                .iter()
                .all(|pair| (0.99..=1.0).contains(&pair.similarity))
        );
        assert!(found(&[], 9).is_empty() && found(&["c"], 9).is_empty());
    }
}
