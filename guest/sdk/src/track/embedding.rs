//! Embeddings of tracks in a byte a number.

use serde::{Deserialize, Serialize, Serializer};

use crate::detect::embed;

/// Direction of an embedding, in a signed byte a number. Its cosine similarity to another differs
/// from that of the floats by less than 0.01.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Vec<i8>")]
pub struct QuantizedEmbedding {
    values: Vec<i8>,
    /// Squared length, which each comparison needs.
    square: i64,
}

impl From<Vec<i8>> for QuantizedEmbedding {
    fn from(values: Vec<i8>) -> Self {
        let square = dot(&values, &values);
        Self { values, square }
    }
}

impl Serialize for QuantizedEmbedding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.values.serialize(serializer)
    }
}

impl QuantizedEmbedding {
    /// Quantises an embedding, raw or normalised. None if it has no direction.
    #[must_use]
    pub fn of(embedding: &[f32]) -> Option<Self> {
        let direction = embed::normalized(embedding)?;
        // The largest number takes the whole range, because the length does not matter.
        let largest = direction
            .iter()
            .fold(0.0_f32, |most, value| most.max(value.abs()));
        let scale = f32::from(i8::MAX) / largest;
        let bytes = direction.iter().map(|value| (value * scale).round() as i8);
        scale
            .is_finite()
            .then(|| Self::from(bytes.collect::<Vec<i8>>()))
    }

    /// Returns the cosine similarity, -1 to 1. 0 for embeddings of another length, which are of
    /// another recogniser.
    #[must_use]
    pub fn cosine(&self, other: &Self) -> f32 {
        if self.values.len() != other.values.len() {
            return 0.0;
        }
        let squares = self.square as f64 * other.square as f64;
        let cosine = dot(&self.values, &other.values) as f64 / squares.sqrt();
        if cosine.is_finite() {
            cosine.clamp(-1.0, 1.0) as f32
        } else {
            0.0
        }
    }

    /// Returns the direction between this one and another, by their weights.
    #[must_use]
    pub(super) fn blended(&self, weight: f32, other: &Self, other_weight: f32) -> Self {
        let (mut one, mut two) = (self.direction(), other.direction());
        one.iter_mut().for_each(|value| *value *= weight);
        two.iter_mut().for_each(|value| *value *= other_weight);
        let sum: Vec<f32> = one.iter().zip(&two).map(|(one, two)| one + two).collect();
        let blend = (one.len() == two.len()).then(|| Self::of(&sum)).flatten();
        blend.unwrap_or_else(|| other.clone())
    }

    fn direction(&self) -> Vec<f32> {
        let numbers: Vec<f32> = self.values.iter().map(|&value| f32::from(value)).collect();
        embed::normalized(&numbers).unwrap_or(numbers)
    }
}

fn dot(one: &[i8], other: &[i8]) -> i64 {
    /// Number of products with a sum within 32 bits, which the compiler vectorises.
    const BLOCK: usize = 4096;
    one.chunks(BLOCK)
        .zip(other.chunks(BLOCK))
        .map(|(one, other)| {
            let products = one.iter().zip(other);
            let sum: i32 = products
                .map(|(&one, &other)| i32::from(one) * i32::from(other))
                .sum();
            i64::from(sum)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: u64) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..512).map(|_| random.f32() - 0.5).collect()
    }

    #[test]
    fn cosine_is_that_of_floats() {
        for seed in 0..50 {
            let (one, other) = (random(seed), random(seed + 1_000));
            let near: Vec<f32> = one
                .iter()
                .zip(&other)
                .map(|(one, other)| one + 0.7 * other)
                .collect();
            for (a, b) in [(&one, &other), (&one, &near), (&near, &near)] {
                let found = QuantizedEmbedding::of(a)
                    .unwrap()
                    .cosine(&QuantizedEmbedding::of(b).unwrap());
                assert!((found - embed::cosine(a, b)).abs() < 0.01, "{found}");
            }
        }
    }

    #[test]
    fn direction_must_exist() {
        for embedding in [
            vec![],
            vec![0.0; 4],
            vec![f32::NAN, 1.0],
            vec![f32::INFINITY],
        ] {
            assert_eq!(QuantizedEmbedding::of(&embedding), None, "{embedding:?}");
        }
        let (one, two) = (
            QuantizedEmbedding::of(&[1.0, 0.0]).unwrap(),
            QuantizedEmbedding::of(&[1.0]).unwrap(),
        );
        assert_eq!(one.cosine(&two), 0.0);
        assert_eq!(one.blended(1.0, &two, 1.0), two);
    }

    #[test]
    fn blend_lies_between() {
        let (one, other) = (
            QuantizedEmbedding::of(&[3.0, 0.0]).unwrap(),
            QuantizedEmbedding::of(&[0.0, 0.1]).unwrap(),
        );
        let blend = one.blended(2.0, &other, 2.0);
        assert!((blend.cosine(&one) - 0.5_f32.sqrt()).abs() < 0.01);
        assert!((blend.cosine(&other) - 0.5_f32.sqrt()).abs() < 0.01);
        let opposite = QuantizedEmbedding::of(&[-1.0, 0.0]).unwrap();
        assert_eq!(one.blended(1.0, &opposite, 1.0), opposite);
    }
}
