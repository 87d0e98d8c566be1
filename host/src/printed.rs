//! Words of others for a terminal.

/// The words on one line, with nothing in them that a terminal would obey.
pub(crate) fn printed(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
