//! Options of a frame for the pipeline: closeness of the search for faces, and the caller's text.

use axum::http::Uri;

use crate::error::ApiError;
use crate::request::form::Form;
use crate::request::query::pairs;

/// Longest text for the pipeline, in bytes.
const CONTEXT: usize = 1024;

/// Options of a frame, from query and form.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FrameOptions {
    /// Value of the pipeline's setting `closeness`.
    pub(crate) closeness: Option<String>,
    /// Text for the pipeline.
    pub(crate) context: Option<String>,
}

impl FrameOptions {
    /// Names of the fields and parameters.
    pub(crate) const NAMES: [&str; 2] = ["closeness", "context"];

    /// Reads a query.
    pub(crate) fn of_query(uri: &Uri) -> Result<Self, ApiError> {
        let mut options = Self::default();
        pairs(uri).try_for_each(|(name, value)| options.add(&name, &value))?;
        Ok(options)
    }

    /// Adds the fields of a form.
    pub(crate) fn add_form(&mut self, form: &Form) -> Result<(), ApiError> {
        for name in Self::NAMES {
            form.values(name)
                .try_for_each(|value| self.add(name, value))?;
        }
        Ok(())
    }

    fn add(&mut self, name: &str, value: &str) -> Result<(), ApiError> {
        let place = match name {
            "closeness" if !matches!(value, "coarse" | "auto" | "fine") => {
                return Err(invalid(
                    name,
                    "'closeness' must be 'coarse', 'auto' or 'fine'.",
                ));
            }
            "context" if value.len() > CONTEXT => {
                return Err(invalid(
                    name,
                    "'context' is longer than 1,024 bytes; send a shorter text.",
                ));
            }
            "closeness" => &mut self.closeness,
            "context" => &mut self.context,
            _ => return Ok(()),
        };
        match place {
            Some(first) if first != value => Err(invalid(
                name,
                "it is given twice, with different values; send one.",
            )),
            _ => {
                *place = Some(value.to_owned());
                Ok(())
            }
        }
    }
}

fn invalid(parameter: &str, message: &str) -> ApiError {
    ApiError::bad_request("invalid_option", message).with("parameter", parameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(query: &str) -> Result<FrameOptions, ApiError> {
        FrameOptions::of_query(&format!("/process_frame?{query}").parse().unwrap())
    }

    #[test]
    fn options_are_validated() {
        let both = options("closeness=fine&context=door%203&group=g").unwrap();
        assert_eq!(
            both,
            FrameOptions {
                closeness: Some("fine".to_owned()),
                context: Some("door 3".to_owned())
            }
        );
        assert_eq!(options("").unwrap(), FrameOptions::default());
        for invalid in [
            "closeness=",
            "closeness=near",
            "closeness=fine&closeness=auto",
            &format!("context={}", "x".repeat(CONTEXT + 1)),
        ] {
            assert_eq!(options(invalid).unwrap_err().code, "invalid_option");
        }
    }
}
