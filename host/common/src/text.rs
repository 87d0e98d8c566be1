//! What commands print, and words of others for a terminal.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use serde::{Serialize, Serializer};

/// Prints a text and a line break to standard output. Ignores broken pipes (`| head`); exits on any
/// other write error.
pub fn say(text: &str) {
    if let Err(error) = writeln!(io::stdout().lock(), "{text}")
        && error.kind() != ErrorKind::BrokenPipe
    {
        warn_user(&format!("error: cannot write to standard output: {error}"));
        std::process::exit(1);
    }
}

/// Prints a text and a line break to standard error. Ignores write errors, because there is no
/// other place to report them.
pub fn warn_user(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints a value as JSON.
pub fn say_json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => say(&text),
        Err(error) => {
            warn_user(&format!("error: cannot write the answer as JSON: {error}"));
            std::process::exit(1);
        }
    }
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

/// A path for JSON: what is no text in it becomes `�`, where serde would fail.
pub fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
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
