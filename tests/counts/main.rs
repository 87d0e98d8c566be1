//! Counts of the code and the prose with a limit for each, so that they stay readable: a step of
//! `cargo xtask check`. A count over its limit is printed with the worst places.

mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::imports::circular_imports;

/// Maximum width of a line in columns.
const WIDTH: usize = 100;

/// Words that hide the subject of a sentence.
const VAGUE: [&str; 10] = [
    "nobody",
    "somebody",
    "whoever",
    "whatever",
    "whichever",
    "anybody",
    "everybody",
    "beside",
    "whom",
    "whose",
];

/// Words that must not open a sentence, because the subject is then not the code element.
const OPENERS: [&str; 8] = [
    "Whoever", "What is", "Who", "Whose", "That", "The same", "Nobody", "Somebody",
];

/// Maximum number of places that are printed for a count over its limit.
const PRINTED: usize = 40;

/// A source file: its path in the repository and its text.
struct Source {
    path: String,
    text: String,
}

/// A measured count and its limit.
struct Count {
    what: &'static str,
    value: f64,
    limit: f64,
    /// Places to look at first.
    places: Vec<String>,
}

/// A word of prose.
struct Word<'t> {
    text: &'t str,
    line: usize,
    opens_sentence: bool,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let listed = Command::new("git")
        .args(["ls-files"])
        .current_dir(&root)
        .output()?;
    let listed = String::from_utf8(listed.stdout)?;
    let mut sources = Vec::new();
    for path in listed.lines().filter(|path| is_counted(path)) {
        // A deleted file is listed until the deletion is staged.
        if let Ok(text) = std::fs::read_to_string(root.join(path)) {
            sources.push(Source {
                path: path.to_owned(),
                text,
            });
        }
    }
    let rust: Vec<&Source> = sources
        .iter()
        .filter(|source| source.path.ends_with(".rs"))
        .collect();
    let [vague, openers] = prose(&sources);
    let counts = [
        wide_lines(&rust),
        xtask_lines(&rust),
        vague,
        openers,
        test_names(&rust),
        folder_entries(&listed),
        circular_imports(&rust),
        repeated_types(&rust),
    ];
    let mut exceeded = false;
    for count in counts {
        let is_over = count.value > count.limit;
        let mark = if is_over { "  OVER" } else { "" };
        println!(
            "{}: {:.2} (at most {:.2}){mark}",
            count.what, count.value, count.limit
        );
        if is_over {
            exceeded = true;
            count
                .places
                .iter()
                .take(PRINTED)
                .for_each(|place| println!("    {place}"));
        }
    }
    Ok(ExitCode::from(u8::from(exceeded)))
}

/// Returns true for the Rust and Markdown files whose text this project writes today.
fn is_counted(path: &str) -> bool {
    let is_text = path.ends_with(".rs") || path.ends_with(".md");
    // Frozen sources, text for other projects, and the interface, which is frozen too. Its
    // documentation page is generated from it.
    let is_excluded = path.starts_with("tests/compat/")
        || path.contains("/templates/")
        || path.starts_with("wit/")
        || path == "docs/wit.md";
    is_text && !is_excluded
}

fn wide_lines(rust: &[&Source]) -> Count {
    let mut places = Vec::new();
    let mut total = 0;
    for source in rust {
        for (number, line) in (1..).zip(source.text.lines()) {
            total += 1;
            let width = line.chars().count();
            if width > WIDTH {
                places.push((width, format!("{}:{number}: {width} columns", source.path)));
            }
        }
    }
    places.sort_by_key(|(width, _)| std::cmp::Reverse(*width));
    Count {
        what: "percentage of lines of Rust over 100 columns",
        value: 100.0 * places.len() as f64 / total as f64,
        limit: 1.0,
        places: places.into_iter().map(|(_, place)| place).collect(),
    }
}

