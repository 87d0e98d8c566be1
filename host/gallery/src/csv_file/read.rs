//! Reads a person's file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use rostro_common::sample::Sample;

use super::dialect::{self, Dialect, finite};
use super::{
    CONTRACT, DET_SCORE, ENROLMENT, MAX_BYTES, MAX_HEADER_BYTES, MAX_NUMBERS, MAX_ROWS,
    SampleFileError, TEMPLATE_EMBEDDING,
};

/// Reads a file.
pub(crate) fn read(path: &Path) -> Result<Vec<Sample>, SampleFileError> {
    let metadata = path.symlink_metadata()?;
    if !metadata.is_file() {
        return Err(SampleFileError::NotAFile);
    }
    let file = File::open(path)?;
    if metadata.len() > MAX_BYTES {
        let mut begin = Vec::new();
        file.take(MAX_HEADER_BYTES).read_to_end(&mut begin)?;
        return Err(if dialect::is_person_header(&begin) {
            SampleFileError::TooLarge(metadata.len())
        } else {
            SampleFileError::Header
        });
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    parse(bytes.as_slice())
}

/// Returns true if a file ends without a line break. Programs that write CSV end each line; an
/// interrupted copy may not.
pub(crate) fn ends_within_line(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(!matches!(last, [b'\n' | b'\r']))
}

/// Reads samples from CSV of any origin.
pub fn parse(bytes: &[u8]) -> Result<Vec<Sample>, SampleFileError> {
    let bytes = dialect::strip_byte_order_mark(bytes);
    let dialect = Dialect::of(bytes)?;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(dialect.separator)
        .flexible(dialect.is_spreadsheet())
        .from_reader(bytes);
    let Ok(header) = reader.headers().cloned() else {
        return Err(SampleFileError::Header);
    };
    let names: Vec<&str> = header
        .iter()
        .map(|name| name.trim().trim_end_matches(';'))
        .collect();
    let column = |name: &str| names.iter().position(|other| *other == name);
    let (contract, det_score) = (column(CONTRACT), column(DET_SCORE));
    let (template, enrolment) = (column(TEMPLATE_EMBEDDING), column(ENROLMENT));
    let mut samples: Vec<Sample> = Vec::new();
    for (index, record) in reader.records().enumerate() {
        let row = index + 1;
        let invalid_row = |problem: String| match dialect.is_spreadsheet() {
            true => SampleFileError::Spreadsheet { row, problem },
            false => SampleFileError::Row { row, problem },
        };
        if row > MAX_ROWS {
            return Err(invalid_row(format!("more than {MAX_ROWS} rows")));
        }
        let (record, has_cells) = dialect.columns(&record?, names.len());
        if record.len() > names.len() {
            return Err(invalid_row("more columns than the header has".to_owned()));
        }
        let field = |column: Option<usize>| {
            column
                .and_then(|column| record.get(column))
                .map(String::as_str)
                .filter(|text| !text.is_empty())
        };
        let numbers = record.get(1).map(String::as_str).unwrap_or_default();
        if dialect.is_altered(numbers, has_cells) {
            return Err(invalid_row(
                "numbers of the embedding have another form than the rest".to_owned(),
            ));
        }
        let raw_output = embedding(numbers, "embedding").map_err(invalid_row)?;
        let template = field(template);
        if template.is_some_and(|numbers| dialect.is_altered(numbers, has_cells)) {
            return Err(invalid_row(
                "numbers of the template_embedding have another form than the rest".to_owned(),
            ));
        }
        let template = template
            .map(|numbers| embedding(numbers, TEMPLATE_EMBEDDING))
            .transpose()
            .map_err(invalid_row)?;
        if template
            .as_ref()
            .is_some_and(|template| template.len() != raw_output.len())
        {
            return Err(invalid_row(
                "its two embeddings have different lengths".to_owned(),
            ));
        }
        let (embedding, raw) = match template {
            Some(template) => (template, Some(raw_output)),
            None => (raw_output, None),
        };
        if samples
            .first()
            .is_some_and(|first| first.embedding.len() != embedding.len())
        {
            return Err(invalid_row(format!(
                "{} numbers, unlike the rows before",
                embedding.len()
            )));
        }
        let contract = field(contract)
            .map(str::parse)
            .transpose()
            .map_err(|error| invalid_row(format!("{error}")))?;
        let det_score = field(det_score)
            .map(finite)
            .transpose()
            .map_err(|()| invalid_row("det_score is not a finite number".to_owned()))?;
        let enrolment = field(enrolment)
            .map(str::parse)
            .transpose()
            .map_err(|error| invalid_row(format!("{error}")))?;
        samples.push(Sample {
            embedding,
            raw,
            contract,
            det_score,
            enrolment,
        });
    }
    if samples.is_empty() {
        Err(SampleFileError::Empty)
    } else {
        Ok(samples)
    }
}

fn embedding(text: &str, column: &str) -> Result<Vec<f32>, String> {
    // The cell is biometric data, so that messages do not quote it.
    let number = |(index, text): (usize, &str)| {
        finite(text.trim()).map_err(|()| {
            format!(
                "number {} of the {column} is not a finite number",
                index + 1
            )
        })
    };
    let numbers = text
        .split(';')
        .take(MAX_NUMBERS + 1)
        .enumerate()
        .map(number)
        .collect::<Result<Vec<f32>, String>>()?;
    if numbers.len() > MAX_NUMBERS {
        return Err(format!("more than {MAX_NUMBERS} numbers"));
    }
    if numbers.iter().all(|&number| number == 0.0) {
        return Err(format!(
            "{} {column} of zeros",
            if column == TEMPLATE_EMBEDDING {
                "a"
            } else {
                "an"
            }
        ));
    }
    Ok(numbers)
}
