//! What commands print, and words of others for a terminal.

use std::io::Write;

/// Prints a text and ends its line. A reader that has seen enough, like `head`, is no failure.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// The words on one line, with nothing in them that a terminal would obey.
pub(crate) fn printed(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
