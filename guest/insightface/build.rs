//! Sets the initial size of the component's memory.

/// Initial memory in bytes: what a frame of 640×480 with one face needs.
///
/// Memory above the initial size is hidden when an instance is made and exposed when the guest
/// grows it, which takes longer than clearing it.
const INITIAL_MEMORY: usize = 4 << 20;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "wasm32") {
        println!("cargo:rustc-link-arg=--initial-memory={INITIAL_MEMORY}");
    }
}
