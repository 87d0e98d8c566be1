use std::fs;
use std::time::SystemTime;

use super::*;

#[test]
fn file_settles_from_first_sight() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s6.csv");
    fs::write(&path, "half").unwrap();
    // The file says that it is old; it is not.
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
    assert!(watched.poll().settled.is_empty(), "it is reported once");
    assert_eq!(watched.left_alone(), [("damaged", 1)].into());
    // A change begins anew.
    fs::write(&path, "more than half").unwrap();
    assert!(!watched.has_settled(&path) && watched.is_changed(&path));
    assert!(watched.poll().changed.is_empty(), "it may change further");
    let poll = watched.poll();
    assert_eq!(
        (poll.changed.as_slice(), poll.settled.is_empty()),
        (std::slice::from_ref(&path), true)
    );
    assert!(!watched.is_changed(&path) && watched.poll().changed.is_empty());
    fs::remove_file(&path).unwrap();
    assert!(watched.poll().changed.is_empty() && watched.left_alone().is_empty());
}

/// A file that changes at each poll is not reported before it stops.
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
    // Later it is looked at in its turn.
    watched.settle_all();
    watched.poll();
    fs::write(&path, "later").unwrap();
    watched.poll();
    assert_eq!(watched.poll().changed, [path]);
}

/// Many files take several looks, after which each was looked at.
#[test]
fn files_are_looked_at_in_turn() {
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
    let mut seen: Vec<PathBuf> = (0..6).flat_map(|_| watched.poll().changed).collect();
    seen.sort();
    assert_eq!(seen.iter().collect::<Vec<_>>(), changed);
}
