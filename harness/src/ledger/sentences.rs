//! The sentences of the ledger's findings. Each finding is one account: what a client sent, what a server, a client or a proxy's
//! log has of it, and the difference.

use meshproof_model::Side;

use super::Ledger;
use super::books::{Asked, Received};
use super::compare::Compared;
use super::headers::FieldDifference;
use crate::claim::{Server, ServerPlace, capital};
use crate::forecast::Promise;
use crate::store::bounded;

/// How many differences one sentence names.
const MAX_DIFFERENCES: usize = 4;
/// How much of a URL or target a sentence shows.
const TARGET: usize = 200;

/// `external service edition.cnn.com`.
pub(super) fn server(ledger: &Ledger, host: &str) -> String {
    let place = if ledger.mesh_services.contains(host) { ServerPlace::Mesh } else { ServerPlace::Outside };
    Server { host: host.to_owned(), place }.to_string()
}

/// `workload sleep`.
fn client(asked: &Asked<'_>) -> String {
    match asked.side {
        Side::Workload { name } => format!("workload {name}"),
        Side::Suite => "the suite's own client".to_owned(),
        Side::Proxy { name } | Side::Service { host: name } => name.clone(),
    }
}

/// `GET http://edition.cnn.com/politics`.
fn request(asked: &Asked<'_>) -> String {
    format!("{} {}", asked.hop.method, bounded(&asked.hop.url, TARGET))
}

/// `Workload sleep sent GET http://edition.cnn.com/politics`.
pub(super) fn sent(asked: &Asked<'_>) -> String {
    capital(&format!("{} sent {}", client(asked), request(asked)))
}

/// `GET http://edition.cnn.com/politics from workload sleep`.
pub(super) fn described(asked: &Asked<'_>) -> String {
    format!("{} from {}", request(asked), client(asked))
}

/// `External service edition.cnn.com received GET /politics on port 80 in plain text`.
pub(super) fn received(ledger: &Ledger, r: &Received<'_>) -> String {
    capital(&received_inside(ledger, r))
}

/// The same inside a sentence.
pub(super) fn received_inside(ledger: &Ledger, r: &Received<'_>) -> String {
    let over = if r.request.over_tls { "over TLS" } else { "in plain text" };
    if r.request.is_conversation() {
        let server = server(ledger, r.host);
        return format!("{server} held a conversation on port {} {over}", r.request.port);
    }
    let target = bounded(&r.request.target, TARGET);
    let server = server(ledger, r.host);
    format!("{server} received {} {target} on port {} {over}", r.request.method, r.request.port)
}

/// What must become of a request, after `it must`: `arrive once at external service edition.cnn.com on port 443 over TLS opened
/// by sleep, through sleep`.
pub(super) fn promised(ledger: &Ledger, asked: &Asked<'_>) -> String {
    let all = asked.promises.iter().map(|promise| match promise {
        Promise::Open => "do what the configuration leaves open".to_owned(),
        Promise::Ends { why, .. } => format!("reach no server, because {why}"),
        Promise::Arrives(a) => {
            let by: Vec<&str> = a.proxies.iter().map(|p| p.proxy.as_str()).collect();
            let way = if by.is_empty() { String::new() } else { format!(", through {}", by.join(" and ")) };
            let server = server(ledger, &a.host);
            format!("arrive once at {server} on port {} {}{way}", a.port, a.transport)
        }
    });
    all.collect::<Vec<_>>().join(", or ")
}

/// A request that arrived, and how it or its answer differs at the two ends.
pub(super) fn differing(
    ledger: &Ledger,
    asked: &Asked<'_>,
    received: &Received<'_>,
    compared: &Compared,
) -> String {
    let at = |client: bool| -> Vec<&FieldDifference> {
        compared.iter().filter(|(at, _)| at.is_client() == client).map(|(_, d)| d).collect()
    };
    let (at_server, at_client) = (at(false), at(true));
    let mut sentences = vec![format!("{}.", sent(asked))];
    let server = server(ledger, received.host);
    if !at_server.is_empty() {
        sentences.push(capital(&format!("{server} received it with {}.", differences(&at_server))));
    }
    if !at_client.is_empty() {
        let answered =
            if at_server.is_empty() { format!("{server} received it, and ") } else { String::new() };
        let words = format!("{answered}{} received {}.", client(asked), differences(&at_client));
        sentences.push(capital(&words));
    }
    sentences.join(" ")
}

/// `path /Politics instead of path /politics, and no header cookie instead of header cookie: a=1`.
pub(super) fn differences(all: &[&FieldDifference]) -> String {
    let mut named: Vec<String> =
        all.iter().take(MAX_DIFFERENCES).map(|d| format!("{} instead of {}", d.seen, d.expected)).collect();
    match all.len().saturating_sub(MAX_DIFFERENCES) {
        0 => {}
        1 => named.push("1 more difference".to_owned()),
        more => named.push(format!("{more} more differences")),
    }
    named.join(", and ")
}
