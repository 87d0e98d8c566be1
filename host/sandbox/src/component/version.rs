//! Versions of `rostro:pipeline` that this host runs.

use semver::Version;

/// Latest version of `rostro:pipeline` that this host implements.
pub const WORLD_VERSION: &str = Minor::V0_2.latest();

/// Minor version of `rostro:pipeline`. A patch version only adds, so components built for an earlier
/// patch of the same minor version run unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Minor {
    /// One interface for each half.
    V0_1,
    /// One interface for each function, with request context, streams and declared settings.
    V0_2,
}

impl Minor {
    /// All that this host runs, in ascending order.
    const ALL: [Self; 2] = [Self::V0_1, Self::V0_2];

    /// Returns the latest version that this host implements.
    pub const fn latest(self) -> &'static str {
        match self {
            Self::V0_1 => "0.1.2",
            Self::V0_2 => "0.2.0",
        }
    }

    /// Returns the minor version that runs components built for a version, if there is one.
    pub fn of(version: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|minor| can_run(minor.latest(), version))
    }
}

/// Returns true if this host runs components built for a version of `rostro:pipeline`.
pub(crate) fn is_supported(version: &str) -> bool {
    Minor::of(version).is_some()
}

/// Returns true if components for a version of 0.1 ask for all their settings in `describe`.
pub(crate) fn has_complete_settings(version: &str) -> bool {
    Version::parse(version).is_ok_and(|version| version >= Version::new(0, 1, 2))
}

/// Returns the versions that this host runs, as text.
pub fn run_versions() -> String {
    let range = |minor: Minor| match minor.latest().rsplit_once('.') {
        Some((number, patch)) if patch != "0" => format!("{number}.0 to {}", minor.latest()),
        _ => minor.latest().to_owned(),
    };
    Minor::ALL.map(range).join(" or ")
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
    fn both_minor_versions_are_supported() {
        for (version, minor) in [
            ("0.1.0", Some(Minor::V0_1)),
            ("0.1.2", Some(Minor::V0_1)),
            ("0.1.3", None),
            ("0.2.0", Some(Minor::V0_2)),
            ("0.2.1", None),
            ("0.3.0", None),
        ] {
            assert_eq!(Minor::of(version), minor, "{version}");
        }
        assert_eq!(run_versions(), "0.1.0 to 0.1.2 or 0.2.0");
    }
}
