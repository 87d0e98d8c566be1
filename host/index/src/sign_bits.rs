//! The signs of the rows' numbers, one bit each.
//!
//! They lie by number and not by row: so a search reads only the signs of those numbers in which
//! its probe is large, and these tell most. A quarter of the numbers has nearly three quarters of a
//! vector's square; their signs choose as well as all signs do, for a quarter of the reading.

use pulp::Simd;

/// Rows whose signs lie together, and which a writer copies beside a reader (2 MiB at 512 numbers).
/// With fewer, what is read in one go is too short for the processor to fetch ahead: a search of a
/// million took half as long again with a quarter of these.
pub(super) const BLOCK: usize = 1 << 15;

/// Words for the signs of one number.
const WORDS: usize = BLOCK / 64;

/// Numbers whose signs are read; each takes as long as another. Among a million made-up people the
/// nearest was chosen in 98.6 % of searches with 96, in 99.2 % with these and in 99.4 % with 160.
const READ: usize = 128;

/// Signs that are not read.
static NONE: [u64; WORDS] = [0; WORDS];

/// Bits of a count. No count is above `READ`.
const BITS: usize = 8;

/// Every row differs in so many signs or fewer.
pub(super) const ALL: u32 = (1 << BITS) - 1;

/// The signs of a block of rows.
#[derive(Clone, Debug)]
pub(super) struct SignBits(Vec<u64>);

impl SignBits {
    /// Of rows of `stride` numbers.
    pub(super) fn new(stride: usize) -> Self {
        Self(vec![0; stride * WORDS])
    }

    /// Sets a row's.
    pub(super) fn set(&mut self, row: usize, template: &[f32]) {
        for (words, value) in self.0.chunks_exact_mut(WORDS).zip(template) {
            if let Some(word) = words.get_mut(row / 64) {
                *word =
                    *word & !(1 << (row % 64)) | u64::from(value.is_sign_negative()) << (row % 64);
            }
        }
    }

    fn of(&self, number: usize) -> &[u64] {
        self.0
            .get(number * WORDS..(number + 1) * WORDS)
            .unwrap_or_default()
    }
}

/// The numbers in which a probe is largest, of either sign, in the order in which they lie.
#[derive(Clone, Debug)]
pub(super) struct ProbeSigns {
    negative: Vec<usize>,
    positive: Vec<usize>,
}

impl ProbeSigns {
    /// Of a probe.
    pub(super) fn new(probe: &[f32]) -> Self {
        let mut numbers: Vec<(usize, f32)> = probe.iter().copied().enumerate().collect();
        numbers.sort_unstable_by(|(_, a), (_, b)| b.abs().total_cmp(&a.abs()));
        numbers.truncate(READ);
        numbers.sort_unstable_by_key(|&(number, _)| number);
        let (negative, positive): (Vec<_>, Vec<_>) = numbers
            .into_iter()
            .partition(|(_, value)| value.is_sign_negative());
        let number = |(number, _)| number;
        Self {
            negative: negative.into_iter().map(number).collect(),
            positive: positive.into_iter().map(number).collect(),
        }
    }
}

/// In how many signs each row of a block differs from a probe.
#[derive(Debug)]
pub(super) struct HammingCounts {
    /// For each register of rows the first bit of every count, then the second, and so on: so all
    /// rows in a register are counted at once.
    counts: Vec<u64>,
    /// One bit for each row.
    within: Vec<u64>,
}

impl HammingCounts {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            counts: vec![0; WORDS * BITS],
            within: vec![0; WORDS],
        }
    }

    /// Counts for all rows of a block.
    #[inline(always)]
    pub(super) fn count<S: Simd>(&mut self, simd: S, signs: &SignBits, telling: &ProbeSigns) {
        let counts = S::as_mut_simd_u64s(&mut self.counts)
            .0
            .as_chunks_mut::<BITS>()
            .0;
        // Where the probe is negative, those rows differ whose bit is not set: `!x` is `ALL` less
        // `x`, which leaves their number.
        let first = ALL as usize - telling.negative.len();
        for count in counts.iter_mut() {
            count.iter_mut().enumerate().for_each(|(bit, word)| {
                *word = simd.splat_u64s(if first >> bit & 1 == 1 { u64::MAX } else { 0 })
            });
        }
        add(simd, counts, signs, &telling.negative);
        counts
            .iter_mut()
            .flatten()
            .for_each(|word| *word = simd.not_u64s(*word));
        add(simd, counts, signs, &telling.positive);
    }

    /// Finds the rows that differ in `cut` signs or fewer, and says how many these are.
    #[inline(always)]
    pub(super) fn find<S: Simd>(&mut self, simd: S, cut: u32) -> usize {
        let counts = S::as_simd_u64s(&self.counts).0.as_chunks::<BITS>().0;
        for (within, count) in S::as_mut_simd_u64s(&mut self.within)
            .0
            .iter_mut()
            .zip(counts)
        {
            let (mut above, mut equal) = (simd.splat_u64s(0), simd.splat_u64s(u64::MAX));
            for (bit, &count) in count.iter().enumerate().rev() {
                let both = simd.and_u64s(equal, count);
                if cut >> bit & 1 == 1 {
                    equal = both;
                } else {
                    above = simd.or_u64s(above, both);
                    equal = simd.xor_u64s(equal, both);
                }
            }
            *within = simd.not_u64s(above);
        }
        self.within
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// The least cut within which there are `most` rows, if this block has so many.
    #[inline(always)]
    pub(super) fn cut<S: Simd>(&mut self, simd: S, most: usize) -> u32 {
        let (mut low, mut high) = (0, ALL);
        while low < high {
            let middle = u32::midpoint(low, high);
            if self.find(simd, middle) >= most {
                high = middle
            } else {
                low = middle + 1
            }
        }
        low
    }

    /// Gives each row that was found, and in how many signs it differs.
    #[inline(always)]
    pub(super) fn each_found<S: Simd>(&self, _: S, mut found: impl FnMut(usize, u32)) {
        let counts = self.counts.chunks_exact(BITS * S::U64_LANES);
        for (register, (words, count)) in self
            .within
            .chunks_exact(S::U64_LANES)
            .zip(counts)
            .enumerate()
        {
            for (lane, &word) in words.iter().enumerate() {
                if word == 0 {
                    continue;
                }
                let mut bits = [0; BITS];
                bits.iter_mut()
                    .zip(count.iter().skip(lane).step_by(S::U64_LANES))
                    .for_each(|(bit, word)| *bit = *word);
                let mut left = word;
                while left != 0 {
                    let row = left.trailing_zeros();
                    left &= left - 1;
                    let differ = bits
                        .iter()
                        .rev()
                        .fold(0, |differ, word| differ << 1 | (word >> row & 1) as u32);
                    found((register * S::U64_LANES + lane) * 64 + row as usize, differ);
                }
            }
        }
    }
}

