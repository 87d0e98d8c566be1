//! The median of measurements.

/// Returns the median: of an even number of values, the larger one in the middle.
///
/// # Panics
///
/// If there are no values, or one is not a number.
pub(crate) fn median<T: Copy + PartialOrd>(values: impl IntoIterator<Item = T>) -> T {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_by(|a, b| a.partial_cmp(b).expect("a measurement is a number"));
    values[values.len() / 2]
}
