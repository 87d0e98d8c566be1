//! Validation of what components say of themselves. An error lists all faults, so that authors can
//! correct them together.

use std::collections::HashSet;

use super::InvalidOutput;
use super::identifiers::is_name;
use crate::bindings::{Description, EmbeddingContract, Identity, Setting, SettingType};
use crate::settings::declared;

/// Models of one pipeline at most.
const MODELS: usize = 16;

/// Settings of one component at most.
const SETTINGS: usize = 64;

/// Choices of one setting at most.
const CHOICES: usize = 64;

/// Longest name of a setting or a choice, in bytes.
const NAME: usize = 64;

/// Longest description of a setting, in characters.
const SENTENCE: usize = 300;

/// Validates the description of a component with vision.
pub fn vision(raw: Description) -> Result<Description, InvalidOutput> {
    let mut faults = faults(&raw);
    match &raw.contract {
        Some(contract) => faults.extend(contract_faults(contract, &raw.models)),
        None => faults.push("vision without an embedding contract".to_owned()),
    }
    refuse_faults(raw, &faults)
}

/// Validates the description of a component without vision.
pub fn rules(raw: Description) -> Result<Description, InvalidOutput> {
    let faults = faults(&raw);
    refuse_faults(raw, &faults)
}

fn refuse_faults(raw: Description, faults: &[String]) -> Result<Description, InvalidOutput> {
    if faults.is_empty() {
        Ok(raw)
    } else {
        Err(InvalidOutput::new("describe", faults.join("; and ")))
    }
}

fn faults(raw: &Description) -> Vec<String> {
    let mut faults = identity_faults(&raw.identity);
    faults.extend(model_faults(&raw.models));
    faults.extend(setting_faults(&raw.settings));
    faults
}

fn identity_faults(raw: &Identity) -> Vec<String> {
    let is_version = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    let mut faults = Vec::new();
    if raw.name.len() > 64 || !is_name(&raw.name) {
        faults.push("a name that is not 1 to 64 lower-case letters, digits and `-`".to_owned());
    }
    if raw.version.is_empty() || raw.version.len() > 64 || !raw.version.chars().all(is_version) {
        faults.push("a version that is not 1 to 64 letters, digits, `.`, `-` and `+`".to_owned());
    }
    faults
}

fn model_faults(models: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    if models.len() > MODELS {
        faults.push(format!(
            "{} models; at most {MODELS} are granted",
            models.len()
        ));
    }
    let mut roles = HashSet::new();
    for role in models.iter().take(MODELS) {
        if role.len() > 32 || !is_name(role) {
            faults.push(
                "a model's role that is not 1 to 32 lower-case letters, digits and `-`".to_owned(),
            );
        } else if !roles.insert(role.as_str()) {
            faults.push(format!("the model `{role}` twice"));
        }
    }
    faults
}

fn contract_faults(contract: &EmbeddingContract, models: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    if !models.contains(&contract.recognizer) {
        faults.push("a recogniser that is not one of its models".to_owned());
    }
    let is_identifier =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '/');
    if [&contract.alignment, &contract.preprocessing]
        .iter()
        .any(|text| !(1..=64).contains(&text.len()) || !text.chars().all(is_identifier))
    {
        faults.push(
            "an identifier of its contract that is not 1 to 64 lower-case letters, digits, `-`, `.` \
             and `/`"
                .to_owned(),
        );
    }
    faults
}

fn setting_faults(settings: &[Setting]) -> Vec<String> {
    let mut faults = Vec::new();
    if settings.len() > SETTINGS {
        faults.push(format!(
            "{} settings; at most {SETTINGS} are taken",
            settings.len()
        ));
    }
    let mut names = HashSet::new();
    for setting in settings.iter().take(SETTINGS) {
        let name = setting.name.as_str();
        if name.len() > NAME || !is_name(name) {
            faults.push(
                "a setting whose name is not 1 to 64 lower-case letters, digits and `-`".to_owned(),
            );
            continue;
        }
        if !names.insert(name) {
            faults.push(format!("the setting `{name}` twice"));
        }
        faults
            .extend(type_fault(&setting.value).map(|what| format!("the setting `{name}` {what}")));
        if !declared::is_valid(&setting.value, &setting.default) {
            faults.push(format!(
                "the setting `{name}` with a default that is not of its type"
            ));
        }
        let sentence = &setting.description;
        if sentence.is_empty()
            || sentence.chars().count() > SENTENCE
            || sentence.chars().any(char::is_control)
        {
            faults.push(format!(
                "the setting `{name}` without a description of 1 to {SENTENCE} characters on one \
                 line"
            ));
        }
    }
    faults
}

