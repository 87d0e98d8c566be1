//! Common parts of the fuzz targets: initial inputs.

pub mod pictures;

use std::path::Path;

/// Writes an initial input into the folder that `ROSTRO_FUZZ_SEEDS` names. Without this variable a
/// target has no initial inputs.
pub fn seed(name: &str, input: &[u8]) {
    if let Some(folder) = std::env::var_os("ROSTRO_FUZZ_SEEDS") {
        std::fs::write(Path::new(&folder).join(name), input)
            .expect("the folder for initial inputs exists and can be written");
    }
}

/// Form with a text field and two files, and the boundary `b`.
pub const FORM: &str = "--b\r\ncontent-disposition: form-data; name=\"id\"\r\n\r\nalice\r\n\
    --b\r\ncontent-disposition: form-data; name=\"images\"; filename=\"a.jpg\"\r\ncontent-type: image/jpeg\r\n\r\nphoto\r\n\
    --b\r\ncontent-disposition: form-data; name=\"image\"; filename*=UTF-8''b\r\n\r\nsecond\r\n--b--\r\n";

/// Files of a person as the service and the replaced service write them, and as spreadsheets save
/// them.
pub const FILES: [&str; 4] = [
    "image_number,embedding,contract,det_score\n1,0.5;-2;0.25,2222222222222222,0.9\n2,1;2;3,1111111111111111,\n",
    "image_number,embedding\r\n1,-0.123;1e-05;2.0\r\n2,0.5;0.25;-1\r\n",
    "\u{feff}image_number;embedding;det_score\r\n1;\"-0,123;2,5\";0,9\r\n",
    "image_number,embedding;;;\r\n1,-0.123;1e-05;2.0;\r\n2,0.5;0.25;-1;\r\n",
];
