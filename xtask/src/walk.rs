//! `cargo xtask walk`: starts the tests of `tests/walk`.

use anyhow::Result;

use crate::setup::{self, Profile};
use crate::steps::{cargo, debian_packages, on_path, succeed};
use crate::{guest, python};

/// Sets up what the walk-through needs and runs it.
pub(crate) fn run() -> Result<()> {
    setup::host(Profile::Dev)?;
    guest::build()?;
    python::componentize()?;
    if !on_path("npm") {
        debian_packages("nodejs npm")?;
    }
    let test = "test --workspace --test walk -- --ignored --nocapture --test-threads 1";
    succeed(&mut cargo(test))
}
