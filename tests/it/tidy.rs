//! What the compiler does not check: which module may look at which, and that what is written twice
//! says the same twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cusaxd::reload;

/// Each module, and the modules that it may name. Read it downwards: nothing looks up, and no face
/// names another.
const MAY_USE: &[(&str, &[&str])] = &[
    (
        "io",
        &[
            "admin",
            "archive",
            "bridge",
            "clock",
            "config",
            "dialplan",
            "directory",
            "id",
            "journal",
            "metrics",
            "mixer",
            // The console's buttons and forms are made of it.
            "operation",
            "provision",
            "rate",
            "reload",
            "room",
            "stanzas",
        ],
    ),
    (
        "bridge",
        &[
            "admin",
            "archive",
            "clock",
            "config",
            "dialplan",
            "directory",
            "drain",
            "focus",
            "id",
            "journal",
            "metrics",
            "mixer",
            "muc",
            "operation",
            "provision",
            "rate",
            "room",
            "stanzas",
        ],
    ),
    // How chat clients, phones and operators see rooms.
    ("muc", &["archive", "clock", "id", "operation", "rate", "room", "stanzas"]),
    (
        "focus",
        &[
            "clock",
            "config",
            "dialplan",
            "directory",
            "display",
            "id",
            "mixer::plan",
            "rate",
            "room",
        ],
    ),
    ("admin", &["clock", "dialplan", "directory", "drain", "id", "journal", "operation", "room"]),
    // How the mixer and the store do.
    ("mixer", &["clock", "id", "room"]),
    ("journal", &["directory", "id", "room"]),
    // What clients are told to set up.
    ("provision", &["clock", "config", "directory"]),
    // What may be asked of the store later.
    ("archive", &["id", "room"]),
    // What all of them look at.
    ("room", &["clock", "id"]),
    ("dialplan", &["config", "directory", "display", "id", "room"]),
    ("directory", &["id"]),
    ("display", &[]),
    ("drain", &["clock"]),
    ("operation", &[]),
    ("metrics", &[]),
    ("reload", &["config"]),
    ("config", &[]),
    ("rate", &["clock"]),
    ("clock", &[]),
    ("id", &[]),
    ("stanzas", &[]),
];

#[test]
fn modules_look_down_only() {
    let mut edges = 0;
    for (module, allowed) in MAY_USE {
        for (file, text) in files_of(module) {
            for named in named(&text) {
                let name = named.split("::").next().unwrap();
                if name == *module {
                    continue;
                }
                assert!(
                    allowed.contains(&name) || allowed.contains(&named.as_str()),
                    "{} names {named}, which {module} may not",
                    file.display()
                );
                edges += 1;
            }
        }
    }
    assert!(edges > 100, "this test reads imports, and found {edges}");
    let known: BTreeSet<_> = MAY_USE.iter().map(|(module, _)| *module).collect();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap();
        let above = ["main", "lib", "cli"].contains(&module);
        assert!(above || known.contains(module), "{module} is not in the table");
    }
}

/// The parts of the crate that a file names, each with the part of that if it names one alone:
/// `room`, `mixer::plan`.
fn named(text: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => {
                let mut depth = 0;
                let end = group.find(|c| {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    depth < 0
                });
                let group = &group[..end.unwrap()];
                assert!(!group.contains('{'), "group at most one level: {group}");
                named.extend(group.split(',').map(part).filter(|part| !part.is_empty()));
            }
            None => drop(named.insert(part(rest))),
        }
    }
    named
}

fn part(path: &str) -> String {
    let word = |text: &str| -> String {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let path = path.trim_start();
    let module = word(path);
    let inner = path[module.len()..].strip_prefix("::").map(word).unwrap_or_default();
    match inner.chars().next() {
        Some(first) if first.is_lowercase() => format!("{module}::{inner}"),
        Some(_) | None => module,
    }
}

#[test]
fn files_say_what_they_are() {
    let all: Vec<_> = ["src", "crates", "client", "tests", "benches"]
        .into_iter()
        .flat_map(|folder| rust_files(&root().join(folder)))
        .collect();
    assert!(all.len() > 80, "where are the sources?");
    for path in &all {
        let shown = path.display();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        assert!(plain, "{shown}: file names are lower case");
        for vague in ["util", "utils", "helper", "helpers", "common", "misc", "types"] {
            assert_ne!(name, vague, "{shown}: a name that says nothing");
        }
        let beside = rust_files(&path.with_extension(""));
        assert!(beside.is_empty(), "{shown}: the folder has a mod.rs for that");
        let text = fs::read_to_string(path).unwrap();
        assert!(text.starts_with("//! ") && text.len() > 10, "{shown} does not say what it is");
        if !name.contains("tidy") {
            for left in ["TODO", "FIXME", "todo!(", "unimplemented!(", "dbg!("] {
                assert!(!text.contains(left), "{shown}: {left}");
            }
        }
    }
}

/// `conf/cusaxd.toml` is the reference: every key of `config.rs`, no other, each with a comment.
#[test]
fn the_reference_names_every_option() {
    let mut options: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let source = fs::read_to_string(root().join("src/config.rs")).unwrap();
    for section in source.split("\n/// `[").skip(1) {
        let (name, rest) = section.split_once("]`").unwrap();
        let fields = rest.split_once("pub struct ").unwrap().1.split("\n}").next().unwrap();
        let fields = fields.lines().filter_map(|line| line.trim().strip_prefix("pub "));
        let keys = fields.filter_map(|field| field.split_once(':')).map(|(key, _)| key.to_owned());
        options.insert(name.to_owned(), keys.collect());
    }
    assert!(options.len() >= 6 && options.values().all(|keys| !keys.is_empty()), "{options:?}");

    let mut shown: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut section = String::new();
    let text = fs::read_to_string(root().join("conf/cusaxd.toml")).unwrap();
    let (mut before, mut restart) = ("", BTreeSet::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ")
            && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        {
            assert!(before.starts_with("# "), "{key} has no comment");
            assert!(
                shown.entry(section.clone()).or_default().insert(key.to_owned()),
                "{key} twice"
            );
            if before.ends_with(" [restart]") {
                restart.insert(format!("{section}.{key}"));
            }
        }
        before = line;
    }
    assert_eq!(shown, options);
    let takes = reload::OPTIONS.iter().filter(|(_, takes)| *takes == reload::Takes::Restart);
    assert_eq!(restart, takes.map(|(key, _)| (*key).to_owned()).collect());
}

/// The reference works as it stands, and the defaults that it shows are the defaults.
#[cfg(feature = "io")]
#[test]
fn the_reference_works_and_shows_the_defaults() {
    let settings = cusaxd::io::settings::load(&root().join("conf/cusaxd.toml"));
    let reference = settings.unwrap_or_else(|bad| panic!("{bad}")).config;
    let minimal = r#"{
        "xmpp": { "domain": "rooms.example.org", "secret": "change me" },
        "sip": { "domain": "conf.example.org" }
    }"#;
    let minimal: cusaxd::config::Config = serde_json::from_str(minimal).unwrap();
    assert_eq!(format!("{reference:#?}"), format!("{minimal:#?}"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_of(module: &str) -> Vec<(PathBuf, String)> {
    let src = root().join("src");
    let single = src.join(format!("{module}.rs"));
    let paths = if single.exists() { vec![single] } else { rust_files(&src.join(module)) };
    assert!(!paths.is_empty(), "{module} is in the table and not in src");
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}
