//! Templates in 8 bits: an int8 code for each number, and one scale for each row.
//!
//! A row's step is 1/127 of its largest number, so each code is wrong by at most half a step. The
//! scale makes the product of a row and its own template 1. The error of a row is therefore
//! perpendicular to the template: a template that is its own probe has a similarity of 1.
//!
//! Error of a similarity at the angle `a`, for vectors of `d` numbers whose largest is `m`:
//!
//! - at most `sin(a) * e / (1 - e)` with `e = m * sqrt(d) / 254`: 0.013 for 512 normally
//!   distributed numbers, if all codes are wrong in the worst direction;
//! - standard deviation about `sin(a) * m / 440`: 0.0003 for the same numbers. Embeddings of faces
//!   have a larger `m`, and 0.0006.
//!
//! docs/performance.md has the errors that `cargo xtask bench search` measures.

use std::ops::Range;

/// Largest code.
const LARGEST: f32 = i8::MAX as f32;

/// Rows of quantised numbers.
#[derive(Clone, Debug)]
pub(super) struct Int8Rows {
    /// `stride` codes for each row; allocated for all rows at once.
    codes: Vec<i8>,
    /// Factor of each row's codes.
    scales: Vec<f32>,
}

impl Int8Rows {
    /// Creates rows of zeros.
    pub(super) fn new(rows: usize, stride: usize) -> Self {
        Self {
            codes: vec![0; rows * stride],
            scales: vec![0.0; rows],
        }
    }

    /// Sets a row to a template of length one.
    pub(super) fn set(&mut self, row: usize, template: &[f32]) {
        let stride = template.len();
        let largest = template.iter().fold(0.0_f32, |max, v| max.max(v.abs()));
        let (Some(codes), Some(scale)) = (
            self.codes.get_mut(row * stride..(row + 1) * stride),
            self.scales.get_mut(row),
        ) else {
            return;
        };
        let codes_per_unit = LARGEST / largest;
        let mut product = 0.0_f64;
        for (code, &value) in codes.iter_mut().zip(template) {
            *code = (value * codes_per_unit).round() as i8;
            product += f64::from(*code) * f64::from(value);
        }
        // Zeros have no direction; they stay zeros.
        *scale = if product > 0.0 {
            (1.0 / product) as f32
        } else {
            0.0
        };
    }

    /// Turns a row into zeros.
    pub(super) fn clear(&mut self, row: usize, stride: usize) {
        self.codes
            .iter_mut()
            .skip(row * stride)
            .take(stride)
            .for_each(|code| *code = 0);
        if let Some(scale) = self.scales.get_mut(row) {
            *scale = 0.0;
        }
    }

    /// Writes rows as floats to the start of `numbers`, and returns them.
    #[inline(always)]
    pub(super) fn read<'n>(
        &self,
        rows: Range<usize>,
        stride: usize,
        numbers: &'n mut [f32],
    ) -> &'n [f32] {
        let codes = self
            .codes
            .get(rows.start * stride..rows.end * stride)
            .unwrap_or_default();
        let scales = self.scales.get(rows).unwrap_or_default();
        for ((numbers, codes), &scale) in numbers
            .chunks_exact_mut(stride)
            .zip(codes.chunks_exact(stride))
            .zip(scales)
        {
            for (number, &code) in numbers.iter_mut().zip(codes) {
                *number = f32::from(code) * scale;
            }
        }
        numbers.get(..codes.len()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normalized(vector: &[f32]) -> Option<Vec<f32>> {
        let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
        (length > 1e-3).then(|| vector.iter().map(|v| v / length).collect())
    }

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter()
            .zip(b)
            .map(|(&a, &b)| f64::from(a) * f64::from(b))
            .sum()
    }

    proptest! {
        /// The error of any similarity is within the documented bound, and a row's own one is 1.
        #[test]
        fn similarity_error_is_bounded(
            (template, probe) in (1_usize..80).prop_flat_map(|dimension| {
                let vector = || prop::collection::vec(-9.0_f32..9.0, dimension);
                (vector(), vector())
            }),
            outlier in 1.0_f32..50.0,
        ) {
            let mut template = template;
            template[0] *= outlier;
            let (Some(template), Some(probe)) = (normalized(&template), normalized(&probe)) else {
                return Ok(());
            };
            let mut rows = Int8Rows::new(3, template.len());
            rows.set(1, &template);
            let mut numbers = vec![f32::NAN; 2 * template.len()];
            let row = rows.read(1..2, template.len(), &mut numbers);
            let largest = template.iter().fold(0.0_f32, |max, v| max.max(v.abs()));
            let e = f64::from(largest) * (template.len() as f64).sqrt() / 254.0;
            let error = (dot(row, &probe) - dot(&template, &probe)).abs();
            prop_assert!(error <= e / (1.0 - e) + 1e-6, "{error}, {e}");
            prop_assert!((dot(row, &template) - 1.0).abs() < 1e-6);
            rows.clear(1, template.len());
            let zeros = rows.read(0..2, template.len(), &mut numbers);
            prop_assert!(zeros.len() == 2 * template.len() && zeros.iter().all(|&v| v == 0.0));
        }
    }

    /// The deviation of errors between random vectors is the documented one.
    #[test]
    fn similarity_error_of_random_vectors() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut normal = |_| (0..12).map(|_| random.f32() - 0.5).sum::<f32>();
        let mut vector = || normalized(&(0..512).map(&mut normal).collect::<Vec<_>>()).unwrap();
        let mut rows = Int8Rows::new(1, 512);
        let mut numbers = vec![0.0; 512];
        let mut squares = 0.0;
        for _ in 0..400 {
            let (template, probe) = (vector(), vector());
            rows.set(0, &template);
            let error = dot(rows.read(0..1, 512, &mut numbers), &probe) - dot(&template, &probe);
            assert!(error.abs() < 0.002, "{error}");
            squares += error * error;
        }
        let deviation = (squares / 400.0_f64).sqrt();
        assert!((0.0002..0.0004).contains(&deviation), "{deviation}");
    }
}
