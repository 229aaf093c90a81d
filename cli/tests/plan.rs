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

#[test]
fn a_file_that_is_not_there_or_not_yaml_is_named() {
    let missing = ran(meshproof().args(["plan", "-f", "no-such.yaml"]), 3);
    assert!(text(&missing.stderr).contains("no-such.yaml cannot be read"), "{missing:?}");
    let (_, said) = planned("a: [", &[], 2);
    assert!(said.contains("not valid YAML"), "{said}");
}
