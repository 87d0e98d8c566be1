//! Description of the machine that a measurement ran on.

use std::fs;

/// Returns the processor, the cores of this process, the memory and the operating system.
pub(crate) fn description() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let processor =
        field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
        .map_or_else(String::new, |kilobytes| {
            format!(", {} GB", kilobytes / 1_000_000)
        });
    format!(
        "{cores} cores of {processor}{memory}, {}",
        std::env::consts::OS
    )
}

/// Returns the value of a `name: value` line.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
