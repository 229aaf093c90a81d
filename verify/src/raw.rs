//! Istio's resources as they were written: fields with their JSON pointers.

use std::collections::BTreeMap;

use meshproof_model::{Resource, ResourceId};
use meshproof_plan::hosts;
use serde_json::Value;

/// Resources of one of Istio's networking kinds.
pub(crate) fn of_kind<'a>(
    resources: &'a [Resource],
    kind: &'a str,
) -> impl Iterator<Item = &'a Resource> + 'a {
    resources.iter().filter(move |r| r.kind() == kind && r.api_version().starts_with("networking.istio.io/"))
}

/// The resource of an id.
pub(crate) fn by_id<'a>(resources: &'a [Resource], id: &ResourceId) -> Option<&'a Resource> {
    resources.iter().find(|r| r.id() == *id)
}

/// Elements of the list at a pointer, each with its own pointer.
pub(crate) fn items<'a>(value: &'a Value, pointer: &str) -> Vec<(String, &'a Value)> {
    let list = value.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    list.enumerate().map(|(i, v)| (format!("{pointer}/{i}"), v)).collect()
}

/// The texts of the list at a pointer.
pub(crate) fn texts<'a>(value: &'a Value, pointer: &str) -> Vec<&'a str> {
    let list = value.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).collect()
}

/// The text at a pointer; empty: none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The port number at a pointer.
pub(crate) fn port(value: &Value, pointer: &str) -> Option<u16> {
    value.pointer(pointer).and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0)
}

/// What a port of a ServiceEntry speaks, by its declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http,
    /// TLS of the client's own.
    Tls,
    Bytes,
    Nothing,
}

/// `protocol`, else the name of the port, else bytes that the proxy looks at.
pub(crate) fn speaks(port: &Value) -> Speaks {
    use meshproof_plan::protocol::Protocol;
    let declared = text(port, "/protocol");
    let protocol = if declared.is_empty() {
        Protocol::of_service_port(0, text(port, "/name"), text(port, "/appProtocol"))
    } else {
        Protocol::parse(declared).unwrap_or(Protocol::Tcp)
    };
    by_protocol(protocol)
}

/// Of a Service's port.
pub(crate) fn service_speaks(written: &Value) -> Speaks {
    use meshproof_plan::protocol::Protocol;
    if text(written, "/protocol") == "UDP" {
        return Speaks::Nothing;
    }
    let number = port(written, "/port").unwrap_or_default();
    by_protocol(Protocol::of_service_port(number, text(written, "/name"), text(written, "/appProtocol")))
}

fn by_protocol(protocol: meshproof_plan::protocol::Protocol) -> Speaks {
    use meshproof_plan::protocol::Protocol;
    if protocol == Protocol::Udp {
        Speaks::Nothing
    } else if protocol.is_http_or_sniffed() {
        Speaks::Http
    } else if protocol.is_tls() {
        Speaks::Tls
    } else {
        Speaks::Bytes
    }
}

/// The parts of `outbound|PORT|SUBSET|HOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClusterName<'a> {
    pub(crate) port: u16,
    pub(crate) subset: &'a str,
    pub(crate) host: &'a str,
}

impl<'a> ClusterName<'a> {
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        let mut parts = name.splitn(4, '|');
        let ("outbound", port) = (parts.next()?, parts.next()?.parse().ok()?) else { return None };
        Some(Self { port, subset: parts.next()?, host: parts.next()? })
    }
}

