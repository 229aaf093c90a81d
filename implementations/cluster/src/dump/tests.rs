use proptest::prelude::*;
use serde_json::json;

use super::*;
use meshproof_model::CredentialState;

const HOST: &str = "r7.mp-r1-s-default.marker.meshproof.internal";

fn cluster(subset: &str, host: &str) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.DynamicCluster",
        "version_info": "2026-01-01T00:00:00Z/9",
        "cluster": {"name": format!("outbound|18999|{subset}|{host}"), "connect_timeout": "10s"},
    })
}

fn clusters(host: &str, subsets: &[&str]) -> Value {
    json!({"configs": subsets.iter().map(|subset| cluster(subset, host)).collect::<Vec<_>>()})
}

fn routes(domain: &str, direct: bool) -> Value {
    let route = if direct {
        json!({"route": {"cluster": "c"}, "typed_per_filter_config": {"envoy.filters.http.fault": {}}})
    } else {
        json!({"route": {"cluster": "c"}})
    };
    json!({"configs": [{"@type": "...", "route_config": {"name": "18999", "virtual_hosts": [
        {"name": "b", "domains": [domain, "other"], "routes": [route]}]}}]})
}

#[test]
fn a_marker_is_seen_by_kind() {
    let seen = |c: &Value, r: &Value| marker(c, r, HOST, "r7");
    assert!(seen(&clusters(HOST, &["", "r7"]), &routes(&format!("{HOST}:18999"), true)).all());
    let without_rule = seen(&clusters(HOST, &[""]), &routes(HOST, true));
    assert_eq!(without_rule, MarkerSeen { entry: true, rule: false, route: true });
    let former_rule = seen(&clusters(HOST, &["", "r6"]), &routes(HOST, true));
    assert_eq!(former_rule, MarkerSeen { entry: true, rule: false, route: true });
    // A service without a VirtualService has a virtual host as well; only the VirtualService has a fault.
    assert!(!seen(&clusters(HOST, &["", "r7"]), &routes(HOST, false)).route);
    let before = HOST.replace("r7", "r6");
    assert_eq!(seen(&clusters(&before, &["", "r6"]), &routes(&before, true)), MarkerSeen::default());
}

#[test]
fn a_marker_is_seen_where_a_gateway_has_only_the_clusters_of_its_routes() {
    let seen = marker(&clusters(HOST, &["r7"]), &routes(HOST, true), HOST, "r7");
    assert!(seen.all(), "{seen:?}");
    let reversed = marker(&clusters(HOST, &["r7", ""]), &routes(HOST, true), HOST, "r7");
    assert!(reversed.all(), "{reversed:?}");
}

#[test]
fn a_cluster_that_is_still_warming_is_not_in_force() {
    let warming_only = json!({"configs": [{"dynamic_active_clusters": [], "dynamic_warming_clusters": [
        {"cluster": {"name": format!("outbound|18999||{HOST}")}}]}]});
    assert!(!marker(&warming_only, &json!({}), HOST, "r7").entry);
    assert_eq!(warming(&warming_only).len(), 1);
}

/// From Envoy 1.40.0 under Istio 1.31, whose gateway was given a filter with a broken script; reduced.
const REFUSED_LISTENER: &str = include_str!("fixtures/refused-listener.json");
/// From the same, whose gateway was given a certificate with the key of another; reduced.
const REFUSED_SECRET: &str = include_str!("fixtures/refused-secret.json");

#[test]
fn a_refusal_is_reported_once_in_envoys_words() {
    let dump: Value = serde_json::from_str(REFUSED_LISTENER).unwrap();
    let words = "0.0.0.0_8080: script load error: [string \"this is no lua\"]:1: '=' expected near 'is'";
    assert_eq!(refusals(&dump).unwrap(), words);
    assert_eq!(refusals(&json!({"configs": [{"name": "x", "active_state": {}}]})), None);
}

#[test]
fn a_refused_secret_looks_like_one_in_force() {
    let dump: Value = serde_json::from_str(REFUSED_SECRET).unwrap();
    assert_eq!(refusals(&dump), None);
    let held = secret(&dump, "kubernetes://cred2").flatten().unwrap();
    assert_eq!(held.text, b"refused");
}

