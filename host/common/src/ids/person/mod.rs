//! Ids of people and groups: names in any script that are safe as file names.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizer, DecomposingNormalizer};
use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup};
use icu_properties::{CodePointMapData, CodePointSetData};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Maximum length of an id in characters.
const MAX_LENGTH: usize = 128;

/// Maximum length of an id in bytes, so that `ID.csv` and its numbered copies fit into the 255
/// bytes of a file name.
const MAX_BYTES: usize = 200;

/// Identity of an unrecognised face. It is not a valid id.
pub const UNKNOWN: &str = "Unknown";

/// Characters that are allowed in addition to letters, marks and digits.
const PUNCTUATION: &str = "._-@'()+,\u{2019}\u{b7}";

/// A person's id, trimmed and in Unicode's composed form (NFC).
///
/// It consists of letters, marks and digits of any script, spaces and some punctuation. It names a
/// file of the gallery and cannot name any other path. Ids are ordered by code point. Clones share
/// the text, because an index, the groups and other tables each have an id of every person.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PersonId(Arc<str>);

/// Rule that a text breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The id is empty or has too many characters.
    #[error("it has {0} characters; 1 to {MAX_LENGTH} are allowed")]
    Length(usize),
    /// The id has too many bytes for a file name.
    #[error("it has {0} bytes in UTF-8; at most {MAX_BYTES} are allowed")]
    Bytes(usize),
    /// A character is not allowed.
    #[error(
        "it contains {0:?} (U+{code:04X}); letters, marks and digits of any script, spaces and \
         . _ - @ ' ( ) + , are allowed",
        code = u32::from(*.0)
    )]
    Character(char),
    /// A joiner outside a word would be invisible.
    #[error(
        "it contains an invisible joiner (U+{code:04X}) that is not inside a word",
        code = u32::from(*.0)
    )]
    Joiner(char),
    /// A leading dot would make a hidden file or name the folder.
    #[error("it begins with a dot")]
    LeadingDot,
    /// The person could not be distinguished from an unrecognised face.
    #[error("'{UNKNOWN}' is reserved for unrecognised faces")]
    Reserved,
}

impl FromStr for PersonId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let id = compose(text.trim());
        let length = id.chars().count();
        if !(1..=MAX_LENGTH).contains(&length) {
            return Err(InvalidId::Length(length));
        }
        if id.len() > MAX_BYTES {
            return Err(InvalidId::Bytes(id.len()));
        }
        check_characters(&id)?;
        if id.starts_with('.') {
            return Err(InvalidId::LeadingDot);
        }
        // A joiner between Latin letters is invisible.
        if fold_case(&id.replace(is_joiner, "")) == fold_case(UNKNOWN) {
            return Err(InvalidId::Reserved);
        }
        Ok(Self(id.into()))
    }
}

impl PersonId {
    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the id with case folded. Two ids with the same key look alike, and name the same
    /// file if the file system ignores case.
    #[must_use]
    pub fn case_key(&self) -> String {
        fold_case(&self.0)
    }

    /// Returns the id in Unicode's decomposed form (NFD), which some file systems and copying
    /// programs use for names.
    pub fn decomposed(&self) -> String {
        DecomposingNormalizer::new_nfd()
            .normalize(&self.0)
            .into_owned()
    }
}

impl fmt::Display for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for PersonId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PersonId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Returns the text in Unicode's composed form (NFC).
fn compose(text: &str) -> String {
    ComposingNormalizer::new_nfc().normalize(text).into_owned()
}

/// Applies full case folding for canonical caseless matching (Unicode 3.13, D145).
fn fold_case(text: &str) -> String {
    let decomposer = DecomposingNormalizer::new_nfd();
    let decomposed = decomposer.normalize(text);
    let folded = CaseMapper::new().fold_string(&decomposed);
    decomposer.normalize(&folded).into_owned()
}

/// Checks that every character is allowed.
fn check_characters(id: &str) -> Result<(), InvalidId> {
    let mut previous = None;
    let mut rest = id.chars().peekable();
    while let Some(c) = rest.next() {
        if is_joiner(c) {
            let is_inside = [previous, rest.peek().copied()]
                .into_iter()
                .all(|neighbour| neighbour.is_some_and(is_word_character));
            if !is_inside {
                return Err(InvalidId::Joiner(c));
            }
        } else if c != ' ' && !PUNCTUATION.contains(c) && !is_word_character(c) {
            return Err(InvalidId::Character(c));
        }
        previous = Some(c);
    }
    Ok(())
}

