//! Words without end.

use std::io::Write;

use rostro_sdk::bindings::rostro::pipeline::telemetry::{Level, log, stage, warning};

/// What a line would look like that the host had written itself.
const FORGED: &str =
    "\n2026-01-01T00:00:00.000000Z ERROR forged by a guest\u{1b}[31m\u{1b}]0;title\u{7}";

/// Writes as a mode says; whether it is a mode of these.
pub(crate) fn act(mode: &str) -> bool {
    match mode {
        // Lines of some hundred bytes, 10 MB of them.
        "log-flood" => {
            let line = FORGED.repeat(5);
            (0..10_000_000 / line.len()).for_each(|_| log(Level::Warn, &line));
        }
        "log-empty" => (0..100_000).for_each(|_| log(Level::Warn, "")),
        "stderr-flood" => {
            let line = FORGED.repeat(50);
            // Errors are ignored: `eprintln!` would panic at the first.
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