/// Counts the bits of these numbers.
#[inline(always)]
fn add<S: Simd>(simd: S, counts: &mut [[S::u64s; BITS]], signs: &SignBits, numbers: &[usize]) {
    for numbers in numbers.chunks(8) {
        let mut eight = [&NONE as &[u64]; 8];
        eight
            .iter_mut()
            .zip(numbers)
            .for_each(|(words, &number)| *words = signs.of(number));
        let [a, b, c, d, e, f, g, h] = eight.map(|words| S::as_simd_u64s(words).0);
        let rows = a.iter().zip(b).zip(c).zip(d).zip(e).zip(f).zip(g).zip(h);
        for (count, (((((((&a, &b), &c), &d), &e), &f), &g), &h)) in counts.iter_mut().zip(rows) {
            *count = with_eight(simd, *count, [a, b, c, d, e, f, g, h]);
        }
    }
}

/// Counts that were increased by each of eight bits.
#[inline(always)]
fn with_eight<S: Simd>(simd: S, count: [S::u64s; BITS], bits: [S::u64s; 8]) -> [S::u64s; BITS] {
    // The sum of three bits, and what is carried.
    let add = |a, b, c| {
        let one = simd.xor_u64s(a, b);
        (
            simd.xor_u64s(one, c),
            simd.or_u64s(simd.and_u64s(a, b), simd.and_u64s(one, c)),
        )
    };
    let [ones, twos, fours, mut rest @ ..] = count;
    let [a, b, c, d, e, f, g, h] = bits;
    let (ones, ab) = add(ones, a, b);
    let (ones, cd) = add(ones, c, d);
    let (twos, abcd) = add(twos, ab, cd);
    let (ones, ef) = add(ones, e, f);
    let (ones, gh) = add(ones, g, h);
    let (twos, efgh) = add(twos, ef, gh);
    let (fours, mut carried) = add(fours, abcd, efgh);
    for bit in &mut rest {
        (*bit, carried) = (simd.xor_u64s(*bit, carried), simd.and_u64s(*bit, carried));
    }
    let [eights, b16, b32, b64, b128] = rest;
    [ones, twos, fours, eights, b16, b32, b64, b128]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulp::{Arch, WithSimd};

    use super::*;

    struct NearestRows<'s>(&'s SignBits, &'s ProbeSigns, u32);

    impl WithSimd for NearestRows<'_> {
        type Output = (usize, Vec<(usize, u32)>);

        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            let mut differing = HammingCounts::new();
            let mut rows = Vec::new();
            differing.count(simd, self.0, self.1);
            let many = differing.find(simd, self.2);
            differing.each_found(simd, |row, differ| rows.push((row, differ)));
            let cut = differing.cut(simd, many + 1);
            assert!(
                cut > self.2
                    && differing.find(simd, cut) > many
                    && differing.find(simd, cut - 1) <= many
            );
            (many, rows)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        #[test]
        fn rows_within_a_cut_are_those_that_a_plain_count_finds(
            seeds in prop::collection::vec((0..BLOCK, any::<u64>()), 1..40), probe in any::<u64>(), stride in 1_usize..20, cut in 0_u32..40,
        ) {
            let stride = 16 * stride;
            let vector = |seed: u64| -> Vec<f32> {
                let number = |at: u64| (seed ^ at).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).wrapping_mul(seed | 1) as i64 as f32;
                (0..stride as u64).map(number).collect()
            };
            let probe = vector(probe);
            let mut telling: Vec<usize> = (0..stride).collect();
            telling.sort_unstable_by(|&a, &b| probe[b].abs().total_cmp(&probe[a].abs()));
            telling.truncate(READ);
            let mut signs = SignBits::new(stride);
            let mut rows = vec![vec![0.0; stride]; BLOCK];
            for (row, seed) in seeds {
                signs.set(row, &vector(seed));
                rows[row] = vector(seed);
            }
            let negative = |value: f32| value.is_sign_negative();
            let differ = |row: &Vec<f32>| telling.iter().filter(|&&at| negative(row[at]) != negative(probe[at])).count() as u32;
            let wanted: Vec<(usize, u32)> = rows.iter().map(differ).enumerate().filter(|&(_, differ)| differ <= cut).collect();
            // A probe that differs in nothing from rows of zeros leaves no further cut to look for.
            prop_assume!(wanted.len() < BLOCK);
            let (many, found) = Arch::new().dispatch(NearestRows(&signs, &ProbeSigns::new(&probe), cut));
            prop_assert_eq!(many, wanted.len());
            prop_assert_eq!(found, wanted);
        }
    }
}
