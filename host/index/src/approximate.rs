//! Approximate search by binary quantization and exact rescoring.
//!
//! - Method: a template is quantized to its sign bits. The share of differing signs estimates the
//!   angle of two vectors. A search counts the differing signs of every row in the 128 numbers in
//!   which the probe is largest (see `sign_bits`), and compares the 1024 nearest rows exactly.
//! - Cost: 16 MB of signs are read for a million templates instead of 2 GB. A million takes 2.1 ms
//!   instead of 107 for one probe, and 38 ms instead of 572 for 30 probes.
//! - Size: it pays from some hundred thousand templates on. 100,000 take 0.85 ms instead of 13.1.
//! - Recall: the nearest of a million synthetic people was found in 99.2 % of searches, always if
//!   its similarity was 0.5 or above, and 86 % of the nearest five. Similarities stay exact. The
//!   recall has no guaranteed bound, and was not measured with real embeddings.
//! - Upkeep: signs change together with their row, so there is no index to build or to rebuild.
//!
//! `cargo xtask bench search` measures all of this; docs/performance.md has the machine and the
//! alternatives.

use pulp::{Arch, Simd, WithSimd};

use rostro_common::cores::Cores;
use rostro_common::parallel::{NextPart, run_workers};

use crate::exact::{DOT_ROWS, dot_products};
use crate::rows::{RowFormat, Rows};
use crate::sign_bits::{BLOCK, HammingCounts, MAX_DISTANCE, ProbeSigns};
use crate::top_k::TopK;

/// Rows that are compared exactly with a probe, plus ties with the last of them. Twice as many
/// raise the recall among a million synthetic people from 99.2 to 99.6 %, and take 0.5 ms more.
const RESCORED: usize = 1024;

/// Number of rows of 8 bits that are compared. A million synthetic people had a recall of 99.8 %.
const RESCORED_INT8: usize = 4096;

/// Rows, times probes, for each helper thread.
const ROWS_PER_HELPER: usize = 1 << 18;

/// Returns for each probe the `k` nearest people among the rows with the most similar signs.
/// Probes are normalised and padded to a row.
pub(super) fn nearest<'a>(
    rows: &'a Rows,
    probes: &[Vec<f32>],
    k: usize,
    cores: &Cores,
) -> Vec<TopK<'a>> {
    let probe_signs: Vec<ProbeSigns> = probes.iter().map(|probe| ProbeSigns::new(probe)).collect();
    let rescored = match rows.format() {
        RowFormat::Float32 => RESCORED,
        RowFormat::Int8 => RESCORED_INT8,
    };
    let limit = rescored.max(k);
    let scan = |next: NextPart<'_>| {
        Arch::new().dispatch(ApproximateScan {
            rows,
            probes: &probe_signs,
            limit,
            next,
        })
    };
    let helpers = rows.end() * probes.len() / ROWS_PER_HELPER;
    let mut threads = run_workers(cores, rows.signs().len(), helpers, scan).into_iter();
    let mut shortlists = threads.next().unwrap_or_default();
    for other in threads {
        for (shortlist, other) in shortlists.iter_mut().zip(other) {
            for (row, distance) in other.rows {
                shortlist.offer(row, distance);
            }
        }
    }
    shortlists.iter_mut().for_each(Shortlist::trim);

    // The rows of each probe are split into a part for each core, so that one probe occupies all
    // cores.
    let parts = cores.count();
    let rescore = |next: NextPart<'_>| {
        let mut best = vec![TopK::new(k); probes.len()];
        let mut buffer = vec![0.0; DOT_ROWS * rows.stride()];
        while let Some(part) = next() {
            let (probe, part) = (part / parts, part % parts);
            let (Some(values), Some(shortlist), Some(best)) = (
                probes.get(probe),
                shortlists.get(probe),
                best.get_mut(probe),
            ) else {
                break;
            };
            let part: Vec<usize> = shortlist
                .rows
                .iter()
                .skip(part)
                .step_by(parts)
                .map(|&(row, _)| row)
                .collect();
            for part in part.chunks(DOT_ROWS) {
                let similarities = dot_products(values, rows, part, &mut buffer);
                for (&row, similarity) in part.iter().zip(similarities) {
                    if best.can_enter(similarity)
                        && let Some(owner) = rows.owner(row)
                    {
                        best.offer(similarity, owner);
                    }
                }
            }
        }
        best
    };
    TopK::merge(run_workers(cores, probes.len() * parts, helpers, rescore))
}

/// Rows with the smallest Hamming distance to one probe.
#[derive(Clone, Debug)]
struct Shortlist {
    /// Number of rows to keep, apart from ties.
    limit: usize,
    /// Rows with their distances, including some above `max_distance` until [`Self::trim`].
    rows: Vec<(usize, u32)>,
    /// Number of rows by distance.
    histogram: Vec<usize>,
    /// Distance above which rows are dropped, because `limit` rows are nearer.
    max_distance: u32,
    /// Number of rows up to `max_distance`.
    count: usize,
}

impl Shortlist {
    /// Creates an empty list.
    fn new(limit: usize) -> Self {
        Self {
            limit,
            rows: Vec::new(),
            histogram: vec![0; MAX_DISTANCE as usize + 1],
            max_distance: MAX_DISTANCE,
            count: 0,
        }
    }

    /// Adds a row if it is near enough, and lowers `max_distance` if possible.
    fn offer(&mut self, row: usize, distance: u32) {
        if distance > self.max_distance {
            return;
        }
        self.rows.push((row, distance));
        self.count += 1;
        if let Some(rows) = self.histogram.get_mut(distance as usize) {
            *rows += 1;
        }
        while let Some(&farthest) = self.histogram.get(self.max_distance as usize)
            && self.max_distance > 0
            && self.count - farthest >= self.limit
        {
            self.count -= farthest;
            self.max_distance -= 1;
        }
    }

    /// Removes the rows above `max_distance`.
    fn trim(&mut self) {
        self.rows
            .retain(|&(_, distance)| distance <= self.max_distance);
    }
}

/// Scan of one thread.
struct ApproximateScan<'s> {
    rows: &'s Rows,
    probes: &'s [ProbeSigns],
    limit: usize,
    next: NextPart<'s>,
}

impl WithSimd for ApproximateScan<'_> {
    type Output = Vec<Shortlist>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<Shortlist> {
        let mut shortlists = vec![Shortlist::new(self.limit); self.probes.len()];
        let mut counts = HammingCounts::new();
        while let Some(at) = (self.next)() {
            let Some(signs) = self.rows.signs().get(at) else {
                break;
            };
            for (probe, shortlist) in self.probes.iter().zip(&mut shortlists) {
                counts.count(simd, signs, probe);
                // A full first block gives a good distance. Without it all of its rows would enter.
                if shortlist.max_distance == MAX_DISTANCE && (at + 1) * BLOCK <= self.rows.end() {
                    shortlist.max_distance = counts.distance_of(simd, self.limit);
                }
                counts.select(simd, shortlist.max_distance);
                counts.for_each_selected(simd, |row, distance| {
                    let row = at * BLOCK + row;
                    if row < self.rows.end() {
                        shortlist.offer(row, distance);
                    }
                });
            }
        }
        shortlists
    }
}
