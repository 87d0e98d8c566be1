//! Tests of the index.

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
