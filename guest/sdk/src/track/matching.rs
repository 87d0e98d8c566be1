//! Optimal assignment between two sets, of which few pairs are possible.

use std::collections::BTreeMap;

use pathfinding::matrix::Matrix;
use pathfinding::prelude::kuhn_munkres;

/// A possible pair and its weight, above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pair {
    /// Index in the first set.
    pub(super) row: usize,
    /// Index in the second set.
    pub(super) column: usize,
    /// The gain of the pair.
    pub(super) weight: f32,
}

/// The size from which a group is assigned greedily, because the optimal assignment takes cubic
/// time. Detected faces overlap little, so groups are small unless boxes are forged.
const LARGEST_OPTIMAL: usize = 128;

/// Weights are whole numbers of this part in the optimal assignment.
const RESOLUTION: f32 = 1e6;

/// Returns the rows and columns of the assignment with the largest sum of weights. Each row and
/// each column has at most one pair.
///
/// Pairs that share no row or column, directly or by others, are independent groups. Each group is
/// assigned by the Hungarian algorithm (H. W. Kuhn, "The Hungarian Method for the Assignment
/// Problem", 1955).
pub(super) fn heaviest(pairs: &[Pair]) -> Vec<(usize, usize)> {
    groups(pairs).into_iter().flat_map(assigned).collect()
}

fn assigned(group: Vec<Pair>) -> Vec<(usize, usize)> {
    if let [pair] = *group {
        return vec![(pair.row, pair.column)];
    }
    let mut rows = indices(&group, |pair| pair.row);
    let mut columns = indices(&group, |pair| pair.column);
    if rows.len().max(columns.len()) > LARGEST_OPTIMAL {
        return greedy(group);
    }
    // The algorithm needs at least as many columns as rows.
    let is_wide = rows.len() <= columns.len();
    if !is_wide {
        std::mem::swap(&mut rows, &mut columns);
    }
    let mut weights = Matrix::new(rows.len(), columns.len(), 0_i64);
    for pair in &group {
        let (row, column) = if is_wide {
            (pair.row, pair.column)
        } else {
            (pair.column, pair.row)
        };
        if let (Ok(row), Ok(column)) = (rows.binary_search(&row), columns.binary_search(&column))
            && let Some(weight) = weights.get_mut((row, column))
        {
            *weight = ((pair.weight * RESOLUTION) as i64).max(1);
        }
    }
    let (_, chosen) = kuhn_munkres(&weights);
    let pairs = chosen.iter().enumerate().filter_map(|(row, &column)| {
        // A weight of 0 stands for no pair.
        let is_possible = weights.get((row, column)).is_some_and(|weight| *weight > 0);
        let (row, column) = (*rows.get(row)?, *columns.get(column)?);
        is_possible.then_some(if is_wide {
            (row, column)
        } else {
            (column, row)
        })
    });
    pairs.collect()
}

fn greedy(mut group: Vec<Pair>) -> Vec<(usize, usize)> {
    group.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let (mut rows, mut columns) = (BTreeMap::new(), BTreeMap::new());
    for pair in group {
        if !rows.contains_key(&pair.row) && !columns.contains_key(&pair.column) {
            rows.insert(pair.row, pair.column);
            columns.insert(pair.column, pair.row);
        }
    }
    rows.into_iter().collect()
}

fn indices(group: &[Pair], of: impl Fn(&Pair) -> usize) -> Vec<usize> {
    let mut indices: Vec<usize> = group.iter().map(of).collect();
    indices.sort_unstable();
    indices.dedup();
    indices
}

/// Splits pairs into independent groups, by disjoint-set forests.
fn groups(pairs: &[Pair]) -> Vec<Vec<Pair>> {
    let rows = pairs.iter().map(|pair| pair.row + 1).max().unwrap_or(0);
    let columns = pairs.iter().map(|pair| pair.column + 1).max().unwrap_or(0);
    let mut parents: Vec<usize> = (0..rows + columns).collect();
    for pair in pairs {
        let (row, column) = (
            root(&mut parents, pair.row),
            root(&mut parents, rows + pair.column),
        );
        if let Some(parent) = parents.get_mut(row) {
            *parent = column;
        }
    }
    let mut groups: BTreeMap<usize, Vec<Pair>> = BTreeMap::new();
    for pair in pairs {
        let group = root(&mut parents, pair.row);
        groups.entry(group).or_default().push(*pair);
    }
    groups.into_values().collect()
}

