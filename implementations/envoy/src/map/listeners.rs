//! Listeners and their filter chains (pilot/pkg/networking/core/listener.go, listener_builder.go, gateway.go).

use std::collections::BTreeMap;
use std::sync::Arc;

use meshproof_local::data_plane::DataPlaneError;
use meshproof_plan::model::{
    Action, ChainMatch, Direction, DownstreamTls, FilterChain, Listener, ProxyPlan, Transport,
};
use serde_json::{Value, json};

use super::bootstrap::{HTTP, MESH_CERTIFICATE, MESH_ROOTS, TCP, TCP_STATS, access_log, http_filters, mark};
use super::{Routing, Surroundings, UNRESOLVED, address, by_host, destination, file_name, routes, source};

const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const INSPECTOR: &str = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";

/// A listener's name and value; its route configurations go into `routes`.
pub(super) fn listener(
    listener: &Listener,
    plan: &ProxyPlan,
    around: &Surroundings<'_>,
    into: &mut BTreeMap<String, Routing>,
) -> Result<(String, Value), DataPlaneError> {
    // istiod's name is not unique here: every served port of a sidecar is its `virtualInbound`.
    let name = format!("{} {}", listener.name, listener.bind);
    let mut chains = Vec::new();
    let mut taken: Vec<ChainMatch> = Vec::new();
    for chain in &listener.chains {
        for (matches, filter) in filters(chain, listener, plan, around, &taken, into)? {
            // Envoy refuses two chains with one condition; the first would be taken.
            if taken.contains(&matches) {
                continue;
            }
            let mut value = json!({"name": chain.name, "filters": [filter]});
            if let Some(condition) = condition(&matches) {
                value["filter_chain_match"] = condition;
            }
            if let Some(DownstreamTls::MeshMutual) = chain.tls {
                value["transport_socket"] = mesh_tls();
            }
            chains.push(value);
            taken.push(matches);
        }
    }
    let looks = taken.iter().any(|m| m.transport != Transport::Any || !m.server_names.is_empty());
    let inspectors = if looks {
        json!([{"name": "envoy.filters.listener.tls_inspector", "typed_config": {"@type": INSPECTOR}}])
    } else {
        json!([])
    };
    let value = json!({
        "@type": LISTENER,
        "name": name,
        "address": address(listener.bind),
        // With it, another process could listen there too and nobody would know who answers.
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

/// `filter_chain_match`; none: any connection.
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
    }
    if !matches.server_names.is_empty() {
        condition.insert("server_names".to_owned(), json!(matches.server_names));
    }
    (!condition.is_empty()).then(|| condition.into())
}

/// The network filters of a chain, each with the connections that it takes: one, or for bytes that go where the
/// application was going one for each such place, told apart by the server name.
fn filters(
    chain: &FilterChain,
    listener: &Listener,
    plan: &ProxyPlan,
    around: &Surroundings<'_>,
    taken: &[ChainMatch],
    into: &mut BTreeMap<String, Routing>,
) -> Result<Vec<(ChainMatch, Value)>, DataPlaneError> {
    match &chain.action {
        Action::Http(http) => {
            let value = routes::configuration(http, listener, plan)?;
            let name = place(
                http.name.clone(),
                Routing { direction: listener.direction, value: Arc::new(value) },
                into,
            );
            Ok(vec![(
                chain.matches.clone(),
                connection_manager(&name, &statistics(listener, chain), listener.direction, around),
            )])
        }
        Action::Tcp { cluster } => {
            let planned = plan.cluster(cluster);
            let mut found = Vec::new();
            if let Some(places) = planned.and_then(|c| by_host(c, listener.port)) {
                let before =
                    |host: &str| taken.iter().any(|m| m.transport != Transport::Plain && names(m, host));
                let wanted = |host: &str| {
                    chain.matches.transport != Transport::Plain
                        && (chain.matches.server_names.is_empty() || names(&chain.matches, host))
                };
                for (host, at) in places {
                    // Envoy would prefer the exact name to a pattern that the plan tries first.
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

/// Whether one of the server names of a condition is this one.
fn names(matches: &ChainMatch, host: &str) -> bool {
    matches.server_names.iter().any(|want| match want.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => want.eq_ignore_ascii_case(host),
    })
}

/// Puts a route configuration in place under its name, or under a name of its own where another one has it.
fn place(name: String, routing: Routing, into: &mut BTreeMap<String, Routing>) -> String {
    let mut chosen = name.clone();
    for number in 2.. {
        match into.get(&chosen) {
            None => break,
            Some(known) if known.value["virtual_hosts"] == routing.value["virtual_hosts"] => return chosen,
            Some(_) => chosen = format!("{name}#{number}"),
        }
    }
    let Routing { direction, mut value } = routing;
    Arc::make_mut(&mut value)["name"] = json!(chosen);
    into.insert(chosen.clone(), Routing { direction, value });
    chosen
}

/// A name for a chain's statistics, which tell whether anybody is still connected to it.
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
    around: &Surroundings<'_>,
) -> Value {
    let mut manager = json!({
        "@type": HTTP,
        "stat_prefix": statistics,
        "codec_type": "AUTO",
        "rds": {"route_config_name": routes, "config_source": source(&around.folder.join(file_name("rds", routes)))},
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
fn mesh_tls() -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": TLS,
            "require_client_certificate": true,
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
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
