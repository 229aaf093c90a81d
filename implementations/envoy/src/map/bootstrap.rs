//! What an Envoy is started with: where its configuration comes from, its mesh identity, and the fence.

use std::path::Path;

use meshproof_local::data_plane::MeshCertificate;
use serde_json::{Value, json};

use super::secrets::{Content, resource};
use super::source;

/// Istio's names for the proxy's own certificate and the mesh's roots.
pub(super) const MESH_CERTIFICATE: &str = "default";
/// See [`MESH_CERTIFICATE`].
pub(super) const MESH_ROOTS: &str = "ROOTCA";
/// Istio's name for the system's roots.
pub(super) const SYSTEM_ROOTS: &str = "file-root:system";

pub(super) const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
pub(super) const HTTP: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
pub(super) const TCP: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const STDOUT: &str = "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";

/// The `stat_prefix` of everything that passes bytes on.
pub(crate) const TCP_STATS: &str = "tcp";
/// The name of the fence's listener.
pub(crate) const FENCE: &str = "fence";

/// How the names of all statistics end that are looked at.
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

/// What a line on standard output begins with, and so what wrote it.
pub(crate) mod mark {
    /// A request.
    pub(crate) const REQUEST: &str = "R ";
    /// A connection.
    pub(crate) const CONNECTION: &str = "C ";
    /// The fence; the path that was asked for follows.
    pub(crate) const FENCE: &str = "F ";
}

/// `EnvoyTextLogFormat` (pilot/pkg/model/telemetry_logging.go).
const ISTIO: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
    \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% \
    %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

fn to_stdout(format: &str) -> Value {
    json!([{
        "name": "envoy.access_loggers.stdout",
        "typed_config": {"@type": STDOUT, "log_format": {"text_format_source": {"inline_string": format}}},
    }])
}

/// Istio's access log, each line behind a mark.
pub(super) fn access_log(mark: &str) -> Value {
    to_stdout(&format!("{mark}{ISTIO}"))
}

/// The HTTP filters of every connection manager.
pub(super) fn http_filters() -> Value {
    json!([{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}])
}

/// The bootstrap of one proxy. It holds the proxy's mesh key: a file for its owner's eyes alone.
pub(crate) fn bootstrap(
    proxy: &str,
    folder: &Path,
    identity: &MeshCertificate,
    mesh_roots: &str,
    system_roots: &str,
) -> Value {
    let pair = Content::Pair { certificate: identity.certificate.clone(), key: identity.key.clone() };
    let roots = |ca: &str| Content::Roots { ca: ca.to_owned(), crl: None };
    let mut secrets = vec![
        resource(MESH_CERTIFICATE, &pair),
        resource(MESH_ROOTS, &roots(mesh_roots)),
        resource(SYSTEM_ROOTS, &roots(system_roots)),
    ];
    for secret in &mut secrets {
        // The type is known here, and Envoy refuses to be told.
        if let Some(fields) = secret.as_object_mut() {
            fields.remove("@type");
        }
    }
    json!({
        "node": {"id": proxy, "cluster": proxy},
        // Any free port of loopback; Envoy writes down which.
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        // All that is asked for: every other statistic costs time at each change, and at each look.
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns":
            STATISTICS.iter().map(|suffix| json!({"suffix": suffix})).collect::<Vec<_>>()
        }}},
        "static_resources": {"listeners": [fence()], "secrets": secrets},
        "dynamic_resources": {
            "cds_config": source(&folder.join("cds.json")),
            "lds_config": source(&folder.join("lds.json")),
        },
    })
}

/// A listener of the suite's own, served by the worker that serves everything else: what it logs, it logs after all that
/// came before.
fn fence() -> Value {
    let answers = json!({
        "@type": HTTP,
        "stat_prefix": FENCE,
        "codec_type": "HTTP1",
        "access_log": to_stdout(&format!("{}%REQ(:PATH)%\n", mark::FENCE)),
        "http_filters": http_filters(),
        "route_config": {"name": FENCE, "virtual_hosts": [{
            "name": FENCE, "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 204}}],
        }]},
    });
    // No connection ever comes to this chain. It keeps the counter of connections from beginning anew whenever the last
    // other chain of its kind goes.
    let keeper = json!({"@type": TCP, "stat_prefix": TCP_STATS, "cluster": "nowhere"});
    json!({
        "name": FENCE,
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
