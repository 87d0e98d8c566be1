//! Text of other people for a terminal, and warnings on standard error.

use std::io::{self, Write};

/// Prints a text and a line break to standard error. Ignores write errors, because there is no
/// other place to report them.
pub fn warn_user(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Returns the text on one line, with spaces for control characters and for characters that are
/// invisible or change the direction of text.
pub fn sanitize(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut previous = ' ';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        // Inside a word, joiners shape its letters, as in Persian.
        let is_joiner = matches!(c, '\u{200c}' | '\u{200d}')
            && previous.is_alphabetic()
            && rest.peek().is_some_and(|next| next.is_alphabetic());
        shown.push(if is_joiner || is_visible(c) { c } else { ' ' });
        previous = c;
    }
    shown
}

/// Sanitizes each line of a text and keeps the line breaks.
pub fn sanitize_lines(text: &str) -> String {
    text.lines().map(sanitize).collect::<Vec<_>>().join("\n")
}

/// Sanitizes an untrusted name and truncates it.
pub fn sanitize_name(name: &str) -> String {
    /// Maximum length in characters, longer than the names of any interface.
    const MAX_LENGTH: usize = 120;
    let mut characters = name.chars();
    let begin = sanitize(&characters.by_ref().take(MAX_LENGTH).collect::<String>());
    if characters.next().is_some() {
        format!("{begin}…")
    } else {
        begin
    }
}

/// Sanitizes and lists the first names of many.
pub fn sanitize_names(names: &[String]) -> String {
    const MAX_NAMES: usize = 20;
    let mut shown: Vec<String> = names
        .iter()
        .take(MAX_NAMES)
        .map(|name| sanitize_name(name))
        .collect();
    if names.len() > MAX_NAMES {
        shown.push(format!("and {} more", names.len() - MAX_NAMES));
    }
    shown.join(", ")
}

/// Returns false for control characters, and for characters of Unicode that are invisible or change
/// the direction of text.
fn is_visible(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sanitize_removes_control_characters() {
        assert_eq!(
            sanitize("a\x1b[31mb\nc\u{202e}d\u{200b}e\u{9b}f"),
            "a [31mb c d e f"
        );
        assert_eq!(sanitize("می\u{200c}رود \u{200d}x"), "می\u{200c}رود  x");
        assert_eq!(sanitize_lines("one\r\ntwo\x07"), "one\ntwo ");
        assert_eq!(sanitize_name(&"x".repeat(500)).chars().count(), 121);
        assert!(sanitize_names(&vec!["x".to_owned(); 30]).ends_with("and 10 more"));
    }
}
