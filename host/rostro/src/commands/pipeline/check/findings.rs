//! Findings of a check, and the remedy for each.

use serde::Serialize;

use rostro_common::text::sanitize_name;
use rostro_models::Pack;
use rostro_sandbox::component::error::ComponentError;
use rostro_sandbox::component::version::run_versions;
use rostro_sandbox::error::{RunError, TrapKind};
use rostro_sandbox::pipeline::stage::StageError;
use rostro_sandbox::settings::declared::InvalidValue;

use crate::commands::pipeline::local::LocalError;

/// Problem of a component, with its remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// Stable code in snake_case.
    pub(super) code: &'static str,
    pub(super) what: String,
    pub(super) fix: String,
}

impl Finding {
    pub(super) fn new(code: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
            fix: fix.into(),
        }
    }
}

/// Upper bound of listed imports and exports, because a component can have any number.
pub(super) const FINDINGS: usize = 50;

/// Remedy that refers to the rules of the interface.
pub(super) const RULES: &str =
    "follow the rules of this function in wit/; docs/sandbox.md lists the bounds";

/// Returns the finding that the self-test could not run.
pub(super) fn not_tried(why: &str) -> Finding {
    Finding::new(
        "not_tried",
        format!("the self-test could not be run: {why}"),
        "remove the cause, or skip the self-test with --no-self-test",
    )
}

