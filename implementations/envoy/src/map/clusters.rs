//! Upstream clusters and their TLS (pilot/pkg/networking/core/cluster_builder.go and cluster_tls.go).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use meshproof_plan::model::{
    ClientCertificate, Cluster, Discovery, NameCheck, ServerName, TlsVersion, Trust, UpstreamProtocol,
    UpstreamTls,
};
use serde_json::{Value, json};

use super::bootstrap::{MESH_CERTIFICATE, MESH_ROOTS, SYSTEM_ROOTS};
use super::common::{MappingContext, UNRESOLVED, address, destination, source};
use super::config::ClusterConfig;
use super::secrets::{client_name, trust_name};

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const PROTOCOL: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";

pub(super) fn cluster(cluster: &Cluster, context: &MappingContext<'_>) -> ClusterConfig {
    let mut credentials = BTreeMap::new();
    let mut value = json!({
        "@type": CLUSTER,
        "name": cluster.name,
        "type": "STATIC",
        // istiod's default.
        "connect_timeout": "10s",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": {
            "cluster_name": cluster.name,
            "endpoints": [{"lb_endpoints": endpoints(&cluster.discovery)}],
        },
        // getDefaultCircuitBreakerThresholds: no limit.
        "circuit_breakers": {"thresholds": [{
            "max_connections": u32::MAX, "max_pending_requests": u32::MAX,
            "max_requests": u32::MAX, "max_retries": u32::MAX,
        }]},
    });
    if matches!(cluster.discovery, Discovery::OriginalDestination(_)) {
        value["lb_subset_config"] = json!({
            "fallback_policy": "DEFAULT_SUBSET",
            "default_subset": {"destination": UNRESOLVED},
            "subset_selectors": [{"keys": ["destination"]}],
        });
    }
    let mut options = protocol(cluster.protocol);
    if let Some(tls) = &cluster.tls {
        let tls_context = tls_context(tls, cluster.protocol, context);
        value["transport_socket"] =
            json!({"name": "envoy.transport_sockets.tls", "typed_config": tls_context});
        if let UpstreamTls::Originate(o) = tls {
            let names = json!({
                "auto_sni": o.sni == ServerName::FromHost,
                "auto_san_validation": matches!(o.names, NameCheck::FromHost | NameCheck::OneOfAndHost(_))
                    && o.trust != Trust::Anybody,
            });
            options["upstream_http_protocol_options"] = names;
            credentials = versions(o.client_certificate.as_slice(), Some(&o.trust), context);
        }
    }
    value["typed_extension_protocol_options"] =
        json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options});
    ClusterConfig { credentials, value: Arc::new(value) }
}

fn endpoints(discovery: &Discovery) -> Vec<Value> {
    let endpoint = |at: SocketAddr| json!({"endpoint": {"address": address(at)}});
    match discovery {
        Discovery::Endpoints(all) => all.iter().map(|at| endpoint(*at)).collect(),
        Discovery::Nowhere => Vec::new(),
        Discovery::OriginalDestination(all) => {
            let places: BTreeSet<SocketAddr> = all.iter().map(|d| d.address).collect();
            let mut found: Vec<Value> = places
                .into_iter()
                .map(|at| {
                    let mut value = endpoint(at);
                    value["metadata"] = destination(&at.to_string());
                    value
                })
                .collect();
            // In a cluster, a request for a name that does not resolve never reaches the proxy. Here a
            // connection to port 0, which the operating system refuses, takes its place: 503, UF.
            let mut nowhere = endpoint(SocketAddr::from(([127, 0, 0, 1], 0)));
            nowhere["metadata"] = destination(UNRESOLVED);
            found.push(nowhere);
            found
        }
    }
}

fn protocol(protocol: UpstreamProtocol) -> Value {
    match protocol {
        UpstreamProtocol::Http1 => {
            json!({"@type": PROTOCOL, "explicit_http_config": {"http_protocol_options": {}}})
        }
        UpstreamProtocol::Http2 => {
            json!({"@type": PROTOCOL, "explicit_http_config": {"http2_protocol_options": {}}})
        }
        UpstreamProtocol::Downstream => json!({
            "@type": PROTOCOL,
            "use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}},
        }),
    }
}

