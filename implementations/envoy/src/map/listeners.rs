//! Listeners and their filter chains (pilot/pkg/networking/core/listener.go, listener_builder.go,
//! gateway.go).

use std::collections::BTreeMap;
use std::sync::Arc;

use meshproof_local::data_plane::DataPlaneError;
use meshproof_plan::model::{
    Action, ChainMatch, Direction, DownstreamTls, FilterChain, Listener, ProxyPlan, ServerTls, Transport,
};
use serde_json::{Value, json};

use super::bootstrap::{
    HTTP, MESH_CERTIFICATE, MESH_ROOTS, SYSTEM_ROOTS, TCP, TCP_STATS, access_log, http_filters, mark,
};
use super::clusters::{parameters, sans, secret, versions};
use super::common::{MappingContext, UNRESOLVED, address, by_host, destination, file_name, source};
use super::config::RouteConfig;
use super::routes;
use super::secrets::{client_name, trust_name};

const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const INSPECTOR: &str = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
const HTTP_INSPECTOR: &str =
    "type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector";
const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";

/// A listener's name and value. Adds its route configurations to `into`.
pub(super) fn listener(
    listener: &Listener,
    plan: &ProxyPlan,
    context: &MappingContext<'_>,
    into: &mut BTreeMap<String, RouteConfig>,
) -> Result<(String, Value), DataPlaneError> {
    // istiod's name alone is not unique here: every port that a sidecar serves is its `virtualInbound`.
    let name = format!("{} {}", listener.name, listener.bind);
    let mut chains = Vec::new();
    let mut taken: Vec<ChainMatch> = Vec::new();
    for chain in &listener.chains {
        for (matches, filter) in filters(chain, listener, plan, context, &taken, into)? {
            // Envoy refuses two chains with the same condition. The plan takes the first one.
            if taken.contains(&matches) {
                continue;
            }
            let mut value = json!({"name": chain.name, "filters": [filter]});
            if let Some(condition) = condition(&matches) {
                value["filter_chain_match"] = condition;
            }
            match &chain.tls {
                None => {}
                Some(DownstreamTls::MeshMutual) => value["transport_socket"] = mesh_tls(),
                Some(DownstreamTls::Own(own)) => value["transport_socket"] = own_tls(own, context),
            }
            chains.push(value);
            taken.push(matches);
        }
    }
    let looks = taken.iter().any(|m| m.transport != Transport::Any || !m.server_names.is_empty());
    let looks_for_http = taken.iter().any(|m| m.transport == Transport::PlainHttp);
    let mut inspectors = Vec::new();
    if looks {
        let tls =
            json!({"name": "envoy.filters.listener.tls_inspector", "typed_config": {"@type": INSPECTOR}});
        inspectors.push(tls);
    }
    if looks_for_http {
        let name = "envoy.filters.listener.http_inspector";
        inspectors.push(json!({"name": name, "typed_config": {"@type": HTTP_INSPECTOR}}));
    }
    let value = json!({
        "@type": LISTENER,
        "name": name,
        "address": address(listener.bind),
        // Otherwise another process could listen on the same address, and which one answers would be unknown.
        "enable_reuse_port": false,
        "traffic_direction": match listener.direction {
            Direction::Outbound | Direction::Gateway => "OUTBOUND",
            Direction::Inbound => "INBOUND",
        },
        "listener_filters": inspectors,
        "filter_chains": chains,
    });
    Ok((name, value))
}

/// The `filter_chain_match`; none where the chain takes any connection.
fn condition(matches: &ChainMatch) -> Option<Value> {
    let mut condition = serde_json::Map::new();
    match matches.transport {
        Transport::Any => {}
        Transport::Tls => {
            condition.insert("transport_protocol".to_owned(), json!("tls"));
        }
        Transport::Plain => {
            condition.insert("transport_protocol".to_owned(), json!("raw_buffer"));
        }
        // plaintextHTTPALPNs in pilot/pkg/networking/core/listener.go.
        Transport::PlainHttp => {
            condition.insert("transport_protocol".to_owned(), json!("raw_buffer"));
            let protocols = json!(["http/1.0", "http/1.1", "h2c"]);
            condition.insert("application_protocols".to_owned(), protocols);
        }
    }
    if !matches.server_names.is_empty() {
        condition.insert("server_names".to_owned(), json!(matches.server_names));
    }
    (!condition.is_empty()).then(|| condition.into())
}

