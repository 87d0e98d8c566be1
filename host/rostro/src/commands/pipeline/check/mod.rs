//! `rostro pipeline check`: describes a component and finds its problems without a service.

mod findings;
mod photo_review;
mod report;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rostro_common::digest::Sha256Digest;
use rostro_common::fs::read_at_most;
use rostro_common::shutdown::Shutdown;
use rostro_models::Pack;
use rostro_sandbox::bindings::Description;
use rostro_sandbox::component::version::{Minor, WORLD_VERSION};
use rostro_sandbox::component::{
    CompiledComponent, Function, Interface, functions, unsupported_version,
};
use rostro_sandbox::engine::Engine;
use rostro_sandbox::error::RunError;
use rostro_sandbox::half::Half;
use rostro_sandbox::limits::MAX_COMPONENT_BYTES;
use rostro_sandbox::pipeline::describe::describe;
use rostro_sandbox::pipeline::self_test::{DrawnFrames, SelfTest};
use rostro_sandbox::settings::{Settings, declared};

use self::findings::{
    FINDINGS, Finding, RULES, fix, forbidden, missing_models, not_tried, of_component, of_local,
    wrong_setting, wrong_world,
};
use self::report::{ComponentReport, ContractReport, SettingReport};
use super::local::{LocalArgs, LocalError};
use crate::terminal::say_json;

/// Timeout of a component's description.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Error of a check.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    /// The file cannot be read.
    #[error("cannot read {file}: {cause}", file = file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// The sandbox cannot be set up.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The component has problems.
    #[error("this host cannot run {file}: {}", if *.problems == 1 { "1 problem".to_owned() } else { format!("{} problems", .problems) }, file = file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// Number of problems.
        problems: usize,
    },
}

/// Prints the description of a component and all its problems.
///
/// # Errors
///
/// [`CheckError`], also if the component has a problem.
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
        declared: Vec::new(),
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
    /// Inspects the component step by step, and ends at the first step that later ones depend on.
    fn inspect(&mut self, engine: &Engine, bytes: &[u8], args: &LocalArgs, self_test: bool) {
        let names = match Interface::parse(bytes) {
            Ok(names) => names,
            Err(error) => return self.findings.push(of_component(&error)),
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
        match functions(bytes) {
            Ok(serves) => self.serves = serves.into_iter().map(Function::name).collect(),
            // A finding about the other version exists already.
            Err(_)
                if self
                    .findings
                    .iter()
                    .any(|finding| finding.code == "wrong_world") => {}
            Err(error) => self.findings.push(of_component(&error)),
        }
        if !self.findings.is_empty() {
            return;
        }
        let component = match CompiledComponent::load(engine, bytes) {
            Ok(component) => component,
            Err(error) => return self.findings.push(of_component(&error)),
        };
        let pack = args.open_pack();
        if let Err(finding) = self.describe(&component, pack.as_ref().ok(), args.own()) {
            return self.findings.push(*finding);
        }
        if !self_test {
            self.not_tried =
                Some("the self-test and the models, because of --no-self-test".to_owned());
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

    /// Reads the component's description.
    fn describe(
        &mut self,
        component: &CompiledComponent,
        pack: Option<&Pack>,
        own: BTreeMap<String, String>,
    ) -> Result<(), Box<Finding>> {
        let scope = (Instant::now() + DESCRIBE_TIMEOUT).into();
        let mut settings = Settings::default();
        if let Some(pack) = pack {
            settings.thresholds = pack.manifest().thresholds;
            settings.own = pack.manifest().settings.clone();
        }
        settings.own.extend(own.clone());
        let failed = |cause: RunError| {
            let fix = match cause {
                RunError::Deadline { .. } => {
                    "let `describe` only return the description, without other work".to_owned()
                }
                ref other => fix(other),
            };
            Box::new(Finding::new(
                "describe_failed",
                format!("it cannot describe itself: {cause}"),
                fix,
            ))
        };
        let role = match component.has_half(Half::Vision) {
            true => Half::Vision,
            false => Half::Policy,
        };
        let (description, names) =
            describe(component, role, &settings, &scope).map_err(|cause| match cause {
                RunError::Output(cause) => {
                    Box::new(Finding::new("wrong_description", cause.to_string(), RULES))
                }
                cause => failed(cause),
            })?;
        let Description {
            identity,
            models,
            contract,
            settings: declared,
            ..
        } = description;
        if component.minor() == Minor::V0_2 {
            declared::resolve(&declared, &settings.own)
                .map_err(|cause| Box::new(wrong_setting(&cause)))?;
        }
        self.world = component.minor().latest();
        self.models = models;
        self.contract = contract.map(|contract| ContractReport {
            recognizer: contract.recognizer,
            alignment: contract.alignment,
            preprocessing: contract.preprocessing,
        });
        self.declared = declared.iter().map(SettingReport::of).collect();
        self.settings = names.names().map(str::to_owned).collect();
        self.unknown_settings = names.unknown(&own);
        (self.name, self.version) = (Some(identity.name), Some(identity.version));
        Ok(())
    }

    /// Runs every export on drawn pictures, under the rules for requests.
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
        match SelfTest::drawn().run(&revision, DrawnFrames::All, &Shutdown::default()) {
            Ok(used) => {
                self.used = Some(used);
                match photo_review::review(&revision) {
                    Ok(reviewed) => self.reviewed = reviewed,
                    Err(error) => {
                        let what = format!("it fails on a blurred or dark photo: {error}");
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
}