fn root(parents: &mut [usize], mut node: usize) -> usize {
    while let Some(&parent) = parents.get(node)
        && parent != node
    {
        let above = parents.get(parent).copied().unwrap_or(parent);
        if let Some(parent) = parents.get_mut(node) {
            *parent = above;
        }
        node = above;
    }
    node
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(weights: &[(usize, usize, f32)]) -> Vec<Pair> {
        let pair = |&(row, column, weight)| Pair {
            row,
            column,
            weight,
        };
        weights.iter().map(pair).collect()
    }

    fn sorted(mut chosen: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
        chosen.sort_unstable();
        chosen
    }

    type Case<'a> = (&'a str, &'a [(usize, usize, f32)], &'a [(usize, usize)]);

    #[test]
    fn heaviest_maximises_sum() {
        let cases: &[Case<'_>] = &[
            ("nothing", &[], &[]),
            ("one pair", &[(3, 7, 0.1)], &[(3, 7)]),
            (
                "two are better than the best",
                &[(0, 0, 0.9), (0, 1, 0.8), (1, 0, 0.8)],
                &[(0, 1), (1, 0)],
            ),
            (
                "one is better than two",
                &[(0, 0, 0.9), (0, 1, 0.3), (1, 0, 0.3)],
                &[(0, 0)],
            ),
            (
                "more rows than columns",
                &[(0, 5, 0.2), (1, 5, 0.4), (2, 5, 0.3)],
                &[(1, 5)],
            ),
            (
                "separate groups",
                &[(0, 0, 0.2), (1, 1, 0.4), (1, 2, 0.5)],
                &[(0, 0), (1, 2)],
            ),
        ];
        for (case, weights, wanted) in cases {
            assert_eq!(sorted(heaviest(&pairs(weights))), *wanted, "{case}");
        }
    }

    /// A group of a forged frame takes no cubic time, and has one pair a row and column.
    #[test]
    fn large_group_is_greedy() {
        let weight = |row: usize, column: usize| 1.0 / (1 + row.abs_diff(column)) as f32;
        let all: Vec<Pair> = (0..300)
            .flat_map(|row| (0..200).map(move |column| (row, column)))
            .map(|(row, column)| Pair {
                row,
                column,
                weight: weight(row, column),
            })
            .collect();
        let wanted: Vec<(usize, usize)> = (0..200).map(|index| (index, index)).collect();
        assert_eq!(sorted(heaviest(&all)), wanted);
    }

    /// Returns the largest sum by trying all assignments.
    fn largest_sum(pairs: &[Pair], row: usize, used: u32) -> f32 {
        if row == 5 {
            return 0.0;
        }
        let without = largest_sum(pairs, row + 1, used);
        pairs
            .iter()
            .filter(|pair| pair.row == row && used & (1 << pair.column) == 0)
            .map(|pair| pair.weight + largest_sum(pairs, row + 1, used | (1 << pair.column)))
            .fold(without, f32::max)
    }

    proptest! {
        #[test]
        fn heaviest_equals_exhaustive_search(
            weights in proptest::collection::btree_map((0..5_usize, 0..5_usize), 0.01..1.0_f32, 0..16)
        ) {
            let all: Vec<Pair> = weights
                .iter()
                .map(|(&(row, column), &weight)| Pair { row, column, weight })
                .collect();
            let chosen = heaviest(&all);
            let sum: f32 = chosen.iter().map(|pair| weights[pair]).sum();
            prop_assert!((sum - largest_sum(&all, 0, 0)).abs() < 1e-4);
            let rows: std::collections::BTreeSet<_> = chosen.iter().map(|pair| pair.0).collect();
            let columns: std::collections::BTreeSet<_> = chosen.iter().map(|pair| pair.1).collect();
            prop_assert_eq!((rows.len(), columns.len()), (chosen.len(), chosen.len()));
        }
    }
}
