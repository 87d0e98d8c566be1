//! Versions of `rostro:pipeline` that this host runs.

use semver::Version;

/// Version of `rostro:pipeline` that this host implements. A patch version only adds, so components
/// built for an earlier patch of the same minor version run unchanged.
pub const WORLD_VERSION: &str = "0.1.2";

/// Returns true if this host runs components built for a version of `rostro:pipeline`.
pub(crate) fn is_supported(version: &str) -> bool {
    can_run(WORLD_VERSION, version)
}

/// Returns true if components for a version ask for all their settings in `describe`.
pub(crate) fn has_complete_settings(version: &str) -> bool {
    Version::parse(version).is_ok_and(|version| version >= Version::new(0, 1, 2))
}

/// Returns the versions that this host runs, as text.
pub fn run_versions() -> String {
    match WORLD_VERSION.rsplit_once('.') {
        Some((minor, patch)) if patch != "0" => format!("{minor}.0 to {WORLD_VERSION}"),
        _ => WORLD_VERSION.to_owned(),
    }
}

/// Returns true if a host of version `own` runs components of version `target`: both have one minor
/// version, and the target's patch is not later, because a later patch may need additions.
fn can_run(own: &str, target: &str) -> bool {
    let (Ok(own), Ok(target)) = (Version::parse(own), Version::parse(target)) else {
        return false;
    };
    (own.major, own.minor) == (target.major, target.minor)
        && target.patch <= own.patch
        && target.pre.is_empty()
        && target.build.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn can_run_accepts_earlier_patches_only() {
        for target in ["0.1.0", "0.1.2", "0.1.3"] {
            assert!(can_run("0.1.3", target), "{target}");
        }
        for target in [
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
            assert!(!can_run("0.1.3", target), "{target}");
        }
    }

    /// Components built for the first release must keep running.
    #[test]
    fn first_release_is_supported() {
        assert!(
            is_supported(WORLD_VERSION) && is_supported("0.1.0"),
            "{}",
            run_versions()
        );
    }
}
