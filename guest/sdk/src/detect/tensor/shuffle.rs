//! Interleaving of planes to pixels of three bytes, and the reverse.
//!
//! Compilers do not vectorise strides of three, so on WebAssembly the shuffles are explicit; other
//! targets use plain code.

/// Pixels of a block: 16 fill whole vectors, as planes and as pixels.
pub(crate) const BLOCK: usize = 16;

/// Interleaves planes of red, green and blue to pixels of three bytes.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
pub(crate) fn interleave([red, green, blue]: [&[u8; BLOCK]; 3], rgb: &mut [u8; 3 * BLOCK]) {
    for (((pixel, red), green), blue) in rgb
        .as_chunks_mut::<3>()
        .0
        .iter_mut()
        .zip(red)
        .zip(green)
        .zip(blue)
    {
        *pixel = [*red, *green, *blue];
    }
}

/// Returns the red, green and blue of pixels of three bytes.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
#[inline(always)]
pub(crate) fn deinterleave(rgb: &[u8; 3 * BLOCK]) -> [[u8; BLOCK]; 3] {
    let pixels = rgb.as_chunks::<3>().0;
    let mut planes = [[0; BLOCK]; 3];
    let [reds, greens, blues] = &mut planes;
    for ((([r, g, b], red), green), blue) in pixels.iter().zip(reds).zip(greens).zip(blues) {
        (*red, *green, *blue) = (*r, *g, *b);
    }
    planes
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) use self::named::{deinterleave, interleave};

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod named {
    use core::arch::wasm32::{u8x16, u8x16_shuffle, u64x2_extract_lane, v128};

    use super::BLOCK;

    pub(crate) fn interleave([red, green, blue]: [&[u8; BLOCK]; 3], rgb: &mut [u8; 3 * BLOCK]) {
        let (r, g, b) = (load(red), load(green), load(blue));
        // Places red and green first, then blue between them. Indices from 16 on belong to the
        // second vector.
        let first = u8x16_shuffle::<0, 16, 0, 1, 17, 0, 2, 18, 0, 3, 19, 0, 4, 20, 0, 5>(r, g);
        let first =
            u8x16_shuffle::<0, 1, 16, 3, 4, 17, 6, 7, 18, 9, 10, 19, 12, 13, 20, 15>(first, b);
        let second = u8x16_shuffle::<21, 0, 6, 22, 0, 7, 23, 0, 8, 24, 0, 9, 25, 0, 10, 26>(r, g);
        let second =
            u8x16_shuffle::<0, 21, 2, 3, 22, 5, 6, 23, 8, 9, 24, 11, 12, 25, 14, 15>(second, b);
        let third = u8x16_shuffle::<0, 11, 27, 0, 12, 28, 0, 13, 29, 0, 14, 30, 0, 15, 31, 0>(r, g);
        let third =
            u8x16_shuffle::<26, 1, 2, 27, 4, 5, 28, 7, 8, 29, 10, 11, 30, 13, 14, 31>(third, b);
        for (bytes, vector) in rgb
            .as_chunks_mut::<16>()
            .0
            .iter_mut()
            .zip([first, second, third])
        {
            *bytes = store(vector);
        }
    }

    #[inline(always)]
    pub(crate) fn deinterleave(rgb: &[u8; 3 * BLOCK]) -> [[u8; BLOCK]; 3] {
        let [a, b, c] = match rgb.as_chunks::<16>().0 {
            [a, b, c] => [load(a), load(b), load(c)],
            _ => return [[0; BLOCK]; 3],
        };
        // Each takes what the first two vectors have of a colour, and then the rest.
        let red = u8x16_shuffle::<0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 0, 0, 0, 0, 0>(a, b);
        let red = u8x16_shuffle::<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 17, 20, 23, 26, 29>(red, c);
        let green = u8x16_shuffle::<1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 0, 0, 0, 0, 0>(a, b);
        let green = u8x16_shuffle::<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 18, 21, 24, 27, 30>(green, c);
        let blue = u8x16_shuffle::<2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 0, 0, 0, 0, 0, 0>(a, b);
        let blue = u8x16_shuffle::<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 19, 22, 25, 28, 31>(blue, c);
        [red, green, blue].map(store)
    }

    fn load(bytes: &[u8; 16]) -> v128 {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *bytes;
        u8x16(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p)
    }

    fn store(vector: v128) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = u64x2_extract_lane::<0>(vector).to_le_bytes();
        let [i, j, k, l, m, n, o, p] = u64x2_extract_lane::<1>(vector).to_le_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deinterleave_reverses_interleave() {
        let rgb = std::array::from_fn(|index| (7 * index) as u8);
        let [red, green, blue] = deinterleave(&rgb);
        assert_eq!([red[1], green[1], blue[1]], [21, 28, 35]);
        let mut again = [0; 3 * BLOCK];
        interleave([&red, &green, &blue], &mut again);
        assert_eq!(again, rgb);
    }
}
