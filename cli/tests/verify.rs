//! `meshproof verify`: files in, findings and flows out.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod support;

use serde_json::Value;

use support::{meshproof, ran, text};

const ENTRY: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: partner}
spec:
  hosts: [api.partner.example]
  resolution: DNS
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
---
";
const RULE: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: partner}
spec:
  host: api.partner.example
  trafficPolicy:
    portLevelSettings:
    - port: {number: 80}
      tls: {mode: SIMPLE}
";

fn verified(manifest: &str, arguments: &[&str], code: i32) -> (String, String) {
    let output = ran(meshproof().args(["verify", "-f", "-"]).args(arguments).write_stdin(manifest), code);
    (text(&output.stdout), text(&output.stderr))
}

fn wrong() -> String {
    format!("{ENTRY}{}", RULE.replace("{number: 80}", "{number: 443}"))
}

#[test]
fn a_correct_configuration_has_flows_and_no_finding() {
    let (out, _) = verified(&format!("{ENTRY}{RULE}"), &["--static"], 0);
    assert!(out.contains("0 errors, 0 warnings"), "{out}");
    assert!(out.contains("opens TLS, server name api.partner.example"), "{out}");
}

#[test]
fn an_error_is_an_exit_code_and_names_line_and_fix() {
    let (out, _) = verified(&wrong(), &["--static"], 1);
    assert!(out.contains("error MP0003") && out.contains("standard input:16:"), "{out}");
    assert!(out.contains("value: 80") && out.contains("docs/findings/MP0003.md"), "{out}");
}

#[test]
fn the_severity_that_fails_is_chosen() {
    let skips = format!("{ENTRY}{}", RULE.replace("mode: SIMPLE", "mode: SIMPLE, insecureSkipVerify: true"));
    verified(&skips, &["--static"], 0);
    verified(&skips, &["--static", "--fail-on", "warning"], 1);
    verified(ENTRY, &["--static", "--fail-on", "warning"], 0);
    verified(ENTRY, &["--static", "--fail-on", "note"], 1);
}

#[test]
fn every_format_is_written_beside_another() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.sarif");
    let write = format!("sarif={}", file.display());
    let (out, _) = verified(&wrong(), &["--static", "--format", "json", "--write", &write], 1);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["findings"][0]["code"], "MP0003");
    let sarif: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "MP0003");
    for format in ["junit", "markdown", "github", "html"] {
        let (out, _) = verified(&wrong(), &["--static", "--format", format], 1);
        assert!(out.contains("MP0003"), "{format}: {out}");
    }
}

#[test]
fn a_question_shows_each_decision_with_its_line() {
    let (out, _) = verified(&format!("{ENTRY}{RULE}"), &["--ask", "sleep http://api.partner.example/x"], 0);
    assert!(out.contains("it opens TLS with server name api.partner.example (standard input:17:"), "{out}");
    assert!(out.contains("it connects to api.partner.example:443 (standard input:7:"), "{out}");
    let (_, said) = verified(ENTRY, &["--ask", "http://api.partner.example/"], 2);
    assert!(said.contains("is not a question"), "{said}");
    let (_, said) = verified(ENTRY, &["--ask", "cart http://api.partner.example/"], 2);
    assert!(said.contains("no proxy is called cart. The proxies are: sleep.default"), "{said}");
}

#[test]
fn folders_are_read_and_bad_input_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let empty = ran(meshproof().args(["verify", "--static", "-f", path]), 2);
    assert!(text(&empty.stderr).contains("holds no *.yaml, *.yml or *.json file"), "{empty:?}");
    std::fs::create_dir(folder.path().join("a")).unwrap();
    std::fs::write(folder.path().join("a/entry.yaml"), ENTRY).unwrap();
    std::fs::write(folder.path().join("rule.yml"), RULE).unwrap();
    std::fs::write(folder.path().join("values.yaml"), "replicas: 1\n").unwrap();
    std::fs::write(folder.path().join("notes.txt"), "a: [").unwrap();
    let read = ran(meshproof().args(["verify", "--static", "-f", path]), 0);
    assert!(text(&read.stdout).contains("2 resources in 3 files"), "{read:?}");
    std::fs::write(folder.path().join("bin.yaml"), [0u8, 159, 146]).unwrap();
    let binary = ran(meshproof().args(["verify", "--static", "-f", path]), 2);
    assert!(text(&binary.stderr).contains("bin.yaml is not text"), "{binary:?}");
    let missing = ran(meshproof().args(["verify", "--static", "-f", "no-such.yaml"]), 3);
    assert!(text(&missing.stderr).contains("no-such.yaml cannot be read"), "{missing:?}");
}

#[test]
fn a_private_key_is_not_printed() {
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: c}\nstringData: {tls.crt: CERT, tls.key: PRIVATE-KEY}\n";
    for format in ["text", "json", "html", "markdown", "sarif"] {
        let (out, said) = verified(&format!("{}{secret}", wrong()), &["--static", "--format", format], 1);
        assert!(!out.contains("PRIVATE-KEY") && !said.contains("PRIVATE-KEY"), "{out}{said}");
    }
}

#[test]
fn real_requests_prove_origination_and_what_a_proxy_refuses() {
    let (out, said) = verified(&format!("{ENTRY}{RULE}"), &[], 0);
    assert!(out.contains("passed"), "{out}{said}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    verified(&format!("{ENTRY}{RULE}"), &["--out", path], 0);
    let report: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("report.json")).unwrap()).unwrap();
    let checks = report["scenarios"][0]["checks"].as_array().unwrap().clone();
    let passed =
        |id: &str| checks.iter().any(|c| c["id"].as_str().unwrap().ends_with(id) && c["verdict"] == "passed");
    for id in [
        "originated",
        "no-plaintext",
        "wrong-ca-refused",
        "wrong-name-refused",
        "expired-refused",
        "access-log",
    ] {
        assert!(passed(id), "{id}: {checks:#?}");
    }
    assert!(folder.path().join("junit.xml").is_file() && folder.path().join("index.html").is_file());
}

#[test]
fn the_page_and_junit_of_a_proof_come_to_the_conclusion_of_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    verified(&wrong(), &["--out", path], 1);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let page = read("index.html");
    assert!(page.contains("MP0003") && !page.contains("does what the documents promise"), "{page}");
    let junit = read("junit.xml");
    assert!(junit.contains("<failure") && junit.contains("mp0003"), "{junit}");
}

#[test]
fn a_proof_without_a_request_that_it_can_send_does_not_pass() {
    let own = ENTRY.replace(
        "{number: 80, name: http, protocol: HTTP, targetPort: 443}",
        "{number: 443, name: https, protocol: HTTPS}",
    );
    let (_, said) = verified(&own, &[], 3);
    assert!(
        said.contains("no request of this configuration can be proved") && said.contains("--static"),
        "{said}"
    );
    verified(&own, &["--static"], 0);
}

#[test]
fn options_that_a_question_does_not_follow_are_refused() {
    let question = ["--ask", "sleep http://api.partner.example/"];
    for more in [["--format", "json"], ["--write", "json=a.json"], ["--out", "o"]] {
        verified(ENTRY, &[question, more].concat(), 2);
    }
}

#[test]
fn a_finding_is_proved_by_a_request_that_does_what_it_says() {
    let (out, said) = verified(&wrong(), &[], 1);
    assert!(out.contains("Proof: a real request arrived in plain text, as found"), "{out}{said}");
}
