//! One person's CSV file.
//!
//! The header begins `image_number,embedding`; an embedding is raw numbers joined by `;`, one row a
//! photo. The replaced service wrote only these two columns, and its readers use only these; ours
//! follow them.
//!
//! `embedding` is the recogniser's raw output for the photo. Where templates are made of something
//! else, that is in the column `template_embedding`; a row without it is used as it is.

mod dialect;

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use rostro_common::sample::Sample;

use dialect::Dialect;

/// The columns that every file has.
const FIRST_COLUMNS: [&str; 2] = ["image_number", "embedding"];
const CONTRACT: &str = "contract";
const DET_SCORE: &str = "det_score";
const TEMPLATE_EMBEDDING: &str = "template_embedding";
const ENROLMENT: &str = "enrolment";

/// The largest file that is read, in bytes: a hundred photos with two embeddings of 2,048 numbers
/// each.
pub const LARGEST: u64 = 8 << 20;

/// The longest header that is looked at, in bytes.
const LONGEST_HEADER: u64 = 4 << 10;

/// The most photos of a person.
const MOST_ROWS: usize = 1000;

/// The longest embedding.
const LONGEST: usize = 4096;

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
    #[error("{0} bytes; at most {LARGEST} are read")]
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
    pub fn is_damage(&self) -> bool {
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
    pub(super) fn is_another(&self) -> bool {
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
    pub(super) fn is_content(&self) -> bool {
        self.is_damage()
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

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Vec<Sample>, SampleFileError> {
    let metadata = path.symlink_metadata()?;
    if !metadata.is_file() {
        return Err(SampleFileError::NotAFile);
    }
    let file = File::open(path)?;
    if metadata.len() > LARGEST {
        let mut begin = Vec::new();
        file.take(LONGEST_HEADER).read_to_end(&mut begin)?;
        return Err(if dialect::is_persons(&begin) {
            SampleFileError::TooLarge(metadata.len())
        } else {
            SampleFileError::Header
        });
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    parse(bytes.as_slice())
}

/// Returns true if a file ends without the end of a line. Programs that write CSV end each line; a
/// copy that was cut short may not.
pub(super) fn ends_within_line(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(!matches!(last, [b'\n' | b'\r']))
}

/// Reads samples out of CSV, which may come from anywhere.
pub fn parse(bytes: &[u8]) -> Result<Vec<Sample>, SampleFileError> {
    let bytes = dialect::without_mark(bytes);
    let dialect = Dialect::of(bytes)?;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(dialect.separator)
        .flexible(dialect.is_foreign())
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
        let wrong = |what: String| match dialect.is_foreign() {
            true => SampleFileError::Spreadsheet { row, what },
            false => SampleFileError::Row { row, what },
        };
        if row > MOST_ROWS {
            return Err(wrong(format!("more than {MOST_ROWS} rows")));
        }
        let (record, has_cells) = dialect.columns(&record?, names.len());
        if record.len() > names.len() {
            return Err(wrong("more columns than the header has".to_owned()));
        }
        let field = |column: Option<usize>| {
            column
                .and_then(|column| record.get(column))
                .map(String::as_str)
                .filter(|text| !text.is_empty())
        };
        let numbers = record.get(1).map(String::as_str).unwrap_or_default();
        if dialect.is_changed(numbers, has_cells) {
            return Err(wrong(
                "numbers of the embedding have another form than the rest".to_owned(),
            ));
        }
        let own = embedding(numbers, "embedding").map_err(wrong)?;
        let template = field(template);
        if template.is_some_and(|numbers| dialect.is_changed(numbers, has_cells)) {
            return Err(wrong(
                "numbers of the template_embedding have another form than the rest".to_owned(),
            ));
        }
        let template = template
            .map(|numbers| embedding(numbers, TEMPLATE_EMBEDDING))
            .transpose()
            .map_err(wrong)?;
        if template
            .as_ref()
            .is_some_and(|template| template.len() != own.len())
        {
            return Err(wrong(
                "its two embeddings have different lengths".to_owned(),
            ));
        }
        let (embedding, raw) = match template {
            Some(template) => (template, Some(own)),
            None => (own, None),
        };
        if samples
            .first()
            .is_some_and(|first| first.embedding.len() != embedding.len())
        {
            return Err(wrong(format!(
                "{} numbers, unlike the rows before",
                embedding.len()
            )));
        }
        let contract = field(contract)
            .map(str::parse)
            .transpose()
            .map_err(|error| wrong(format!("{error}")))?;
        let det_score = field(det_score)
            .map(finite)
            .transpose()
            .map_err(|()| wrong("det_score is no finite number".to_owned()))?;
        let enrolment = field(enrolment)
            .map(str::parse)
            .transpose()
            .map_err(|error| wrong(format!("{error}")))?;
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

/// Reads a number, with a decimal comma where a spreadsheet wrote it so. "NaN" and "inf" are
/// numbers to Rust.
fn finite(text: &str) -> Result<f32, ()> {
    let number = match text.contains('.') {
        true => text.parse(),
        false => text.replacen(',', ".", 1).parse(),
    };
    number
        .ok()
        .filter(|number: &f32| number.is_finite())
        .ok_or(())
}

fn embedding(text: &str, column: &str) -> Result<Vec<f32>, String> {
    // The cell is biometric, so that messages do not quote it.
    let number = |(index, text): (usize, &str)| {
        finite(text.trim())
            .map_err(|()| format!("number {} of the {column} is no finite number", index + 1))
    };
    let numbers = text
        .split(';')
        .take(LONGEST + 1)
        .enumerate()
        .map(number)
        .collect::<Result<Vec<f32>, String>>()?;
    if numbers.len() > LONGEST {
        return Err(format!("more than {LONGEST} numbers"));
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

/// Writes samples. Numbers are written as short as reads back the same; template embeddings and
/// enrolments have a column if any sample has one.
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

#[cfg(any(test, fuzzing, feature = "testing"))]
pub mod property;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use rostro_common::ids::{ContractId, EnrolmentId};

    proptest! {
        #[test]
        fn what_is_written_is_read_back_bit_by_bit(
            rows in prop::collection::vec(prop::collection::vec(any::<f32>().prop_filter("finite", |v| v.is_finite() && *v != 0.0), 3), 1..5),
            digest in any::<[u8; 32]>(), score in prop::option::of(0.0_f32..=1.0), marked: bool, raw in prop::collection::vec(any::<bool>(), 5),
        ) {
            let enrolment = marked.then(EnrolmentId::unique);
            let sample = |(embedding, has_raw): (Vec<f32>, bool)| {
                let raw = has_raw.then(|| embedding.iter().map(|number| number / 2.0 + 1.0).collect());
                Sample { embedding, raw, contract: Some(ContractId::from_digest(digest)), det_score: score, enrolment: enrolment.clone() }
            };
            let samples: Vec<Sample> = rows.into_iter().zip(raw).map(sample).collect();
            super::property::is_read_back(&samples);
        }

        #[test]
        fn whatever_is_read_is_within_bounds_and_written_again(
            text in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                "[0-9;,.\"\n e-]{0,80}".prop_map(String::into_bytes),
            ],
            header in prop::sample::select(vec![
                "", "image_number,embedding\n", "image_number;embedding\n", "\u{feff}image_number\tembedding;det_score\n",
                "image_number,embedding,det_score;;;\n", "image_number|embedding|contract\n",
            ]),
        ) {
            super::property::holds(&[header.as_bytes(), &text].concat());
        }
    }

    #[test]
    fn files_of_the_replaced_service_are_read() {
        let samples =
            parse(b"image_number,embedding\r\n1,-0.123;1e-05;2.0\r\n2,0.5;0.25;-1\r\n").unwrap();
        let embeddings: Vec<Vec<f32>> = samples
            .iter()
            .map(|sample| sample.embedding.clone())
            .collect();
        assert_eq!(embeddings, [[-0.123, 1e-5, 2.0], [0.5, 0.25, -1.0]]);
        assert!(
            samples
                .iter()
                .all(|sample| sample.contract.is_none() && sample.det_score.is_none())
        );
    }

    #[test]
    fn embedding_column_is_raw_output() {
        let text =
            "image_number,embedding,template_embedding,contract\n1,1;2,3;4,\n2,5;6,,\n3,7;8\n";
        let samples = parse(text.replace("3,7;8\n", "3,7;8,,\n").as_bytes()).unwrap();
        let read: Vec<_> = samples
            .iter()
            .map(|sample| (sample.embedding.clone(), sample.raw.clone()))
            .collect();
        assert_eq!(
            read,
            [
                (vec![3.0, 4.0], Some(vec![1.0, 2.0])),
                (vec![5.0, 6.0], None),
                (vec![7.0, 8.0], None)
            ]
        );
        let mut written = Vec::new();
        write(&samples, &mut written).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert_eq!(
            written,
            "image_number,embedding,contract,det_score,template_embedding\n1,1;2,,,3;4\n2,5;6,,,\n3,7;8,,,\n"
        );
        // Without a second embedding the file is as it always was.
        let mut plain = Vec::new();
        write(&samples[1..2], &mut plain).unwrap();
        assert_eq!(
            String::from_utf8(plain).unwrap(),
            "image_number,embedding,contract,det_score\n1,5;6,,\n"
        );
    }

    #[test]
    fn what_is_no_persons_file_says_why() {
        for (text, wanted) in [
            ("", "it is cut off"),
            ("image_number,emb", "it is cut off"),
            ("\0\0\0\0", "it is cut off"),
            ("name,age\nx,1\n", "the header does not begin with"),
            ("image_number,embedding\n", "no rows"),
            (
                "image_number,embedding\n1,\n",
                "row 1: number 1 of the embedding is no finite number",
            ),
            (
                "image_number,embedding\n1,1;NaN\n",
                "row 1: number 2 of the embedding is no finite number",
            ),
            (
                "image_number,embedding\n1,1;inf\n",
                "row 1: number 2 of the embedding is no finite number",
            ),
            (
                "image_number,embedding\n1,1;2\n2,1\n",
                "row 2: 1 numbers, unlike the rows before",
            ),
            (
                "image_number,embedding\n1,0;0\n",
                "row 1: an embedding of zeros",
            ),
            ("image_number,embedding\n1,1;2,3\n", "not CSV"),
            (
                "image_number,embedding,det_score\n1,1;2,NaN\n",
                "row 1: det_score is no finite number",
            ),
            (
                "image_number,embedding,det_score\n1,1;2,-inf\n",
                "row 1: det_score is no finite number",
            ),
            (
                "image_number,embedding,template_embedding\n1,1;2,1\n",
                "row 1: its two embeddings have different lengths",
            ),
            (
                "image_number,embedding,template_embedding\n1,1;2,1;x\n",
                "row 1: number 2 of the template_embedding is no finite number",
            ),
            (
                "image_number,embedding,template_embedding\n1,1;2,0;0\n",
                "row 1: a template_embedding of zeros",
            ),
            (
                "image_number,embedding,contract\n1,1;2,xyz\n",
                "row 1: a contract id has 16 hexadecimal digits",
            ),
            (
                "image_number,embedding,enrolment\n1,1;2,xyz\n",
                "row 1: an enrolment id has 16 hexadecimal digits",
            ),
        ] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text:?}: {error}");
        }
        assert!(
            parse(b"image_number,embedding\n1,\xff\xfe\n")
                .unwrap_err()
                .to_string()
                .contains("not CSV")
        );
    }

    /// A German Excel separates columns with semicolons, and a file that it opens by a double click
    /// at every one of an embedding.
    #[test]
    fn spreadsheet_files_are_read() {
        for text in [
            "\u{feff}image_number,embedding\r\n1,0.5;-0.25\r\n2,1;2e-1\r\n",
            "image_number;embedding\r\n1;\"0.5;-0.25\"\r\n2;\"1;0.2\"\r\n",
            "\u{feff}image_number;embedding\r\n1;\"0,5;-0,25\"\r\n2;\"1;0,2\"\r\n",
            "image_number;embedding;det_score\n1;\"0.5;-0.25\";0,9\n2;\"1;0.2\";\n",
            "image_number;embedding\n1;0.5;-0.25\n2;1;0.2\n",
            "image_number;embedding;contract\n1;0.5;-0.25;\n2;1;0.2;\n",
            "image_number,embedding;\r\n1,0.5;-0.25\r\n2,1;0.2\r\n",
            "image_number,embedding,det_score;;;\n1,0.5;-0.25,0.9;;\n2,1;0.2,0.8\n",
            "image_number\tembedding\n1\t0.5;-0.25\n2\t1;0.2\n",
            "\"image_number\"|\"embedding\"\n1|0.5;-0.25\n2|1;0.2\n",
        ] {
            let samples =
                parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            let embeddings: Vec<&[f32]> = samples
                .iter()
                .map(|sample| sample.embedding.as_slice())
                .collect();
            assert_eq!(embeddings, [[0.5, -0.25], [1.0, 0.2]], "{text:?}");
        }
    }

    /// Numbers that a spreadsheet took for dates, thousands or its own language's fractions are not
    /// what they were.
    #[test]
    fn changed_numbers_are_refused() {
        for text in [
            "image_number,embedding;;\n1,0.5;01. Mai\n",
            "image_number,embedding;;\n1,0.5;123\n",
            "image_number,embedding;;\n1,0.5;1,00E-05\n",
            "image_number;embedding\n1;\"0.5;0,25\"\n",
            "image_number;embedding;contract\n1;\"0.5;0.25\";1,11111E+15\n",
            "image_number;embedding\n1;0.5;512\n",
            "image_number;embedding;contract\n1;0.5;-37;\n",
            "image_number,embedding;;\n1,0.5;12\n",
            "image_number,embedding;;\n1,0.031;-0.027;0.04;0.029;5\n",
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(
                matches!(error, SampleFileError::Spreadsheet { .. }),
                "{text:?}: {error}"
            );
            assert!(!error.is_damage() && !error.is_another() && error.is_content());
        }
    }

    /// Numbers as recognisers give them: large, zero for the most part, or integers alone.
    #[test]
    fn unusual_embeddings_are_not_refused() {
        for numbers in [
            "1.5;-8.75;0.25;0.125",
            "0;0;0;0.002;0.1;0",
            "12;-37;512;4",
            "3.5;0.011;9;0.5",
        ] {
            for text in [
                format!("image_number;embedding\n1;{numbers}\n"),
                format!("image_number,embedding;;\n1,{numbers}\n"),
                format!("image_number;embedding\n1;\"{numbers};512\"\n"),
            ] {
                parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            }
        }
    }

    #[test]
    fn no_message_quotes_an_embedding() {
        for text in [
            "1,0.7531;0.7531\n",
            "image_number,embedding\n1,0.7531;0.7531x\n",
            "image_number,embedding\n1,0.7531,0.7531,0.7531\n",
            "image_number,embedding,contract\n1,1;2,0.7531\n",
            "image_number,embedding,contract,det_score\n1,1;2,,0.7531;0.7531\n",
            "image_number,embedding\n1,1;2\n2,0.7531\n",
            "image_number;embedding\n1;\"0.7531;0,7531\"\n",
            "image_number,embedding;;\n1,0.7531;7531\n",
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(
                !format!("{error} {error:?}").contains("7531"),
                "{text:?}: {error:?}"
            );
        }
    }
}
