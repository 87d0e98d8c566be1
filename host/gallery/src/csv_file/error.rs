//! Errors of reading a person's file.

use std::error::Error;
use std::io;

use super::MAX_BYTES;

/// Reasons why files of a gallery are unusable, as words for metrics. `group` is for group files.
pub const REASONS: [&str; 9] = [
    "damaged",
    "duplicate",
    "group",
    "header",
    "name",
    "not_a_file",
    "spreadsheet",
    "too_large",
    "unreadable",
];

/// Why a file cannot be used as a person's samples.
#[derive(Debug, thiserror::Error)]
pub enum SampleFileError {
    /// The file's name is not an id.
    #[error("the name is not an id: {0}")]
    Name(String),
    /// The path is a link, a folder or a device.
    #[error("not a regular file")]
    NotAFile,
    /// The operating system cannot read the file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is larger than the reader's limit.
    #[error("{0} bytes; at most {MAX_BYTES} are read")]
    TooLarge(u64),
    /// The file is not CSV.
    #[error("not CSV: {0}")]
    Csv(#[source] csv::Error),
    /// The header differs. It is not quoted, because a file without a header begins with an
    /// embedding.
    #[error("the header does not begin with `image_number,embedding`")]
    Header,
    /// The file ends within the header, or is filled with zeros, as a crash may leave it.
    #[error("it is cut off")]
    CutOff,
    /// An unsupported character separates the columns.
    #[error("its columns are separated by {0:?}; save it with commas, or enrol the person again")]
    Separator(char),
    /// A row is invalid.
    #[error("row {row}: {problem}")]
    Row {
        /// Number of the row, from 1.
        row: usize,
        /// Cause.
        problem: String,
    },
    /// The file has no rows.
    #[error("no rows")]
    Empty,
    /// A spreadsheet saved the file with other numbers.
    #[error(
        "row {row}: {problem}; a spreadsheet changed the file: restore it from a backup, or enrol the person again"
    )]
    Spreadsheet {
        /// Number of the row, from 1.
        row: usize,
        /// Part that changed.
        problem: String,
    },
    /// Another file of the same person is in use.
    #[error("the person's file is {0}; remove this one, or that one")]
    Duplicate(String),
    /// The file was read, but the policy makes no templates of it.
    #[error("no templates can be made of it: {0}")]
    Unusable(Box<dyn Error + Send + Sync>),
}

impl SampleFileError {
    /// Returns true if the file is a person's and is damaged, so that it may be quarantined.
    pub fn is_damaged(&self) -> bool {
        match self {
            Self::Csv(_) | Self::CutOff | Self::Row { .. } | Self::Empty => true,
            // Files of another program, which may be numerous in a folder that was named by
            // mistake.
            Self::Header | Self::TooLarge(_) => false,
            // An operator may repair the file, or remove the superfluous one.
            Self::Spreadsheet { .. } | Self::Separator(_) | Self::Duplicate(_) => false,
            // An unreadable file may be whole, and another policy may make templates of the
            // samples.
            Self::Name(_) | Self::NotAFile | Self::Io(_) | Self::Unusable(_) => false,
        }
    }

    /// Returns true if the file belongs to another program, or is not a regular file.
    pub(crate) fn is_foreign(&self) -> bool {
        matches!(self, Self::Header | Self::NotAFile)
    }

    /// Returns the kind of the error as a word for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Name(_) => "name",
            Self::NotAFile => "not_a_file",
            Self::Io(_) => "unreadable",
            Self::TooLarge(_) => "too_large",
            Self::Header => "header",
            Self::Csv(_) | Self::CutOff | Self::Row { .. } | Self::Empty => "damaged",
            Self::Separator(_) | Self::Spreadsheet { .. } => "spreadsheet",
            Self::Duplicate(_) => "duplicate",
            Self::Unusable(_) => "unusable",
        }
    }

    /// Returns true if the file was read and is not a valid person's. Its content must be kept if a
    /// person is written in its place.
    pub(crate) fn has_content(&self) -> bool {
        self.is_damaged()
            || matches!(
                self,
                Self::Header | Self::TooLarge(_) | Self::Separator(_) | Self::Spreadsheet { .. }
            )
    }
}

impl From<csv::Error> for SampleFileError {
    fn from(error: csv::Error) -> Self {
        if error.is_io_error() {
            Self::Io(error.into())
        } else {
            Self::Csv(error)
        }
    }
}
