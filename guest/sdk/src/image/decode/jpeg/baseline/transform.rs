//! The inverse cosine transform of a block, equal to libjpeg's accurate one (`jidctint.c`).
//!
//! It exists because the transform of `libjpeg-turbo-rs` multiplies and stores one number at a time
//! in WebAssembly. Each dot product is one instruction there.

use crate::image::vector::{I16x8, I32x4, U8x16};

/// 64 coefficients times their steps of quantisation, row by row.
pub(super) type Block = [i16; 64];

/// The samples of a block, row by row.
pub(super) type Samples = [[u8; 8]; 8];

/// The sample of a block without coefficients.
const CENTRE: i16 = 128;

/// The largest sum of absolute coefficients of a column at which no step exceeds its integers, so
/// that all implementations agree. The pass over columns multiplies it by up to 4 × 1.39, and twice
/// that must fit 16 bits. Pictures reach less than 2,900, because the energy of a block is bounded.
const MAX_SUM: u32 = 2900;

/// Returns the samples of a block with this [sum of absolute values](super::huffman::Coder::read).
/// None if coefficients are larger than a picture's, because decoders differ in these.
#[inline(always)]
pub(super) fn samples(block: &Block, sum: u32) -> Option<Samples> {
    if sum > MAX_SUM && !is_exact(block, sum) {
        return None;
    }
    let first = block.first().copied().unwrap_or_default();
    Some(if sum == u32::from(first.unsigned_abs()) {
        [[flat(first); 8]; 8]
    } else {
        transformed(block)
    })
}

#[cold]
#[inline(never)]
fn is_exact(block: &Block, sum: u32) -> bool {
    let mut columns = [0; 8];
    for row in block.as_chunks::<8>().0 {
        for (column, value) in columns.iter_mut().zip(row) {
            *column += u32::from(value.unsigned_abs());
        }
    }
    // The sums differ if a coefficient was cut.
    columns.iter().sum::<u32>() == sum && columns.iter().all(|column| *column <= MAX_SUM)
}

/// Returns the sample of a block with only this first coefficient.
#[inline(always)]
fn flat(first: i16) -> u8 {
    (((first + 4) >> 3) + CENTRE).clamp(0, 255) as u8
}

#[inline(always)]
fn transformed(block: &Block) -> Samples {
    let mut rows = [I16x8::new([0; 8]); 8];
    for (row, values) in rows.iter_mut().zip(block.as_chunks().0) {
        *row = I16x8::new(*values);
    }
    let columns = transposed(pass::<11>(rows));
    let [a, b, c, d, e, f, g, h] =
        pass::<18>(columns).map(|samples| samples.add(I16x8::new([CENTRE; 8])));
    let mut pairs = [(a, b), (c, d), (e, f), (g, h)].map(|(a, b)| U8x16::pack(a, b));
    for _ in 0..3 {
        let [a, b, c, d] = pairs;
        pairs = [a.low(c), a.high(c), b.low(d), b.high(d)];
    }
    let [[a, b], [c, d], [e, f], [g, h]] = pairs.map(U8x16::rows);
    [a, b, c, d, e, f, g, h]
}

#[inline(always)]
fn transposed(mut rows: [I16x8; 8]) -> [I16x8; 8] {
    for _ in 0..3 {
        let [a, b, c, d, e, f, g, h] = rows;
        rows = [
            a.low(e),
            a.high(e),
            b.low(f),
            b.high(f),
            c.low(g),
            c.high(g),
            d.low(h),
            d.high(h),
        ];
    }
    rows
}

/// Transforms eight columns of eight coefficients, and divides by 2^`SHIFT`.
#[inline(always)]
fn pass<const SHIFT: u32>(rows: [I16x8; 8]) -> [I16x8; 8] {
    let [a, b, c, d, e, f, g, h] = four_columns::<SHIFT>(rows, I16x8::low);
    let [i, j, k, l, m, n, o, p] = four_columns::<SHIFT>(rows, I16x8::high);
    [
        (a, i),
        (b, j),
        (c, k),
        (d, l),
        (e, m),
        (f, n),
        (g, o),
        (h, p),
    ]
    .map(|(low, high)| I16x8::pack(low, high))
}

