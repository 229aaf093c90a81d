//! Secrets (pilot/pkg/credentials/kube/secrets.go, pilot/pkg/xds/sds.go).

use meshproof_plan::model::Credential;

use crate::world::{EGRESS, NGINX, SLEEP, World};

fn through_gateway(mode: &str, name: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: g}}
spec:
  selector: {{istio: egressgateway}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: nginx}}
spec:
  hosts: [{NGINX}]
  gateways: [g]
  http: [{{route: [{{destination: {{host: {NGINX}, port: {{number: 443}}}}}}]}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: nginx, namespace: istio-system}}
spec:
  host: {NGINX}
  trafficPolicy: {{tls: {{mode: {mode}, credentialName: '{name}'}}}}
"
    )
}

fn secret(name: &str, namespace: &str, data: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: {namespace}}}
stringData: {data}
"
    )
}

fn found_as(credential_name: &str, secrets: &[String]) -> Option<Credential> {
    let manifest = format!("{}{}", through_gateway("MUTUAL", credential_name), secrets.concat());
    let resolution = World::new().resolve(&manifest);
    assert!(!resolution.credentials.contains_key(SLEEP));
    resolution.credentials.get(EGRESS).map(|all| match all.as_slice() {
        [one] => one.clone(),
        several => panic!("{several:?}"),
    })
}

fn found(secrets: &[String]) -> Option<Credential> {
    found_as("c", secrets)
}

fn credential(
    certificate: Option<&str>,
    key: Option<&str>,
    ca: Option<&str>,
    crl: Option<&str>,
) -> Credential {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Credential {
        name: "c".to_owned(),
        certificate: owned(certificate),
        key: owned(key),
        ca: owned(ca),
        crl: owned(crl),
    }
}

#[test]
fn a_secret_counts_in_the_proxys_namespace_alone() {
    let data = "{tls.crt: C, tls.key: K, ca.crt: CA}";
    assert_eq!(found(&[]), None);
    assert_eq!(found(&[secret("c", "default", data)]), None);
    let wanted = credential(Some("C"), Some("K"), Some("CA"), None);
    assert_eq!(found(&[secret("c", "istio-system", data)]), Some(wanted));
}

#[test]
fn generic_keys_go_before_tls_keys() {
    let all =
        "{cert: C1, key: K1, cacert: CA1, crl: CRL1, tls.crt: C2, tls.key: K2, ca.crt: CA2, ca.crl: CRL2}";
    let wanted = credential(Some("C1"), Some("K1"), Some("CA1"), Some("CRL1"));
    assert_eq!(found(&[secret("c", "istio-system", all)]), Some(wanted));
    let tls = "{tls.crt: C2, tls.key: K2, ca.crt: CA2, ca.crl: CRL2}";
    let wanted = credential(Some("C2"), Some("K2"), Some("CA2"), Some("CRL2"));
    assert_eq!(found(&[secret("c", "istio-system", tls)]), Some(wanted));
    // Half a pair is none, and an empty value is a missing one.
    let half = "{cert: C1, key: '', tls.crt: C2, tls.key: K2, cacert: '', ca.crt: CA2}";
    let wanted = credential(Some("C2"), Some("K2"), Some("CA2"), None);
    assert_eq!(found(&[secret("c", "istio-system", half)]), Some(wanted));
}

#[test]
fn a_secret_of_the_name_with_cacert_goes_before_the_secrets_own_ca() {
    let own = secret("c", "istio-system", "{tls.crt: C, tls.key: K, ca.crt: CA}");
    let beside = secret("c-cacert", "istio-system", "{ca.crt: CA2, ca.crl: CRL2}");
    let wanted = credential(Some("C"), Some("K"), Some("CA2"), Some("CRL2"));
    assert_eq!(found(&[own.clone(), beside]), Some(wanted));
    // It is taken even where it is of no use.
    let useless = secret("c-cacert", "istio-system", "{something: else}");
    assert_eq!(found(&[own, useless]), Some(credential(Some("C"), Some("K"), None, None)));
}

#[test]
fn a_ca_alone_is_a_credential_without_a_key_pair() {
    let ca = secret("c", "istio-system", "{ca.crt: CA}");
    assert_eq!(found(&[ca]), Some(credential(None, None, Some("CA"), None)));
}

#[test]
fn a_credential_name_that_ends_in_cacert_never_finds_its_key_pair() {
    let data = "{tls.crt: C, tls.key: K, ca.crt: CA}";
    let got = found_as("x-cacert", &[secret("x-cacert", "istio-system", data)]).expect("its CA");
    assert_eq!((got.certificate, got.ca.as_deref()), (None, Some("CA")));
}

#[test]
fn a_reference_may_name_its_scheme_and_its_own_namespace_and_no_other() {
    let data = "{tls.crt: C, tls.key: K, ca.crt: CA}";
    for name in ["kubernetes://c", "kubernetes://istio-system/c"] {
        let got = found_as(name, &[secret("c", "istio-system", data)]).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(got.name, name);
    }
    let both = [secret("c", "default", data), secret("c", "istio-system", data)];
    assert_eq!(found_as("kubernetes://default/c", &both), None);
}

#[test]
fn data_is_base64_and_string_data_overrides_it() {
    let manifest = "
---
apiVersion: v1
kind: Secret
metadata: {name: c, namespace: istio-system}
data: {tls.crt: QyBiYXNlNjQ=, tls.key: SyBiYXNlNjQ=, ca.crt: '!! not base64'}
stringData: {tls.key: K}
";
    assert_eq!(found(&[manifest.to_owned()]), Some(credential(Some("C base64"), Some("K"), None, None)));
}

#[test]
fn a_private_key_is_not_shown() {
    let got = found(&[secret("c", "istio-system", "{tls.crt: C, tls.key: very-secret, ca.crt: CA}")]);
    assert!(!format!("{got:?}").contains("very-secret"));
}
