//! Identifiers that guests return: names and codes.

/// Returns true for one or more lower-case ASCII letters, digits and `-`.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Returns true for 1 to 64 lower-case ASCII letters, digits and `_`.
pub(crate) fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_are_lower_case() {
        assert!(is_name("detector-2") && is_code("too_dark_2"));
        for wrong in ["", "Detector", "de tector", "dé", "a.b"] {
            assert!(!is_name(wrong) && !is_code(wrong), "{wrong}");
        }
        assert!(!is_name("a_b") && !is_code("a-b"));
        assert!(is_code(&"x".repeat(64)) && !is_code(&"x".repeat(65)));
    }
}
