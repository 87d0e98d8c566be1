//! Who changed which revision serves, and who enrolled, deleted or grouped people: a line of JSON for each, appended and never changed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::digest::Sha256Digest;

/// Who asks for a change, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Actor {
    /// The token's name, or what stands in for it.
    pub who: String,
    /// The address, or which part of this program.
    pub from: String,
}

impl Actor {
    /// A part of this program.
    pub(crate) fn part(from: &str) -> Self {
        Self { who: "rostro".to_owned(), from: from.to_owned() }
    }
}

/// What is written of a change.
#[derive(Debug, Serialize)]
struct Line<'a> {
    time: String,
    who: &'a str,
    from: &'a str,
    action: &'a str,
    revision: Option<Sha256Digest>,
    outcome: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

/// The log.
#[derive(Debug)]
pub(crate) struct Audit(Mutex<File>);

/// Begins a line: one that a crash or a full disk cut short must not swallow it.
fn begin_line(file: &mut File) -> io::Result<()> {
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(-1)).is_ok() {
        file.read_exact(&mut last)?;
    }
    if last == [b'\n'] { Ok(()) } else { file.write_all(b"\n") }
}

impl Audit {
    /// Opens the log, to append to it.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(Mutex::new(File::options().create(true).read(true).append(true).open(path)?)))
    }

    /// Writes down that somebody did something, or was refused it, and tells the log of the service.
    pub(crate) fn note(&self, actor: &Actor, action: &str, revision: Option<Sha256Digest>, outcome: &str, detail: &str) {
        let time = jiff::Timestamp::now().to_string();
        let line = Line { time, who: &actor.who, from: &actor.from, action, revision, outcome, detail };
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = begin_line(&mut file).and_then(|()| file.write_all(&text)).and_then(|()| file.sync_data()) {
            tracing::error!("the audit log cannot be written: {error}");
        }
        drop(file);
        let revision = revision.map(|id| id.short()).unwrap_or_default();
        tracing::info!(who = actor.who, from = actor.from, action, revision, outcome, "{}", detail.escape_debug());
    }
}
