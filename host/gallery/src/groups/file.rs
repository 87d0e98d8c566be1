//! File of a group: an id on each line. Empty lines, and lines with a `#`, are ignored.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use rostro_common::fs::atomic::{AtomicFile, FileAccess};
#[cfg(target_os = "linux")]
use rostro_common::fs::durable::sync_all_of;
use rostro_common::fs::durable::sync_file;
use rostro_common::fs::{bytes_without_mark, read_at_most};

pub(super) use rostro_common::ids::{InvalidId, PersonId};

/// Size of the largest file that is read, in bytes: a hundred thousand ids.
pub const MAX_FILE_BYTES: usize = 16 << 20;

/// Byte that overwrites the line of a removed member. No id contains it.
const REMOVED: u8 = b'#';

/// Number of files above which the whole disk is synced, which is one wait instead of one for each
/// file.
const MAX_SINGLE_SYNCS: usize = 16;

/// Reads the members of a group.
pub(super) fn read(path: &Path) -> Result<HashSet<PersonId>, String> {
    let bytes = read_at_most(path, MAX_FILE_BYTES).map_err(|error| error.to_string())?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(format!("more than {MAX_FILE_BYTES} bytes"));
    }
    parse(bytes)
}

/// Parses the members in the bytes of a group's file.
pub(super) fn parse(bytes: Vec<u8>) -> Result<HashSet<PersonId>, String> {
    let lines = bytes_without_mark(&bytes).split(|&byte| byte == b'\n');
    // An overwritten line may be torn within a letter, so that it is not UTF-8.
    let mut members = HashSet::new();
    for line in lines.filter(|line| !line.contains(&REMOVED)) {
        let text = std::str::from_utf8(line).map_err(|_| "it is not text".to_owned())?;
        if !text.trim().is_empty() {
            // The line may be an id, so that the message does not quote it.
            members.insert(
                text.parse()
                    .map_err(|_: InvalidId| "a line is not an id".to_owned())?,
            );
        }
    }
    Ok(members)
}

/// Returns the text of a group's file; none if it exceeds [`MAX_FILE_BYTES`].
pub(super) fn text(members: &HashSet<PersonId>) -> Option<String> {
    let ordered: BTreeSet<&PersonId> = members.iter().collect();
    let text: String = ordered.into_iter().map(|id| format!("{id}\n")).collect();
    (text.len() <= MAX_FILE_BYTES).then_some(text)
}

/// Writes a group's file atomically. The caller syncs the folder.
pub(super) fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = AtomicFile::create(&folder.join(name), FileAccess::Owner)?;
    file.write_all(text.as_bytes())?;
    file.commit()
}

/// Removes the former file of a group that was written under its own name, unless both names are
/// one file.
pub(super) fn remove_renamed(folder: &Path, old: &str, new: &str) -> io::Result<()> {
    if is_same_file(&folder.join(old), &folder.join(new))? {
        Ok(())
    } else {
        fs::remove_file(folder.join(old))
    }
}

#[cfg(unix)]
fn is_same_file(a: &Path, b: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;

    let (a, b) = (a.symlink_metadata()?, b.symlink_metadata()?);
    Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
}

#[cfg(not(unix))]
fn is_same_file(_: &Path, _: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Result of [`remove_member_lines`].
#[derive(Debug)]
pub(super) struct LineRemoval {
    /// Number of files, from the first on, that no longer contain the person.
    pub files: usize,
    /// False if the file system cannot sync. An error concerns either a file that could not be
    /// changed, or the sync after all changes.
    pub durable: io::Result<bool>,
}

/// Removes a person from the files of these groups, durably. The lines are overwritten in place,
/// because a full disk has no room for new files, with one wait for the disk. A crash leaves either
/// the whole id or a line with a `#`, which is ignored.
pub(super) fn remove_member_lines<'a>(
    folder: &Path,
    names: impl ExactSizeIterator<Item = &'a str>,
    id: &PersonId,
) -> LineRemoval {
    let (total, syncs_disk) = (
        names.len(),
        cfg!(target_os = "linux") && names.len() > MAX_SINGLE_SYNCS,
    );
    let mut durable = Ok(true);
    for (files, name) in names.enumerate() {
        let synced = match remove_from_file(&folder.join(name), id) {
            Ok((file, written)) => written.and_then(|()| {
                if syncs_disk {
                    Ok(true)
                } else {
                    sync_file(&file)
                }
            }),
            // Another program removed the file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => {
                return LineRemoval {
                    files,
                    durable: Err(error),
                };
            }
        };
        durable = and(durable, synced);
    }
    #[cfg(target_os = "linux")]
    if syncs_disk {
        durable = and(durable, sync_all_of(folder));
    }
    LineRemoval {
        files: total,
        durable,
    }
}

/// Returns whether and are durable, or the first error.
fn and(a: io::Result<bool>, b: io::Result<bool>) -> io::Result<bool> {
    Ok(a? & b?)
}

/// Overwrites a person's lines in a file. From the first written byte on the person is no longer a
/// member, even if the sync fails.
fn remove_from_file(path: &Path, id: &PersonId) -> io::Result<(File, io::Result<()>)> {
    let bytes = read_at_most(path, MAX_FILE_BYTES)?;
    let mut file = File::options().write(true).open(path)?;
    let (mut offset, mut written) = (0, Ok(()));
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if is_of(text, id) {
            file.seek(SeekFrom::Start(offset))?;
            // One byte of the line is enough. If none can be written, the person stays in the
            // group.
            file.write_all(&[REMOVED])?;
            written = written.and(file.write_all(&vec![REMOVED; text.len() - 1]));
        }
        offset += line.len() as u64;
    }
    Ok((file, written))
}

/// Returns true if a line is the person's id in any form of Unicode.
fn is_of(line: &[u8], id: &PersonId) -> bool {
    line == id.as_str().as_bytes()
        || std::str::from_utf8(bytes_without_mark(line))
            .is_ok_and(|line| line.parse().as_ref() == Ok(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A removed member is gone and the others stay, for each state in which a crash may leave the
    /// line.
    #[test]
    fn removed_member_never_returns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("maths");
        let (old, id) = (
            "al\r\nalice\n\nali\nalice2\nmalice\nalice\r\nbob\nalice",
            "alice".parse().unwrap(),
        );
        fs::write(&path, old).unwrap();
        assert!(
            remove_member_lines(folder.path(), ["maths", "gone"].into_iter(), &id)
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

    /// A torn letter of several bytes need not be UTF-8.
    #[test]
    fn torn_removal_keeps_other_members() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("maths");
        for name in ["José", "李雷", "Jose\u{301}"] {
            let id: PersonId = name.parse().unwrap();
            fs::write(&path, format!("Анна\n{name}\nbob\n")).unwrap();
            assert!(
                remove_member_lines(folder.path(), ["maths"].into_iter(), &id)
                    .durable
                    .unwrap()
            );
            assert_eq!(
                fs::read_to_string(&path).unwrap(),
                format!("Анна\n{}\nbob\n", "#".repeat(name.len()))
            );
            for which in 1..1_u32 << name.len() {
                let torn =
                    name.bytes().enumerate().map(
                        |(at, byte)| {
                            if which >> at & 1 == 1 { REMOVED } else { byte }
                        },
                    );
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