fn type_fault(kind: &SettingType) -> Option<String> {
    match kind {
        SettingType::Text | SettingType::Flag => None,
        SettingType::Integer(range) | SettingType::Number(range) => {
            let is_range = range.min.is_finite() && range.max.is_finite() && range.min <= range.max;
            (!is_range).then(|| "with a range that is empty or not finite".to_owned())
        }
        SettingType::Choice(choices) => {
            let is_valid = (1..=CHOICES).contains(&choices.len())
                && choices
                    .iter()
                    .all(|choice| choice.len() <= NAME && is_name(choice));
            (!is_valid).then(|| {
                format!(
                    "without 1 to {CHOICES} choices of 1 to {NAME} lower-case letters, digits and \
                     `-`"
                )
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::NumberRange;

    type Case = (fn(&mut Description), &'static str);

    fn valid() -> Description {
        Description {
            identity: Identity {
                name: "insightface".to_owned(),
                version: "1.2.3-rc.1+build".to_owned(),
            },
            models: vec!["detector".to_owned(), "recognizer".to_owned()],
            contract: Some(EmbeddingContract {
                recognizer: "recognizer".to_owned(),
                alignment: "arcface-5-point-112/1".to_owned(),
                preprocessing: "bilinear-mean-std/1".to_owned(),
            }),
            settings: vec![Setting {
                name: "rivals".to_owned(),
                value: SettingType::Flag,
                default: "on".to_owned(),
                description: "Requires more similarity if a rival is near.".to_owned(),
                by_request: false,
            }],
            state_version: 1,
        }
    }

    fn contract(it: &mut Description) -> &mut EmbeddingContract {
        it.contract.as_mut().unwrap()
    }

    #[test]
    fn invalid_description_names_rule() {
        const NAME: &str = "`describe` returned a name that is not";
        const VERSION: &str = "`describe` returned a version that is not";
        let cases: [Case; 25] = [
            (|it| it.identity.name.clear(), NAME),
            (|it| it.identity.name = "Insight Face".to_owned(), NAME),
            (|it| it.identity.name = "insight_face".to_owned(), NAME),
            (|it| it.identity.name = "x".repeat(65), NAME),
            (|it| it.identity.version.clear(), VERSION),
            (|it| it.identity.version = "1.0 beta".to_owned(), VERSION),
            (|it| it.identity.version = "1".repeat(65), VERSION),
            (
                |it| it.models = (0..=MODELS).map(|number| format!("m{number}")).collect(),
                "17 models; at most 16 are granted",
            ),
            (
                |it| it.models[0] = "De tector".to_owned(),
                "a model's role that is not",
            ),
            (
                |it| it.models[0] = "recognizer".to_owned(),
                "the model `recognizer` twice",
            ),
            (
                |it| it.models.truncate(1),
                "a recogniser that is not one of its models",
            ),
            (
                |it| it.contract = None,
                "vision without an embedding contract",
            ),
            (
                |it| contract(it).alignment.clear(),
                "an identifier of its contract that is not",
            ),
            (
                |it| contract(it).preprocessing = "\u{1b}[31m".to_owned(),
                "an identifier of its contract that is not",
            ),
            (
                |it| contract(it).preprocessing = "x".repeat(65),
                "an identifier of its contract that is not",
            ),
            (
                |it| it.settings[0].name = "Rivals".to_owned(),
                "a setting whose name is not",
            ),
            (
                |it| it.settings.push(it.settings[0].clone()),
                "the setting `rivals` twice",
            ),
            (
                |it| it.settings[0].default = "maybe".to_owned(),
                "the setting `rivals` with a default that is not of its type",
            ),
            (
                |it| it.settings[0].description.clear(),
                "the setting `rivals` without a description",
            ),
            (
                |it| it.settings[0].description = "x".repeat(301),
                "the setting `rivals` without a description",
            ),
            (
                |it| it.settings[0].value = SettingType::Choice(Vec::new()),
                "the setting `rivals` without 1 to 64 choices",
            ),
            (
                |it| it.settings[0].value = SettingType::Choice(vec!["A b".to_owned()]),
                "the setting `rivals` without 1 to 64 choices",
            ),
            (
                |it| {
                    it.settings[0].value = SettingType::Integer(NumberRange { min: 2.0, max: 1.0 });
                },
                "the setting `rivals` with a range that is empty or not finite",
            ),
            (
                |it| {
                    it.settings[0].value = SettingType::Number(NumberRange {
                        min: f64::NAN,
                        max: 1.0,
                    });
                },
                "the setting `rivals` with a range that is empty or not finite",
            ),
            (
                |it| {
                    it.settings = (0..=SETTINGS)
                        .map(|number| Setting {
                            name: format!("s{number}"),
                            ..it.settings[0].clone()
                        })
                        .collect();
                },
                "65 settings; at most 64 are taken",
            ),
        ];
        vision(valid()).unwrap();
        for (change, words) in cases {
            let mut bad = valid();
            change(&mut bad);
            let error = vision(bad).expect_err(words).to_string();
            assert!(error.contains(words), "`{words}` is not in: {error}");
        }
    }

    #[test]
    fn rules_need_no_contract() {
        let mut description = valid();
        description.contract = None;
        description.models.clear();
        rules(description).unwrap();
    }
}
