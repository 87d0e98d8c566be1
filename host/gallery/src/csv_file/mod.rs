//! One person's CSV file.
//!
//! The header begins `image_number,embedding`; an embedding is raw numbers joined by `;`, one row a
//! photo. The replaced service wrote only these two columns, and its readers use only these; ours
//! follow them.
//!
//! `embedding` is the recogniser's raw output for the photo. Where templates are made of something
//! else, that is in the column `template_embedding`; a row without it is used as it is.

mod dialect;
mod error;
mod read;
mod write;

pub use error::{REASONS, SampleFileError};
pub use read::parse;
pub(crate) use read::{ends_within_line, read};
pub use write::write;

/// The columns that every file has.
const FIRST_COLUMNS: [&str; 2] = ["image_number", "embedding"];
const CONTRACT: &str = "contract";
const DET_SCORE: &str = "det_score";
const TEMPLATE_EMBEDDING: &str = "template_embedding";
const ENROLMENT: &str = "enrolment";

/// The largest file that is read, in bytes: a hundred photos with two embeddings of 2,048 numbers
/// each.
pub const MAX_BYTES: u64 = 8 << 20;

/// The longest header that is looked at, in bytes.
const MAX_HEADER_BYTES: u64 = 4 << 10;

/// The most photos of a person.
const MAX_ROWS: usize = 1000;

/// The longest embedding.
const MAX_NUMBERS: usize = 4096;

#[cfg(any(test, fuzzing, feature = "testing"))]
pub mod property;

#[cfg(test)]
mod tests;
