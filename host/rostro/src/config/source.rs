//! Sources of a configuration, so that a reload can read it again.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::{ConfigError, ServeArgs};

/// Sources of a configuration. Flags and variables stay as they are; the file may change.
#[derive(Debug)]
pub(crate) struct Source {
    typed: ServeArgs,
    file: Option<PathBuf>,
}

impl Source {
    /// Combines flags and variables with the path of a file.
    ///
    /// # Errors
    ///
    /// If a variable is malformed.
    pub(crate) fn new(flags: ServeArgs, file: Option<PathBuf>) -> Result<Self, ConfigError> {
        let variable = |name| std::env::var(name).ok();
        let typed = flags.or(ServeArgs::of_variables(
            variable("ROSTRO_SETTING"),
            variable("ROSTRO_LIMIT"),
        )?);
        Ok(Self { typed, file })
    }

    /// Reads the file again and merges all sources.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not valid TOML, or has an unknown key.
    pub(crate) fn read(&self) -> Result<ServeArgs, ConfigError> {
        let file = self.file.as_deref().map(ServeArgs::read).transpose()?;
        Ok(self.typed.clone().or(file.unwrap_or_default()))
    }
}

impl ServeArgs {
    /// Applies the settings of `other` that may change while the service runs. Returns the keys
    /// that changed, and the keys that need a restart.
    pub(crate) fn apply_reloadable(&mut self, other: Self) -> (Vec<String>, Vec<String>) {
        let before = self.clone();
        let new_keys = other.keys();
        self.review = other.review;
        self.queue = other.queue;
        self.deadline = other.deadline;
        self.breaker = other.breaker;
        (
            before.differences(&self.keys()),
            self.differences(&new_keys),
        )
    }

    /// Returns the keys with different values, or with a value on one side only.
    fn differences(&self, other: &Map<String, Value>) -> Vec<String> {
        let own = self.keys();
        let differs = |key: &&String| own.get(*key) != other.get(*key);
        let mut keys: Vec<String> = own
            .keys()
            .chain(other.keys())
            .filter(differs)
            .cloned()
            .collect();
        keys.sort();
        keys.dedup();
        keys
    }

    fn keys(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(keys)) => keys,
            // Unreachable for a struct, because its keys are texts.
            _ => Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reload_applies_or_names_changes() {
        let read = |text: &str| {
            toml::from_str::<ServeArgs>(text)
                .unwrap()
                .or(ServeArgs::default())
        };
        let mut in_force = read("queue = 4\nworkers = 2\n[setting]\nrivals = true");
        let new = || {
            read(
                "queue = 8\nreview = \"strict\"\nworkers = 3\npack = \"testing\"\n[setting]\nrivals = false",
            )
        };
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            in_force.apply_reloadable(new()),
            (
                names(&["queue", "review"]),
                names(&["pack", "setting", "workers"])
            )
        );
        assert_eq!(
            in_force.apply_reloadable(new()),
            (names(&[]), names(&["pack", "setting", "workers"]))
        );
        // A removed key returns to its default.
        assert_eq!(
            in_force.apply_reloadable(read("workers = 2\n[setting]\nrivals = true")),
            (names(&["queue", "review"]), names(&[]))
        );
    }

    #[test]
    fn reload_reads_file_keeps_flags() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rostro.toml");
        std::fs::write(&file, "queue = 4\nbreaker = 3").unwrap();
        let source = Source::new(
            ServeArgs {
                queue: Some(9),
                ..ServeArgs::default()
            },
            Some(file.clone()),
        )
        .unwrap();
        let config = source.read().unwrap().validate().unwrap();
        assert_eq!((config.queue, config.breaker), (9, 3));
        std::fs::write(&file, "queue = 5\nbreaker = 7").unwrap();
        let config = source.read().unwrap().validate().unwrap();
        assert_eq!((config.queue, config.breaker), (9, 7));
    }
}
