//! Commands that a signal interrupts clean up, and `meshproof cleanup` removes what killed commands left.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::must_use_candidate,
    reason = "a test says what went wrong by panicking"
)]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use support::{meshproof, ran, report, text};

/// Sends Ctrl-C when `ready` returns. Returns what the command wrote to stderr, and its exit code.
fn interrupted(command: &mut Process, ready: impl FnOnce(&mut dyn BufRead)) -> (String, Option<i32>) {
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    ready(&mut stderr);
    let killed = Process::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    (said, child.wait().unwrap().code())
}

#[test]
fn ctrl_c_during_a_run_cleans_up_and_leaves_a_partial_report() {
    let folder = TempDir::new().unwrap();
    let work = folder.path().join("tmp");
    std::fs::create_dir(&work).unwrap();
    let out = folder.path().join("out");
    // RSA keys first: when the first line appears, the run has certainly started.
    let (rest, code) = interrupted(
        Process::new(assert_cmd::cargo::cargo_bin("meshproof"))
            .args(["run", "--external", "embedded", "--jobs", "1", "-v", "--out"])
            .arg(&out)
            .env("TMPDIR", &work),
        |stderr| {
            // The first scenario has ended, and others follow.
            let first = stderr.lines().find(|l| l.as_ref().is_ok_and(|l| l.contains("passed")));
            assert!(first.is_some(), "progress is shown");
        },
    );
    assert_eq!(code, Some(3), "{rest}");
    let report = report(&out);
    assert_eq!(report["run"]["partial"], true);
    assert_eq!(report["run"]["partial_reason"], "Ctrl-C");
    let scenarios = report["scenarios"].as_array().unwrap();
    let kept = |s: &&Value| s["checks"].as_array().unwrap().iter().all(|c| c["verdict"] == "passed");
    let cut = |s: &&Value| s["checks"][0]["reason"].as_str().unwrap().contains("the run was interrupted");
    assert!(scenarios.iter().any(|s| kept(&s)), "what was judged is kept");
    assert!(scenarios.iter().any(|s| cut(&s)), "what was not judged says so");
    let left: Vec<_> = std::fs::read_dir(&work).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn cleanup_removes_what_a_killed_run_left_and_keeps_what_a_living_run_uses() {
    let work = TempDir::new().unwrap();
    let mut sleeper = Process::new("sleep").arg("60").spawn().unwrap();
    let mut dead = Process::new("true").spawn().unwrap();
    dead.wait().unwrap();
    for (name, owner) in [("meshproof-dead", dead.id()), ("meshproof-alive", sleeper.id())] {
        std::fs::create_dir(work.path().join(name)).unwrap();
        std::fs::write(work.path().join(name).join("owner.pid"), owner.to_string()).unwrap();
    }
    std::fs::create_dir(work.path().join("another-program")).unwrap();
    let cleanup = |dry: bool| {
        let mut command = meshproof();
        // Not the containers of this machine.
        command.arg("cleanup").env("TMPDIR", work.path()).env("DOCKER_HOST", "unix:///nonexistent.sock");
        if dry {
            command.arg("--dry-run");
        }
        text(&ran(&mut command, 0).stdout)
    };
    assert!(cleanup(true).contains("would remove") && work.path().join("meshproof-dead").exists());
    assert!(cleanup(false).contains("meshproof-dead"));
    assert!(!work.path().join("meshproof-dead").exists());
    assert!(work.path().join("meshproof-alive").exists() && work.path().join("another-program").exists());
    assert_eq!(cleanup(false), "Earlier runs left nothing behind.\n");
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

#[test]
fn ctrl_c_during_an_adapter_check_stops_the_adapter_and_removes_its_folder() {
    let folder = TempDir::new().unwrap();
    let work = folder.path().join("tmp");
    std::fs::create_dir(&work).unwrap();
    let here = folder.path().join("here");
    assert!(Process::new("mkfifo").arg(&here).status().unwrap().success());
    // It never answers `hello`.
    let adapter = format!("sh -c 'echo $$ > {}; exec sleep 60'", here.display());
    let mut number = String::new();
    let (said, code) = interrupted(
        Process::new(assert_cmd::cargo::cargo_bin("meshproof"))
            .args(["adapter", "check", &adapter])
            .args(["--timeout", "adapter-hello=50s"])
            .env("TMPDIR", &work),
        |_| {
            number = std::fs::read_to_string(&here).unwrap();
            // With this file, `meshproof cleanup` finds the folder of a killed check.
            let left: Vec<_> = std::fs::read_dir(&work).unwrap().collect();
            assert!(left[0].as_ref().unwrap().path().join("owner.pid").exists(), "{left:?}");
        },
    );
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("interrupted (Ctrl-C)"), "{said}");
    let process = format!("/proc/{}/cmdline", number.trim());
    let lives = || std::fs::read_to_string(&process).is_ok_and(|command| command.contains("sleep"));
    // A signal arrives with a delay.
    let deadline = Instant::now() + Duration::from_secs(10);
    while lives() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert!(!lives(), "the adapter still runs");
    let left: Vec<_> = std::fs::read_dir(&work).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn ctrl_c_during_sabotage_stops_every_run() {
    let work = TempDir::new().unwrap();
    let (said, code) = interrupted(
        Process::new(assert_cmd::cargo::cargo_bin("meshproof")).arg("sabotage").env("TMPDIR", work.path()),
        |stderr| {
            let mut line = String::new();
            stderr.read_line(&mut line).unwrap();
            assert!(line.contains("noticed by"), "{line}");
        },
    );
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("stopping after Ctrl-C") && said.contains("interrupted (Ctrl-C)"), "{said}");
    let left: Vec<_> = std::fs::read_dir(work.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn sabotage_prints_its_matrix_even_if_the_page_cannot_be_written() {
    let output = ran(meshproof().args(["sabotage", "no-sni", "--html", "/nonexistent/page.html"]), 3);
    assert!(text(&output.stdout).contains("The kill matrix"));
    assert!(text(&output.stderr).contains("/nonexistent/page.html cannot be written"));
}
