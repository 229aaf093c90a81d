//! A proxy's output: access log, flush markers, and what it refused of its configuration.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use meshproof_harness::access_log::{self, LogFormat};
use meshproof_harness::store::Store;
use meshproof_model::{AccessLog, Fact, Side};

use super::flush_markers::FlushMarkers;
use super::refused_lines::{Line, RefusedLines};
use super::rejections::Rejections;
use super::state::is_flush_token;
use crate::api::{ClusterClient, LogFollower, PodRef};
use crate::places::Places;

/// Where what a proxy prints goes.
pub(super) struct Sinks<'a> {
    pub(super) store: &'a Store,
    pub(super) flush_markers: &'a Arc<FlushMarkers>,
    pub(super) rejections: &'a Arc<Rejections>,
}

/// Follows a proxy's output from the start of its pod, and records its access log as evidence.
pub(super) fn follow_proxy(
    api: &ClusterClient,
    pod: &PodRef,
    name: &str,
    sinks: &Sinks<'_>,
    places: &Places,
    format: Option<LogFormat>,
) -> LogFollower {
    let (name, store, places) = (name.to_owned(), sinks.store.clone(), places.clone());
    let (flush_markers, rejections) = (Arc::clone(sinks.flush_markers), Arc::clone(sinks.rejections));
    let refused = Mutex::new(RefusedLines::default());
    let sink = move |line: &[u8]| match read(line, &places, format.as_ref(), &mut lock(&refused)) {
        ProxyLine::Log(log) => {
            let token = log.fields.as_ref().and_then(access_log::token).map(str::to_owned);
            store.record(Side::Proxy { name: name.clone() }, token, Fact::AccessLog(*log));
        }
        ProxyLine::FlushMarker(token) => flush_markers.saw(&name, &token),
        ProxyLine::Rejection(words) => {
            if rejections.saw(&name, &words) {
                let text = format!("{name} reports that it refused part of its configuration: {words}");
                store.record(Side::Suite, None, Fact::Note { text });
            }
        }
        ProxyLine::Other => {}
    };
    api.follow_logs(pod, Timestamp::UNIX_EPOCH, sink)
}

fn lock(refused: &Mutex<RefusedLines>) -> MutexGuard<'_, RefusedLines> {
    refused.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a line of a proxy's output is.
#[derive(Debug, PartialEq)]
enum ProxyLine {
    Log(Box<AccessLog>),
    /// The suite's own request to the marker.
    FlushMarker(String),
    /// What the proxy refused, in its words.
    Rejection(String),
    /// A message of the agent or of Envoy.
    Other,
}

/// The proxy's output has the access log and, between its lines, the messages of agent and Envoy.
fn read(line: &[u8], places: &Places, format: Option<&LogFormat>, refused: &mut RefusedLines) -> ProxyLine {
    match refused.line(&String::from_utf8_lossy(line)) {
        Line::Resource => return ProxyLine::Other,
        Line::Refusal(words) => return ProxyLine::Rejection(words),
        Line::Other => {}
    }
    let line_of =
        |format: &LogFormat| format.read_line(places.documented(&String::from_utf8_lossy(line)).as_bytes());
    let Some(log) = format.and_then(line_of) else {
        return ProxyLine::Other;
    };
    let Some(fields) = &log.fields else { return ProxyLine::Log(Box::new(log)) };
    // A configured format need not have the host.
    let token = access_log::token(fields).filter(|token| is_flush_token(token));
    if let Some(token) = token {
        return ProxyLine::FlushMarker(token.to_owned());
    }
    let host = fields.authority.as_deref().unwrap_or_default();
    if host.contains(".marker.meshproof.internal") { ProxyLine::Other } else { ProxyLine::Log(Box::new(log)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Gateways;
    use meshproof_harness::topology::Topology;

    fn line(host: &str) -> String {
        format!(
            "[2026-01-01T00:00:00.000Z] \"GET / HTTP/1.1\" 200 - via_upstream - \"-\" 0 5 1 0 \"-\" \
             \"meshproof/r-s.00007\" \
             \"id\" \"{host}\" \"10.1.0.7:443\" outbound|80||gateway.mp-r1-s-gateways.svc.cluster.local \
             10.1.0.5:1 1.2.3.4:80 \
             10.1.0.5:2 - default"
        )
    }

    #[test]
    fn messages_of_the_agent_are_not_access_logs_and_lines_of_the_marker_are_not_evidence() {
        let places = Places::new("r1", "s", &Gateways::Own, &Topology::default());
        let read = |text: &str| {
            read(text.as_bytes(), &places, Some(&LogFormat::default()), &mut RefusedLines::default())
        };
        assert_eq!(read("2026-01-01T00:00:00.000000Z\tinfo\tEnvoy proxy is ready"), ProxyLine::Other);
        assert_eq!(read(r#"{"level":"info","time":"2026-01-01T00:00:00Z","msg":"ready"}"#), ProxyLine::Other);
        let refused = "t\twarning\tgRPC config for type.googleapis.com/a.Secret rejected: no key\tthread=1";
        assert_eq!(read(refused), ProxyLine::Rejection("Secret: no key".to_owned()));
        let flushed = line("r3.mp-r1-s-default.marker.meshproof.internal:18999");
        assert_eq!(read(&flushed), ProxyLine::Other, "a canary's request");
        let flushed = read(&flushed.replace("r-s.00007", "r-s-flush.00007"));
        assert_eq!(flushed, ProxyLine::FlushMarker("r-s-flush.00007".to_owned()));
        let ProxyLine::Log(log) = read(&line("edition.cnn.com")) else { panic!() };
        let fields = log.fields.unwrap();
        assert_eq!(fields.upstream_cluster.unwrap(), "outbound|80||gateway.istio-system.svc.cluster.local");
    }

    #[test]
    fn a_line_of_the_log_that_cannot_be_read_is_still_evidence() {
        let places = Places::new("r1", "s", &Gateways::Own, &Topology::default());
        assert!(
            matches!(read(b"[something else]", &places, Some(&LogFormat::default()), &mut RefusedLines::default()), ProxyLine::Log(log) if log.fields.is_none())
        );
    }
}
