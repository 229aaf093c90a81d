//! `--external container` on the command line. Tests are skipped without a container engine or the image;
//! `MESHPROOF_REQUIRE_CONTAINERS=1` turns a skip into a failure.

use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use meshproof_harness::timeouts::Timeouts;
use meshproof_local::external::{check_container, left_containers};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Longer than a run needs to start nginx. Reached only if something is broken.
const LIMIT: Duration = Duration::from_secs(60);

fn meshproof() -> Command {
    let mut command = Command::cargo_bin("meshproof").expect("the binary is built with its tests");
    command.env("NO_COLOR", "1");
    command
}

/// Prints a reason and returns false if containers cannot be started and are not required.
fn containers() -> bool {
    let checked = Runtime::new().expect("a runtime").block_on(check_container(None, &Timeouts::default()));
    if let Err(why) = &checked {
        let required = std::env::var("MESHPROOF_REQUIRE_CONTAINERS").is_ok_and(|v| v == "1");
        assert!(!required, "containers are required by MESHPROOF_REQUIRE_CONTAINERS=1, and {why}");
        #[expect(clippy::print_stdout, reason = "the output of the tests shows what was skipped")]
        {
            println!("skipped: {why}");
        }
    }
    checked.is_ok()
}

#[track_caller]
fn said(output: &std::process::Output, code: i32) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "stdout:\n{out}\nstderr:\n{err}");
    format!("{out}{err}")
}

#[test]
fn a_missing_engine_is_an_environment_error_that_names_the_fix() {
    let out = TempDir::new().expect("a folder");
    let mut run = meshproof();
    run.args(["run", "egress-gateway-mutual", "--external", "container", "--out"]).arg(out.path());
    let output = run.env("DOCKER_HOST", "unix:///nonexistent.sock").output().expect("it starts");
    let said = said(&output, 3);
    for word in ["no container engine", "/nonexistent.sock", "DOCKER_HOST", "--external embedded"] {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
}

#[test]
fn an_image_that_cannot_be_pulled_is_an_environment_error_that_names_the_fix() {
    if !containers() {
        return;
    }
    let out = TempDir::new().expect("a folder");
    let mut run = meshproof();
    run.args(["run", "--external", "container", "--nginx-image", "127.0.0.1:1/none:1", "--out"]);
    let said = said(&run.arg(out.path()).output().expect("it starts"), 3);
    for word in ["127.0.0.1:1/none:1", "cannot be fetched", "MESHPROOF_NGINX_IMAGE"] {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
}

#[test]
fn without_external_container_no_container_is_started() {
    let out = TempDir::new().expect("a folder");
    let mut run = meshproof();
    run.args(["run", "egress-gateway-mutual:ecdsa-p256", "--out"]).arg(out.path());
    said(&run.env("PATH", "/nonexistent").output().expect("it starts"), 0);
    assert_eq!(kinds(out.path()), ["embedded"]);
}

/// The kinds of external services in a run's report.
fn kinds(out: &Path) -> Vec<String> {
    let report = std::fs::read(out.join("report.json")).expect("a report is left");
    let report: Value = serde_json::from_slice(&report).expect("it is JSON");
    let services = report["scenarios"][0]["external_services"].as_array().expect("an array");
    let mut kinds: Vec<String> =
        services.iter().map(|s| s["kind"].as_str().expect("a text").to_owned()).collect();
    kinds.dedup();
    kinds
}

#[test]
fn a_scenario_passes_with_nginx_in_a_container_and_leaves_none() {
    if !containers() {
        return;
    }
    let out = TempDir::new().expect("a folder");
    let work = out.path().join("tmp");
    std::fs::create_dir(&work).expect("it can be made");
    let mut run = meshproof();
    run.args(["run", "egress-gateway-mutual:ecdsa-p256", "--external", "container", "--out"]);
    let output = run.arg(out.path()).env("TMPDIR", &work).output().expect("it starts");
    let said = said(&output, 0);
    assert!(said.contains("meshproof run --external container"), "{said}");
    assert_eq!(kinds(out.path()), ["container"]);
    let report = std::fs::read(out.path().join("report.json")).expect("a report is left");
    let report: Value = serde_json::from_slice(&report).expect("it is JSON");
    let id = report["run"]["id"].as_str().expect("a text");
    assert_eq!(left_of(id), 0);
}

fn left_of(run: &str) -> usize {
    let left =
        Runtime::new().expect("a runtime").block_on(left_containers(&Timeouts::default())).expect("a list");
    left.iter().filter(|c| c.describe().contains(run)).count()
}

/// The folder of a run whose nginx has started.
fn started(work: &Path) -> Option<PathBuf> {
    let folders = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect()
    };
    folders(work).into_iter().find(|run| {
        let seats = folders(run).into_iter().flat_map(|seat| folders(&seat));
        seats.into_iter().any(|nginx| nginx.join("nginx.pid").exists())
    })
}

#[cfg(unix)]
#[test]
fn cleanup_removes_the_container_that_a_killed_run_left() {
    if !containers() {
        return;
    }
    let work = TempDir::new().expect("a folder");
    let mut run = Process::new(assert_cmd::cargo::cargo_bin("meshproof"))
        .args(["run", "egress-gateway-mutual:rsa-2048", "--external", "container", "--out"])
        .arg(work.path().join("out"))
        .env("TMPDIR", work.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let begun = Instant::now();
    let folder = loop {
        if let Some(folder) = started(work.path()) {
            break folder;
        }
        assert!(begun.elapsed() < LIMIT, "external-service-ready: no nginx has started");
        std::thread::yield_now();
    };
    run.kill().expect("it still runs");
    run.wait().expect("it was started here");
    let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
    let id = name.strip_prefix("meshproof-").and_then(|rest| rest.split_once('-')).expect("its form").0;
    assert!(left_of(id) > 0, "the run was killed before its container ended");
    let cleanup = |dry: &[&str]| {
        let mut command = meshproof();
        command.arg("cleanup").args(dry).env("TMPDIR", work.path());
        said(&command.output().expect("it starts"), 0)
    };
    let what = format!("of run {id}");
    assert!(cleanup(&["--dry-run"]).contains(&what));
    assert!(left_of(id) > 0 && folder.exists());
    assert!(cleanup(&[]).contains(&what));
    assert_eq!(left_of(id), 0);
    assert!(!folder.exists());
}
