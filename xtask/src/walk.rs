//! `cargo xtask walk`: starts the program of `tests/walk`.

use anyhow::Result;

use crate::setup::{self, Profile};
use crate::steps::{cargo, debian_packages, on_path, succeed};
use crate::{guest, python};

/// Sets up what the walk-through needs and runs it.
pub(crate) fn run() -> Result<()> {
    setup::host(Profile::Dev)?;
    setup::runtime(Profile::Dev)?;
    guest::build()?;
    python::componentize()?;
    if !on_path("npm") {
        debian_packages(&["nodejs", "npm"])?;
    }
    let mut walk = cargo();
    walk.args([
        "test",
        "--workspace",
        "--test",
        "walk",
        "--",
        "--ignored",
        "--nocapture",
    ]);
    succeed(walk.args(["--test-threads", "1"]))
}
