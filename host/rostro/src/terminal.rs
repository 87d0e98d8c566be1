//! Output of the commands on standard output and standard error.
//!
//! Text of other people, such as names in a component, must pass `rostro_common::text::sanitize`
//! before it is printed.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use comfy_table::{Row, Table, presets};
use serde::{Serialize, Serializer};

pub(crate) use rostro_common::text::warn_user;

/// Prints a text and a line break to standard output. Ignores broken pipes (`| head`); exits on any
/// other write error.
pub(crate) fn say(text: &str) {
    if let Err(error) = writeln!(io::stdout().lock(), "{text}")
        && error.kind() != ErrorKind::BrokenPipe
    {
        warn_user(&format!("error: cannot write to standard output: {error}"));
        std::process::exit(1);
    }
}

/// Prints a value as JSON.
pub(crate) fn say_json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => say(&text),
        Err(error) => {
            warn_user(&format!("error: cannot write the answer as JSON: {error}"));
            std::process::exit(1);
        }
    }
}

/// Serializes a path as text, with `�` for bytes that are not Unicode: serde would fail on them.
pub(crate) fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Returns an empty table with these headings and without borders.
pub(crate) fn new_table(headings: impl Into<Row>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headings);
    table
}

/// Returns the lines of a table without trailing spaces, which terminals would wrap.
pub(crate) fn render(table: &Table) -> String {
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}
