//! Findings of a check, and the remedy for each.

use serde::Serialize;

use rostro_common::text::sanitize_name;
use rostro_models::Pack;
use rostro_sandbox::component::ComponentError;
use rostro_sandbox::component::version::{WORLD_VERSION, run_versions};
use rostro_sandbox::pipeline::revision::StageError;
use rostro_sandbox::pipeline::run::RunError;

use crate::commands::pipeline::local::LocalError;

/// Something that is wrong with a component, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// Stable, snake_case.
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

/// How many findings about names are listed: a component can have as many as it likes.
pub(super) const FINDINGS: usize = 50;

/// Where rules are to be read.
pub(super) const RULES: &str =
    "keep to what wit/rostro.wit says of this function; docs/sandbox.md lists the bounds";

/// What could not be found out, and so is not known to work.
pub(super) fn not_tried(why: &str) -> Finding {
    Finding::new(
        "not_tried",
        format!("the self-test could not be run: {why}"),
        "mend that, or leave the self-test out with --no-self-test",
    )
}

/// What to do about an import that no guest gets.
pub(super) fn forbidden(import: &str) -> Finding {
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
pub(super) fn wrong_world(does: &str, name: &str, version: &str) -> Finding {
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

pub(super) fn of_plugin(error: &ComponentError) -> Finding {
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
        ComponentError::OtherWorld { .. } => {
            ("wrong_world", "build it against this host's wit/rostro.wit")
        }
        ComponentError::ForbiddenImports(_) => ("forbidden_import", "remove what needs them"),
        ComponentError::Limit(_) => (
            "limit",
            "make it smaller, or raise the limit of that name with --limit, here and for `rostro serve`",
        ),
        ComponentError::WrongWorld(_) => (
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

pub(super) fn of_local(error: &LocalError) -> Finding {
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
pub(super) fn fix(cause: &RunError) -> String {
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
        RunError::Trap { cause, .. } if cause.contains("unreachable") => {
            "it panicked: what it wrote to standard error says where; give back an error instead".to_owned()
        }
        RunError::Trap { cause, .. } if cause.contains("waits or sleeps") => {
            "a pipeline cannot wait: there is nothing that it could wait for".to_owned()
        }
        RunError::Trap { cause, .. } if cause.contains("exited") => "give back an error instead of ending the program".to_owned(),
        RunError::Trap { cause, .. } if cause.contains("stack") => {
            "recurse less deeply, or keep large arrays in a `Vec`: the stack is small".to_owned()
        }
        RunError::Trap { .. } => "run its own tests on that picture; what it wrote to standard error may say where".to_owned(),
        RunError::Model(_) => "compare the tensor's shape, type and bytes with what settings.get-model says of the model".to_owned(),
        RunError::Setting { key, .. } => format!("correct --setting {key}=…, or accept the value"),
        RunError::Undecodable(_) | RunError::TooLarge { .. } => {
            "decode JPEG, PNG, WebP, BMP, GIF and TIFF of any size that settings.max-pixels allows".to_owned()
        }
        RunError::Output(_) => RULES.to_owned(),
    }
}

pub(super) fn missing_models(wanted: &[String], pack: &Pack) -> Vec<Finding> {
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
