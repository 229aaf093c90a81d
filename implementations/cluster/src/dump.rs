//! What Envoy shows on its admin interface (`/config_dump`, Envoy, "Administration interface" and
//! admin/v3/config_dump_shared.proto), read for what the suite must know. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use meshproof_harness::certificates::credential_status;
use meshproof_harness::store::bounded;
use meshproof_model::CredentialStatus;
use serde_json::Value;

/// How many bytes of a dump are read.
pub const MAX_DUMP: usize = 64 * 1024 * 1024;
/// How many of a proxy's credentials are listed.
const MAX_CREDENTIALS: usize = 1000;
/// How many bytes of Envoy's words go into a refusal.
const MAX_WORDS: usize = 2000;

/// Which of a marker's resources are in force; one that is still warming is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MarkerSeen {
    /// The ServiceEntry, and with it every earlier one.
    pub entry: bool,
    /// The DestinationRule.
    pub rule: bool,
    /// The VirtualService; at a gateway also the Gateway.
    pub route: bool,
}

impl MarkerSeen {
    /// All of them.
    #[must_use]
    pub const fn all(self) -> bool {
        self.entry && self.rule && self.route
    }
}

/// Calls `see` with every object within a value, at any depth, an outer one before its inner ones.
fn within<'a>(value: &'a Value, see: &mut impl FnMut(&'a serde_json::Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            see(object);
            object.values().for_each(|v| within(v, see));
        }
        Value::Array(list) => list.iter().for_each(|v| within(v, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The lists of this name, whether the whole dump was asked for or one `resource`: then `configs` holds its
/// entries, each with the type of the entry (`ClustersConfigDump.DynamicCluster`).
fn listed<'a>(dump: &'a Value, field: &str) -> Vec<&'a Value> {
    let configs = dump.get("configs").and_then(Value::as_array).into_iter().flatten();
    let mut found = Vec::new();
    for config in configs {
        match config.get(field).and_then(Value::as_array) {
            Some(list) => found.extend(list),
            None => found.push(config),
        }
    }
    found
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The marker of this host among a proxy's active clusters (`resource=dynamic_active_clusters`) and routes
/// (`resource=dynamic_route_configs`). `subset` is that of the DestinationRule of this revision.
#[must_use]
pub fn marker(clusters: &Value, routes: &Value, host: &str, subset: &str) -> MarkerSeen {
    let mut seen = MarkerSeen::default();
    for entry in listed(clusters, "dynamic_active_clusters") {
        let Some(cluster) = entry.get("cluster") else { continue };
        let Some(before) = text(cluster, "/name").strip_suffix(&format!("|{host}")) else { continue };
        seen.entry = true;
        // A gateway may have only the cluster of its route, which is the subset's.
        seen.rule |= before.ends_with(&format!("|{subset}"));
    }
    for entry in listed(routes, "dynamic_route_configs") {
        within(entry, &mut |object| {
            let domains = object.get("domains").and_then(Value::as_array).into_iter().flatten();
            let named = domains.filter_map(Value::as_str).any(|d| d.split(':').next() == Some(host));
            if named && object.get("routes").is_some_and(answers_itself) {
                seen.route = true;
            }
        });
    }
    seen
}

/// Whether one of the routes injects a fault, as the marker's VirtualService says.
fn answers_itself(routes: &Value) -> bool {
    let has_fault = |route: &Value| {
        let filters = route.get("typed_per_filter_config").and_then(Value::as_object);
        filters.is_some_and(|filters| filters.keys().any(|name| name.contains("fault")))
    };
    routes.as_array().into_iter().flatten().any(has_fault)
}

/// Whether a cluster of this host is active.
#[must_use]
pub fn has_cluster_of(clusters: &Value, host: &str) -> bool {
    let suffix = format!("||{host}");
    listed(clusters, "dynamic_active_clusters")
        .iter()
        .any(|entry| text(entry, "/cluster/name").ends_with(&suffix))
}

/// The names of clusters that wait for something, such as a credential.
#[must_use]
pub fn warming(clusters: &Value) -> BTreeSet<String> {
    let names = listed(clusters, "dynamic_warming_clusters").into_iter().map(|e| text(e, "/cluster/name"));
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// What Envoy refused of its configuration, in its words (`error_state`: the last attempt that failed). Only
/// listeners have it, once with the listener that stays and once without a name. A refused cluster does not
/// show, and a refused secret looks like one in force: only the proxy's log has them, see [`rejected`].
#[must_use]
pub fn refusals(dump: &Value) -> Option<String> {
    let mut words = Vec::new();
    within(dump, &mut |object| {
        let Some(error) = object.get("error_state") else { return };
        if let Some(details) = error.get("details").and_then(Value::as_str) {
            let failed = error.pointer("/failed_configuration/name");
            let name = object.get("name").or(failed).and_then(Value::as_str).unwrap_or("a resource");
            words.push(format!("{name}: {}", cause(details)));
        }
    });
    words.sort();
    words.dedup();
    (!words.is_empty()).then(|| bounded(&words.join("; "), MAX_WORDS))
}

/// The cause in Envoy's words about a refused resource. Envoy may print the whole resource first, in protobuf's text format.
fn cause(details: &str) -> &str {
    let printed_first = details.starts_with("goo.gle/");
    details.rsplit_once("\n: ").filter(|_| printed_first).map_or(details, |(_, cause)| cause)
}

/// What the proxy refused, by a line of its own output: the kind of resource, and Envoy's words (Envoy,
/// source/extensions/config_subscription/grpc/grpc_subscription_impl.cc, `onConfigUpdateFailed`). None of any
/// other line. Istio's agent writes it as text with tabs, or as an object.
#[must_use]
pub fn rejected(line: &str) -> Option<String> {
    const BEFORE: &str = "gRPC config for type.googleapis.com/";
    let (_, rest) = line.split_once(BEFORE)?;
    let (kind, words) = rest.split_once(" rejected: ")?;
    let kind = kind.rsplit('.').next().unwrap_or(kind);
    let words = words.split(['\t', '\n']).next().unwrap_or(words);
    // In an object, the rest of its members follows.
    let words = words.split("\",\"").next().unwrap_or(words);
    Some(bounded(&format!("{kind}: {}", words.trim_end()), MAX_WORDS))
}

/// The content of a secret in the proxy, by which a change of it is known to be in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretContent {
    /// Its certificate chain, or its CA, in PEM.
    pub text: Vec<u8>,
    /// Its revocation list.
    pub crl: Vec<u8>,
}

/// A secret by its name in Envoy (`kubernetes://client-credential-cacert`): none where the proxy never
/// requested it, and no content where it waits for it.
#[must_use]
pub fn secret(secrets: &Value, name: &str) -> Option<Option<SecretContent>> {
    let is = |entry: &&Value| text(entry, "/name") == name;
    let active = listed(secrets, "dynamic_active_secrets").into_iter().find(is);
    if let Some(entry) = active.filter(|e| e.get("secret").is_some()) {
        let inline = |pointers: &[&str]| {
            let found = pointers.iter().find_map(|p| entry.pointer(p).and_then(Value::as_str));
            found.map(decoded).unwrap_or_default()
        };
        let material = inline(&[
            "/secret/tls_certificate/certificate_chain/inline_bytes",
            "/secret/validation_context/trusted_ca/inline_bytes",
        ]);
        if !material.is_empty() {
            let crl = inline(&["/secret/validation_context/crl/inline_bytes"]);
            return Some(Some(SecretContent { text: material, crl }));
        }
        return Some(None);
    }
    let waits = listed(secrets, "dynamic_warming_secrets").into_iter().any(|e| is(&e));
    waits.then_some(None)
}

/// The roots by which the proxy verifies servers where no CA is configured, once a cluster uses them (Istio,
/// pilot/pkg/networking/core/cluster_tls.go: the secret `file-root:system`, which its agent reads from the
/// system's file).
#[must_use]
pub fn system_roots(secrets: &Value) -> Option<Vec<u8>> {
    secret(secrets, "file-root:system").flatten().map(|held| held.text)
}

/// The credentials that the proxy requested of istiod. One that it refused is listed as active, because Envoy
/// keeps the refused one in its place.
#[must_use]
pub fn credentials(secrets: &Value) -> Vec<CredentialStatus> {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for field in ["dynamic_active_secrets", "dynamic_warming_secrets"] {
        names.extend(listed(secrets, field).into_iter().map(|e| text(e, "/name")));
    }
    let credentials = names.into_iter().filter(|name| name.starts_with("kubernetes://"));
    let status = |name: &str| {
        let held = secret(secrets, name).flatten();
        let pem = held.map(|held| String::from_utf8_lossy(&held.text).into_owned());
        credential_status(&bounded(name, 300), pem.as_deref())
    };
    credentials.take(MAX_CREDENTIALS).map(status).collect()
}

/// Base64 as protobuf's JSON writes bytes; empty where it is not base64.
fn decoded(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default()
}

/// What a sidecar requires of clients of its application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboundTls {
    /// Mesh mutual TLS.
    Strict,
    /// Either.
    Permissive,
    /// Plain text.
    Plain,
}

