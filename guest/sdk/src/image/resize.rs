//! Bilinear interpolation by OpenCV's convention, because the models were trained with it. Pixel
//! centres lie at half coordinates, and shrinking does not average.

/// Bits of a weight along a row, as in OpenCV's 8-bit path.
const WEIGHT_BITS: u32 = 11;

/// Bits of a weight between two rows. A blended row fits 16 bits, and eight values fit a vector.
const ROW_BITS: u32 = 8;

/// Source of a resized row or column: a position and the weight of the next one. The position has
/// the rest of the weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tap {
    near: usize,
    far_weight: u32,
}

/// Returns the taps of an axis that is resized from `source` to `target` pixels, with weights of
/// `bits` bits.
fn taps(source: usize, target: usize, bits: u32) -> Vec<Tap> {
    let scale = source as f64 / target as f64;
    let last = source.saturating_sub(1);
    let tap = |index: usize| {
        let centre = ((index as f64 + 0.5) * scale - 0.5).max(0.0);
        let near = (centre.floor() as usize).min(last);
        // The last pixel has no next one.
        let far = if near == last {
            0.0
        } else {
            centre - near as f64
        };
        Tap {
            near,
            far_weight: (far * f64::from(1 << bits)).round() as u32,
        }
    };
    (0..target).map(tap).collect()
}

/// Resizes RGB pixels row by row: calls `row` with each row's index and its `3 × target` values, in
/// 0 to 255.
///
/// `source` and `target` are width and height in pixels; `pixels` holds 3 × width × height bytes.
///
/// Rows are blended before they are shortened, because blending runs along memory and leaves one
/// row to sample.
pub(crate) fn resize(
    pixels: &[u8],
    source: (usize, usize),
    target: (usize, usize),
    mut row: impl FnMut(usize, &[u8]),
) {
    let stride = 3 * source.0;
    if source == target {
        pixels
            .chunks_exact(stride)
            .enumerate()
            .for_each(|(index, pixels)| row(index, pixels));
        return;
    }
    let columns = taps(source.0, target.0, WEIGHT_BITS);
    // One more pixel than a row, of weight zero, so that every pixel has a next one.
    let mut blended = vec![0_u16; stride + 3];
    let mut resized = vec![0_u8; 3 * target.0];
    for (index, tap) in taps(source.1, target.1, ROW_BITS).into_iter().enumerate() {
        let source_row = |row: usize| {
            pixels
                .get(row * stride..(row + 1) * stride)
                .unwrap_or_default()
        };
        let near = source_row(tap.near);
        let far = if tap.far_weight == 0 {
            near
        } else {
            source_row(tap.near + 1)
        };
        blend(near, far, tap.far_weight as u16, &mut blended);
        if source.0 == target.0 {
            narrow(&blended, &mut resized);
        } else if source.0 == 2 * target.0 {
            halve(&blended, &mut resized);
        } else {
            interpolate_columns(&blended, &columns, &mut resized);
        }
        row(index, &resized);
    }
}

/// Interpolates between two rows. Values are scaled by 2^8; the greatest just fits 16 bits.
fn blend(near: &[u8], far: &[u8], far_weight: u16, blended: &mut [u16]) {
    let near_weight = (1 << ROW_BITS) - far_weight;
    for ((near, far), blended) in near.iter().zip(far).zip(blended) {
        *blended = u16::from(*near) * near_weight + u16::from(*far) * far_weight;
    }
}

/// Copies a row: the special case of [`interpolate_columns`] without a change of width.
fn narrow(blended: &[u16], resized: &mut [u8]) {
    for (blended, resized) in blended.iter().zip(resized) {
        *resized = ((u32::from(*blended) + (1 << (ROW_BITS - 1))) >> ROW_BITS) as u8;
    }
}

/// Halves a row by the mean of every two pixels: the special case of [`interpolate_columns`].
fn halve(blended: &[u16], resized: &mut [u8]) {
    for (pair, resized) in blended
        .as_chunks::<6>()
        .0
        .iter()
        .zip(resized.as_chunks_mut::<3>().0)
    {
        let [a, b, c, d, e, f] = pair.map(u32::from);
        *resized =
            [a + d, b + e, c + f].map(|sum| ((sum + (1 << ROW_BITS)) >> (ROW_BITS + 1)) as u8);
    }
}

/// Interpolates along a row.
fn interpolate_columns(blended: &[u16], columns: &[Tap], resized: &mut [u8]) {
    const SHIFT: u32 = WEIGHT_BITS + ROW_BITS;
    for (tap, resized) in columns.iter().zip(resized.as_chunks_mut::<3>().0) {
        let Some(pair) = blended
            .get(3 * tap.near..)
            .and_then(|values| values.first_chunk::<6>())
        else {
            continue;
        };
        let [a, b, c, d, e, f] = pair.map(u32::from);
        let near_weight = (1 << WEIGHT_BITS) - tap.far_weight;
        *resized = [(a, d), (b, e), (c, f)].map(|(near, far)| {
            ((near * near_weight + far * tap.far_weight + (1 << (SHIFT - 1))) >> SHIFT) as u8
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resized(pixels: &[u8], source: (usize, usize), target: (usize, usize)) -> Vec<u8> {
        let mut out = Vec::new();
        resize(pixels, source, target, |_, row| out.extend_from_slice(row));
        out
    }

    fn grey(values: &[u8]) -> Vec<u8> {
        values.iter().flat_map(|&value| [value; 3]).collect()
    }

    #[test]
    fn resize_interpolates_between_centres() {
        // Calculated by hand: for 4 to 2 pixels the target centres lie at source 0.5 and 2.5, with
        // weights of a half.
        assert_eq!(
            resized(&grey(&[0, 100, 200, 40]), (4, 1), (2, 1)),
            grey(&[50, 120])
        );
        assert_eq!(
            resized(&grey(&[0, 100]), (2, 1), (4, 1)),
            grey(&[0, 25, 75, 100])
        );
        assert_eq!(
            resized(&grey(&[0, 100]), (1, 2), (1, 4)),
            grey(&[0, 25, 75, 100])
        );
    }

    proptest! {
        #[test]
        fn resize_matches_floating_point(
            source in (1_usize..12, 1_usize..12), target in (1_usize..20, 1_usize..20), seed in any::<u64>(),
        ) {
            let pixels: Vec<u8> = (0..3 * source.0 * source.1).map(|i| (seed.wrapping_mul(i as u64 * 2 + 1) >> 32) as u8).collect();
            let out = resized(&pixels, source, target);
            let axis = |index: usize, source: usize, target: usize| {
                let centre = ((index as f64 + 0.5) * source as f64 / target as f64 - 0.5).clamp(0.0, source as f64 - 1.0);
                (centre as usize, (centre as usize + 1).min(source - 1), centre.fract())
            };
            for y in 0..target.1 {
                for x in 0..target.0 {
                    let ((x0, x1, fx), (y0, y1, fy)) = (axis(x, source.0, target.0), axis(y, source.1, target.1));
                    let at = |x: usize, y: usize| f64::from(pixels[3 * (y * source.0 + x)]);
                    let exact = (at(x0, y0) * (1.0 - fx) + at(x1, y0) * fx) * (1.0 - fy) + (at(x0, y1) * (1.0 - fx) + at(x1, y1) * fx) * fy;
                    let value = f64::from(out[3 * (y * target.0 + x)]);
                    prop_assert!((value - exact).abs() <= 1.0, "{} {} at {},{}", value, exact, x, y);
                }
            }
        }
    }
}
