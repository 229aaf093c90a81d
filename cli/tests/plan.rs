//! `meshproof plan`: resources in, what Istio makes of them out.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod support;

use serde_json::Value;

use support::{meshproof, ran, text};

const ORIGINATES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: cnn}
spec:
  hosts: [edition.cnn.com]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cnn}
spec:
  host: edition.cnn.com
  trafficPolicy: {tls: {mode: SIMPLE}}
";
const CLUSTER: &str = "outbound|80||edition.cnn.com";

fn planned(manifest: &str, arguments: &[&str], code: i32) -> (String, String) {
    let output = ran(meshproof().args(["plan", "-f", "-"]).args(arguments).write_stdin(manifest), code);
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_plan_as_json_has_each_proxys_listeners_and_clusters() {
    let (out, _) = planned(ORIGINATES, &["--format", "json"], 0);
    let plan: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(plan["accepted"], true);
    let sleep = &plan["proxies"]["sleep"];
    assert!(sleep["listeners"].get("80").is_some(), "{out}");
    assert!(!sleep["clusters"][CLUSTER]["tls"].is_null(), "{out}");
}

#[test]
fn the_plan_as_text_is_a_tree() {
    let (out, _) = planned(ORIGINATES, &[], 0);
    assert!(out.contains("accepted: true\n"), "{out}");
    assert!(out.contains("\n  sleep:\n    "), "{out}");
    assert!(out.contains(CLUSTER), "{out}");
}

#[test]
fn a_gateway_without_its_service_is_shown_and_the_assumption_named() {
    let gateway = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress, namespace: istio-system}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [edition.cnn.com]}]
---";
    let files = format!("{gateway}{ORIGINATES}");
    let (out, err) = planned(&files, &[], 0);
    assert!(out.contains("\n  istio-egressgateway:\n    listeners:\n      80:\n"), "{out}");
    assert!(err.contains("assumed: the Service istio-system/istio-egressgateway"), "{err}");
    let (json, _) = planned(&files, &["--format", "json"], 0);
    assert!(!json.contains("istio-egressgateway"), "only what istiod would be given: {json}");
}

#[test]
fn a_resource_that_istio_rejects_is_the_answer_and_an_exit_code() {
    let refused = ORIGINATES.replace("hosts: [edition.cnn.com]", "hosts: ['*']");
    let (out, _) = planned(&refused, &[], 1);
    assert!(out.contains("accepted: false\n") && out.contains("invalid host *"), "{out}");
}

/// What the documents print and today's API server or istiod refuses; and the version that they print, which is still served.
#[test]
fn the_spelling_of_the_documents_differs_from_what_istio_accepts_today() {
    let old = ORIGINATES.replace("networking.istio.io/v1\n", "networking.istio.io/v1alpha3\n");
    let (out, _) = planned(&old, &[], 0);
    assert!(out.contains("accepted: true\n") && out.contains(CLUSTER), "{out}");

    let route = "
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: edition-cnn-com}
spec:
  hosts: [edition.cnn.com]
  tls:
  - match: [{port: 443, sniHosts: [edition.cnn.com]}]
    route: [{destination: {host: edition.cnn.com, port: {number: 443}}, weight: 100}]
";
    let (out, _) = planned(&format!("{old}---{route}"), &[], 0);
    assert!(out.contains("accepted: true\n"), "{out}");
    let printed = route.replace("sniHosts", "sni_hosts");
    let (out, _) = planned(&format!("{old}---{printed}"), &[], 1);
    assert!(out.contains("accepted: false\n") && out.contains("sniHosts: Required value"), "{out}");

    let without_hosts = "
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: s3}
spec:
  gateways: [example-gateway]
  http: [{match: [{uri: {prefix: /}}], route: [{destination: {host: welcome, port: {number: 8080}}}]}]
";
    let (out, _) = planned(without_hosts, &[], 1);
    assert!(out.contains("delegate virtual service must have no gateways specified"), "{out}");
}

#[test]
fn what_meshproof_does_not_support_is_named_beside_the_answer() {
    let tunnel = ORIGINATES.replace(
        "trafficPolicy: {tls: {mode: SIMPLE}}",
        "trafficPolicy: {tunnel: {targetHost: a.example.com, targetPort: 443}}",
    );
    let (_, said) = planned(&tunnel, &[], 0);
    assert!(said.contains("meshproof does not support"), "{said}");
}

