//! Dialects of CSV: separators, byte order marks, and the changes that spreadsheets make.

use super::{FIRST_COLUMNS, SampleFileError};

/// Byte order mark of UTF-8, which Excel writes.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Supported separators.
const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// Smallest integer that is implausible among fractions. It was a fraction with three decimals, and
/// a spreadsheet read its point as a separator of thousands.
const IMPLAUSIBLE_INTEGER: f32 = 10.0;

/// Ratio to the median above which a number is implausible for the same reason. The largest number
/// of a recogniser is about ten times the median.
const OUTLIER_RATIO: f32 = 100.0;

/// Dialect of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    /// Separator of columns.
    pub(super) separator: u8,
    /// True if a spreadsheet split the file at the semicolons within an embedding. It then read
    /// each number as a cell, may have changed it, and padded the header with empty cells.
    pub(super) is_split: bool,
}

/// Removes a byte order mark.
pub(super) fn strip_byte_order_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// Returns the separator, which may be unsupported, and the rest of a header that begins with the
/// two columns of a person's file.
fn header(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let [first, second] = FIRST_COLUMNS;
    let line = strip_byte_order_mark(bytes)
        .split(|&byte| byte == b'\n')
        .next()?;
    let rest = name(line, first)?;
    let (separator, rest) = without_spaces(rest)
        .split_first()
        .filter(|(byte, _)| is_separator(**byte))
        .or_else(|| rest.split_first())?;
    let rest = name(rest, second).filter(|_| is_separator(*separator))?;
    rest.first()
        .is_none_or(|next| is_separator(*next))
        .then_some((*separator, rest))
}

fn is_separator(byte: u8) -> bool {
    byte.is_ascii() && !byte.is_ascii_alphanumeric() && byte != b'_'
}

/// Removes leading spaces, but no tabs, because a tab is a separator.
fn without_spaces(mut text: &[u8]) -> &[u8] {
    while let Some(rest) = text.strip_prefix(b" ") {
        text = rest;
    }
    text
}

/// Removes a column's name, quoted or not, from the beginning.
fn name<'a>(text: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let text = without_spaces(text);
    match text.strip_prefix(b"\"") {
        Some(quoted) => quoted.strip_prefix(name.as_bytes())?.strip_prefix(b"\""),
        None => text.strip_prefix(name.as_bytes()),
    }
}

/// Returns true if a file begins with a person's header, with any separator.
pub(super) fn is_person_header(bytes: &[u8]) -> bool {
    header(bytes).is_some()
}

/// Returns true if a file ends within a person's header, or begins with zeros, as a crash may leave
/// it.
fn is_cut_off(bytes: &[u8]) -> bool {
    let line = strip_byte_order_mark(bytes)
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let header = FIRST_COLUMNS.join(",");
    line.starts_with(b"\0")
        || (line.len() < header.len() && header.as_bytes().starts_with(line.trim_ascii_end()))
}

impl Dialect {
    /// Returns the dialect of a file from its first line.
    ///
    /// # Errors
    ///
    /// If the file is not a person's, is cut off, or has an unsupported separator.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, SampleFileError> {
        match header(bytes) {
            Some((separator, rest)) if SEPARATORS.contains(&separator) => Ok(Self {
                separator,
                is_split: separator == b',' && rest.trim_ascii_end().ends_with(b";"),
            }),
            Some((separator, _)) => Err(SampleFileError::Separator(separator.into())),
            None if is_cut_off(bytes) => Err(SampleFileError::CutOff),
            None => Err(SampleFileError::Header),
        }
    }

    /// Returns true if a spreadsheet wrote the file.
    pub(super) fn is_spreadsheet(self) -> bool {
        self.separator != b',' || self.is_split
    }

    /// Returns the columns of a row, and true if a spreadsheet read each number of the embedding as
    /// a cell. The numbers of an unquoted embedding may have the separator of the columns; they are
    /// joined again.
    pub(super) fn columns(self, record: &csv::StringRecord, names: usize) -> (Vec<String>, bool) {
        let mut columns: Vec<String> = record.iter().map(str::to_owned).collect();
        let is_joined =
            self.separator == b';' && columns.len() > names && names >= FIRST_COLUMNS.len();
        if is_joined {
            let end = 1 + columns.len() - names;
            let embedding = columns.drain(1..=end).collect::<Vec<_>>().join(";");
            columns.insert(1, embedding);
        }
        if self.is_split
            && let Some(last) = columns.last_mut()
        {
            last.truncate(last.trim_end_matches(';').len());
        }
        (columns, self.is_split || is_joined)
    }

    /// Returns true if a spreadsheet changed numbers of this embedding: it wrote some in the form
    /// of its language, or as other numbers. The second case requires that it read each number as a
    /// cell.
    pub(super) fn is_altered(self, embedding: &str, has_cells: bool) -> bool {
        let has_both = embedding.contains('.') && embedding.contains(',');
        self.is_spreadsheet() && (has_both || (has_cells && has_implausible(embedding)))
    }
}

