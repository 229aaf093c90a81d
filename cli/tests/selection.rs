//! What a run runs: listed, in shards, the last failures, several times; and what it writes meanwhile.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

fn meshproof(arguments: &[&str], code: i32) -> Output {
    let output =
        Command::cargo_bin("meshproof").unwrap().env("NO_COLOR", "1").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{}\n{said}", String::from_utf8_lossy(&output.stdout));
    output
}

fn said(arguments: &[&str], code: i32) -> String {
    String::from_utf8(meshproof(arguments, code).stdout).unwrap()
}

fn run(arguments: &[&str], out: &Path, code: i32) -> String {
    let mut all = vec!["run", "--external", "embedded", "--out", out.to_str().unwrap()];
    all.extend(arguments);
    said(&all, code)
}

/// The selectors of a report's scenarios, and how many checks it has.
fn contents(report: &Path) -> (Vec<String>, usize) {
    let report: Value = serde_json::from_slice(&std::fs::read(report.join("report.json")).unwrap()).unwrap();
    let scenarios = report["scenarios"].as_array().unwrap();
    let name = |s: &Value| format!("{}:{}", s["id"].as_str().unwrap(), s["configuration"].as_str().unwrap());
    let checks = scenarios.iter().map(|s| s["checks"].as_array().unwrap().len()).sum();
    (scenarios.iter().map(name).collect(), checks)
}

#[test]
fn a_list_names_the_checks_and_runs_nothing() {
    let out = TempDir::new().unwrap();
    let folder = out.path().join("report");
    let text = run(&["--list", "sidecar-origination:target-port/sni-is-host"], &folder, 0);
    assert_eq!(text, "sidecar-origination:target-port/sni-is-host\n");
    assert!(!folder.exists());
}

#[test]
fn the_merged_shards_are_the_whole_run() {
    let out = TempDir::new().unwrap();
    let folder = |name: &str| out.path().join(name);
    run(&["sidecar-origination", "--shard", "1/2"], &folder("one"), 0);
    run(&["sidecar-origination", "--shard", "2/2"], &folder("two"), 0);
    let (one, _) = contents(&folder("one"));
    let (two, _) = contents(&folder("two"));
    assert!(!one.is_empty() && !two.is_empty() && one.iter().all(|s| !two.contains(s)));
    // In any order.
    let merged = folder("merged");
    let reports = [folder("two"), folder("one")].map(|f| f.to_str().unwrap().to_owned());
    said(&["merge", &reports[0], &reports[1], "--out", merged.to_str().unwrap()], 0);
    let listed = said(&["run", "--list", "sidecar-origination"], 0);
    let repeat = |folder: &Path| {
        let report: Value =
            serde_json::from_slice(&std::fs::read(folder.join("report.json")).unwrap()).unwrap();
        (report["run"]["partial"].as_bool().unwrap(), report["run"]["command"].as_str().unwrap().to_owned())
    };
    let (partial, command) = repeat(&merged);
    assert!(!partial && !command.contains("--shard"), "{command}");
    assert_eq!(contents(&merged).1, listed.lines().count());
    said(&["merge", &reports[0], &reports[0], "--out", merged.to_str().unwrap()], 2);
    // What no shard judged was not judged.
    let text = said(&["merge", &reports[0], "--out", merged.to_str().unwrap()], 3);
    assert!(text.contains("no report of shard 1/2 was merged"), "{text}");
    said(&["run", "--list", "--shard", "3/2"], 2);
}

#[test]
fn the_shards_of_a_job_are_merged_from_their_logs() {
    let out = TempDir::new().unwrap();
    let mut logs = Vec::new();
    for index in ["0", "1"] {
        let arguments =
            ["run", "sidecar-origination", "--external", "embedded", "--print-report", "--shard", "index/2"];
        let mut run = Command::cargo_bin("meshproof").unwrap();
        run.args(arguments).arg("--out").arg(out.path().join(index)).env("JOB_COMPLETION_INDEX", index);
        let output = run.output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        // The log of a container has both.
        logs.extend(output.stderr);
        logs.extend(output.stdout);
    }
    let log = out.path().join("log");
    std::fs::write(&log, &logs).unwrap();
    let (log, merged) = (log.to_str().unwrap(), out.path().join("merged"));
    said(&["merge", log, "--out", merged.to_str().unwrap()], 0);
    let listed = said(&["run", "--list", "sidecar-origination"], 0);
    assert_eq!(contents(&merged).1, listed.lines().count());
    // Other commands need one report.
    let refused = meshproof(&["report", log], 2);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("has 2 reports. `meshproof merge`"));
    said(&["run", "--list", "--shard", "index/2"], 2);
}

