//! The command from a user's point of view: exit codes, messages about bad input, reports.

#![allow(
    clippy::unwrap_used,
    clippy::must_use_candidate,
    reason = "a test says what went wrong by panicking"
)]

mod options;
mod support;

use std::path::Path;

use meshproof_model::Feature;
use serde_json::Value;
use tempfile::TempDir;

use support::{meshproof, ran, report, text};

#[track_caller]
fn refused(arguments: &[&str], code: i32, words: &[&str]) {
    let output = ran(meshproof().args(arguments), code);
    let said = text(&output.stderr);
    for word in words {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
}

#[test]
fn an_unknown_target_lists_the_choices() {
    refused(
        &["run", "--target", "refrence"],
        2,
        &["no target is named \"refrence\"", "did you mean reference?", "the embedded data plane"],
    );
}

#[test]
fn the_target_adapter_without_a_command_is_refused_with_the_form_to_write() {
    for command in [&["run", "--target", "adapter"], &["doctor", "--target", "adapter"]] {
        refused(command, 2, &["--target adapter:COMMAND", "docs/adapters.md"]);
    }
}

#[test]
fn an_unknown_saboteur_is_refused_with_near_names() {
    refused(&["run", "--target", "reference:no-snj"], 2, &["no-sni", "meshproof sabotage --list"]);
    refused(&["sabotage", "no-snj"], 2, &["no-sni", "meshproof sabotage --list"]);
}

#[test]
fn an_unknown_scenario_is_refused_with_near_names() {
    refused(
        &["run", "sidecar-orignation"],
        2,
        &["no scenario is named", "did you mean sidecar-origination", "meshproof list"],
    );
}

#[test]
fn an_unknown_check_is_refused_with_near_names() {
    refused(
        &["run", "sidecar-origination/single-respons"],
        2,
        &["no check of sidecar-origination is named", "did you mean single-response?"],
    );
    refused(&["explain", "sidecar-origination/single-respons"], 2, &["did you mean single-response?"]);
    refused(
        &["explain", "nosuch"],
        2,
        &["nothing is called \"nosuch\"", "meshproof list", "sabotage --list"],
    );
}

#[test]
fn an_unknown_timeout_is_refused_with_the_list_of_timeouts() {
    refused(
        &["run", "--timeout", "requst=2s"],
        2,
        &["no timeout is named \"requst\"", "did you mean request?", "external-service-ready"],
    );
}

#[test]
fn a_timeout_that_is_not_a_duration_is_refused_with_an_example() {
    refused(&["run", "--timeout", "request=soon"], 2, &["\"soon\" is not a duration", "500ms"]);
    refused(&["run", "--timeout", "request=0s"], 2, &["longer than zero"]);
    refused(&["run", "--timeout", "request"], 2, &["NAME=DURATION"]);
}

#[test]
fn an_unknown_option_is_a_usage_error() {
    refused(&["run", "--no-such-option"], 2, &["--no-such-option"]);
    refused(&["run", "--jobs", "0"], 2, &["0"]);
}

#[test]
fn an_out_folder_that_cannot_be_written_to_is_refused_before_the_run() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let out = file.join("below");
    refused(
        &["run", "--out", out.to_str().unwrap()],
        3,
        &["the report's folder", "cannot be written to", "--out DIR"],
    );
}

#[test]
fn an_out_folder_that_is_a_file_is_refused() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    refused(&["run", "--out", file.to_str().unwrap()], 3, &["it is a file, not a folder"]);
}

#[test]
fn a_missing_nginx_is_an_environment_error_that_names_the_fix() {
    let out = TempDir::new().unwrap();
    let output = ran(
        meshproof()
            .args(["run", "sidecar-origination:target-port", "--external", "nginx", "--out"])
            .arg(out.path())
            .env("PATH", "/nonexistent"),
        3,
    );
    let said = unwrapped(&output.stdout);
    assert!(said.contains("nginx") && said.contains("--external embedded"), "{said}");
    let report = report(out.path());
    assert!(report["scenarios"][0]["checks"].as_array().unwrap().iter().all(|c| c["verdict"] == "error"));
}

