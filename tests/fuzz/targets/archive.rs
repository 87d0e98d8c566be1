//! An archive of the gallery: the input itself or, after a first byte `Z`, an archive made from it.
//! Each entry then has a line with its name, followed by its content.
#![no_main]

use std::collections::BTreeMap;
use std::io::{Cursor, Write};

use libfuzzer_sys::fuzz_target;
use rostro_fuzz::{FILES, seed};
use rostro_service::transfer::property;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// End of an entry.
const END: u8 = 0;

fn seeds() {
    let person = "people/2222222222222222/s6.csv";
    let entries = [
        (person, FILES[0]),
        ("people/1111111111111111/a.b@c.csv", FILES[1]),
        ("groups/maths", "s6\nalice\n"),
        ("left_out.txt", "x"),
    ];
    for method in [CompressionMethod::Deflated, CompressionMethod::Stored] {
        let entries = entries.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
        seed(
            &method.to_string(),
            &archive(entries.into_iter().collect(), method),
        );
    }
    let lines = entries
        .map(|(name, text)| format!("{name}\n{text}\0"))
        .concat();
    seed("lines", format!("Z{lines}").as_bytes());
}

fn archive(entries: BTreeMap<String, Vec<u8>>, method: CompressionMethod) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents) in entries {
        archive
            .start_file(
                name,
                SimpleFileOptions::default().compression_method(method),
            )
            .expect("a name that is there once");
        archive.write_all(&contents).expect("memory takes it");
    }
    archive.finish().expect("memory takes it").into_inner()
}

fuzz_target!(init: seeds(), |input: &[u8]| {
    let Some(lines) = input.strip_prefix(b"Z") else {
        property::holds(input.to_vec());
        return;
    };
    let entries = lines.split(|byte| *byte == END).filter_map(|entry| {
        let end = entry.iter().position(|byte| *byte == b'\n')?;
        Some((String::from_utf8_lossy(&entry[..end]).into_owned(), entry[end + 1..].to_vec()))
    });
    let entries: BTreeMap<String, Vec<u8>> = entries.collect();
    // Reading a valid archive returns its contents.
    for (name, contents) in property::holds(archive(entries.clone(), CompressionMethod::Deflated)) {
        assert_eq!(entries.get(&name), Some(&contents), "{name}");
    }
});
