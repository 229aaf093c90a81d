//! `meshproof verify`: files in, findings and flows out.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

#[path = "support/fake_api.rs"]
mod fake_api;
mod support;

use std::collections::BTreeMap;

use fake_api::FakeApi;
use serde_json::{Value, json};

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
fn every_format_has_the_checks_of_the_proof_and_each_can_be_repeated_alone() {
    const CHECK: &str = "verify:only/1-sleep-api-partner-example-originated";
    let manifest = format!("{ENTRY}{RULE}");
    let of =
        |arguments: &[&str]| verified(&manifest, &[&["--target", "reference:no-sni"], arguments].concat(), 1);
    let (out, _) = of(&["--format", "json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    let checks = json["proof"]["scenarios"][0]["checks"].as_array().unwrap();
    let failed: Vec<&Value> = checks.iter().filter(|c| c["verdict"] == "failed").map(|c| &c["id"]).collect();
    assert_eq!(failed[0], "verify/1-sleep-api-partner-example-originated", "{failed:?}");
    assert!(!json["proof"]["scenarios"][0]["evidence"].as_array().unwrap().is_empty());
    for (format, part) in [
        ("junit", "1-sleep-api-partner-example-originated"),
        ("markdown", "server name (SNI)"),
        ("github", "::error title=MUST failed%3A verify%3Aonly/1-"),
        ("html", "What real requests showed"),
    ] {
        let (out, _) = of(&["--format", format]);
        assert!(out.contains(part), "{format}: {out}");
    }
    let (out, _) = of(&[CHECK]);
    assert!(out.contains("0 of 1 MUST check passed, 1 failed"), "{out}");
    assert!(out.contains(&format!("meshproof verify -f - --target reference:no-sni {CHECK}")), "{out}");
    let (_, said) = verified(&manifest, &["verify:only/1-sleep-api-partner-example-orginated"], 2);
    assert!(said.contains("did you mean"), "{said}");
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

/// A gateway that ends the TLS of its clients in front of the origination.
const SHOP: &str = "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [shop.example.com]
    tls: {mode: MUTUAL, credentialName: shop-certificate}
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [shop.example.com]
    tls: {httpsRedirect: true}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop.example.com]
  gateways: [shop]
  http:
  - rewrite: {authority: api.partner.example}
    route: [{destination: {host: api.partner.example, port: {number: 80}}}]
";

/// The verdicts of the checks of a proof, by the last parts of their ids.
fn proved(manifest: &str, target: &str) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let of_target = ["verify", "-f", "-", "--target", target, "--out", path];
    meshproof().args(of_target).write_stdin(manifest).output().unwrap();
    let report = std::fs::read(folder.path().join("report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    let checks = report["scenarios"][0]["checks"].as_array().unwrap().iter();
    let name = |check: &Value| check["id"].as_str().unwrap().trim_start_matches("verify/").to_owned();
    checks.map(|c| (name(c), c["verdict"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn a_proof_sends_tls_to_gateways_and_through_sidecars() {
    let own = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: own}
spec:
  hosts: [own.example.com]
  resolution: DNS
  ports: [{number: 443, name: https, protocol: HTTPS}]
";
    let manifest = format!("{ENTRY}{}{SHOP}{own}", RULE);
    let passed = proved(&manifest, "reference");
    for check in [
        "own-example-com-own-tls-kept",
        "shop-example-com-answered-as-found",
        "shop-example-com-originated",
        "shop-example-com-gateway-certificate",
        "shop-example-com-no-client-certificate-refused",
        "shop-example-com-wrong-name-refused",
        "every-request-accounted-for",
    ] {
        let of_check: Vec<_> = passed.iter().filter(|(id, _)| id.ends_with(check)).collect();
        assert!(!of_check.is_empty() && of_check.iter().all(|(_, v)| *v == "passed"), "{check}: {passed:#?}");
    }
    for (saboteur, check) in [
        ("gateway-asks-no-client", "no-client-certificate-refused"),
        ("gateway-with-mesh-certificate", "gateway-certificate"),
        ("no-https-redirect", "answered-as-found"),
        ("block-passthrough-https", "own-tls-kept"),
        ("terminate-application-tls", "own-tls-kept"),
    ] {
        let with = proved(&manifest, &format!("reference:{saboteur}"));
        let noticed = with.iter().any(|(id, verdict)| id.ends_with(check) && verdict == "failed");
        assert!(noticed, "{saboteur}: {with:#?}");
    }
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
        "{number: 5432, name: tcp, protocol: TCP}",
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

/// A cluster with a workload `cart` in namespace `shop`, and these TLS settings for port 80 of a partner.
fn cluster(port: u16, tls: &Value) -> FakeApi {
    let object = |name: &str, spec: Value| {
        json!({"metadata": {"name": name, "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": spec})
    };
    let mut pod = object("cart-1", json!({"containers": [{"name": "istio-proxy"}]}));
    pod["metadata"]["labels"] = json!({"app": "cart"});
    let entry = json!({"hosts": ["api.partner.example"], "resolution": "DNS",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 443}]});
    let settings = json!([{"port": {"number": port}, "tls": tls}]);
    let rule = json!({"host": "api.partner.example", "trafficPolicy": {"portLevelSettings": settings},
        "workloadSelector": {"matchLabels": {"app": "cart"}}});
    let secret = json!({"metadata": {"name": "partner", "namespace": "shop"},
        "data": {"tls.crt": "Q0VSVA==", "tls.key": "UFJJVkFURS1LRVk=", "ca.crt": "Q0E="}});
    FakeApi::with(BTreeMap::from([
        ("/api/v1/pods", json!([pod])),
        ("/apis/networking.istio.io/v1/serviceentries", json!([object("partner", entry)])),
        ("/apis/networking.istio.io/v1/destinationrules", json!([object("partner", rule)])),
        ("/api/v1/namespaces/shop/secrets/partner", secret),
    ]))
}

fn verified_in(api: &FakeApi, arguments: &[&str], code: i32) -> (String, String) {
    let mut command = meshproof();
    command.args(["verify", "--target", "cluster", "--namespace", "shop", "--kubeconfig"]);
    let output = ran(command.arg(api.kubeconfig()).args(arguments), code);
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn what_is_in_force_in_a_cluster_is_read_judged_and_not_changed() {
    let mutual = json!({"mode": "MUTUAL", "credentialName": "partner"});
    let api = cluster(443, &mutual);
    let (out, _) = verified_in(&api, &["--static"], 1);
    let place = "DestinationRule shop/partner spec.trafficPolicy.portLevelSettings[0].port.number";
    assert!(out.contains("error MP0003") && out.contains(place), "{out}");
    assert!(out.contains("in namespace shop of the cluster of the current context"), "{out}");
    let asked = api.asked();
    assert!(asked.iter().all(|one| one.starts_with("GET ")), "{asked:?}");
    let (out, _) = verified_in(&api, &["--static", "--format", "github"], 1);
    assert!(out.starts_with("::error title=MP0003"), "{out}");
    for format in ["text", "json", "sarif", "markdown", "html", "junit"] {
        let (out, said) = verified_in(&api, &["--static", "--format", format], 1);
        assert!(
            !out.contains("PRIVATE-KEY") && !out.contains("UFJJVkFURS1LRVk") && !said.contains("PRIVATE")
        );
    }
    let skips = json!({"mode": "SIMPLE", "insecureSkipVerify": true});
    let api = cluster(80, &skips);
    verified_in(&api, &["--static"], 0);
    verified_in(&api, &["--static", "--fail-on", "warning"], 1);
    let (out, _) = verified_in(&api, &["--ask", "cart-1 http://api.partner.example/"], 0);
    assert!(out.contains("DestinationRule shop/partner") || out.contains("opens TLS"), "{out}");
}

#[test]
fn a_copy_of_what_is_in_force_is_proved_on_this_machine_and_the_output_says_so() {
    let api = cluster(80, &json!({"mode": "MUTUAL", "credentialName": "partner"}));
    let (out, said) = verified_in(&api, &[], 0);
    assert!(said.contains("the proof runs on this machine (reference), with a copy"), "{said}");
    assert!(out.contains("PASSED"), "{out}");
    assert!(api.asked().iter().all(|one| one.starts_with("GET ")), "{:?}", api.asked());
}

#[test]
fn a_cluster_needs_a_namespace_and_files_need_none() {
    let refused = |arguments: &[&str]| {
        let output = ran(meshproof().arg("verify").args(arguments), 2);
        text(&output.stderr)
    };
    assert!(refused(&["-f", "x.yaml", "--target", "cluster"]).contains("add --namespace NAMESPACE"));
    assert!(refused(&["--namespace", "shop"]).contains("add --target cluster"));
    assert!(refused(&["-f", "x.yaml", "--namespace", "shop"]).contains("cannot be used with"));
    assert!(refused(&["--static"]).contains("--file"));
    assert!(refused(&["-f", "x.yaml", "--context", "a"]).contains("--context is for a cluster"));
    let empty = FakeApi::with(BTreeMap::new());
    let (_, said) = verified_in(&empty, &["--static"], 2);
    assert!(said.contains("Check the name with `kubectl get namespaces`"), "{said}");
}
