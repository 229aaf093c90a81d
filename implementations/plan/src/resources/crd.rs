//! What the CRDs ask for beside types (manifests/charts/base/files/crd-all.gen.yaml): fields that must be there, of which
//! only one may be set, how many items lists have, and the rules over single fields. A path is written with `[]` for every
//! item of a list and `{}` for every value of a map.

use serde_json::Value;

use super::common::port_number;
use super::problems::Problems;

type Fields = &'static [&'static str];

/// Of objects, the fields without which the API server refuses them.
fn required(kind: &str) -> Vec<(String, Fields)> {
    let rules: &[(&str, Fields)] = match kind {
        "ServiceEntry" => &[("", &["hosts"]), ("ports[]", &["number", "name"])],
        "VirtualService" => &[
            ("http[].directResponse", &["status"]),
            ("http[].mirror", &["host"]),
            ("http[].mirrors[]", &["destination"]),
            ("http[].mirrors[].destination", &["host"]),
            ("http[].route[]", &["destination"]),
            ("http[].route[].destination", &["host"]),
            ("tcp[].route[]", &["destination"]),
            ("tcp[].route[].destination", &["host"]),
            ("tls[]", &["match"]),
            ("tls[].match[]", &["sniHosts"]),
            ("tls[].route[]", &["destination"]),
            ("tls[].route[].destination", &["host"]),
        ],
        "DestinationRule" => &[("", &["host"]), ("subsets[]", &["name"])],
        "Gateway" => {
            &[("servers[]", &["port", "hosts"]), ("servers[].port", &["number", "protocol", "name"])]
        }
        "Sidecar" => &[
            ("egress[]", &["hosts"]),
            ("ingress[]", &["port"]),
            ("outboundTrafficPolicy.egressProxy", &["host"]),
        ],
        "WorkloadGroup" => &[
            ("", &["template"]),
            ("probe.httpGet", &["port"]),
            ("probe.tcpSocket", &["port"]),
            ("probe.exec", &["command"]),
        ],
        _ => &[],
    };
    let mut all: Vec<_> = rules.iter().map(|(path, fields)| ((*path).to_owned(), *fields)).collect();
    for policy in policies(kind) {
        all.push((format!("{policy}.tunnel"), &["targetHost", "targetPort"]));
        all.push((format!("{policy}.loadBalancer.consistentHash.httpCookie"), &["name"]));
        all.push((format!("{policy}.loadBalancer.warmup"), &["duration"]));
    }
    all
}

/// Where a DestinationRule has traffic policies.
fn policies(kind: &str) -> &'static [&'static str] {
    match kind {
        "DestinationRule" => &[
            "trafficPolicy",
            "trafficPolicy.portLevelSettings[]",
            "subsets[].trafficPolicy",
            "subsets[].trafficPolicy.portLevelSettings[]",
        ],
        _ => &[],
    }
}

/// Objects of which at most one of some fields may be there (`oneOf`).
fn alternatives(kind: &str) -> Vec<(String, Fields)> {
    const TEXT: Fields = &["exact", "prefix", "regex"];
    let rules: &[(&str, Fields)] = match kind {
        "VirtualService" => &[
            ("http[].corsPolicy.allowOrigins[]", TEXT),
            ("http[].directResponse.body", &["string", "bytes"]),
            ("http[].fault.abort", &["httpStatus", "grpcStatus", "http2Error"]),
            ("http[].fault.delay", &["fixedDelay", "exponentialDelay"]),
            ("http[].match[].authority", TEXT),
            ("http[].match[].headers{}", TEXT),
            ("http[].match[].method", TEXT),
            ("http[].match[].queryParams{}", TEXT),
            ("http[].match[].scheme", TEXT),
            ("http[].match[].uri", TEXT),
            ("http[].match[].withoutHeaders{}", TEXT),
            ("http[].redirect", &["port", "derivePort"]),
        ],
        "WorkloadGroup" => &[("probe", &["httpGet", "tcpSocket", "exec", "grpc"])],
        _ => &[],
    };
    let mut all: Vec<_> = rules.iter().map(|(path, fields)| ((*path).to_owned(), *fields)).collect();
    for policy in policies(kind) {
        all.push((format!("{policy}.loadBalancer"), &["simple", "consistentHash", "backendUtilization"]));
    }
    all
}

/// What the schema of a kind refuses in a specification whose types are right.
pub(super) fn check(kind: &str, spec: &Value, problems: &mut Problems) {
    for (path, fields) in required(kind) {
        for (place, object) in found(spec, &path) {
            for field in fields.iter().filter(|f| object.is_object() && object.get(**f).is_none()) {
                problems.schema(format!("{place}.{field}: Required value"));
            }
        }
    }
    for (path, fields) in alternatives(kind) {
        for (place, object) in found(spec, &path) {
            let set = fields.iter().filter(|f| object.get(**f).is_some()).count();
            if set > 1 {
                problems.schema(format!(
                    "<nil>: Invalid value: \"\": \"{place}\" must validate one and only one schema (oneOf). \
                     Found {set} valid alternatives"
                ));
            }
        }
    }
    match kind {
        "ServiceEntry" => items(spec, "hosts", 1, 256, problems),
        "Gateway" => certificates(spec, "servers[].tls", problems),
        "Sidecar" => certificates(spec, "ingress[].tls", problems),
        _ => {}
    }
    // The rules over values are looked at only where nothing else is wrong.
    if problems.schema.is_empty() {
        rules(kind, spec, problems);
    }
}

