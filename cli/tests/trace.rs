//! `meshproof run --trace DIR`.

#![allow(clippy::print_stdout, reason = "a test that is skipped says why")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{meshproof, ran, text};

const CONFIGURATION: &str = "sidecar-origination-target-port";

/// Runs one configuration with a trace, and returns the trace's folder and the command's stderr.
fn traced(work: &Path, target: &str, code: i32) -> (PathBuf, String) {
    let trace = work.join("trace");
    let output = ran(
        meshproof()
            .args(["run", "--external", "embedded", "--target", target, "sidecar-origination:target-port"])
            .arg("--trace")
            .arg(&trace)
            .arg("--out")
            .arg(work.join("report")),
        code,
    );
    (trace.join(CONFIGURATION), text(&output.stderr))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn lines(path: &Path) -> Vec<Value> {
    read(path).lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

fn every_file(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder exists");
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) =
        entries.map(|e| e.expect("an entry").path()).partition(|path| path.is_dir());
    files.into_iter().chain(folders.iter().flat_map(|f| every_file(f))).collect()
}

/// Only the owner can read the files, and none of them has a private key.
fn assert_private(folder: &Path) {
    for file in every_file(folder) {
        assert!(!read(&file).contains("PRIVATE KEY"), "{}", file.display());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| path.metadata().expect("it exists").permissions().mode() & 0o777;
            assert_eq!(mode(&file), 0o600, "{}", file.display());
            assert_eq!(mode(file.parent().expect("it is in a folder")), 0o700, "{}", file.display());
        }
    }
}

#[test]
fn a_trace_has_the_bytes_of_both_ends_the_sessions_secrets_and_the_proxys_log() {
    let work = tempfile::tempdir().expect("a temporary folder");
    let (folder, stderr) = traced(work.path(), "reference", 0);
    assert!(stderr.contains("the trace is in") && stderr.contains("secrets of TLS sessions"), "{stderr}");
    let connections = lines(&folder.join("connections.jsonl"));
    let begins = |by: &str, event: &str, bytes: &str| {
        connections.iter().any(|line| {
            line["by"] == by
                && line["event"] == event
                && line["bytes"].as_str().is_some_and(|encoded| encoded.starts_with(bytes))
        })
    };
    // "GET /politics", and a handshake record of TLS (RFC 8446, section 5.1), in base64.
    assert!(begins("client sleep", "sent", "R0VUIC9wb2xpdGlj"));
    assert!(begins("service edition.cnn.com:443", "received", "FgMB"));
    assert!(read(&folder.join("keys.log")).contains("CLIENT_TRAFFIC_SECRET_0 "));
    assert!(read(&folder.join("proxies/sleep.log")).contains("/politics"));
    assert_private(&work.path().join("trace"));
    let (_, stderr) = traced(work.path(), "reference", 2);
    assert!(stderr.contains("is not empty"), "{stderr}");
}

#[test]
fn a_trace_of_an_adapter_has_the_conversation_in_both_directions_without_keys() {
    let here = std::process::Command::new("python3").arg("--version").output().is_ok();
    let required = std::env::var_os("MESHPROOF_REQUIRE_INSTALLED").is_some_and(|v| v == "1");
    assert!(here || !required, "python3 is not installed, and MESHPROOF_REQUIRE_INSTALLED=1 is set");
    if !here {
        println!("skipped: python3 is not installed");
        return;
    }
    let work = tempfile::tempdir().expect("a temporary folder");
    let python = concat!(
        "adapter:python3 '",
        env!("CARGO_MANIFEST_DIR"),
        "/../implementations/adapters/python/adapter.py'"
    );
    let (folder, _) = traced(work.path(), python, 0);
    let lines = lines(&folder.join("adapter.jsonl"));
    let said: Vec<String> = lines
        .iter()
        .map(|line| {
            format!(
                "{} {}",
                line["direction"].as_str().unwrap_or_default(),
                line["message"]["type"].as_str().unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        said[..4],
        ["to-adapter hello", "from-adapter hello", "to-adapter apply", "from-adapter applied"]
    );
    assert_eq!(said[said.len() - 2..], ["to-adapter stop", "from-adapter stopped"]);
    assert!(said.contains(&"from-adapter log".to_owned()), "{said:?}");
    assert!(folder.join("files/revision-1/data-plane/given/mesh-roots.pem").is_file());
    assert_private(&work.path().join("trace"));
}
