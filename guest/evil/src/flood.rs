//! Floods of log lines, warnings and stages.

use std::io::Write;

use rostro_sdk::bindings::rostro::pipeline::telemetry::{Level, log, stage, warning};

/// A forged line in the host's format.
const FORGED: &str =
    "\n2026-01-01T00:00:00.000000Z ERROR forged by a guest\u{1b}[31m\u{1b}]0;title\u{7}";

/// Runs the mode; returns false for modes of other modules.
pub(crate) fn act(mode: &str) -> bool {
    match mode {
        // 10 MB in lines of some hundred bytes.
        "log-flood" => {
            let line = FORGED.repeat(5);
            (0..10_000_000 / line.len()).for_each(|_| log(Level::Warn, &line));
        }
        "log-empty" => (0..100_000).for_each(|_| log(Level::Warn, "")),
        "stderr-flood" => {
            let line = FORGED.repeat(50);
            // Ignores errors, because `eprintln!` would panic at the first.
            (0..10_000_000 / line.len())
                .for_each(|_| drop(std::io::stderr().write_all(line.as_bytes())));
        }
        "warning" => warning("odd", "This is\u{1b}[31m odd."),
        "warnings-flood" => (0..100_000_u64)
            .for_each(|index| warning(&format!("code_{}", index % 1000), &FORGED.repeat(50))),
        "stages-flood" => {
            (0..100_000_u64).for_each(|index| stage(&format!("stage-{index}"), index))
        }
        _ => return false,
    }
    true
}
