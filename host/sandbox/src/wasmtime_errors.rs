//! Texts of Wasmtime's errors that carry information without a type.
//!
//! All matching of such texts is in this file, because an upgrade of Wasmtime may change them. Each
//! text has a test that provokes the real error.

use wasmtime::WasmBacktrace;
use wasmtime::component::ResourceTableError;

use crate::limits::{LimitReached, Limits};

/// Functions of a backtrace that are named, the innermost first.
const FRAMES: usize = 6;

/// Longest name of a function, in characters.
const FUNCTION_NAME: usize = 120;

/// Prefixes of functions that only propagate a failure: of Rust's standard library, of the C
/// library, and of Python's interpreter.
const PROPAGATING: [&str; 15] = [
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

/// Returns the limit that a component exceeded at compilation.
pub(crate) fn compile_limit(error: &wasmtime::Error, limits: &Limits) -> Option<LimitReached> {
    let cause = error.root_cause().to_string();
    if cause.contains("core module instances") {
        let wanted = number_before(&cause, " core module instances");
        let limit = limits.instances();
        return Some(LimitReached::wanted("instances", limit, 0, wanted));
    }
    if cause.contains("minimum element size") {
        let wanted = number_before(&cause, " which exceeds the limit of");
        let limit = limits.table_elements();
        return Some(LimitReached::wanted("table-elements", limit, 0, wanted));
    }
    if cause.contains("minimum byte size") {
        let wanted = number_before(&cause, " which exceeds the limit of");
        return Some(LimitReached::memory(limits.memory_bytes(), 0, wanted));
    }
    None
}

/// Returns the limit that a guest exceeded at run time, if Wasmtime enforces the limit and does not
/// name it.
pub(crate) fn run_limit(error: &wasmtime::Error, limits: &Limits) -> Option<LimitReached> {
    let cause = error.root_cause().to_string();
    if let Some((_, count)) = cause.split_once("instance count too high at ") {
        let wanted: usize = count.parse().unwrap_or_default();
        let used = wanted.saturating_sub(1);
        return Some(LimitReached::wanted(
            "instances",
            limits.instances(),
            used,
            wanted,
        ));
    }
    if cause.contains("fuel allocated for hostcalls has been exhausted") {
        return Some(LimitReached {
            name: "transfer-mib",
            limit: limits.transfer_bytes() >> 20,
            asked: "one call or answer has more bytes".to_owned(),
        });
    }
    // Resources of the component itself are in a table of Wasmtime, the others in the host's.
    let is_host_table_full = matches!(
        error.downcast_ref::<ResourceTableError>(),
        Some(ResourceTableError::Full)
    );
    if is_host_table_full || cause.contains("handle limit exceeded") {
        let limit = limits.handles();
        return Some(LimitReached::wanted("handles", limit, limit, limit + 1));
    }
    None
}

/// Returns the number that precedes a text, or 0.
fn number_before(cause: &str, text: &str) -> usize {
    cause
        .split_once(text)
        .and_then(|(before, _)| before.rsplit(' ').next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

/// Returns the names of the functions that an error passed: `decide, policy#decide`. Returns an
/// empty text for a component without names.
pub(crate) fn function_names(error: &wasmtime::Error) -> String {
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    backtrace.map_or_else(String::new, |backtrace| {
        parse_backtrace(&backtrace.to_string())
    })
}

/// Returns the names in a printed backtrace, where Wasmtime demangles them.
fn parse_backtrace(backtrace: &str) -> String {
    let names = backtrace.lines().filter_map(|line| {
        let (_, location) = line.split_once(" - ")?;
        let name = location.split_once('!').map_or(location, |(_, name)| name);
        let name = remove_hashes(name.trim());
        let is_propagating = PROPAGATING
            .iter()
            .any(|prefix| name.trim_start_matches('<').starts_with(prefix));
        (!name.starts_with("<wasm function") && !name.is_empty() && !is_propagating)
            .then(|| name.chars().take(FUNCTION_NAME).collect::<String>())
    });
    names.take(FRAMES).collect::<Vec<_>>().join(", ")
}

/// Removes the hashes of both of Rust's mangling schemes: `std[d123b7a1a2ed1472]::process` and
/// `std::process::h2caa0190d08ff101` become `std::process`.
fn remove_hashes(name: &str) -> String {
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
    use wasmtime::component::{Component, Linker};
    use wasmtime::{Instance, Module, Store, StoreLimits, StoreLimitsBuilder};

    use super::*;
    use crate::engine::Engine;

    /// Component of two core instances.
    const TWO_INSTANCES: &str = "
        (component
            (core module $module)
            (core instance (instantiate $module))
            (core instance (instantiate $module)))";

    /// Component that passes 64 KiB to the host.
    const PASSES_BYTES: &str = r#"
        (component
            (import "take" (func $take (param "bytes" (list u8))))
            (core module $libc (memory (export "memory") 1))
            (core instance $libc (instantiate $libc))
            (core func $lowered (canon lower (func $take) (memory $libc "memory")))
            (core module $main
                (import "" "take" (func $take (param i32 i32)))
                (func (export "run") (call $take (i32.const 0) (i32.const 65536))))
            (core instance $main (instantiate $main
                (with "" (instance (export "take" (func $lowered))))))
            (func (export "run") (canon lift (core func $main "run"))))"#;

    /// Component that makes resources of its own without end.
    const MAKES_RESOURCES: &str = r#"
        (component
            (type $resource (resource (rep i32)))
            (core func $new (canon resource.new $resource))
            (core module $main
                (import "" "new" (func $new (param i32) (result i32)))
                (func (export "run") (loop (drop (call $new (i32.const 1))) (br 0))))
            (core instance $main (instantiate $main
                (with "" (instance (export "new" (func $new))))))
            (func (export "run") (canon lift (core func $main "run"))))"#;

    fn limits(changes: &[(&str, &str)]) -> Limits {
        let changes = changes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Limits::with(&changes.collect()).unwrap()
    }

    /// Returns the limit that compilation reports.
    fn compile(limits: &Limits, component: &str) -> String {
        let engine = Engine::new(limits.clone(), 1).unwrap();
        let error = Component::new(engine.wasmtime(), wat::parse_str(component).unwrap())
            .err()
            .unwrap();
        let reached = compile_limit(&error, limits);
        reached
            .unwrap_or_else(|| panic!("unknown text: {error:#}"))
            .to_string()
    }

    /// Returns the limit that instantiation or the function `run` reports.
    fn run(component: &str, prepare: fn(&mut Store<StoreLimits>)) -> String {
        let limits = Limits::default();
        let engine = Engine::new(limits.clone(), 1).unwrap();
        let component =
            Component::new(engine.wasmtime(), wat::parse_str(component).unwrap()).unwrap();
        let mut linker = Linker::new(engine.wasmtime());
        linker
            .root()
            .func_wrap("take", |_, (_,): (Vec<u8>,)| Ok(()))
            .unwrap();
        let mut store = Store::new(engine.wasmtime(), StoreLimits::default());
        store.set_epoch_deadline(1_000_000);
        prepare(&mut store);
        let result = linker
            .instantiate(&mut store, &component)
            .and_then(|instance| {
                let run = instance.get_typed_func::<(), ()>(&mut store, "run")?;
                run.call(&mut store, ())
            });
        let error = result.unwrap_err();
        let reached = run_limit(&error, &limits);
        reached
            .unwrap_or_else(|| panic!("unknown text: {error:#}"))
            .to_string()
    }

    #[test]
    fn compile_reports_instances() {
        assert_eq!(
            compile(&limits(&[("instances", "1")]), TWO_INSTANCES),
            "limit `instances` of 1 reached: 0 in use, 2 wanted"
        );
    }

    #[test]
    fn compile_reports_table_elements() {
        let component =
            "(component (core module $m (table 101 funcref)) (core instance (instantiate $m)))";
        assert_eq!(
            compile(&limits(&[("table-elements", "100")]), component),
            "limit `table-elements` of 100 reached: 0 in use, 101 wanted"
        );
    }

    #[test]
    fn compile_reports_memory() {
        let component =
            "(component (core module $m (memory 257)) (core instance (instantiate $m)))";
        assert_eq!(
            compile(&limits(&[("memory-mib", "16")]), component),
            "limit `memory-mib` of 16 reached: 0 bytes in use, 16842752 wanted"
        );
    }

    #[test]
    fn run_reports_instances() {
        let reached = run(TWO_INSTANCES, |store| {
            *store.data_mut() = StoreLimitsBuilder::new().instances(1).build();
            store.limiter(|limits| limits);
        });
        assert_eq!(
            reached,
            "limit `instances` of 64 reached: 1 in use, 2 wanted"
        );
    }

    #[test]
    fn run_reports_transfer() {
        let reached = run(PASSES_BYTES, |store| store.set_hostcall_fuel(1000));
        assert_eq!(
            reached,
            "limit `transfer-mib` of 64 reached: one call or answer has more bytes"
        );
    }

    #[test]
    fn run_reports_handles() {
        let reached = run(MAKES_RESOURCES, |store| store.set_max_component_handles(8));
        assert_eq!(
            reached,
            "limit `handles` of 32 reached: 32 in use, 33 wanted"
        );
    }

    #[test]
    fn parse_backtrace_names_innermost_first() {
        let text = "error while executing at wasm backtrace:\n    \
                    0:   0x1d9 - a.wasm!abort\n    \
                    1:   0x9 - a.wasm!std[d123b7a1a2ed1472]::panicking::begin\n    \
                    2:   0x1a - a.wasm!my_policy[6d9e98711c484d2e]::decide::<[u8]>\n    \
                    3:   0x1c - a.wasm!<wasm function 7>\n    \
                    4:   0x20 - a.wasm!own::h2caa0190d08ff101\n    \
                    5:   0x24 - a.wasm!policy#decide\n";
        assert_eq!(
            parse_backtrace(text),
            "my_policy::decide::<[u8]>, own, policy#decide"
        );
        assert_eq!(parse_backtrace(""), "");
    }

    #[test]
    fn trap_names_functions() {
        let engine = wasmtime::Engine::default();
        let text =
            r#"(module (func $inner unreachable) (func $outer (export "run") (call $inner)))"#;
        let module = Module::new(&engine, wat::parse_str(text).unwrap()).unwrap();
        let mut store = Store::new(&engine, ());
        let run = Instance::new(&mut store, &module, &[])
            .unwrap()
            .get_typed_func::<(), ()>(&mut store, "run")
            .unwrap();
        assert_eq!(
            function_names(&run.call(&mut store, ()).unwrap_err()),
            "inner, outer"
        );
    }
}
