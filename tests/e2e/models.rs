//! `rostro models`: installs small invented packs from folders, archives and a test server.

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

/// Returns incompressible bytes, so that a download of their archive can stop halfway.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..))
        .take(length)
        .collect()
}

/// Returns the models of the pack `own` by file name.
fn weights() -> BTreeMap<String, Vec<u8>> {
    [
        ("detector.onnx", noise(1, 200_000)),
        ("recognizer.onnx", noise(2, 300_000)),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
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

/// Returns the archive of the pack `own`. Its files are in `folder` (with a slash) or at the top.
fn archive(folder: &str) -> Vec<u8> {
    zip(weights()
        .into_iter()
        .map(|(name, bytes)| (format!("{folder}{name}"), bytes)))
}

/// Folder for packs, and the manifest of the pack `own`.
#[derive(Debug)]
struct Fixture {
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fixture.write_manifest("", "");
        fixture
    }

    /// Creates a pack with its archive on a server.
    fn published(publisher: &Publisher, sha256: &str) -> Self {
        let fixture = Self::new();
        fixture.write_manifest(
            "",
            &format!(
                "[archive]\nurl = '{}'\nsha256 = '{sha256}'\n",
                publisher.url
            ),
        );
        fixture
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

    /// Writes a file next to the packs and returns its path.
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn partial(&self) -> PathBuf {
        self.models().join(".own.zip.partial")
    }

    /// Returns the sorted names in the folder for packs.
    fn entries(&self) -> Vec<String> {
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

    /// Asserts that the pack is installed and complete, and that nothing else is in the folder.
    fn assert_whole(&self) {
        assert_eq!(succeeds(self.command(&["verify", "own"])), "own: whole\n");
        for (name, bytes) in weights() {
            assert_eq!(
                std::fs::read(self.models().join("own").join(name)).unwrap(),
                bytes
            );
        }
        assert_eq!(self.entries(), ["own"]);
    }
}

/// Runs a command, asserts success and returns its output.
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
fn downloaded_pack_is_complete() {
    let file = archive("own/");
    let publisher = Publisher::new(file.clone(), [Reply::Whole]);
    let fixture = Fixture::published(&publisher, &sha256(&file));
    assert!(succeeds(fixture.install()).starts_with("installed "));
    fixture.assert_whole();
    assert_eq!(publisher.starts(), [None]);
}

#[test]
fn interrupted_download_resumes() {
    let file = archive("");
    let half = file.len() / 2;
    let publisher = Publisher::new(file.clone(), [Reply::CutOff(half), Reply::Rest]);
    let fixture = Fixture::published(&publisher, &sha256(&file));
    assert_refused(
        fixture.install(),
        &["stopped", "run the command again to resume", &publisher.url],
    );
    assert_eq!(fixture.entries(), [".own.zip.partial"]);
    assert_eq!(std::fs::read(fixture.partial()).unwrap(), file[..half]);
    succeeds(fixture.install());
    fixture.assert_whole();
    assert_eq!(publisher.starts(), [None, Some(half)]);
}

/// A server without ranges sends the whole file again.
#[test]
fn download_without_ranges_restarts() {
    let file = archive("");
    let publisher = Publisher::new(file.clone(), [Reply::CutOff(1000), Reply::Whole]);
    let fixture = Fixture::published(&publisher, &sha256(&file));
    refusal(fixture.install());
    succeeds(fixture.install());
    fixture.assert_whole();
    assert_eq!(publisher.starts(), [None, Some(1000)]);
}

/// A partial file that is longer than the archive is discarded.
#[test]
fn overlong_partial_file_discarded() {
    let file = archive("");
    let publisher = Publisher::new(
        file.clone(),
        [Reply::Status("416 Range Not Satisfiable"), Reply::Whole],
    );
    let fixture = Fixture::published(&publisher, &sha256(&file));
    std::fs::create_dir(fixture.models()).unwrap();
    std::fs::write(fixture.partial(), [file.as_slice(), b"more"].concat()).unwrap();
    succeeds(fixture.install());
    fixture.assert_whole();
    assert_eq!(publisher.starts(), [Some(file.len() + 4), None]);
}

#[test]
fn complete_download_is_reused() {
    let file = archive("");
    let publisher = Publisher::new(file.clone(), []);
    let fixture = Fixture::published(&publisher, &sha256(&file));
    std::fs::create_dir(fixture.models()).unwrap();
    std::fs::write(fixture.partial(), file).unwrap();
    succeeds(fixture.install());
    fixture.assert_whole();
}

/// An archive with another SHA-256 is refused, and the next attempt downloads it again.
#[test]
fn digest_mismatch_restarts_download() {
    let (file, other) = (archive(""), archive("other/"));
    let publisher = Publisher::new(other.clone(), [Reply::Whole, Reply::Whole]);
    let fixture = Fixture::published(&publisher, &sha256(&file));
    for _ in 0..2 {
        assert_refused(
            fixture.install(),
            &[
                &sha256(&other),
                &sha256(&file),
                "nothing of it was installed",
            ],
        );
        assert_eq!(fixture.entries(), [".own.zip.partial"]);
    }
    assert_eq!(publisher.starts(), [None, None]);
}

/// A refused or failed connection names the address and `--from`.
#[test]
fn failed_download_names_alternative() {
    let publisher = Publisher::new(Vec::new(), [Reply::Status("404 Not Found")]);
    let fixture = Fixture::published(&publisher, &sha256(b""));
    assert_refused(
        fixture.install(),
        &[&publisher.url, "404 Not Found", "--from"],
    );
    // The server has no second reply, so the connection fails.
    assert_refused(
        fixture.install(),
        &[&publisher.url, "cannot fetch", "--from"],
    );
}

/// The next installation reuses or removes the files of a killed one.
#[test]
fn killed_installation_can_be_repeated() {
    let file = archive("");
    let half = file.len() / 2;
    let publisher = Publisher::new(file.clone(), [Reply::Silent(half), Reply::Rest]);
    let fixture = Fixture::published(&publisher, &sha256(&file));
    let mut killed = fixture
        .install()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while std::fs::metadata(fixture.partial()).map_or(0, |file| file.len()) < half as u64 {
        assert!(
            begun.elapsed() < PATIENCE,
            "the download does not reach its middle"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    // An installation that is killed later leaves folders. They are removed only if they are too
    // old to belong to a running installation.
    for folder in [
        ".installing-old",
        ".installing-young",
        ".replaced-old/pack",
        ".replaced-young/pack",
    ] {
        std::fs::create_dir_all(fixture.models().join(folder)).unwrap();
        std::fs::write(
            fixture.models().join(folder).join("manifest.toml"),
            "name = ",
        )
        .unwrap();
    }
    for folder in [".installing-old", ".replaced-old"] {
        let two_days_ago = SystemTime::now() - Duration::from_secs(2 * 24 * 60 * 60);
        std::fs::File::open(fixture.models().join(folder))
            .unwrap()
            .set_modified(two_days_ago)
            .unwrap();
    }
    succeeds(fixture.install());
    assert_eq!(succeeds(fixture.command(&["verify"])), "own: whole\n");
    assert_eq!(
        fixture.entries(),
        [".installing-young", ".replaced-young", "own"]
    );
    assert_eq!(publisher.starts(), [None, Some(half)]);
}

// --- local sources ---

/// Installs a pack from a folder, and from archives with and without a folder.
#[test]
fn local_pack_is_installed() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in weights() {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let fixture = Fixture::new();
    succeeds(fixture.install_from(folder.path()));
    fixture.assert_whole();
    for within in ["", "own/", "another-name/"] {
        let fixture = Fixture::new();
        succeeds(fixture.install_from(&fixture.file("pack.zip", &archive(within))));
        fixture.assert_whole();
    }
}

/// An unusable source is refused with its fault, and no file of it is kept.
#[test]
fn unusable_source_leaves_nothing() {
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
    // Archives.
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
        let fixture = Fixture::new();
        assert_refused(
            fixture.install_from(&fixture.file("pack.zip", &bytes)),
            &["pack.zip is refused", wanted],
        );
        assert_eq!(fixture.entries(), Vec::<String>::new(), "{wanted}");
        assert!(!fixture.folder.path().join("escaped.onnx").exists());
    }
    // A folder, a missing file, and a pack without a download.
    let fixture = Fixture::new();
    let folder = fixture.folder.path().join("files");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("detector.onnx"), &weights()["detector.onnx"]).unwrap();
    assert_refused(
        fixture.install_from(&folder),
        &["cannot use the folder", "cannot read recognizer.onnx"],
    );
    assert_refused(
        fixture.install_from(Path::new("nowhere.zip")),
        &["cannot read nowhere.zip"],
    );
    assert_refused(
        fixture.install(),
        &[
            "`own` has no archive to download",
            "detector.onnx, recognizer.onnx",
            "--from",
        ],
    );
    assert_eq!(fixture.entries(), Vec::<String>::new());
}

// --- installed packs ---

/// An installed pack is downloaded again only if it is damaged or `--force` is given.
#[test]
fn installed_pack_is_not_refetched() {
    let file = archive("");
    let publisher = Publisher::new(file.clone(), [Reply::Whole, Reply::Whole, Reply::Whole]);
    let fixture = Fixture::published(&publisher, &sha256(&file));
    succeeds(fixture.install());
    assert!(succeeds(fixture.install()).ends_with("is installed and whole\n"));
    assert_eq!(
        publisher.starts().len(),
        1,
        "the pack is not downloaded again"
    );

    // A damaged pack.
    std::fs::write(fixture.models().join("own/detector.onnx"), "other weights").unwrap();
    assert!(succeeds(fixture.install()).starts_with("installed "));
    fixture.assert_whole();
    assert_eq!(publisher.starts().len(), 2);

    // A forced installation.
    let stray = fixture.models().join("own/stray.txt");
    std::fs::write(&stray, "").unwrap();
    let mut forced = fixture.install();
    forced.arg("--force");
    assert!(succeeds(forced).starts_with("installed "));
    fixture.assert_whole();
    assert!(!stray.exists(), "the folder is replaced, not written into");
    assert_eq!(publisher.starts().len(), 3);
}

/// A pack with terms to accept is installed only with `--accept-license`.
#[test]
fn terms_require_acceptance() {
    let fixture = Fixture::new();
    fixture.write_manifest("requires_acceptance = true", "");
    let pack = fixture.file("pack.zip", &archive(""));
    assert_refused(
        fixture.install_from(&pack),
        &[
            "terms of `own` were not accepted",
            "Only for tests",
            "--accept-license",
        ],
    );
    assert_eq!(fixture.entries(), Vec::<String>::new());
    let mut accepted = fixture.install_from(&pack);
    accepted.arg("--accept-license");
    succeeds(accepted);
    fixture.assert_whole();
}

#[test]
fn unknown_pack_lists_known_packs() {
    let fixture = Fixture::new();
    assert_refused(
        fixture.command(&["install", "owm"]),
        &["no model pack `owm`", "mobile, mobile-liveness, buffalo_l"],
    );
    assert_refused(
        fixture.command(&["install", "owm.toml"]),
        &["cannot read owm.toml"],
    );
    let bad = fixture.file("bad.toml", b"name = 'x'");
    assert_refused(
        fixture.command(&["install", bad.to_str().unwrap()]),
        &["bad.toml: not a pack manifest"],
    );
}

#[test]
fn list_reports_pack_states() {
    let fixture = Fixture::new();
    let list = || -> Vec<Value> {
        serde_json::from_str(&succeeds(fixture.command(&["list", "--json"]))).unwrap()
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

    succeeds(fixture.command(&["install", "testing"]));
    succeeds(fixture.install_from(&fixture.file("pack.zip", &archive(""))));
    assert_eq!(state("testing").unwrap(), "installed");
    let own = list()
        .into_iter()
        .find(|pack| pack["name"] == "own")
        .unwrap();
    assert_eq!(own["state"], "installed");
    assert_eq!(own["description"], "Of the tests");
    assert_eq!(own["license"], "Only for tests");
    assert_eq!(
        own["files"],
        serde_json::json!(["detector.onnx", "recognizer.onnx"])
    );

    for (file, bytes) in [
        ("detector.onnx", "other weights"),
        ("manifest.toml", "name = "),
    ] {
        std::fs::write(fixture.models().join("own").join(file), bytes).unwrap();
        assert_eq!(state("own").unwrap(), "damaged", "{file}");
        let line = succeeds(fixture.command(&["list"]))
            .lines()
            .find(|line| line.starts_with("own "))
            .unwrap()
            .to_owned();
        assert!(line.contains("damaged"), "{line}");
    }
}

#[test]
fn verify_names_damaged_file() {
    let fixture = Fixture::new();
    succeeds(fixture.install_from(&fixture.file("pack.zip", &archive(""))));
    succeeds(fixture.command(&["install", "testing"]));
    let verify = |wanted: &str| {
        let mut command = fixture.command(&["verify"]);
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
    let installed = fixture.models().join("own");
    let recognizer = installed.join("recognizer.onnx");
    let mut bytes = std::fs::read(&recognizer).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&recognizer, &bytes).unwrap();
    verify("recognizer.onnx has the SHA-256");
    std::fs::write(&recognizer, [bytes.as_slice(), b"!"].concat()).unwrap();
    verify("recognizer.onnx has more than 300000 bytes");
    std::fs::remove_file(&recognizer).unwrap();
    verify("cannot read recognizer.onnx");
    std::fs::write(installed.join("manifest.toml"), "name = ").unwrap();
    verify("the manifest of the installed pack `own` is not valid");
    assert_eq!(
        fixture
            .command(&["verify", "nobody"])
            .output()
            .unwrap()
            .status
            .code(),
        Some(1)
    );
}

/// `install --force` repairs a pack even if its own manifest file was removed.
#[test]
fn damaged_own_pack_is_repaired() {
    let file = archive("");
    let publisher = Publisher::new(file.clone(), [Reply::Whole, Reply::Whole]);
    let fixture = Fixture::published(&publisher, &sha256(&file));
    succeeds(fixture.install());
    std::fs::write(fixture.models().join("own/detector.onnx"), "other weights").unwrap();
    std::fs::remove_file(fixture.manifest()).unwrap();
    succeeds(fixture.command(&["install", "own", "--force"]));
    fixture.assert_whole();
}

/// A folder that is not a model pack is never replaced, even with `--force`.
#[test]
fn foreign_folder_is_kept() {
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
            error.contains("testing exists and is not a model pack"),
            "{error}"
        );
    }
    assert_eq!(std::fs::read_to_string(notes).unwrap(), "precious");
}
