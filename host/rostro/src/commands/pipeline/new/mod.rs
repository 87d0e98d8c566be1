//! `rostro pipeline new`: a project of a pipeline's own, that builds with one command and passes
//! its tests.
//!
//! All that it needs of Rostro is part of this program and lies in the project: the interface
//! `wit/`, and for Rust the SDK under `vendor/`.

pub(crate) mod standalone;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use include_dir::{Dir, include_dir};

use rostro_common::text::{sanitize_name, say};
use rostro_sandbox::component::version::WORLD_VERSION;
use rostro_sandbox::identifiers::is_name;

/// What a template says instead of the project's name.
const NAME: &str = "my-pipeline";

/// Names that a crate cannot have here: those of crates that it is built with, and words of the
/// language.
const RESERVED: [&str; 49] = [
    "std",
    "core",
    "alloc",
    "test",
    "proc-macro",
    "rostro-sdk",
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

/// What templates say instead of the table of limits, by which photos are judged in every language.
const REVIEW_TABLE: &str = "review_table";

/// The table: JSON without `null`, `true` and `false` is JavaScript and Python, too.
static LIMITS: &str = include_str!("../../../../../../guest/sdk/review.json");

static TEMPLATES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/commands/pipeline/new/templates");
static WIT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../wit");
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../guest/sdk");
/// The example that a whole pipeline begins as.
static MINIMAL: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../guest/examples/minimal/src");
static POLICY_WORLD: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../guest/policy-world");

/// A language of pipelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    /// Rust, to wasm32-wasip2
    Rust,
    /// JavaScript, through componentize-js
    Js,
    /// Python, through componentize-py
    Python,
}

/// A new project.
#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// The pipeline's name, and the folder that is made: lower-case letters, digits and `-`
    name: PathBuf,
    /// The language
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    lang: Language,
    /// Only the rule of who is who, beside another component's vision
    #[arg(long)]
    policy_only: bool,
}

/// Why there is no project.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NewError {
    /// The name is none.
    #[error(
        "a pipeline's name is 1 to 64 lower-case letters, digits and `-` and begins with a letter, not `{0}`"
    )]
    Name(String),
    /// The name is another crate's, or a word of Rust.
    #[error("`{0}` means something else to Rust; choose another name")]
    Reserved(String),
    /// There is something.
    #[error("{0} is there already and is not an empty folder; choose another name")]
    Exists(PathBuf),
    /// Not in that language.
    #[error(
        "pipelines that see are written in Rust: decoding a photo and preparing tensors takes {0} some hundred times as long; write the rule of who \
         is who in it with --policy-only"
    )]
    Language(&'static str),
    /// A file cannot be written.
    #[error("cannot write {path}: {cause}; choose a folder that you can write to", path = path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// Makes a project and says how to go on.
///
/// # Errors
///
/// [`NewError`]; a folder that was there is left as it was.
pub(super) fn new(args: &NewArgs) -> Result<(), NewError> {
    let folder = &args.name;
    // The current folder is named after itself.
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
        // Names that would mean something to the tools of this repository are written otherwise in
        // it.
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
    for (path, bytes) in files(&WIT) {
        write(&Path::new("wit").join(path), bytes)?;
    }
    if args.lang == Language::Rust {
        for (crate_name, sources) in [("sdk", &SDK), ("policy-world", &POLICY_WORLD)] {
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
        "made {}, a {} for rostro:pipeline@{WORLD_VERSION}",
        folder.display(),
        what(args.policy_only)
    ));
    say(&format!("\n  cd {}", folder.display()));
    for step in steps(args.lang) {
        say(&format!(
            "  {}",
            step.replace(NAME, &name)
                .replace(&NAME.replace('-', "_"), &name.replace('-', "_"))
        ));
    }
    say("\nREADME.md there says how to try it on photos and how to swap it in.");
    Ok(())
}

fn what(policy_only: bool) -> &'static str {
    if policy_only {
        "policy"
    } else {
        "whole pipeline"
    }
}

/// What to type: the tests, the build, and the check.
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
            ".venv/bin/componentize-py -d wit -w policy-only componentize --stub-wasi app -o my-pipeline.wasm",
            "rostro pipeline check my-pipeline.wasm",
        ],
    }
}

/// Every file of an embedded folder, by its path in it.
fn files(folder: &Dir<'static>) -> Vec<(PathBuf, &'static [u8])> {
    let mut found: Vec<(PathBuf, &[u8])> = folder
        .files()
        .map(|file| (file.path().to_owned(), file.contents()))
        .collect();
    found.extend(folder.dirs().flat_map(files));
    found
}
