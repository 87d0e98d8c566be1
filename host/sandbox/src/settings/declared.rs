//! Settings that a component declares, as of version 0.2: their types, defaults and values.

use std::collections::BTreeMap;

use rostro_common::text::sanitize;

use crate::bindings::{Setting, SettingType};

/// Longest value of a setting, in bytes.
pub const VALUE: usize = 4096;

/// Value that does not follow the declared type of its setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the setting {name} is `{value}`; it must be {rule}")]
pub struct InvalidValue {
    /// Name of the setting.
    pub name: String,
    /// Beginning of the value.
    pub value: String,
    /// Description of valid values.
    pub rule: String,
}

/// Returns an error unless the value follows the type of the setting.
///
/// # Errors
///
/// [`InvalidValue`] says what the value must be.
pub fn check(setting: &Setting, value: &str) -> Result<(), InvalidValue> {
    if is_valid(&setting.value, value) {
        return Ok(());
    }
    Err(InvalidValue {
        name: setting.name.clone(),
        value: sanitize(&value.chars().take(100).collect::<String>()),
        rule: rule(&setting.value),
    })
}

/// Returns the settings that a component reads: for each that it declares, the given value or the
/// default.
///
/// # Errors
///
/// [`InvalidValue`] for a value that does not follow its type.
pub fn resolve(
    declared: &[Setting],
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, InvalidValue> {
    let value = |setting: &Setting| {
        let value = given.get(&setting.name).unwrap_or(&setting.default);
        check(setting, value)?;
        Ok((setting.name.clone(), value.clone()))
    };
    declared.iter().map(value).collect()
}

/// Returns true if the value follows the type.
pub(crate) fn is_valid(kind: &SettingType, value: &str) -> bool {
    match kind {
        SettingType::Text => value.len() <= VALUE && !value.contains('\0'),
        SettingType::Flag => matches!(value, "on" | "off"),
        SettingType::Integer(range) => value
            .parse::<i64>()
            .is_ok_and(|number| (range.min..=range.max).contains(&(number as f64))),
        SettingType::Number(range) => value
            .parse::<f64>()
            .is_ok_and(|number| (range.min..=range.max).contains(&number)),
        SettingType::Choice(choices) => choices.iter().any(|choice| choice == value),
    }
}

/// Returns a description of the valid values: "`on` or `off`".
pub fn rule(kind: &SettingType) -> String {
    match kind {
        SettingType::Text => format!("text of up to {VALUE} bytes"),
        SettingType::Flag => "`on` or `off`".to_owned(),
        SettingType::Integer(range) => {
            format!("a whole number from {} to {}", range.min, range.max)
        }
        SettingType::Number(range) => format!("a number from {} to {}", range.min, range.max),
        SettingType::Choice(choices) => match choices.as_slice() {
            [only] => format!("`{only}`"),
            [first @ .., last] => format!("`{}` or `{last}`", first.join("`, `")),
            [] => "nothing".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::NumberRange;

    fn setting(name: &str, value: SettingType, default: &str) -> Setting {
        Setting {
            name: name.to_owned(),
            value,
            default: default.to_owned(),
            description: "For tests.".to_owned(),
            by_request: false,
        }
    }

    #[test]
    fn values_follow_types() {
        let range = || NumberRange {
            min: -1.0,
            max: 10.0,
        };
        let choice = SettingType::Choice(vec!["a".to_owned(), "b".to_owned()]);
        for (kind, valid, invalid) in [
            (SettingType::Text, vec!["", "any"], vec!["\0"]),
            (SettingType::Flag, vec!["on", "off"], vec!["", "true", "ON"]),
            (
                SettingType::Integer(range()),
                vec!["-1", "0", "10"],
                vec!["11", "1.5", "", "NaN", "99999999999999999999"],
            ),
            (
                SettingType::Number(range()),
                vec!["-1", "0.5", "1e1"],
                vec!["10.01", "NaN", "inf", "x"],
            ),
            (choice, vec!["a", "b"], vec!["c", "A", ""]),
        ] {
            let setting = setting("s", kind, "");
            for value in valid {
                check(&setting, value).unwrap();
            }
            for value in invalid {
                check(&setting, value).unwrap_err();
            }
        }
    }

    #[test]
    fn resolve_fills_defaults_and_drops_others() {
        let declared = [
            setting("tracking", SettingType::Flag, "on"),
            setting("rivals", SettingType::Flag, "on"),
        ];
        let given = BTreeMap::from([
            ("rivals".to_owned(), "off".to_owned()),
            ("other".to_owned(), "x".to_owned()),
        ]);
        let resolved = resolve(&declared, &given).unwrap();
        let expected = [("rivals", "off"), ("tracking", "on")];
        assert!(
            resolved
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .eq(expected)
        );
        let wrong = BTreeMap::from([("rivals".to_owned(), "maybe".to_owned())]);
        assert_eq!(
            resolve(&declared, &wrong).unwrap_err().to_string(),
            "the setting rivals is `maybe`; it must be `on` or `off`"
        );
    }
}
