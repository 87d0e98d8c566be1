//! `Content-Disposition` of a part of a form (RFC 7578, RFC 6266).

use axum::http::HeaderValue;
use percent_encoding::percent_decode_str;

use crate::request::parameters::{self, Parameters, decode_text};

/// File name of a part with an undecodable one.
const UNNAMED: &str = "unnamed";

/// Name and file name of a part of a form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Disposition {
    /// The field's name; empty if the part has none.
    pub(super) name: String,
    /// The file name, which makes the part a file.
    pub(super) file_name: Option<String>,
}

impl Disposition {
    /// Reads the parameters in any order. The first parameter of a name counts, and `filename*`
    /// takes precedence over `filename`.
    pub(super) fn of(header: Option<&HeaderValue>) -> Self {
        let value = header.map(HeaderValue::as_bytes).unwrap_or_default();
        if let Ok(parameters) = parameters::parse(value) {
            return Self::from_parameters(parameters);
        }
        // Some clients do not escape quotes in file names, or send a Windows path that ends with a
        // backslash.
        let lenient = Self::from_parameters(parameters::parse_leniently(value));
        if lenient.name.is_empty() {
            Self::from_parameters(parameters::parse_unquoted(value))
        } else {
            lenient
        }
    }

    fn from_parameters(parameters: Parameters) -> Self {
        let (mut name, mut plain, mut extended) = (None, None, None);
        for (key, value) in parameters {
            let slot = match key.as_str() {
                "name" => &mut name,
                "filename" => &mut plain,
                "filename*" => &mut extended,
                _ => continue,
            };
            slot.get_or_insert(value);
        }
        let is_file = plain.is_some() || extended.is_some();
        let file_name = extended.as_deref().and_then(decode_extended).or(plain);
        Self {
            name: name.unwrap_or_default(),
            file_name: file_name.or_else(|| is_file.then(|| UNNAMED.to_owned())),
        }
    }
}

/// Decodes an extended value, `charset'language'percent-encoded` (RFC 8187).
fn decode_extended(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_, encoded) = rest.split_once('\'')?;
    let bytes: Vec<u8> = percent_decode_str(encoded).collect();
    match charset.to_ascii_lowercase().as_str() {
        "utf-8" => String::from_utf8(bytes).ok(),
        "iso-8859-1" => Some(decode_text(&bytes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Disposition {
        Disposition::of(Some(&HeaderValue::from_bytes(text.as_bytes()).unwrap()))
    }

    fn file(name: &str, file_name: &str) -> Disposition {
        Disposition {
            name: name.to_owned(),
            file_name: Some(file_name.to_owned()),
        }
    }

    /// Order, case and quotes of parameters do not matter, and a file name may contain text that
    /// looks like a parameter.
    #[test]
    fn parameters_are_read_in_any_order() {
        for header in [
            r#"form-data; name="image"; filename="my name.jpg""#,
            r#"form-data; filename="my name.jpg"; name="image""#,
            r#"form-data;filename="my name.jpg";name=image"#,
            r#"FORM-DATA; FileName="my name.jpg"; NAME="image""#,
            r#"form-data; size=12; filename = "my name.jpg" ; name = "image""#,
            r#"form-data; filename*=UTF-8''my%20name.jpg; name=image; filename="x.jpg""#,
        ] {
            assert_eq!(read(header), file("image", "my name.jpg"), "{header}");
        }
        for (header, file_name) in [
            (
                r#"form-data; filename="a; name=\"b\".jpg"; name="image""#,
                r#"a; name="b".jpg"#,
            ),
            (
                r#"form-data; filename="filename=x name=y"; name="image""#,
                "filename=x name=y",
            ),
            (
                r#"form-data; filename="C:\photos\name.jpg"; name="image""#,
                r"C:\photos\name.jpg",
            ),
            (
                r#"form-data; filename*=iso-8859-1'en'%E4.jpg; name="image""#,
                "ä.jpg",
            ),
            (
                r#"form-data; filename*=koi8-r''%C1; name="image""#,
                "unnamed",
            ),
            (
                r#"form-data; filename*=UTF-8''%FF; filename="plain"; name="image""#,
                "plain",
            ),
            (r#"form-data; filename=""; name="image""#, ""),
        ] {
            assert_eq!(read(header), file("image", file_name), "{header}");
        }
    }

    /// The name is found after a file name with unescaped or unclosed quotes.
    #[test]
    fn odd_quotes_leave_name_readable() {
        for (file_name, read_as) in [
            (r#""C:\dir\""#, r"C:\dir\"),
            (r#"5" screen.jpg"#, r#"5" screen.jpg"#),
            (r#""a"b.jpg""#, r#"a"b.jpg"#),
            (r#""a"b";c.jpg" "#, r#"a"b"#),
            (r#""a.jpg"#, "a.jpg"),
            (r#"a.jpg""#, r#"a.jpg""#),
            (r#"""#, ""),
            (r#""5\" screen.jpg""#, r#"5" screen.jpg"#),
        ] {
            for name in ["image", "\"image\""] {
                let behind = format!("form-data; filename={file_name}; name={name}");
                assert_eq!(read(&behind).name, "image", "{behind}");
                let before = format!("form-data; name={name}; filename={file_name}");
                assert_eq!(read(&before), file("image", read_as), "{before}");
            }
        }
    }

    #[test]
    fn part_without_file_name_is_text() {
        assert_eq!(
            read(r#"form-data; name="image""#),
            Disposition {
                name: "image".to_owned(),
                file_name: None
            }
        );
        assert_eq!(read("form-data"), Disposition::default());
        assert_eq!(Disposition::of(None), Disposition::default());
    }
}
