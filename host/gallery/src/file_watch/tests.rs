use std::fs;
use std::time::SystemTime;

use super::*;

/// The settling time counts from the first poll, not from the file's own time.
#[test]
fn file_settles_after_first_poll() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s6.csv");
    fs::write(&path, "half").unwrap();
    // The file has an old time, although it was just written.
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(SystemTime::UNIX_EPOCH)
        .unwrap();
    let watched = WatchedFiles::default();
    watched.record_invalid(&path, None, "damaged");
    assert!(!watched.has_settled(&path) && watched.poll().settled.is_empty());
    watched.settle_all();
    watched.record_invalid(&path, None, "damaged");
    assert!(watched.has_settled(&path));
    assert_eq!(watched.poll().settled, std::slice::from_ref(&path));
    assert!(watched.poll().settled.is_empty(), "reported once");
    assert_eq!(watched.left_alone(), [("damaged", 1)].into());
    // A change starts the time again.
    fs::write(&path, "more than half").unwrap();
    assert!(!watched.has_settled(&path) && watched.is_changed(&path));
    assert!(watched.poll().changed.is_empty(), "it may still change");
    let poll = watched.poll();
    assert_eq!(
        (poll.changed.as_slice(), poll.settled.is_empty()),
        (std::slice::from_ref(&path), true)
    );
    assert!(!watched.is_changed(&path) && watched.poll().changed.is_empty());
    fs::remove_file(&path).unwrap();
    assert!(watched.poll().changed.is_empty() && watched.left_alone().is_empty());
}

/// A file that changes before each poll is reported only after it stops.
#[test]
fn changing_file_is_reported_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s6.csv");
    fs::write(&path, "whole").unwrap();
    let watched = WatchedFiles::default();
    watched.record_valid(&path, Fingerprint::at(&path).unwrap());
    assert!(watched.left_alone().is_empty());
    for length in 6..10 {
        fs::write(&path, "x".repeat(length)).unwrap();
        assert!(watched.poll().changed.is_empty());
    }
    assert_eq!(watched.poll().changed, std::slice::from_ref(&path));
    // A file that is no longer always polled is polled in turn.
    watched.settle_all();
    watched.poll();
    fs::write(&path, "later").unwrap();
    watched.poll();
    assert_eq!(watched.poll().changed, [path]);
}

/// Several polls read the metadata of every file.
#[test]
fn polls_reach_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let watched = WatchedFiles::default();
    let paths: Vec<PathBuf> = (0..3 * POLL_BATCH)
        .map(|number| folder.path().join(format!("{number:05}.csv")))
        .collect();
    for path in &paths {
        fs::write(path, "whole").unwrap();
        watched.record_own_write(path, Fingerprint::at(path));
    }
    watched.poll();
    let changed = [
        &paths[3],
        &paths[POLL_BATCH + 3],
        &paths[2 * POLL_BATCH],
        &paths[3 * POLL_BATCH - 1],
    ];
    for path in changed {
        fs::write(path, "changed").unwrap();
    }
    let mut changes: Vec<PathBuf> = (0..6).flat_map(|_| watched.poll().changed).collect();
    changes.sort();
    assert_eq!(changes.iter().collect::<Vec<_>>(), changed);
}
