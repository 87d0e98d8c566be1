//! `rostro models`: packs of a few invented bytes, from folders, archives and a server of the
//! test's own.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::harness::{refusal, rostro};
use crate::publisher::{PATIENCE, Publisher, Reply};

/// Bytes that no compression makes smaller, so that an archive of them has a middle.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// The models of the pack `own`, by file name.
fn weights() -> BTreeMap<String, Vec<u8>> {
    [
        ("detector.onnx", noise(1, 200_000)),
        ("recognizer.onnx", noise(2, 300_000)),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn zip(entries: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        writer
            .start_file(
                name,
                SimpleFileOptions::default().compression_method(CompressionMethod::Deflated),
            )
            .unwrap();
        writer.write_all(&bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// The archive of the pack `own`, its files in this folder (with a slash) or in none.
fn archive(folder: &str) -> Vec<u8> {
    zip(weights()
        .into_iter()
        .map(|(name, bytes)| (format!("{folder}{name}"), bytes)))
}

/// A folder for packs, and the manifest of the pack `own`.
#[derive(Debug)]
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        bench.write_manifest("", "");
        bench
    }

    /// A pack that a server publishes.
    fn published(publisher: &Publisher, sha256: &str) -> Self {
        let bench = Self::new();
        bench.write_manifest(
            "",
            &format!(
                "[archive]\nurl = '{}'\nsha256 = '{sha256}'\n",
                publisher.url
            ),
        );
        bench
    }

    fn write_manifest(&self, keys: &str, archive: &str) {
        let mut text = format!(
            "name = 'own'\ndescription = 'Of the tests'\nlicense = 'Only for tests'\n{keys}\n{archive}\
             [thresholds]\ndetection = 0.5\nsimilarity = 0.5\n"
        );
        for (file, bytes) in weights() {
            let (role, size) = (file.trim_end_matches(".onnx"), bytes.len());
            text += &format!(
                "[models.{role}]\nfile = '{file}'\nsha256 = '{}'\nmax_size = {size}\nmean = 0\nstd = 1\n",
                sha256(&bytes)
            );
        }
        std::fs::write(self.manifest(), text).unwrap();
    }

    fn manifest(&self) -> PathBuf {
        self.folder.path().join("own.toml")
    }

    fn models(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    /// A file beside the packs.
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn partial(&self) -> PathBuf {
        self.models().join(".own.zip.partial")
    }

    /// Names in the folder for packs.
    fn left(&self) -> Vec<String> {
        let entries = self.models().read_dir().into_iter().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = rostro();
        command
            .args(["models", "--models"])
            .arg(self.models())
            .args(args);
        command
    }

    fn install(&self) -> Command {
        self.command(&["install", self.manifest().to_str().unwrap()])
    }

    fn install_from(&self, source: &Path) -> Command {
        let mut command = self.install();
        command.arg("--from").arg(source);
        command
    }

    /// Asserts that the pack is installed, whole, and with nothing beside it.
    fn assert_whole(&self) {
        assert_eq!(succeeds(self.command(&["verify", "own"])), "own: whole\n");
        for (name, bytes) in weights() {
            assert_eq!(
                std::fs::read(self.models().join("own").join(name)).unwrap(),
                bytes
            );
        }
        assert_eq!(self.left(), ["own"]);
    }
}

/// Runs a command that must succeed, and answers what it prints.
fn succeeds(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn assert_refused(command: Command, wanted: &[&str]) {
    let error = refusal(command);
    for words in wanted {
        assert!(error.contains(words), "`{words}` is not in: {error}");
    }
}

// --- downloads ---

#[test]
fn a_downloaded_pack_is_installed_and_whole() {
    let file = archive("own/");
    let publisher = Publisher::new(file.clone(), [Reply::Whole]);
    let bench = Bench::published(&publisher, &sha256(&file));
    assert!(succeeds(bench.install()).starts_with("installed "));
    bench.assert_whole();
    assert_eq!(publisher.starts(), [None]);
}

#[test]
fn an_interrupted_download_goes_on_where_it_stopped() {
    let file = archive("");
    let half = file.len() / 2;
    let publisher = Publisher::new(file.clone(), [Reply::CutOff(half), Reply::Rest]);
    let bench = Bench::published(&publisher, &sha256(&file));
    assert_refused(
        bench.install(),
        &[
            "stopped",
            "run the command again to go on where it stopped",
            &publisher.url,
        ],
    );
    assert_eq!(bench.left(), [".own.zip.partial"]);
    assert_eq!(std::fs::read(bench.partial()).unwrap(), file[..half]);
    succeeds(bench.install());
    bench.assert_whole();
    assert_eq!(publisher.starts(), [None, Some(half)]);
}

#[test]
fn a_server_that_cannot_go_on_is_asked_for_all_of_it() {
    let file = archive("");
    let publisher = Publisher::new(file.clone(), [Reply::CutOff(1000), Reply::Whole]);
    let bench = Bench::published(&publisher, &sha256(&file));
    refusal(bench.install());
    succeeds(bench.install());
    bench.assert_whole();
    assert_eq!(publisher.starts(), [None, Some(1000)]);
}

#[test]
fn more_than_the_server_has_is_thrown_away() {
    let file = archive("");
    let publisher = Publisher::new(
        file.clone(),
        [Reply::Status("416 Range Not Satisfiable"), Reply::Whole],
    );
    let bench = Bench::published(&publisher, &sha256(&file));
    std::fs::create_dir(bench.models()).unwrap();
    std::fs::write(bench.partial(), [file.as_slice(), b"more"].concat()).unwrap();
    succeeds(bench.install());
    bench.assert_whole();
    assert_eq!(publisher.starts(), [Some(file.len() + 4), None]);
}

#[test]
fn a_download_that_was_complete_is_not_fetched_again() {
    let file = archive("");
    let publisher = Publisher::new(file.clone(), []);
    let bench = Bench::published(&publisher, &sha256(&file));
    std::fs::create_dir(bench.models()).unwrap();
    std::fs::write(bench.partial(), file).unwrap();
    succeeds(bench.install());
    bench.assert_whole();
}

#[test]
fn another_file_than_the_manifest_means_is_refused_and_begun_again() {
    let (file, other) = (archive(""), archive("other/"));
    let publisher = Publisher::new(other.clone(), [Reply::Whole, Reply::Whole]);
    let bench = Bench::published(&publisher, &sha256(&file));
    for _ in 0..2 {
        assert_refused(
            bench.install(),
            &[
                &sha256(&other),
                &sha256(&file),
                "nothing of it was installed",
            ],
        );
        assert_eq!(bench.left(), [".own.zip.partial"]);
    }
    assert_eq!(publisher.starts(), [None, None]);
}

#[test]
fn a_server_that_refuses_or_is_not_there_is_said_with_the_way_out() {
    let publisher = Publisher::new(Vec::new(), [Reply::Status("404 Not Found")]);
    let bench = Bench::published(&publisher, &sha256(b""));
    assert_refused(
        bench.install(),
        &[&publisher.url, "404 Not Found", "--from"],
    );
    // It had one reply.
    assert_refused(
        bench.install(),
        &[&publisher.url, "cannot be fetched", "--from"],
    );
}

#[test]
fn an_installation_that_was_killed_does_not_stand_in_the_way_of_the_next() {
    let file = archive("");
    let half = file.len() / 2;
    let publisher = Publisher::new(file.clone(), [Reply::Silent(half), Reply::Rest]);
    let bench = Bench::published(&publisher, &sha256(&file));
    let mut killed = bench
        .install()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while std::fs::metadata(bench.partial()).map_or(0, |file| file.len()) < half as u64 {
        assert!(
            begun.elapsed() < PATIENCE,
            "the download does not get to its middle"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    // One that was killed later leaves folders. They are removed when they are too old to be of one
    // that is under way.
    for folder in [
        ".installing-old",
        ".installing-young",
        ".replaced-old/pack",
        ".replaced-young/pack",
    ] {
        std::fs::create_dir_all(bench.models().join(folder)).unwrap();
        std::fs::write(bench.models().join(folder).join("manifest.toml"), "name = ").unwrap();
    }
    for folder in [".installing-old", ".replaced-old"] {
        let two_days_ago = SystemTime::now() - Duration::from_secs(2 * 24 * 60 * 60);
        std::fs::File::open(bench.models().join(folder))
            .unwrap()
            .set_modified(two_days_ago)
            .unwrap();
    }
    succeeds(bench.install());
    assert_eq!(succeeds(bench.command(&["verify"])), "own: whole\n");
    assert_eq!(
        bench.left(),
        [".installing-young", ".replaced-young", "own"]
    );
    assert_eq!(publisher.starts(), [None, Some(half)]);
}

// --- files that are there ---

#[test]
fn a_pack_is_installed_from_a_folder_or_an_archive() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in weights() {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let bench = Bench::new();
    succeeds(bench.install_from(folder.path()));
    bench.assert_whole();
    for within in ["", "own/", "another-name/"] {
        let bench = Bench::new();
        succeeds(bench.install_from(&bench.file("pack.zip", &archive(within))));
        bench.assert_whole();
    }
}

#[test]
fn what_cannot_be_installed_is_named_and_leaves_nothing() {
    let with = |name: &str| {
        zip(weights()
            .into_iter()
            .chain([(name.to_owned(), b"x".to_vec())]))
    };
    let with_recognizer = |bytes: &[u8]| {
        zip(weights()
            .into_iter()
            .take(1)
            .chain([("recognizer.onnx".to_owned(), bytes.to_vec())]))
    };
    for (bytes, wanted) in [
        (
            with("../escaped.onnx"),
            "\"../escaped.onnx\" leads out of the archive",
        ),
        (with("/tmp/escaped.onnx"), "leads out of the archive"),
        (
            with("own/detector.onnx"),
            "\"detector.onnx\" is in it twice",
        ),
        (
            with_recognizer(&noise(2, 300_001)),
            "recognizer.onnx has more than 300000 bytes",
        ),
        (
            with_recognizer(&vec![0; 100 << 20]),
            "recognizer.onnx has more than 300000 bytes",
        ),
        (
            with_recognizer(b"other weights"),
            "recognizer.onnx has the SHA-256",
        ),
        (
            zip(weights().into_iter().take(1)),
            "the file recognizer.onnx is not in it",
        ),
        (b"not an archive".to_vec(), "not a usable zip archive"),
    ] {
        let bench = Bench::new();
        assert_refused(
            bench.install_from(&bench.file("pack.zip", &bytes)),
            &["pack.zip is refused", wanted],
        );
        assert_eq!(bench.left(), Vec::<String>::new(), "{wanted}");
        assert!(!bench.folder.path().join("escaped.onnx").exists());
    }
    let bench = Bench::new();
    let folder = bench.folder.path().join("files");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("detector.onnx"), &weights()["detector.onnx"]).unwrap();
    assert_refused(
        bench.install_from(&folder),
        &["files cannot be used", "recognizer.onnx cannot be read"],
    );
    assert_refused(
        bench.install_from(Path::new("nowhere.zip")),
        &["cannot read nowhere.zip"],
    );
    assert_refused(
        bench.install(),
        &[
            "`own` has no archive to download",
            "detector.onnx, recognizer.onnx",
            "--from",
        ],
    );
    assert_eq!(bench.left(), Vec::<String>::new());
}

// --- what is installed ---

#[test]
fn what_is_installed_is_not_fetched_again_unless_it_is_damaged_or_forced() {
    let file = archive("");
    let publisher = Publisher::new(file.clone(), [Reply::Whole, Reply::Whole, Reply::Whole]);
    let bench = Bench::published(&publisher, &sha256(&file));
    succeeds(bench.install());
    assert!(succeeds(bench.install()).ends_with("is installed and whole\n"));
    assert_eq!(publisher.starts().len(), 1, "the server is not asked again");

    std::fs::write(bench.models().join("own/detector.onnx"), "other weights").unwrap();
    assert!(succeeds(bench.install()).starts_with("installed "));
    bench.assert_whole();
    assert_eq!(publisher.starts().len(), 2);

    let stray = bench.models().join("own/stray.txt");
    std::fs::write(&stray, "").unwrap();
    let mut forced = bench.install();
    forced.arg("--force");
    assert!(succeeds(forced).starts_with("installed "));
    bench.assert_whole();
    assert!(!stray.exists(), "the folder is replaced, not written into");
    assert_eq!(publisher.starts().len(), 3);
}

#[test]
fn terms_are_accepted_by_somebody_or_the_flag() {
    let bench = Bench::new();
    bench.write_manifest("requires_acceptance = true", "");
    let pack = bench.file("pack.zip", &archive(""));
    assert_refused(
        bench.install_from(&pack),
        &[
            "terms of `own` were not accepted",
            "Only for tests",
            "--accept-license",
        ],
    );
    assert_eq!(bench.left(), Vec::<String>::new());
    let mut accepted = bench.install_from(&pack);
    accepted.arg("--accept-license");
    succeeds(accepted);
    bench.assert_whole();
}

#[test]
fn a_pack_that_is_not_known_is_told_which_are() {
    let bench = Bench::new();
    assert_refused(
        bench.command(&["install", "owm"]),
        &["no model pack `owm`", "mobile, mobile-liveness, buffalo_l"],
    );
    assert_refused(
        bench.command(&["install", "owm.toml"]),
        &["cannot read owm.toml"],
    );
    let bad = bench.file("bad.toml", b"name = 'x'");
    assert_refused(
        bench.command(&["install", bad.to_str().unwrap()]),
        &["bad.toml: not a pack manifest"],
    );
}

#[test]
fn the_list_says_of_every_pack_what_state_it_is_in() {
    let bench = Bench::new();
    let list = || -> Vec<Value> {
        serde_json::from_str(&succeeds(bench.command(&["list", "--json"]))).unwrap()
    };
    let state = |name: &str| {
        list()
            .iter()
            .find(|pack| pack["name"] == name)
            .map(|pack| pack["state"].as_str().unwrap().to_owned())
    };
    assert_eq!(state("testing").unwrap(), "built in");
    assert_eq!(state("buffalo_l").unwrap(), "not installed");
    assert_eq!(state("own"), None);

    succeeds(bench.command(&["install", "testing"]));
    succeeds(bench.install_from(&bench.file("pack.zip", &archive(""))));
    assert_eq!(state("testing").unwrap(), "installed");
    let own = list()
        .into_iter()
        .find(|pack| pack["name"] == "own")
        .unwrap();
    assert_eq!(
        (&own["state"], &own["description"], &own["license"]),
        (
            &"installed".into(),
            &"Of the tests".into(),
            &"Only for tests".into()
        )
    );
    assert_eq!(
        own["files"],
        serde_json::json!(["detector.onnx", "recognizer.onnx"])
    );

    for (file, bytes) in [
        ("detector.onnx", "other weights"),
        ("manifest.toml", "name = "),
    ] {
        std::fs::write(bench.models().join("own").join(file), bytes).unwrap();
        assert_eq!(state("own").unwrap(), "damaged", "{file}");
        let line = succeeds(bench.command(&["list"]))
            .lines()
            .find(|line| line.starts_with("own "))
            .unwrap()
            .to_owned();
        assert!(line.contains("damaged"), "{line}");
    }
}

#[test]
fn a_damaged_pack_is_found_and_its_file_named() {
    let bench = Bench::new();
    succeeds(bench.install_from(&bench.file("pack.zip", &archive(""))));
    succeeds(bench.command(&["install", "testing"]));
    let verify = |wanted: &str| {
        let mut command = bench.command(&["verify"]);
        let output = command.output().unwrap();
        let (printed, error) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        );
        assert_eq!(
            (output.status.code(), error.as_str()),
            (Some(1), "error: 1 of the packs cannot be used\n"),
            "{printed}"
        );
        assert!(
            printed.starts_with("own: ") && printed.ends_with("\ntesting: whole\n"),
            "{printed}"
        );
        for words in [wanted, "rostro models install own --force"] {
            assert!(printed.contains(words), "`{words}` is not in: {printed}");
        }
    };
    let installed = bench.models().join("own");
    let recognizer = installed.join("recognizer.onnx");
    let mut bytes = std::fs::read(&recognizer).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&recognizer, &bytes).unwrap();
    verify("recognizer.onnx has the SHA-256");
    std::fs::write(&recognizer, [bytes.as_slice(), b"!"].concat()).unwrap();
    verify("recognizer.onnx has more than 300000 bytes");
    std::fs::remove_file(&recognizer).unwrap();
    verify("recognizer.onnx cannot be read");
    std::fs::write(installed.join("manifest.toml"), "name = ").unwrap();
    verify("the manifest of the installed pack `own` is not valid");
    assert_eq!(
        bench
            .command(&["verify", "nobody"])
            .output()
            .unwrap()
            .status
            .code(),
        Some(1)
    );
}

#[test]
fn the_remedy_for_a_damaged_pack_works_for_a_pack_of_ones_own_too() {
    let file = archive("");
    let publisher = Publisher::new(file.clone(), [Reply::Whole, Reply::Whole]);
    let bench = Bench::published(&publisher, &sha256(&file));
    succeeds(bench.install());
    std::fs::write(bench.models().join("own/detector.onnx"), "other weights").unwrap();
    std::fs::remove_file(bench.manifest()).unwrap();
    succeeds(bench.command(&["install", "own", "--force"]));
    bench.assert_whole();
}

#[test]
fn a_folder_that_is_no_pack_is_left_alone() {
    let models = tempfile::tempdir().unwrap();
    let notes = models.path().join("testing/notes.txt");
    std::fs::create_dir(notes.parent().unwrap()).unwrap();
    std::fs::write(&notes, "precious").unwrap();
    for force in [&[][..], &["--force"]] {
        let mut install = rostro();
        install
            .args(["models", "--models"])
            .arg(models.path())
            .args(["install", "testing"])
            .args(force);
        let error = refusal(install);
        assert!(
            error.contains("testing is there and is no model pack"),
            "{error}"
        );
    }
    assert_eq!(std::fs::read_to_string(notes).unwrap(), "precious");
}
