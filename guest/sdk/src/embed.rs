//! Embeddings and the templates made of them.

/// The mean of raw, un-normalised embeddings of one length: a template as the replaced service makes it. Empty if there are none.
///
/// Longer vectors weigh more; a recogniser gives them to clearer faces.
#[must_use]
pub fn mean(embeddings: &[Vec<f32>]) -> Vec<f32> {
    let Some(first) = embeddings.first() else { return Vec::new() };
    let mut sum = vec![0.0_f64; first.len()];
    for embedding in embeddings {
        for (sum, value) in sum.iter_mut().zip(embedding) {
            *sum += f64::from(*value);
        }
    }
    sum.into_iter().map(|sum| (sum / embeddings.len() as f64) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_taken_number_by_number() {
        assert_eq!(mean(&[vec![1.0, -2.0], vec![3.0, 6.0]]), [2.0, 2.0]);
        assert!(mean(&[]).is_empty());
    }
}