/// By the filter chains of the listener `virtualInbound` (Istio,
/// pilot/pkg/networking/core/listener_inbound.go, `getFilterChainMatchOptions`): those for mesh mutual TLS
/// match the transport protocol `tls` with Istio's ALPN, or any with STRICT; those for plain text match
/// `raw_buffer`, or anything where there is no other.
#[must_use]
pub fn inbound(listeners: &Value, port: u16) -> Option<InboundTls> {
    let entry =
        listed(listeners, "dynamic_listeners").into_iter().find(|e| text(e, "/name") == "virtualInbound")?;
    let chains = entry.pointer("/active_state/listener/filter_chains")?.as_array()?;
    let of_port = |chain: &&Value| {
        let matched = chain.pointer("/filter_chain_match/destination_port").and_then(Value::as_u64);
        matched == Some(u64::from(port))
    };
    let chains: Vec<&Value> = chains.iter().filter(of_port).collect();
    let tls = chains.iter().any(|chain| chain.get("transport_socket").is_some());
    let plain = chains.iter().any(|chain| chain.get("transport_socket").is_none());
    match (tls, plain) {
        (true, true) => Some(InboundTls::Permissive),
        (true, false) => Some(InboundTls::Strict),
        (false, true) => Some(InboundTls::Plain),
        (false, false) => None,
    }
}

