//! `rostro pipeline new`: creates a project for a pipeline, which builds and passes its tests.
//!
//! The project needs no other part of Rostro: this program contains the interface `wit/` and the
//! Rust SDK, and copies them into the project.

pub(crate) mod standalone;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use include_dir::{Dir, include_dir};

use rostro_common::text::sanitize_name;
use rostro_sandbox::component::version::Minor;
use rostro_sandbox::validate::identifiers::is_name;

use crate::terminal::say;

/// Placeholder of the project's name in templates.
const NAME: &str = "my-pipeline";

/// Names that a project cannot have: crates that it is built with, and keywords of Rust.
const RESERVED: [&str; 50] = [
    "std",
    "core",
    "alloc",
    "test",
    "proc-macro",
    "rostro-sdk",
    "rostro-decide-world",
    "rostro-policy-world",
    "wit-bindgen",
    "as",
    "async",
    "await",
    "box",
    "break",
    "const",
    "continue",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "fn",
    "for",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "struct",
    "super",
    "trait",
    "true",
    "type",
    "unsafe",
    "use",
    "where",
    "while",
    "yield",
];

/// Placeholder in templates of the table of limits for photos.
const REVIEW_TABLE: &str = "review_table";

/// Table of limits for photos. JSON without `null`, `true` and `false` is also valid JavaScript and
/// Python.
static LIMITS: &str = include_str!("../../../../../../guest/sdk/review.json");

static TEMPLATES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/commands/pipeline/new/templates");
static WIT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../wit/0.2");
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../guest/sdk");
/// Source of a new whole pipeline.
static MINIMAL: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../guest/examples/minimal/src");
static DECIDE_WORLD: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../guest/decide-world");
static POLICY_WORLD: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../guest/policy-world");

/// Language of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    /// Rust, to wasm32-wasip2
    Rust,
    /// JavaScript, through componentize-js
    Js,
    /// Python, through componentize-py
    Python,
}

/// Arguments of `rostro pipeline new`.
#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// Folder to create, named after the pipeline: a-z, 0-9 and `-`
    name: PathBuf,
    /// Language of the project
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    lang: Language,
    /// Create only a policy, for use with another component's vision
    #[arg(long)]
    policy_only: bool,
}

/// Error that keeps a project from being created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NewError {
    /// The name has another form.
    #[error(
        "cannot name a pipeline `{0}`; use 1 to 64 lower-case letters, digits and `-`, and begin with a letter"
    )]
    Name(String),
    /// The name is another crate's, or a keyword of Rust.
    #[error("cannot name a pipeline `{0}`: the name is reserved in Rust; choose another")]
    Reserved(String),
    /// The folder has files already.
    #[error("cannot create {0}: it exists and is not an empty folder; choose another name")]
    Exists(PathBuf),
    /// Vision is not possible in the language.
    #[error(
        "cannot create vision in {0}: decoding a photo and preparing tensors would take some hundred times as long as in Rust; use --lang rust, or \
         create only a policy with --policy-only"
    )]
    Language(&'static str),
    /// A file cannot be written.
    #[error("cannot write {path}: {cause}; choose a folder that you can write to", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
}