/// The rules over values (`x-kubernetes-validations`).
fn rules(kind: &str, spec: &Value, problems: &mut Problems) {
    match kind {
        "ServiceEntry" => {
            for path in ["ports[].number", "ports[].targetPort", "endpoints[].ports{}"] {
                ports(spec, path, problems);
            }
            labels(spec, "workloadSelector.labels", "wildcard is not supported in selector", problems);
        }
        "WorkloadEntry" => ports(spec, "ports{}", problems),
        "WorkloadGroup" => {
            let probes = ["probe.httpGet.port", "probe.tcpSocket.port", "probe.grpc.port"];
            for path in ["template.ports{}"].into_iter().chain(probes) {
                ports(spec, path, problems);
            }
        }
        "Gateway" => server_tls(spec, "servers[].tls", problems),
        "Sidecar" => {
            server_tls(spec, "ingress[].tls", problems);
            labels(spec, "workloadSelector.labels", "wildcard is not supported in selector", problems);
        }
        "DestinationRule" => {
            labels(
                spec,
                "workloadSelector.matchLabels",
                "wildcard not allowed in label value match",
                problems,
            );
        }
        "PeerAuthentication" => {
            labels(spec, "selector.matchLabels", "wildcard not allowed in label value match", problems);
        }
        _ => {}
    }
}

fn certificates(spec: &Value, path: &str, problems: &mut Problems) {
    for list in ["credentialNames", "tlsCertificates"] {
        items(spec, &format!("{path}.{list}"), 1, 2, problems);
    }
}

fn server_tls(spec: &Value, path: &str, problems: &mut Problems) {
    for (place, tls) in found(spec, path) {
        let set = |name: &str| tls.get(name).is_some();
        let lists = set("credentialNames") && set("tlsCertificates");
        let pairs = [
            ("credentialNames", "tlsCertificates", lists),
            ("credentialName", "credentialNames", set("credentialName") && set("credentialNames")),
            // The third rule asks what the first asks, whatever its message says.
            ("credentialName", "tlsCertificates", lists),
        ];
        for (one, other, _) in pairs.into_iter().filter(|(.., both)| *both) {
            problems.schema(format!("{place}: Invalid value: only one of {one} or {other} can be set"));
        }
    }
}

/// How many items a list has.
fn items(spec: &Value, path: &str, least: usize, most: usize, problems: &mut Problems) {
    for (place, list) in found(spec, path) {
        let count = list.as_array().map_or(least, Vec::len);
        if count < least {
            problems.schema(format!(
                "{place}: Invalid value: {count}: {place} in body should have at least {least} items"
            ));
        } else if count > most {
            problems.schema(format!("{place}: Too many: {count}: must have at most {most} items"));
        }
    }
}

fn ports(spec: &Value, path: &str, problems: &mut Problems) {
    for (place, port) in found(spec, path) {
        let number = port.as_u64().map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX));
        if port_number(number).is_err() {
            problems.schema(format!("{place}: Invalid value: {number}: port must be between 1-65535"));
        }
    }
}

/// Labels of a selector, in which a value has no wildcard.
fn labels(spec: &Value, path: &str, words: &str, problems: &mut Problems) {
    for (place, value) in found(spec, &format!("{path}{{}}")) {
        if let Some(text) = value.as_str().filter(|t| t.contains('*')) {
            problems.schema(format!("{place}: Invalid value: {text:?}: {words}"));
        }
    }
}

/// The values at a path, each with its place in the words of the API server.
fn found<'a>(spec: &'a Value, path: &str) -> Vec<(String, &'a Value)> {
    let mut all = vec![("spec".to_owned(), spec)];
    for step in path.split('.').filter(|s| !s.is_empty()) {
        let name = step.trim_end_matches("[]").trim_end_matches("{}");
        let inner = all.into_iter().filter_map(|(place, value)| {
            let value = value.get(name)?;
            Some((format!("{place}.{name}"), value))
        });
        all = if step.ends_with("[]") {
            inner
                .flat_map(|(place, list)| {
                    let items = list.as_array().into_iter().flatten().enumerate();
                    items.map(move |(i, item)| (format!("{place}[{i}]"), item))
                })
                .collect()
        } else if step.ends_with("{}") {
            inner.flat_map(|(place, map)| entries(&place, map)).collect()
        } else {
            inner.collect()
        };
    }
    all
}

/// The values of a map. The API server writes the key of an object after a dot, that of a single value in brackets.
fn entries<'a>(place: &str, map: &'a Value) -> Vec<(String, &'a Value)> {
    let entries = map.as_object().into_iter().flatten();
    entries
        .map(|(key, value)| {
            let place = if value.is_object() { format!("{place}.{key}") } else { format!("{place}[{key}]") };
            (place, value)
        })
        .collect()
}
