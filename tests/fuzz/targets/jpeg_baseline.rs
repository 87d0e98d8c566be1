//! A JPEG, decoded by the vectors of the sandbox and by `libjpeg-turbo-rs`: pixels, flaws and
//! errors are equal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rostro_fuzz::pictures;

fuzz_target!(init: pictures::seeds(), |bytes: &[u8]| {
    rostro_sdk::decode::baseline_property::holds(bytes);
});
