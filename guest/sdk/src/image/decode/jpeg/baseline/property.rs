//! The property that tests and fuzzers check.

use super::super::{Mode, attempt};
use super::{Header, decode};

/// The most pixels of a picture that is checked.
const MOST_PIXELS: u64 = 1 << 22;

/// Asserts that a file has the same pixels, orientation, flaws or error with and without this
/// decoder. Returns true if this decoder reads the file.
///
/// # Panics
///
/// If the results differ.
pub fn holds(bytes: &[u8]) -> bool {
    let Ok(header) = Header::read(bytes) else {
        return false;
    };
    if u64::from(header.width) * u64::from(header.height) > MOST_PIXELS {
        return false;
    }
    let [own, other] = [Mode::Baseline, Mode::Strict]
        .map(|mode| attempt(bytes, &header, 1, mode).map_err(|error| error.to_string()));
    // The pixels of a difference would fill the screen.
    assert!(own == other, "{}×{}", header.width, header.height);
    own.is_ok() && decode(bytes, &header).is_some()
}
