//! Rows of samples, and which of a person's are in force.
//!
//! The rules are those of the store in a folder ([`rostro_gallery::enrolment`]), where a crash
//! between two files may leave samples out of force. A transaction leaves none, so that only samples
//! in force are stored.

use rostro_common::ids::{ContractId, EnrolmentId};
use rostro_common::sample::Sample;
use rostro_gallery::enrolment::{enrolment_of, group_by_contract, in_force, with_enrolment};
use rostro_gallery::{SampleLocation, write_samples};
use tokio_postgres::Row;

/// Columns of a sample, in the order of [`from_row`].
pub(super) const COLUMNS: &str = "contract, enrolment, det_score, embedding, raw";

/// Reads a sample from the columns of [`COLUMNS`], which begin at `first`.
///
/// # Errors
///
/// The reason why the row is damaged.
pub(super) fn from_row(row: &Row, first: usize) -> Result<Sample, String> {
    let text = |column: usize| {
        row.try_get::<_, Option<String>>(first + column)
            .map_err(|error| error.to_string())
    };
    let contract = text(0)?
        .map(|text| text.parse::<ContractId>())
        .transpose()
        .map_err(|error| format!("its contract is invalid: {error}"))?;
    let enrolment = text(1)?
        .map(|text| text.parse::<EnrolmentId>())
        .transpose()
        .map_err(|error| format!("its enrolment is invalid: {error}"))?;
    let numbers = |column: usize| {
        row.try_get::<_, Option<Vec<f32>>>(first + column)
            .map_err(|error| error.to_string())
    };
    let embedding = numbers(3)?.unwrap_or_default();
    let raw = numbers(4)?;
    let det_score = row
        .try_get::<_, Option<f32>>(first + 2)
        .map_err(|error| error.to_string())?;
    let all = embedding.iter().chain(raw.iter().flatten());
    if embedding.is_empty() || !all.chain(&det_score).all(|number| number.is_finite()) {
        return Err("its numbers are missing or not finite".to_owned());
    }
    Ok(Sample {
        embedding,
        raw,
        contract,
        det_score,
        enrolment,
    })
}

/// Returns the samples in force of new ones, those of the first one's contract first.
pub(super) fn replaced(samples: &[Sample]) -> Vec<Sample> {
    let groups = group_by_contract(samples);
    let Some(((_, own), others)) = groups.split_first() else {
        return Vec::new();
    };
    let mut all = own.clone();
    for (contract, samples) in others {
        if let Some(contract) = contract {
            all.extend(in_force(own, contract, samples.clone()));
        }
    }
    all
}

/// Returns a person's samples after those of one contract were added or replaced.
pub(super) fn added(old: &[Sample], new: &[Sample], location: SampleLocation) -> Vec<Sample> {
    let mut groups = group_by_contract(old);
    let own = if groups.is_empty() {
        Vec::new()
    } else {
        groups.remove(0).1
    };
    let contract = new.first().and_then(|sample| sample.contract.clone());
    let is_only = own.iter().all(|sample| sample.contract == contract);
    let known = enrolment_of(&own).cloned();
    groups.retain(|(other, _)| *other != contract);
    let rest = groups.into_iter().flat_map(|(_, samples)| samples);
    if contract.is_none() || is_only {
        let new = known.map_or_else(|| new.to_vec(), |enrolment| with_enrolment(new, &enrolment));
        return new.into_iter().chain(rest).collect();
    }
    let enrolment = known.unwrap_or_else(EnrolmentId::unique);
    let (own, new) = (
        with_enrolment(&own, &enrolment),
        with_enrolment(new, &enrolment),
    );
    let (first, second) = match location {
        SampleLocation::Own => (new, own),
        SampleLocation::Other => (own, new),
    };
    first.into_iter().chain(second).chain(rest).collect()
}

/// Returns the size of the largest CSV file of samples, in bytes.
pub(super) fn file_size(samples: &[Sample]) -> usize {
    let sizes = group_by_contract(samples).into_iter().map(|(_, samples)| {
        let mut text = Vec::new();
        // Writing to memory cannot fail.
        let _ = write_samples(&samples, &mut text);
        text.len()
    });
    sizes.max().unwrap_or_default()
}