/// Returns the finding about an import that the host does not offer.
pub(super) fn forbidden(import: &str) -> Finding {
    let interface = import.split('@').next().unwrap_or(import);
    let family = interface.split('/').next().unwrap_or(interface);
    let fix = match family {
        "rostro:pipeline" => {
            format!("build it against wit/, rostro:pipeline of version {}, which has other interfaces", run_versions())
        }
        "wasi:nn" => "build it against wit/deps/wasi-nn, 0.2.0-rc-2024-10-28, and load models by name".to_owned(),
        "wasi:http" | "wasi:sockets" => {
            "a pipeline has no network: remove the code that opens connections; with componentize-js pass `--disable http \
             --disable fetch-event`, with componentize-py `--stub-wasi`"
                .to_owned()
        }
        _ if family.starts_with("wasi:") && import.contains("@0.3") => {
            "it needs WASI 0.3, and this host has WASI 0.2: build it for the target wasm32-wasip2".to_owned()
        }
        _ if import == interface => {
            "the interface has no version, so the component was built for another world than `pipeline`: check its world".to_owned()
        }
        _ => "remove the code that needs it; of WASI 0.2 a pipeline gets only clocks, random and stdio (docs/sandbox.md)".to_owned(),
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

/// Returns the finding about a version of `rostro:pipeline` that this host does not run.
pub(super) fn wrong_world(does: &str, name: &str, version: &str) -> Finding {
    Finding::new(
        "wrong_world",
        format!(
            "it {does} {}; this host has rostro:pipeline of version {}",
            sanitize_name(name),
            run_versions()
        ),
        format!(
            "build it against a rostro-sdk (or wit/) of version {}, or run it on a host that has {}",
            run_versions(),
            sanitize_name(version)
        ),
    )
}

/// Returns the finding about a setting of the command line or the pack that breaks its type.
pub(super) fn wrong_setting(error: &InvalidValue) -> Finding {
    Finding::new(
        "wrong_setting",
        error.to_string(),
        "correct it in --setting or in the pack's manifest",
    )
}

/// Returns the finding about a component that cannot be loaded.
pub(super) fn of_component(error: &ComponentError) -> Finding {
    let (code, fix) = match error {
        ComponentError::TooLarge { .. } => (
            "too_large",
            "build it with optimisation for size and without debugging information (opt-level = \"s\", strip = true)",
        ),
        ComponentError::NotAComponent { .. } => (
            "not_a_component",
            "pass the .wasm of a build for the target wasm32-wasip2; a core module becomes a component with `wasm-tools component new`",
        ),
        ComponentError::MissingExport { .. } => (
            "missing_export",
            "export a pipeline with `rostro_sdk::export!(Mine)`, or a policy with `rostro_sdk::export!(policy: Mine)`",
        ),
        ComponentError::UnsupportedVersion { .. } => {
            ("wrong_world", "build it against this host's wit/")
        }
        ComponentError::ForbiddenImports(_) => {
            ("forbidden_import", "remove the code that needs them")
        }
        ComponentError::Limit(_) => (
            "limit",
            "make it smaller, or raise that limit with --limit, here and for `rostro serve`",
        ),
        ComponentError::MixedVersions => (
            "wrong_world",
            "export all functions against one version of wit/",
        ),
        ComponentError::InterfaceMismatch(_) => {
            ("wrong_interface", "build it against this host's wit/")
        }
        ComponentError::Invalid(_) => (
            "not_valid",
            "build it again: the file is damaged, or uses WebAssembly features that this host lacks",
        ),
    };
    Finding::new(code, error.to_string(), fix)
}

/// Returns the finding about a pipeline that cannot be staged.
pub(super) fn of_local(error: &LocalError) -> Finding {
    let LocalError::Stage { cause, .. } = error else {
        return Finding::new(
            "not_staged",
            error.to_string(),
            "remove the cause and check again",
        );
    };
    let fix = match &**cause {
        StageError::Trial(cause) | StageError::Describe(cause) | StageError::Setting(cause) => {
            fix(cause)
        }
        StageError::SettingType(_) => {
            "correct it in --setting or in the pack's manifest".to_owned()
        }
        StageError::MissingFunction { .. } => {
            "export the function, or name a component that has it with --other-half".to_owned()
        }
        StageError::NoDimension { .. } => {
            "name the role of a model that makes embeddings as the contract's recogniser".to_owned()
        }
        _ => RULES.to_owned(),
    };
    Finding::new("not_staged", cause.to_string(), fix)
}

/// Returns the author's remedy for a failed run.
pub(super) fn fix(cause: &RunError) -> String {
    match cause {
        RunError::Deadline { .. } => "make it faster: `rostro pipeline bench` shows where its time goes".to_owned(),
        // These come from other requests of a service; a check has none.
        RunError::Cancelled | RunError::OutOfCapacity(_) => "check it again".to_owned(),
        RunError::Limit(limit) => match limit.name {
            "memory-mib" => {
                "free unused memory before allocating more; an image needs 3 bytes a pixel, and tensors count, too"
                    .to_owned()
            }
            "tensors" | "handles" => "drop tensors and contexts right after their use".to_owned(),
            "time-ms" => "make it faster: `rostro pipeline bench` shows where its time goes".to_owned(),
            name => format!("use less of it, or raise it with --limit {name}=…, here and for `rostro serve`"),
        },
        RunError::Trap { kind: TrapKind::Unreachable, .. } => {
            "it panicked: standard error has the position; return an error instead".to_owned()
        }
        RunError::Trap { kind: TrapKind::Wait, .. } => {
            "a pipeline cannot wait or sleep: remove the code that does".to_owned()
        }
        RunError::Trap { kind: TrapKind::Exit, .. } => "return an error instead of ending the program".to_owned(),
        RunError::Trap { kind: TrapKind::StackOverflow, .. } => {
            "recurse less deeply, or keep large arrays in a `Vec`: the stack is small".to_owned()
        }
        RunError::Trap { kind: TrapKind::Other, .. } => "run its own tests on that picture; standard error may have the position".to_owned(),
        RunError::Model(_) => "compare the tensor's shape, type and bytes with the model's description from settings.get-model".to_owned(),
        RunError::Setting { key, .. } => format!("correct --setting {key}=…, or accept the value"),
        RunError::Undecodable(_) | RunError::TooLarge { .. } => {
            "decode JPEG, PNG, WebP, BMP, GIF and TIFF of any size that settings.max-pixels allows".to_owned()
        }
        RunError::Output(_) => RULES.to_owned(),
    }
}

/// Returns a finding for each required model that the pack lacks.
pub(super) fn missing_models(wanted: &[String], pack: &Pack) -> Vec<Finding> {
    let missing = wanted.iter().filter(|role| pack.model(role).is_none());
    let found: Vec<&str> = pack.manifest().models.keys().map(String::as_str).collect();
    missing
        .map(|role| {
            Finding::new(
                "missing_model",
                format!("it needs a model for the role `{role}`, and the pack {} has {}", pack.name(), found.join(", ")),
                "check it with a pack that has one (--pack), or add one to a pack's manifest (docs/plugins.md)",
            )
        })
        .collect()
}
