//! The file of a person.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rostro_fuzz::{FILES, seed};

fn seeds() {
    for (number, file) in FILES.iter().enumerate() {
        seed(&number.to_string(), file.as_bytes());
    }
}

fuzz_target!(init: seeds(), |text: &[u8]| rostro_gallery::csv_file::property::holds(text));
