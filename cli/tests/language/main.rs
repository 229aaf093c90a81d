//! All text that people read is plain English: no archaisms, no riddles, no private words. Reads the sources
//! of the whole workspace and the output of `--help`.

#![allow(clippy::unwrap_used, reason = "a test reports failures by panicking")]

mod phrases;
mod prose;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use phrases::{ALLOWED, pattern};
use prose::{Kind, prose};

/// Where a phrase was found.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    file: String,
    line: usize,
    phrase: String,
    /// The text around the phrase.
    context: String,
}

/// Every phrase to avoid in a text.
fn findings(file: &str, text: &str) -> Vec<Finding> {
    let found = pattern().find_iter(text).map(|found| {
        let around = |at: usize, to: usize| text.get(at..to).unwrap_or_default();
        let start = text[..found.start()].rfind('\n').map_or(0, |at| at + 1);
        let end = text[found.end()..].find('\n').map_or(text.len(), |at| found.end() + at);
        Finding {
            file: file.to_owned(),
            line: text[..found.start()].matches('\n').count() + 1,
            phrase: words(found.as_str()),
            context: words(around(start, end)),
        }
    });
    found.collect()
}

/// The text with single spaces.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The files that belong to the repository.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    // Build output, packages of other projects, and the phrases themselves.
    const SKIPPED: [&str; 5] = ["target", ".git", "node_modules", "__pycache__", "language"];
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if SKIPPED.iter().any(|skipped| name == *skipped) {
            continue;
        }
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

/// Every finding in the repository's files.
fn in_files() -> Vec<Finding> {
    let root = root();
    let mut paths = Vec::new();
    files(&root, &mut paths);
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
        let Some(kind) = Kind::of(&name) else { continue };
        let text = std::fs::read_to_string(&path).unwrap();
        all.extend(findings(&name, &prose(kind, &text).unwrap_or_else(|e| panic!("{name}: {e}"))));
    }
    all
}

/// The output of `meshproof COMMAND... --help` for the command and all its subcommands.
fn in_help(command: &[String]) -> Vec<Finding> {
    let output = Command::new(assert_cmd::cargo::cargo_bin("meshproof"))
        .args(command)
        .arg("--help")
        .env("COLUMNS", "400")
        .output()
        .unwrap();
    let name = format!("meshproof {} --help", command.join(" "));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut all = findings(&name, &text);
    let listed = text.split_once("Commands:\n").map_or("", |(_, rest)| rest);
    let listed = listed.lines().take_while(|line| line.starts_with("  "));
    // A command is indented by two spaces; the continuation of its description is indented further.
    let names =
        listed.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    for subcommand in names.filter(|name| *name != "help") {
        all.extend(in_help(&[command, &[subcommand.to_owned()]].concat()));
    }
    all
}

fn listed(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { file, line, phrase, context } in findings {
        let _infallible = writeln!(text, "{file}:{line}: \"{phrase}\" in: {context}");
    }
    text
}

#[test]
fn no_text_contains_a_phrase_to_avoid() {
    let mut all = in_files();
    all.extend(in_help(&[]));
    let mut unused: Vec<_> = ALLOWED.iter().collect();
    all.retain(|finding| {
        let allowed = ALLOWED
            .iter()
            .find(|allowed| finding.file == allowed.file && finding.context.contains(allowed.context));
        if let Some(allowed) = allowed {
            unused.retain(|other| !std::ptr::eq(*other, allowed));
        }
        allowed.is_none()
    });
    assert!(
        all.is_empty(),
        "{} phrases to avoid. Rewrite the sentence in plain English: subject, verb, object.\n{}",
        all.len(),
        listed(&all)
    );
    assert!(unused.is_empty(), "exceptions that match nothing; remove them: {unused:#?}");
}

#[test]
fn every_help_page_is_read() {
    let subcommands = |command: &[&str]| {
        let output = Command::new(assert_cmd::cargo::cargo_bin("meshproof"))
            .args(command)
            .arg("--help")
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // If clap changes the form of its help, `in_help` finds no subcommands any more.
    let text = subcommands(&[]);
    let (_, commands) = text.split_once("Commands:\n").unwrap();
    assert!(commands.lines().any(|line| line.starts_with("  run ")), "{text}");
}
