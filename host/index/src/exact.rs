//! Exact search: compares every row with every probe in one pass over the rows.
//!
//! With one probe the memory bandwidth is the limit, with many probes the arithmetic. While a row
//! is in the cache it is compared with all probes, eight at a time. Rows of 8 bits are converted to
//! floats in the cache, so that a quarter of the memory is read.

use pulp::{Arch, Simd, WithSimd};

use rostro_common::cores::Cores;
use rostro_common::parallel::{NextPart, run_workers};

use crate::rows::{Chunk, Rows};
use crate::top_k::TopK;

/// Probes that a row is compared with at a time. Their sums fill the registers, and are enough to
/// hide the latency of additions.
const GROUP: usize = 8;

/// Rows that are compared with one group of probes before the next. Rows and probes together fit
/// into the first-level cache.
const BLOCK: usize = 8;

/// Products for each helper thread. They take hundreds of microseconds, and starting a thread takes
/// tens.
const PRODUCTS_PER_HELPER: usize = 1 << 20;

/// Chunks in one part of the work. A part takes at most some milliseconds, so that a borrowed core
/// goes back soon.
const CHUNKS_PER_PART: usize = 4;

/// Returns the `k` nearest people for each probe. Probes are normalised and padded to a row.
pub(super) fn nearest<'a>(
    rows: &'a Rows,
    probes: &[Vec<f32>],
    k: usize,
    cores: &Cores,
) -> Vec<TopK<'a>> {
    let products = rows.end() * rows.stride() * probes.len();
    let parts = rows.chunks().len().div_ceil(CHUNKS_PER_PART);
    let scan = |next: NextPart<'_>| {
        Arch::new().dispatch(ExactScan {
            rows,
            probes,
            k,
            next,
        })
    };
    TopK::merge(run_workers(
        cores,
        parts,
        products / PRODUCTS_PER_HELPER,
        scan,
    ))
}

/// Rows whose dot products are computed at a time. Four hide the latency of reading scattered rows.
pub(super) const DOT_ROWS: usize = 4;

/// Returns the dot products of a probe and each of up to [`DOT_ROWS`] rows. `buffer` has the length
/// of as many rows, for those that are not stored as floats.
pub(super) fn dot_products(
    probe: &[f32],
    rows: &Rows,
    numbers: &[usize],
    buffer: &mut [f32],
) -> [f32; DOT_ROWS] {
    struct DotProducts<'v> {
        probe: &'v [f32],
        rows: &'v Rows,
        numbers: &'v [usize],
        buffer: &'v mut [f32],
    }
    impl WithSimd for DotProducts<'_> {
        type Output = [f32; DOT_ROWS];

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> [f32; DOT_ROWS] {
            // Fewer rows are filled up with the probe.
            let mut four = [self.probe; DOT_ROWS];
            for ((place, &row), buffer) in four
                .iter_mut()
                .zip(self.numbers)
                .zip(self.buffer.chunks_exact_mut(self.rows.stride()))
            {
                *place = self.rows.read(row, buffer);
            }
            let mut sums = [simd.splat_f32s(0.0); DOT_ROWS];
            let [a, b, c, d] = four.map(|row| S::as_simd_f32s(row).0);
            for ((((&probe, &a), &b), &c), &d) in S::as_simd_f32s(self.probe)
                .0
                .iter()
                .zip(a)
                .zip(b)
                .zip(c)
                .zip(d)
            {
                for (sum, row) in sums.iter_mut().zip([a, b, c, d]) {
                    *sum = simd.mul_add_e_f32s(probe, row, *sum);
                }
            }
            sums.map(|sum| simd.reduce_sum_f32s(sum))
        }
    }
    Arch::new().dispatch(DotProducts {
        probe,
        rows,
        numbers,
        buffer,
    })
}

/// Scan of one thread.
struct ExactScan<'s, 'a> {
    rows: &'a Rows,
    probes: &'s [Vec<f32>],
    k: usize,
    next: NextPart<'s>,
}

