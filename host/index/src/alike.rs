//! Search for similar people, which finds one person under two ids.

use std::collections::BTreeMap;

use rostro_common::ids::PersonId;

use crate::Index;
use crate::exact;
use crate::top_k::TopK;

/// Two people with similar templates.
#[derive(Clone, Debug, PartialEq)]
pub struct AlikePair {
    /// Person of the request.
    pub id: PersonId,
    /// Other person.
    pub other: PersonId,
    /// Cosine similarity of their two nearest templates.
    pub similarity: f32,
}

impl Index {
    /// Returns for each of `ids` up to `max` other people with a similarity of at least
    /// `threshold`, by id and then by descending similarity. The search is always exact, because
    /// the people after the nearest matter here.
    pub fn alike(&self, ids: &[PersonId], max: usize, threshold: f32) -> Vec<AlikePair> {
        let (rows, own_rows) = {
            // Under the writer's lock, no row changes its owner between the two reads.
            let positions = self.positions();
            let rows = self.rows();
            let rows_of = |id| {
                let own_rows = positions.of(id, &rows).into_iter();
                own_rows.map(move |row| (id, row))
            };
            let own_rows: Vec<(&PersonId, usize)> = ids.iter().flat_map(rows_of).collect();
            (rows, own_rows)
        };
        let probes: Vec<Vec<f32>> = own_rows
            .iter()
            .map(|&(_, row)| {
                let mut buffer = vec![0.0; rows.stride()];
                rows.read(row, &mut buffer).to_vec()
            })
            .collect();
        // A person is always among the nearest to an own template, hence one more.
        let best = exact::nearest(&rows, &probes, max.saturating_add(1), &self.cores);
        let mut pairs: BTreeMap<(&PersonId, PersonId), f32> = BTreeMap::new();
        for (&(id, _), candidates) in own_rows.iter().zip(best.iter().map(TopK::candidates)) {
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
        let found = |ids: &[&str], max| -> Vec<(String, String)> {
            let ids: Vec<PersonId> = ids.iter().map(|text| id(text)).collect();
            index
                .alike(&ids, max, 0.9)
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
            found(&["a", "missing"], 1),
            [pair("a", "d"), pair("a", "b")],
            "one pair for each template"
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