/// Creates a project and prints the next steps.
///
/// # Errors
///
/// [`NewError`]; an existing folder with files is not changed.
pub(super) fn new(args: &NewArgs) -> Result<(), NewError> {
    let folder = &args.name;
    // The project in `.` has the name of the current folder.
    let whole = if folder.file_name().is_some() {
        folder.clone()
    } else {
        folder.canonicalize().unwrap_or_default()
    };
    let name = whole
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    if RESERVED.contains(&name.as_str()) {
        return Err(NewError::Reserved(name));
    }
    if !is_name(&name) || name.len() > 64 || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(NewError::Name(sanitize_name(&name)));
    }
    let template = match (args.lang, args.policy_only) {
        (Language::Rust, false) => "rust",
        (Language::Rust, true) => "rust-policy",
        (Language::Js, true) => "js",
        (Language::Python, true) => "python",
        (Language::Js, false) => return Err(NewError::Language("JavaScript")),
        (Language::Python, false) => return Err(NewError::Language("Python")),
    };
    if folder.is_file()
        || folder
            .read_dir()
            .is_ok_and(|mut entries| entries.next().is_some())
    {
        return Err(NewError::Exists(folder.clone()));
    }
    let write = |path: &Path, text: &[u8]| -> Result<(), NewError> {
        let path = folder.join(path);
        let failed = |cause| NewError::Write {
            path: path.clone(),
            cause,
        };
        fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(failed)?;
        fs::write(&path, text).map_err(failed)
    };
    for (path, bytes) in TEMPLATES.get_dir(template).into_iter().flat_map(files) {
        let path = path.strip_prefix(template).unwrap_or(&path);
        let text = String::from_utf8_lossy(bytes)
            .replace(NAME, &name)
            .replace(&NAME.replace('-', "_"), &name.replace('-', "_"));
        let text = text.replace(REVIEW_TABLE, LIMITS.trim_end());
        // Templates of these files have other names, because cargo and git would read them in this
        // repository.
        let path = path
            .to_string_lossy()
            .replace("Cargo.toml.txt", "Cargo.toml")
            .replace("gitignore.txt", ".gitignore");
        write(Path::new(&path), text.as_bytes())?;
    }
    if template == "rust" {
        for (path, bytes) in files(&MINIMAL) {
            write(&Path::new("src").join(path), bytes)?;
        }
    }
    // The SDK has its interface in a folder of its own, as in this repository. Other languages read
    // the folder `wit`.
    let inside = match args.lang {
        Language::Rust => Path::new("wit/0.2"),
        Language::Js | Language::Python => Path::new("wit"),
    };
    for (path, bytes) in files(&WIT) {
        write(&inside.join(path), bytes)?;
    }
    if args.lang == Language::Rust {
        let crates = [
            ("sdk", &SDK),
            ("decide-world", &DECIDE_WORLD),
            ("policy-world", &POLICY_WORLD),
        ];
        for (crate_name, sources) in crates {
            for (path, bytes) in files(sources) {
                let place = Path::new("vendor").join(crate_name).join(&path);
                match path.file_name().is_some_and(|name| name == "Cargo.toml") {
                    true => write(
                        &place,
                        standalone::standalone(&String::from_utf8_lossy(bytes)).as_bytes(),
                    )?,
                    false => write(&place, bytes)?,
                }
            }
        }
    }
    say(&format!(
        "created {}, a {} for rostro:pipeline@{}",
        folder.display(),
        kind(args.policy_only),
        Minor::V0_2.latest()
    ));
    say(&format!("\n  cd {}", folder.display()));
    for step in steps(args.lang) {
        say(&format!(
            "  {}",
            step.replace(NAME, &name)
                .replace(&NAME.replace('-', "_"), &name.replace('-', "_"))
        ));
    }
    say("\nIts README.md explains how to try it on photos and how to activate it.");
    Ok(())
}

fn kind(policy_only: bool) -> &'static str {
    if policy_only {
        "policy"
    } else {
        "whole pipeline"
    }
}

/// Returns the next commands: the tests, the build, and the check.
fn steps(language: Language) -> [&'static str; 3] {
    match language {
        Language::Rust => [
            "cargo test",
            "cargo build --release --target wasm32-wasip2   # once before it: rustup target add wasm32-wasip2",
            "rostro pipeline check target/wasm32-wasip2/release/my_pipeline.wasm",
        ],
        Language::Js => [
            "npm install && npm test",
            "npm run build",
            "rostro pipeline check my-pipeline.wasm",
        ],
        Language::Python => [
            "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && python3 -m unittest",
            ".venv/bin/componentize-py -d wit -w policy componentize --stub-wasi app -o my-pipeline.wasm",
            "rostro pipeline check my-pipeline.wasm",
        ],
    }
}

/// Returns all files of an embedded folder with their paths in it.
fn files(folder: &Dir<'static>) -> Vec<(PathBuf, &'static [u8])> {
    let mut found: Vec<(PathBuf, &[u8])> = folder
        .files()
        .map(|file| (file.path().to_owned(), file.contents()))
        .collect();
    found.extend(folder.dirs().flat_map(files));
    found
}
