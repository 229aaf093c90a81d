//! Which servers of a gateway are in force together (`mergeGateways` in pilot/pkg/model/gateway.go).

use serde_json::{Value, json};

use crate::answers::answers;

const SERVICE: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec: {selector: {istio: ingressgateway}, ports: [{port: 15021, name: status}]}
";

/// The listeners of a gateway that each of these resources selects, one server each.
fn listeners(servers: &[&str]) -> Value {
    let mut yaml = SERVICE.to_owned();
    for (i, server) in servers.iter().enumerate() {
        yaml.push_str(&format!(
            "
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: g{i}}}
spec: {{selector: {{istio: ingressgateway}}, servers: [{server}]}}
"
        ));
    }
    let answer = answers(&yaml);
    assert_eq!(answer["accepted"], json!(true), "{answer}");
    answer["proxies"]["istio-ingressgateway"]["listeners"].clone()
}

const HTTP: &str = "{port: {number: 443, name: a, protocol: GRPC}, hosts: [a.test]}";
const HTTP_ON_LOOPBACK: &str =
    "{port: {number: 443, name: a, protocol: GRPC}, hosts: [a.test], bind: 127.0.0.1}";
const BYTES: &str = "{port: {number: 443, name: b, protocol: TCP}, hosts: [a.test]}";
const BYTES_ON_EVERY_ADDRESS: &str =
    "{port: {number: 443, name: b, protocol: MONGO}, hosts: [a.test], bind: 0.0.0.0}";
const TERMINATES: &str =
    "{port: {number: 443, name: c, protocol: HTTPS}, hosts: [c.test], tls: {mode: ISTIO_MUTUAL}}";

fn has_tls(listeners: &Value) -> bool {
    listeners.pointer("/443/c.test/tls") == Some(&json!("mesh-mutual"))
}

#[test]
fn tls_is_left_out_beside_plain_text_of_the_same_port_and_address() {
    assert!(has_tls(&listeners(&[TERMINATES])));
    assert!(!has_tls(&listeners(&[HTTP, TERMINATES])));
    assert!(has_tls(&listeners(&[HTTP_ON_LOOPBACK, TERMINATES])));
}

#[test]
fn the_last_server_of_plain_text_alone_decides_whether_tls_has_its_place() {
    // The server of bytes came last, on the address of the server with TLS.
    assert!(!has_tls(&listeners(&[HTTP_ON_LOOPBACK, BYTES, TERMINATES])));
    // Here it is on an address that is written in another way, so that HTTP on the same one is forgotten.
    assert!(has_tls(&listeners(&[HTTP, BYTES_ON_EVERY_ADDRESS, TERMINATES])));
}

#[test]
fn a_server_of_another_address_takes_the_routes_of_an_older_one_of_the_same_name() {
    let http = |host: &str, protocol: &str, bind: &str| {
        format!(
            "{{port: {{number: 80, name: p, protocol: {protocol}}}, hosts: [{host}]{bind}, tls: {{httpsRedirect: true}}}}"
        )
    };
    let first = http("a.test", "HTTP", "");
    let between = http("b.test", "HTTP", ", bind: 127.0.0.1");
    let last = http("c.test", "HTTP2", "");
    let hosts = |servers: &[&str]| -> Vec<String> {
        let found = listeners(servers);
        let http = found["80"]["*"]["http"].as_object().cloned().unwrap_or_default();
        http.into_iter().map(|(host, _)| host).collect()
    };
    assert_eq!(hosts(&[&first, &last]), ["a.test", "c.test"]);
    assert_eq!(hosts(&[&first, &between, &last]), ["c.test"]);
}

#[test]
fn a_ca_of_its_own_counts_beside_a_credential_alone() {
    let ca = |certificate: &str| {
        let server = format!(
            "{{port: {{number: 443, name: c, protocol: HTTPS}}, hosts: [c.test], \
              tls: {{mode: MUTUAL, caCertCredentialName: own-cacert, {certificate}}}}}"
        );
        listeners(&[&server])["443"]["c.test"]["tls"]["client_ca"].clone()
    };
    assert_eq!(ca("credentialName: c"), json!("kubernetes://own-cacert"));
    let files = "serverCertificate: /c.pem, privateKey: /k.pem, caCertificates: /ca.pem";
    assert_eq!(ca(files), json!("file-root:/ca.pem"));
}

#[test]
fn a_virtual_service_that_names_a_gateway_twice_is_bound_to_it_twice() {
    let yaml = format!(
        "{SERVICE}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: g}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [a.test]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: v}}
spec:
  hosts: [a.test]
  gateways: [g, default/g]
  http: [{{directResponse: {{status: 418}}}}]
"
    );
    let answer = answers(&yaml);
    let routes = &answer["proxies"]["istio-ingressgateway"]["listeners"]["80"]["*"]["http"]["a.test"];
    assert_eq!(routes.as_array().map(Vec::len), Some(2), "{answer}");
}

#[test]
fn of_two_chains_for_one_server_name_the_last_is_in_the_answer() {
    let of_namespace = "{port: {number: 443, name: a, protocol: HTTPS}, hosts: [default/c.test], \
                        tls: {mode: SIMPLE, credentialName: first}}";
    let of_any = "{port: {number: 443, name: b, protocol: HTTPS}, hosts: [c.test], \
                  tls: {mode: SIMPLE, credentialName: second}}";
    let certificates = listeners(&[of_namespace, of_any]).pointer("/443/c.test/tls/certs").cloned();
    assert_eq!(certificates, Some(json!(["kubernetes://second"])));
}
