//! `cargo xtask quantize`: a pack of 8-bit numbers from an installed one, and how it compares.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::python;
use crate::steps::{command, root, shared, step, succeed};

/// What to make.
#[derive(Debug, Args)]
pub(crate) struct QuantizeArgs {
    /// The installed pack to make it from
    #[arg(long, default_value = "mobile")]
    pack: String,
    /// Let the recogniser compute in 8-bit numbers, too, and not only store its weights so: for
    /// processors with instructions for it
    #[arg(long)]
    whole: bool,
    /// Folder with photos of faces for --whole, by which ranges are found; those named `test` are
    /// left out [default: the students' beside the repository]
    #[arg(long, requires = "whole")]
    photos: Option<PathBuf>,
}

impl QuantizeArgs {
    /// The new pack's name.
    fn name(&self) -> String {
        format!(
            "{}-int8{}",
            self.pack,
            if self.whole { "-whole" } else { "" }
        )
    }
}

/// Makes the pack and prints how it compares with the one that it comes from.
pub(crate) fn run(args: &QuantizeArgs) -> Result<()> {
    let models = root().join("models/installed");
    let (pack, made) = (models.join(&args.pack), models.join(args.name()));
    // Said here, before minutes go into an environment.
    if !pack.join("manifest.toml").is_file() {
        bail!(
            "the pack {} is not installed in {}; run: cargo xtask setup --pack {0}",
            args.pack,
            models.display()
        );
    }
    let faces = shared().join("faces");
    let photos = args
        .photos
        .clone()
        .unwrap_or_else(|| faces.join("students"));
    if args.whole && !photos.is_dir() {
        bail!(
            "the folder {} with photos of faces is missing; name one with --photos",
            photos.display()
        );
    }
    let scripts = root().join("xtask/quantize");
    let programs = python::environment("quantize", &scripts.join("requirements.txt"))?;
    let python = |script: &str| {
        let mut python = command(programs.join("python"));
        python
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg(scripts.join(script));
        python
    };
    step(&format!("pack {}", args.name()), || {
        let mut quantize = python("quantize.py");
        quantize.arg(&pack).arg(&made);
        if args.whole {
            quantize.arg("--photos").arg(&photos);
        }
        succeed(&mut quantize)
    })?;
    if !faces.is_dir() {
        eprintln!(
            "── NOT MEASURED: {} with photos of people is missing; name it with ROSTRO_SHARED",
            faces.display()
        );
        return Ok(());
    }
    step("comparison on the photos", || {
        succeed(python("report.py").arg(&pack).arg(&made).arg(&faces))
    })?;
    eprintln!(
        "── serve it with --pack {}; enrol people anew, for its embeddings have a contract of their own",
        args.name()
    );
    Ok(())
}
