//! Property of every group file.

use super::file::{parse, text};

/// Panics unless the members that are read from a file are the same after they are written and read
/// again.
pub fn holds(bytes: Vec<u8>) {
    let Ok(members) = parse(bytes) else { return };
    let written = text(&members).map(String::into_bytes);
    assert_eq!(written.map(parse), Some(Ok(members)));
}
