//! File with several cameras: a TOML table for each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use rostro_common::fs::read_text;
use rostro_common::text::sanitize_name;

use super::pace::Rate;

/// Keys of a camera.
const KEYS: [&str; 7] = [
    "source",
    "login-file",
    "group",
    "session",
    "rate",
    "retries",
    "api-key-file",
];

/// Least similarity of a key to the one that was probably meant.
const SIMILAR: f64 = 0.5;

/// Error of a file with cameras.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the cameras in {file}: {cause}", file = file.display())]
pub(crate) struct CamerasError {
    file: PathBuf,
    cause: String,
}

/// One camera of the file. Paths are relative to the file's folder.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct CameraEntry {
    pub(super) source: PathBuf,
    pub(super) login_file: Option<PathBuf>,
    pub(super) group: Option<String>,
    pub(super) session: Option<String>,
    #[serde(default, deserialize_with = "rate")]
    pub(super) rate: Option<Rate>,
    pub(super) retries: Option<u32>,
    pub(super) api_key_file: Option<PathBuf>,
}

fn rate<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Rate>, D::Error> {
    /// Number with or without a decimal point.
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a number is needed")]
    enum Number {
        Whole(u32),
        Decimal(f64),
    }
    let rate = match Number::deserialize(deserializer)? {
        Number::Whole(rate) => f64::from(rate),
        Number::Decimal(rate) => rate,
    };
    Rate::new(rate).map(Some).map_err(serde::de::Error::custom)
}

/// Reads the cameras of a file, in the order of their names.
pub(super) fn read(file: &Path) -> Result<BTreeMap<String, CameraEntry>, CamerasError> {
    let failed = |cause: String| CamerasError {
        file: file.to_owned(),
        cause,
    };
    let text = read_text(file).map_err(|error| failed(error.to_string()))?;
    let mut cameras = parse(&text).map_err(failed)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    for camera in cameras.values_mut() {
        camera.resolve(folder);
    }
    Ok(cameras)
}

fn parse(text: &str) -> Result<BTreeMap<String, CameraEntry>, String> {
    let tables: toml::Table = toml::from_str(text).map_err(|error: toml::de::Error| {
        // The text of the error quotes a line, which may have a password.
        let line = error
            .span()
            .and_then(|span| text.get(..span.start))
            .map_or(0, |before| before.matches('\n').count() + 1);
        format!("line {line}: {}", error.message())
    })?;
    if tables.is_empty() {
        return Err("it has no cameras; write a table for each, such as [front]".to_owned());
    }
    let mut cameras = BTreeMap::new();
    for (name, value) in tables {
        let shown = sanitize_name(&name);
        let toml::Value::Table(table) = value else {
            return Err(format!(
                "`{shown}` is not a table; write a table for each camera, such as [front]"
            ));
        };
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(format!("[{shown}] has {}", unknown_key(key)));
        }
        let camera: CameraEntry = toml::Value::Table(table)
            .try_into()
            .map_err(|error: toml::de::Error| format!("[{shown}]: {}", error.message()))?;
        if camera.group.is_some() && camera.session.is_some() {
            return Err(format!(
                "[{shown}] has `group` and `session`; a session has its own group"
            ));
        }
        let feeds_same = |other: &CameraEntry| other.session == camera.session;
        if camera.session.is_some() && cameras.values().any(feeds_same) {
            return Err(format!(
                "[{shown}] has the `session` of another camera; a session takes the frames of one"
            ));
        }
        if camera.retries == Some(0) {
            return Err(format!("[{shown}]: `retries` is at least 1"));
        }
        cameras.insert(shown, camera);
    }
    Ok(cameras)
}

/// Describes an unknown key, with the nearest known one.
fn unknown_key(key: &str) -> String {
    let plain = key.to_lowercase().replace('_', "-");
    let similarity = |known: &str| strsim::normalized_damerau_levenshtein(&plain, known);
    let nearest = KEYS
        .into_iter()
        .max_by(|a, b| similarity(a).total_cmp(&similarity(b)))
        .filter(|known| similarity(known) >= SIMILAR);
    let key = sanitize_name(key);
    match nearest {
        Some(nearest) => format!("the unknown key `{key}` (did you mean `{nearest}`?)"),
        None => format!(
            "the unknown key `{key}`; a camera takes {}",
            KEYS.join(", ")
        ),
    }
}

impl CameraEntry {
    /// Makes paths relative to a folder.
    fn resolve(&mut self, folder: &Path) {
        let source = self.source.to_str().unwrap_or_default();
        if !source.contains("://") && source != "-" && source != "pipe:" {
            self.source = folder.join(&self.source);
        }
        for path in [&mut self.login_file, &mut self.api_key_file]
            .into_iter()
            .flatten()
        {
            *path = folder.join(&*path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cameras_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cameras.toml");
        std::fs::write(
            &file,
            "[front]\nsource = \"rtsp://u:p@cam/live\"\nrate = 2\ngroup = \"1b\"\n\
             [back]\nsource = \"back.mp4\"\nrate = 0.5\nsession = \"x\"\nretries = 3\n\
             login-file = \"/login\"\napi-key-file = \"key\"\n",
        )
        .unwrap();
        let cameras = read(&file).unwrap();
        assert_eq!(cameras.keys().collect::<Vec<_>>(), ["back", "front"]);
        assert_eq!(
            cameras["back"],
            CameraEntry {
                source: folder.path().join("back.mp4"),
                login_file: Some("/login".into()),
                group: None,
                session: Some("x".to_owned()),
                rate: Rate::new(0.5).ok(),
                retries: Some(3),
                api_key_file: Some(folder.path().join("key")),
            }
        );
        let front = &cameras["front"];
        assert_eq!(front.source, Path::new("rtsp://u:p@cam/live"));
        assert_eq!(front.rate, Rate::new(2.0).ok());
    }

    #[test]
    fn cameras_malformed_are_explained() {
        for (text, says) in [
            ("", "it has no cameras"),
            ("source = \"a\"", "`source` is not a table"),
            ("[a]", "[a]: missing field `source`"),
            ("[a]\nsource = \"a\"\nrats = 1", "did you mean `rate`?"),
            (
                "[a]\nsource = \"a\"\nlogin_file = \"f\"",
                "did you mean `login-file`?",
            ),
            (
                "[a]\nsource = \"a\"\nwindmill = 1",
                "a camera takes source, ",
            ),
            ("[a]\nsource = \"a\"\nrate = 0", "a rate is 0.05 to 60"),
            ("[a]\nsource = \"a\"\nrate = \"1\"", "a number is needed"),
            ("[a]\nsource = \"a\"\nretries = 0", "at least 1"),
            (
                "[a]\nsource = \"a\"\ngroup = \"g\"\nsession = \"s\"",
                "has its own group",
            ),
            ("[a]\nsource = \"rtsp://u:secret@cam", "line 2: "),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
