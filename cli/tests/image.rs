//! The image of the Dockerfile: made of the program under test without a registry, it serves and sends as in a cluster's pods. Tests
//! are skipped without a container engine; `MESHPROOF_REQUIRE_CONTAINERS=1` turns a skip into a failure.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

#[path = "support/judged.rs"]
mod judged;

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, OnceLock};

use meshproof_harness::external::ExternalChoice;
use meshproof_harness::runner::{self, Options};
use meshproof_harness::select::select;
use meshproof_local::LocalTarget;
use meshproof_local::external::ServeProgram;
use meshproof_reference::Reference;
use meshproof_scenarios::ALL;
use serde_json::Value;

use judged::not_passed;

const IMAGE: &str = "meshproof:test";
/// What a pod may do at most: nothing that a restricted namespace forbids.
const RESTRICTED: [&str; 5] = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];

fn docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Makes the image once. Prints a reason and returns false if there is no container engine and none is required.
fn image() -> bool {
    static MADE: OnceLock<bool> = OnceLock::new();
    *MADE.get_or_init(|| {
        let engine = Command::new("docker").arg("info").output().is_ok_and(|o| o.status.success());
        if !engine {
            let required = std::env::var("MESHPROOF_REQUIRE_CONTAINERS").is_ok_and(|v| v == "1");
            assert!(
                !required,
                "containers are required by MESHPROOF_REQUIRE_CONTAINERS=1, and docker does not answer"
            );
            #[expect(clippy::print_stdout, reason = "the output of the tests shows what was skipped")]
            {
                println!("skipped: no container engine answers");
            }
            return false;
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/suite-image");
        let program = assert_cmd::cargo::cargo_bin("meshproof");
        said(&Command::new(script).arg(program).arg(IMAGE).output().unwrap());
        true
    })
}

#[test]
fn its_user_is_a_number_and_not_root_and_its_entry_point_is_the_program() {
    if !image() {
        return;
    }
    let config: Value =
        serde_json::from_str(&said(&docker(&["image", "inspect", "--format", "{{json .Config}}", IMAGE])))
            .unwrap();
    let (user, _) = config["User"].as_str().unwrap().split_once(':').unwrap();
    assert!(user.parse::<u32>().unwrap() > 0);
    assert_eq!(config["Entrypoint"][0], "/usr/local/bin/meshproof");
    let run = [&["run", "--rm", "--network", "none"], &RESTRICTED[..], &[IMAGE, "--version"]].concat();
    assert_eq!(said(&docker(&run)).trim(), format!("meshproof {}", env!("CARGO_PKG_VERSION")));
    // A Sonobuoy plugin is a shell script.
    let shell =
        ["run", "--rm", "--network", "none", "--entrypoint", "/bin/sh", IMAGE, "-c", "printf %s done"];
    assert_eq!(said(&docker(&shell)), "done");
}

#[test]
fn a_pod_that_waits_ends_when_it_is_asked_to() {
    if !image() {
        return;
    }
    let name = format!("meshproof-test-{}", std::process::id());
    let run = [
        &["run", "--rm", "--name", &name, "--network", "none"],
        &RESTRICTED[..],
        &[IMAGE, "serve", "--wait"],
    ];
    let mut waiting = Command::new("docker").args(run.concat()).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(waiting.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let stopped = docker(&["stop", "--time", "20", &name]);
    let ended = waiting.wait().unwrap();
    said(&stopped);
    assert_eq!(ready, "waiting for a signal to stop\n");
    // Killed after the grace period, it would be 137.
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_and_sends_for_a_run() {
    if !image() {
        return;
    }
    let run = [
        &["docker", "run", "--rm", "--interactive", "--network", "host"],
        &RESTRICTED[..],
        &[IMAGE, "serve"],
    ];
    let program = ServeProgram(run.concat().into_iter().map(OsString::from).collect());
    let target = LocalTarget::new(Arc::new(Reference::new()), None).served_by(Some(program));
    let selectors = ["sidecar-origination:target-port", "traffic-fidelity:sidecar"].map(str::to_owned);
    let options = Options::new(Arc::new(target), select(&ALL, &selectors).unwrap());
    let report = runner::run(Options { external: ExternalChoice::Embedded, ..options }).await.unwrap();
    let wrong = not_passed(&report);
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(report.checks().count() > 20);
}
