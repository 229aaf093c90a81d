//! Claims about the values that an access-log line has for the reader who follows a request: sizes, times, and the identifiers
//! by which the lines of several proxies are brought together.

use meshproof_model::{AccessLog, Evidence, Field, LogFields};

use super::deviation::{self, Odd, What};
use super::proxy::{lacks, lines, not_logged};
use super::words::listed;
use super::{Claim, Finding, Reply, View};

fn line<'a>(proxy: &str, token: &str, view: View<'a>) -> Option<(&'a Evidence, &'a AccessLog)> {
    lines(proxy, view.evidence).find(|(e, _)| e.token.as_deref() == Some(token))
}

/// The parts of a line that the documents' samples show besides those that [`super::Logged`] compares: how the report calls each
/// that is missing, and its key.
fn missing(fields: &LogFields) -> Vec<(&'static str, &'static str)> {
    let parts = [
        ("start time", "start_time", fields.start_time.is_some()),
        ("bytes received", "bytes_received", fields.bytes_received.is_some()),
        ("bytes sent", "bytes_sent", fields.bytes_sent.is_some()),
        ("duration", "duration", fields.duration_ms.is_some()),
        ("user agent", "user_agent", fields.user_agent.is_some()),
        ("request id", "request_id", fields.request_id.is_some()),
        ("downstream address", "downstream_remote_address", fields.downstream_remote_address.is_some()),
    ];
    parts.into_iter().filter(|(_, _, there)| !there).map(|(name, key, _)| (name, key)).collect()
}