#[test]
fn the_meshs_settings_are_read_from_its_config_map() {
    let settings = "
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    outboundTrafficPolicy: {mode: REGISTRY_ONLY}
";
    let (out, _) = planned(&format!("{ORIGINATES}{settings}"), &["--format", "json"], 0);
    assert!(out.contains("BlackHoleCluster") && !out.contains("PassthroughCluster"), "{out}");
}

#[test]
fn a_private_key_is_not_printed() {
    let secret = "
---
apiVersion: v1
kind: Secret
metadata: {name: c}
stringData: {tls.crt: CERTIFICATE, tls.key: PRIVATE-KEY}
";
    for format in ["text", "json"] {
        let (out, said) = planned(&format!("{ORIGINATES}{secret}"), &["--format", format], 0);
        assert!(!out.contains("PRIVATE-KEY") && !said.contains("PRIVATE-KEY"), "{out}{said}");
    }
}

/// The commands that read files say and return the same of input that they cannot read.
fn refused(arguments: &[&str], input: &str, code: i32) -> String {
    let said = ["plan", "verify"].map(|command| {
        let output = ran(meshproof().arg(command).args(arguments).write_stdin(input), code);
        assert!(text(&output.stdout).is_empty(), "{command}: {output:?}");
        text(&output.stderr)
    });
    assert_eq!(said[0], said[1], "plan and verify read alike");
    said[0].clone()
}

#[test]
fn input_that_cannot_be_read_is_named_with_the_fix_as_by_verify() {
    let said = refused(&["-f", "no-such.yaml"], "", 3);
    assert!(said.contains("no-such.yaml cannot be read") && said.contains("Check the name"), "{said}");

    let stdin = ["-f", "-"];
    let said = refused(&stdin, "a: [", 2);
    assert!(said.contains("standard input is not valid YAML: line 1"), "{said}");
    let twice =
        ORIGINATES.replace("kind: DestinationRule\n", "kind: DestinationRule\nkind: DestinationRule\n");
    let said = refused(&stdin, &twice, 2);
    assert!(said.contains("duplicate") && said.contains("line 12") && said.contains("Correct"), "{said}");
    let said = refused(&stdin, "---\n---\n# nothing\n", 2);
    assert!(said.contains("standard input: no Kubernetes resource found"), "{said}");
    let said = refused(&stdin, "kind: Service\nmetadata: {name: a}\n", 2);
    assert!(said.contains("standard input:1") && said.contains("`apiVersion` is missing"), "{said}");

    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().to_str().unwrap();
    let said = refused(&["-f", name], "", 2);
    assert!(said.contains(name) && said.contains("holds no *.yaml"), "{said}");
    let binary = folder.path().join("a.yaml");
    std::fs::write(&binary, [0_u8, 1, 2]).unwrap();
    let said = refused(&["-f", name], "", 2);
    assert!(said.contains("a.yaml is not text"), "{said}");
}

#[test]
fn a_folder_is_read_with_its_folders_and_what_is_no_resource_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = ORIGINATES.split_once("---\n").unwrap();
    std::fs::create_dir(folder.path().join("inner")).unwrap();
    std::fs::write(folder.path().join("a.yaml"), first).unwrap();
    std::fs::write(folder.path().join("inner/b.yml"), second).unwrap();
    std::fs::write(folder.path().join("values.yaml"), "replicas: 1\n").unwrap();
    let output = ran(meshproof().args(["plan", "-f", folder.path().to_str().unwrap()]), 0);
    assert!(text(&output.stdout).contains(CLUSTER), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("values.yaml") && said.contains("not a Kubernetes resource"), "{said}");
}

#[test]
fn of_two_resources_of_one_name_the_last_counts_in_the_place_of_the_first() {
    let again = ORIGINATES.split_once("---\n").unwrap().1.replace("SIMPLE", "DISABLE");
    let (out, said) = planned(&format!("{ORIGINATES}---\n{again}"), &["--format", "json"], 0);
    let plan: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(plan["proxies"]["sleep"]["clusters"][CLUSTER]["tls"], Value::Null, "{out}");
    assert_eq!(plan["verdicts"].as_array().map(Vec::len), Some(2), "{out}");
    assert!(said.contains("DestinationRule default/cnn comes again at standard input:"), "{said}");
}

#[test]
fn a_list_and_json_are_read_as_kubectl_prints_them() {
    let item = serde_json::json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "cnn"},
        "spec": {"hosts": ["edition.cnn.com"], "resolution": "DNS",
                 "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]},
    });
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [item]});
    let (out, _) = planned(&list.to_string(), &[], 0);
    assert!(out.contains(CLUSTER), "{out}");
}
