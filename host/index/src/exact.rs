//! Exact search: every row against every probe, in one pass over the rows.
//!
//! With one probe the memory is the limit, and with many the arithmetic: a row that is in the cache
//! is compared with all of them, eight at a time.

use pulp::{Arch, Simd, WithSimd};

use rostro_common::cores::Cores;
use rostro_common::parallel::{NextPart, run_workers};

use super::rows::{Chunk, Rows};
use crate::top_k::TopK;

/// Probes that a row is compared with at a time: as many sums as there are registers for, and
/// enough that additions need not wait for each other.
const TOGETHER: usize = 8;

/// Rows that are compared with one group of probes before the next: both together fit the nearest
/// cache.
const BLOCK: usize = 8;

/// Products for which a further thread is worth being started: it takes some tens of microseconds,
/// and they take hundreds.
const WORTH_A_THREAD: usize = 1 << 20;

/// Chunks that a thread takes at a time: work of some milliseconds at the most, so that a core goes
/// back soon.
const TAKEN: usize = 4;

/// The `k` people nearest to each probe. Probes have length one and are as long as a row.
pub(super) fn nearest<'a>(
    rows: &'a Rows,
    probes: &[Vec<f32>],
    k: usize,
    cores: &Cores,
) -> Vec<TopK<'a>> {
    let products = rows.end() * rows.stride() * probes.len();
    let parts = rows.chunks().len().div_ceil(TAKEN);
    let scan = |next: NextPart<'_>| {
        Arch::new().dispatch(ExactScan {
            rows,
            probes,
            k,
            next,
        })
    };
    TopK::merged(run_workers(cores, parts, products / WORTH_A_THREAD, scan))
}

/// The dot products of a probe and each of four rows: so the memory is asked for four at a time,
/// wherever they are.
pub(super) fn dots(probe: &[f32], rows: [&[f32]; 4]) -> [f32; 4] {
    struct DotProducts<'v>(&'v [f32], [&'v [f32]; 4]);
    impl WithSimd for DotProducts<'_> {
        type Output = [f32; 4];

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> [f32; 4] {
            let mut sums = [simd.splat_f32s(0.0); 4];
            let [a, b, c, d] = self.1.map(|row| S::as_simd_f32s(row).0);
            for ((((&probe, &a), &b), &c), &d) in
                S::as_simd_f32s(self.0).0.iter().zip(a).zip(b).zip(c).zip(d)
            {
                for (sum, row) in sums.iter_mut().zip([a, b, c, d]) {
                    *sum = simd.mul_add_e_f32s(probe, row, *sum);
                }
            }
            sums.map(|sum| simd.reduce_sum_f32s(sum))
        }
    }
    Arch::new().dispatch(DotProducts(probe, rows))
}

/// What one thread does.
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
            .chunks(TOGETHER)
            .map(|group| woven(group, stride, S::F32_LANES))
            .collect();
        let mut best = vec![TopK::new(self.k); self.probes.len()];
        while let Some(part) = (self.next)() {
            for chunk in self.rows.chunks().iter().skip(part * TAKEN).take(TAKEN) {
                for (block, rows) in chunk.filled(stride).chunks(BLOCK * stride).enumerate() {
                    for (probes, best) in groups.iter().zip(best.chunks_mut(TOGETHER)) {
                        for (row, values) in rows.chunks_exact(stride).enumerate() {
                            let row = block * BLOCK + row;
                            match best.len() {
                                1 => offer(best, against_one(simd, probes, values), chunk, row),
                                2..=4 => {
                                    offer(best, against::<S, 4>(simd, probes, values), chunk, row)
                                }
                                _ => offer(
                                    best,
                                    against::<S, TOGETHER>(simd, probes, values),
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

#[inline(always)]
fn offer<'a, const N: usize>(
    best: &mut [TopK<'a>],
    similarities: [f32; N],
    chunk: &'a Chunk,
    row: usize,
) {
    for (best, similarity) in best.iter_mut().zip(similarities) {
        if best.may_take(similarity)
            && let Some(owner) = chunk.owner(row)
        {
            best.offer(similarity, owner);
        }
    }
}

/// Probes of a group in the order in which they are read: the first register of each, then the
/// second of each. What is missing is zeros.
fn woven(probes: &[Vec<f32>], stride: usize, lanes: usize) -> Vec<f32> {
    let width = match probes.len() {
        1 => 1,
        2..=4 => 4,
        _ => TOGETHER,
    };
    let mut woven = vec![0.0; width * stride];
    for (place, probe) in probes.iter().enumerate() {
        for (group, values) in woven.chunks_mut(width * lanes).zip(probe.chunks(lanes)) {
            group
                .iter_mut()
                .skip(place * lanes)
                .zip(values)
                .for_each(|(place, value)| *place = *value);
        }
    }
    woven
}

/// The dot products of a row and each of `N` woven probes.
#[inline(always)]
fn against<S: Simd, const N: usize>(simd: S, probes: &[f32], row: &[f32]) -> [f32; N] {
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

/// The dot product of a row and one probe: the row's quarters take the place of further probes.
#[inline(always)]
fn against_one<S: Simd>(simd: S, probe: &[f32], row: &[f32]) -> [f32; 1] {
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
