//! Tests of the index.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const APPROXIMATE: Method = Method::Approximate { above: 0 };

/// Compares every template in 8 bits.
const INT8: Method = Method::Int8 { above: usize::MAX };

/// Compares a shortlist in 8 bits.
const INT8_SHORTLIST: Method = Method::Int8 { above: 0 };

fn cores() -> Cores {
    Cores::new(std::num::NonZeroUsize::new(3).unwrap())
}

fn exact(dimension: usize) -> Index {
    Index::new(dimension, Method::Exact, cores())
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Returns pseudo-random numbers from -1 to 1.
fn vector(seed: usize, dimension: usize) -> Vec<f32> {
    // A fork, because the numbers of neighbouring seeds are correlated.
    let mut random = fastrand::Rng::with_seed(seed as u64).fork();
    (0..dimension).map(|_| 2.0 * random.f32() - 1.0).collect()
}

fn id(text: &str) -> PersonId {
    text.parse().unwrap()
}

fn found(index: &Index, probe: &[f32], k: usize) -> Vec<(String, f32)> {
    index
        .nearest(&[probe.to_vec()], k)
        .unwrap()
        .remove(0)
        .into_iter()
        .map(|near| (near.id.to_string(), near.similarity))
        .collect()
}

#[test]
fn nearest_ranks_people_by_best_template() {
    let index = exact(2);
    index.upsert(&id("east"), &[vec![1.0, 0.0]]).unwrap();
    index
        .upsert(&id("north"), &[vec![0.0, 5.0], vec![3.0, 4.0]])
        .unwrap();
    index.upsert(&id("west"), &[vec![-2.0, 0.0]]).unwrap();
    let near = found(&index, &[10.0, 0.0], 3);
    assert_eq!(
        near.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(),
        ["east", "north", "west"]
    );
    assert!(
        (near[0].1 - 1.0).abs() < 1e-6
            && (near[1].1 - 0.6).abs() < 1e-6
            && (near[2].1 + 1.0).abs() < 1e-6,
        "{near:?}"
    );
    assert_eq!(found(&index, &[1.0, 0.0], 1).len(), 1);
    assert!(found(&index, &[1.0, 0.0], 0).is_empty());
}

#[test]
fn upsert_replaces_templates() {
    let index = exact(2);
    index
        .upsert(&id("a"), &[vec![1.0, 0.0], vec![0.0, 1.0]])
        .unwrap();
    index.upsert(&id("b"), &[vec![0.0, -1.0]]).unwrap();
    index.upsert(&id("a"), &[vec![-1.0, 0.0]]).unwrap();
    assert_eq!(
        found(&index, &[1.0, 0.0], 5),
        [("b".to_owned(), 0.0), ("a".to_owned(), -1.0)]
    );
}

#[test]
fn invalid_vector_changes_nothing() {
    for method in [Method::Exact, APPROXIMATE, INT8, INT8_SHORTLIST] {
        let index = Index::new(2, method, cores());
        index.upsert(&id("a"), &[vec![1.0, 0.0]]).unwrap();
        assert_eq!(
            index.upsert(&id("a"), &[vec![0.0, 1.0], vec![1.0]]),
            Err(IndexError::Dimension {
                actual: 1,
                expected: 2
            })
        );
        for invalid in [[0.0, 0.0], [f32::NAN, 0.0], [f32::INFINITY, 1.0]] {
            assert_eq!(
                index.upsert(&id("a"), &[invalid.to_vec()]),
                Err(IndexError::Direction)
            );
            assert_eq!(
                index.nearest(&[invalid.to_vec()], 1),
                Err(IndexError::Direction)
            );
        }
        assert_eq!(found(&index, &[1.0, 0.0], 1), [("a".to_owned(), 1.0)]);
    }
}

/// Changes of people, and a probe.
type Changes = (Vec<(u8, Vec<[i8; 3]>)>, [i8; 3]);

fn changes() -> impl Strategy<Value = Changes> {
    let numbers = || prop::array::uniform3(-9_i8..9);
    let change = (0_u8..12, prop::collection::vec(numbers(), 0..4));
    (prop::collection::vec(change, 1..40), numbers())
}

/// Applies changes to an index. Compares a search in it, and one among some people, with a plain
/// one.
fn compare_with_plain_search(
    method: Method,
    (changes, probe): &Changes,
    k: usize,
    max_error: f32,
) -> Result<(), TestCaseError> {
    let index = Index::new(3, method, cores());
    let vector = |numbers: &[i8; 3]| numbers.map(f32::from).to_vec();
    let is_usable = |numbers: &[i8; 3]| numbers.iter().any(|&number| number != 0);
    let mut people: BTreeMap<PersonId, Vec<Vec<f32>>> = BTreeMap::new();
    for (person, templates) in changes {
        let id = id(&format!("p{person}"));
        let templates: Vec<Vec<f32>> = templates
            .iter()
            .filter(|t| is_usable(t))
            .map(vector)
            .collect();
        index.upsert(&id, &templates).unwrap();
        people.insert(id, templates);
    }
    people.retain(|_, templates| !templates.is_empty());
    let mut ids = index.ids();
    ids.sort();
    prop_assert_eq!(index.people(), people.len());
    prop_assert!(people.keys().eq(&ids) && ids.iter().all(|id| index.contains(id)));
    prop_assert!(!index.contains(&id("missing")));
    if !is_usable(probe) {
        return Ok(());
    }
    let probe = vector(probe);
    let cosine = |a: &[f32], b: &[f32]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    let best = |id: &PersonId| {
        let of_templates = people[id].iter().map(|t| cosine(&probe, t));
        of_templates.reduce(f32::max).unwrap()
    };
    let some: HashSet<PersonId> = ids.iter().step_by(2).cloned().collect();
    let probes = std::slice::from_ref(&probe);
    for (found, among) in [
        (index.nearest(probes, k).unwrap().remove(0), ids),
        (
            index.nearest_among(probes, k, &some).unwrap().remove(0),
            some.into_iter().collect(),
        ),
    ] {
        let mut expected: Vec<f32> = among.iter().map(best).collect();
        expected.sort_by(|a, b| b.total_cmp(a));
        expected.truncate(k);
        prop_assert_eq!(found.len(), expected.len());
        prop_assert!(found.is_sorted_by_key(|near| (-near.similarity, near.id.clone())));
        for (near, expected) in found.iter().zip(&expected) {
            prop_assert!((near.similarity - expected).abs() < max_error);
            let own = best(&near.id);
            prop_assert!(
                (near.similarity - own).abs() < max_error,
                "{near:?} is not {own}"
            );
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn exact_search_matches_plain_search(changes in changes(), k in 1_usize..6) {
        compare_with_plain_search(Method::Exact, &changes, k, 1e-5)?;
        compare_with_plain_search(APPROXIMATE, &changes, k, 1e-5)?;
    }

    /// The largest number of a vector of three is at most 1, which bounds the error (see `int8`).
    #[test]
    fn int8_search_matches_plain_search(changes in changes(), k in 1_usize..6) {
        compare_with_plain_search(INT8, &changes, k, 0.0069)?;
        compare_with_plain_search(INT8_SHORTLIST, &changes, k, 0.0069)?;
    }
}

#[test]
fn equal_similarity_orders_by_id() {
    for method in [Method::Exact, APPROXIMATE, INT8, INT8_SHORTLIST] {
        let index = Index::new(2, method, cores());
        for name in ["c", "a", "d", "b"] {
            index.upsert(&id(name), &[vec![1.0, 1.0]]).unwrap();
        }
        let names: Vec<String> = found(&index, &[1.0, 0.0], 3)
            .into_iter()
            .map(|(id, _)| id)
            .collect();
        assert_eq!(names, ["a", "b", "c"], "{method:?}");
    }
}

#[test]
fn probe_counts_match_plain_search() {
    // Several chunks, a dimension that fills no whole register, and enough work for helpers.
    let (dimension, people) = (130, 3000);
    let index = exact(dimension);
    let templates: Vec<Vec<f32>> = (0..people).map(|at| vector(at, dimension)).collect();
    for (at, template) in templates.iter().enumerate() {
        index
            .upsert(&id(&format!("p{at}")), std::slice::from_ref(template))
            .unwrap();
    }
    for count in [0, 1, 2, 3, 4, 5, 8, 9, 17] {
        let probes: Vec<Vec<f32>> = (0..count)
            .map(|at| vector(10_000 + at, dimension))
            .collect();
        let found = index.nearest(&probes, 5).unwrap();
        assert_eq!(found.len(), count);
        for (probe, found) in probes.iter().zip(found) {
            let cosine = |t: &Vec<f32>| dot(probe, t) / (dot(probe, probe) * dot(t, t)).sqrt();
            let mut expected: Vec<f32> = templates.iter().map(cosine).collect();
            expected.sort_by(|a, b| b.total_cmp(a));
            assert_eq!(found.len(), 5);
            assert!(
                found
                    .iter()
                    .zip(&expected)
                    .all(|(found, expected)| (found.similarity - expected).abs() < 1e-5),
                "{found:?} {expected:?}"
            );
        }
    }
}

#[test]
fn approximate_search_finds_nearest() {
    let (dimension, people) = (512, 6000);
    let index = Index::new(dimension, APPROXIMATE, cores());
    for at in 0..people {
        index
            .upsert(&id(&format!("p{at}")), &[vector(at, dimension)])
            .unwrap();
    }
    let probes: Vec<Vec<f32>> = (0..50)
        .map(|at| {
            vector(at * 100, dimension)
                .iter()
                .zip(vector(50_000 + at, dimension))
                .map(|(own, other)| own + 1.5 * other)
                .collect()
        })
        .collect();
    let approximate = index.nearest(&probes, 3).unwrap();
    let index = index.with_method(Method::Approximate { above: people });
    for (approximate, exact) in approximate.iter().zip(index.nearest(&probes, 3).unwrap()) {
        assert_eq!(approximate[0].id, exact[0].id);
        assert!((approximate[0].similarity - exact[0].similarity).abs() < 1e-6);
    }
    let index = index.with_method(APPROXIMATE);
    index.upsert(&id("p0"), &[]).unwrap();
    index.upsert(&id("p100"), &[vector(0, dimension)]).unwrap();
    let near = found(&index, &vector(0, dimension), 1);
    assert!(near[0].0 == "p100" && near[0].1 > 0.999, "{near:?}");
}

/// Returns `count` vectors around `centres` centres, as embeddings of several photos are.
fn clustered(count: usize, centres: usize, dimension: usize) -> Vec<Vec<f32>> {
    let near = |at: usize| {
        let centre = vector(90_000 + at % centres, dimension);
        let own = vector(at, dimension);
        centre.iter().zip(own).map(|(c, o)| c + 0.8 * o).collect()
    };
    (0..count).map(near).collect()
}

/// Both searches in 8 bits find the nearest person of the exact search, with nearly the same
/// similarity, among random and among clustered people, and after changes.
#[test]
fn int8_search_finds_nearest() {
    let (dimension, people) = (256, 1200);
    let random = (0..people).map(|at| vector(at, dimension)).collect();
    for templates in [random, clustered(people, 100, dimension)] {
        let templates: Vec<Vec<f32>> = templates;
        let exact = exact(dimension);
        let int8 = Index::new(dimension, INT8, cores());
        for index in [&exact, &int8] {
            for (at, template) in templates.iter().enumerate() {
                index
                    .upsert(&id(&format!("p{at}")), std::slice::from_ref(template))
                    .unwrap();
            }
            for at in (0..people).step_by(50) {
                index.upsert(&id(&format!("p{at}")), &[]).unwrap();
            }
            index.upsert(&id("new"), &templates[100..102]).unwrap();
        }
        let probes: Vec<Vec<f32>> = (0..40)
            .map(|at| {
                let own = &templates[at * 29 + 1];
                let other = vector(50_000 + at, dimension);
                own.iter().zip(other).map(|(own, o)| own + o).collect()
            })
            .collect();
        let expected = exact.nearest(&probes, 3).unwrap();
        let every = int8.nearest(&probes, 3).unwrap();
        let single: Vec<Vec<Candidate>> = probes
            .chunks(1)
            .flat_map(|probe| int8.nearest(probe, 3).unwrap())
            .collect();
        let int8 = int8.with_method(INT8_SHORTLIST);
        let shortlist = int8.nearest(&probes, 3).unwrap();
        for found in [every, single, shortlist] {
            for (found, expected) in found.iter().zip(&expected) {
                let (near, nearest) = (&found[0], &expected[0]);
                assert!(
                    near.id == nearest.id || nearest.similarity - expected[1].similarity < 0.002,
                    "{found:?} {expected:?}"
                );
                assert!(
                    (near.similarity - nearest.similarity).abs() < 0.002,
                    "{found:?} {expected:?}"
                );
            }
        }
    }
}

#[test]
fn int8_alike_finds_same_people() {
    let templates = clustered(300, 60, 128);
    let pairs = [Method::Exact, INT8].map(|method| {
        let index = Index::new(128, method, cores());
        for (at, template) in templates.iter().enumerate() {
            index
                .upsert(&id(&format!("p{at}")), std::slice::from_ref(template))
                .unwrap();
        }
        index.alike(&[id("p7"), id("p8")], 4, 0.3)
    });
    let [exact, int8] = pairs;
    assert_eq!(exact.len(), 8);
    assert_eq!(exact.len(), int8.len());
    for (exact, int8) in exact.iter().zip(&int8) {
        assert_eq!(exact.id, int8.id);
        assert!(
            (exact.similarity - int8.similarity).abs() < 0.004,
            "{exact:?} {int8:?}"
        );
    }
}

#[test]
fn approximate_search_spans_blocks() {
    let (dimension, people) = (32, 2 * sign_bits::BLOCK + 100);
    let index = Index::new(dimension, APPROXIMATE, cores());
    for at in 0..people {
        index
            .upsert(&id(&format!("p{at}")), &[vector(at, dimension)])
            .unwrap();
    }
    let own: Vec<usize> = (0..people).step_by(7001).chain([people - 1]).collect();
    let probes: Vec<Vec<f32>> = own.iter().map(|&at| vector(at, dimension)).collect();
    for probes in [probes.as_slice(), &probes[..1]] {
        for (at, near) in own.iter().zip(index.nearest(probes, 2).unwrap()) {
            assert!(
                near[0].id == id(&format!("p{at}"))
                    && near[0].similarity > 0.999
                    && near.len() == 2,
                "{at} {near:?}"
            );
        }
    }
}

#[test]
fn search_sees_all_templates_or_none() {
    let index = exact(2);
    for at in 0..600 {
        index
            .upsert(&id(&format!("p{at}")), &[vec![-1.0, 0.0]])
            .unwrap();
    }
    // Both templates are east or both are north, so that a probe between sees one similarity.
    let (east, north) = (
        [vec![1.0, 0.0], vec![1.0, 0.0]],
        [vec![0.0, 1.0], vec![0.0, 1.0]],
    );
    index.upsert(&id("x"), &east).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..500).for_each(|at| {
                index
                    .upsert(&id("x"), if at % 2 == 0 { &north } else { &east })
                    .unwrap()
            })
        });
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let near = index.nearest(&[vec![1.0, 0.0], vec![0.0, 1.0]], 1).unwrap();
                    let similarities = [near[0][0].similarity, near[1][0].similarity];
                    assert!([[1.0, 0.0], [0.0, 1.0]].contains(&similarities), "{near:?}");
                }
            });
        }
    });
}
