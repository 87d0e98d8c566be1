//! Report of a check: its fields are those of `--json`.

use std::path::PathBuf;

use serde::Serialize;

use rostro_common::digest::Sha256Digest;
use rostro_common::text::{sanitize, sanitize_name};
use rostro_sandbox::component::version::WORLD_VERSION;
use rostro_sandbox::limits::{Limits, Usage};
use rostro_sandbox::settings::names::{UnknownSetting, listed, settings};

use super::findings::{FINDINGS, Finding};
use super::photo_review::{self, PhotoReview};
use crate::terminal::{lossy, say};

/// All that is known of a component.
#[derive(Debug, Serialize)]
pub(super) struct ComponentReport {
    #[serde(serialize_with = "lossy")]
    pub(super) file: PathBuf,
    pub(super) bytes: usize,
    pub(super) sha256: Sha256Digest,
    /// The version of `rostro:pipeline` that this host serves.
    pub(super) world: &'static str,
    /// `vision`, `policy`.
    pub(super) serves: Vec<&'static str>,
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
    pub(super) models: Vec<String>,
    pub(super) contract: Option<ContractReport>,
    /// The settings that it asked for while it described itself.
    pub(super) settings: Vec<String>,
    /// Settings that were given and are not among them.
    pub(super) unknown_settings: Vec<UnknownSetting>,
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
    /// The model pack that it was tried on, and the most that it used of what a guest may.
    pub(super) pack: String,
    pub(super) used: Option<Usage>,
    /// What its review makes of a clear, a blurred and a dark photo, as strictly as a service
    /// judges by default.
    pub(super) reviewed: Vec<PhotoReview>,
    /// What was not tried, and why; nothing if all was.
    pub(super) not_tried: Option<String>,
    pub(super) findings: Vec<Finding>,
    pub(super) usable: bool,
}

/// What its embeddings mean.
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
                world(&self.serves)
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
                listed(self.settings.iter().map(String::as_str))
            ));
        }
        if !self.unknown_settings.is_empty() {
            say(&format!(
                "  unknown    it does not know the {}",
                sanitize(&settings(&self.unknown_settings))
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
            say(&format!("  used       {}", used.beside(limits)));
        }
        if !self.reviewed.is_empty() {
            say(&format!(
                "  review     {}",
                sanitize(&photo_review::words(&self.reviewed))
            ));
        }
        if photo_review::takes_poor_photos(&self.reviewed) {
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

fn world(serves: &[&str]) -> &'static str {
    match (serves.contains(&"vision"), serves.contains(&"policy")) {
        (true, true) => "a whole pipeline (for --pipeline, or for its policy alone --policy)",
        (true, false) => "vision alone (for --pipeline beside a --policy)",
        (false, _) => "policy alone (for --policy)",
    }
}
