//! A group's file: an id a line. Empty lines, and lines with a `#`, are nobody's.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

#[cfg(target_os = "linux")]
use rostro_common::fs::durable::sync_all_of;
use rostro_common::fs::durable::sync_file;
use rostro_common::fs::{bytes_without_mark, read_at_most};

pub(super) use rostro_common::ids::{InvalidId, PersonId};

/// How the files of unfinished writes begin.
pub(super) const UNFINISHED: &str = ".unfinished-";

/// The largest file in bytes: a hundred thousand ids.
pub const LARGEST: usize = 16 << 20;

/// What stands where somebody was taken out. No id has it.
const STRUCK_OUT: u8 = b'#';

/// More files than this are synced with all else on their disk, which is one wait and not one for
/// each.
const ONE_BY_ONE: usize = 16;

/// Reads who is in a group.
pub(super) fn read(path: &Path) -> Result<HashSet<PersonId>, String> {
    let bytes = read_at_most(path, LARGEST).map_err(|error| error.to_string())?;
    if bytes.len() > LARGEST {
        return Err(format!("more than {LARGEST} bytes"));
    }
    parse(bytes)
}

/// Who is in a group whose file has these bytes.
pub(super) fn parse(bytes: Vec<u8>) -> Result<HashSet<PersonId>, String> {
    let lines = bytes_without_mark(&bytes).split(|&byte| byte == b'\n');
    // A line that was struck out may be torn in the middle of a letter, so that it is no text.
    let mut members = HashSet::new();
    for line in lines.filter(|line| !line.contains(&STRUCK_OUT)) {
        let text = std::str::from_utf8(line).map_err(|_| "it is no text".to_owned())?;
        if !text.trim().is_empty() {
            // The line is somebody's id, so that it is not quoted.
            members.insert(
                text.parse()
                    .map_err(|_: InvalidId| "a line that is no id".to_owned())?,
            );
        }
    }
    Ok(members)
}

/// What a group's file says; nothing if that is more than is read.
pub(super) fn text(members: &HashSet<PersonId>) -> Option<String> {
    let ordered: BTreeSet<&PersonId> = members.iter().collect();
    let text: String = ordered.into_iter().map(|id| format!("{id}\n")).collect();
    (text.len() <= LARGEST).then_some(text)
}

/// Writes a group's file so that it is at any moment, crashes included, the old one or the new. The
/// folder is still to be synced.
pub(super) fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(folder.join(name))
        .map_err(|error| error.error)?;
    Ok(())
}

/// Removes the file that a group was in before it was written under its own name, unless the file
/// system takes both names for one.
pub(super) fn remove_renamed(folder: &Path, before: &str, now: &str) -> io::Result<()> {
    if same_file(&folder.join(before), &folder.join(now))? {
        Ok(())
    } else {
        fs::remove_file(folder.join(before))
    }
}

#[cfg(unix)]
fn same_file(a: &Path, b: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;

    let (a, b) = (a.symlink_metadata()?, b.symlink_metadata()?);
    Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
}

#[cfg(not(unix))]
fn same_file(_: &Path, _: &Path) -> io::Result<bool> {
    Ok(false)
}

/// The outcome of [`strike_out`].
#[derive(Debug)]
pub(super) struct LineRemoval {
    /// Number of files, from the first on, that no longer have the person.
    pub files: usize,
    /// False where the file system cannot sync. An error is that of a file that could not be
    /// changed, or of the disk after all were.
    pub durable: io::Result<bool>,
}

/// Takes somebody out of the files of these groups, durably. They are changed in place: that needs
/// no room on a full disk, and however many they are, there is one wait for the disk. Whatever a
/// crash leaves of a line is the id as it was, or has a `#` and is nobody's.
pub(super) fn strike_out<'a>(
    folder: &Path,
    names: impl ExactSizeIterator<Item = &'a str>,
    id: &PersonId,
) -> LineRemoval {
    let (count, together) = (
        names.len(),
        cfg!(target_os = "linux") && names.len() > ONE_BY_ONE,
    );
    let mut durable = Ok(true);
    for (files, name) in names.enumerate() {
        let synced = match strike_out_of(&folder.join(name), id) {
            Ok((file, written)) => {
                written.and_then(|()| if together { Ok(true) } else { sync_file(&file) })
            }
            // Somebody removed it, and who was in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => {
                return LineRemoval {
                    files,
                    durable: Err(error),
                };
            }
        };
        durable = both(durable, synced);
    }
    #[cfg(target_os = "linux")]
    if together {
        durable = both(durable, sync_all_of(folder));
    }
    LineRemoval {
        files: count,
        durable,
    }
}

