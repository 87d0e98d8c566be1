//! `Content-Disposition` of a part of a form (RFC 7578, RFC 6266).

use axum::http::HeaderValue;
use percent_encoding::percent_decode_str;

use crate::http::parameters::{parameter, split, text};

/// What a part whose file name cannot be read is called.
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
    /// Reads the parameters in any order. The first of several with one name counts, and `filename*` before `filename`.
    pub(super) fn of(header: Option<&HeaderValue>) -> Self {
        let (mut name, mut plain, mut extended) = (None, None, None);
        let parameters = header.into_iter().flat_map(|value| split(value.as_bytes(), b';')).filter_map(parameter);
        for (key, value) in parameters {
            let place = match key.as_str() {
                "name" => &mut name,
                "filename" => &mut plain,
                "filename*" => &mut extended,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        let is_file = plain.is_some() || extended.is_some();
        let file_name = extended.as_deref().and_then(decoded).or(plain);
        Self { name: name.unwrap_or_default(), file_name: file_name.or_else(|| is_file.then(|| UNNAMED.to_owned())) }
    }
}

/// Decodes an extended value, `charset'language'percent-encoded` (RFC 8187).
fn decoded(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_, encoded) = rest.split_once('\'')?;
    let bytes: Vec<u8> = percent_decode_str(encoded).collect();
    match charset.to_ascii_lowercase().as_str() {
        "utf-8" => String::from_utf8(bytes).ok(),
        "iso-8859-1" => Some(text(&bytes)),
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
        Disposition { name: name.to_owned(), file_name: Some(file_name.to_owned()) }
    }

    /// The order, the case and the quotes of parameters say nothing, and a file name may hold whatever looks like one.
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
            (r#"form-data; filename="a; name=\"b\".jpg"; name="image""#, r#"a; name="b".jpg"#),
            (r#"form-data; filename="filename=x name=y"; name="image""#, "filename=x name=y"),
            (r#"form-data; filename="C:\photos\name.jpg"; name="image""#, r"C:\photos\name.jpg"),
            (r#"form-data; filename*=iso-8859-1'en'%E4.jpg; name="image""#, "ä.jpg"),
            (r#"form-data; filename*=koi8-r''%C1; name="image""#, "unnamed"),
            (r#"form-data; filename*=UTF-8''%FF; filename="plain"; name="image""#, "plain"),
            (r#"form-data; filename=""; name="image""#, ""),
        ] {
            assert_eq!(read(header), file("image", file_name), "{header}");
        }
    }

    #[test]
    fn part_without_file_name_is_text() {
        assert_eq!(read(r#"form-data; name="image""#), Disposition { name: "image".to_owned(), file_name: None });
        assert_eq!(read("form-data"), Disposition::default());
        assert_eq!(Disposition::of(None), Disposition::default());
    }
}