#[test]
fn the_last_failures_are_run_again_and_nothing_else() {
    let out = TempDir::new().unwrap();
    let broken = ["--target", "reference:no-sni"];
    run(&[broken[0], broken[1], "sidecar-origination:target-port"], out.path(), 1);
    let (_, before) = contents(out.path());
    run(&[broken[0], broken[1], "--last-failed"], out.path(), 1);
    let (scenarios, again) = contents(out.path());
    assert_eq!(scenarios, ["sidecar-origination:target-port"]);
    assert!(0 < again && again < before, "{again} of {before}");
    // Without the fault they pass, and then there is nothing left to run.
    run(&["--last-failed"], out.path(), 0);
    assert!(run(&["--last-failed"], out.path(), 0).starts_with("Nothing to repeat"));
}

#[test]
fn repeated_runs_say_whether_every_check_had_the_same_verdict_each_time() {
    let out = TempDir::new().unwrap();
    let text = run(&["--repeat", "2", "-q", "sidecar-origination:target-port/sni-is-host"], out.path(), 0);
    assert!(text.ends_with("All 1 check had the same verdict in 2 runs.\n"), "{text}");
    assert_eq!(contents(&out.path().join("run-2")).1, 1);
}

#[test]
fn events_are_written_as_json_lines() {
    let out = TempDir::new().unwrap();
    let file = out.path().join("events");
    run(&["--events", file.to_str().unwrap(), "sidecar-origination:target-port/sni-is-host"], out.path(), 0);
    let events: Vec<Value> = std::fs::read_to_string(&file)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.first().unwrap()["event"], "run-started");
    assert!(events.iter().any(|e| e["event"] == "check-judged" && e["verdict"] == "passed"));
    assert_eq!(events.last().unwrap()["event"], "scenario-finished");
    // Each run of one command adds its own.
    let (file, check) = (file.to_str().unwrap(), "sidecar-origination:target-port/sni-is-host");
    run(&["--events", file, "--repeat", "2", check], &out.path().join("twice"), 0);
    assert_eq!(std::fs::read_to_string(file).unwrap().matches("\"run-started\"").count(), 2);
    run(&["--events", "-", check], out.path(), 2);
}

#[test]
fn a_report_is_read_from_standard_input() {
    let sample = include_bytes!("../../reports/render/samples/no-sni.json");
    let mut command = Command::cargo_bin("meshproof").unwrap();
    let output = command.args(["report", "-", "-q"]).write_stdin(sample.as_slice()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("FAILED"), "{text}");
    assert!(text.lines().count() <= 15, "{text}");
}

#[test]
fn completions_and_the_man_page_are_printed() {
    assert!(said(&["completions", "bash"], 0).contains("--last-failed"));
    assert!(said(&["completions", "--man"], 0).starts_with(".ie"));
    said(&["completions"], 2);
    let out = TempDir::new().unwrap();
    said(&["completions", "--man", "--out", out.path().to_str().unwrap()], 0);
    let of_run = std::fs::read_to_string(out.path().join("meshproof-run.1")).unwrap();
    assert!(of_run.contains("last\\-failed"));
}

#[test]
fn an_explanation_fits_the_width() {
    let mut command = Command::cargo_bin("meshproof").unwrap();
    let output = command.env("COLUMNS", "80").args(["explain", "no-sni"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().count() > 20 && text.lines().all(|l| l.chars().count() <= 80), "{text}");
}

#[test]
fn explain_knows_faults_causes_and_parts_of_names() {
    assert!(said(&["explain", "no-sni"], 0).contains("proxy_ssl_server_name"));
    assert!(said(&["explain", "server-name-absent"], 0).contains("no-sni"));
    assert!(said(&["explain", "prefix-bound"], 0).contains("path-based-routing/prefix-boundaries"));
    let several = meshproof(&["explain", "gateway"], 2);
    assert!(String::from_utf8_lossy(&several.stderr).contains("several ids contain"));
}
