//! `meshproof adapter check` and `--target adapter:COMMAND` on the command line.

#![allow(clippy::print_stdout, reason = "a test that is skipped says why")]

use assert_cmd::Command;

/// Runs the command, requires this exit code, and returns its stdout and stderr.
fn ran(arguments: &[&str], code: i32) -> (String, String) {
    let out = Command::cargo_bin("meshproof")
        .expect("the binary is built")
        .args(arguments)
        .output()
        .expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    assert_eq!(out.status.code(), Some(code), "{arguments:?}\n{stdout}\n{stderr}");
    (stdout, stderr)
}

fn python_is_here() -> bool {
    let here = std::process::Command::new("python3").arg("--version").output().is_ok();
    let required = std::env::var_os("MESHPROOF_REQUIRE_INSTALLED").is_some_and(|v| v == "1");
    assert!(here || !required, "python3 is not installed, and MESHPROOF_REQUIRE_INSTALLED=1 is set");
    if !here {
        println!("skipped: python3 is not installed");
    }
    here
}

#[test]
fn the_python_example_keeps_every_point_of_the_contract() {
    if !python_is_here() {
        return;
    }
    let example =
        concat!("python3 '", env!("CARGO_MANIFEST_DIR"), "/../implementations/adapters/python/adapter.py'");
    let (stdout, _) = ran(&["adapter", "check", example], 0);
    assert!(stdout.contains("12 kept, 0 broken, 1 not asked"), "{stdout}");
}

#[test]
fn a_broken_adapter_fails_the_check_and_its_output_is_shown() {
    if !python_is_here() {
        return;
    }
    let (stdout, _) = ran(&["adapter", "check", "python3 -c 'raise SystemExit(\"no licence found\")'"], 1);
    assert!(stdout.contains("BROKEN     hello") && stdout.contains("no licence found"), "{stdout}");
    assert!(stdout.contains("the contract requires: It answers `hello`"), "{stdout}");
    assert!(stdout.contains("not asked  stop"), "{stdout}");
}

#[test]
fn a_missing_program_is_an_environment_error_and_an_open_quote_is_a_usage_error() {
    let (_, stderr) = ran(&["adapter", "check", "/no/such/adapter"], 3);
    assert!(stderr.contains("/no/such/adapter"), "{stderr}");
    let (_, stderr) = ran(&["adapter", "check", "python3 'adapter.py"], 2);
    assert!(stderr.contains("quote"), "{stderr}");
}

#[test]
fn a_run_separates_the_same_errors() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("report");
    let run = |target: &str, code| {
        ran(&["run", "--target", target, "--out", &out.to_string_lossy(), "sidecar-origination"], code).1
    };
    assert!(run("adapter:", 2).contains("adapter:COMMAND"));
    assert!(run("adapter:/no/such/adapter", 3).contains("PATH"));
    if python_is_here() {
        let message = run("adapter:python3 -c 'raise SystemExit(7)'", 3);
        assert!(message.contains("nothing was judged") && message.contains("exit status: 7"), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}
