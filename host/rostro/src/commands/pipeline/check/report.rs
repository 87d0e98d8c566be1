//! Report of a check: its fields are those of `--json`.

use std::path::PathBuf;

use serde::Serialize;

use rostro_common::digest::Sha256Digest;
use rostro_common::text::{sanitize, sanitize_name};
use rostro_sandbox::component::version::WORLD_VERSION;
use rostro_sandbox::limits::{Limits, Usage};
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
    /// Version of `rostro:pipeline` on this host.
    pub(super) world: &'static str,
    /// Halves of a pipeline: `vision`, `policy`.
    pub(super) serves: Vec<&'static str>,
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
    pub(super) models: Vec<String>,
    pub(super) contract: Option<ContractReport>,
    /// Settings that it read while it described itself.
    pub(super) settings: Vec<String>,
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

impl ComponentReport {
    pub(super) fn print(&self, limits: &Limits) {
        say(&sanitize(&self.file.display().to_string()));
        say(&format!("  size       {} bytes", self.bytes));
        say(&format!("  sha256     {}", self.sha256));
        if !self.serves.is_empty() {
            say(&format!(
                "  world      rostro:pipeline@{WORLD_VERSION}, {}",
                describe_halves(&self.serves)
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
        if !self.settings.is_empty() {
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

/// Describes the halves of the component, and the flags for it.
fn describe_halves(serves: &[&str]) -> &'static str {
    match (serves.contains(&"vision"), serves.contains(&"policy")) {
        (true, true) => "a whole pipeline (for --pipeline, or for its policy alone --policy)",
        (true, false) => "vision alone (for --pipeline together with a --policy)",
        (false, _) => "policy alone (for --policy)",
    }
}
