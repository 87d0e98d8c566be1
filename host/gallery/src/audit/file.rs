//! The file of the audit log: lines are appended under its name, and old lines are removed.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use rostro_common::fs::atomic::{AtomicFile, FileAccess};

/// A file that lines are appended to.
#[derive(Debug)]
pub(crate) struct AuditFile {
    path: PathBuf,
    /// None after a failure.
    file: Option<Arc<File>>,
}

/// The field of a line that is read here.
#[derive(Deserialize)]
struct LineTime {
    time: String,
}

impl AuditFile {
    /// Opens a file, and creates it if it does not exist.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: Some(Arc::new(open(path)?)),
        })
    }

    /// Opens the file under the name again.
    ///
    /// # Errors
    ///
    /// If it cannot be written; the next line tries again.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        self.file = None;
        self.file = Some(Arc::new(open(&self.path)?));
        Ok(())
    }

    /// Appends whole lines. Returns the file, so that the caller can sync it without a lock.
    ///
    /// # Errors
    ///
    /// If they cannot be written completely.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<Arc<File>> {
        if !self.is_in_place() {
            self.reopen()?;
            tracing::info!(
                "the audit log {} is another file than before and was opened again",
                self.path.display()
            );
        }
        let Some(file) = &self.file else {
            return Err(io::Error::other("it is not open"));
        };
        begin_line(file)?;
        (&**file).write_all(lines)?;
        Ok(Arc::clone(file))
    }

    /// Returns true if the name leads to the open file.
    fn is_in_place(&self) -> bool {
        let open = self.file.as_ref().and_then(|file| file.metadata().ok());
        let named = fs::metadata(&self.path).ok();
        open.zip(named)
            .is_some_and(|(open, named)| is_same(&open, &named))
    }

    /// Returns the file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file by a copy without old lines, to which the lines since the copy are added.
    /// Returns the number of removed bytes; 0 if log rotation replaced the file meanwhile.
    ///
    /// # Errors
    ///
    /// If the file cannot be replaced; it is unchanged then.
    pub(crate) fn replace_by(&mut self, mut copy: ShorterCopy) -> io::Result<u64> {
        let mut file = File::open(&self.path)?;
        if !is_same(&file.metadata()?, &copy.original) {
            return Ok(0);
        }
        file.seek(SeekFrom::Start(copy.end))?;
        io::copy(&mut file, &mut copy.file)?;
        copy.file.commit()?;
        self.reopen()?;
        Ok(copy.start)
    }

    /// Returns the files that log rotation made of this one. Their names begin with its name.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub(crate) fn rotated(&self) -> io::Result<Vec<PathBuf>> {
        rotated(&self.path)
    }
}

/// Copy of a log without its old lines, under a temporary name.
#[derive(Debug)]
pub(crate) struct ShorterCopy {
    file: AtomicFile,
    original: fs::Metadata,
    /// Position of the first line that is kept.
    start: u64,
    /// Position up to which lines are copied.
    end: u64,
}

impl ShorterCopy {
    /// Copies the lines from the first that is not older than `cutoff`; none if no line is older.
    /// It takes no lock, because a log may be large.
    ///
    /// # Errors
    ///
    /// If the log cannot be read or the copy cannot be written.
    pub(crate) fn of(path: &Path, cutoff: Timestamp) -> io::Result<Option<Self>> {
        let log = File::open(path)?;
        let original = log.metadata()?;
        let mut reader = BufReader::new(log);
        let (mut start, mut end, mut line) = (0, 0, Vec::new());
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line)? as u64;
            end += length;
            match time(&line) {
                // A torn line has no time. It is removed with an old line after it.
                None if length > 0 => {}
                Some(time) if time < cutoff => start = end,
                _ => break,
            }
        }
        if start == 0 {
            return Ok(None);
        }
        let mut rest = reader.into_inner();
        rest.seek(SeekFrom::Start(start))?;
        let mut file = AtomicFile::create(path, FileAccess::Owner)?;
        let end = start + io::copy(&mut rest, &mut file)?;
        file.as_file().sync_all()?;
        Ok(Some(Self {
            file,
            original,
            start,
            end,
        }))
    }
}

/// Returns the files next to `path` that are named like it, with a suffix after a dot or a hyphen,
/// sorted by name.
///
/// # Errors
///
/// If the folder cannot be read.
pub fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    let own = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_rotated = name
            .to_str()
            .and_then(|name| name.strip_prefix(own))
            .is_some_and(|suffix| suffix.starts_with(['.', '-']));
        if is_rotated && entry.file_type()?.is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Returns the time of a line, if the line is complete.
pub fn time(line: &[u8]) -> Option<Timestamp> {
    serde_json::from_slice::<LineTime>(line)
        .ok()?
        .time
        .parse()
        .ok()
}