/// The versions of the secrets with these certificates and these roots, by their names.
pub(super) fn versions(
    certificates: &[ClientCertificate],
    trust: Option<&Trust>,
    context: &MappingContext<'_>,
) -> BTreeMap<String, String> {
    let names = certificates.iter().map(client_name).chain(trust.and_then(trust_name));
    names.filter_map(|name| context.secrets.get(&name).map(|held| (name, held.version.clone()))).collect()
}

fn tls_context(tls: &UpstreamTls, protocol: UpstreamProtocol, context: &MappingContext<'_>) -> Value {
    match tls {
        UpstreamTls::MeshMutual { sni, peer_identities, alpn } => json!({
            "@type": TLS,
            "sni": sni,
            "common_tls_context": {
                "tls_params": parameters(None, None),
                "alpn_protocols": offered(alpn, protocol),
                "tls_certificate_sds_secret_configs": [{"name": MESH_CERTIFICATE}],
                "combined_validation_context": {
                    "default_validation_context": {"match_typed_subject_alt_names": sans(peer_identities)},
                    "validation_context_sds_secret_config": {"name": MESH_ROOTS},
                },
            },
        }),
        UpstreamTls::Originate(o) => {
            let secret = |name: String| secret(name, context);
            let mut common = json!({
                "tls_params": parameters(o.min_version, o.max_version),
                "alpn_protocols": offered(&o.alpn, protocol),
            });
            if let Some(client) = &o.client_certificate {
                common["tls_certificate_sds_secret_configs"] = json!([secret(client_name(client))]);
            }
            if o.trust != Trust::Anybody {
                let roots = trust_name(&o.trust).map_or_else(|| json!({"name": SYSTEM_ROOTS}), secret);
                let names = match &o.names {
                    NameCheck::OneOf(names) | NameCheck::OneOfAndHost(names) => sans(names),
                    NameCheck::FromHost | NameCheck::ChainOnly => Vec::new(),
                };
                common["combined_validation_context"] = json!({
                    "default_validation_context": {"match_typed_subject_alt_names": names},
                    "validation_context_sds_secret_config": roots,
                });
            }
            let mut tls = json!({"@type": TLS, "common_tls_context": common});
            if let ServerName::Fixed(name) = &o.sni {
                tls["sni"] = json!(name);
            }
            tls
        }
    }
}

/// A cluster that uses its client's protocol must negotiate that protocol. Without a configured list Envoy
/// offers exactly the protocol of the request, where Istio's ALPN filter would choose from the list.
fn offered(alpn: &[String], protocol: UpstreamProtocol) -> Vec<String> {
    match protocol {
        UpstreamProtocol::Http1 | UpstreamProtocol::Http2 => alpn.to_vec(),
        UpstreamProtocol::Downstream => Vec::new(),
    }
}

/// A reference to a secret, which Envoy reads from a file.
pub(super) fn secret(name: String, context: &MappingContext<'_>) -> Value {
    match context.secrets.get(&name) {
        Some(held) => json!({"name": name, "sds_config": source(&held.path)}),
        // Unreachable: every secret that the plan uses has a file.
        None => json!({"name": name}),
    }
}

/// `defaultUpstreamCommonTLSContext`: 1.2 to 1.3.
pub(super) fn parameters(min: Option<TlsVersion>, max: Option<TlsVersion>) -> Value {
    let word = |v: TlsVersion| match v {
        TlsVersion::Tls12 => "TLSv1_2",
        TlsVersion::Tls13 => "TLSv1_3",
    };
    json!({
        "tls_minimum_protocol_version": word(min.unwrap_or(TlsVersion::Tls12)),
        "tls_maximum_protocol_version": word(max.unwrap_or(TlsVersion::Tls13)),
    })
}

/// Matchers for names of any type: Envoy reads `match_subject_alt_names`, which istiod sets, the same way.
pub(super) fn sans(names: &[String]) -> Vec<Value> {
    let matcher = |kind: &str, name: &String| json!({"san_type": kind, "matcher": {"exact": name}});
    names
        .iter()
        .flat_map(|name| {
            if name.parse::<IpAddr>().is_ok() {
                vec![matcher("IP_ADDRESS", name)]
            } else if name.contains("://") {
                vec![matcher("URI", name)]
            } else {
                vec![matcher("DNS", name), matcher("URI", name)]
            }
        })
        .collect()
}
