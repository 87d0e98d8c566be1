//! Which versions of `rostro:pipeline` this host runs.

use semver::Version;

/// The version of `rostro:pipeline` that this host has. A patch version only adds: what was built
/// for an earlier one of the same minor version runs as it is.
pub const WORLD_VERSION: &str = "0.1.2";

/// Whether a component built for this version of `rostro:pipeline` runs on this host.
pub(crate) fn is_run(version: &str) -> bool {
    runs(WORLD_VERSION, version)
}

/// Whether components for this version ask for all settings that they know in `describe`.
pub(crate) fn is_asking(version: &str) -> bool {
    Version::parse(version).is_ok_and(|version| version >= Version::new(0, 1, 2))
}

/// The versions that this host runs, in words.
pub fn run_versions() -> String {
    match WORLD_VERSION.rsplit_once('.') {
        Some((minor, patch)) if patch != "0" => format!("{minor}.0 to {WORLD_VERSION}"),
        _ => WORLD_VERSION.to_owned(),
    }
}

/// Whether a host that has `own` runs what was built for `wanted`: the same minor version, and no
/// later patch, which may have what this one lacks.
fn runs(own: &str, wanted: &str) -> bool {
    let (Ok(own), Ok(wanted)) = (Version::parse(own), Version::parse(wanted)) else {
        return false;
    };
    (own.major, own.minor) == (wanted.major, wanted.minor)
        && wanted.patch <= own.patch
        && wanted.pre.is_empty()
        && wanted.build.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_patches_of_the_same_minor_version_are_run() {
        for wanted in ["0.1.0", "0.1.2", "0.1.3"] {
            assert!(runs("0.1.3", wanted), "{wanted}");
        }
        for wanted in [
            "0.1.4",
            "0.2.0",
            "0.0.9",
            "1.1.3",
            "0.1.0-rc.1",
            "0.1.0+mine",
            "0.1",
            "",
            "0.1.x",
            "v0.1.0",
        ] {
            assert!(!runs("0.1.3", wanted), "{wanted}");
        }
    }

    #[test]
    fn this_host_runs_what_it_has_and_what_was_released_before() {
        assert!(
            is_run(WORLD_VERSION) && is_run("0.1.0"),
            "{}",
            run_versions()
        );
    }
}
