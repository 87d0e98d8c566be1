//! Conversion of the SDK's manifests, which inherit from this workspace, for use outside it.

use toml::{Table, Value};

/// Manifest of this workspace, from which the SDK inherits.
const WORKSPACE: &str = include_str!("../../../../../../Cargo.toml");

/// Returns a manifest with its inherited values, and with paths to the crates in `vendor/`.
pub(super) fn standalone(manifest: &str) -> String {
    let workspace: Table = WORKSPACE.parse().unwrap_or_default();
    let workspace = workspace
        .get("workspace")
        .and_then(Value::as_table)
        .cloned()
        .unwrap_or_default();
    let mut manifest: Table = manifest.parse().unwrap_or_default();
    // The lints are this workspace's own.
    manifest.remove("lints");
    for (section, inherited) in [
        ("package", "package"),
        ("dependencies", "dependencies"),
        ("dev-dependencies", "dependencies"),
    ] {
        let Some(entries) = manifest.get_mut(section).and_then(Value::as_table_mut) else {
            continue;
        };
        let inherited = workspace.get(inherited).and_then(Value::as_table);
        for (name, value) in entries.iter_mut() {
            let inherits = value
                .get("workspace")
                .and_then(Value::as_bool)
                .unwrap_or(false);
            if let Some(known) = inherited
                .and_then(|inherited| inherited.get(name))
                .filter(|_| inherits)
            {
                *value = with_vendor_path(known.clone());
            }
        }
    }
    manifest.to_string()
}

/// Changes the path of a dependency on a crate of this repository to its place in `vendor/`.
fn with_vendor_path(mut dependency: Value) -> Value {
    if let Some(path) = dependency.get_mut("path")
        && let Some(name) = path.as_str().and_then(|path| path.rsplit('/').next())
    {
        *path = Value::String(format!("../{name}"));
    }
    dependency
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inherited_values_are_copied() {
        let text = standalone(
            "[package]\nname = \"a\"\nedition.workspace = true\n[lints]\nworkspace = true\n[dependencies]\nrostro-policy-world.workspace = true\n\
             image.workspace = true\nother = \"1\"\n",
        );
        let manifest: Table = text.parse().unwrap();
        assert_eq!(manifest["package"]["edition"].as_str(), Some("2024"));
        assert!(!manifest.contains_key("lints"));
        assert_eq!(
            manifest["dependencies"]["rostro-policy-world"]["path"].as_str(),
            Some("../policy-world")
        );
        assert!(
            manifest["dependencies"]["image"]["version"]
                .as_str()
                .is_some()
        );
        assert_eq!(manifest["dependencies"]["other"].as_str(), Some("1"));
        assert!(!text.contains("workspace"), "{text}");
    }
}
