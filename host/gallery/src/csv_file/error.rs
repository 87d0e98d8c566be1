//! Errors of reading a person's file.

use std::error::Error;
use std::io;

use super::MAX_BYTES;

/// Reasons for which files of a gallery are left alone, as words for metrics. `group` is for files
/// of groups.
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

/// Why a file cannot be read as a person's samples.
#[derive(Debug, thiserror::Error)]
pub enum SampleFileError {
    /// The file's name is no id.
    #[error("the name is no id: {0}")]
    Name(String),
    /// It is a link, a folder or a device.
    #[error("not a regular file")]
    NotAFile,
    /// The operating system does not give it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is far larger than any that is written.
    #[error("{0} bytes; at most {MAX_BYTES} are read")]
    TooLarge(u64),
    /// It is no CSV.
    #[error("not CSV: {0}")]
    Csv(#[source] csv::Error),
    /// The header is another. It is not quoted: a file without one begins with an embedding.
    #[error("the header does not begin with `image_number,embedding`")]
    Header,
    /// It ends within the header, or is of zeros: what a crash may leave of a file.
    #[error("it is cut off")]
    CutOff,
    /// Its columns are separated by a character that is not read.
    #[error("its columns are separated by {0:?}; save it with commas, or enrol the person again")]
    Separator(char),
    /// A row is not what it should be.
    #[error("row {row}: {what}")]
    Row {
        /// Which row, from 1.
        row: usize,
        /// What is wrong with it.
        what: String,
    },
    /// It holds no photo.
    #[error("no rows")]
    Empty,
    /// A spreadsheet opened the file and saved other numbers.
    #[error(
        "row {row}: {what}; a spreadsheet changed the file: restore it from a backup, or enrol the person again"
    )]
    Spreadsheet {
        /// The row, from 1.
        row: usize,
        /// The part that changed.
        what: String,
    },
    /// Another file of the same person is used.
    #[error("the person's file is {0}; remove this one, or that one")]
    Duplicate(String),
    /// It was read, but nobody can be recognised by what is in it.
    #[error("no templates can be made of it: {0}")]
    Unusable(Box<dyn Error + Send + Sync>),
}

impl SampleFileError {
    /// Whether the file was read, and is a person's that is damaged.
    pub fn is_damaged(&self) -> bool {
        match self {
            Self::Csv(_) | Self::CutOff | Self::Row { .. } | Self::Empty => true,
            // Somebody else's file, of which there may be many in a folder that was named by
            // mistake.
            Self::Header | Self::TooLarge(_) => false,
            // An operator may mend it, or remove the one that is not wanted.
            Self::Spreadsheet { .. } | Self::Separator(_) | Self::Duplicate(_) => false,
            // What could not be read may be whole, and another policy may make templates of what is
            // unusable to this one.
            Self::Name(_) | Self::NotAFile | Self::Io(_) | Self::Unusable(_) => false,
        }
    }

    /// Whether it is somebody else's file, or no file at all.
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

    /// Whether the file was read, and is no person's: what is in it must not be lost where a person
    /// is written in its place.
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
