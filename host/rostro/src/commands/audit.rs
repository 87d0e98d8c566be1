//! `rostro audit`: prints the audit log, or the lines of one person, from all rotated files and
//! under all keys.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Args;
use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};

use rostro_common::ids::{InvalidId, PersonId};
use rostro_common::text::sanitize;
use rostro_database::{
    Database, DatabaseError, DatabaseOptions, read_audit_keys, read_audit_lines, schema,
};
use rostro_service::audit::person_key::PersonKey;
use rostro_service::audit::{Action, file, files, name, person_key};

use crate::config::ConfigError;
use crate::config::database::DatabaseAddress;
use crate::config::state::OptionalState;
use crate::terminal::{new_table, render, say, say_json, warn_user};

/// Extensions of compressed files that this command cannot read.
const UNREADABLE: [&str; 4] = ["xz", "bz2", "zst", "lz4"];

/// Arguments of `rostro audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Print only the lines of this person
    #[arg(long, value_name = "ID")]
    person: Option<String>,
    /// Print only the lines of this action
    #[arg(long, value_name = "ACTION", value_enum)]
    action: Option<Action>,
    #[command(flatten)]
    state: OptionalState,
    #[command(flatten)]
    database: DatabaseAddress,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Error of a search in the audit log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// The id is invalid.
    #[error("'{}' cannot be the id of a person: {cause}", sanitize(.id))]
    Id {
        /// The argument.
        id: String,
        /// The cause.
        cause: InvalidId,
    },
    /// A file cannot be read.
    #[error(
        "cannot read {file}: {cause}; name the service's state folder with --state, and run the command as the service's user",
        file = file.display()
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// The address of the database is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database cannot be read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A folder and a database are named.
    #[error(
        "cannot search a folder and a database at once; omit --state to search the database, or --database and ROSTRO_DATABASE to search the folder"
    )]
    TwoLogs,
    /// Some lines were not searched.
    #[error("cannot search every line: {0}; what is printed may be incomplete")]
    Incomplete(String),
}

/// Prints the matching lines.
///
/// # Errors
///
/// If some lines could not be searched; the others are printed first.
pub(crate) fn run(args: &AuditArgs) -> Result<(), AuditError> {
    let found = search(args)?;
    match args.json {
        true => say_json(&found.lines),
        false if found.lines.is_empty() => say("no lines"),
        false => say(&table(&found.lines)),
    }
    if found.skipped.is_empty() {
        Ok(())
    } else {
        Err(AuditError::Incomplete(found.skipped.join("; ")))
    }
}

/// Result of a search.
#[derive(Debug, Default)]
struct SearchResult {
    /// Matching lines in the order of their times.
    lines: Vec<Map<String, Value>>,
    /// Parts that were not searched, with the causes.
    skipped: Vec<String>,
}

/// Searches lines for those of a person and of an action.
struct Search<'a> {
    action: Option<String>,
    /// Hashes of the person under every key; none for all lines.
    hashes: Option<HashSet<String>>,
    /// Ids of the keys.
    key_ids: HashSet<&'a str>,
    found: SearchResult,
    seen: HashSet<Vec<u8>>,
    /// Number of lines with a key that is missing.
    other_key: u64,
    damaged: u64,
}

impl<'a> Search<'a> {
    fn new(person: Option<&PersonId>, action: Option<Action>, keys: &'a [PersonKey]) -> Self {
        Self {
            action: action.map(name),
            hashes: person.map(|id| keys.iter().map(|key| key.hash(id)).collect()),
            key_ids: keys.iter().map(|key| key.id.as_str()).collect(),
            found: SearchResult::default(),
            seen: HashSet::new(),
            other_key: 0,
            damaged: 0,
        }
    }

    /// Adds a line if it matches, once.
    fn visit(&mut self, line: &[u8]) {
        let Ok(Value::Object(fields)) = serde_json::from_slice(line) else {
            self.damaged += u64::from(!line.trim_ascii().is_empty());
            return;
        };
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        let action = self.action.as_deref();
        if action.is_some_and(|action| text("action") != Some(action)) {
            return;
        }
        if let Some(hashes) = &self.hashes {
            let is_other = text("person_key").is_some_and(|key| !self.key_ids.contains(key));
            self.other_key += u64::from(is_other);
            if !text("person").is_some_and(|person| hashes.contains(person)) {
                return;
            }
        }
        if self.seen.insert(line.to_vec()) {
            self.found.lines.push(fields);
        }
    }

    /// Returns the lines in the order of their times. `keys` names the place of the keys.
    fn finish(mut self, keys: &str) -> SearchResult {
        self.found
            .lines
            .sort_by(|a, b| text(a, "time").cmp(text(b, "time")));
        if self.other_key > 0 {
            self.found.skipped.push(format!(
                "{} lines have keys of people that are not in {keys}",
                self.other_key
            ));
        }
        if self.damaged > 0 {
            warn_user(&format!(
                "note: {} lines are damaged and cannot be read",
                self.damaged
            ));
        }
        self.found
    }
}