/// The network filters of a chain, each with the connections that it takes. It is one filter, or, for bytes
/// that go to the application's original destination, one filter per destination, selected by server name.
fn filters(
    chain: &FilterChain,
    listener: &Listener,
    plan: &ProxyPlan,
    context: &MappingContext<'_>,
    taken: &[ChainMatch],
    into: &mut BTreeMap<String, RouteConfig>,
) -> Result<Vec<(ChainMatch, Value)>, DataPlaneError> {
    match &chain.action {
        Action::Http(http) => {
            let value = routes::configuration(http, listener, plan)?;
            let name = place(
                http.name.clone(),
                RouteConfig { direction: listener.direction, value: Arc::new(value) },
                into,
            );
            Ok(vec![(
                chain.matches.clone(),
                connection_manager(&name, &statistics(listener, chain), listener.direction, context),
            )])
        }
        Action::TcpWeighted(clusters) => {
            let each = clusters.iter().map(|w| json!({"name": w.cluster, "weight": w.weight}));
            let each: Vec<Value> = each.collect();
            let mut filter = tcp_proxy("", None);
            if let Some(proxy) = filter["typed_config"].as_object_mut() {
                proxy.remove("cluster");
                proxy.insert("weighted_clusters".to_owned(), json!({"clusters": each}));
            }
            Ok(vec![(chain.matches.clone(), filter)])
        }
        Action::Tcp { cluster } => {
            let planned = plan.cluster(cluster);
            let mut found = Vec::new();
            if let Some(places) = planned.and_then(|c| by_host(c, listener.port)) {
                let before = |host: &str| taken.iter().any(|m| takes_tls(m) && names(m, host));
                let wanted = |host: &str| {
                    takes_tls(&chain.matches)
                        && (chain.matches.server_names.is_empty() || names(&chain.matches, host))
                };
                for (host, at) in places {
                    // Envoy would prefer the exact name, even where the plan tries a pattern before it.
                    if wanted(&host) && !before(&host) {
                        let matches = ChainMatch { transport: Transport::Tls, server_names: vec![host] };
                        found.push((matches, tcp_proxy(cluster, Some(&at.to_string()))));
                    }
                }
                found.push((chain.matches.clone(), tcp_proxy(cluster, Some(UNRESOLVED))));
            } else {
                found.push((chain.matches.clone(), tcp_proxy(cluster, None)));
            }
            Ok(found)
        }
    }
}

fn takes_tls(matches: &ChainMatch) -> bool {
    matches!(matches.transport, Transport::Any | Transport::Tls)
}

/// Whether a condition's server names include this host.
fn names(matches: &ChainMatch, host: &str) -> bool {
    matches.server_names.iter().any(|want| match want.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => want.eq_ignore_ascii_case(host),
    })
}

/// Adds a route configuration under its name, or under a numbered name where another configuration has the
/// name.
fn place(name: String, route_config: RouteConfig, into: &mut BTreeMap<String, RouteConfig>) -> String {
    let mut chosen = name.clone();
    for number in 2.. {
        match into.get(&chosen) {
            None => break,
            Some(known) if known.value["virtual_hosts"] == route_config.value["virtual_hosts"] => {
                return chosen;
            }
            Some(_) => chosen = format!("{name}#{number}"),
        }
    }
    let RouteConfig { direction, mut value } = route_config;
    Arc::make_mut(&mut value)["name"] = json!(chosen);
    into.insert(chosen.clone(), RouteConfig { direction, value });
    chosen
}