impl<'a> WithSimd for ExactScan<'_, 'a> {
    type Output = Vec<TopK<'a>>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<TopK<'a>> {
        let stride = self.rows.stride();
        let groups: Vec<Vec<f32>> = self
            .probes
            .chunks(GROUP)
            .map(|group| interleave(group, stride, S::F32_LANES))
            .collect();
        let mut best = vec![TopK::new(self.k); self.probes.len()];
        let mut buffer = vec![0.0; BLOCK * stride];
        while let Some(part) = (self.next)() {
            for chunk in self
                .rows
                .chunks()
                .iter()
                .skip(part * CHUNKS_PER_PART)
                .take(CHUNKS_PER_PART)
            {
                for start in (0..chunk.end()).step_by(BLOCK) {
                    let block = start..chunk.end().min(start + BLOCK);
                    let rows = chunk.read(block, stride, &mut buffer);
                    for (probes, best) in groups.iter().zip(best.chunks_mut(GROUP)) {
                        for (row, values) in rows.chunks_exact(stride).enumerate() {
                            let row = start + row;
                            match best.len() {
                                1 => offer(best, dot_one(simd, probes, values), chunk, row),
                                2..=4 => {
                                    offer(best, dot_group::<S, 4>(simd, probes, values), chunk, row)
                                }
                                _ => offer(
                                    best,
                                    dot_group::<S, GROUP>(simd, probes, values),
                                    chunk,
                                    row,
                                ),
                            }
                        }
                    }
                }
            }
        }
        best
    }
}

/// Offers a row to the list of each probe.
#[inline(always)]
fn offer<'a, const N: usize>(
    best: &mut [TopK<'a>],
    similarities: [f32; N],
    chunk: &'a Chunk,
    row: usize,
) {
    for (best, similarity) in best.iter_mut().zip(similarities) {
        if best.can_enter(similarity)
            && let Some(owner) = chunk.owner(row)
        {
            best.offer(similarity, owner);
        }
    }
}

/// Interleaves the probes of a group: the first register of each probe, then the second of each.
/// Missing probes are zeros.
fn interleave(probes: &[Vec<f32>], stride: usize, lanes: usize) -> Vec<f32> {
    let width = match probes.len() {
        1 => 1,
        2..=4 => 4,
        _ => GROUP,
    };
    let mut interleaved = vec![0.0; width * stride];
    for (place, probe) in probes.iter().enumerate() {
        for (group, values) in interleaved
            .chunks_mut(width * lanes)
            .zip(probe.chunks(lanes))
        {
            group
                .iter_mut()
                .skip(place * lanes)
                .zip(values)
                .for_each(|(place, value)| *place = *value);
        }
    }
    interleaved
}

/// Returns the dot products of a row and each of `N` interleaved probes.
#[inline(always)]
fn dot_group<S: Simd, const N: usize>(simd: S, probes: &[f32], row: &[f32]) -> [f32; N] {
    let (probes, _) = S::as_simd_f32s(probes);
    let (row, _) = S::as_simd_f32s(row);
    let mut sums = [simd.splat_f32s(0.0); N];
    for (probes, &row) in probes.as_chunks::<N>().0.iter().zip(row) {
        for (sum, &probe) in sums.iter_mut().zip(probes) {
            *sum = simd.mul_add_e_f32s(probe, row, *sum);
        }
    }
    sums.map(|sum| simd.reduce_sum_f32s(sum))
}

/// Returns the dot product of a row and one probe. Four parts of the row are summed independently,
/// to hide the latency of additions.
#[inline(always)]
fn dot_one<S: Simd>(simd: S, probe: &[f32], row: &[f32]) -> [f32; 1] {
    let (probe, probe_rest) = S::as_simd_f32s(probe).0.as_chunks::<4>();
    let (row, row_rest) = S::as_simd_f32s(row).0.as_chunks::<4>();
    let mut sums = [simd.splat_f32s(0.0); 4];
    for (probe, row) in probe.iter().zip(row) {
        for ((sum, &probe), &row) in sums.iter_mut().zip(probe).zip(row) {
            *sum = simd.mul_add_e_f32s(probe, row, *sum);
        }
    }
    for ((sum, &probe), &row) in sums.iter_mut().zip(probe_rest).zip(row_rest) {
        *sum = simd.mul_add_e_f32s(probe, row, *sum);
    }
    let [a, b, c, d] = sums;
    [simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d)))]
}
