//! Vision, and the dispatch of modes.

use std::hint::black_box;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::answer::{Answer, broken, honest, scored};
use crate::modes::{self, MODES};
use crate::{Evil, environment, flood, identity, memory, model, set_mode, spin};
use rostro_sdk::bindings::exports::rostro::pipeline::about::{
    self, Description, EmbeddingContract, Setting, SettingType,
};
use rostro_sdk::bindings::exports::rostro::pipeline::vision::{Guest, Purpose, VisionError};
use rostro_sdk::bindings::rostro::pipeline::types::RequestContext;
use rostro_sdk::bindings::rostro::pipeline::{samples, settings};

/// Calls of `analyze` in this instance.
static CALLS: AtomicU16 = AtomicU16::new(0);

/// Returns a declared text.
fn text_setting(name: &str) -> Setting {
    Setting {
        name: name.to_owned(),
        value: SettingType::Text,
        default: String::new(),
        description: "Selects a fault.".to_owned(),
        by_request: false,
    }
}

impl about::Guest for Evil {
    fn describe() -> Description {
        let mut description = Description {
            identity: identity(),
            models: vec!["detector".to_owned(), "recognizer".to_owned()],
            contract: Some(EmbeddingContract {
                recognizer: "recognizer".to_owned(),
                alignment: "none/1".to_owned(),
                preprocessing: "none/1".to_owned(),
            }),
            settings: [modes::SETTING, modes::ALWAYS].map(text_setting).into(),
            state_version: 1,
        };
        match settings::get(modes::SETTING).as_deref() {
            Some("spin" | "policy-spin") => spin(),
            Some("panic") => trigger_panic(),
            Some("memory") => memory::grow(),
            Some("huge") => {
                description.identity.name = "m".repeat(10_000_000);
                description.models = (0..100_000).map(|index| format!("model-{index}")).collect();
            }
            Some("name") => description.identity.name = "Evil\n\u{1b}[31m".to_owned(),
            _ => {}
        }
        if settings::get(modes::ALWAYS).as_deref() == Some("model-unknown") {
            description.models.push("liveness".to_owned());
        }
        description
    }
}

impl Guest for Evil {
    fn analyze(
        image: Vec<u8>,
        _purpose: Purpose,
        _context: RequestContext,
        _state: Option<Vec<u8>>,
    ) -> Answer {
        let calls = CALLS.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let always = settings::get(modes::ALWAYS).filter(|name| !name.is_empty());
        let named =
            modes::parse(&image).or(always.as_ref().map(|name| (name.as_bytes(), &b""[..])));
        let Some((name, argument)) = named else {
            return honest();
        };
        let name = String::from_utf8_lossy(name);
        set_mode(&name);
        act(&name, argument, calls)
    }
}

/// Runs a mode.
fn act(mode: &str, argument: &[u8], calls: u16) -> Answer {
    match mode {
        "spin" => spin(),
        "spin-host" => loop {
            black_box(settings::get_thresholds());
        },
        "sleep" => std::thread::sleep(Duration::from_secs(3600)),
        "memory" => memory::grow(),
        "recursion" => drop(black_box(memory::recurse(0))),
        "stack" => drop(black_box(memory::recurse_widely(0))),
        "panic" => trigger_panic(),
        "unreachable" => memory::trap(),
        "exit" => std::process::exit(3),
        "exit-zero" => std::process::exit(0),
        "files" => {
            return scored(if environment::is_reachable() {
                1.0
            } else {
                0.5
            });
        }
        "counter" => return scored(f32::from(calls) / 100.0),
        "hide" => memory::hide(argument),
        "seek" => return scored(memory::seek(argument).min(99) as f32 / 100.0 + 0.001),
        "raw" => samples::raw(0, &raw(1.0)),
        "raw-index" => samples::raw(1, &raw(1.0)),
        "raw-nan" => samples::raw(0, &raw(f32::NAN)),
        "raw-many" => (0..2000).for_each(|face| samples::raw(face, &raw(1.0))),
        "setting-complained" => settings::refused("evil-always", "it could be better"),
        "setting-refused" => {
            settings::refused("evil\u{1b}[31m", &"no value\nis good enough ".repeat(1000));
            return Err(VisionError::Model("never mind".to_owned()));
        }
        _ if flood::act(mode) => {}
        _ => return run_answer_mode(mode, argument),
    }
    honest()
}

/// Returns a raw sample of this number, with the recogniser's dimension.
fn raw(number: f32) -> Vec<f32> {
    vec![
        number;
        settings::get_model("recognizer")
            .and_then(|model| model.dimension)
            .unwrap_or(1) as usize
    ]
}

/// Runs modes of answers and of models; honest for those of the policy.
fn run_answer_mode(mode: &str, argument: &[u8]) -> Answer {
    match (broken(mode), model::act(mode, argument)) {
        (Some(analysis), _) => Ok(analysis),
        (None, Some(answer)) => answer,
        (None, None) if MODES.iter().any(|known| known.name == mode) => honest(),
        // A test with a misspelt mode gets 400.
        (None, None) => Err(VisionError::Undecodable("there is no such mode".to_owned())),
    }
}

#[expect(clippy::panic, reason = "the mode panics")]
fn trigger_panic() -> ! {
    panic!("evil vision\npanics")
}
