//! Text of other people for a terminal, and warnings on standard error.

use std::io::{self, Write};

/// Prints a text and a line break to standard error. Ignores write errors, because there is no
/// other place to report them.
pub fn warn_user(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// The words on one line, with nothing in them that a terminal would obey, or that would hide or
/// turn round what it shows.
pub fn sanitize(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        // Inside a word joiners shape its letters, as in Persian.
        let joins = matches!(c, '\u{200c}' | '\u{200d}')
            && before.is_alphabetic()
            && rest.peek().is_some_and(|next| next.is_alphabetic());
        shown.push(if joins || is_shown(c) { c } else { ' ' });
        before = c;
    }
    shown
}

/// The same of several lines, which stay lines.
pub fn sanitize_lines(text: &str) -> String {
    text.lines().map(sanitize).collect::<Vec<_>>().join("\n")
}

/// A name that somebody else chose, printed, and cut if it is long.
pub fn sanitize_name(name: &str) -> String {
    /// In letters: no interface has so long a name.
    const LONGEST: usize = 120;
    let mut letters = name.chars();
    let begin = sanitize(&letters.by_ref().take(LONGEST).collect::<String>());
    if letters.next().is_some() {
        format!("{begin}…")
    } else {
        begin
    }
}

/// The first few of many names, printed.
pub fn sanitize_names(names: &[String]) -> String {
    const MOST: usize = 20;
    let mut shown: Vec<String> = names
        .iter()
        .take(MOST)
        .map(|name| sanitize_name(name))
        .collect();
    if names.len() > MOST {
        shown.push(format!("and {} more", names.len() - MOST));
    }
    shown.join(", ")
}

/// No control character, and none of Unicode's that are invisible or change the direction of text.
fn is_shown(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_others_words_is_obeyed_or_hidden() {
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
