//! Every publishable crate of the workspace can be packaged: `cargo package --list` works, and the package contains each file
//! that its code includes.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .arg("--offline")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Name and folder of each publishable crate.
fn publishable() -> Vec<(String, PathBuf)> {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    // `publish` is null where it is not restricted, and an empty list where it is `false`.
    packages
        .filter(|p| p["publish"].is_null())
        .map(|p| {
            let manifest = Path::new(p["manifest_path"].as_str().unwrap());
            (p["name"].as_str().unwrap().to_owned(), manifest.parent().unwrap().to_owned())
        })
        .collect()
}

/// The files that the code outside `cfg(test)` includes, relative to the crate.
fn included(source: &Path, text: &str) -> BTreeSet<PathBuf> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let paths = ["include_str!(\"", "include_bytes!(\""].into_iter().flat_map(|include| {
        code.split(include).skip(1).filter_map(|rest| rest.split_once('"')).map(|(path, _)| path)
    });
    paths.map(|path| normal(&source.parent().unwrap().join(path))).collect()
}

fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir && parts.file_name().is_some_and(|name| name != "..") {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts
}

#[test]
fn a_package_contains_every_file_that_its_code_includes() {
    let crates = publishable();
    assert!(crates.iter().any(|(name, _)| name == "meshproof-harness"), "{crates:?}");
    assert!(crates.iter().all(|(name, _)| name != "own-scenario"), "{crates:?}");
    for (name, folder) in crates {
        let list = cargo(&["package", "--list", "--allow-dirty", "--package", &name]);
        let files: BTreeSet<PathBuf> = list.lines().map(PathBuf::from).collect();
        assert!(files.contains(Path::new("src/lib.rs")), "{name}: {files:?}");
        let is_code = |f: &&PathBuf| {
            f.starts_with("src") && f.extension().is_some_and(|e| e == "rs") && !f.ends_with("tests.rs")
        };
        for source in files.iter().filter(is_code) {
            let text = std::fs::read_to_string(folder.join(source)).unwrap();
            for file in included(source, &text) {
                assert!(files.contains(&file), "{name}: {} includes {}", source.display(), file.display());
            }
        }
    }
}