#[test]
fn an_nginx_that_exits_at_its_start_is_an_environment_error_with_its_output() {
    let folder = TempDir::new().unwrap();
    let program = script(folder.path(), "echo 'nginx: [emerg] this one cannot' >&2; exit 1");
    let output = ran(
        meshproof()
            .args(["run", "egress-gateway-mutual:ecdsa-p256", "--external", "nginx", "--nginx"])
            .arg(&program)
            .arg("--out")
            .arg(folder.path().join("out")),
        3,
    );
    let said = text(&output.stdout);
    assert!(said.contains("this one cannot"), "{said}");
}

/// A program that answers `-v` as nginx does, and otherwise runs this script.
fn script(folder: &Path, body: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("nginx");
    let text = format!(
        "#!/bin/sh\nif [ \"$1\" = -v ]; then echo 'nginx version: nginx/0.0.0' >&2; exit 0; fi\n{body}\n"
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn fixtures(yaml: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let scenario = folder.path().join("sidecar-origination");
    std::fs::create_dir(&scenario).unwrap();
    std::fs::write(scenario.join("target-port-access.yaml"), yaml).unwrap();
    folder
}

#[track_caller]
fn run_with_fixture(yaml: &str, words: &[&str]) {
    let fixtures = fixtures(yaml);
    let output = ran(
        meshproof()
            .args(["run", "-vv", "sidecar-origination:target-port", "--fixtures"])
            .arg(fixtures.path())
            .arg("--out")
            .arg(fixtures.path().join("out")),
        3,
    );
    let said = unwrapped(&output.stdout);
    for word in words {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
}

#[test]
fn a_fixture_that_is_not_yaml_is_an_error_that_names_the_file() {
    run_with_fixture("kind: [", &["target-port-access.yaml", "not valid YAML"]);
}

#[test]
fn a_fixture_that_istio_rejects_is_an_error_that_names_the_resource_and_the_reason() {
    let yaml = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: cnn\nspec:\n  hots: [edition.cnn.com]\n";
    run_with_fixture(yaml, &["Istio rejects ServiceEntry default/cnn", "hots"]);
}

#[test]
fn a_folder_of_fixtures_that_does_not_exist_is_a_usage_error() {
    refused(&["run", "--fixtures", "/nonexistent"], 2, &["/nonexistent", "no such folder"]);
}

#[test]
fn a_folder_of_fixtures_without_a_replacement_causes_a_note() {
    let said = |fixtures: &TempDir, scenario: &str, code: i32| {
        let mut command = meshproof();
        command.args(["run", "-q", "--external", "embedded", scenario, "--fixtures"]).arg(fixtures.path());
        text(&ran(command.arg("--out").arg(fixtures.path().join("out")), code).stderr)
    };
    let fixtures = fixtures("kind: [");
    let note = "replaces a manifest of the selected scenarios";
    let unused = said(&fixtures, "external-web-service", 0);
    assert!(unused.contains(note) && unused.contains("/SCENARIO/NAME.yaml"), "{unused}");
    assert!(!said(&fixtures, "sidecar-origination:target-port", 3).contains(note));
}

#[test]
fn a_file_that_holds_no_certificate_paths_is_refused_before_the_run() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("vectors.json");
    let shown = file.display().to_string();
    refused(&["run", "--vectors", &shown], 2, &["--vectors", &shown]);
    std::fs::write(&file, "{}").unwrap();
    refused(&["run", "--vectors", &shown], 2, &["it is not a file of x509-limbo vectors", "testcases"]);
    std::fs::write(&file, r#"{"testcases": []}"#).unwrap();
    refused(&["run", "--vectors", &shown], 2, &["it holds no vectors"]);
    refused(&["run", "--vectors", &shown, "--matrix", "full"], 2, &["cannot be used with"]);
    let unaskable = r#"{"testcases": [{"id": "a::b", "validation_kind": "SERVER", "peer_certificate": "", "expected_result": "SUCCESS"}]}"#;
    std::fs::write(&file, unaskable).unwrap();
    refused(&["run", "--vectors", &shown], 2, &["none of its vectors can be asked of a proxy"]);
}

#[test]
fn a_run_writes_the_report_that_the_documentation_describes() {
    let out = TempDir::new().unwrap();
    let output = ran(
        meshproof().args(["run", "sidecar-origination", "--external", "embedded", "--out"]).arg(out.path()),
        0,
    );
    assert!(text(&output.stdout).contains("PASSED"));
    let report = report(out.path());
    assert_eq!(report["schema"], "meshproof.report/1");
    assert_eq!(report["implementation"]["name"], "meshproof reference");
    let scenario = &report["scenarios"][0];
    assert_eq!(scenario["id"], "sidecar-origination");
    for check in scenario["checks"].as_array().unwrap() {
        assert!(check["id"].as_str().unwrap().starts_with("sidecar-origination/"), "{check}");
        assert!(check["level"] == "MUST" || check["level"] == "MAY", "{check}");
        assert_eq!(check["verdict"], "passed");
        assert!(!check["reason"].as_str().unwrap().is_empty());
    }
    let page = std::fs::read_to_string(out.path().join("index.html")).unwrap();
    assert!(page.contains("sidecar-origination"));
}

#[test]
fn a_broken_implementation_fails_the_run_and_the_summary_shows_why() {
    let out = TempDir::new().unwrap();
    let output = ran(
        meshproof()
            .args([
                "run",
                "sidecar-origination:target-port/sni-is-host",
                "--target",
                "reference:no-sni",
                "--out",
            ])
            .arg(out.path()),
        1,
    );
    let said = text(&output.stdout);
    for word in [
        "sidecar-origination:target-port/sni-is-host",
        "edition.cnn.com",
        "meshproof run --target reference:no-sni",
    ] {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
}

#[test]
fn quiet_prints_only_the_summary_and_verbose_prints_each_check() {
    let out = TempDir::new().unwrap();
    let run = |flag: &str| {
        let mut command = meshproof();
        command.args(["run", "sidecar-origination:target-port", "--external", "embedded", flag, "--out"]);
        ran(command.arg(out.path()), 0)
    };
    assert_eq!(text(&run("-q").stderr), "");
    assert!(text(&run("-vv").stderr).contains("single-response"));
    assert!(text(&run("-v").stderr).contains("sidecar-origination"));
    refused(&["run", "-q", "-v"], 2, &["cannot be used with"]);
}

#[test]
fn list_names_every_check_with_its_full_id_level_document_and_section() {
    let output = ran(meshproof().args(["list", "--json"]), 0);
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let scenarios = list["scenarios"].as_array().unwrap();
    assert!(scenarios.len() >= 5);
    for scenario in scenarios {
        for check in scenario["checks"].as_array().unwrap() {
            let id = check["id"].as_str().unwrap();
            assert!(id.starts_with(&format!("{}/", scenario["id"].as_str().unwrap())), "{id}");
            for field in ["level", "document", "section"] {
                assert!(check[field].as_str().is_some_and(|s| !s.is_empty()), "{id}: {field}");
            }
        }
    }
    let output = ran(meshproof().arg("list"), 0);
    assert!(text(&output.stdout).contains("egress-gateway-simple/no-bypass"));
}

#[test]
fn explain_shows_requirement_reason_document_evidence_and_saboteurs() {
    let output = ran(meshproof().args(["explain", "egress-gateway-simple/no-bypass"]), 0);
    insta::assert_snapshot!("explain", text(&output.stdout));
}

#[test]
fn list_timeouts_shows_the_condition_of_each_timeout() {
    let output = ran(meshproof().args(["list", "--timeouts"]), 0);
    insta::assert_snapshot!("timeouts", text(&output.stdout));
}

#[test]
fn the_help_shows_commands_and_exit_codes() {
    let output = ran(meshproof().arg("--help"), 0);
    let said = text(&output.stdout);
    for word in ["run", "list", "explain", "sabotage", "doctor", "cleanup", "Exit codes", "Examples"] {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
}

#[test]
fn an_unreachable_cluster_is_an_environment_error_that_says_how_to_choose_another() {
    for command in [
        &["run", "--target", "cluster"] as &[&str],
        &["doctor", "--target", "cluster"],
        &["cleanup", "--target", "cluster"],
    ] {
        let arguments = [command, &["--kubeconfig", "/nowhere/config"]].concat();
        refused(&arguments, 3, &["/nowhere/config", "--kubeconfig FILE", "kubectl config get-contexts"]);
    }
}

#[test]
fn an_unknown_image_is_refused_with_the_known_ones() {
    refused(
        &["run", "--target", "cluster", "--image", "worklod=curl:1"],
        2,
        &["unknown image key \"worklod\"", "did you mean workload?", "external"],
    );
    refused(&["doctor", "--target", "cluster", "--image", "curl"], 2, &["KEY=IMAGE"]);
}

#[test]
fn options_for_clusters_are_refused_without_a_cluster() {
    refused(&["cleanup", "--run", "1"], 2, &["--target"]);
    refused(&["cleanup", "--target", "cluster", "--run", "1", "--all"], 2, &["--all"]);
}

#[test]
fn doctor_checks_other_targets_too() {
    let said = text(&ran(meshproof().args(["doctor", "--target", "reference"]), 0).stdout);
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        said.starts_with(&format!("implementation     meshproof reference\nversion            {version}\n")),
        "{said}"
    );
    for part in ["features           all\n", "external services  ", "A run can work here"] {
        assert!(said.contains(part), "{said}");
    }
}

#[cfg(unix)]
#[test]
fn doctor_names_the_programs_that_it_found() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let program = |name: &str, words: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, format!("#!/bin/sh\necho '{words}'\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        file.display().to_string()
    };
    let envoy = program("envoy", "envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL");
    let nginx = program("nginx", "nginx version: nginx/1.22.1");
    let mut command = meshproof();
    command.args(["doctor", "--target", "envoy"]).env_remove("MESHPROOF_ENVOY").env("PATH", folder.path());
    let said = text(&ran(&mut command, 0).stdout);
    for part in ["implementation     Envoy\n", "version            1.40.0\n", &envoy, &nginx] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn doctor_of_an_adapter_names_its_command_and_its_features() {
    let adapter = r#"sh -c 'read line; echo "{\"type\":\"hello\",\"contract\":1,\"name\":\"shop\",\"version\":\"7\",\"features\":[\"sidecar\"]}"; read line; echo "{\"type\":\"stopped\"}"'"#;
    let said = text(&ran(meshproof().args(["doctor", "--target", &format!("adapter:{adapter}")]), 0).stdout);
    for part in [
        "implementation     shop\nversion            7\nadapter            sh -c",
        &format!("features           1 of {}: sidecar\n", Feature::ALL.len()),
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn several_targets_are_run_one_after_the_other_and_compared() {
    let out = TempDir::new().unwrap();
    let output = ran(
        meshproof()
            .args(["run", "sidecar-origination:target-port", "--external", "embedded"])
            .args(["--target", "reference", "--target", "reference:no-sni", "--out"])
            .arg(out.path()),
        1,
    );
    let said = text(&output.stdout);
    assert!(said.contains("sidecar-origination:target-port/sni-is-host"), "{said}");
    let sound = report(&out.path().join("1-reference"));
    let broken = report(&out.path().join("2-reference-no-sni"));
    assert_eq!(sound["implementation"]["details"], Value::Null);
    assert_eq!(broken["implementation"]["details"]["saboteur"], "no-sni");
    assert!(out.path().join("comparison.html").exists());
}

#[test]
fn a_live_run_needs_a_document_that_names_a_real_host_and_no_other_external_services() {
    let live = |more: &[&str], words: &[&str]| {
        let arguments: Vec<&str> = ["run", "--live"].iter().chain(more).copied().collect();
        refused(&arguments, 2, words);
    };
    live(
        &["egress-gateway-mutual"],
        &[
            "egress-gateway-mutual cannot run with --live",
            "These scenarios can: sidecar-origination, egress-gateway-simple, external-web-service",
        ],
    );
    live(&["--target", "cluster", "sidecar-orignation"], &["did you mean sidecar-origination"]);
    live(&["--external", "nginx"], &["--live", "--external"]);
}

#[test]
fn the_variable_for_a_live_run_means_yes_or_no() {
    let with = |value: &str, code: i32| {
        let folder = TempDir::new().unwrap();
        let mut run = meshproof();
        run.args(["run", "tls-verification", "--out"]).arg(folder.path());
        text(&ran(run.env("MESHPROOF_LIVE", value), code).stderr)
    };
    assert!(with("1", 2).contains("tls-verification cannot run with --live"));
    assert!(with("perhaps", 2).contains("use 1 (or true) or 0 (or false)"));
    with("0", 0);
    with("", 0);
}

#[test]
fn explain_knows_the_check_that_every_scenario_has() {
    let explained =
        text(&ran(meshproof().args(["explain", "tls-verification/runs-until-stopped"]), 0).stdout);
    assert!(explained.contains("runs until the suite stops it"), "{explained}");
    assert!(explained.contains("run tls-verification\n"), "{explained}");
}

/// The text without its line ends: where a line ends depends on the width.
fn unwrapped(bytes: &[u8]) -> String {
    text(bytes).split_whitespace().collect::<Vec<_>>().join(" ")
}
