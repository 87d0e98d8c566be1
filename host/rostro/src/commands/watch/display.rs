//! Output of a watch: a line or a JSON object for each frame, or a table that updates in place.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use console::{Term, truncate_str};
use jiff::Zoned;
use serde_json::{Map, Value};

use rostro_common::text::{sanitize, warn_user};

use super::client::{Face, FrameResponse};
use super::error::WatchError;
use super::table::PresenceTable;

/// Format of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// A line for each frame.
    Lines,
    /// A JSON object for each frame.
    Json,
    /// A table, if standard output is a terminal; else lines.
    Table,
}

/// Output that all cameras share.
#[derive(Debug)]
pub(super) struct Display {
    /// Names of the cameras; one empty name if there is a single source.
    names: Vec<String>,
    output: Mutex<Output>,
}

#[derive(Debug)]
enum Output {
    Lines,
    Json,
    Table(LiveTable),
}

/// Table and the number of lines that it has on the terminal.
#[derive(Debug)]
struct LiveTable {
    table: PresenceTable,
    terminal: Term,
    height: usize,
}

impl Display {
    pub(super) fn new(format: Format, names: Vec<String>) -> Self {
        let terminal = Term::buffered_stdout();
        let output = match format {
            Format::Json => Output::Json,
            Format::Table if terminal.is_term() => Output::Table(LiveTable {
                table: PresenceTable::new(names.clone()),
                terminal,
                height: 0,
            }),
            Format::Lines | Format::Table => Output::Lines,
        };
        Self {
            names,
            output: Mutex::new(output),
        }
    }

    /// Shows the answer to a frame. Returns true if the frame was accepted.
    pub(super) fn answer(
        &self,
        camera: usize,
        frame: &str,
        response: &FrameResponse,
    ) -> Result<bool, WatchError> {
        match &mut *self.lock() {
            Output::Lines => {
                let line = match response.faces() {
                    Ok(faces) => format!("{}  {} ms", people(faces), response.time.as_millis()),
                    Err(cause) => format!("refused: {}", sanitize(&cause)),
                };
                print(&format!("{}  {line}", self.label(camera, frame)))?;
            }
            Output::Json => print(&self.json(camera, response))?,
            Output::Table(live) => {
                match response.faces() {
                    Ok(faces) => live.table.record(camera, faces, &Zoned::now()),
                    Err(cause) => live.table.notice(camera, &format!("refused: {cause}")),
                }
                live.draw()?;
            }
        }
        Ok(response.status.is_success())
    }

    /// Shows the reason for which a picture is not sent.
    pub(super) fn refuse(&self, camera: usize, frame: &str, cause: &str) -> Result<(), WatchError> {
        match &mut *self.lock() {
            Output::Lines => print(&format!(
                "{}  refused: {}",
                self.label(camera, frame),
                sanitize(cause)
            )),
            Output::Json => print(&serde_json::json!({ "error": cause }).to_string()),
            Output::Table(live) => {
                live.table.notice(camera, &format!("refused: {cause}"));
                live.draw()
            }
        }
    }

    /// Shows a message about a camera: on standard error, or in the table.
    pub(super) fn notice(&self, camera: usize, text: &str) -> Result<(), WatchError> {
        match &mut *self.lock() {
            Output::Lines | Output::Json => {
                match self.name(camera) {
                    "" => warn_user(&sanitize(text)),
                    name => warn_user(&sanitize(&format!("{name}: {text}"))),
                }
                Ok(())
            }
            Output::Table(live) => {
                live.table.notice(camera, text);
                live.draw()
            }
        }
    }

    /// Counts frames that newer ones replaced.
    pub(super) fn skip(&self, camera: usize, count: u64) {
        if let Output::Table(live) = &mut *self.lock() {
            live.table.skip(camera, count);
        }
    }

    /// Returns true if the output has no place for a count of skipped frames.
    pub(super) fn is_table(&self) -> bool {
        matches!(&*self.lock(), Output::Table(_))
    }

    fn name(&self, camera: usize) -> &str {
        self.names.get(camera).map_or("", String::as_str)
    }

    fn label(&self, camera: usize, frame: &str) -> String {
        match self.name(camera) {
            "" => frame.to_owned(),
            name => format!("{name}  {frame}"),
        }
    }

    /// Returns the answer unchanged, or with the name of its camera in front if there are several.
    fn json(&self, camera: usize, response: &FrameResponse) -> String {
        let text = response.text.trim_end();
        match (self.name(camera), serde_json::from_str(text)) {
            ("", _) | (_, Err(_)) => text.to_owned(),
            (name, Ok(Value::Object(answer))) => {
                let mut named = Map::new();
                named.insert("camera".to_owned(), name.into());
                named.extend(answer);
                Value::Object(named).to_string()
            }
            (_, Ok(_)) => text.to_owned(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveTable {
    /// Replaces the table on the terminal. Lines are cut at its width, because a wrapped line would
    /// count as two.
    fn draw(&mut self) -> Result<(), WatchError> {
        let (height, width) = self.terminal.size();
        let lines = self.table.lines(usize::from(height).saturating_sub(1));
        let write = || {
            self.terminal.clear_last_lines(self.height)?;
            for line in &lines {
                self.terminal
                    .write_line(&truncate_str(line, usize::from(width), "…"))?;
            }
            self.terminal.flush()
        };
        write().map_err(WatchError::Output)?;
        self.height = lines.len();
        Ok(())
    }
}

fn print(line: &str) -> Result<(), WatchError> {
    writeln!(io::stdout(), "{line}").map_err(WatchError::Output)
}

/// Lists the faces in the order of the answer, such as `s6 0.86, Unknown`.
fn people(faces: &[Face]) -> String {
    let one = |face: &Face| match face.confidence.as_str() {
        "N/A" => sanitize(&face.identity),
        confidence => sanitize(&format!("{} {confidence}", face.identity)),
    };
    match faces {
        [] => "no faces".to_owned(),
        faces => faces.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}
