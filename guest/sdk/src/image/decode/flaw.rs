//! Flaws of a picture that could be decoded.

/// A flaw of a JPEG that libjpeg also decodes with a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The file has bytes between segments that belong to no segment, as some webcams write them.
    /// All pixels are there.
    StrayBytes {
        /// Number of bytes.
        count: usize,
    },
    /// The end marker is missing or replaced by padding. All pixels are there, unless there is
    /// another flaw.
    NoEndMarker,
    /// Restart markers are missing or out of order.
    RestartMarkers,
    /// Coded data is damaged: single places are grey.
    CorruptData,
    /// Coded data is missing: rows, or parts of them, are grey.
    MissingData {
        /// The share of the picture before the first gap in percent, if known.
        percent: Option<usize>,
    },
    /// Later scans of a progressive picture are missing or damaged: all rows are there, less sharp
    /// or with noise.
    MissingDetail,
}

impl Flaw {
    /// Returns the stable code of the flaw, for the answer's `warnings`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::StrayBytes { .. } => "jpeg_stray_bytes",
            Self::NoEndMarker => "jpeg_no_end_marker",
            Self::RestartMarkers => "jpeg_restart_markers",
            Self::CorruptData => "jpeg_corrupt_data",
            Self::MissingData { .. } => "jpeg_missing_data",
            Self::MissingDetail => "jpeg_missing_detail",
        }
    }

    /// Returns true if rows of the picture, or parts of them, are missing.
    #[must_use]
    pub const fn lacks_rows(self) -> bool {
        matches!(self, Self::MissingData { .. })
    }

    /// Returns a sentence for people.
    #[must_use]
    pub fn message(self) -> String {
        match self {
            Self::StrayBytes { count } => {
                format!("The JPEG has bytes between its segments that belong to none: {count}. Nothing of the picture is missing.")
            }
            Self::NoEndMarker => "The JPEG has no end marker.".to_owned(),
            Self::RestartMarkers => "Restart markers of the JPEG are missing or out of order; data was lost on its way.".to_owned(),
            Self::CorruptData => "Data of the JPEG is damaged; what could not be read is grey.".to_owned(),
            Self::MissingData { percent: Some(percent) } => {
                format!(
                    "Rows of the JPEG are missing: its data ends or has a gap after {percent} % of the picture; what is missing is grey."
                )
            }
            Self::MissingData { percent: None } => "Data of the JPEG is missing; what is missing is grey or coarse.".to_owned(),
            Self::MissingDetail => {
                "Scans of the progressive JPEG are missing or damaged; all rows are there, but less sharp than they were.".to_owned()
            }
        }
    }
}