/// Opens a regular file to append to it. A new file is for its owner alone. Other kinds of files
/// are refused, because they could block or have no end.
fn open(path: &Path) -> io::Result<File> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "it is not a regular file",
            ));
        }
        _ => {}
    }
    let mut options = File::options();
    options.create(true).read(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(unix)]
fn is_same(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;

    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Compares the times of creation, because the system has no inode numbers.
#[cfg(not(unix))]
fn is_same(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    a.created().ok() == b.created().ok()
}

/// Begins a new line after a torn one, so that the two do not become one line.
fn begin_line(mut file: &File) -> io::Result<()> {
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(-1)).is_ok() {
        file.read_exact(&mut last)?;
    }
    if last == [b'\n'] {
        Ok(())
    } else {
        file.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remove_before(file: &mut AuditFile, cutoff: Timestamp) -> io::Result<u64> {
        match ShorterCopy::of(file.path(), cutoff)? {
            Some(copy) => file.replace_by(copy),
            None => Ok(0),
        }
    }

    fn file() -> (tempfile::TempDir, PathBuf, AuditFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let file = AuditFile::open(&path).unwrap();
        (folder, path, file)
    }

    fn line(day: i64) -> String {
        format!(
            "{{\"time\":\"{}\"}}\n",
            Timestamp::from_second(day * 86_400).unwrap()
        )
    }

    #[test]
    fn lines_follow_the_name() {
        let (folder, path, mut file) = file();
        file.append(b"1\n").unwrap();
        let moved = folder.path().join("audit.jsonl.1");
        fs::rename(&path, &moved).unwrap();
        file.append(b"2\n").unwrap();
        fs::remove_file(&path).unwrap();
        file.append(b"3\n").unwrap();
        file.append(b"4\n").unwrap();
        assert_eq!(
            (
                fs::read_to_string(&moved).unwrap().as_str(),
                fs::read_to_string(&path).unwrap().as_str()
            ),
            ("1\n", "3\n4\n")
        );
        // Emptied in place, as logrotate's copytruncate does.
        File::options()
            .write(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        file.append(b"5\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "5\n");
        // A torn line, as a crash or a tool leaves it.
        fs::write(&path, "half").unwrap();
        file.append(b"6\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "half\n6\n");
        assert_eq!(file.rotated().unwrap(), [moved]);
    }

    #[test]
    fn append_recovers_after_failure() {
        let (_folder, path, mut file) = file();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(file.append(b"lost\n").is_err() && file.append(b"lost\n").is_err());
        fs::remove_dir(&path).unwrap();
        file.append(b"1\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        #[cfg(unix)]
        {
            fs::remove_file(&path).unwrap();
            assert!(
                std::process::Command::new("mkfifo")
                    .arg(&path)
                    .status()
                    .unwrap()
                    .success()
            );
            assert!(
                file.append(b"lost\n").is_err(),
                "a pipe that is never read would block"
            );
        }
    }

    #[test]
    fn old_lines_are_removed() {
        let (_folder, path, mut file) = file();
        let cutoff = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        let text = [
            line(1),
            "torn\n".to_owned(),
            line(2),
            line(3),
            "torn\n".to_owned(),
            line(2),
            line(4),
        ]
        .concat();
        file.append(text.as_bytes()).unwrap();
        assert_eq!(remove_before(&mut file, cutoff(1)).unwrap(), 0);
        assert!(remove_before(&mut file, cutoff(3)).unwrap() > 0);
        // Lines after a younger one stay, because the clock may have jumped.
        let left = [line(3), "torn\n".to_owned(), line(2), line(4)].concat();
        assert_eq!(fs::read_to_string(&path).unwrap(), left);
        fs::write(&path, "without\ntimes\n").unwrap();
        assert_eq!(remove_before(&mut file, cutoff(3)).unwrap(), 0);
        fs::write(&path, &left).unwrap();
        file.append(b"new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), left + "new\n");
    }

    /// Other requests append lines while the old ones are removed.
    #[test]
    fn removal_keeps_lines_appended_meanwhile() {
        let (_folder, path, mut file) = file();
        let line = |day: i64| {
            let time = Timestamp::from_second(day * 86_400).unwrap();
            format!("{{\"time\":\"{time}\"}}\n")
        };
        file.append([1, 5].map(line).concat().as_bytes()).unwrap();
        let cutoff = Timestamp::from_second(3 * 86_400).unwrap();
        let copy = ShorterCopy::of(&path, cutoff).unwrap().unwrap();
        file.append(line(6).as_bytes()).unwrap();
        assert!(file.replace_by(copy).unwrap() > 0);
        file.append(line(7).as_bytes()).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            [5, 6, 7].map(line).concat()
        );
    }
}
