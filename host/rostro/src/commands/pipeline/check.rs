//! `rostro pipeline check`: all that is wrong with a component, found without serving it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use rostro_common::digest::Sha256Digest;
use rostro_common::fs::read_at_most;
use rostro_common::shutdown::Shutdown;
use rostro_common::text::{lossy, sanitize, sanitize_name, say, say_json};
use rostro_models::Pack;
use rostro_sandbox::component::error::ComponentError;
use rostro_sandbox::component::version::{WORLD_VERSION, run_versions};
use rostro_sandbox::component::{CompiledComponent, Interface, halves, unsupported_version};
use rostro_sandbox::engine::Engine;
use rostro_sandbox::error::{RunError, TrapKind};
use rostro_sandbox::half::Half;
use rostro_sandbox::limits::{Limits, MAX_COMPONENT_BYTES, Usage};
use rostro_sandbox::pipeline::describe::{describe_policy, describe_vision};
use rostro_sandbox::pipeline::self_test::SelfTest;
use rostro_sandbox::settings::Settings;
use rostro_sandbox::settings::names::{UnknownSetting, format_names, format_unknown};
use rostro_sandbox::validate as checked;

use super::local::{LocalArgs, LocalError};
use super::review_trial::{self, PhotoReview};

pub(super) use rostro_sandbox::bindings::Description;

/// How long a component may take to say what it is.
const DESCRIBE: Duration = Duration::from_secs(5);

/// Why a component cannot be checked, or is not usable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    /// The file cannot be read.
    #[error("cannot read {file}: {cause}", file = file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The sandbox cannot be set up.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// This host cannot run it.
    #[error("this host cannot run {file}: {}", if *.problems == 1 { "1 problem".to_owned() } else { format!("{} problems", .problems) }, file = file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// How many things are wrong.
        problems: usize,
    },
}

/// Something that is wrong with a component, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// Stable, snake_case.
    code: &'static str,
    what: String,
    fix: String,
}

impl Finding {
    fn new(code: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
            fix: fix.into(),
        }
    }
}

/// All that is known of a component.
#[derive(Debug, Serialize)]
struct ComponentReport {
    #[serde(serialize_with = "lossy")]
    file: PathBuf,
    bytes: usize,
    sha256: Sha256Digest,
    /// The version of `rostro:pipeline` that this host serves.
    world: &'static str,
    /// `vision`, `policy`.
    serves: Vec<&'static str>,
    name: Option<String>,
    version: Option<String>,
    models: Vec<String>,
    contract: Option<ContractReport>,
    /// The settings that it asked for while it described itself.
    settings: Vec<String>,
    /// Settings that were given and are not among them.
    unknown_settings: Vec<UnknownSetting>,
    imports: Vec<String>,
    exports: Vec<String>,
    /// The model pack that it was tried on, and the most that it used of what a guest may.
    pack: String,
    used: Option<Usage>,
    /// What its review makes of a clear, a blurred and a dark photo, as strictly as a service
    /// judges by default.
    reviewed: Vec<PhotoReview>,
    /// What was not tried, and why; nothing if all was.
    not_tried: Option<String>,
    findings: Vec<Finding>,
    usable: bool,
}

/// What its embeddings mean.
#[derive(Debug, Serialize)]
struct ContractReport {
    recognizer: String,
    alignment: String,
    preprocessing: String,
}

/// Prints what a component is and all that is wrong with it.
///
/// # Errors
///
/// [`CheckError`], also if anything is wrong with it.
pub(super) fn check(
    file: &Path,
    args: &LocalArgs,
    self_test: bool,
    json: bool,
) -> Result<(), CheckError> {
    let bytes =
        read_at_most(file, MAX_COMPONENT_BYTES).map_err(|cause| CheckError::Unreadable {
            file: file.to_owned(),
            cause,
        })?;
    let engine = args.engine(1)?;
    let mut report = ComponentReport {
        file: file.to_owned(),
        bytes: bytes.len(),
        sha256: Sha256Digest::of(&bytes),
        world: WORLD_VERSION,
        serves: Vec::new(),
        name: None,
        version: None,
        models: Vec::new(),
        contract: None,
        settings: Vec::new(),
        unknown_settings: Vec::new(),
        imports: Vec::new(),
        exports: Vec::new(),
        pack: args.pack.clone(),
        used: None,
        reviewed: Vec::new(),
        not_tried: None,
        findings: Vec::new(),
        usable: false,
    };
    report.inspect(&engine, &bytes, args, self_test);
    report.usable = report.findings.is_empty();
    match json {
        true => say_json(&report),
        false => report.print(engine.limits()),
    }
    match report.findings.len() {
        0 => Ok(()),
        problems => Err(CheckError::Unusable {
            file: file.to_owned(),
            problems,
        }),
    }
}

