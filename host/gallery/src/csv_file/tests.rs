use proptest::prelude::*;

use rostro_common::ids::{ContractId, EnrolmentId};
use rostro_common::sample::Sample;

use super::*;

proptest! {
    #[test]
    fn samples_round_trip_bit_by_bit(
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

    /// Any input that is read gives samples within bounds, and is the same once written again.
    #[test]
    fn any_input_is_read_within_bounds(
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
fn replaced_service_files_are_read() {
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
    let text = "image_number,embedding,template_embedding,contract\n1,1;2,3;4,\n2,5;6,,\n3,7;8\n";
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
    // Without template embeddings the file has the columns of older versions.
    let mut plain = Vec::new();
    write(&samples[1..2], &mut plain).unwrap();
    assert_eq!(
        String::from_utf8(plain).unwrap(),
        "image_number,embedding,contract,det_score\n1,5;6,,\n"
    );
}

#[test]
fn invalid_file_names_the_cause() {
    for (text, expected) in [
        ("", "it is cut off"),
        ("image_number,emb", "it is cut off"),
        ("\0\0\0\0", "it is cut off"),
        ("name,age\nx,1\n", "the header does not begin with"),
        ("image_number,embedding\n", "no rows"),
        (
            "image_number,embedding\n1,\n",
            "row 1: number 1 of the embedding is not a finite number",
        ),
        (
            "image_number,embedding\n1,1;NaN\n",
            "row 1: number 2 of the embedding is not a finite number",
        ),
        (
            "image_number,embedding\n1,1;inf\n",
            "row 1: number 2 of the embedding is not a finite number",
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
            "row 1: det_score is not a finite number",
        ),
        (
            "image_number,embedding,det_score\n1,1;2,-inf\n",
            "row 1: det_score is not a finite number",
        ),
        (
            "image_number,embedding,template_embedding\n1,1;2,1\n",
            "row 1: its two embeddings have different lengths",
        ),
        (
            "image_number,embedding,template_embedding\n1,1;2,1;x\n",
            "row 1: number 2 of the template_embedding is not a finite number",
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
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    assert!(
        parse(b"image_number,embedding\n1,\xff\xfe\n")
            .unwrap_err()
            .to_string()
            .contains("not CSV")
    );
}

/// A German Excel separates columns with semicolons. If a file is opened by a double click, it also
/// splits at each semicolon of an embedding.
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
        let samples = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        let embeddings: Vec<&[f32]> = samples
            .iter()
            .map(|sample| sample.embedding.as_slice())
            .collect();
        assert_eq!(embeddings, [[0.5, -0.25], [1.0, 0.2]], "{text:?}");
    }
}

/// A spreadsheet may read numbers as dates, thousands or fractions of its own language.
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
        assert!(!error.is_damaged() && !error.is_foreign() && error.has_content());
    }
}

/// Recognisers may give large numbers, mostly zeros, or integers alone.
#[test]
fn unusual_embeddings_are_read() {
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
fn errors_never_quote_embeddings() {
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