/// Returns the sums a·x + b·y of interleaved x and y.
#[inline(always)]
fn sum(pairs: I16x8, [a, b]: [i16; 2]) -> I32x4 {
    pairs.dot(I16x8::pairs(a, b))
}

/// Transforms the four columns that `interleave` selects. Factors are in units of 2^-13, and sums
/// of libjpeg's.
#[inline(always)]
fn four_columns<const SHIFT: u32>(
    [c0, c1, c2, c3, c4, c5, c6, c7]: [I16x8; 8],
    interleave: impl Fn(I16x8, I16x8) -> I16x8,
) -> [I32x4; 8] {
    let rounding = I32x4::splat(1 << (SHIFT - 1));
    let (ends, middles) = (interleave(c0, c4), interleave(c2, c6));
    let plus = sum(ends, [8192, 8192]).add(rounding);
    let minus = sum(ends, [8192, -8192]).add(rounding);
    let (outer, inner) = (sum(middles, [10_703, 4433]), sum(middles, [4433, -10_704]));
    let odd = interleave(c7.add(c3), c5.add(c1));
    let (z3, z4) = (sum(odd, [-6436, 9633]), sum(odd, [9633, 6437]));
    let (c71, c53) = (interleave(c7, c1), interleave(c5, c3));
    let (a, b) = (plus.add(outer), minus.add(inner));
    let (c, d) = (minus.sub(inner), plus.sub(outer));
    let e = sum(c71, [-7373, 4926]).add(z4);
    let f = sum(c53, [-20_995, 4177]).add(z3);
    let g = sum(c53, [-4176, -20_995]).add(z4);
    let h = sum(c71, [-4927, -7373]).add(z3);
    [
        a.add(e),
        b.add(f),
        c.add(g),
        d.add(h),
        d.sub(h),
        c.sub(g),
        b.sub(f),
        a.sub(e),
    ]
    .map(|output| output.shift(SHIFT))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Blocks with as many coefficients as pictures have, and as large ones.
    fn block() -> impl Strategy<Value = Block> {
        let some = prop::collection::vec((0_usize..64, -240_i16..=240), 0..64);
        (some, -1024_i16..=1016).prop_map(|(some, level)| {
            let mut block = [0; 64];
            some.into_iter()
                .for_each(|(index, value)| block[index] = value);
            block[0] = level;
            block
        })
    }

    fn sum_of(block: &Block) -> u32 {
        block
            .iter()
            .map(|value| u32::from(value.unsigned_abs()))
            .sum()
    }

    fn decoders(block: &Block) -> Vec<u8> {
        let mut samples = [0; 64];
        let routines = libjpeg_turbo_rs::simd::detect();
        (routines.idct_islow)(block, &[1; 64], &mut samples);
        samples.to_vec()
    }

    proptest! {
        #[test]
        fn samples_equal_decoder(block in block()) {
            let samples = samples(&block, sum_of(&block)).unwrap();
            prop_assert_eq!(samples.as_flattened(), decoders(&block));
        }
    }

    #[test]
    fn flat_blocks_equal_decoder() {
        for first in -2900..=2900 {
            let mut block = [0; 64];
            block[0] = first;
            let samples = samples(&block, sum_of(&block)).unwrap();
            assert_eq!(samples.as_flattened(), decoders(&block), "{first}");
        }
    }

    /// The largest exact coefficients equal the decoder's, and larger ones have no samples.
    #[test]
    fn largest_blocks_equal_decoder() {
        for signs in 0..256 {
            for row in 0..8 {
                let mut block = [0; 64];
                for column in 0..8 {
                    let sign = if signs >> column & 1 == 0 { 1 } else { -1 };
                    block[8 * row + column] = 2900 * sign;
                }
                let exact = samples(&block, sum_of(&block)).unwrap();
                assert_eq!(exact.as_flattened(), decoders(&block), "{row} {signs:b}");
                block[8 * ((row + 1) % 8)] = 1;
                assert!(samples(&block, sum_of(&block)).is_none());
                block[8 * ((row + 1) % 8)] = 0;
                assert!(samples(&block, sum_of(&block) + (1 << 16)).is_none());
            }
        }
    }
}
