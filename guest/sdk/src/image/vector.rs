//! Vectors of 128 bits with the operations that alignment needs: the instructions of WebAssembly, or
//! plain code on other targets.

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
pub(crate) use self::plain::{I16x8, I32x4};
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) use self::simd128::{I16x8, I32x4};

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod plain {
    #[derive(Clone, Copy)]
    pub(crate) struct I16x8([i16; 8]);

    #[derive(Clone, Copy)]
    pub(crate) struct I32x4([i32; 4]);

    impl I16x8 {
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
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128 {
    use core::arch::wasm32::{
        i8x16_shuffle, i16x8_narrow_i32x4, i32x4_add, i32x4_dot_i16x8, i32x4_mul, i32x4_shl,
        i32x4_shr, i32x4_splat, i32x4_sub, u8x16_narrow_i16x8, u32x4_extract_lane, u64x2, v128,
    };

    #[derive(Clone, Copy)]
    pub(crate) struct I16x8(v128);

    #[derive(Clone, Copy)]
    pub(crate) struct I32x4(v128);

    impl I16x8 {
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
        pub(crate) fn dot(self, other: Self) -> I32x4 {
            I32x4(i32x4_dot_i16x8(self.0, other.0))
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
}