/// Returns whether both are durable, or the first error.
fn both(a: io::Result<bool>, b: io::Result<bool>) -> io::Result<bool> {
    Ok(a? & b?)
}

/// Strikes a person out of a file. From the first byte that is written on they are out of it,
/// whatever the disk says then.
fn strike_out_of(path: &Path, id: &PersonId) -> io::Result<(File, io::Result<()>)> {
    let bytes = read_at_most(path, LARGEST)?;
    let mut file = File::options().write(true).open(path)?;
    let (mut begin, mut written) = (0, Ok(()));
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if is_of(text, id) {
            file.seek(SeekFrom::Start(begin))?;
            // A byte of the line is enough; where none can be written, the person is still in the
            // group.
            file.write_all(&[STRUCK_OUT])?;
            written = written.and(file.write_all(&vec![STRUCK_OUT; text.len() - 1]));
        }
        begin += line.len() as u64;
    }
    Ok((file, written))
}

/// Returns true if a line is a person's, in whatever form of Unicode it was written.
fn is_of(line: &[u8], id: &PersonId) -> bool {
    line == id.as_str().as_bytes()
        || std::str::from_utf8(bytes_without_mark(line))
            .is_ok_and(|line| line.parse().as_ref() == Ok(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_struck_out_is_gone_and_others_stay_whatever_a_crash_leaves_of_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("maths");
        let (before, id) = (
            "al\r\nalice\n\nali\nalice2\nmalice\nalice\r\nbob\nalice",
            "alice".parse().unwrap(),
        );
        fs::write(&path, before).unwrap();
        assert!(
            strike_out(folder.path(), ["maths", "gone"].into_iter(), &id)
                .durable
                .unwrap()
        );
        let after = "al\r\n#####\n\nali\nalice2\nmalice\n#####\r\nbob\n#####";
        assert_eq!(fs::read_to_string(&path).unwrap(), after);
        let others: HashSet<PersonId> = ["al", "ali", "alice2", "malice", "bob"]
            .iter()
            .map(|id| id.parse().unwrap())
            .collect();
        assert_eq!(read(&path).unwrap(), others);
        // Each byte of the id may have reached the disk or not.
        for which in 0..1_u8 << 5 {
            let torn: String = "alice"
                .chars()
                .enumerate()
                .map(|(at, c)| if which >> at & 1 == 1 { '#' } else { c })
                .collect();
            fs::write(&path, format!("{torn}\nbob\n")).unwrap();
            let members = read(&path).unwrap();
            assert!(
                members.contains(&"bob".parse().unwrap())
                    && members.len() == 1 + usize::from(torn == "alice"),
                "{torn}: {members:?}"
            );
        }
    }

    /// Each byte of a letter of several bytes may have reached the disk or not; what is left need
    /// not be text.
    #[test]
    fn torn_removal_keeps_other_members() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("maths");
        for name in ["José", "李雷", "Jose\u{301}"] {
            let id: PersonId = name.parse().unwrap();
            fs::write(&path, format!("Анна\n{name}\nbob\n")).unwrap();
            assert!(
                strike_out(folder.path(), ["maths"].into_iter(), &id)
                    .durable
                    .unwrap()
            );
            assert_eq!(
                fs::read_to_string(&path).unwrap(),
                format!("Анна\n{}\nbob\n", "#".repeat(name.len()))
            );
            for which in 1..1_u32 << name.len() {
                let torn = name.bytes().enumerate().map(|(at, byte)| {
                    if which >> at & 1 == 1 {
                        STRUCK_OUT
                    } else {
                        byte
                    }
                });
                fs::write(
                    &path,
                    [b"bob\n".to_vec(), torn.collect(), b"\nalice".to_vec()].concat(),
                )
                .unwrap();
                assert_eq!(read(&path).unwrap().len(), 2, "{name}: {which:b}");
            }
        }
    }
}
