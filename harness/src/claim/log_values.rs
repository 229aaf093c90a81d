//! Claims about the values that an access-log line has for the reader who follows a request: sizes, times, and the identifiers
//! by which the lines of several proxies are brought together.

use meshproof_model::{AccessLog, Evidence, Field, LogFields, ValueKind};

use super::deviation::{self, Odd, What};
use super::proxy::lines;
use super::words::listed;
use super::{Claim, Finding, Reply, View};

fn line<'a>(proxy: &str, token: &str, view: View<'a>) -> Option<(&'a Evidence, &'a AccessLog)> {
    lines(proxy, view.evidence).find(|(e, _)| e.token.as_deref() == Some(token))
}

/// The parts of a line that the documents' samples show besides those that [`super::Logged`] compares.
fn missing(fields: &LogFields) -> Vec<&'static str> {
    let parts = [
        ("start time", fields.start_time.is_some()),
        ("bytes received", fields.bytes_received.is_some()),
        ("bytes sent", fields.bytes_sent.is_some()),
        ("duration", fields.duration_ms.is_some()),
        ("user agent", fields.user_agent.is_some()),
        ("request id", fields.request_id.is_some()),
        ("downstream address", fields.downstream_remote_address.is_some()),
    ];
    parts.into_iter().filter(|(_, there)| !there).map(|(name, _)| name).collect()
}

/// The proxy logged every value of the documents' samples for this request. Whether they are true, the ledger says.
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
        let gone = log.fields.as_ref().map(missing).unwrap_or_default();
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

/// The two proxies logged the request under one request id.
pub(crate) fn same_request_id(first: &str, second: &str, reply: &Reply) -> Claim {
    let (first, second, reply) = (first.to_owned(), second.to_owned(), reply.clone());
    Claim::new(move |view| {
        let expected = format!("one request id in the access-log lines of proxies {first} and {second}");
        let (one, other) = (line(&first, &reply.token, view), line(&second, &reply.token, view));
        let (Some((e, a)), Some((f, b))) = (one, other) else {
            let silent = if one.is_none() { &first } else { &second };
            return absent(silent, &reply, &expected);
        };
        let id = |log: &AccessLog| log.fields.as_ref().and_then(|f| f.request_id.clone());
        let shown = |log| id(log).unwrap_or_else(|| "no request id".to_owned());
        let seen = format!("proxy {first} logged {}, proxy {second} {}", shown(a), shown(b));
        let evidence = vec![e.id.clone(), f.id.clone()];
        if id(a).is_some() && id(a) == id(b) {
            return Finding::holds(expected, seen, evidence).about(&reply.id);
        }
        let hop = (deviation::proxy(&first), deviation::proxy(&second));
        let what = What::of(Field::LogField).named("request id");
        let deviation = what.deviates(&hop, &expected, &Odd::from(seen.clone()));
        Finding::broken(expected, seen, evidence).by([deviation]).about(&reply.id)
    })
}

fn absent(proxy: &str, reply: &Reply, expected: &str) -> Finding {
    let seen = format!("proxy {proxy} logged no access-log line with this token");
    let hop = (deviation::proxy(proxy), deviation::proxy(proxy));
    let what = What::of(Field::LogLine).being(ValueKind::One);
    let deviation = what.deviates(&hop, expected, &Odd::absent("no access-log line"));
    Finding::undecided(expected, seen, vec![reply.id.clone()]).by([deviation])
}
