//! Holds the tables of `docs/CONFORMANCE.md` and `docs/TLS.md` to the sources that they speak of.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each version with its table and the number of statements in the standard's appendix B.
const TABLES: [(&str, &str, usize); 2] = [
    ("v5", "docs/conformance/v5.md", 251),
    ("v3.1.1", "docs/conformance/v3.1.1.md", 141),
];

/// All files whose tables name what enforces and what proves a statement.
fn documents() -> impl Iterator<Item = &'static str> {
    TABLES
        .map(|(_, table, _)| table)
        .into_iter()
        .chain(["docs/TLS.md"])
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of each row of a table, without its head.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines().filter(|line| line.starts_with("| "));
    let cells = lines.map(|line| line.trim_matches('|').split(" |").map(str::trim).collect());
    cells
        .filter(|row: &Vec<_>| row[0] != "statement" && row[0] != "section" && row[0] != "word")
        .collect()
}

/// What stands between backquotes and names an item of a file.
fn references(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|quoted| quoted.split_once("::").filter(|(file, _)| file.ends_with(".rs")))
}

/// The identifiers in a text, as `[MQTT-3.1.2-1]`, with their places.
fn identifiers(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices("[MQTT-").map(|(at, _)| {
        let end = text[at..].find(']').expect("an identifier ends");
        (at, &text[at..=at + end])
    })
}

/// The lines of a file in which an item of one of these kinds begins.
fn items(source: &str, kinds: &[&str], name: &str) -> Vec<usize> {
    let begins = |line: &str| {
        let words: Vec<_> = line
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .filter(|word| !word.is_empty())
            .collect();
        words
            .windows(2)
            .any(|pair| kinds.contains(&pair[0]) && pair[1] == name)
    };
    let lines = source.lines().enumerate();
    lines
        .filter(|(_, line)| begins(line))
        .map(|(index, _)| index)
        .collect()
}

/// Whether `#[test]` is among the attributes and comments above the line.
fn is_test(source: &str, line: usize) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim).take(line).collect();
    let above = lines.iter().rev();
    above
        .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
        .any(|line| *line == "#[test]")
}

#[test]
fn every_item_that_the_tables_name_exists() {
    let mut named = 0;
    for table in documents() {
        for (file, item) in references(&read(table)) {
            let found = items(&read(file), &["fn", "struct", "enum", "const", "trait"], item);
            assert!(!found.is_empty(), "{table}: there is no {item} in {file}");
            named += 1;
        }
    }
    assert!(named > 700, "{named}");
}

#[test]
fn every_proof_is_a_test() {
    for table in documents() {
        for row in rows(&read(table)) {
            assert_eq!(row.len(), 4, "{table}: {row:?}");
            for (file, item) in references(row[3]) {
                let source = read(file);
                let found = items(&source, &["fn"], item);
                assert!(
                    found.iter().any(|line| is_test(&source, *line)),
                    "{table}: {file}::{item} is no test"
                );
            }
        }
    }
}

#[test]
fn every_statement_has_one_row_that_says_where() {
    for (_, table, count) in TABLES {
        let text = read(table);
        let rows = rows(&text);
        let numbered: Vec<_> = rows.iter().filter(|row| row[0].starts_with("`[MQTT-")).collect();
        let distinct: BTreeSet<_> = numbered.iter().map(|row| row[0]).collect();
        assert_eq!((numbered.len(), distinct.len()), (count, count), "{table}");
        for row in rows {
            assert!(!row[1].is_empty() && !row[2].is_empty(), "{table}: {row:?}");
        }
    }
}

/// A source as one line, without the marks of its comments, so that a citation is not cut in two.
fn unwrapped(source: &str) -> String {
    let lines = source
        .lines()
        .map(|line| line.trim().trim_start_matches('/').trim());
    lines.collect::<Vec<_>>().join(" ")
}

/// The versions that a citation names: the last one said before it, both if they are said together, or `of both versions`
/// behind it.
fn versions(text: &str, at: usize) -> Vec<&'static str> {
    let before = &text[text.floor_char_boundary(at.saturating_sub(300))..at];
    let after = &text[at..text.floor_char_boundary((at + 90).min(text.len()))];
    let v5 = before.rfind("v5").max(before.rfind(" 5.0"));
    let v311 = before.rfind("3.1.1");
    let together = ["v5 and v3.1.1", "v3.1.1 and v5"];
    let last = v5.max(v311);
    match last {
        _ if after.contains("of both") => vec!["v5", "v3.1.1"],
        None => Vec::new(),
        Some(_)
            if together
                .iter()
                .any(|both| before.rfind(both).is_some_and(|at| Some(at + both.len()) >= last)) =>
        {
            vec!["v5", "v3.1.1"]
        }
        Some(_) if v5 > v311 => vec!["v5"],
        Some(_) => vec!["v3.1.1"],
    }
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn every_clause_that_the_codec_cites_is_in_its_table() {
    let tables = TABLES.map(|(version, table, _)| (version, read(table)));
    let listed = |version: &str, what: &str| {
        let table = &tables.iter().find(|(name, _)| *name == version).unwrap().1;
        table.contains(what)
    };
    let mut files = Vec::new();
    sources(&root().join("codec/src"), &mut files);
    let mut cited = 0;
    for file in files {
        let text = unwrapped(&fs::read_to_string(&file).unwrap());
        for (at, identifier) in identifiers(&text) {
            let versions = versions(&text, at);
            let file = file.display();
            assert!(!versions.is_empty(), "{file}: {identifier} names no version");
            for version in versions {
                assert!(
                    listed(version, identifier),
                    "{file}: no {identifier} in the table of {version}"
                );
                cited += 1;
            }
        }
    }
    assert!(cited > 100, "{cited}");
}

/// The clauses of `DecodeError` and `TopicError` that are sections: those that are statements are found above.
#[test]
fn every_section_that_a_fault_cites_is_in_its_table() {
    let mut cited = 0;
    for file in ["codec/src/error.rs", "codec/src/topic.rs"] {
        let source = read(file);
        for (version, table, _) in TABLES {
            let table = read(table);
            let begin = format!("\"{version} section ");
            for (at, _) in source.match_indices(&begin) {
                let section = source[at + begin.len()..].split('"').next().unwrap();
                let listed = rows(&table)
                    .iter()
                    .any(|row| row[0].split([' ', ',']).any(|word| word == section));
                assert!(listed, "{file}: no section {section} in the table of {version}");
                cited += 1;
            }
        }
    }
    assert!(cited > 10, "{cited}");
}
