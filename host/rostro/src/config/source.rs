//! Where a configuration comes from, so that it can be read again.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::{ConfigError, ServeArgs};

/// Where a configuration comes from: what was typed stays as it is, the file may change.
#[derive(Debug)]
pub(crate) struct Source {
    typed: ServeArgs,
    file: Option<PathBuf>,
}

impl Source {
    /// These flags and variables, and a file.
    ///
    /// # Errors
    ///
    /// If a variable is not what it should be.
    pub(crate) fn new(flags: ServeArgs, file: Option<PathBuf>) -> Result<Self, ConfigError> {
        let variable = |name| std::env::var(name).ok();
        let typed = flags.or(ServeArgs::of_variables(
            variable("ROSTRO_SETTING"),
            variable("ROSTRO_LIMIT"),
        )?);
        Ok(Self { typed, file })
    }

    /// What all of it says together.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no TOML, or has a key that is not known.
    pub(crate) fn read(&self) -> Result<ServeArgs, ConfigError> {
        let file = self.file.as_deref().map(ServeArgs::read).transpose()?;
        Ok(self.typed.clone().or(file.unwrap_or_default()))
    }
}

impl ServeArgs {
    /// Takes from another configuration what may change while the service runs. Names what that
    /// changed, and what else is other than it was.
    pub(crate) fn take_up(&mut self, other: Self) -> (Vec<String>, Vec<String>) {
        let before = self.clone();
        let wanted = other.keys();
        self.review = other.review;
        self.queue = other.queue;
        self.deadline = other.deadline;
        self.breaker = other.breaker;
        (before.differences(&self.keys()), self.differences(&wanted))
    }

    /// The keys that have another value there, or none here or there.
    fn differences(&self, there: &Map<String, Value>) -> Vec<String> {
        let here = self.keys();
        let is_other = |key: &&String| here.get(*key) != there.get(*key);
        let mut keys: Vec<String> = here
            .keys()
            .chain(there.keys())
            .filter(is_other)
            .cloned()
            .collect();
        keys.sort();
        keys.dedup();
        keys
    }

    fn keys(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(keys)) => keys,
            // Cannot be: every key is a text.
            _ => Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_change_is_taken_up_and_the_rest_is_named_every_time() {
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
            in_force.take_up(new()),
            (
                names(&["queue", "review"]),
                names(&["pack", "setting", "workers"])
            )
        );
        assert_eq!(
            in_force.take_up(new()),
            (names(&[]), names(&["pack", "setting", "workers"]))
        );
        // What is not said any more is as if it never was.
        assert_eq!(
            in_force.take_up(read("workers = 2\n[setting]\nrivals = true")),
            (names(&["queue", "review"]), names(&[]))
        );
    }

    #[test]
    fn the_file_is_read_again_and_flags_stay() {
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
