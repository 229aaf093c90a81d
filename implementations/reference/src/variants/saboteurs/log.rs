//! Saboteurs of the access log.

use crate::log_entry::RequestLine;
use crate::variants::definition::{Definition, VariantBehaviour};

pub(super) const TABLE: &[Definition] = &[
    Definition::new("no-access-log", "Writes no access log.", VariantBehaviour::LogLine(|_, _, _| {})),
    Definition::new(
        "log-twice",
        "Writes each access-log line twice.",
        VariantBehaviour::LogLine(|proxy, line, logs| {
            logs.line(proxy, &line);
            logs.line(proxy, &line);
        }),
    ),
    Definition::new(
        "log-wrong-authority",
        "Logs the upstream address in place of the authority.",
        VariantBehaviour::LogEntry(|entry| {
            if let Some(host) = entry.upstream_host {
                entry.authority = Some(host.to_string());
            }
        }),
    ),
    Definition::new(
        "log-wrong-cluster",
        "Logs port 80 in the cluster's name, whatever its port is.",
        VariantBehaviour::LogEntry(|entry| {
            if let Some(cluster) = &mut entry.cluster {
                *cluster = with_port_80(cluster);
            }
        }),
    ),
    Definition::new(
        "log-passthrough-path",
        "Logs a method and a path for TLS that was passed through.",
        VariantBehaviour::LogEntry(|entry| {
            if entry.request.is_none() {
                entry.request =
                    Some(RequestLine { method: "GET".into(), path: "/".into(), protocol: "HTTP/1.1" });
            }
        }),
    ),
];

fn with_port_80(cluster: &str) -> String {
    let mut parts: Vec<&str> = cluster.split('|').collect();
    if let [_, port, _, _] = parts.as_mut_slice() {
        *port = "80";
    }
    parts.join("|")
}
