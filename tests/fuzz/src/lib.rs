//! What the fuzz targets have in common: where they begin.

pub mod pictures;

use std::path::Path;

/// Writes an input to begin with into the folder that `ROSTRO_FUZZ_SEEDS` names; without one, a
/// target begins with nothing.
pub fn seed(name: &str, input: &[u8]) {
    if let Some(folder) = std::env::var_os("ROSTRO_FUZZ_SEEDS") {
        std::fs::write(Path::new(&folder).join(name), input)
            .expect("the folder for inputs to begin with is there and can be written");
    }
}

/// A form with a text field and two files, of the boundary `b`.
pub const FORM: &str = "--b\r\ncontent-disposition: form-data; name=\"id\"\r\n\r\nalice\r\n\
    --b\r\ncontent-disposition: form-data; name=\"images\"; filename=\"a.jpg\"\r\ncontent-type: image/jpeg\r\n\r\nphoto\r\n\
    --b\r\ncontent-disposition: form-data; name=\"image\"; filename*=UTF-8''b\r\n\r\nsecond\r\n--b--\r\n";

/// A person's file as it is written today, as the replaced service wrote it, and as a spreadsheet
/// saved it.
pub const FILES: [&str; 4] = [
    "image_number,embedding,contract,det_score\n1,0.5;-2;0.25,2222222222222222,0.9\n2,1;2;3,1111111111111111,\n",
    "image_number,embedding\r\n1,-0.123;1e-05;2.0\r\n2,0.5;0.25;-1\r\n",
    "\u{feff}image_number;embedding;det_score\r\n1;\"-0,123;2,5\";0,9\r\n",
    "image_number,embedding;;;\r\n1,-0.123;1e-05;2.0;\r\n2,0.5;0.25;-1;\r\n",
];
