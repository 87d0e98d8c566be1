//! Parameters of header fields: `name=value; other="quoted value"`, in any order (RFC 9110, section 5.6.6).

/// Splits a header value at a separator that is not within a quoted string.
pub(crate) fn split(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    value.split(move |&byte| {
        if is_escaped {
            is_escaped = false;
        } else if is_quoted && byte == b'\\' {
            is_escaped = true;
        } else if byte == b'"' {
            is_quoted = !is_quoted;
        }
        !is_quoted && byte == separator
    })
}

/// Reads one `name=value`: the name in lower case, and the value without quotes and escapes. `None` if there is no `=`.
pub(crate) fn parameter(part: &[u8]) -> Option<(String, String)> {
    let equals = part.iter().position(|&byte| byte == b'=')?;
    let (name, value) = (part.get(..equals)?.trim_ascii(), part.get(equals + 1..)?.trim_ascii());
    Some((text(name).to_ascii_lowercase(), text(&unquoted(value))))
}

/// Removes the quotes around a value, and the backslashes before quotes and backslashes. Others stay: some clients send paths of Windows as
/// they are.
fn unquoted(value: &[u8]) -> Vec<u8> {
    let Some(inner) = value.strip_prefix(b"\"") else { return value.to_vec() };
    let inner = inner.strip_suffix(b"\"").unwrap_or(inner);
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        match (byte, rest.peek()) {
            (b'\\', Some(b'"' | b'\\')) => bytes.extend(rest.next()),
            _ => bytes.push(byte),
        }
    }
    bytes
}

/// Decodes UTF-8, or Latin-1, which old clients send.
pub(crate) fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.iter().copied().map(char::from).collect(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_in_quotes_do_not_split() {
        let parts = |text: &'static str| split(text.as_bytes(), b';').map(text_of).collect::<Vec<_>>();
        fn text_of(part: &[u8]) -> String {
            text(part)
        }
        assert_eq!(parts(r#"a;b="x;y";c"#), ["a", r#"b="x;y""#, "c"]);
        assert_eq!(parts(r#"b="x\";y";c"#), [r#"b="x\";y""#, "c"]);
        assert_eq!(parts(r#"b="never;ends"#), [r#"b="never;ends"#]);
        assert_eq!(parts(""), [""]);
    }

    #[test]
    fn parameter_unquotes_its_value() {
        let read = |text: &str| parameter(text.as_bytes());
        let pair = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        assert_eq!(read(r#" Name = "a b" "#), pair("name", "a b"));
        assert_eq!(read(r#"filename="a\"b\\c""#), pair("filename", r#"a"b\c"#));
        assert_eq!(read(r#"filename="C:\photos\me.jpg""#), pair("filename", r"C:\photos\me.jpg"));
        assert_eq!(read("name=image"), pair("name", "image"));
        assert_eq!(read("form-data"), None);
        assert_eq!(parameter(b"filename=\"\xe4\""), pair("filename", "ä"));
    }
}