#[test]
fn what_a_proxy_refused_is_read_from_its_log() {
    let answer = "Failed to load private key from <inline>, Cause: error:0b000074:X.509 certificate \
                routines:OPENSSL_internal:KEY_VALUES_MISMATCH";
    let words = format!(
        "gRPC config for type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret rejected: \
         {answer}"
    );
    let expected = format!("Secret: {answer}");
    let line = format!(
        "2026-11-21T15:27:56.031819Z\twarning\tenvoy config \
         source/extensions/config_subscription/grpc/grpc_subscription_impl.cc:160\t{words}\tthread=13"
    );
    assert_eq!(rejected(&line).unwrap(), expected);
    let object = format!(r#"{{"level":"warn","msg":"{words}","caller":"envoy"}}"#);
    assert_eq!(rejected(&object).unwrap(), expected);
    assert_eq!(rejected("2026-11-21T15:27:48.000838Z\tinfo\tEnvoy proxy is ready"), None);
    let long = format!("gRPC config for type.googleapis.com/a.B rejected: {}", "x".repeat(100_000));
    assert!(rejected(&long).unwrap().len() < MAX_WORDS + 50);
}

fn secrets() -> (Value, String) {
    use base64::Engine as _;
    let ca = meshproof_harness::certificates::Authority::new(
        meshproof_harness::certificates::KeyAlgorithm::EcdsaP256,
    )
    .unwrap();
    let client = ca.client("client.example.com").serial(5).issue().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.encode(client.certificate_pem());
    let active = json!({"name": "kubernetes://client-credential", "secret": {"name":
        "kubernetes://client-credential",
        "tls_certificate": {"certificate_chain": {"inline_bytes": bytes}, "private_key": {"inline_bytes":
            "W3JlZGFjdGVkXQ=="}}}});
    let warming = json!({"name": "kubernetes://client-credential-cacert", "secret": {"name": "x"}});
    let own = json!({"name": "default", "secret": {}});
    let dump =
        json!({"configs": [{"dynamic_active_secrets": [active, own], "dynamic_warming_secrets": [warming]}]});
    (dump, client.serial().to_owned())
}

#[test]
fn credentials_are_active_with_their_serial_or_warming_and_exclude_the_proxys_identity() {
    let (dump, serial) = secrets();
    let answer = credentials(&dump);
    let seen: Vec<_> = answer.iter().map(|c| (c.name.as_str(), c.state, c.serial.clone())).collect();
    assert_eq!(
        seen,
        [
            ("kubernetes://client-credential", CredentialState::Active, Some(serial)),
            ("kubernetes://client-credential-cacert", CredentialState::Warming, None),
        ]
    );
}

#[test]
fn a_secret_is_present_awaited_or_never_requested() {
    let (dump, _) = secrets();
    let held = secret(&dump, "kubernetes://client-credential").flatten().unwrap();
    assert!(held.text.starts_with(b"-----BEGIN CERTIFICATE"));
    assert_eq!(secret(&dump, "kubernetes://client-credential-cacert"), Some(None));
    assert_eq!(secret(&dump, "kubernetes://another"), None);
}

#[test]
fn the_system_roots_are_those_that_the_agent_read() {
    let dump = json!({"configs": [{"dynamic_active_secrets": [{"name": "file-root:system",
        "secret": {"validation_context": {"trusted_ca": {"inline_bytes": "cm9vdHM="}}}}]}]});
    assert_eq!(system_roots(&dump).unwrap(), b"roots");
    assert_eq!(system_roots(&json!({})), None);
}

#[test]
fn what_a_sidecar_requires_is_read_from_its_filter_chains() {
    let tls = json!({"filter_chain_match": {"destination_port": 9080, "transport_protocol": "tls"},
        "transport_socket": {}});
    let plain = json!({"filter_chain_match": {"destination_port": 9080, "transport_protocol": "raw_buffer"}});
    let other = json!({"filter_chain_match": {"destination_port": 15006}});
    let mode = |chains: Value| {
        let listener =
            json!({"active_state": {"listener": {"filter_chains": chains}}, "name": "virtualInbound"});
        inbound(&json!({"configs": [listener]}), 9080)
    };
    assert_eq!(mode(json!([tls, plain, other])), Some(InboundTls::Permissive));
    assert_eq!(mode(json!([tls, other])), Some(InboundTls::Strict));
    assert_eq!(mode(json!([plain])), Some(InboundTls::Plain));
    assert_eq!(mode(json!([other])), None);
}

#[test]
fn endpoints_are_listed_with_their_transport() {
    let endpoint = |address: &str, metadata: Value| {
        json!({"endpoint": {"address": {"socket_address":
        {"address": address, "port_value": 80}}}, "metadata": metadata})
    };
    let istio = json!({"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": "istio"}}});
    let dump = json!({"configs": [{"dynamic_endpoint_configs": [{"endpoint_config": {
        "cluster_name": "outbound|80|cnn|gateway.ns.svc.cluster.local",
        "endpoints": [{"lb_endpoints": [endpoint("10.0.0.1", istio), endpoint("10.0.0.2",
            json!({}))]}]}}]}]});
    let seen = endpoints(&dump, "gateway.ns.svc.cluster.local");
    assert_eq!(seen, [("10.0.0.1".to_owned(), true), ("10.0.0.2".to_owned(), false)]);
    assert!(endpoints(&dump, "ns.svc.cluster.local").is_empty());
}