impl ComponentReport {
    /// Finds all that can be found, as far as each step needs the one before.
    fn inspect(&mut self, engine: &Engine, bytes: &[u8], args: &LocalArgs, self_test: bool) {
        let names = match Interface::parse(bytes) {
            Ok(names) => names,
            Err(error) => return self.findings.push(of_plugin(&error)),
        };
        let interfaces = names
            .imports
            .iter()
            .map(|name| ("imports", name))
            .chain(names.exports.iter().map(|name| ("exports", name)));
        self.findings.extend(
            interfaces.filter_map(|(does, name)| {
                Some(wrong_world(does, name, unsupported_version(name)?))
            }),
        );
        self.findings.extend(
            names
                .forbidden_imports()
                .filter(|name| unsupported_version(name).is_none())
                .map(forbidden),
        );
        if let Some(more) = self
            .findings
            .len()
            .checked_sub(FINDINGS)
            .filter(|more| *more > 0)
        {
            self.findings.truncate(FINDINGS);
            self.findings.push(Finding::new(
                "more",
                format!("{more} more imports and exports are wrong"),
                "begin with these",
            ));
        }
        (self.imports, self.exports) = (names.imports, names.exports);
        match halves(bytes) {
            Ok(serves) => self.serves = serves.into_iter().map(Half::name).collect(),
            // Of another version of the world all is said.
            Err(_)
                if self
                    .findings
                    .iter()
                    .any(|finding| finding.code == "wrong_world") => {}
            Err(error) => self.findings.push(of_plugin(&error)),
        }
        if !self.findings.is_empty() {
            return;
        }
        let plugin = match CompiledComponent::load(engine, bytes) {
            Ok(plugin) => plugin,
            Err(error) => return self.findings.push(of_plugin(&error)),
        };
        let pack = args.open_pack();
        if let Err(finding) = self.describe(&plugin, pack.as_ref().ok(), args.own()) {
            return self.findings.push(*finding);
        }
        if !self_test {
            self.not_tried =
                Some("the self-test and the models: --no-self-test was given".to_owned());
            return;
        }
        match pack {
            Ok(pack) => self.findings.extend(missing_models(&self.models, &pack)),
            Err(error) => self.findings.push(not_tried(&error.to_string())),
        }
        if self.findings.is_empty() {
            self.try_out(args);
        }
    }

    /// Asks the component what it is.
    fn describe(
        &mut self,
        plugin: &CompiledComponent,
        pack: Option<&Pack>,
        own: BTreeMap<String, String>,
    ) -> Result<(), Box<Finding>> {
        let scope = (Instant::now() + DESCRIBE).into();
        let mut settings = Settings::default();
        if let Some(pack) = pack {
            settings.thresholds = pack.manifest().thresholds;
            settings.own = pack.manifest().settings.clone();
        }
        settings.own.extend(own.clone());
        let failed = |cause: RunError| {
            let fix = match cause {
                RunError::Deadline { .. } => {
                    "let `describe` only say what the component is: it does no work".to_owned()
                }
                ref other => fix(other),
            };
            Box::new(Finding::new(
                "describe_failed",
                format!("it cannot say what it is: {cause}"),
                fix,
            ))
        };
        let wrong = |cause: checked::InvalidOutput| {
            Box::new(Finding::new("wrong_description", cause.to_string(), RULES))
        };
        let (identity, names) = if plugin.has_half(Half::Vision) {
            let (description, mut names) =
                describe_vision(plugin, &settings, &scope).map_err(failed)?;
            let Description {
                identity,
                models,
                contract,
            } = checked::description(description).map_err(wrong)?;
            if plugin.has_half(Half::Policy) {
                let (identity, policy_names) =
                    describe_policy(plugin, &settings, &scope).map_err(failed)?;
                checked::identity(identity).map_err(wrong)?;
                names.extend(policy_names);
            }
            self.models = models;
            self.contract = Some(ContractReport {
                recognizer: contract.recognizer,
                alignment: contract.alignment,
                preprocessing: contract.preprocessing,
            });
            (identity, names)
        } else {
            let (identity, names) = describe_policy(plugin, &settings, &scope).map_err(failed)?;
            (checked::identity(identity).map_err(wrong)?, names)
        };
        self.settings = names.names().map(str::to_owned).collect();
        self.unknown_settings = names.unknown(&own);
        (self.name, self.version) = (Some(identity.name), Some(identity.version));
        Ok(())
    }

