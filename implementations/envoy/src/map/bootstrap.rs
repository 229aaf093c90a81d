//! The configuration that Envoy starts with: its configuration sources, its mesh identity, and the flush
//! marker.

use std::path::Path;

use meshproof_local::data_plane::MeshCertificate;
use serde_json::{Value, json};

use super::common::source;
use super::secrets::{SecretContent, resource};

/// Istio's names for the proxy's own certificate and the mesh's roots.
pub(super) const MESH_CERTIFICATE: &str = "default";
/// See [`MESH_CERTIFICATE`].
pub(super) const MESH_ROOTS: &str = "ROOTCA";
/// Istio's name for the system's roots.
pub(super) const SYSTEM_ROOTS: &str = "file-root:system";

pub(super) const HTTP: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
pub(super) const TCP: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const STDOUT: &str = "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";

/// The `stat_prefix` of every filter that passes bytes on.
pub(crate) const TCP_STATS: &str = "tcp";
/// The name of the flush marker's listener.
pub(crate) const FLUSH_MARKER: &str = "flush-marker";

/// The suffixes of the names of all statistics that are read.
pub(crate) const STATISTICS: &[&str] = &[
    ".version_text",
    ".update_rejected",
    "cluster_manager.warming_clusters",
    "listener_manager.total_listeners_warming",
    "listener_manager.listener_create_failure",
    "listener_manager.total_listeners_draining",
    "listener_manager.total_filter_chains_draining",
    ".downstream_cx_active",
    "tcp.tcp.downstream_cx_total",
];

/// The prefixes of lines on standard output, which show what wrote a line.
pub(crate) mod mark {
    /// A request.
    pub(crate) const REQUEST: &str = "R ";
    /// A connection.
    pub(crate) const CONNECTION: &str = "C ";
    /// The flush marker. The path of the request follows.
    pub(crate) const FLUSH: &str = "F ";
}

/// `EnvoyTextLogFormat` (pilot/pkg/model/telemetry_logging.go).
const ISTIO: &str = "\
    [%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
    \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
    %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

fn to_stdout(format: &str) -> Value {
    json!([{
        "name": "envoy.access_loggers.stdout",
        "typed_config": {"@type": STDOUT, "log_format": {"text_format_source": {"inline_string": format}}},
    }])
}

/// Istio's access log, with this prefix on each line.
pub(super) fn access_log(mark: &str) -> Value {
    to_stdout(&format!("{mark}{ISTIO}"))
}

/// The HTTP filters of every connection manager.
pub(super) fn http_filters() -> Value {
    json!([{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}])
}

/// The bootstrap of one proxy. It contains the proxy's mesh key, so only its owner may read the file.
pub(crate) fn bootstrap(
    proxy: &str,
    folder: &Path,
    identity: &MeshCertificate,
    mesh_roots: &str,
    system_roots: &str,
) -> Value {
    let pair = SecretContent::Pair { certificate: identity.certificate.clone(), key: identity.key.clone() };
    let roots = |ca: &str| SecretContent::Roots { ca: ca.to_owned(), crl: None };
    let mut secrets = vec![
        resource(MESH_CERTIFICATE, &pair),
        resource(MESH_ROOTS, &roots(mesh_roots)),
        resource(SYSTEM_ROOTS, &roots(system_roots)),
    ];
    for secret in &mut secrets {
        // Envoy rejects a type where only one type is possible.
        if let Some(fields) = secret.as_object_mut() {
            fields.remove("@type");
        }
    }
    json!({
        "node": {"id": proxy, "cluster": proxy},
        // Any free loopback port; Envoy writes its number to a file.
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        // Only what is read: every further statistic costs time at each change and at each read.
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns":
            STATISTICS.iter().map(|suffix| json!({"suffix": suffix})).collect::<Vec<_>>()
        }}},
        "static_resources": {"listeners": [flush_marker()], "secrets": secrets},
        "dynamic_resources": {
            "cds_config": source(&folder.join("cds.json")),
            "lds_config": source(&folder.join("lds.json")),
        },
    })
}

/// A listener of the suite's own. The worker that serves everything else serves it too, so its log line comes
/// after those of everything before it.
fn flush_marker() -> Value {
    let answers = json!({
        "@type": HTTP,
        "stat_prefix": FLUSH_MARKER,
        "codec_type": "HTTP1",
        "access_log": to_stdout(&format!("{}%REQ(:PATH)%\n", mark::FLUSH)),
        "http_filters": http_filters(),
        "route_config": {"name": FLUSH_MARKER, "virtual_hosts": [{
            "name": FLUSH_MARKER, "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 204}}],
        }]},
    });
    // This chain never gets a connection. It keeps Envoy from resetting the counter of connections when the
    // last other TCP chain is removed.
    let keeper = json!({"@type": TCP, "stat_prefix": TCP_STATS, "cluster": "nowhere"});
    json!({
        "name": FLUSH_MARKER,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "enable_reuse_port": false,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": answers}]},
            {
                "filter_chain_match": {"destination_port": 1},
                "filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": keeper}],
            },
        ],
    })
}
