//! Names of the received fields, for the error about a missing one.

use serde_json::{Value, json};

use crate::error::ApiError;

/// Largest number of fields in a message.
const MAX_FIELDS: usize = 20;

/// Longest quoted name, in characters.
const MAX_NAME_CHARS: usize = 64;

/// Names and kinds of the fields of a form, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct FieldNames {
    fields: Vec<(String, FieldKind)>,
    /// Number of fields that are not listed.
    more: usize,
    /// Body that is no form.
    other_body: Option<OtherBody>,
}

/// Body that came in place of a form.
#[derive(Clone, Copy, Debug)]
struct OtherBody {
    /// Description of the body.
    finding: &'static str,
    /// Command that sends a form.
    example: &'static str,
}

/// Kind of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldKind {
    Text,
    File,
}

impl FieldKind {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::File => "file",
        }
    }
}

impl FieldNames {
    /// Records a body that is no form.
    pub(super) fn of_other_body(finding: &'static str, example: &'static str) -> Self {
        Self {
            other_body: Some(OtherBody { finding, example }),
            ..Self::default()
        }
    }

    /// Records a field.
    pub(super) fn add(&mut self, name: &str, kind: FieldKind) {
        let name: String = name.chars().take(MAX_NAME_CHARS).collect();
        if self.fields.contains(&(name.clone(), kind)) {
            return;
        }
        if self.fields.len() < MAX_FIELDS {
            self.fields.push((name, kind))
        } else {
            self.more += 1
        }
    }

    /// Adds the expected field, the received ones and the remedy to an error about a missing field.
    pub(super) fn explain(&self, error: ApiError, expected: &str, kind: FieldKind) -> ApiError {
        let fields: Vec<Value> = self
            .fields
            .iter()
            .map(|(name, kind)| json!({ "name": name, "kind": kind.name() }))
            .collect();
        error
            .with("wanted", json!({ "name": expected, "kind": kind.name() }))
            .with("received", fields)
            .with("cause", self.cause(expected, kind))
    }

    fn cause(&self, expected: &str, kind: FieldKind) -> String {
        if let Some(OtherBody { finding, example }) = self.other_body {
            return format!("{finding}; send a form, as `{example}` does");
        }
        let received_kind = self
            .fields
            .iter()
            .find(|(name, _)| name == expected)
            .map(|(_, kind)| *kind);
        match (kind, received_kind) {
            (FieldKind::File, Some(FieldKind::Text)) => {
                return format!(
                    "the field '{expected}' came as text, because its part has no file name; send \
                     it as a file, as `curl -F {expected}=@photo.jpg` does"
                );
            }
            (FieldKind::Text, Some(FieldKind::File)) => {
                return format!(
                    "the field '{expected}' came as a file; send it as text, without a file name"
                );
            }
            _ => {}
        }
        let list: Vec<String> = self
            .fields
            .iter()
            .map(|(name, kind)| format!("the {} field '{name}'", kind.name()))
            .collect();
        let received = match (list.join(", "), self.more) {
            (list, _) if list.is_empty() => "no field".to_owned(),
            (list, 0) => list,
            (list, more) => format!("{list} and {more} more"),
        };
        format!(
            "the form has {received}; the {} field '{expected}' is wanted",
            kind.name()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(fields: &[(&str, FieldKind)], expected: &str, kind: FieldKind) -> String {
        let mut received = FieldNames::default();
        fields
            .iter()
            .for_each(|(name, kind)| received.add(name, *kind));
        received
            .explain(ApiError::bad_request("image_missing", "x"), expected, kind)
            .details["cause"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn cause_names_expected_and_received_fields() {
        for (fields, message) in [
            (
                &[][..],
                "the form has no field; the file field 'image' is wanted",
            ),
            (
                &[("photo", FieldKind::File)],
                "the form has the file field 'photo'; the file field 'image' is wanted",
            ),
            (
                &[
                    ("photo", FieldKind::File),
                    ("a", FieldKind::Text),
                    ("photo", FieldKind::File),
                ],
                "the form has the file field 'photo', the text field 'a'; the file field 'image' \
                 is wanted",
            ),
        ] {
            assert_eq!(cause(fields, "image", FieldKind::File), message);
        }
        assert!(
            cause(&[("image", FieldKind::Text)], "image", FieldKind::File)
                .contains("has no file name")
        );
        assert!(
            cause(&[("id", FieldKind::File)], "id", FieldKind::Text).contains("came as a file")
        );
    }

    #[test]
    fn cause_describes_other_body() {
        let cause = FieldNames::of_other_body("the body is an image and no form", "curl -F a=b")
            .cause("a", FieldKind::Text);
        assert_eq!(
            cause,
            "the body is an image and no form; send a form, as `curl -F a=b` does"
        );
    }

    #[test]
    fn cause_of_many_fields_is_short() {
        let mut received = FieldNames::default();
        (0..1000).for_each(|number| {
            received.add(&format!("{number}{}", "x".repeat(1000)), FieldKind::Text)
        });
        let cause = received.cause("image", FieldKind::File);
        assert!(
            cause.contains("and 980 more") && cause.len() < 3000,
            "{cause}"
        );
    }
}
