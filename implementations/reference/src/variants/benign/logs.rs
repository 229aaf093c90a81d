//! Unusual access logs.

use meshproof_harness::access_log;
use serde_json::json;

use crate::variants::definition::{Definition, VariantBehaviour};

pub(super) const TABLE: &[Definition] = &[Definition::new(
    "json-log",
    "Writes its access log in JSON, with members that nobody asked for (Istio, accessLogEncoding).",
    VariantBehaviour::LogLine(|proxy, line, logs| logs.line(proxy, &in_json(&line))),
)];

fn in_json(line: &str) -> String {
    let Some(f) = access_log::read_line(line.as_bytes()).fields else { return line.to_owned() };
    json!({
        "start_time": f.start_time,
        "method": f.method,
        "path": f.path,
        "protocol": f.protocol,
        "response_code": f.response_code.map(|code| code.to_string()),
        "response_flags": if f.response_flags.is_empty() { "-".to_owned() } else { f.response_flags.join(",") },
        "response_code_details": f.response_code_details,
        "bytes_received": f.bytes_received,
        "bytes_sent": f.bytes_sent,
        "duration": f.duration_ms,
        "user_agent": f.user_agent,
        "authority": f.authority,
        "upstream_host": f.upstream_host,
        "upstream_cluster": f.upstream_cluster,
        "upstream_local_address": f.upstream_local_address,
        "downstream_local_address": f.downstream_local_address,
        "downstream_remote_address": f.downstream_remote_address,
        "requested_server_name": f.requested_server_name,
        "route_name": f.route_name,
        "region": "somewhere",
        "sampled": true,
    })
    .to_string()
}
