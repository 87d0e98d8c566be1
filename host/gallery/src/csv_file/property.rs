//! Properties of every CSV file.
#![expect(clippy::unwrap_used, reason = "of tests and fuzz targets alone")]

use rostro_common::sample::Sample;

use super::{MAX_NUMBERS, MAX_ROWS, parse, write};

/// Panics unless the samples that are read are within bounds, and survive being written and read.
pub fn holds(text: &[u8]) {
    let Ok(samples) = parse(text) else { return };
    assert!((1..=MAX_ROWS).contains(&samples.len()));
    let length = samples
        .iter()
        .map(|sample| sample.embedding.len())
        .max()
        .unwrap();
    assert!((1..=MAX_NUMBERS).contains(&length));
    for sample in &samples {
        assert_eq!(sample.embedding.len(), length);
        assert!(
            sample.embedding.iter().all(|number| number.is_finite())
                && sample.embedding.iter().any(|number| *number != 0.0)
        );
        let raw = sample.raw.as_ref().unwrap_or(&sample.embedding);
        assert!(raw.len() == length && raw.iter().all(|number| number.is_finite()));
        assert!(
            sample.det_score.is_none_or(f32::is_finite),
            "{:?}",
            sample.det_score
        );
    }
    is_read_back(&samples);
}

/// Panics unless samples are the same bit by bit after they are written and read.
pub fn is_read_back(samples: &[Sample]) {
    let mut text = Vec::new();
    write(samples, &mut text).unwrap();
    let reread = parse(&text).unwrap();
    let bits = |samples: &[Sample]| -> Vec<_> {
        let bits = |number: &f32| number.to_bits();
        let sample_bits = |sample: &Sample| {
            let vector = |vector: &Vec<f32>| vector.iter().map(bits).collect::<Vec<_>>();
            let vectors = (vector(&sample.embedding), sample.raw.as_ref().map(vector));
            (
                vectors,
                sample.contract.clone(),
                sample.det_score.as_ref().map(bits),
                sample.enrolment.clone(),
            )
        };
        samples.iter().map(sample_bits).collect()
    };
    assert_eq!(bits(&reread), bits(samples));
}
