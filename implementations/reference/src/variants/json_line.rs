//! An access-log line in Istio's JSON format (`EnvoyJSONLogFormatIstio` in Istio's `pilot/pkg/model/telemetry_logging.go`).

use meshproof_model::LogFields;
use serde_json::{Value, json};

/// The line, with these further members.
pub(super) fn json_line(f: &LogFields, more: &[(&str, Value)]) -> String {
    let flags = if f.response_flags.is_empty() { "-".to_owned() } else { f.response_flags.join(",") };
    let mut line = json!({
        "start_time": f.start_time,
        "method": f.method,
        "path": f.path,
        "protocol": f.protocol,
        "response_code": f.response_code.unwrap_or_default().to_string(),
        "response_flags": flags,
        "response_code_details": f.response_code_details,
        "bytes_received": f.bytes_received,
        "bytes_sent": f.bytes_sent,
        "duration": f.duration_ms,
        "user_agent": f.user_agent,
        "authority": f.authority,
        "upstream_host": f.upstream_host,
        "upstream_cluster": f.upstream_cluster,
        "upstream_local_address": f.upstream_local_address,
        "upstream_transport_failure_reason": f.upstream_transport_failure_reason,
        "downstream_local_address": f.downstream_local_address,
        "downstream_remote_address": f.downstream_remote_address,
        "requested_server_name": f.requested_server_name,
        "route_name": f.route_name,
    });
    for (name, value) in more {
        line[*name] = value.clone();
    }
    line.to_string()
}
