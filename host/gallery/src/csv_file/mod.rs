//! CSV file of one person.
//!
//! The header begins `image_number,embedding`, and each row is a photo. An embedding is a list of
//! raw numbers joined by `;`. The replaced service wrote only these two columns, and its readers
//! use only these; Rostro's columns follow them.
//!
//! `embedding` is the raw output of the recogniser. If templates are made from other numbers, those
//! are in the column `template_embedding`; otherwise they are made from `embedding`.

mod dialect;
mod error;
mod read;
mod write;

pub use error::{REASONS, SampleFileError};
pub use read::parse;
pub(crate) use read::{ends_within_line, read};
pub use write::write;

/// Columns of every file.
const FIRST_COLUMNS: [&str; 2] = ["image_number", "embedding"];
const CONTRACT: &str = "contract";
const DET_SCORE: &str = "det_score";
const TEMPLATE_EMBEDDING: &str = "template_embedding";
const ENROLMENT: &str = "enrolment";

/// Size of the largest file that is read, in bytes: a hundred photos with two embeddings of 2,048
/// numbers each.
pub const MAX_BYTES: u64 = 8 << 20;

/// Length of the longest header that is read of a larger file, in bytes.
const MAX_HEADER_BYTES: u64 = 4 << 10;

/// Maximum number of photos of a person.
const MAX_ROWS: usize = 1000;

/// Maximum length of an embedding.
const MAX_NUMBERS: usize = 4096;

#[cfg(any(test, fuzzing, feature = "testing"))]
pub mod property;

#[cfg(test)]
mod tests;