/// Returns true for the zero width joiner and non-joiner, which Persian and the scripts of India
/// need.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// Returns true for visible letters, marks and digits.
fn is_word_character(c: char) -> bool {
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    let is_word = category == GeneralCategory::DecimalNumber
        || GeneralCategoryGroup::Letter.contains(category)
        || GeneralCategoryGroup::Mark.contains(category);
    is_word && !CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

#[cfg(any(test, fuzzing))]
pub mod property;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, InvalidId> {
        text.parse::<PersonId>().map(|id| id.to_string())
    }

    #[test]
    fn id_of_any_script_parses() {
        for valid in [
            "s6",
            "a",
            "A.b_c-d@e.f",
            "0",
            "-",
            "a..b",
            "José Núñez",
            "Anna  Maria",
            "李雷",
            "Владимир",
            "محمد",
            "D'Angelo (2)",
            "D\u{2019}Angelo",
            "Gal\u{b7}la",
            "a+b, c",
            "৪২",
            "می\u{200c}رود",
            "क\u{94d}\u{200d}ष",
            "ร\u{e34}",
            &"x".repeat(128),
            &"é".repeat(100),
        ] {
            assert_eq!(parse(valid), Ok(valid.to_owned()));
        }
    }

    #[test]
    fn id_is_trimmed_and_composed() {
        for (text, id) in [
            (" s6\n", "s6"),
            ("Jose\u{301}", "José"),
            ("\u{3000}李雷\t", "李雷"),
            ("\u{212b}sa", "Åsa"),
        ] {
            assert_eq!(parse(text), Ok(id.to_owned()), "{text:?}");
        }
        // The length counts after composition.
        assert_eq!(parse(&"e\u{301}".repeat(100)), Ok("é".repeat(100)));
    }

    #[test]
    fn invalid_id_names_its_rule() {
        for (invalid, error) in [
            ("", InvalidId::Length(0)),
            (" \u{a0}", InvalidId::Length(0)),
            (&"x".repeat(129), InvalidId::Length(129)),
            (&"é".repeat(101), InvalidId::Bytes(202)),
            (&"李".repeat(67), InvalidId::Bytes(201)),
            ("../s6", InvalidId::Character('/')),
            ("a\\b", InvalidId::Character('\\')),
            ("a\0", InvalidId::Character('\0')),
            ("a\nb", InvalidId::Character('\n')),
            ("a\u{a0}b", InvalidId::Character('\u{a0}')),
            ("a\u{ad}b", InvalidId::Character('\u{ad}')),
            ("a\u{200b}b", InvalidId::Character('\u{200b}')),
            ("a\u{202e}b", InvalidId::Character('\u{202e}')),
            ("a\u{61c}b", InvalidId::Character('\u{61c}')),
            ("a\u{2066}b", InvalidId::Character('\u{2066}')),
            ("a\u{feff}b", InvalidId::Character('\u{feff}')),
            ("a\u{3164}b", InvalidId::Character('\u{3164}')),
            ("a\u{fe0f}b", InvalidId::Character('\u{fe0f}')),
            ("a\u{34f}b", InvalidId::Character('\u{34f}')),
            ("a\u{e0041}b", InvalidId::Character('\u{e0041}')),
            ("a😀", InvalidId::Character('😀')),
            ("a;b", InvalidId::Character(';')),
            ("a#b", InvalidId::Character('#')),
            ("a²", InvalidId::Character('²')),
            ("\u{200d}a", InvalidId::Joiner('\u{200d}')),
            ("a\u{200c}", InvalidId::Joiner('\u{200c}')),
            ("a\u{200d} b", InvalidId::Joiner('\u{200d}')),
            ("a\u{200d}\u{200d}b", InvalidId::Joiner('\u{200d}')),
            (".", InvalidId::LeadingDot),
            ("..", InvalidId::LeadingDot),
            (" .s6", InvalidId::LeadingDot),
            ("Unknown", InvalidId::Reserved),
            ("unknown ", InvalidId::Reserved),
            ("UNKNOWN", InvalidId::Reserved),
            ("Un\u{212a}nown", InvalidId::Reserved),
            ("Un\u{200d}known", InvalidId::Reserved),
        ] {
            assert_eq!(parse(invalid), Err(error), "{invalid:?}");
        }
        assert!(
            parse("a\u{3164}")
                .unwrap_err()
                .to_string()
                .contains("U+3164")
        );
    }

    #[test]
    fn case_key_ignores_only_case() {
        let key = |text: &str| text.parse::<PersonId>().unwrap().case_key();
        for (a, b) in [
            ("Anna", "aNNA"),
            ("Straße", "STRASSE"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("JOSÉ", "jose\u{301}"),
        ] {
            assert_eq!(key(a), key(b), "{a} {b}");
        }
        for (a, b) in [
            ("Anna", "Ana"),
            ("José", "Jose"),
            ("李雷", "李磊"),
            ("I", "ı"),
        ] {
            assert_ne!(key(a), key(b), "{a} {b}");
        }
    }

    #[test]
    fn order_is_by_code_point() {
        let mut ids: Vec<PersonId> = ["é", "z", "李", "Z", "а"]
            .iter()
            .map(|id| id.parse().unwrap())
            .collect();
        ids.sort();
        assert_eq!(
            ids.iter().map(PersonId::as_str).collect::<Vec<_>>(),
            ["Z", "z", "é", "а", "李"]
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_keeps_property(
            text in "\\PC{0,140}|[./a]{1,6}|[\\p{L}\\p{M} .'\u{200c}\u{200d}]{1,12}|\\p{Any}{1,6}",
        ) {
            property::holds(&text);
        }
    }
}
