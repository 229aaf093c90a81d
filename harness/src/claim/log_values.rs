//! Claims about the values that an access-log line has for the reader who follows a request: sizes, times, and the identifiers
//! by which the lines of several proxies are brought together.

use meshproof_model::{AccessLog, Evidence, Field, LogFields};

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