    /// Has it look at drawn pictures, through every export, with the rules that hold for requests.
    fn try_out(&mut self, args: &LocalArgs) {
        let local = match args.prepare() {
            Ok(local) => local,
            Err(error) => return self.findings.push(not_tried(&error.to_string())),
        };
        let revision = match local.revision(&self.file) {
            Ok(revision) => revision,
            Err(error @ (LocalError::NoOtherHalf { .. } | LocalError::OtherHalf { .. })) => {
                return self.findings.push(not_tried(&error.to_string()));
            }
            Err(error) => return self.findings.push(of_local(&error)),
        };
        match SelfTest::drawn().run(&revision, &Shutdown::default()) {
            Ok(used) => {
                self.used = Some(used);
                match review_trial::review(&revision) {
                    Ok(reviewed) => self.reviewed = reviewed,
                    Err(error) => {
                        let what = format!("it fails on a photo that is blurred or dark: {error}");
                        self.findings
                            .push(Finding::new("review_failed", what, fix(&error)));
                    }
                }
            }
            Err(error) => {
                let fix = error.run().map_or(RULES.to_owned(), fix);
                self.findings
                    .push(Finding::new("self_test_failed", error.to_string(), fix));
            }
        }
    }

    fn print(&self, limits: &Limits) {
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
                sanitize(&review_trial::words(&self.reviewed))
            ));
        }
        if review_trial::takes_poor_photos(&self.reviewed) {
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

/// How many findings about names are listed: a component can have as many as it likes.
const FINDINGS: usize = 50;

/// Where rules are to be read.
const RULES: &str =
    "keep to what wit/rostro.wit says of this function; docs/sandbox.md lists the bounds";

/// What could not be found out, and so is not known to work.
fn not_tried(why: &str) -> Finding {
    Finding::new(
        "not_tried",
        format!("the self-test could not be run: {why}"),
        "mend that, or leave the self-test out with --no-self-test",
    )
}

/// What to do about an import that no guest gets.
fn forbidden(import: &str) -> Finding {
    let interface = import.split('@').next().unwrap_or(import);
    let family = interface.split('/').next().unwrap_or(interface);
    let fix = match family {
        "rostro:pipeline" => {
            format!("build it against wit/rostro.wit, rostro:pipeline@{WORLD_VERSION}, which has other interfaces")
        }
        "wasi:nn" => "build it against wit/deps/wasi-nn, 0.2.0-rc-2024-10-28, and load models by name".to_owned(),
        "wasi:http" | "wasi:sockets" => {
            "a pipeline has no network: remove what opens connections; with componentize-js pass `--disable http \
             --disable fetch-event`, with componentize-py `--stub-wasi`"
                .to_owned()
        }
        _ if family.starts_with("wasi:") && import.contains("@0.3") => {
            "it is of WASI 0.3, and this host has WASI 0.2: build it for the target wasm32-wasip2".to_owned()
        }
        _ if import == interface => {
            "it is no interface with a version, so no component of the world `pipeline`: check which world it was built for".to_owned()
        }
        _ => "remove what needs it; a pipeline gets of WASI 0.2 clocks, random and stdio, which docs/sandbox.md lists".to_owned(),
    };
    Finding::new(
        "forbidden_import",
        format!(
            "it imports {}, which this host does not offer",
            sanitize_name(import)
        ),
        fix,
    )
}

/// What to do about an interface of ours of a version that this host does not run.
fn wrong_world(does: &str, name: &str, version: &str) -> Finding {
    Finding::new(
        "wrong_world",
        format!(
            "it {does} {}; this host has rostro:pipeline@{WORLD_VERSION}",
            sanitize_name(name)
        ),
        format!(
            "build it against a rostro-sdk (or wit/rostro.wit) of version {}, or run it on a host that has {}",
            run_versions(),
            sanitize_name(version)
        ),
    )
}

fn of_plugin(error: &ComponentError) -> Finding {
    let (code, fix) = match error {
        ComponentError::TooLarge { .. } => (
            "too_large",
            "build it with optimisation for size and without debugging information (opt-level = \"s\", strip = true)",
        ),
        ComponentError::NotAComponent { .. } => (
            "not_a_component",
            "give the .wasm of a build for the target wasm32-wasip2; a core module becomes a component with `wasm-tools component new`",
        ),
        ComponentError::MissingExport { .. } => (
            "missing_export",
            "export a pipeline with `rostro_sdk::export!(Mine)`, or a policy with `rostro_sdk::export!(policy: Mine)`",
        ),
        ComponentError::UnsupportedVersion { .. } => {
            ("wrong_world", "build it against this host's wit/rostro.wit")
        }
        ComponentError::ForbiddenImports(_) => ("forbidden_import", "remove what needs them"),
        ComponentError::Limit(_) => (
            "limit",
            "make it smaller, or raise the limit of that name with --limit, here and for `rostro serve`",
        ),
        ComponentError::InterfaceMismatch(_) => (
            "wrong_interface",
            "build it against this host's wit/rostro.wit",
        ),
        ComponentError::Invalid(_) => (
            "not_valid",
            "build it again: the file is damaged, or uses what this host's WebAssembly has not",
        ),
    };
    Finding::new(code, error.to_string(), fix)
}

fn of_local(error: &LocalError) -> Finding {
    use rostro_sandbox::pipeline::stage::StageError;
    let LocalError::Stage { cause, .. } = error else {
        return Finding::new(
            "not_staged",
            error.to_string(),
            "mend what it says and check again",
        );
    };
    let fix = match &**cause {
        StageError::Trial(cause) | StageError::Describe(cause) | StageError::Setting(cause) => {
            fix(cause)
        }
        StageError::NoDimension { .. } => {
            "let the contract's recogniser be the role of a model that makes embeddings".to_owned()
        }
        _ => RULES.to_owned(),
    };
    Finding::new("not_staged", cause.to_string(), fix)
}

/// What the author of a component can do about a run that failed.
fn fix(cause: &RunError) -> String {
    match cause {
        RunError::Deadline { .. } => "make it faster: `rostro pipeline bench` shows where its time goes".to_owned(),
        // Of a service with callers, which a check has not.
        RunError::Cancelled | RunError::OutOfCapacity(_) => "check it again".to_owned(),
        RunError::Limit(limit) => match limit.name {
            "memory-mib" => {
                "free what is not needed any more before more is asked for; an image is 3 bytes a pixel, and a tensor counts, too"
                    .to_owned()
            }
            "tensors" | "handles" => "drop tensors and contexts as soon as they were used".to_owned(),
            "time-ms" => "make it faster: `rostro pipeline bench` shows where its time goes".to_owned(),
            name => format!("use less of it, or raise it with --limit {name}=…, here and for `rostro serve`"),
        },
        RunError::Trap { kind: TrapKind::Unreachable, .. } => {
            "it panicked: what it wrote to standard error says where; give back an error instead".to_owned()
        }
        RunError::Trap { kind: TrapKind::Wait, .. } => {
            "a pipeline cannot wait: there is nothing that it could wait for".to_owned()
        }
        RunError::Trap { kind: TrapKind::Exit, .. } => "give back an error instead of ending the program".to_owned(),
        RunError::Trap { kind: TrapKind::StackOverflow, .. } => {
            "recurse less deeply, or keep large arrays in a `Vec`: the stack is small".to_owned()
        }
        RunError::Trap { kind: TrapKind::Other, .. } => "run its own tests on that picture; what it wrote to standard error may say where".to_owned(),
        RunError::Model(_) => "compare the tensor's shape, type and bytes with what settings.get-model says of the model".to_owned(),
        RunError::Setting { key, .. } => format!("correct --setting {key}=…, or accept the value"),
        RunError::Undecodable(_) | RunError::TooLarge { .. } => {
            "decode JPEG, PNG, WebP, BMP, GIF and TIFF of any size that settings.max-pixels allows".to_owned()
        }
        RunError::Output(_) => RULES.to_owned(),
    }
}

fn missing_models(wanted: &[String], pack: &Pack) -> Vec<Finding> {
    let missing = wanted.iter().filter(|role| pack.model(role).is_none());
    let found: Vec<&str> = pack.manifest().models.keys().map(String::as_str).collect();
    missing
        .map(|role| {
            Finding::new(
                "missing_model",
                format!("it wants a model for the role `{role}`, and the pack {} has {}", pack.name(), found.join(", ")),
                "check it on a pack that has one (--pack), or add one to a pack's manifest: docs/plugins.md",
            )
        })
        .collect()
}
