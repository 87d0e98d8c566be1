//! What the figures were measured on.

use std::fs;

/// The machine in words: processor, cores that this process may use, memory.
pub(super) fn described() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let processor =
        field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    let memory = memory.map_or_else(String::new, |kilobytes| {
        format!(", {} GB", kilobytes / 1_000_000)
    });
    format!(
        "{cores} cores of {processor}{memory}, {}",
        std::env::consts::OS
    )
}

/// The memory that a process holds and the most that it held so far, in MB, where the system tells.
pub(super) fn memory(process: u32) -> Option<(u64, u64)> {
    let megabytes = |name: &str| {
        let text = field(&format!("/proc/{process}/status"), name)?;
        text.split(' ')
            .next()?
            .parse::<u64>()
            .ok()
            .map(|kibibytes| kibibytes * 1024 / 1_000_000)
    };
    Some((megabytes("VmRSS")?, megabytes("VmHWM")?))
}

/// The value of a `name: value` line.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
