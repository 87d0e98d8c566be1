//! Property of the parser of ids, shared by the tests and the fuzz targets.
#![expect(clippy::unwrap_used, reason = "only tests and fuzz targets use it")]

use std::path::{Component, Path};

use super::{InvalidId, MAX_BYTES, MAX_LENGTH, PersonId};

/// Checks that a text is refused, or is a valid id that parses to itself and names a file in the
/// gallery.
pub fn holds(text: &str) {
    let id: PersonId = match text.parse() {
        Ok(id) => id,
        Err(error) => {
            assert!(!error.to_string().contains(char::is_control), "{error:?}");
            return;
        }
    };
    let again: Result<PersonId, InvalidId> = id.as_str().parse();
    assert_eq!(again.as_ref(), Ok(&id));
    assert_eq!(id.as_str().trim(), id.as_str());
    assert!(
        (1..=MAX_LENGTH).contains(&id.as_str().chars().count()) && id.as_str().len() <= MAX_BYTES
    );
    assert!(!id.as_str().starts_with('.') && !id.as_str().contains(char::is_control));
    // The key does not depend on the Unicode form of the id.
    assert_eq!(
        id.decomposed().parse::<PersonId>().unwrap().case_key(),
        id.case_key()
    );
    assert_ne!(id.case_key(), "unknown");
    let file = format!("{id}.csv");
    let path = Path::new("gallery").join(&file);
    let parts: Vec<Component<'_>> = path.components().collect();
    assert_eq!(
        parts,
        [
            Component::Normal("gallery".as_ref()),
            Component::Normal(file.as_ref())
        ]
    );
}
