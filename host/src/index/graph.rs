//! Approximate search: a graph of near neighbours (HNSW, by `usearch`) that leads to rows worth a look.
//!
//! It keeps a copy of each row in bytes, which is a quarter of the row and finer than the graph is; its numbers only choose the rows, and
//! similarities are always those of the rows themselves. A row's number is its key.

use std::sync::{PoisonError, RwLock};

use usearch::{IndexOptions, MetricKind, ScalarKind};

use super::rows::Rows;
use super::spread::spread;
use crate::cores::Cores;

/// Neighbours of a node; more find more, and cost memory and time.
const CONNECTIVITY: usize = 16;

/// Nodes looked at for the neighbours of a new one.
const EXPANSION_ADD: usize = 128;

/// Rows that a search leads to, all of which are compared exactly.
const FOUND: usize = 128;

/// Searches at a time; one that comes when so many are under way is exact.
const SEARCHES: usize = 64;

/// Standard deviations of a number that fit a byte. What lies beyond is cut off, which costs nothing that can be measured.
const RANGE: f32 = 4.0;

/// A graph over rows.
pub(super) struct Graph {
    scale: f32,
    /// Written to where nobody may search: when a row is set or freed.
    nodes: RwLock<usearch::Index>,
}

/// What `usearch` says when it fails: that there is no memory, or no room for one more search.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct GraphError(String);

impl Graph {
    /// A graph over all rows, made on this thread and all idle cores.
    pub(super) fn over(rows: &Rows, dimension: usize, cores: &Cores) -> Result<Self, GraphError> {
        let options = IndexOptions {
            dimensions: rows.stride(),
            metric: MetricKind::Cos,
            quantization: ScalarKind::I8,
            connectivity: CONNECTIVITY,
            expansion_add: EXPANSION_ADD,
            expansion_search: FOUND,
            multi: false,
        };
        let nodes = usearch::Index::new(&options).map_err(told)?;
        // A number of a vector of length one is about this large.
        let deviation = (dimension.max(1) as f32).sqrt().recip();
        let graph = Self { scale: f32::from(i8::MAX) / (RANGE * deviation).min(1.0), nodes: RwLock::new(nodes) };
        let nodes = graph.nodes.read().unwrap_or_else(PoisonError::into_inner);
        reserve(&nodes, rows.end())?;
        let insert = |next: &dyn Fn() -> Option<usize>| {
            while let Some(row) = next() {
                if let Some((_, values)) = rows.get(row) {
                    nodes.add(row as u64, &graph.bytes(values)).map_err(told)?;
                }
            }
            Ok(())
        };
        spread(cores, rows.end(), usize::MAX, insert).into_iter().collect::<Result<(), GraphError>>()?;
        drop(nodes);
        Ok(graph)
    }

    /// Follows a change of rows.
    pub(super) fn update(&self, freed: &[usize], set: &[(usize, &[f32])]) -> Result<(), GraphError> {
        let nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        for &row in freed {
            nodes.remove(row as u64).map_err(told)?;
        }
        if nodes.size() + set.len() > nodes.capacity() {
            reserve(&nodes, nodes.size() + set.len())?;
        }
        for &(row, values) in set {
            nodes.add(row as u64, &self.bytes(values)).map_err(told)?;
        }
        Ok(())
    }

    /// Rows that are near to a probe, at least those of `k` people if so many are near enough to be led to.
    pub(super) fn search(&self, probe: &[f32], k: usize) -> Result<Vec<usize>, GraphError> {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        let found = nodes.search(&self.bytes(probe), FOUND.max(k)).map_err(told)?;
        Ok(found.keys.into_iter().map(|key| key as usize).collect())
    }

    /// What it holds, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).memory_usage()
    }

    fn bytes(&self, values: &[f32]) -> Vec<i8> {
        // Conversion saturates.
        values.iter().map(|value| (value * self.scale).round() as i8).collect()
    }
}

/// Room for twice as many rows, because making room takes long.
fn reserve(nodes: &usearch::Index, rows: usize) -> Result<(), GraphError> {
    nodes.reserve_capacity_and_threads((2 * rows).max(1024), SEARCHES).map_err(told)
}

fn told(error: impl std::fmt::Display) -> GraphError {
    GraphError(error.to_string())
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph").finish_non_exhaustive()
    }
}