/// Where the TLS settings stand that hold for a port and subset in a rule, as `MergeSubsetTrafficPolicy` has it; none where
/// there are none.
pub(crate) fn tls_pointer(rule: &Value, port: u16, subset: &str) -> Option<String> {
    let of_policy = |policy: &str| -> (Option<String>, bool) {
        let own = items(rule, &format!("{policy}/portLevelSettings"))
            .into_iter()
            .find(|(_, s)| self::port(s, "/port/number") == Some(port));
        match own {
            Some((at, settings)) => (settings.get("tls").map(|_| format!("{at}/tls")), true),
            None => {
                let tls = format!("{policy}/tls");
                (rule.pointer(&tls).map(|_| tls), false)
            }
        }
    };
    let (base, _) = of_policy("/spec/trafficPolicy");
    if subset.is_empty() {
        return base;
    }
    let of_subset = items(rule, "/spec/subsets").into_iter().find(|(_, s)| text(s, "/name") == subset);
    let Some((at, written)) = of_subset else { return base };
    if written.get("trafficPolicy").is_none() {
        return base;
    }
    let (own, whole) = of_policy(&format!("{at}/trafficPolicy"));
    if whole { own } else { own.or(base) }
}

/// All places with TLS settings in a rule: the pointer, the port (none: all), the subset (empty: none).
pub(crate) fn all_tls(rule: &Value) -> Vec<(String, Option<u16>, String)> {
    let mut found = Vec::new();
    let mut of_policy = |policy: String, subset: &str| {
        if rule.pointer(&format!("{policy}/tls")).is_some() {
            found.push((format!("{policy}/tls"), None, subset.to_owned()));
        }
        for (at, settings) in items(rule, &format!("{policy}/portLevelSettings")) {
            if settings.get("tls").is_some() {
                found.push((format!("{at}/tls"), port(settings, "/port/number"), subset.to_owned()));
            }
        }
    };
    of_policy("/spec/trafficPolicy".to_owned(), "");
    for (at, subset) in items(rule, "/spec/subsets") {
        of_policy(format!("{at}/trafficPolicy"), text(subset, "/name"));
    }
    found
}

/// Whether TLS settings open TLS to a server outside.
pub(crate) fn originates(tls: &Value) -> bool {
    matches!(text(tls, "/mode"), "SIMPLE" | "MUTUAL")
}

/// The namespace and the name of the Secret that a `credentialName` means to a proxy of a namespace. Without an SDS provider `sds://` is
/// a Secret like any other.
pub(crate) fn secret_of<'a>(name: &'a str, namespace: &'a str) -> (&'a str, &'a str) {
    meshproof_plan::resolve::secret_of(name.strip_prefix("sds://").unwrap_or(name), namespace)
}

/// The host of a rule or a destination, completed.
pub(crate) fn full_host(host: &str, namespace: &str) -> String {
    hosts::qualified(host, namespace)
}

/// A destination of a VirtualService's route.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) pointer: String,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) subset: String,
    /// Of an HTTP route, not of one for TLS or bytes.
    pub(crate) http: bool,
}

/// All destinations of a VirtualService.
pub(crate) fn destinations(service: &Resource) -> Vec<Destination> {
    let mut found = Vec::new();
    for kind in ["http", "tls", "tcp"] {
        for (at, route) in items(&service.0, &format!("/spec/{kind}")) {
            for (at, to) in
                items(route, "/route").into_iter().map(|(p, v)| (format!("{at}{p}/destination"), v))
            {
                found.push(Destination {
                    host: full_host(text(to, "/destination/host"), service.namespace()),
                    port: port(to, "/destination/port/number"),
                    subset: text(to, "/destination/subset").to_owned(),
                    http: kind == "http",
                    pointer: at,
                });
            }
        }
    }
    found
}

/// Whether a VirtualService is for sidecars.
pub(crate) fn for_mesh(service: &Resource) -> bool {
    let gateways = texts(&service.0, "/spec/gateways");
    gateways.is_empty() || gateways.contains(&"mesh")
}

/// A label selector's pairs.
pub(crate) fn labels(value: Option<&Value>) -> BTreeMap<String, String> {
    let fields = value.and_then(Value::as_object).into_iter().flatten();
    fields.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

pub(crate) fn covers(wanted: &BTreeMap<String, String>, there: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(k, v)| there.get(k) == Some(v))
}
