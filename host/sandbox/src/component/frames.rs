//! Where a guest failed: the names of its functions, from Wasmtime's backtrace, where the component
//! has them.

use wasmtime::WasmBacktrace;

/// Functions that are named, the innermost first.
const FRAMES: usize = 6;

/// Longest name of a function, in characters.
const NAME: usize = 120;

/// How names of functions begin that only carry a failure from where it happened: those of Rust's
/// standard library, of the C library, and of Python's interpreter.
const PLUMBING: [&str; 15] = [
    "std::",
    "core::panicking",
    "core::result::unwrap_failed",
    "core::option::",
    "__rust",
    "rust_panic",
    "rust_begin_unwind",
    "abort",
    "__wasilibc_",
    "posix_do_",
    "filesystem_preopens_",
    "_Py",
    "PyEval_",
    "PyObject_",
    "componentize_py_runtime::",
];

/// The functions that an error came through, in words: `decide, policy#decide`. Empty if the
/// component has no names.
pub(crate) fn functions(error: &wasmtime::Error) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return String::new();
    };
    named(&backtrace.to_string())
}

/// The names in a backtrace as Wasmtime prints it.
fn named(backtrace: &str) -> String {
    let names = backtrace.lines().filter_map(|line| {
        let (_, at) = line.split_once(" - ")?;
        let name = without_hashes(at.split_once('!').map_or(at, |(_, name)| name).trim());
        let is_plumbing = PLUMBING
            .iter()
            .any(|plumbing| name.trim_start_matches('<').starts_with(plumbing));
        (!name.starts_with("<wasm function") && !name.is_empty() && !is_plumbing)
            .then(|| name.chars().take(NAME).collect::<String>())
    });
    names.take(FRAMES).collect::<Vec<_>>().join(", ")
}

/// Removes the hashes that Rust's two ways to mangle symbols add: `std[d123b7a1a2ed1472]::process`
/// is `std::process`, and so is `std::process::h2caa0190d08ff101`.
fn without_hashes(name: &str) -> String {
    let is_hash =
        |text: &str| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = name
        .rsplit_once("::h")
        .filter(|(_, hash)| is_hash(hash))
        .map_or(name, |(name, _)| name);
    let mut parts = name.split('[');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(']') {
            Some((hash, rest)) if is_hash(hash) => text.push_str(rest),
            _ => text.extend(["[", part]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Instance, Module, Store};

    use super::*;

    #[test]
    fn functions_are_named_innermost_first() {
        let text = "error while executing at wasm backtrace:\n    0:   0x1d9 - a.wasm!abort\n    1:   0x9 - a.wasm!std[d123b7a1a2ed1472]::panicking::begin\n    2: \
                    0x1a - a.wasm!my_policy[6d9e98711c484d2e]::decide::<[u8]>\n    3:   0x1c - a.wasm!<wasm function 7>\n    4:   0x20 - a.wasm!own::h2caa0190d08ff101\n    \
                    5: 0x24 - a.wasm!policy#decide\n";
        assert_eq!(named(text), "my_policy::decide::<[u8]>, own, policy#decide");
        assert_eq!(named(""), "");
    }

    /// Wasmtime prints backtraces as they are read here.
    #[test]
    fn trap_names_functions() {
        let engine = Engine::default();
        let text =
            r#"(module (func $inner unreachable) (func $outer (export "run") (call $inner)))"#;
        let module = Module::new(&engine, wat::parse_str(text).unwrap()).unwrap();
        let mut store = Store::new(&engine, ());
        let run = Instance::new(&mut store, &module, &[])
            .unwrap()
            .get_typed_func::<(), ()>(&mut store, "run")
            .unwrap();
        assert_eq!(
            functions(&run.call(&mut store, ()).unwrap_err()),
            "inner, outer"
        );
    }
}
