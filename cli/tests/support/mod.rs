//! Runs the command and checks its exit code.

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

pub(crate) fn meshproof() -> Command {
    let mut command = Command::cargo_bin("meshproof").expect("the binary is built with its tests");
    command.env_remove("MESHPROOF_NGINX").env_remove("KUBECONFIG").env("NO_COLOR", "1");
    command
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
pub(crate) fn ran(command: &mut Command, code: i32) -> Output {
    let output = command.output().expect("it starts");
    assert_eq!(
        output.status.code(),
        Some(code),
        "stdout:\n{}\nstderr:\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

#[allow(dead_code, reason = "not every test file runs scenarios")]
pub(crate) fn report(folder: &Path) -> Value {
    let text = std::fs::read(folder.join("report.json")).expect("a report is left");
    serde_json::from_slice(&text).expect("it is JSON")
}
