//! What no file of the project may hold: unfinished code, tests that never run, the places of one machine, and clocks,
//! environment and randomness in the crates that are handed theirs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A text, why it may not stand anywhere, and whether it only counts where a path begins.
struct Forbidden {
    text: &'static str,
    why: &'static str,
    begins_a_path: bool,
}

const fn word(text: &'static str, why: &'static str) -> Forbidden {
    Forbidden { text, why, begins_a_path: false }
}

const fn folder(text: &'static str) -> Forbidden {
    Forbidden { text, why: "is a path of one machine", begins_a_path: true }
}

const HOST: &str = "is a registry's host: name the package instead";

/// Written in two halves, so that this file itself holds none of them.
const ANYWHERE: &[Forbidden] = &[
    word(concat!("to", "do!("), "is unfinished code"),
    word(concat!("unimple", "mented!("), "is unfinished code"),
    word(concat!("FIX", "ME"), "is unfinished work"),
    word(concat!("#[ig", "nore"), "makes a test that never runs"),
    folder(concat!("/wo", "rk/")),
    folder(concat!("/ro", "ot/")),
    folder(concat!("/t", "mp/")),
    word(concat!("registry.", "npmjs.org"), HOST),
    word(concat!("registry.", "yarnpkg.com"), HOST),
    word(concat!("files.", "pythonhosted.org"), HOST),
    word(concat!("index.", "crates.io"), HOST),
    word(concat!("static.", "crates.io"), HOST),
    word(concat!("deb.", "debian.org"), HOST),
];

/// What the crates that are handed time and randomness may not reach for.
const IN_PURE_CRATES: &[Forbidden] = &[
    word(concat!("SystemTime", "::now"), "is a clock: take the time"),
    word(concat!("env", "::var"), "is the environment: take a setting"),
    word(concat!("rand", "::rng("), "is randomness: take a `Random`"),
    word(concat!("Os", "Rng"), "is randomness: take a `Random`"),
    word(concat!("Sys", "Rng"), "is randomness: take a `Random`"),
];

const PURE_CRATES: &[&str] = &["shared/model/src", "shared/codec/src", "shared/engine/src"];

/// Folders that hold nothing of ours; looked at only where git cannot say what is ours.
const NOT_OURS: &[&str] = &[".git", ".tools", "target", "node_modules"];

impl Forbidden {
    fn stands_in(&self, line: &str) -> bool {
        line.match_indices(self.text).any(|(at, _)| !self.begins_a_path || begins_a_path(&line[..at]))
    }
}

/// Whether a `/` behind `before` begins an absolute path, rather than going on with a relative one.
fn begins_a_path(before: &str) -> bool {
    !before.ends_with(|last: char| last.is_alphanumeric() || "_-.)}*]".contains(last))
}

/// Each line that holds something forbidden.
fn violations(file: &str, text: &str, forbidden: &[Forbidden]) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for rule in forbidden.iter().filter(|rule| rule.stands_in(line)) {
            found.push(format!("{file}:{}: `{}` {}", number + 1, rule.text, rule.why));
        }
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests stand in the workspace").to_owned()
}

/// The project's files below the root: what git tracks or would track, or everything where there is no git.
fn files() -> Vec<PathBuf> {
    let root = root();
    let files = tracked(&root).unwrap_or_else(|| walked(&root));
    assert!(files.iter().any(|file| file == &root.join("Cargo.toml")), "the list of files lacks Cargo.toml");
    files
}

fn tracked(root: &Path) -> Option<Vec<PathBuf>> {
    let output = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .ok()?;
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let files: Vec<_> = names.split('\0').filter(|name| !name.is_empty()).map(|name| root.join(name)).collect();
    (output.status.success() && !files.is_empty()).then_some(files)
}

fn walked(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the project's folders can be listed").map_while(Result::ok) {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && !NOT_OURS.iter().any(|name| entry.file_name() == *name) {
            found.extend(walked(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

/// The file's text; nothing for one that is no text, and for one that git tracks but that is gone.
fn text(file: &Path) -> Option<String> {
    let bytes = fs::read(file).ok()?;
    (!bytes.contains(&0)).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// The part of a Rust file before its tests.
fn without_tests(text: &str) -> &str {
    text.find("#[cfg(test)]").map_or(text, |at| &text[..at])
}

#[track_caller]
fn assert_none(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n  {}\n", violations.join("\n  "));
}

#[test]
fn no_file_holds_unfinished_code_or_a_place_of_one_machine() {
    let root = root();
    let mut found = Vec::new();
    for file in files() {
        let name = file.strip_prefix(&root).unwrap_or(&file).display().to_string();
        found.extend(text(&file).map(|text| violations(&name, &text, ANYWHERE)).unwrap_or_default());
    }
    assert_none(found);
}

#[test]
fn the_pure_crates_read_no_clock_no_environment_and_no_randomness() {
    let root = root();
    let (mut found, mut seen) = (Vec::new(), 0);
    for file in files() {
        let name = file.strip_prefix(&root).unwrap_or(&file).to_owned();
        let pure = PURE_CRATES.iter().any(|folder| name.starts_with(folder));
        // A module of tests in a file of its own is named `tests.rs` or `…_tests.rs`.
        let of_tests = name.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"));
        if let Some(text) = text(&file).filter(|_| pure && !of_tests) {
            seen += 1;
            found.extend(violations(&name.display().to_string(), without_tests(&text), IN_PURE_CRATES));
        }
    }
    assert!(seen > 10, "only {seen} files of the pure crates were found");
    assert_none(found);
}

#[test]
fn both_ways_to_list_the_files_find_this_one() {
    let this = root().join("tests/integration/house.rs");
    assert!(walked(&root()).contains(&this));
    if let Some(tracked) = tracked(&root()) {
        assert!(tracked.contains(&this));
    }
}

#[test]
fn the_checker_finds_what_is_forbidden() {
    let check = |line: &str, expect: usize| assert_eq!(violations("made-up", line, ANYWHERE).len(), expect, "{line}");
    for rule in ANYWHERE {
        check(&format!("let text = \"{}x\";", rule.text), 1);
    }
    check("fine\nalso fine", 0);
    check(concat!("file:///t", "mp/x"), 1);
    check(concat!("see /wo", "rk/x and /ro", "ot/y"), 2);
    check(concat!("target/t", "mp/x and ${HERE}/t", "mp/y, net", "wo", "rk/z"), 0);
    assert_eq!(violations("made-up", concat!("let now = std::time::SystemTime", "::now();"), IN_PURE_CRATES).len(), 1);
}

#[test]
fn every_functions_main_is_short() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../functions");
    let mut mains = 0;
    for entry in fs::read_dir(&folder).expect("functions/").flatten() {
        // the one that stands for all of them in tests is none of them
        if entry.file_name() == "bootstrap" {
            continue;
        }
        let path = entry.path().join("src/main.rs");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(text.lines().count() <= 30, "{} has {} lines", path.display(), text.lines().count());
        mains += 1;
    }
    assert_eq!(mains, 13);
}
