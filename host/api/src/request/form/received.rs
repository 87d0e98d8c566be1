//! The fields that a caller sent, for the message about one that is missing.

use serde_json::{Value, json};

use crate::error::ApiError;

/// The most fields that a message lists, and the longest name that it quotes, in characters.
const MOST: usize = 20;
const LONGEST: usize = 64;

/// Names and kinds of the fields of a form, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct FieldNames {
    fields: Vec<(String, FieldKind)>,
    /// Fields that came after those.
    further: usize,
    /// What came in place of a form, and how one is sent.
    instead: Option<(&'static str, &'static str)>,
}

/// How a field came.
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
    /// Records that no form came.
    pub(super) fn instead_of(is: &'static str, example: &'static str) -> Self {
        Self {
            instead: Some((is, example)),
            ..Self::default()
        }
    }

    /// Records a field.
    pub(super) fn add(&mut self, name: &str, kind: FieldKind) {
        let name: String = name.chars().take(LONGEST).collect();
        if self.fields.contains(&(name.clone(), kind)) {
            return;
        }
        if self.fields.len() < MOST {
            self.fields.push((name, kind))
        } else {
            self.further += 1
        }
    }

    /// Adds to an error about a missing field which one is wanted, which came, and what to do.
    pub(super) fn explain(&self, error: ApiError, wanted: &str, kind: FieldKind) -> ApiError {
        let fields: Vec<Value> = self
            .fields
            .iter()
            .map(|(name, kind)| json!({ "name": name, "kind": kind.name() }))
            .collect();
        error
            .with("wanted", json!({ "name": wanted, "kind": kind.name() }))
            .with("received", fields)
            .with("cause", self.sentence(wanted, kind))
    }

    fn sentence(&self, wanted: &str, kind: FieldKind) -> String {
        if let Some((is, example)) = self.instead {
            return format!("{is}; send a form, as `{example}` does");
        }
        let came_as = self
            .fields
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, kind)| *kind);
        match (kind, came_as) {
            (FieldKind::File, Some(FieldKind::Text)) => {
                return format!(
                    "the field '{wanted}' came as text, because its part has no file name; send it as a file, as `curl -F {wanted}=@photo.jpg` does"
                );
            }
            (FieldKind::Text, Some(FieldKind::File)) => {
                return format!(
                    "the field '{wanted}' came as a file; send it as text, without a file name"
                );
            }
            _ => {}
        }
        let list: Vec<String> = self
            .fields
            .iter()
            .map(|(name, kind)| format!("the {} field '{name}'", kind.name()))
            .collect();
        let came = match (list.join(", "), self.further) {
            (list, _) if list.is_empty() => "no field".to_owned(),
            (list, 0) => list,
            (list, further) => format!("{list} and {further} more"),
        };
        format!(
            "the form has {came}; the {} field '{wanted}' is wanted",
            kind.name()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(fields: &[(&str, FieldKind)], wanted: &str, kind: FieldKind) -> String {
        let mut received = FieldNames::default();
        fields
            .iter()
            .for_each(|(name, kind)| received.add(name, *kind));
        received
            .explain(ApiError::bad_request("image_missing", "x"), wanted, kind)
            .details["cause"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn message_names_wanted_and_received_fields() {
        for (fields, wanted) in [
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
                "the form has the file field 'photo', the text field 'a'; the file field 'image' is wanted",
            ),
        ] {
            assert_eq!(cause(fields, "image", FieldKind::File), wanted);
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
    fn message_says_what_came_instead() {
        let sentence = FieldNames::instead_of("the body is an image and no form", "curl -F a=b")
            .sentence("a", FieldKind::Text);
        assert_eq!(
            sentence,
            "the body is an image and no form; send a form, as `curl -F a=b` does"
        );
    }

    #[test]
    fn message_stays_short_for_many_fields() {
        let mut received = FieldNames::default();
        (0..1000).for_each(|number| {
            received.add(&format!("{number}{}", "x".repeat(1000)), FieldKind::Text)
        });
        let sentence = received.sentence("image", FieldKind::File);
        assert!(
            sentence.contains("and 980 more") && sentence.len() < 3000,
            "{sentence}"
        );
    }
}