/// The addresses behind the clusters of a host (`include_eds`), each with whether mesh mutual TLS is spoken
/// to it (pilot/pkg/networking/util, endpoint metadata `envoy.transport_socket_match`, `tlsMode: istio`).
#[must_use]
pub fn endpoints(dump: &Value, host: &str) -> Vec<(String, bool)> {
    let suffix = format!("||{host}");
    let mut found = Vec::new();
    for entry in listed(dump, "dynamic_endpoint_configs") {
        let Some(config) = entry.get("endpoint_config") else { continue };
        let name = text(config, "/cluster_name");
        if !name.ends_with(&suffix) && !name.ends_with(&format!("|{host}")) {
            continue;
        }
        within(config, &mut |object| {
            let Some(endpoint) = object.get("endpoint") else { return };
            let address = endpoint.pointer("/address/socket_address/address").and_then(Value::as_str);
            let mode = object
                .get("metadata")
                .and_then(|m| m.pointer("/filter_metadata/envoy.transport_socket_match/tlsMode"));
            if let Some(address) = address {
                found.push((address.to_owned(), mode.is_some_and(|m| m == "istio")));
            }
        });
    }
    found
}

/// Whether the proxy answers its workload's DNS queries (Istio, "DNS Proxying"): its bootstrap then says so (pkg/model/proxy.go,
/// `NodeMetadata.DNSCapture`, from `ISTIO_META_DNS_CAPTURE`).
#[must_use]
pub fn captures_dns(dump: &Value) -> bool {
    let configs = dump.get("configs").and_then(Value::as_array).into_iter().flatten();
    let capture = |config: &Value| {
        config.pointer("/bootstrap/node/metadata/DNS_CAPTURE").is_some_and(|v| v == "true" || v == true)
    };
    configs.into_iter().any(capture)
}

/// The addresses that stand for hosts, by host: those of listeners that serve one address alone and lead to a cluster of the host
/// (pilot/pkg/networking/core/listener.go, `ADDRESS_PORT`). A workload whose DNS queries the proxy answers dials these.
#[must_use]
pub fn virtual_addresses(dump: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in listed(dump, "dynamic_listeners") {
        let Some(listener) = entry.pointer("/active_state/listener") else { continue };
        let address = text(listener, "/address/socket_address/address");
        let alone = address.parse::<IpAddr>().is_ok_and(|ip| !ip.is_unspecified() && !ip.is_loopback());
        if !alone {
            continue;
        }
        within(listener, &mut |object| {
            let cluster = object.get("cluster").and_then(Value::as_str).unwrap_or_default();
            let parts: Vec<&str> = cluster.split('|').collect();
            if let ["outbound", _, _, host] = parts[..] {
                found.entry(host.to_owned()).or_insert_with(|| address.to_owned());
            }
        });
    }
    found
}

#[cfg(test)]
#[path = "dump/tests.rs"]
mod tests;