fn xtask_lines(rust: &[&Source]) -> Count {
    let own = rust
        .iter()
        .filter(|source| source.path.starts_with("xtask/"));
    let mut files: Vec<(usize, &str)> = own
        .map(|source| (source.text.lines().count(), source.path.as_str()))
        .collect();
    files.sort_by(|a, b| b.cmp(a));
    Count {
        what: "lines of xtask",
        value: files.iter().map(|(lines, _)| *lines).sum::<usize>() as f64,
        limit: 1000.0,
        places: files
            .iter()
            .map(|(lines, path)| format!("{path}: {lines} lines"))
            .collect(),
    }
}

/// Counts vague words and openers in comments and Markdown, per 1,000 words.
fn prose(sources: &[Source]) -> [Count; 2] {
    let (mut total, mut vague, mut openers) = (0, Places::default(), Places::default());
    for source in sources {
        let words = words(source);
        total += words.len();
        for (index, word) in words.iter().enumerate() {
            if VAGUE.contains(&word.text.to_lowercase().as_str()) {
                vague.add(source, word.line, word.text);
            }
            if !word.opens_sentence {
                continue;
            }
            let next = words.get(index + 1).map_or("", |next| next.text);
            let pair = format!("{} {next}", word.text);
            if OPENERS.contains(&word.text) || OPENERS.contains(&pair.as_str()) {
                openers.add(source, word.line, &pair);
            }
        }
    }
    let count = |what, places: Places, limit| Count {
        what,
        value: 1000.0 * places.total as f64 / total as f64,
        limit,
        places: places.worst(),
    };
    [
        count("vague words per 1,000 words of prose", vague, 0.3),
        count(
            "sentences with a vague opening per 1,000 words of prose",
            openers,
            0.6,
        ),
    ]
}

/// Places by file.
#[derive(Default)]
struct Places {
    total: usize,
    files: BTreeMap<String, Vec<String>>,
}

impl Places {
    fn add(&mut self, source: &Source, line: usize, text: &str) {
        self.total += 1;
        let places = self.files.entry(source.path.clone()).or_default();
        places.push(format!("{}:{line}: {text}", source.path));
    }

    /// Returns the first place of each file, the files with the most places first.
    fn worst(&self) -> Vec<String> {
        let mut files: Vec<&Vec<String>> = self.files.values().collect();
        files.sort_by_key(|places| std::cmp::Reverse(places.len()));
        let line = |places: &Vec<String>| {
            let first = places.first().map_or("", String::as_str);
            format!("{first} ({} in this file)", places.len())
        };
        files.into_iter().map(line).collect()
    }
}

/// Returns the words of a file's prose: the comments of Rust, or the text of Markdown outside code
/// blocks. An empty line, and code between comments, end a sentence.
fn words(source: &Source) -> Vec<Word<'_>> {
    let is_rust = source.path.ends_with(".rs");
    let (mut words, mut opens_sentence) = (Vec::new(), true);
    let (mut is_code, mut is_span) = (false, false);
    for (line, content) in (1..).zip(source.text.lines()) {
        let content = if is_rust {
            comment(content)
        } else {
            Some(content)
        };
        let content = content.unwrap_or_default().trim();
        if content.starts_with("```") {
            is_code = !is_code;
        }
        if is_code || content.is_empty() || content.starts_with("```") {
            (opens_sentence, is_span) = (true, false);
            continue;
        }
        for token in content.split_whitespace() {
            let text = token.trim_matches(|c: char| !c.is_alphanumeric());
            let ticks = token.matches('`').count();
            // Flags and other code are no prose.
            let is_word = !is_span && ticks == 0 && !token.starts_with("--");
            is_span ^= ticks % 2 == 1;
            if text.chars().any(char::is_alphabetic) {
                if is_word {
                    words.push(Word {
                        text,
                        line,
                        opens_sentence,
                    });
                }
                let end = token.trim_end_matches(['`', '"', '\'', ')', '*', '_']);
                opens_sentence = end.ends_with(['.', '!', '?']);
            } else {
                // The mark of a list item, a heading, a quotation or a table cell.
                opens_sentence |= token.starts_with(['-', '*', '#', '>', '|']);
            }
        }
    }
    words
}

