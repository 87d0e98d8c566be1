//! Bilinear interpolation by OpenCV's convention, because the models were trained behind it: pixel centres lie at half
//! coordinates, and shrinking does not average.

/// Bits of an interpolation weight, as in OpenCV's 8-bit path.
const WEIGHT_BITS: u32 = 11;

/// Where a resized row or column is read from: the two source positions and their weights, which add up to 2^11.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tap {
    near: usize,
    far: usize,
    near_weight: i32,
    far_weight: i32,
}

/// The taps of an axis that is resized from `source` to `target` pixels.
fn taps(source: usize, target: usize) -> Vec<Tap> {
    let scale = source as f64 / target as f64;
    let one = f64::from(1 << WEIGHT_BITS);
    let last = source.saturating_sub(1);
    let tap = |index: usize| {
        let centre = ((index as f64 + 0.5) * scale - 0.5).max(0.0);
        let near = (centre.floor() as usize).min(last);
        let far_weight = ((centre - near as f64).min(1.0) * one).round() as i32;
        Tap { near, far: (near + 1).min(last), near_weight: (1 << WEIGHT_BITS) - far_weight, far_weight }
    };
    (0..target).map(tap).collect()
}

/// Resizes RGB pixels row by row: calls `row` with each row's index and its `3 × target` values, in 0 to 255.
///
/// `source` and `target` are width and height in pixels; `pixels` holds 3 × width × height bytes.
pub(crate) fn resize(pixels: &[u8], source: (usize, usize), target: (usize, usize), mut row: impl FnMut(usize, &[u8])) {
    let stride = 3 * source.0;
    if source == target {
        pixels.chunks_exact(stride).enumerate().for_each(|(index, pixels)| row(index, pixels));
        return;
    }
    let columns = taps(source.0, target.0);
    let mut window = Window::new(3 * target.0);
    let mut blended = vec![0; 3 * target.0];
    for (index, tap) in taps(source.1, target.1).into_iter().enumerate() {
        let source_row = |row: usize| pixels.get(row * stride..(row + 1) * stride).unwrap_or_default();
        window.slide(tap.near, |values| stretch(source_row(tap.near), &columns, values));
        if tap.far_weight > 0 {
            window.fetch_far(tap.far, |values| stretch(source_row(tap.far), &columns, values));
        }
        blend(&window.near.1, &window.far.1, tap, &mut blended);
        row(index, &blended);
    }
}

/// The two source rows in use, stretched horizontally. Each is made once, although several rows may be blended of it.
struct Window {
    near: (usize, Vec<i32>),
    far: (usize, Vec<i32>),
}

impl Window {
    fn new(length: usize) -> Self {
        Self { near: (usize::MAX, vec![0; length]), far: (usize::MAX, vec![0; length]) }
    }

    fn slide(&mut self, row: usize, make: impl FnOnce(&mut [i32])) {
        if self.near.0 == row {
            return;
        }
        if self.far.0 == row {
            std::mem::swap(&mut self.near, &mut self.far);
            return;
        }
        make(&mut self.near.1);
        self.near.0 = row;
    }

    fn fetch_far(&mut self, row: usize, make: impl FnOnce(&mut [i32])) {
        if self.far.0 != row {
            make(&mut self.far.1);
            self.far.0 = row;
        }
    }
}

/// Interpolates a row along itself; values are scaled by 2^11.
fn stretch(pixels: &[u8], columns: &[Tap], values: &mut [i32]) {
    for (tap, value) in columns.iter().zip(values.as_chunks_mut::<3>().0) {
        let near = pixels.get(3 * tap.near..).unwrap_or_default();
        // A pixel and the next one lie together; the last one has none.
        let [a, b, c, d, e, f] = match near.first_chunk::<6>() {
            Some(pair) => pair.map(i32::from),
            None => match near.first_chunk::<3>() {
                Some(&[a, b, c]) => [a, b, c, a, b, c].map(i32::from),
                None => continue,
            },
        };
        *value =
            [a * tap.near_weight + d * tap.far_weight, b * tap.near_weight + e * tap.far_weight, c * tap.near_weight + f * tap.far_weight];
    }
}

/// Interpolates between two rows, with the shifts and the rounding of OpenCV's 8-bit path.
fn blend(near: &[i32], far: &[i32], tap: Tap, blended: &mut [u8]) {
    for ((near, far), blended) in near.iter().zip(far).zip(blended) {
        let sum = (((near >> 4) * tap.near_weight) >> 16) + (((far >> 4) * tap.far_weight) >> 16);
        *blended = ((sum + 2) >> 2).clamp(0, 255) as u8;
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
    fn rows_are_interpolated_between_pixel_centres() {
        // Worked by hand: target centres at source 0.25 and 1.75 less a half are 0.25 and 2.25 for 4 to 2 with weights of a half.
        assert_eq!(resized(&grey(&[0, 100, 200, 40]), (4, 1), (2, 1)), grey(&[50, 120]));
        assert_eq!(resized(&grey(&[0, 100]), (2, 1), (4, 1)), grey(&[0, 25, 75, 100]));
        assert_eq!(resized(&grey(&[0, 100]), (1, 2), (1, 4)), grey(&[0, 25, 75, 100]));
    }

    proptest! {
        #[test]
        fn agrees_with_interpolation_in_floating_point(
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
                    let wanted = (at(x0, y0) * (1.0 - fx) + at(x1, y0) * fx) * (1.0 - fy) + (at(x0, y1) * (1.0 - fx) + at(x1, y1) * fx) * fy;
                    let given = f64::from(out[3 * (y * target.0 + x)]);
                    prop_assert!((given - wanted).abs() <= 1.0, "{} {} at {},{}", given, wanted, x, y);
                }
            }
        }
    }
}
