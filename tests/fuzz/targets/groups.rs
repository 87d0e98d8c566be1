//! The file of a group.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rostro_fuzz::seed;

fuzz_target!(init: seed("members", b"alice\nbob\n\nA.b_c-d@e.f\r\n"), |text: &[u8]| rostro_gallery::groups::property::holds(text.to_vec()));
