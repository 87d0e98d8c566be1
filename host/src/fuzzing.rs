//! What the fuzz targets in `tests/fuzz` call, and what they need to call it. The properties themselves stand beside what they are of, where
//! the tests use them too.

pub use crate::bindings::policy::exports::rostro::pipeline::policy::{Candidate, Decision, Match, Probe, Reason, ReviewOutcome};
pub use crate::bindings::vision::exports::rostro::pipeline::vision::{Description, EmbeddingContract};
pub use crate::bindings::vision::rostro::pipeline::types::Identity;
use crate::bindings::{Analysis, Purpose};
use crate::checked::{self, InvalidOutput};

/// A form of this content type.
pub fn multipart(content_type: &[u8], body: &[u8]) {
    crate::http::form::property::holds(content_type, body);
}

/// A form that holds only text.
pub fn url_encoded(body: &[u8]) {
    crate::http::form::property::holds_url_encoded(body);
}

/// A person's or a group's id.
pub fn person_id(text: &str) {
    crate::person::property::holds(text);
}

/// A person's file.
pub fn csv(text: &[u8]) {
    crate::gallery::csv_file::property::holds(text);
}

/// An archive of the gallery. Gives the entries that were read, by their names.
pub fn archive(bytes: Vec<u8>) -> Vec<(String, Vec<u8>)> {
    crate::service::archive::property::holds(bytes)
}

/// A group's file: what is read is the same when it is written and read again.
pub fn groups(bytes: Vec<u8>) {
    use crate::groups::file::{parse, text};

    let Ok(members) = parse(bytes) else { return };
    // A fuzzer's inputs are far from the largest.
    let written = text(&members).map(String::into_bytes);
    assert_eq!(written.map(parse), Some(Ok(members)));
}

/// What is taken of `vision.analyze`.
pub fn analysis(raw: Analysis, dimension: usize, purpose: Purpose) -> Result<Analysis, InvalidOutput> {
    checked::analysis(raw, dimension, purpose)
}

/// What is taken of `vision.describe`.
pub fn description(raw: Description) -> Result<Description, InvalidOutput> {
    checked::description(raw)
}

/// What is taken of `policy.review`.
pub fn review(raw: ReviewOutcome, embedded: &[bool]) -> Result<ReviewOutcome, InvalidOutput> {
    checked::review(raw, embedded)
}

/// What is taken of `policy.template`.
pub fn templates(raw: Vec<Vec<f32>>, dimension: usize) -> Result<Vec<Vec<f32>>, InvalidOutput> {
    checked::templates(raw, dimension)
}

/// What is taken of `policy.decide`.
pub fn decisions(raw: Vec<Decision>, probes: &[Probe]) -> Result<Vec<Decision>, InvalidOutput> {
    checked::decisions(raw, probes)
}
