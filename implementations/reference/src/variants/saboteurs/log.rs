//! Saboteurs of the access log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meshproof_harness::access_log;
use meshproof_local::data_plane::LogSink;
use meshproof_model::LogFields;

use crate::hooks::ProxyHooks;
use crate::log_entry::{LogEntry, RequestLine};
use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::json_line::json_line;
use crate::variants::placement::Placement;

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
    Definition::new(
        "log-wrong-protocol",
        "Logs HTTP/1.0 as the protocol of every request.",
        VariantBehaviour::LogEntry(|entry| {
            if let Some(request) = &mut entry.request {
                request.protocol = "HTTP/1.0";
            }
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "log-wrong-client-address",
        "Logs another port of the client than the connection had.",
        VariantBehaviour::LogEntry(|entry| {
            if let Some(remote) = &mut entry.downstream_remote {
                remote.set_port(remote.port().wrapping_add(1));
            }
        }),
    )
    .also_at(&[Placement::EgressGateway]),
    Definition::new(
        "log-host-as-server-name",
        "Logs the Host as the server name of requests that came without TLS.",
        VariantBehaviour::LogEntry(|entry| {
            if entry.server_name.is_none() {
                entry.server_name.clone_from(&entry.authority);
            }
        }),
    )
    .also_at(&[Placement::Sidecar, Placement::IngressGateway]),
    Definition::new(
        "log-old-start-time",
        "Logs a day in 2019 as the start of every request.",
        VariantBehaviour::LogLine(|proxy, line, logs| {
            let rest = line.split_once("] ").map_or(line.as_str(), |(_, rest)| rest);
            logs.line(proxy, &format!("[2019-01-01T00:00:00.000Z] {rest}"));
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "log-no-broken-answers",
        "Writes no line for requests whose server ended the connection.",
        VariantBehaviour::LogLine(|proxy, line, logs| {
            let fields = access_log::read_line(line.as_bytes()).fields;
            let broken = ["UC", "UPE"];
            if !fields.is_some_and(|f| f.response_flags.iter().any(|flag| broken.contains(&flag.as_str()))) {
                logs.line(proxy, &line);
            }
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "log-no-flags-of-failures",
        "Logs no response flag where it could not reach the server.",
        VariantBehaviour::LogEntry(|entry| {
            if entry.flag == Some("UF") {
                entry.flag = None;
            }
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "log-no-failures",
        "Writes no line for requests that get 400 or more.",
        VariantBehaviour::LogLine(|proxy, line, logs| {
            let status = line.split_once("\" ").and_then(|(_, rest)| rest.chars().next());
            if !matches!(status, Some('4' | '5')) {
                logs.line(proxy, &line);
            }
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "log-failure-as-success",
        "Logs 200 where it answers 500 or more itself.",
        VariantBehaviour::LogEntry(|entry| {
            if entry.status >= 500 {
                entry.status = 200;
                (entry.flag, entry.details, entry.failure) = (None, None, None);
            }
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "log-swapped-bytes",
        "Exchanges the bytes sent and received.",
        VariantBehaviour::LogEntry(|entry| {
            let received = entry.received.load(Ordering::Relaxed);
            entry.received = Arc::new(AtomicU64::new(entry.sent));
            entry.sent = received;
        }),
    ),
    Definition::new(
        "log-other-authority",
        "Logs another host as the authority of every request.",
        VariantBehaviour::LogEntry(|entry| {
            if entry.request.is_some() {
                entry.authority = Some("other.example".to_owned());
            }
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "log-every-second-upstream",
        "Leaves the upstream address out of every second line.",
        VariantBehaviour::Proxy(|_| Arc::new(EverySecondUpstream::default())),
    ),
    Definition::new(
        "log-no-duration",
        "Logs 0 as the duration of every request.",
        VariantBehaviour::LogLine(|proxy, line, logs| {
            changed(proxy, &line, logs, |f| f.duration_ms = Some(0))
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "log-duration-in-seconds",
        "Logs durations in seconds.",
        VariantBehaviour::LogLine(|proxy, line, logs| {
            changed(proxy, &line, logs, |f| f.duration_ms = f.duration_ms.map(|ms| ms / 1000));
        }),
    ),
    Definition::new(
        "log-other-request-id",
        "Logs a request id that the request did not have.",
        VariantBehaviour::LogEntry(|entry| {
            if let Some(id) = &mut entry.request_id {
                *id = id.chars().rev().collect();
            }
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "log-no-request-id-for-some",
        "Leaves the request id out of every second line.",
        VariantBehaviour::Proxy(|_| Arc::new(EverySecondRequestId::default())),
    ),
    Definition::new(
        "log-no-connection-bytes",
        "Logs that passed-through connections carried no bytes.",
        VariantBehaviour::LogEntry(|entry| {
            if entry.request.is_none() {
                (entry.received, entry.sent) = (Arc::default(), 0);
            }
        }),
    ),
];

#[derive(Default)]
struct EverySecondUpstream(AtomicU64);

impl ProxyHooks for EverySecondUpstream {
    fn log_entry(&self, entry: &mut LogEntry) {
        if self.0.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
            entry.upstream_host = None;
        }
    }
}

#[derive(Default)]
struct EverySecondRequestId(AtomicU64);

impl ProxyHooks for EverySecondRequestId {
    fn log_entry(&self, entry: &mut LogEntry) {
        if self.0.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
            entry.request_id = None;
        }
    }
}

/// Writes the line with another content.
fn changed(proxy: &str, line: &str, logs: &Arc<dyn LogSink>, change: impl Fn(&mut LogFields)) {
    match access_log::read_line(line.as_bytes()).fields {
        Some(mut fields) => {
            change(&mut fields);
            logs.line(proxy, &json_line(&fields, &[("request_id", fields.request_id.clone().into())]));
        }
        None => logs.line(proxy, line),
    }
}

fn with_port_80(cluster: &str) -> String {
    let mut parts: Vec<&str> = cluster.split('|').collect();
    if let [_, port, _, _] = parts.as_mut_slice() {
        *port = "80";
    }
    parts.join("|")
}