fn search(args: &AuditArgs) -> Result<SearchResult, AuditError> {
    let person = args.person.as_deref().map(|id| {
        let parsed: Result<PersonId, _> = id.parse();
        parsed.map_err(|cause| AuditError::Id {
            id: id.to_owned(),
            cause,
        })
    });
    let person = person.transpose()?;
    match args.database.find()? {
        Some(_) if args.state.is_typed => Err(AuditError::TwoLogs),
        Some(options) => search_database(&options, person.as_ref(), args.action),
        None => search_folder(&args.state.folder, person.as_ref(), args.action),
    }
}

fn search_database(
    options: &DatabaseOptions,
    person: Option<&PersonId>,
    action: Option<Action>,
) -> Result<SearchResult, AuditError> {
    let database = Database::open(options)?;
    schema::check(&database)?;
    let keys = read_audit_keys(&database)?;
    let keys: Vec<PersonKey> = keys.into_iter().map(PersonKey::from).collect();
    let mut search = Search::new(person, action, &keys);
    read_audit_lines(&database, |line| search.visit(line))?;
    Ok(search.finish("the database"))
}

fn search_folder(
    state: &Path,
    person: Option<&PersonId>,
    action: Option<Action>,
) -> Result<SearchResult, AuditError> {
    let (log, key_file) = files(state);
    let unreadable = |file: &Path| {
        let file = file.to_owned();
        move |cause| AuditError::Unreadable { file, cause }
    };
    // Rotated files come first, so that a rotation during the search can duplicate a line but not
    // hide it.
    let mut paths = file::rotated(&log).map_err(unreadable(state))?;
    paths.push(log.clone());
    let keys = match person {
        Some(_) => person_key::read(&key_file).map_err(unreadable(&key_file))?,
        None => Vec::new(),
    };
    let mut search = Search::new(person, action, &keys);
    for path in paths {
        let lines = match lines(&path) {
            Ok(lines) => lines,
            // With a lock file the folder is a state folder, and the log was just rotated.
            Err(error)
                if path == log
                    && error.kind() == io::ErrorKind::NotFound
                    && !state.join("lock").exists() =>
            {
                return Err(unreadable(&path)(error));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                let skipped = format!("{}: {error}", path.display());
                search.found.skipped.push(skipped);
                continue;
            }
        };
        for line in lines {
            match line {
                Ok(line) => search.visit(&line),
                Err(error) => {
                    let skipped = format!("{}: {error}", path.display());
                    search.found.skipped.push(skipped);
                    break;
                }
            }
        }
    }
    Ok(search.finish(&key_file.display().to_string()))
}

/// Reads the lines of a file, which may be compressed by gzip.
fn lines(path: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<Vec<u8>>>>> {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    if UNREADABLE.contains(&extension) {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("files compressed as .{extension} cannot be read; unpack it next to the log"),
        ));
    }
    let file = File::open(path)?;
    Ok(match extension {
        "gz" => Box::new(BufReader::new(MultiGzDecoder::new(file)).split(b'\n')),
        _ => Box::new(BufReader::new(file).split(b'\n')),
    })
}

