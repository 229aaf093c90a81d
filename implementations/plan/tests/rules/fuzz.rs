//! Resources come from people: whatever they hold, resolving ends with a plan or a refusal.

use meshproof_model::Resource;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::world::World;

const KINDS: [(&str, &str); 8] = [
    ("networking.istio.io/v1", "ServiceEntry"),
    ("networking.istio.io/v1", "VirtualService"),
    ("networking.istio.io/v1", "DestinationRule"),
    ("networking.istio.io/v1", "Gateway"),
    ("networking.istio.io/v1", "Sidecar"),
    ("security.istio.io/v1", "PeerAuthentication"),
    ("v1", "Secret"),
    ("networking.istio.io/v9", "ServiceEntry"),
];

/// Words that mean something to some kind, so that much of what is made gets past the first check.
fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "",
        "*",
        ".",
        "~",
        "mesh",
        "g",
        "a",
        "*.com",
        "*.cnn.com",
        "edition.cnn.com",
        "welcome",
        "default/g",
        "./*",
        "*/*",
        "é.com",
        "a..b",
        "SIMPLE",
        "MUTUAL",
        "ISTIO_MUTUAL",
        "DNS",
        "STATIC",
        "NONE",
        "HTTP",
        "HTTPS",
        "TCP",
        "TLS",
        "REGISTRY_ONLY",
        "STRICT",
        "1s",
        "99999999999999999999h",
        "..s",
        "(",
        "[",
        "\u{0}",
        "%",
        "/",
        "/a",
    ])
    .prop_map(str::to_owned)
}

fn field() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "hosts",
        "host",
        "ports",
        "port",
        "number",
        "name",
        "protocol",
        "targetPort",
        "resolution",
        "endpoints",
        "address",
        "http",
        "tls",
        "match",
        "uri",
        "prefix",
        "exact",
        "regex",
        "route",
        "destination",
        "subset",
        "weight",
        "headers",
        "request",
        "set",
        "Host",
        "redirect",
        "directResponse",
        "status",
        "rewrite",
        "authority",
        "timeout",
        "gateways",
        "sniHosts",
        "trafficPolicy",
        "portLevelSettings",
        "mode",
        "sni",
        "credentialName",
        "subjectAltNames",
        "subsets",
        "exportTo",
        "workloadSelector",
        "matchLabels",
        "servers",
        "selector",
        "egress",
        "outboundTrafficPolicy",
        "mtls",
        "portLevelMtls",
        "data",
        "stringData",
        "tls.crt",
        "cert",
        "unknown",
    ])
    .prop_map(str::to_owned)
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_u32..70_000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map(field(), inner, 0..6).prop_map(|m| Value::Object(m.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Specifications of the right shape, with anything for their words and numbers.
fn shaped() -> impl Strategy<Value = Vec<Value>> {
    (vec(word(), 12), vec(prop_oneof![0_u32..70_000, Just(80), Just(443)], 6)).prop_map(|(w, n)| {
        vec![
            json!({"hosts": [w[0]], "ports": [{"number": n[0], "name": "a", "protocol": w[1], "targetPort": n[1]}],
                   "resolution": w[2], "exportTo": [w[3]]}),
            json!({"hosts": [w[4]], "gateways": [w[5]], "http": [{"match": [{"uri": {"prefix": w[6]}, "port": n[2]}],
                   "timeout": w[7], "route": [{"destination": {"host": w[0], "port": {"number": n[0]}}}]}]}),
            json!({"host": w[0], "trafficPolicy": {"tls": {"mode": w[8], "sni": w[9], "credentialName": w[10]}}}),
            json!({"servers": [{"hosts": [w[4]], "port": {"number": n[3], "name": "a", "protocol": w[1]},
                   "tls": {"mode": w[8]}}]}),
            json!({"egress": [{"hosts": [w[11]]}], "outboundTrafficPolicy": {"mode": w[2]}}),
            json!({"mtls": {"mode": w[2]}}),
        ]
    })
}

fn resource(kind: usize, spec: &Value) -> Resource {
    let (version, kind) = KINDS[kind % KINDS.len()];
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "default"},
                            "spec": spec});
    if let (Some(object), Some(fields)) = (object.as_object_mut(), spec.as_object()) {
        for name in ["data", "stringData"] {
            if let Some(value) = fields.get(name) {
                object.insert(name.to_owned(), value.clone());
            }
        }
    }
    Resource(object)
}

proptest! {
    #[test]
    fn any_json_as_a_specification_is_planned_or_refused_and_never_panics(
        specs in vec((0_usize..KINDS.len(), any_json()), 1..4)
    ) {
        let resources: Vec<Resource> = specs.iter().map(|(kind, spec)| resource(*kind, spec)).collect();
        drop(World::with_backend().resolve_resources(&resources));
    }

    #[test]
    fn anything_of_the_right_shape_is_planned_or_refused_and_never_panics(specs in shaped()) {
        for (kind, spec) in specs.iter().enumerate() {
            drop(World::with_backend().resolve_resources(&[resource(kind, spec)]));
        }
        let resources: Vec<Resource> = specs.iter().enumerate().map(|(k, s)| resource(k, s)).collect();
        drop(World::with_backend().resolve_resources(&resources));
    }

    #[test]
    fn any_json_as_a_whole_resource_is_planned_or_refused_and_never_panics(value in any_json()) {
        drop(World::new().resolve_resources(&[Resource(value)]));
    }
}
