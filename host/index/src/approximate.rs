//! Approximate search: the [signs](super::signs) of a template's numbers choose the rows that are
//! worth being compared.
//!
//! The share of signs in which two vectors differ is their angle, and a noise that a few hundred of
//! them even out. They belong to a row as its numbers do: nothing is built at the start, and
//! nothing can lag behind.

use pulp::{Arch, Simd, WithSimd};

use rostro_common::cores::Cores;
use rostro_common::parallel::{NextPart, run_workers};

use super::exact::dots;
use super::rows::Rows;
use crate::sign_bits::{ALL, BLOCK, HammingCounts, ProbeSigns};
use crate::top_k::TopK;

/// Rows that are compared with a probe, and those beside that differ in as many signs as the last
/// of these. Twice as many find the nearest of a million made-up people in 99.6 % of searches
/// instead of 99.2 %, and take half a millisecond more.
const COMPARED: usize = 1024;

/// Rows for which a further thread is worth being started, a probe each.
const WORTH_A_THREAD: usize = 1 << 18;

/// The `k` people nearest to each probe, of those rows whose signs are most like the probe's.
/// Probes have length one and are as long as a row.
pub(super) fn nearest<'a>(
    rows: &'a Rows,
    probes: &[Vec<f32>],
    k: usize,
    cores: &Cores,
) -> Vec<TopK<'a>> {
    let telling: Vec<ProbeSigns> = probes.iter().map(|probe| ProbeSigns::new(probe)).collect();
    let most = COMPARED.max(k);
    let choose = |next: NextPart<'_>| {
        Arch::new().dispatch(ApproximateScan {
            rows,
            probes: &telling,
            most,
            next,
        })
    };
    let helpers = rows.end() * probes.len() / WORTH_A_THREAD;
    let mut chosen = run_workers(cores, rows.signs().len(), helpers, choose).into_iter();
    let mut likely = chosen.next().unwrap_or_default();
    for other in chosen {
        likely.iter_mut().zip(other).for_each(|(likely, other)| {
            other
                .rows
                .into_iter()
                .for_each(|(row, differ)| likely.offer(row, differ))
        });
    }
    likely.iter_mut().for_each(Shortlist::finish);

    // Each probe's rows in as many parts as there are cores: with one probe all have work, and with
    // many none waits for long.
    let parts = cores.count();
    let compare = |next: NextPart<'_>| {
        let mut best = vec![TopK::new(k); probes.len()];
        while let Some(part) = next() {
            let (probe, part) = (part / parts, part % parts);
            let (Some(values), Some(likely), Some(best)) =
                (probes.get(probe), likely.get(probe), best.get_mut(probe))
            else {
                break;
            };
            let part: Vec<usize> = likely
                .rows
                .iter()
                .skip(part)
                .step_by(parts)
                .map(|&(row, _)| row)
                .collect();
            for part in part.chunks(4) {
                let mut four = [values.as_slice(); 4];
                four.iter_mut()
                    .zip(part)
                    .for_each(|(place, &row)| *place = rows.values(row));
                for (&row, similarity) in part.iter().zip(dots(values, four)) {
                    if best.may_take(similarity)
                        && let Some(owner) = rows.owner(row)
                    {
                        best.offer(similarity, owner);
                    }
                }
            }
        }
        best
    };
    TopK::merged(run_workers(cores, probes.len() * parts, helpers, compare))
}

/// Rows that look like one probe.
#[derive(Clone, Debug)]
struct Shortlist {
    most: usize,
    /// Which row, and in how many signs it differs.
    rows: Vec<(usize, u32)>,
    /// How many differ in so many signs.
    of: Vec<usize>,
    /// What differs in more is of no use: with fewer there are `most`.
    cut: u32,
    /// How many do not.
    within: usize,
}

impl Shortlist {
    /// Nothing yet.
    fn new(most: usize) -> Self {
        Self {
            most,
            rows: Vec::new(),
            of: vec![0; ALL as usize + 1],
            cut: ALL,
            within: 0,
        }
    }

    /// Takes a row.
    fn offer(&mut self, row: usize, differ: u32) {
        if differ > self.cut {
            return;
        }
        self.rows.push((row, differ));
        self.within += 1;
        if let Some(of) = self.of.get_mut(differ as usize) {
            *of += 1;
        }
        while let Some(&last) = self.of.get(self.cut as usize)
            && self.cut > 0
            && self.within - last >= self.most
        {
            self.within -= last;
            self.cut -= 1;
        }
    }

    /// Forgets those that turned out to be of no use.
    fn finish(&mut self) {
        self.rows.retain(|&(_, differ)| differ <= self.cut);
    }
}

/// What one thread does.
struct ApproximateScan<'s> {
    rows: &'s Rows,
    probes: &'s [ProbeSigns],
    most: usize,
    next: NextPart<'s>,
}

impl WithSimd for ApproximateScan<'_> {
    type Output = Vec<Shortlist>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<Shortlist> {
        let mut likely = vec![Shortlist::new(self.most); self.probes.len()];
        let mut differing = HammingCounts::new();
        while let Some(at) = (self.next)() {
            let Some(signs) = self.rows.signs().get(at) else {
                break;
            };
            for (probe, likely) in self.probes.iter().zip(&mut likely) {
                differing.count(simd, signs, probe);
                // A whole block says well what is of use: without it the first rows would all be
                // taken.
                if likely.cut == ALL && (at + 1) * BLOCK <= self.rows.end() {
                    likely.cut = differing.cut(simd, self.most);
                }
                differing.find(simd, likely.cut);
                differing.each_found(simd, |row, differ| {
                    let row = at * BLOCK + row;
                    if row < self.rows.end() {
                        likely.offer(row, differ);
                    }
                });
            }
        }
        likely
    }
}
