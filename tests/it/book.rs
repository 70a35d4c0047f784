//! The documentation as a book: every page is in it, and every link leads somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The pages of a folder, and of those in it.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(pages(&entry));
        } else if entry.extension().is_some_and(|it| it == "md") {
            found.push(entry);
        }
    }
    found
}

/// The lines of a page that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// Where the links of a page lead, as it says it.
fn links(text: &str) -> Vec<String> {
    let mut found = vec![];
    for line in prose(text) {
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("](") {
            let (target, next) = after.split_once(')').unwrap_or((after, ""));
            found.push(target.split(' ').next().unwrap_or_default().to_owned());
            rest = next;
        }
    }
    found
}

/// What a heading can be linked to by, as GitHub and mdBook name it.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen = BTreeMap::<String, u32>::new();
    let headings = prose(text).filter_map(|line| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len()).then(|| title.strip_prefix(' ')).flatten()
    });
    let mut found = BTreeSet::new();
    for title in headings {
        let kept = title.trim().to_lowercase();
        let kept = kept.chars().filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
        let name: String = kept.map(|it| if it == ' ' { '-' } else { it }).collect();
        let times = seen.entry(name.clone()).or_default();
        found.insert(if *times == 0 { name } else { format!("{name}-{times}") });
        *times += 1;
    }
    found
}

#[test]
fn every_link_leads_somewhere() {
    let mut files = pages(&root().join("docs"));
    for name in ["README", "ARCHITECTURE", "CONTRIBUTING", "SECURITY", "CHANGELOG"] {
        files.push(root().join(format!("{name}.md")));
    }
    let mut followed = 0;
    let mut wrong = vec![];
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => file.clone(),
                path => file.parent().unwrap().join(path),
            };
            followed += 1;
            let there = target.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor));
            if !there {
                wrong.push(format!("{}: {link}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(followed > 100, "this test reads links, and found {followed}");
}

#[test]
fn every_page_is_in_the_book_once() {
    let docs = root().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let listed: Vec<_> = links(&summary).into_iter().map(|link| docs.join(link)).collect();
    let once: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(once.len(), listed.len(), "a page is listed twice");
    let all: BTreeSet<_> =
        pages(&docs).into_iter().filter(|page| !page.ends_with("SUMMARY.md")).collect();
    assert_eq!(once, all);
    let book = fs::read_to_string(root().join("book.toml")).unwrap();
    assert!(book.contains("src = \"docs\""));
}

#[test]
fn headings_have_the_names_that_links_use() {
    let text = "# One, *two* `three`\n## It's\n```\n# no heading\n```\n## It's\n#hash\n";
    let expected = ["one-two-three", "its", "its-1"].map(str::to_owned);
    assert_eq!(anchors(text), expected.into());
    assert_eq!(
        links("a [b](c.md#d) and ![e](f.png \"g\")\n```\n[h](i)\n```\n"),
        ["c.md#d", "f.png"]
    );
}
