//! Vectors of 128 bits with the operations that decoding and alignment need: the instructions of
//! WebAssembly, or plain code on other targets.

/// Whether vectors are instructions. Elsewhere, code that compilers vectorise is faster than these.
pub(crate) const HAS_VECTORS: bool = cfg!(all(target_arch = "wasm32", target_feature = "simd128"));

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
pub(crate) use self::plain::{I16x8, I32x4, U8x16};
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) use self::simd128::{I16x8, I32x4, U8x16};

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod plain {
    use std::array::from_fn;

    #[derive(Clone, Copy)]
    pub(crate) struct I16x8([i16; 8]);

    #[derive(Clone, Copy)]
    pub(crate) struct I32x4([i32; 4]);

    #[derive(Clone, Copy)]
    pub(crate) struct U8x16([u8; 16]);

    impl I16x8 {
        #[inline(always)]
        pub(crate) fn new(lanes: [i16; 8]) -> Self {
            Self(lanes)
        }

        /// Returns a and b in turns.
        #[inline(always)]
        pub(crate) fn pairs(a: i16, b: i16) -> Self {
            Self([a, b, a, b, a, b, a, b])
        }

        /// Returns two neighbouring pixels of three bytes with their channels interleaved: the
        /// first of both, the second, the third. The last two lanes are 0.
        #[inline(always)]
        pub(crate) fn of_pixels([a, b, c, d, e, f, ..]: [u8; 8]) -> Self {
            Self([a, d, b, e, c, f, 0, 0].map(i16::from))
        }

        #[inline(always)]
        pub(crate) fn add(self, other: Self) -> Self {
            self.zip(other, i16::wrapping_add)
        }

        #[inline(always)]
        pub(crate) fn sub(self, other: Self) -> Self {
            self.zip(other, i16::wrapping_sub)
        }

        /// Shifts right and keeps the sign.
        #[inline(always)]
        pub(crate) fn shift(self, bits: u32) -> Self {
            Self(self.0.map(|lane| lane >> bits))
        }

        /// Multiplies by a factor in units of 2^-15, rounded up from a half on.
        #[inline(always)]
        pub(crate) fn scaled(self, factor: i16) -> Self {
            let scale = |lane: i16| (i32::from(lane) * i32::from(factor) + (1 << 14)) >> 15;
            Self(self.0.map(|lane| scale(lane) as i16))
        }

        /// Interleaves the first four lanes of both.
        #[inline(always)]
        pub(crate) fn low(self, other: Self) -> Self {
            let ([a, b, c, d, ..], [e, f, g, h, ..]) = (self.0, other.0);
            Self([a, e, b, f, c, g, d, h])
        }

        /// Interleaves the last four lanes of both.
        #[inline(always)]
        pub(crate) fn high(self, other: Self) -> Self {
            let ([.., a, b, c, d], [.., e, f, g, h]) = (self.0, other.0);
            Self([a, e, b, f, c, g, d, h])
        }

        /// Multiplies lane by lane and adds each two neighbours.
        #[inline(always)]
        pub(crate) fn dot(self, other: Self) -> I32x4 {
            let [a, b, c, d, e, f, g, h] = self.0.map(i32::from);
            let [i, j, k, l, m, n, o, p] = other.0.map(i32::from);
            let sum = i32::wrapping_add;
            I32x4([
                sum(a * i, b * j),
                sum(c * k, d * l),
                sum(e * m, f * n),
                sum(g * o, h * p),
            ])
        }

        /// Joins two vectors, with values limited to 16 bits.
        #[inline(always)]
        pub(crate) fn pack(first: I32x4, second: I32x4) -> Self {
            let ([a, b, c, d], [e, f, g, h]) = (first.0, second.0);
            let limit = |value: i32| value.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
            Self([a, b, c, d, e, f, g, h].map(limit))
        }

        #[inline(always)]
        fn zip(self, other: Self, work: impl Fn(i16, i16) -> i16) -> Self {
            let [a, b, c, d, e, f, g, h] = self.0;
            let [i, j, k, l, m, n, o, p] = other.0;
            let pairs = [
                (a, i),
                (b, j),
                (c, k),
                (d, l),
                (e, m),
                (f, n),
                (g, o),
                (h, p),
            ];
            Self(pairs.map(|(a, b)| work(a, b)))
        }
    }

    impl I32x4 {
        #[inline(always)]
        pub(crate) fn splat(value: i32) -> Self {
            Self([value; 4])
        }

        #[inline(always)]
        pub(crate) fn add(self, other: Self) -> Self {
            self.zip(other, i32::wrapping_add)
        }

        #[inline(always)]
        pub(crate) fn sub(self, other: Self) -> Self {
            self.zip(other, i32::wrapping_sub)
        }

        #[inline(always)]
        pub(crate) fn mul(self, other: Self) -> Self {
            self.zip(other, i32::wrapping_mul)
        }

        #[inline(always)]
        pub(crate) fn shift_left(self, bits: u32) -> Self {
            Self(self.0.map(|value| value << bits))
        }

        /// Shifts right and keeps the sign.
        #[inline(always)]
        pub(crate) fn shift(self, bits: u32) -> Self {
            Self(self.0.map(|value| value >> bits))
        }

        /// Returns the lanes, limited to 0 to 255.
        #[inline(always)]
        pub(crate) fn bytes(self) -> [u8; 4] {
            self.0.map(|value| value.clamp(0, 255) as u8)
        }

        #[inline(always)]
        fn zip(self, other: Self, work: impl Fn(i32, i32) -> i32) -> Self {
            let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
            Self([work(a, e), work(b, f), work(c, g), work(d, h)])
        }
    }

    impl U8x16 {
        /// Joins two vectors, with values limited to 0 to 255.
        #[inline(always)]
        pub(crate) fn pack(first: I16x8, second: I16x8) -> Self {
            let lane = |index: usize| {
                let lanes = if index < 8 { &first.0 } else { &second.0 };
                let lane = lanes.get(index % 8).copied().unwrap_or_default();
                lane.clamp(0, 255) as u8
            };
            Self(from_fn(lane))
        }

        /// Interleaves the first eight lanes of both.
        #[inline(always)]
        pub(crate) fn low(self, other: Self) -> Self {
            self.interleaved(other, 0)
        }

        /// Interleaves the last eight lanes of both.
        #[inline(always)]
        pub(crate) fn high(self, other: Self) -> Self {
            self.interleaved(other, 8)
        }

        #[inline(always)]
        pub(crate) fn new(lanes: [u8; 16]) -> Self {
            Self(lanes)
        }

        #[inline(always)]
        pub(crate) fn bytes(self) -> [u8; 16] {
            self.0
        }

        /// Returns the first and the last eight lanes, in 16 bits.
        #[inline(always)]
        pub(crate) fn halves(self) -> [I16x8; 2] {
            self.rows().map(|lanes| I16x8(lanes.map(i16::from)))
        }

        /// Returns the first and the last eight lanes.
        #[inline(always)]
        pub(crate) fn rows(self) -> [[u8; 8]; 2] {
            let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.0;
            [[a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]]
        }

        #[inline(always)]
        fn interleaved(self, other: Self, begin: usize) -> Self {
            let lane = |index: usize| {
                let lanes = if index.is_multiple_of(2) {
                    &self.0
                } else {
                    &other.0
                };
                lanes.get(begin + index / 2).copied().unwrap_or_default()
            };
            Self(from_fn(lane))
        }
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128 {
    use core::arch::wasm32::{
        i8x16_shuffle, i16x8, i16x8_add, i16x8_extend_high_u8x16, i16x8_extend_low_u8x16,
        i16x8_narrow_i32x4, i16x8_q15mulr_sat, i16x8_shr, i16x8_shuffle, i16x8_splat, i16x8_sub,
        i32x4_add, i32x4_dot_i16x8, i32x4_mul, i32x4_shl, i32x4_shr, i32x4_splat, i32x4_sub, u8x16,
        u8x16_narrow_i16x8, u32x4_extract_lane, u64x2, u64x2_extract_lane, v128,
    };

    #[derive(Clone, Copy)]
    pub(crate) struct I16x8(v128);

    #[derive(Clone, Copy)]
    pub(crate) struct I32x4(v128);

    #[derive(Clone, Copy)]
    pub(crate) struct U8x16(v128);

    impl I16x8 {
        #[inline(always)]
        pub(crate) fn new([a, b, c, d, e, f, g, h]: [i16; 8]) -> Self {
            Self(i16x8(a, b, c, d, e, f, g, h))
        }

        #[inline(always)]
        pub(crate) fn pairs(a: i16, b: i16) -> Self {
            Self(i32x4_splat(i32::from(b) << 16 | i32::from(a as u16)))
        }

        #[inline(always)]
        pub(crate) fn of_pixels(bytes: [u8; 8]) -> Self {
            let bytes = u64x2(u64::from_le_bytes(bytes), 0);
            // Indices from 8 on select zeros.
            Self(i8x16_shuffle::<
                0,
                8,
                3,
                8,
                1,
                8,
                4,
                8,
                2,
                8,
                5,
                8,
                8,
                8,
                8,
                8,
            >(bytes, bytes))
        }

        #[inline(always)]
        pub(crate) fn add(self, other: Self) -> Self {
            Self(i16x8_add(self.0, other.0))
        }

        #[inline(always)]
        pub(crate) fn shift(self, bits: u32) -> Self {
            Self(i16x8_shr(self.0, bits))
        }

        #[inline(always)]
        pub(crate) fn sub(self, other: Self) -> Self {
            Self(i16x8_sub(self.0, other.0))
        }

        #[inline(always)]
        pub(crate) fn scaled(self, factor: i16) -> Self {
            Self(i16x8_q15mulr_sat(self.0, i16x8_splat(factor)))
        }

        #[inline(always)]
        pub(crate) fn low(self, other: Self) -> Self {
            Self(i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(self.0, other.0))
        }

        #[inline(always)]
        pub(crate) fn high(self, other: Self) -> Self {
            Self(i16x8_shuffle::<4, 12, 5, 13, 6, 14, 7, 15>(self.0, other.0))
        }

        #[inline(always)]
        pub(crate) fn dot(self, other: Self) -> I32x4 {
            I32x4(i32x4_dot_i16x8(self.0, other.0))
        }

        #[inline(always)]
        pub(crate) fn pack(first: I32x4, second: I32x4) -> Self {
            Self(i16x8_narrow_i32x4(first.0, second.0))
        }
    }

    impl I32x4 {
        #[inline(always)]
        pub(crate) fn splat(value: i32) -> Self {
            Self(i32x4_splat(value))
        }

        #[inline(always)]
        pub(crate) fn add(self, other: Self) -> Self {
            Self(i32x4_add(self.0, other.0))
        }

        #[inline(always)]
        pub(crate) fn sub(self, other: Self) -> Self {
            Self(i32x4_sub(self.0, other.0))
        }

        #[inline(always)]
        pub(crate) fn mul(self, other: Self) -> Self {
            Self(i32x4_mul(self.0, other.0))
        }

        #[inline(always)]
        pub(crate) fn shift_left(self, bits: u32) -> Self {
            Self(i32x4_shl(self.0, bits))
        }

        #[inline(always)]
        pub(crate) fn shift(self, bits: u32) -> Self {
            Self(i32x4_shr(self.0, bits))
        }

        #[inline(always)]
        pub(crate) fn bytes(self) -> [u8; 4] {
            let words = i16x8_narrow_i32x4(self.0, self.0);
            u32x4_extract_lane::<0>(u8x16_narrow_i16x8(words, words)).to_le_bytes()
        }
    }

    impl U8x16 {
        #[inline(always)]
        pub(crate) fn pack(first: I16x8, second: I16x8) -> Self {
            Self(u8x16_narrow_i16x8(first.0, second.0))
        }

        #[inline(always)]
        pub(crate) fn low(self, other: Self) -> Self {
            Self(i8x16_shuffle::<
                0,
                16,
                1,
                17,
                2,
                18,
                3,
                19,
                4,
                20,
                5,
                21,
                6,
                22,
                7,
                23,
            >(self.0, other.0))
        }

        #[inline(always)]
        pub(crate) fn high(self, other: Self) -> Self {
            Self(i8x16_shuffle::<
                8,
                24,
                9,
                25,
                10,
                26,
                11,
                27,
                12,
                28,
                13,
                29,
                14,
                30,
                15,
                31,
            >(self.0, other.0))
        }

        #[inline(always)]
        pub(crate) fn new([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]: [u8; 16]) -> Self {
            Self(u8x16(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p))
        }

        #[inline(always)]
        pub(crate) fn bytes(self) -> [u8; 16] {
            let [[a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]] = self.rows();
            [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
        }

        #[inline(always)]
        pub(crate) fn halves(self) -> [I16x8; 2] {
            [
                I16x8(i16x8_extend_low_u8x16(self.0)),
                I16x8(i16x8_extend_high_u8x16(self.0)),
            ]
        }

        #[inline(always)]
        pub(crate) fn rows(self) -> [[u8; 8]; 2] {
            [
                u64x2_extract_lane::<0>(self.0).to_le_bytes(),
                u64x2_extract_lane::<1>(self.0).to_le_bytes(),
            ]
        }
    }
}
