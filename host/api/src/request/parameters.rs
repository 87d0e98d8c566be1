//! Parser of header parameters: `name=value; other="quoted value"`, in any order (RFC 9110, section
//! 5.6.6).

use std::borrow::Cow;

/// Error about a quoted string that has no end, or that is not followed by a separator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BrokenQuotes;

/// Parameters in order: names in lower case, and values without quotes and escapes.
pub(crate) type Parameters = Vec<(String, String)>;

/// Parses a comma-separated list of elements with parameters (RFC 7239). An element that has a part
/// without `=` becomes `None`. Empty elements are left out.
///
/// If quotes do not close, the rest of the list becomes one `None`. A client may have opened them to
/// hide the elements that a proxy appends.
pub(crate) fn parse_list(value: &[u8]) -> Vec<Option<Parameters>> {
    let (mut elements, mut rest) = (Vec::new(), Some(value));
    while rest.is_some() {
        let Ok(parts) = split_element(&mut rest) else {
            elements.push(None);
            break;
        };
        let is_empty = parts.iter().all(|part| part.trim_ascii().is_empty());
        if !is_empty {
            elements.push(
                parts
                    .into_iter()
                    .filter(|part| !part.trim_ascii().is_empty())
                    .map(parse_parameter)
                    .collect(),
            );
        }
    }
    elements
}

/// Splits the first element of a list at semicolons, and leaves the rest after its comma.
fn split_element<'v>(list: &mut Option<&'v [u8]>) -> Result<Vec<&'v [u8]>, BrokenQuotes> {
    let mut parts = Vec::new();
    while let Some(rest) = list.take() {
        let (part, separated) = split_first(rest, b",;")?;
        parts.push(part);
        *list = separated.map(|(_, next)| next);
        if !matches!(separated, Some((b';', _))) {
            break;
        }
    }
    Ok(parts)
}

/// A separator and the rest after it.
type Separated<'v> = Option<(u8, &'v [u8])>;

/// Splits at the first separator outside of quoted strings. Quotes open directly after `=`, and a
/// separator must follow the closing quote.
fn split_first<'v>(
    value: &'v [u8],
    separators: &[u8],
) -> Result<(&'v [u8], Separated<'v>), BrokenQuotes> {
    let is_end = |byte: &u8| separators.contains(byte);
    let plain = value
        .iter()
        .position(|byte| is_end(byte) || *byte == b'=')
        .unwrap_or(value.len());
    let mut at = plain;
    if value.get(plain) == Some(&b'=') {
        at += 1 + white_space(value.get(plain + 1..).unwrap_or_default());
        if value.get(at) == Some(&b'"') {
            at = closing_quote(value, at + 1).ok_or(BrokenQuotes)? + 1;
            at += white_space(value.get(at..).unwrap_or_default());
            if value.get(at).is_some_and(|byte| !is_end(byte)) {
                return Err(BrokenQuotes);
            }
        } else {
            at += value
                .get(at..)
                .and_then(|rest| rest.iter().position(is_end))
                .unwrap_or(value.len() - at);
        }
    }
    let separated = value.get(at).copied().zip(value.get(at + 1..));
    Ok((value.get(..at).unwrap_or_default(), separated))
}

/// Returns the length of the leading white space.
fn white_space(bytes: &[u8]) -> usize {
    bytes.len() - bytes.trim_ascii_start().len()
}

/// Finds the closing quote of a string. A backslash escapes the next byte.
fn closing_quote(value: &[u8], from: usize) -> Option<usize> {
    let mut bytes = value.iter().enumerate().skip(from);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(at),
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    None
}

/// Parses parameters that semicolons separate.
///
/// # Errors
///
/// [`BrokenQuotes`]
pub(crate) fn parse(value: &[u8]) -> Result<Parameters, BrokenQuotes> {
    let (mut found, mut rest) = (Vec::new(), Some(value));
    while let Some(begin) = rest {
        let (part, separated) = split_first(begin, b";")?;
        found.extend(parse_parameter(part));
        rest = separated.map(|(_, next)| next);
    }
    Ok(found)
}

