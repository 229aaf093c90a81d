//! `--target cluster` on the cluster of the kubeconfig in `MESHPROOF_TEST_KUBECONFIG`. The cluster needs Istio and the images
//! (`MESHPROOF_IMAGES` names others). Without the variable, these tests are skipped.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// Longer than a cluster needs to create a namespace. Reached only if something is broken.
const LIMIT: Duration = Duration::from_secs(60);

/// The kubeconfig. Without one, prints a reason and returns `None`.
fn kubeconfig() -> Option<String> {
    let set = std::env::var("MESHPROOF_TEST_KUBECONFIG").ok().filter(|path| !path.is_empty());
    if set.is_none() {
        #[expect(clippy::print_stdout, reason = "the output of the tests shows what was skipped")]
        {
            println!("skipped: MESHPROOF_TEST_KUBECONFIG names no cluster");
        }
    }
    set
}

fn meshproof(kubeconfig: &str) -> Command {
    let mut command = Command::cargo_bin("meshproof").expect("the binary is built with its tests");
    command.env("NO_COLOR", "1").env("MESHPROOF_KUBECONFIG", kubeconfig);
    command
}

#[track_caller]
fn said(output: &std::process::Output, code: i32) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "stdout:\n{out}\nstderr:\n{err}");
    format!("{out}{err}")
}

fn report(out: &Path) -> Value {
    let text = std::fs::read_to_string(out.join("report.json")).expect("a report");
    serde_json::from_str(&text).expect("it is JSON")
}

/// From `scenario:configuration/check` to its verdict, and the faults of the suite.
fn verdicts(report: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for scenario in report["scenarios"].as_array().expect("scenarios") {
        for check in scenario["checks"].as_array().expect("checks") {
            let name = format!("{}:{}", check["id"], scenario["configuration"]);
            found.insert(name, check["verdict"].as_str().unwrap_or_default().to_owned());
        }
    }
    found
}

#[test]
fn every_check_gets_the_same_verdict_twice_and_nothing_is_left_behind() {
    let Some(kubeconfig) = kubeconfig() else { return };
    said(&meshproof(&kubeconfig).args(["doctor", "--target", "cluster"]).output().expect("it starts"), 0);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let out = TempDir::new().expect("a folder");
        let mut run = meshproof(&kubeconfig);
        run.args(["run", "--target", "cluster", "--out"]).arg(out.path());
        let output = run.output().expect("it starts");
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stdout));
        let report = report(out.path());
        let left = &report["implementation"]["details"]["inventory after"];
        assert_eq!(left, "nothing of this run");
        seen.push(verdicts(&report));
    }
    assert!(seen[0].values().any(|verdict| verdict == "passed"), "{:?}", seen[0]);
    for verdict in ["error", "inconclusive"] {
        let such: Vec<_> = seen[0].iter().filter(|(_, v)| *v == verdict).collect();
        assert!(such.is_empty(), "{such:?}");
    }
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn cleanup_removes_what_a_killed_run_left() {
    let Some(kubeconfig) = kubeconfig() else { return };
    let out = TempDir::new().expect("a folder");
    let mut run = Process::new(env!("CARGO_BIN_EXE_meshproof"))
        .args(["run", "--target", "cluster", "sidecar-origination:target-port", "--out"])
        .arg(out.path())
        .env("MESHPROOF_KUBECONFIG", &kubeconfig)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let listed = || {
        let mut cleanup = meshproof(&kubeconfig);
        cleanup.args(["cleanup", "--target", "cluster", "--all", "--dry-run"]);
        said(&cleanup.output().expect("it starts"), 0)
    };
    let begun = Instant::now();
    while !listed().contains("sidecar-origination-target-port") {
        assert!(begun.elapsed() < LIMIT, "the run makes no namespace");
    }
    run.kill().expect("it is killed");
    run.wait().expect("it has ended");
    let found = listed();
    let namespace = found.split_whitespace().find(|word| word.starts_with("mp-")).expect("a namespace");
    let id = namespace.split('-').nth(1).expect("a run").to_owned();
    let mut cleanup = meshproof(&kubeconfig);
    cleanup.args(["cleanup", "--target", "cluster", "--run", &id]);
    said(&cleanup.output().expect("it starts"), 0);
    assert!(!listed().contains(&id), "{}", listed());
}
