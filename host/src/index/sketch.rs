//! Approximate search: the signs of a template's numbers, one bit each, choose the rows that are worth being compared.
//!
//! The share of signs in which two vectors differ is their angle, and a noise that a few hundred of them even out. The signs are a
//! thirty-second of the numbers to read. They belong to a row as its numbers do: nothing is built at the start, and nothing can lag behind.

use pulp::{Arch, Simd, WithSimd};

use super::best::Best;
use super::exact::dot;
use super::rows::{CHUNK, Rows};
use super::spread::spread;
use crate::cores::Cores;

/// The signs of 512 numbers.
pub(super) type Signs = [u64; 8];

/// Numbers whose signs are in one word.
const WORD: usize = 64;

/// Rows that are compared with a probe. Among a million made-up people the nearest is one of these in 99.4 % of searches; twice as many
/// make it 99.6 %.
const COMPARED: usize = 2048;

/// Chunks that a thread takes at a time: work of less than a tenth of a millisecond for one probe.
const TAKEN: usize = 32;

/// Rows for which a further thread is worth being started, a probe each.
const WORTH_A_THREAD: usize = 1 << 15;

/// The signs of a row's numbers.
pub(super) fn signs(values: &[f32]) -> impl Iterator<Item = Signs> {
    let word = |values: &[f32]| values.iter().rev().fold(0, |word, value| word << 1 | u64::from(value.is_sign_negative()));
    values.chunks(WORD * Signs::default().len()).map(move |values| {
        let mut signs = Signs::default();
        signs.iter_mut().zip(values.chunks(WORD)).for_each(|(sign, values)| *sign = word(values));
        signs
    })
}

/// The `k` people nearest to each probe, of those rows whose signs are most like the probe's. Probes have length one and are as long as a
/// row.
pub(super) fn nearest<'a>(rows: &'a Rows, probes: &[Vec<f32>], k: usize, cores: &Cores) -> Vec<Best<'a>> {
    let sketches: Vec<Vec<Signs>> = probes.iter().map(|probe| signs(probe).collect()).collect();
    let most = COMPARED.max(k);
    let choose = |next: &dyn Fn() -> Option<usize>| Arch::new().dispatch(Scan { rows, probes: &sketches, most, next });
    let helpers = rows.end() * probes.len() / WORTH_A_THREAD;
    let mut chosen = spread(cores, rows.chunks().len().div_ceil(TAKEN), helpers, choose).into_iter();
    let mut likely = chosen.next().unwrap_or_default();
    for other in chosen {
        likely.iter_mut().zip(other).for_each(|(likely, other)| likely.rows.extend(other.rows));
    }
    likely.iter_mut().for_each(Likely::prune);

    // Each probe's rows in as many parts as there are cores: with one probe all have work, and with many none waits for long.
    let parts = cores.all();
    let compare = |next: &dyn Fn() -> Option<usize>| {
        let mut best = vec![Best::new(k); probes.len()];
        while let Some(part) = next() {
            let (probe, part) = (part / parts, part % parts);
            let (Some(values), Some(likely), Some(best)) = (probes.get(probe), likely.get(probe), best.get_mut(probe)) else { break };
            for &(_, row) in likely.rows.iter().skip(part).step_by(parts) {
                let Some((owner, row)) = rows.get(row) else { continue };
                let similarity = dot(values, row);
                if best.may_take(similarity) {
                    best.offer(similarity, owner);
                }
            }
        }
        best
    };
    Best::merged(spread(cores, probes.len() * parts, helpers, compare))
}

/// Rows that look like one probe.
#[derive(Clone, Debug)]
struct Likely {
    most: usize,
    /// In how many signs each differs, and which row it is.
    rows: Vec<(u32, usize)>,
    /// What differs in more is of no use.
    cut: u32,
}

impl Likely {
    /// Keeps those that differ least.
    fn prune(&mut self) {
        if let Some(last) = self.most.checked_sub(1)
            && last < self.rows.len()
        {
            let (_, &mut (differ, _), _) = self.rows.select_nth_unstable(last);
            self.cut = differ;
            self.rows.truncate(self.most);
        }
    }
}

/// What one thread does.
struct Scan<'s> {
    rows: &'s Rows,
    probes: &'s [Vec<Signs>],
    most: usize,
    next: &'s dyn Fn() -> Option<usize>,
}

impl WithSimd for Scan<'_> {
    type Output = Vec<Likely>;

    // Nothing but counting of bits, for which the newer processors that are told apart here have an instruction.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<Likely> {
        let mut likely = vec![Likely { most: self.most, rows: Vec::new(), cut: u32::MAX }; self.probes.len()];
        while let Some(part) = (self.next)() {
            for (at, chunk) in self.rows.chunks().iter().enumerate().skip(part * TAKEN).take(TAKEN) {
                for (probe, likely) in self.probes.iter().zip(&mut likely) {
                    for (row, signs) in chunk.signs().chunks_exact(probe.len().max(1)).enumerate() {
                        let differ = signs.iter().zip(probe).map(|(row, probe)| differing(row, probe)).sum();
                        if differ <= likely.cut {
                            likely.rows.push((differ, at * CHUNK + row));
                        }
                    }
                    if likely.rows.len() > 4 * likely.most {
                        likely.prune();
                    }
                }
            }
        }
        likely.iter_mut().for_each(Likely::prune);
        likely
    }
}

#[inline(always)]
fn differing(a: &Signs, b: &Signs) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
}
