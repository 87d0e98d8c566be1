//! Writes a person's file.

use std::io::{self, Write};

use rostro_common::sample::Sample;

use super::{CONTRACT, DET_SCORE, ENROLMENT, FIRST_COLUMNS, TEMPLATE_EMBEDDING};

/// Writes samples. Numbers have the shortest form that reads back the same. Template embeddings and
/// enrolments get a column if any sample has one.
pub fn write(samples: &[Sample], file: impl Write) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(file);
    let has_raw = samples.iter().any(|sample| sample.raw.is_some());
    let has_enrolment = samples.iter().any(|sample| sample.enrolment.is_some());
    let optional = [
        has_raw.then_some(TEMPLATE_EMBEDDING),
        has_enrolment.then_some(ENROLMENT),
    ];
    let header = [FIRST_COLUMNS[0], FIRST_COLUMNS[1], CONTRACT, DET_SCORE];
    writer.write_record(header.into_iter().chain(optional.into_iter().flatten()))?;
    let numbers = |vector: &[f32]| {
        vector
            .iter()
            .map(f32::to_string)
            .collect::<Vec<_>>()
            .join(";")
    };
    for (index, sample) in samples.iter().enumerate() {
        let embedding = numbers(sample.raw.as_ref().unwrap_or(&sample.embedding));
        let template = sample
            .raw
            .as_ref()
            .map(|_| numbers(&sample.embedding))
            .unwrap_or_default();
        let contract = sample
            .contract
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let det_score = sample
            .det_score
            .map(|score| score.to_string())
            .unwrap_or_default();
        let enrolment = sample
            .enrolment
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let optional = [
            has_raw.then_some(template),
            has_enrolment.then_some(enrolment),
        ];
        let row = [(index + 1).to_string(), embedding, contract, det_score];
        writer.write_record(row.into_iter().chain(optional.into_iter().flatten()))?;
    }
    writer.flush()
}