/// Parses parameters with unescaped quotes, as some clients send file names. A quote closes only
/// before a semicolon or at the end. A quote that does not close belongs to the value.
pub(crate) fn parse_leniently(value: &[u8]) -> Parameters {
    let (mut found, mut rest) = (Vec::new(), value);
    while !rest.is_empty() {
        let plain = rest
            .iter()
            .position(|byte| *byte == b';')
            .unwrap_or(rest.len());
        let quotes = rest
            .iter()
            .position(|byte| *byte == b'=')
            .map(|equals| equals + 1 + white_space(rest.get(equals + 1..).unwrap_or_default()));
        let quotes = quotes.filter(|at| *at < plain && rest.get(*at) == Some(&b'"'));
        let end = quotes
            .and_then(|at| closing_quote_before_separator(rest, at + 1))
            .unwrap_or(plain);
        found.extend(rest.get(..end).and_then(parse_parameter));
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    found
}

/// Finds the end of a quoted value, which a separator follows.
fn closing_quote_before_separator(value: &[u8], from: usize) -> Option<usize> {
    let end = |at: usize| at + 1 + white_space(value.get(at + 1..).unwrap_or_default());
    let is_closing = |at: &usize| {
        value.get(*at) == Some(&b'"') && value.get(end(*at)).is_none_or(|byte| *byte == b';')
    };
    (from..value.len()).find(is_closing).map(end)
}

/// Parses parameters without quoting: every semicolon ends a parameter.
pub(crate) fn parse_unquoted(value: &[u8]) -> Parameters {
    value
        .split(|byte| *byte == b';')
        .filter_map(parse_parameter)
        .collect()
}

/// Parses one `name=value`: the name in lower case, and the value without quotes and escapes.
/// Returns `None` without `=`.
fn parse_parameter(part: &[u8]) -> Option<(String, String)> {
    let equals = part.iter().position(|&byte| byte == b'=')?;
    let (name, value) = (
        part.get(..equals)?.trim_ascii(),
        part.get(equals + 1..)?.trim_ascii(),
    );
    let value = decode_text(&unquote(value));
    Some((decode_text(name).to_ascii_lowercase(), value))
}

/// Removes the quotes around a value, and the backslashes before quotes and backslashes. Other
/// backslashes stay, because some clients send unescaped Windows paths.
fn unquote(value: &[u8]) -> Cow<'_, [u8]> {
    let Some(inner) = value.strip_prefix(b"\"") else {
        return value.into();
    };
    let inner = inner.strip_suffix(b"\"").unwrap_or(inner);
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        match (byte, rest.peek()) {
            (b'\\', Some(b'"' | b'\\')) => bytes.extend(rest.next()),
            _ => bytes.push(byte),
        }
    }
    bytes.into()
}

/// Decodes UTF-8, or else Latin-1, which old clients send.
pub(crate) fn decode_text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(
        |_| bytes.iter().copied().map(char::from).collect(),
        str::to_owned,
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Parameters {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn separators_in_quotes_do_not_split() {
        let read = |text: &str| parse(text.as_bytes());
        assert_eq!(
            read(r#"a;b="x;y";c=z"#),
            Ok(pairs(&[("b", "x;y"), ("c", "z")]))
        );
        assert_eq!(read(r#"b = "x\";y" ; c"#), Ok(pairs(&[("b", "x\";y")])));
        assert_eq!(
            read(r#"b=5" x;c=z"#),
            Ok(pairs(&[("b", "5\" x"), ("c", "z")]))
        );
        assert_eq!(read(""), Ok(Vec::new()));
        for broken in [r#"b="never;ends"#, r#"b="x"y;c=z"#, r#"b="x\"#, r#"b="x\""#] {
            assert_eq!(read(broken), Err(BrokenQuotes), "{broken}");
        }
    }

    #[test]
    fn parameter_unquotes_its_value() {
        let read = |text: &str| parse_parameter(text.as_bytes());
        let pair = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        assert_eq!(read(r#" Name = "a b" "#), pair("name", "a b"));
        assert_eq!(read(r#"filename="a\"b\\c""#), pair("filename", r#"a"b\c"#));
        assert_eq!(
            read(r#"filename="C:\photos\me.jpg""#),
            pair("filename", r"C:\photos\me.jpg")
        );
        assert_eq!(read("name=image"), pair("name", "image"));
        assert_eq!(read("form-data"), None);
        assert_eq!(parse_parameter(b"filename=\"\xe4\""), pair("filename", "ä"));
    }

    #[test]
    fn list_ends_at_broken_quotes() {
        let read = |text: &str| parse_list(text.as_bytes());
        let one = |name: &str, value: &str| Some(pairs(&[(name, value)]));
        assert_eq!(
            read(r#"a=1;b="x,y;z", c=2"#),
            [Some(pairs(&[("a", "1"), ("b", "x,y;z")])), one("c", "2")]
        );
        assert_eq!(read(" , a=1,,; ,b=2;,"), [one("a", "1"), one("b", "2")]);
        assert_eq!(
            read("a=1, rubbish, b=2"),
            [one("a", "1"), None, one("b", "2")]
        );
        assert_eq!(read(r#"a=x"y, b=2"#), [one("a", "x\"y"), one("b", "2")]);
        for broken in [
            r#"a=1, b=", c=2"#,
            r#"a=1, b="x"y, c=2"#,
            r#"a=1, b="\", c=2"#,
            r#"a=1, b=", c="2""#,
        ] {
            assert_eq!(read(broken), [one("a", "1"), None], "{broken}");
        }
    }

    proptest! {
        /// For any start of the list, the last element is the appended one or unreadable.
        #[test]
        fn appended_element_is_last_or_hidden(
            before in r#"[a-z=;,"\\ ]{0,20}"#,
            is_quoted in any::<bool>(),
            comma in r",| ,|, ",
        ) {
            let appended = if is_quoted {
                "for=\"[2001:db8::7]:80\";proto=https"
            } else {
                "for=203.0.113.7"
            };
            let alone = parse_list(appended.as_bytes());
            let last = parse_list(format!("{before}{comma}{appended}").as_bytes()).pop().unwrap();
            prop_assert!(last.is_none() || Some(&last) == alone.last(), "{last:?}");
        }
    }
}
