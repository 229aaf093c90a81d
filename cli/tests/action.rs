//! The action (`action.yml`): its script, run as a GitHub runner runs it. Needs Linux, bash and jq.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

const ACTION: &str = include_str!("../../action.yml");

/// Whether the test can run here. With `MESHPROOF_REQUIRE_INSTALLED=1` it must.
fn can_run() -> bool {
    let runs = |program: &str| {
        let started = Command::new(program).arg("--version").stdout(Stdio::null()).status();
        started.is_ok_and(|status| status.success())
    };
    let here = runs("bash") && runs("jq");
    let required = std::env::var_os("MESHPROOF_REQUIRE_INSTALLED").is_some_and(|v| v == "1");
    assert!(here || !required, "bash or jq is not installed, and MESHPROOF_REQUIRE_INSTALLED=1 is set");
    if !here {
        eprintln!("skipped: bash or jq is not installed");
    }
    here
}

/// The script of the step `run`, and the input of each environment variable.
fn step() -> (String, Vec<(&'static str, &'static str)>) {
    let (_, step) = ACTION.split_once("      id: run\n").expect("the step");
    let (head, script) = step.split_once("      run: |\n").expect("its script");
    let script = script.lines().take_while(|l| l.is_empty() || l.starts_with("        "));
    let script: Vec<&str> = script.map(|l| l.get(8..).unwrap_or_default()).collect();
    let inputs = head.lines().filter_map(|l| {
        let (variable, rest) = l.trim().split_once(": ${{ inputs.")?;
        Some((variable, rest.strip_suffix(" }}")?))
    });
    (script.join("\n"), inputs.collect())
}

/// The result of the step.
struct Came {
    code: Option<i32>,
    outputs: BTreeMap<String, String>,
    summary: String,
    said: String,
}

impl Came {
    fn output(&self, name: &str) -> &str {
        self.outputs.get(name).map_or("", String::as_str)
    }

    fn count(&self, name: &str) -> usize {
        self.output(name).parse().unwrap_or_else(|_| panic!("{name} is no number: {:?}", self.outputs))
    }
}

/// Runs the step in a folder with these inputs and the defaults of the others.
fn act(folder: &Path, given: &[(&str, &str)]) -> Came {
    let (script, inputs) = step();
    let mut command = Command::new("bash");
    // As `shell: bash` is run (GitHub, "Workflow syntax", `jobs.<job_id>.steps[*].shell`).
    command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", &script]).current_dir(folder);
    for (variable, input) in &inputs {
        let default = match *input {
            "target" => "reference",
            "fail-on" => "must",
            "verify-fail-on" => "error",
            "out" => "out",
            _ => "",
        };
        let value = given.iter().find(|(name, _)| name == input).map_or(default, |(_, value)| *value);
        command.env(variable, value);
    }
    for (name, _) in given {
        assert!(inputs.iter().any(|(_, input)| input == name), "the step takes no input {name}");
    }
    let (outputs, summary) = (folder.join("outputs"), folder.join("summary"));
    std::fs::write(&outputs, "").expect("written");
    std::fs::write(&summary, "").expect("written");
    command.env("MESHPROOF", env!("CARGO_BIN_EXE_meshproof"));
    command.env("GITHUB_OUTPUT", &outputs).env("GITHUB_STEP_SUMMARY", &summary);
    let done = command.output().expect("bash starts");
    let read = |file: &Path| std::fs::read_to_string(file).expect("it is text");
    let lines = read(&outputs);
    let pairs = lines.lines().map(|l| l.split_once('=').expect("NAME=VALUE"));
    Came {
        code: done.status.code(),
        outputs: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        summary: read(&summary),
        said: format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)),
    }
}

#[test]
fn a_run_that_passes_has_outputs_and_a_report() {
    if !can_run() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let came = act(
        folder.path(),
        &[
            ("scenarios", "sidecar-origination:target-port\n  egress-gateway-simple/no-bypass\n"),
            ("arguments", "--external\nembedded\n"),
        ],
    );
    assert_eq!(
        (came.code, came.output("verdict"), came.output("exit-code")),
        (Some(0), "passed", "0"),
        "{}",
        came.said
    );
    assert!(came.count("passed") > 1 && came.count("failed") == 0, "{:?}", came.outputs);
    assert!(came.summary.contains("passed"), "{}", came.summary);
    for file in ["report.json", "index.html", "summary.md", "junit.xml"] {
        assert!(folder.path().join(came.output("report")).join(file).is_file(), "{file}");
    }
}

