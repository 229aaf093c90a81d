//! `run --vectors FILE`: the paths of a file are judged as the suite's own.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use meshproof_vectors::{Group, limbo};
use serde_json::Value;
use tempfile::TempDir;

use support::{meshproof, ran, report, text};

const SELECTOR: &str = "path-validation:sidecar";

/// The verdict of each check.
fn verdicts(report: &Value) -> BTreeMap<String, String> {
    let checks = report["scenarios"].as_array().unwrap().iter().flat_map(|s| s["checks"].as_array().unwrap());
    let entry = |c: &Value| {
        let id = c["id"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        (id, c["verdict"].as_str().unwrap().to_owned())
    };
    checks.map(entry).collect()
}

/// Runs with these arguments. The reference differs from some rules, so the exit code is 1.
fn run(arguments: &[&str], out: &Path) -> (BTreeMap<String, String>, String) {
    let common = ["run", SELECTOR, "--external", "embedded", "--out", out.to_str().unwrap()];
    let output = ran(meshproof().args(common).args(arguments), 1);
    let report = report(out);
    assert_eq!(report["scenarios"][0].get("faults"), None, "{report:#}");
    (verdicts(&report), text(&output.stdout))
}

#[test]
fn the_paths_of_a_file_are_judged_as_the_suites_own() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("vectors.json");
    std::fs::write(&file, limbo::write("paths.test").unwrap()).unwrap();
    let (of_file, said) = run(&["--vectors", file.to_str().unwrap()], &folder.path().join("file"));
    let (own, _) = run(&["--matrix", "full"], &folder.path().join("own"));
    for group in Group::all() {
        for vector in group.vectors() {
            let of_file = &of_file[&format!("{}-{}", group.id, vector.id)];
            assert_eq!(of_file, &own[vector.id], "{}: in the file, and of the suite", vector.id);
        }
    }
    for check in ["bounded-time", "every-request-accounted-for"] {
        assert_eq!(of_file[check], "passed", "{check}");
    }
    // No known fault breaks a path that the dictionary has never seen.
    assert!(said.contains("no known fault fits"), "{said}");
}

#[test]
fn the_paths_of_x509_limbo_are_judged() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/limbo/limbo-half.json");
    if !Path::new(path).exists() {
        assert!(std::env::var_os("MESHPROOF_REQUIRE_VECTORS").is_none(), "{path} is missing");
        return eprintln!("ignored: {path} is not there");
    }
    let out = TempDir::new().unwrap();
    let (verdicts, _) = run(&["--vectors", path], out.path());
    assert!(verdicts.values().all(|v| v == "passed" || v == "failed"), "{verdicts:?}");
    assert!(verdicts.len() > 60, "{verdicts:?}");
}