fn text<'f>(fields: &'f Map<String, Value>, name: &str) -> &'f str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn table(lines: &[Map<String, Value>]) -> String {
    let has_nodes = lines.iter().any(|fields| fields.contains_key("node"));
    let columns = [
        "TIME", "NODE", "WHO", "FROM", "ACTION", "OUTCOME", "REVISION", "REQUEST", "DETAIL",
    ];
    let is_shown = |column: &&str| has_nodes || *column != "NODE";
    let mut table = new_table(columns.into_iter().filter(is_shown));
    for fields in lines {
        let cell = |name: &str| match text(fields, name) {
            "" => "-".to_owned(),
            text => sanitize(text),
        };
        let seconds = cell("time")
            .split('.')
            .next()
            .unwrap_or_default()
            .trim_end_matches('Z')
            .replace('T', " ");
        let revision: String = cell("revision").chars().take(12).collect();
        let node = has_nodes.then(|| cell("node"));
        let rest = [
            cell("who"),
            cell("from"),
            cell("action"),
            cell("outcome"),
            revision,
            cell("request"),
            cell("detail"),
        ];
        table.add_row(std::iter::once(seconds).chain(node).chain(rest));
    }
    render(&table)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use rostro_gallery::{AUDIT_LOG, FolderStore, StateFiles};
    use rostro_service::audit::{ActionOutcome, Actor, Audit, KEYS};

    fn open_audit(state: &Path, keep_days: u32) -> Audit {
        let files = StateFiles::open(state).unwrap();
        let store = FolderStore::open_unlocked(state).unwrap().with_state(files);
        Audit::new(std::sync::Arc::new(store), state, keep_days, None)
    }

    fn args(state: &Path, person: Option<&str>, action: Option<Action>) -> AuditArgs {
        AuditArgs {
            person: person.map(str::to_owned),
            action,
            state: OptionalState {
                folder: state.to_owned(),
                is_typed: true,
            },
            json: true,
            database: DatabaseAddress::default(),
        }
    }

    fn id(text: &str) -> PersonId {
        text.parse().unwrap()
    }

    fn actions(found: &SearchResult) -> Vec<&str> {
        found
            .lines
            .iter()
            .map(|line| text(line, "action"))
            .collect()
    }

    fn gzip(from: &Path, to: &Path) {
        let mut packed = GzEncoder::new(File::create(to).unwrap(), Compression::fast());
        packed.write_all(&fs::read(from).unwrap()).unwrap();
        packed.finish().unwrap();
        fs::remove_file(from).unwrap();
    }

    /// A person is found under the key of two years ago, in a compressed, a rotated and the present
    /// file.
    #[test]
    fn search_spans_keys_and_rotated_files() {
        let folder = tempfile::tempdir().unwrap();
        let (state, log) = (folder.path(), folder.path().join(AUDIT_LOG));
        let actor = Actor::part("test");
        let note = |action, people: &[&str]| {
            let audit = open_audit(state, 10_000);
            audit.note_people(
                &actor,
                action,
                ActionOutcome::Done,
                &people.iter().map(|person| id(person)).collect::<Vec<_>>(),
            );
        };
        note(Action::Enrol, &["alice", "bob"]);
        // Ages the key by two years, so that the next line has another.
        let aged = fs::read_to_string(state.join(KEYS))
            .unwrap()
            .replace("\n20", "\n19");
        fs::write(state.join(KEYS), aged).unwrap();
        gzip(&log, &state.join("audit.jsonl.2.gz"));
        note(Action::AddPhotos, &["alice"]);
        fs::rename(&log, state.join("audit.jsonl-20260101")).unwrap();
        note(Action::DeletePerson, &["bob", "alice"]);
        assert_eq!(person_key::read(&state.join(KEYS)).unwrap().len(), 2);

        let found = search(&args(state, Some("alice"), None)).unwrap();
        assert_eq!(actions(&found), ["enrol", "add-photos", "delete-person"]);
        assert!(found.skipped.is_empty(), "{:?}", found.skipped);
        assert_eq!(
            actions(&search(&args(state, Some("bob"), None)).unwrap()),
            ["enrol", "delete-person"]
        );
        assert!(
            search(&args(state, Some("carol"), None))
                .unwrap()
                .lines
                .is_empty()
        );
        assert_eq!(search(&args(state, None, None)).unwrap().lines.len(), 5);
        assert_eq!(
            search(&args(state, None, Some(Action::Enrol)))
                .unwrap()
                .lines
                .len(),
            2
        );
        let table = table(&search(&args(state, Some("alice"), None)).unwrap().lines);
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(
            table.starts_with("TIME") || table.starts_with(" TIME"),
            "{table}"
        );
    }

    #[test]
    fn unsearched_lines_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        open_audit(state, 100).note_people(
            &Actor::part("test"),
            Action::Enrol,
            ActionOutcome::Done,
            &[id("alice")],
        );
        fs::write(state.join("audit.jsonl.3.xz"), "packed").unwrap();
        fs::write(state.join("audit.jsonl.4.gz"), "not packed").unwrap();
        fs::remove_file(state.join(KEYS)).unwrap();
        let skipped = search(&args(state, Some("alice"), None))
            .unwrap()
            .skipped
            .join("\n");
        for part in [
            "audit.jsonl.3.xz",
            "audit.jsonl.4.gz",
            "1 lines have keys of people",
        ] {
            assert!(skipped.contains(part), "{skipped}");
        }
        let error = run(&args(state, Some("alice"), None)).unwrap_err();
        assert!(error.to_string().contains("incomplete"), "{error}");
    }

    /// A folder in the environment is the service's, which has it next to its database.
    #[test]
    fn folder_and_database_are_refused() {
        #[derive(clap::Parser)]
        struct Parsed {
            #[command(flatten)]
            args: AuditArgs,
        }
        let database = [
            "audit",
            "--database",
            "postgresql://rostro@127.0.0.1:1/rostro",
        ];
        let search_with = |flags: &[&str]| {
            let parsed: Parsed = clap::Parser::parse_from(database.iter().chain(flags));
            search(&parsed.args).unwrap_err()
        };
        assert!(matches!(
            search_with(&["--state", "s"]),
            AuditError::TwoLogs
        ));
        assert!(matches!(search_with(&[]), AuditError::Database(_)));
    }

    #[test]
    fn wrong_folder_or_id_fails() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            search(&args(folder.path(), Some("alice"), None)),
            Err(AuditError::Unreadable { .. })
        ));
        assert!(matches!(
            search(&args(&folder.path().join("none"), None, None)),
            Err(AuditError::Unreadable { .. })
        ));
        assert!(matches!(
            search(&args(folder.path(), Some("a/b"), None)),
            Err(AuditError::Id { .. })
        ));
    }
}