/// A name for a chain's statistics, which show whether a client is still connected to it.
fn statistics(listener: &Listener, chain: &FilterChain) -> String {
    let plain = chain.name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' });
    format!("{}_{}", listener.bind.port(), plain.collect::<String>())
}

/// `buildHTTPConnectionManager` (listener_builder.go), with `buildSidecarOutboundHTTPListenerOpts`,
/// `buildSidecarInboundHTTPOpts` and `buildGatewayConnectionManager`.
fn connection_manager(
    routes: &str,
    statistics: &str,
    direction: Direction,
    context: &MappingContext<'_>,
) -> Value {
    let mut manager = json!({
        "@type": HTTP,
        "stat_prefix": statistics,
        "codec_type": "AUTO",
        "rds": {
            "route_config_name": routes,
            "config_source": source(&context.folder.join(file_name("rds", routes))),
        },
        "use_remote_address": direction == Direction::Gateway,
        "normalize_path": true,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "stream_idle_timeout": "0s",
        "proxy_100_continue": true,
        "access_log": access_log(mark::REQUEST),
        "http_filters": http_filters(),
    });
    match direction {
        Direction::Outbound => {}
        Direction::Inbound => {
            manager["server_name"] = json!("istio-envoy");
            manager["forward_client_cert_details"] = json!("APPEND_FORWARD");
            manager["set_current_client_cert_details"] = json!({"subject": true, "uri": true, "dns": true});
        }
        Direction::Gateway => {
            manager["server_name"] = json!("istio-envoy");
            manager["forward_client_cert_details"] = json!("SANITIZE_SET");
            manager["set_current_client_cert_details"] =
                json!({"subject": true, "cert": true, "uri": true, "dns": true});
        }
    }
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager})
}

fn tcp_proxy(cluster: &str, to: Option<&str>) -> Value {
    let mut proxy = json!({
        "@type": TCP,
        "stat_prefix": TCP_STATS,
        "cluster": cluster,
        "access_log": access_log(mark::CONNECTION),
    });
    if let Some(to) = to {
        proxy["metadata_match"] = destination(to);
    }
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy})
}

/// ISTIO_MUTUAL (`BuildListenerTLSContext`).
/// The versions of the secrets that a listener uses, by their names.
pub(super) fn credentials(listener: &Listener, context: &MappingContext<'_>) -> BTreeMap<String, String> {
    let own = listener.chains.iter().filter_map(|chain| chain.tls.as_ref()?.own());
    own.flat_map(|own| versions(&own.certificates, own.client_ca.as_ref(), context)).collect()
}

/// `BuildListenerTLSContext` (pilot/pkg/networking/core/listener.go).
fn own_tls(own: &ServerTls, context: &MappingContext<'_>) -> Value {
    let mut common = json!({
        "tls_params": parameters(own.min_version, own.max_version),
        "alpn_protocols": own.alpn,
        "tls_certificate_sds_secret_configs":
            own.certificates.iter().map(|of| secret(client_name(of), context)).collect::<Vec<_>>(),
    });
    if !own.cipher_suites.is_empty() {
        common["tls_params"]["cipher_suites"] = json!(own.cipher_suites);
    }
    if let Some(trust) = &own.client_ca {
        common["combined_validation_context"] = json!({
            "default_validation_context": {"match_typed_subject_alt_names": sans(&own.client_names)},
            "validation_context_sds_secret_config":
                trust_name(trust).map_or_else(|| json!({"name": SYSTEM_ROOTS}), |name| secret(name, context)),
        });
    }
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": TLS,
            "require_client_certificate": own.require_client_certificate,
            "common_tls_context": common,
        },
    })
}

fn mesh_tls() -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": TLS,
            "require_client_certificate": true,
            "common_tls_context": {
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_2",
                    "tls_maximum_protocol_version": "TLSv1_3",
                },
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificate_sds_secret_configs": [{"name": MESH_CERTIFICATE}],
                "combined_validation_context": {
                    "default_validation_context": {},
                    "validation_context_sds_secret_config": {"name": MESH_ROOTS},
                },
            },
        },
    })
}