/// Returns true if some numbers of an embedding are implausible among the others.
fn has_implausible(embedding: &str) -> bool {
    let is_fraction = |text: &str| text.contains(['.', ',', 'e', 'E']);
    let numbers: Vec<(bool, f32)> = embedding
        .split(';')
        .filter_map(|text| Some((is_fraction(text), finite(text.trim()).ok()?.abs())))
        .filter(|(_, size)| *size > 0.0)
        .collect();
    let has_fractions = numbers.iter().any(|(is_fraction, _)| *is_fraction);
    let mut sizes: Vec<f32> = numbers.iter().map(|(_, size)| *size).collect();
    sizes.sort_by(f32::total_cmp);
    let median = sizes.get(sizes.len() / 2).copied().unwrap_or_default();
    numbers.iter().any(|(is_fraction, size)| {
        (has_fractions && !is_fraction && *size >= IMPLAUSIBLE_INTEGER)
            || *size > OUTLIER_RATIO * median
    })
}

/// Reads a finite number, with a decimal point or the decimal comma of a spreadsheet. Rust also
/// parses "NaN" and "inf", which are refused.
pub(super) fn finite(text: &str) -> Result<f32, ()> {
    let number = match text.contains('.') {
        true => text.parse(),
        false => text.replacen(',', ".", 1).parse(),
    };
    number
        .ok()
        .filter(|number: &f32| number.is_finite())
        .ok_or(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_needs_both_columns() {
        for (text, separator) in [
            ("image_number,embedding\n1,2", b','),
            ("image_number;embedding\r\n", b';'),
            ("\u{feff}image_number;embedding;contract\r\n", b';'),
            ("\"image_number\",\"embedding\"\n", b','),
            ("image_number\tembedding", b'\t'),
            ("image_number | embedding|x", b'|'),
            ("image_number embedding", b' '),
            ("image_number:embedding", b':'),
            ("image_number,embedding;;;;\r\n", b','),
        ] {
            assert_eq!(
                header(text.as_bytes()).map(|(separator, _)| separator),
                Some(separator),
                "{text:?}"
            );
        }
        for text in [
            "",
            "name,marks\n",
            "image_number",
            "image_number,embeddings\n",
            "image_numbers,embedding\n",
            "x,image_number,embedding",
        ] {
            assert!(!is_person_header(text.as_bytes()), "{text:?}");
        }
        assert!(matches!(
            Dialect::of(b"image_number:embedding"),
            Err(SampleFileError::Separator(':'))
        ));
    }

    #[test]
    fn torn_header_is_detected() {
        for text in ["", "image_num", "image_number,", "\0\0\0", "\u{feff}image"] {
            assert!(is_cut_off(text.as_bytes()), "{text:?}");
        }
        for text in ["name,age\n", "image_number,embedding\n", "imagination"] {
            assert!(!is_cut_off(text.as_bytes()), "{text:?}");
        }
    }
}