/// The proxy logged every value of the documents' samples for this request. Whether they are true, the ledger says. Skipped if
/// only values are missing that the configured format does not have.
pub(crate) fn complete(proxy: &str, reply: &Reply) -> Claim {
    let (proxy, reply) = (proxy.to_owned(), reply.clone());
    Claim::new(move |view| {
        let expected = format!(
            "start time, bytes, duration, user agent, request id and downstream address in the access-log line of proxy {proxy}"
        );
        let hop = (deviation::proxy(&proxy), deviation::proxy(&proxy));
        let Some((e, log)) = line(&proxy, &reply.token, view) else {
            return absent(&proxy, &reply, &expected);
        };
        let missing = log.fields.as_ref().map(missing).unwrap_or_default();
        let (unconfigured, gone): (Vec<_>, Vec<_>) =
            missing.into_iter().partition(|(_, key)| lacks(log, key));
        let names = |parts: &[(&'static str, _)]| parts.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let (unconfigured, gone) = (names(&unconfigured), names(&gone));
        if log.fields.is_some() && gone.is_empty() && !unconfigured.is_empty() {
            return not_logged(&proxy, &unconfigured, expected, vec![e.id.clone()]).about(&reply.id);
        }
        if let (Some(_), []) = (&log.fields, gone.as_slice()) {
            let seen = format!("proxy {proxy} logged {}", crate::store::bounded(&log.line, 600));
            return Finding::holds(expected, seen, vec![e.id.clone()]).about(&reply.id);
        }
        let without = listed(gone.iter().map(|name| (*name).to_owned()));
        let seen = format!(
            "the access-log line of proxy {proxy} has no {without}: {}",
            crate::store::bounded(&log.line, 600)
        );
        let what = What::of(Field::LogField).named(gone.first().copied().unwrap_or("fields"));
        let deviation = what.deviates(&hop, &expected, &Odd::absent(seen.clone()));
        Finding::broken(expected, seen, vec![e.id.clone()]).by([deviation]).about(&reply.id)
    })
}

/// Records under which request ids two proxies logged the request. A gateway at the edge may replace the id that it receives (Envoy,
/// HttpConnectionManager, `preserve_external_request_id`). For a check that never fails; inconclusive if one of them logged none.
pub(crate) fn request_ids_recorded(first: &str, second: &str, reply: &Reply) -> Claim {
    let (first, second, reply) = (first.to_owned(), second.to_owned(), reply.clone());
    Claim::new(move |view| {
        let expected = format!("the request ids in the access-log lines of proxies {first} and {second}");
        let id = |proxy: &str| {
            let (e, log) = line(proxy, &reply.token, view)?;
            Some((e.id.clone(), log.fields.as_ref()?.request_id.clone()?))
        };
        match (id(&first), id(&second)) {
            (Some((e, a)), Some((f, b))) => {
                let alike = if a == b { "the same request id" } else { "different request ids" };
                let seen = format!("proxies {first} and {second} logged {alike}: {a}, {b}");
                Finding::holds(expected, seen, vec![e, f]).about(&reply.id)
            }
            (None, _) => absent(&first, &reply, &expected),
            (_, None) => absent(&second, &reply, &expected),
        }
    })
}

fn absent(proxy: &str, reply: &Reply, expected: &str) -> Finding {
    let seen = format!("proxy {proxy} logged no access-log line with this token that has the value");
    let odd = Odd::absent("no access-log line");
    let deviation = deviation::log_line().deviates(&deviation::own(proxy), expected, &odd);
    Finding::undecided(expected, seen, vec![reply.id.clone()]).by([deviation])
}

#[cfg(test)]
mod tests {
    use meshproof_model::{EvidenceId, Exchange, Fact, Side, Verdict};

    use super::*;
    use crate::access_log::LogFormat;

    const TEXT: &str = "%START_TIME% %DURATION% %REQ(USER-AGENT)% %REQ(X-REQUEST-ID)%";

    fn judged(format: &LogFormat, line: &str) -> Finding {
        let log = format.read_line(line.as_bytes()).expect("a line of the log");
        let evidence = Evidence {
            id: EvidenceId("e1".to_owned()),
            at_us: 0,
            step: 0,
            side: Side::Proxy { name: "egress".to_owned() },
            token: Some("t".to_owned()),
            fact: Fact::AccessLog(log),
        };
        let exchange = Exchange { url: String::new(), hops: Vec::new(), duration_us: 1 };
        let id = EvidenceId("e0".to_owned());
        let reply =
            Reply { id, token: "t".to_owned(), exchange, client: "workload sleep".to_owned(), mark: 0 };
        let view = View { evidence: &[evidence], marks: &[], changes: &[], unobserved: &[] };
        complete("egress", &reply).judge(view)
    }

    #[test]
    fn values_that_the_configured_format_does_not_have_are_not_the_proxys_fault() {
        let format = LogFormat::text(TEXT).unwrap();
        let finding = judged(&format, "2026-01-01T00:00:00.000Z 5 meshproof/t id");
        assert_eq!(finding.verdict, Verdict::Skipped, "{}", finding.seen);
        for part in ["bytes received", "bytes sent", "downstream address", "access-log format"] {
            assert!(finding.seen.contains(part), "{}", finding.seen);
        }
        // A value that the format has and the line does not is the proxy's.
        let finding = judged(&format, "2026-01-01T00:00:00.000Z - meshproof/t id");
        assert_eq!(finding.verdict, Verdict::Failed, "{}", finding.seen);
        assert!(finding.seen.contains("no duration:"), "{}", finding.seen);
    }

    #[test]
    fn a_line_of_no_configured_format_must_have_every_value() {
        let line = |bytes: &str| {
            format!(
                "[2026-01-01T00:00:00.000Z] \"GET / HTTP/1.1\" 200 - via_upstream - \"-\" {bytes} 5 1 0 \"-\" \
                 \"meshproof/t\" \"id\" \"a.example\" \"10.1.0.5:443\" outbound|443||a.example 10.1.0.5:1 1.2.3.4:80 \
                 10.1.0.5:2 - default"
            )
        };
        let default = LogFormat::default();
        assert_eq!(judged(&default, &line("0")).verdict, Verdict::Passed);
        let finding = judged(&default, &line("-"));
        assert_eq!(finding.verdict, Verdict::Failed, "{}", finding.seen);
        // As an adapter's: JSON, of which no format is declared.
        let json = r#"{"start_time": "2026-01-01T00:00:00.000Z", "response_code": 200, "user_agent": "meshproof/t"}"#;
        assert_eq!(judged(&default, json).verdict, Verdict::Failed);
    }
}
