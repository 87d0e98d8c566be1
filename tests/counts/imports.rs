//! Circular imports between the files of a crate of `host`.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Count, Source};

/// A module as its path below the crate's root, which is empty.
type Module<'t> = Vec<&'t str>;

/// Counts the pairs of files of a crate that import each other. A module and those below it are no
/// pair. A name that a parent re-exports counts as the parent's.
pub(crate) fn circular_imports(rust: &[&Source]) -> Count {
    let mut crates: BTreeMap<&str, BTreeMap<Module<'_>, &str>> = BTreeMap::new();
    for source in rust {
        if let Some((name, module)) = module(&source.path) {
            let modules = crates.entry(name).or_default();
            modules.insert(module, &source.text);
        }
    }
    let mut places = Vec::new();
    for (name, modules) in &crates {
        let imports: BTreeSet<_> = modules
            .iter()
            .flat_map(|(module, text)| {
                let paths = paths(text).into_iter();
                paths.filter_map(move |path| Some((module.clone(), target(modules, module, path)?)))
            })
            .collect();
        for (from, to) in &imports {
            let is_nested = from.starts_with(to) || to.starts_with(from);
            if from < to && !is_nested && imports.contains(&(to.clone(), from.clone())) {
                let (from, to) = (from.join("::"), to.join("::"));
                places.push(format!("host/{name}: {from} and {to}"));
            }
        }
    }
    Count {
        what: "pairs of files of a crate in host that import each other",
        value: places.len() as f64,
        limit: 0.0,
        places,
    }
}

/// Returns the crate and the module of a file of `host`, unless the file has tests.
fn module(path: &str) -> Option<(&str, Module<'_>)> {
    let (name, file) = path.strip_prefix("host/")?.split_once("/src/")?;
    let mut module: Module<'_> = file.strip_suffix(".rs")?.split('/').collect();
    module.pop_if(|last| ["mod", "lib", "main"].contains(last));
    (!module.contains(&"tests")).then_some((name, module))
}

/// Returns the paths in a file that begin with `crate` or `super`, those of groups one by one.
fn paths(text: &str) -> Vec<Vec<&str>> {
    // In `mod tests`, `super` is the file itself.
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let code = text.lines().filter(|line| !line.trim().starts_with("//"));
    let tokens: Vec<&str> = code.flat_map(tokens).collect();
    let mut paths = Vec::new();
    for (start, token) in tokens.iter().enumerate() {
        let is_inner = start > 0 && tokens.get(start - 1) == Some(&"::");
        if is_inner || !["crate", "super"].contains(token) {
            continue;
        }
        // The current path, and for each open brace the length of the path before it.
        let (mut path, mut groups) = (Vec::new(), Vec::new());
        let mut rest = tokens.iter().skip(start).copied().peekable();
        while let Some(token) = rest.next() {
            match token {
                "::" => continue,
                "{" => groups.push(path.len()),
                "}" => path.truncate(groups.pop().unwrap_or_default()),
                "," => path.truncate(groups.last().copied().unwrap_or_default()),
                name => {
                    path.push(name);
                    if rest.peek() != Some(&"::") {
                        paths.push(path.clone());
                    }
                }
            }
            let goes_on = rest.peek() == Some(&"::");
            if groups.is_empty() && !goes_on {
                break;
            }
        }
    }
    paths
}

/// Splits a line into names, `::` and single other characters.
fn tokens(line: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = line;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let length = if is_name(first) {
            rest.find(|c| !is_name(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        Some(token)
    })
}

/// Returns the file that a path of `module` leads to: the longest beginning that is a module.
fn target<'t>(
    modules: &BTreeMap<Module<'t>, &str>,
    module: &Module<'t>,
    path: Vec<&'t str>,
) -> Option<Module<'t>> {
    let mut target = if path.first() == Some(&"super") {
        module.clone()
    } else {
        Vec::new()
    };
    for name in path {
        match name {
            "crate" => {}
            "super" => {
                target.pop();
            }
            name => target.push(name),
        }
    }
    while !modules.contains_key(&target) {
        target.pop()?;
    }
    Some(target)
}
