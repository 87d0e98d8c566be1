//! Tests of the index.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const APPROXIMATE: Method = Method::Approximate { above: 0 };

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
    let index = exact(2);
    index.upsert(&id("a"), &[vec![1.0, 0.0]]).unwrap();
    assert_eq!(
        index.upsert(&id("a"), &[vec![0.0, 1.0], vec![1.0]]),
        Err(IndexError::Dimension {
            actual: 1,
            expected: 2
        })
    );
    assert_eq!(
        index.upsert(&id("a"), &[vec![0.0, 0.0]]),
        Err(IndexError::Direction)
    );
    assert_eq!(
        index.nearest(&[vec![f32::NAN, 0.0]], 1),
        Err(IndexError::Direction)
    );
    assert_eq!(found(&index, &[1.0, 0.0], 1), [("a".to_owned(), 1.0)]);
}

proptest! {
    #[test]
    fn exact_search_matches_plain_search(
        changes in prop::collection::vec(
            (0_u8..12, prop::collection::vec(prop::array::uniform3(-9_i8..9), 1..4)),
            1..40,
        ),
        probe in prop::array::uniform3(-9_i8..9),
        k in 1_usize..6,
    ) {
        let index = exact(3);
        let vector = |numbers: &[i8; 3]| numbers.map(f32::from).to_vec();
        let is_usable = |numbers: &[i8; 3]| numbers.iter().any(|&number| number != 0);
        let mut people: BTreeMap<PersonId, Vec<Vec<f32>>> = BTreeMap::new();
        for (person, templates) in &changes {
            let id = id(&format!("p{person}"));
            let templates: Vec<Vec<f32>> =
                templates.iter().filter(|t| is_usable(t)).map(vector).collect();
            index.upsert(&id, &templates).unwrap();
            people.insert(id, templates);
        }
        prop_assume!(is_usable(&probe));
        let probe = vector(&probe);
        let cosine = |a: &[f32], b: &[f32]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        let best = |templates: &Vec<Vec<f32>>| {
            templates.iter().map(|t| cosine(&probe, t)).reduce(f32::max)
        };
        let mut expected: Vec<f32> = people.values().filter_map(best).collect();
        expected.sort_by(|a, b| b.total_cmp(a));
        expected.truncate(k);
        let found = index.nearest(std::slice::from_ref(&probe), k).unwrap().remove(0);
        prop_assert_eq!(found.len(), expected.len());
        for (near, expected) in found.iter().zip(&expected) {
            prop_assert!((near.similarity - expected).abs() < 1e-5);
            let own = best(&people[&near.id]).unwrap();
            prop_assert!((near.similarity - own).abs() < 1e-5, "{near:?} is not {own}");
        }
    }
}

#[test]
fn equal_similarity_orders_by_id() {
    for method in [Method::Exact, APPROXIMATE] {
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
