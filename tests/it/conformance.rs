//! The tables of `docs/conformance*.md` and the tests agree: what a row names is there, every scene
//! is in a row, and what is not done has a reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The cells of every row of every table of a page, with the line's number.
fn rows(page: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    page.lines().enumerate().filter_map(|(at, line)| {
        let line = line.strip_prefix('|')?.strip_suffix('|')?;
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        (!cells.iter().all(|cell| cell.chars().all(|c| c == '-'))).then_some((at + 1, cells))
    })
}

/// What stands between backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else {
            out.push(path);
        }
    }
}

fn relative(path: &Path) -> String {
    path.strip_prefix(ROOT).unwrap().to_str().unwrap().to_owned()
}

/// What there is to name.
struct Tests {
    scenes: BTreeSet<String>,
    functions: BTreeSet<String>,
    paths: Vec<String>,
}

impl Tests {
    fn read() -> Self {
        let mut found = vec![];
        for folder in ["src", "tests", "crates", "client", "benches"] {
            files(&Path::new(ROOT).join(folder), &mut found);
        }
        let mut tests = Self { scenes: BTreeSet::new(), functions: BTreeSet::new(), paths: vec![] };
        for path in &found {
            let name = relative(path);
            if let Some(scene) = name.strip_suffix(".scene") {
                tests.scenes.insert(scene.rsplit('/').next().unwrap().to_owned());
            }
            if name.ends_with(".rs") {
                for line in fs::read_to_string(path).unwrap().lines() {
                    let Some((_, rest)) = line.split_once("fn ") else { continue };
                    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                    tests.functions.insert(rest[..end.unwrap_or(rest.len())].to_owned());
                }
            }
            tests.paths.push(name);
        }
        tests
    }

    fn has(&self, name: &str) -> bool {
        let is_path = |path: &String| path.ends_with(name) || path.contains(name);
        self.scenes.contains(name)
            || self.functions.contains(name)
            || (name.contains(['.', '/']) && self.paths.iter().any(is_path))
    }
}

fn pages() -> Vec<(String, String)> {
    let mut found = vec![];
    files(&Path::new(ROOT).join("docs"), &mut found);
    found.sort();
    let pages = found.iter().map(|path| (relative(path), path));
    pages
        .filter(|(name, _)| name.starts_with("docs/conformance"))
        .map(|(name, path)| (name, fs::read_to_string(path).unwrap()))
        .collect()
}

#[test]
fn what_the_tables_of_conformance_name_is_there() {
    let tests = Tests::read();
    let mut wrong = vec![];
    let mut named = BTreeSet::new();
    let mut count = 0;
    for (page, text) in pages() {
        for (at, cells) in rows(&text).filter(|(_, cells)| cells.last() != Some(&"shown by")) {
            count += 1;
            let shown_by = *cells.last().unwrap();
            if let [_, level, _, _] = cells[..]
                && !["MUST", "SHOULD"].contains(&level)
            {
                wrong.push(format!("{page}:{at}: {level} is no level"));
            }
            let reason = shown_by.strip_prefix('–').map(str::trim);
            if quoted(shown_by).next().is_none() && reason.is_none_or(str::is_empty) {
                let said = "names neither a test nor a reason";
                wrong.push(format!("{page}:{at}: {said}"));
            }
            // In brackets stand notes and files.
            let names: Vec<_> = shown_by.split(['(', ')']).step_by(2).flat_map(quoted).collect();
            named.extend(names.iter().map(|name| name.rsplit('/').next().unwrap().to_owned()));
            let missing = names.into_iter().filter(|name| !tests.has(name));
            wrong.extend(missing.map(|name| format!("{page}:{at}: there is no {name}")));
        }
    }
    let unnamed = tests.scenes.difference(&named);
    wrong.extend(unnamed.map(|scene| format!("no table names the scene {scene}")));
    assert!(count > 200, "where are the tables?");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
