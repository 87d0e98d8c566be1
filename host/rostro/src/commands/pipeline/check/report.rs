//! Report of a check: its fields are those of `--json`.

use std::path::PathBuf;

use serde::Serialize;

use rostro_common::digest::Sha256Digest;
use rostro_common::text::{sanitize, sanitize_name};
use rostro_sandbox::bindings::Setting;
use rostro_sandbox::limits::{Limits, Usage};
use rostro_sandbox::settings::declared::rule;
use rostro_sandbox::settings::names::{UnknownSetting, format_names, format_unknown};

use super::findings::{FINDINGS, Finding};
use super::photo_review::{self, PhotoReviewOutcome};
use crate::terminal::{lossy, say};

/// Description and problems of a component.
#[derive(Debug, Serialize)]
pub(super) struct ComponentReport {
    #[serde(serialize_with = "lossy")]
    pub(super) file: PathBuf,
    pub(super) bytes: usize,
    pub(super) sha256: Sha256Digest,
    /// Latest version of `rostro:pipeline` on this host that runs it.
    pub(super) world: &'static str,
    /// Functions of a pipeline: `vision`, `review`, `template`, `decide`.
    pub(super) serves: Vec<&'static str>,
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
    pub(super) models: Vec<String>,
    pub(super) contract: Option<ContractReport>,
    /// Names of the settings that it knows.
    pub(super) settings: Vec<String>,
    /// Settings with their types, if it was built for 0.2.
    pub(super) declared: Vec<SettingReport>,
    /// Settings of the command line that are not among them.
    pub(super) unknown_settings: Vec<UnknownSetting>,
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
    /// Model pack of the self-test.
    pub(super) pack: String,
    /// Largest use of each limit.
    pub(super) used: Option<Usage>,
    /// Its review of a clear, a blurred and a dark photo, with a service's default strictness.
    pub(super) reviewed: Vec<PhotoReviewOutcome>,
    /// Skipped parts of the check, with the reason; none if all were done.
    pub(super) not_tried: Option<String>,
    pub(super) findings: Vec<Finding>,
    pub(super) usable: bool,
}

/// Contract of its embeddings.
#[derive(Debug, Serialize)]
pub(super) struct ContractReport {
    pub(super) recognizer: String,
    pub(super) alignment: String,
    pub(super) preprocessing: String,
}

/// Setting that a component declares.
#[derive(Debug, Serialize)]
pub(super) struct SettingReport {
    pub(super) name: String,
    /// Valid values.
    pub(super) values: String,
    pub(super) default: String,
    pub(super) description: String,
    /// Whether a request may choose its value.
    pub(super) by_request: bool,
}

impl SettingReport {
    pub(super) fn of(setting: &Setting) -> Self {
        Self {
            name: setting.name.clone(),
            values: rule(&setting.value),
            default: setting.default.clone(),
            description: setting.description.clone(),
            by_request: setting.by_request,
        }
    }
}

impl ComponentReport {
    pub(super) fn print(&self, limits: &Limits) {
        say(&sanitize(&self.file.display().to_string()));
        say(&format!("  size       {} bytes", self.bytes));
        say(&format!("  sha256     {}", self.sha256));
        if !self.serves.is_empty() {
            say(&format!(
                "  world      rostro:pipeline@{}, {}",
                self.world,
                describe_functions(&self.serves)
            ));
        }
        if let (Some(name), Some(version)) = (&self.name, &self.version) {
            say(&format!("  name       {name} {version}"));
        }
        if let Some(ContractReport {
            recognizer,
            alignment,
            preprocessing,
        }) = &self.contract
        {
            say(&format!("  models     {}", self.models.join(", ")));
            say(&format!(
                "  embedding  {recognizer} aligned by {alignment}, fed by {preprocessing}"
            ));
        }
        for setting in &self.declared {
            say(&sanitize(&format!(
                "  setting    {}={}: {}; {}{}",
                setting.name,
                setting.default,
                setting.values,
                setting.description,
                if setting.by_request {
                    " (a request may choose it)"
                } else {
                    ""
                }
            )));
        }
        if !self.settings.is_empty() && self.declared.is_empty() {
            say(&format!(
                "  settings   {}",
                format_names(self.settings.iter().map(String::as_str))
            ));
        }
        if !self.unknown_settings.is_empty() {
            say(&format!(
                "  unknown    it does not know the {}",
                sanitize(&format_unknown(&self.unknown_settings))
            ));
        }
        let imports: Vec<String> = self
            .imports
            .iter()
            .take(FINDINGS)
            .map(|name| sanitize_name(name))
            .collect();
        say(&format!(
            "  imports    {}",
            if imports.is_empty() {
                "nothing".to_owned()
            } else {
                imports.join("\n             ")
            }
        ));
        if let Some(used) = &self.used {
            say(&format!("  self-test  passed on the pack {}", self.pack));
            say(&format!("  used       {}", used.with_limits(limits)));
        }
        if !self.reviewed.is_empty() {
            say(&format!(
                "  review     {}",
                sanitize(&photo_review::summary(&self.reviewed))
            ));
        }
        if photo_review::accepts_poor_photos(&self.reviewed) {
            say(
                "             poor photos are enrolled although the answer says `\"review\": \"standard\"`; judge them as the default pipeline does",
            );
        }
        if let Some(why) = &self.not_tried {
            say(&format!("  not tried  {why}"));
        }
        for Finding { code, what, fix } in &self.findings {
            say(&format!(
                "\n{code}: {}\n  fix: {}",
                sanitize(what),
                sanitize(fix)
            ));
        }
        if self.usable {
            say("this host can run it");
        }
    }
}

/// Describes the functions of the component, and the flags for it.
fn describe_functions(serves: &[&str]) -> String {
    let rules: Vec<&str> = serves
        .iter()
        .copied()
        .filter(|name| *name != "vision")
        .collect();
    match (serves.contains(&"vision"), rules.as_slice()) {
        (true, [_, _, _]) => {
            "a whole pipeline (for --pipeline, or for its policy alone --policy)".to_owned()
        }
        (true, []) => "vision alone (for --pipeline together with a --policy)".to_owned(),
        (true, some) => format!(
            "vision and {} (for --pipeline together with a --policy)",
            some.join(" and ")
        ),
        (false, [_, _, _]) => "policy alone (for --policy)".to_owned(),
        (false, some) => format!("{} alone (for --policy)", some.join(" and ")),
    }
}