/// Returns the text of a line's comment. A `//` after an odd number of quotation marks is in a
/// string.
fn comment(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let start = if line.starts_with("//") {
        0
    } else {
        line.find(" // ")? + 1
    };
    let (code, comment) = line.split_at(start);
    let is_comment = code.matches('"').count() % 2 == 0;
    is_comment.then(|| comment.trim_start_matches(['/', '!']))
}

/// Counts the words of the names of test functions.
fn test_names(rust: &[&Source]) -> Count {
    let mut names = Vec::new();
    for source in rust {
        let mut is_test = false;
        for (number, line) in (1..).zip(source.text.lines()) {
            let line = line.trim();
            is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
            let name = line
                .strip_prefix("fn ")
                .or_else(|| line.strip_prefix("async fn "));
            if let Some(name) = name.filter(|_| is_test) {
                is_test = false;
                let name = name.split('(').next().unwrap_or(name);
                let length = name.split('_').filter(|word| !word.is_empty()).count();
                names.push((length, format!("{}:{number}: {name}", source.path)));
            }
        }
    }
    names.sort_by(|a, b| b.cmp(a));
    Count {
        what: "median words of a test's name",
        value: names
            .get(names.len() / 2)
            .map_or(0.0, |(length, _)| *length as f64),
        limit: 5.0,
        places: names.into_iter().map(|(_, place)| place).collect(),
    }
}

/// Counts the entries of the longest folder of source code in `host`.
fn folder_entries(listed: &str) -> Count {
    let mut folders: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for path in listed.lines().filter(|path| path.starts_with("host/")) {
        let mut inner = path;
        while let Some((folder, entry)) = inner.rsplit_once('/') {
            if folder.ends_with("/src") || folder.contains("/src/") {
                folders.entry(folder).or_default().insert(entry);
            }
            inner = folder;
        }
    }
    let mut folders: Vec<(usize, &str)> = folders
        .into_iter()
        .map(|(folder, entries)| (entries.len(), folder))
        .collect();
    folders.sort_by(|a, b| b.cmp(a));
    Count {
        what: "entries of the longest folder of source code in host",
        value: folders.first().map_or(0.0, |(entries, _)| *entries as f64),
        limit: 16.0,
        places: folders
            .iter()
            .map(|(entries, folder)| format!("{folder}: {entries}"))
            .collect(),
    }
}

/// Counts the names of types that are defined more than once in `host`. Only definitions without
/// indentation count, which excludes associated types and those in `mod tests`.
fn repeated_types(rust: &[&Source]) -> Count {
    let mut types: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for source in rust
        .iter()
        .filter(|source| source.path.starts_with("host/"))
    {
        let is_excluded =
            |name: &str| name == "tests.rs" || name == "tests" || name.contains("bindings");
        if source.path.split('/').any(is_excluded) {
            continue;
        }
        for (number, line) in (1..).zip(source.text.lines()) {
            if let Some(name) = type_name(line) {
                types
                    .entry(name)
                    .or_default()
                    .push(format!("{}:{number}", source.path));
            }
        }
    }
    let repeated = types.into_iter().filter(|(_, places)| places.len() > 1);
    let mut repeated: Vec<(usize, String)> = repeated
        .map(|(name, places)| (places.len(), format!("{name}: {}", places.join(", "))))
        .collect();
    repeated.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    Count {
        what: "names of types defined more than once in host",
        value: repeated.len() as f64,
        limit: 8.0,
        places: repeated.into_iter().map(|(_, places)| places).collect(),
    }
}

/// Returns the name of the type that a line without indentation defines.
fn type_name(line: &str) -> Option<&str> {
    let mut words = line.split_inclusive([' ', '(']).peekable();
    if line.starts_with([' ', '\t']) {
        return None;
    }
    // The visibility may have a path: `pub(in crate::a) struct`.
    let kind = words.find(|word| !is_modifier(word))?.trim();
    if !["struct", "enum", "trait", "type", "union"].contains(&kind) {
        return None;
    }
    let rest = words.next()?;
    let end = rest
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    rest.get(..end).filter(|name| !name.is_empty())
}

fn is_modifier(word: &str) -> bool {
    let word = word.trim();
    ["pub", "pub(", "unsafe", "in"].contains(&word) || word.ends_with(')')
}