fn anything() -> impl Strategy<Value = Value> {
    let names = prop_oneof![
        Just("configs"),
        Just("cluster"),
        Just("name"),
        Just("dynamic_active_secrets"),
        Just("secret"),
        Just("endpoint_config"),
        Just("endpoint"),
        Just("error_state"),
        Just("details"),
        Just("domains"),
        Just("routes"),
        Just("filter_chains"),
        Just("connect_timeout"),
        Just("active_state"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z|:/0-9.s]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((names.clone(), inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_dump_can_be_read(dump in anything()) {
        let _ = (marker(&dump, &dump, "h", "r1"), refusals(&dump), credentials(&dump), inbound(&dump, 80),
                 endpoints(&dump, "h"), warming(&dump), secret(&dump, "n"), has_cluster_of(&dump, "h"));
    }
}

#[test]
fn a_host_is_dialled_at_the_address_of_the_listener_that_leads_to_it_alone() {
    let listener = |address: &str, cluster: &str| {
        json!({ "name": format!("{address}_443"), "active_state": { "listener": {
            "address": { "socket_address": { "address": address, "port_value": 443 } },
            "filter_chains": [{ "filters": [{ "typed_config": { "cluster": cluster } }] }] } } })
    };
    let dump = json!({ "configs": [{ "dynamic_listeners": [
        listener("240.240.0.1", "outbound|443||edition.cnn.com"),
        listener("2001:2::1", "outbound|443||edition.cnn.com"),
        listener("0.0.0.0", "outbound|443||anywhere.example"),
        listener("10.96.0.7", "BlackHoleCluster"),
    ] }] });
    let found: Vec<(String, String)> = virtual_addresses(&dump).into_iter().collect();
    assert_eq!(found, [("edition.cnn.com".to_owned(), "240.240.0.1".to_owned())]);
}

#[test]
fn the_bootstrap_says_whether_the_proxy_answers_dns_queries() {
    let dump =
        |metadata: Value| json!({ "configs": [{ "bootstrap": { "node": { "metadata": metadata } } }] });
    assert!(captures_dns(&dump(json!({ "DNS_CAPTURE": "true" }))));
    assert!(!captures_dns(&dump(json!({ "DNS_CAPTURE": "false" }))) && !captures_dns(&dump(json!({}))));
    assert!(!captures_dns(&json!({ "configs": [] })));
}

#[test]
fn a_refusal_that_prints_the_resource_first_is_quoted_by_its_cause() {
    let details = format!("goo.gle/debugstr   \nname: \"l\"\n{}: no such filter", "  a: b\n".repeat(1000));
    let dump = json!({ "configs": [{ "dynamic_listeners": [{ "name": "l", "error_state": { "details": details } }] }] });
    assert_eq!(refusals(&dump).unwrap(), "l: no such filter");
}