#[test]
fn a_run_that_fails_fails_the_step_unless_its_failures_are_expected() {
    if !can_run() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let broken = [
        ("target", "reference:no-sni"),
        ("scenarios", "sidecar-origination:target-port"),
        ("arguments", "--external\nembedded"),
    ];
    let came = act(folder.path(), &broken);
    assert_eq!(
        (came.code, came.output("verdict"), came.output("exit-code")),
        (Some(1), "failed", "1"),
        "{}",
        came.said
    );
    assert!(came.count("failed") > 0, "{:?}", came.outputs);
    let baseline = Command::new(env!("CARGO_BIN_EXE_meshproof"))
        .args(["baseline", "out", "--out", "known failures.yaml"])
        .current_dir(folder.path())
        .status();
    assert!(baseline.expect("it starts").success());
    let mut expected = broken.to_vec();
    expected.push(("expected-failures", "known failures.yaml"));
    let came = act(folder.path(), &expected);
    assert_eq!((came.code, came.output("verdict")), (Some(0), "passed"), "{}", came.said);
    assert!(came.count("failed") > 0, "{:?}", came.outputs);
}

#[test]
fn a_check_that_passed_in_the_baseline_and_fails_now_fails_the_step() {
    if !can_run() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let common = [("scenarios", "sidecar-origination:target-port"), ("arguments", "--external\nembedded")];
    let before = act(folder.path(), &[&common[..], &[("out", "before")]].concat());
    assert_eq!(before.code, Some(0), "{}", before.said);
    let same = act(folder.path(), &[&common[..], &[("baseline", "before")]].concat());
    assert_eq!((same.code, same.output("verdict")), (Some(0), "passed"), "{}", same.said);
    assert!(folder.path().join("out/comparison.html").is_file());
    let broken = [("target", "reference:no-sni"), ("fail-on", "must"), ("baseline", "before")];
    let now = act(folder.path(), &[&common[..], &broken].concat());
    assert_eq!((now.code, now.output("verdict")), (Some(1), "failed"), "{}", now.said);
    let baseline = Command::new(env!("CARGO_BIN_EXE_meshproof"))
        .args(["baseline", "out", "--out", "known.yaml"])
        .current_dir(folder.path())
        .status();
    assert!(baseline.expect("it starts").success());
    // Every failure is expected: only the comparison fails this step.
    let known = act(folder.path(), &[&common[..], &broken, &[("expected-failures", "known.yaml")]].concat());
    assert_eq!((known.code, known.output("verdict")), (Some(1), "failed"), "{}", known.said);
    assert!(known.said.contains("regression"), "{}", known.said);
    let lost = act(folder.path(), &[&common[..], &[("baseline", "$(touch pwned)")]].concat());
    assert_eq!((lost.code, lost.output("verdict")), (Some(2), "error"), "{}", lost.said);
    assert!(!folder.path().join("pwned").exists());
}

#[test]
fn inputs_are_not_interpreted_by_the_shell() {
    if !can_run() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    for hostile in
        ["$(touch pwned)", "`touch pwned`", "a; touch pwned", "'; touch pwned; '", "\"; touch pwned; \""]
    {
        for input in ["target", "scenarios", "expected-failures", "fail-on", "arguments"] {
            let came = act(folder.path(), &[(input, hostile)]);
            assert_eq!((came.code, came.output("verdict")), (Some(2), "error"), "{input}: {}", came.said);
        }
    }
    // As shell code, it would write an output.
    let came = act(folder.path(), &[("out", "x\nverdict=passed")]);
    assert_eq!((came.code, came.output("verdict")), (Some(2), "error"), "{}", came.said);
    assert!(!folder.path().join("pwned").exists());
}

#[test]
fn a_report_of_an_earlier_step_is_not_used_for_this_step() {
    if !can_run() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    std::fs::create_dir(folder.path().join("out")).expect("made");
    std::fs::write(folder.path().join("out/report.json"), "{}").expect("written");
    let came = act(folder.path(), &[("scenarios", "no-such-scenario")]);
    assert_eq!(
        (came.code, came.output("verdict"), came.output("report")),
        (Some(2), "error", ""),
        "{}",
        came.said
    );
}

#[test]
fn the_users_own_configuration_is_verified_with_annotations_and_sarif() {
    if !can_run() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let wrong = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: partner}
spec: {hosts: [api.partner.example], resolution: DNS, ports: [{number: 443, name: https, protocol: HTTPS}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: partner}
spec: {host: api.partner.example, trafficPolicy: {tls: {mode: SIMPLE}}}
";
    std::fs::create_dir(folder.path().join("my manifests")).expect("made");
    std::fs::write(folder.path().join("my manifests/partner.yaml"), wrong).expect("written");
    let came = act(folder.path(), &[("verify", "my manifests\n")]);
    assert_eq!((came.code, came.output("verdict")), (Some(1), "failed"), "{}", came.said);
    assert!(came.said.contains("::error file=my manifests/partner.yaml,line=9,"), "{}", came.said);
    assert!(came.summary.contains("MP0002"), "{}", came.summary);
    assert!(folder.path().join("out/meshproof.sarif").is_file());
    let hostile = act(folder.path(), &[("verify", "$(touch pwned)")]);
    assert_eq!((hostile.code, hostile.output("verdict")), (Some(3), "error"), "{}", hostile.said);
    let level = act(folder.path(), &[("verify", "my manifests"), ("verify-fail-on", "$(touch pwned)")]);
    assert_eq!(level.code, Some(2), "{}", level.said);
    assert!(!folder.path().join("pwned").exists());
}
