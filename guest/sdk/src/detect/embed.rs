//! Vector functions for embeddings and templates.
//!
//! All vectors have one length D, the recogniser's dimension. Means use 64-bit floats.

/// Returns the mean of raw, un-normalised embeddings of one length, number by number: the replaced
/// service's template. Empty if there are none.
///
/// Longer vectors have more weight; a recogniser returns them for clearer faces.
#[must_use]
pub fn mean(embeddings: &[Vec<f32>]) -> Vec<f32> {
    let Some(first) = embeddings.first() else {
        return Vec::new();
    };
    let mut sum = vec![0.0_f64; first.len()];
    for embedding in embeddings {
        for (sum, value) in sum.iter_mut().zip(embedding) {
            *sum += f64::from(*value);
        }
    }
    sum.into_iter()
        .map(|sum| (sum / embeddings.len() as f64) as f32)
        .collect()
}

/// Returns the cosine similarity of two vectors of one length, -1 to 1, by which the host compares
/// embeddings. 0 if either has no direction.
#[must_use]
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot: f64 = a
        .iter()
        .zip(b)
        .map(|(&a, &b)| f64::from(a) * f64::from(b))
        .sum();
    let cosine = dot / (length(a) * length(b));
    if cosine.is_finite() {
        cosine.clamp(-1.0, 1.0) as f32
    } else {
        0.0
    }
}

/// Returns the vector of equal direction and length 1; None if it has no direction.
#[must_use]
pub fn normalized(vector: &[f32]) -> Option<Vec<f32>> {
    let length = length(vector);
    length.is_normal().then(|| {
        vector
            .iter()
            .map(|&value| (f64::from(value) / length) as f32)
            .collect()
    })
}

/// Returns the Euclidean norm.
fn length(vector: &[f32]) -> f64 {
    vector
        .iter()
        .map(|&value| f64::from(value) * f64::from(value))
        .sum::<f64>()
        .sqrt()
}

/// Combines embeddings of one face near and at a distance. The result is halfway between the
/// directions of `near` and of the mean of `far`, with the Euclidean norm of `near`.
///
/// `near` is the raw embedding of a face, `far` are raw embeddings of the face after
/// [`simulate_distance`](crate::distance::simulate_distance). Returns `near` if `far` has no
/// direction or another length.
#[must_use]
pub fn near_and_far(near: &[f32], far: &[Vec<f32>]) -> Vec<f32> {
    let far = mean(far);
    let scale = length(near) / length(&far);
    let sum: Vec<f64> = near
        .iter()
        .zip(&far)
        .map(|(&near, &far)| f64::from(near) + scale * f64::from(far))
        .collect();
    let stretch = length(near) / sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    if !stretch.is_normal() || sum.len() != near.len() {
        return near.to_vec();
    }
    sum.into_iter()
        .map(|value| (stretch * value) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of the embeddings have no influence on their weights.
    #[test]
    fn near_and_far_weigh_equally() {
        let both = near_and_far(&[2.0, 0.0], &[vec![0.0, 7.0], vec![0.0, 9.0]]);
        assert!(
            both.iter()
                .all(|value| (value - 2.0_f32.sqrt()).abs() < 1e-6),
            "{both:?}"
        );
        for far in [
            vec![],
            vec![vec![0.0, 0.0]],
            vec![vec![f32::NAN, 1.0]],
            vec![vec![-3.0, 0.0]],
        ] {
            assert_eq!(near_and_far(&[2.0, 0.0], &far), [2.0, 0.0], "{far:?}");
        }
    }

    #[test]
    fn cosine_ignores_lengths() {
        assert_eq!(
            (
                cosine(&[2.0, 0.0], &[5.0, 0.0]),
                cosine(&[1.0, 0.0], &[0.0, 3.0]),
                cosine(&[1.0], &[-2.0])
            ),
            (1.0, 0.0, -1.0)
        );
        assert_eq!(
            (cosine(&[0.0], &[1.0]), cosine(&[f32::NAN], &[1.0])),
            (0.0, 0.0)
        );
        assert_eq!(
            (normalized(&[3.0, 4.0]), normalized(&[0.0, 0.0])),
            (Some(vec![0.6, 0.8]), None)
        );
    }

    #[test]
    fn mean_is_elementwise() {
        assert_eq!(mean(&[vec![1.0, -2.0], vec![3.0, 6.0]]), [2.0, 2.0]);
        assert!(mean(&[]).is_empty());
    }
}
