//! Deviations as claims record them: on which hop, in which field, of which kind.

use meshproof_model::{
    Deviation, Evidence, EvidenceId, Exchange, ExchangeErrorKind, Fact, Field, HopResult, Party, Role, Side,
    TlsFacts, TlsFailure, ValueKind, Verdict,
};

use url::Url;

use super::words::{Server, ServerPlace, opening_proxy};
use super::{Finding, View};
use crate::topology::Topology;

/// What a condition is about, and the kind of value that it demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct What {
    pub(crate) field: Field,
    pub(crate) name: Option<String>,
    pub(crate) expected: ValueKind,
}

impl From<Field> for What {
    fn from(field: Field) -> Self {
        Self::of(field)
    }
}

impl What {
    /// The configured value of this field.
    pub(crate) const fn of(field: Field) -> Self {
        Self { field, name: None, expected: ValueKind::Configured }
    }

    /// Of the header or log field with this name.
    pub(crate) fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_ascii_lowercase()), ..self }
    }

    /// Another kind of value.
    pub(crate) fn being(self, expected: ValueKind) -> Self {
        Self { expected, ..self }
    }

    /// The deviation of this.
    pub(crate) fn deviates(&self, hop: &(Party, Party), expected: &str, odd: &Odd) -> Deviation {
        Deviation {
            from: hop.0.clone(),
            to: hop.1.clone(),
            field: self.field,
            name: odd.name.as_ref().or(self.name.as_ref()).cloned(),
            expected_kind: self.expected,
            seen_kind: odd.kind,
            expected: expected.to_owned(),
            seen: odd.words.clone(),
            evidence: None,
        }
    }
}

/// A value that is not the expected one.
#[derive(Clone, Debug)]
pub(crate) struct Odd {
    pub(crate) words: String,
    pub(crate) kind: ValueKind,
    /// Which of the headers it is, if the condition is about several.
    pub(crate) name: Option<String>,
}

impl From<String> for Odd {
    fn from(words: String) -> Self {
        Self { words, kind: ValueKind::Other, name: None }
    }
}

impl Odd {
    pub(crate) fn being(kind: ValueKind, words: impl Into<String>) -> Self {
        Self { words: words.into(), kind, name: None }
    }

    /// Of these headers: the first in the order of the alphabet, so that one header is one cause, whatever comes with it.
    pub(crate) fn named<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        Self { name: names.into_iter().map(str::to_ascii_lowercase).min(), ..self }
    }

    pub(crate) fn absent(words: impl Into<String>) -> Self {
        Self::being(ValueKind::Absent, words)
    }
}

/// A deviation of the implementation as a whole.
pub(crate) fn of_implementation(field: Field, seen: ValueKind, words: &str) -> Deviation {
    let hop = (Party::unnamed(Role::Proxy), Party::unnamed(Role::Proxy));
    What::of(field).being(ValueKind::Success).deviates(&hop, "", &Odd::being(seen, words))
}

/// A proxy; where it stands is found out when the check is reported.
pub(crate) fn proxy(name: &str) -> Party {
    Party::named(Role::Proxy, name)
}

/// The hop of what a proxy does by itself: its log lines.
pub(crate) fn own(name: &str) -> (Party, Party) {
    (proxy(name), proxy(name))
}

/// The one access-log line of a request.
pub(crate) fn log_line() -> What {
    What::of(Field::LogLine).being(ValueKind::One)
}

/// A proxy of which nothing is known yet.
pub(crate) const fn some_proxy() -> Party {
    Party::unnamed(Role::Proxy)
}

/// Who opened the connection that a server accepted from `peer`.
pub(super) fn opener(view: View<'_>, peer: &str) -> Party {
    opening_proxy(view, peer).map_or_else(some_proxy, proxy)
}

pub(crate) fn server(server: &Server) -> Party {
    let role = match server.place {
        ServerPlace::Outside => Role::ExternalService,
        ServerPlace::Mesh => Role::MeshService,
    };
    Party::named(role, &server.host)
}

/// The client of a reply, from `workload sleep`.
pub(crate) fn client(words: &str) -> Party {
    match words.strip_prefix("workload ") {
        Some(name) => Party::named(Role::Workload, name),
        None => Party::unnamed(Role::Client),
    }
}

/// What came of an exchange, as a kind.
pub(crate) fn outcome(exchange: &Exchange) -> ValueKind {
    match exchange.hops.last().map(|h| &h.result) {
        Some(HopResult::Response(r)) => ValueKind::Status(r.status),
        Some(HopResult::Error(e)) => ValueKind::NoResponse(e.kind),
        None => ValueKind::NoResponse(ExchangeErrorKind::Other),
    }
}

/// The finding's deviations with the places of their proxies, and with what lies beneath them.
pub(crate) fn resolved(finding: &Finding, view: View<'_>, topology: &Topology) -> Vec<Deviation> {
    match finding.verdict {
        Verdict::Failed | Verdict::Inconclusive => {}
        Verdict::Passed | Verdict::Skipped | Verdict::Error => return Vec::new(),
    }
    let mut all = finding.deviations.clone();
    let beneath: Vec<Deviation> = all.iter().flat_map(|d| beneath(d, view)).collect();
    all.extend(beneath);
    for deviation in &mut all {
        for party in [&mut deviation.from, &mut deviation.to] {
            place(party, topology);
        }
    }
    let mut unique: Vec<Deviation> = Vec::new();
    for deviation in all {
        if !unique.contains(&deviation) {
            unique.push(deviation);
        }
    }
    unique
}

fn place(party: &mut Party, topology: &Topology) {
    if party.role != Role::Proxy {
        return;
    }
    let labelled = |name: &str, label: &str| {
        topology.gateways.iter().any(|g| g.name == name && g.labels.get("istio").is_some_and(|l| l == label))
    };
    party.role = match party.name.as_deref() {
        Some(name) if labelled(name, "egressgateway") => Role::EgressGateway,
        Some(name) if labelled(name, "ingressgateway") => Role::IngressGateway,
        Some(name) if topology.workloads.iter().any(|w| w.name == name) => Role::Sidecar,
        // Without a gateway, every proxy is a sidecar.
        None if topology.gateways.is_empty() && !topology.workloads.is_empty() => Role::Sidecar,
        Some(_) | None => Role::Proxy,
    };
}

/// What explains that a client did not get the answer that it should have got: handshakes with servers that failed while the
/// exchange took place, and what the proxies logged about it.
fn beneath(deviation: &Deviation, view: View<'_>) -> Vec<Deviation> {
    let wants_success = match deviation.expected_kind {
        ValueKind::Status(status) => status < 400,
        ValueKind::Configured | ValueKind::Present | ValueKind::One | ValueKind::Success => true,
        ValueKind::Absent
        | ValueKind::Other
        | ValueKind::Several
        | ValueKind::Tls
        | ValueKind::PlainText
        | ValueKind::Refusal
        | ValueKind::NoResponse(_)
        | ValueKind::Timeout
        | ValueKind::Unknown => false,
    };
    let is_about_answer = matches!(deviation.field, Field::Status | Field::Response | Field::Request);
    let exchange = deviation.evidence.as_ref().and_then(|id| view.evidence.iter().find(|e| e.id == *id));
    let (true, true, Some(piece)) = (wants_success, is_about_answer, exchange) else { return Vec::new() };
    let Fact::Exchange(exchange) = &piece.fact else { return Vec::new() };
    // A proxy that cannot reach its upstream says so with a 5xx; any other answer came from behind it or concerns the request.
    if exchange.last_response().is_some_and(|r| r.status < 500) {
        return Vec::new();
    }
    let began = piece.at_us.saturating_sub(exchange.duration_us);
    // A server records the end of a handshake a little after the client has its answer.
    let during = |e: &&Evidence| e.at_us >= began && e.at_us <= piece.at_us + 100_000;
    let of_connection = |e: &Evidence| {
        let Side::Service { host } = &e.side else { return Vec::new() };
        let tls = e.fact.as_connection().and_then(|c| Some((c, c.tls.as_ref()?)));
        let Some((connection, tls)) = tls else { return Vec::new() };
        let to = Party::named(Role::ExternalService, host);
        // A proxy logs its own end of a connection only where it was opened.
        let opener = opener(view, &connection.peer);
        let opener = if opener.name.is_some() { opener } else { failing_proxy(view, piece) };
        let Some(words) = failed(tls, &opener) else { return Vec::new() };
        let hop = (opener, to);
        let what = What::of(Field::Handshake).being(ValueKind::Success);
        let odd = Odd::being(ValueKind::Refusal, words);
        let mut all = vec![about(what.deviates(&hop, "a TLS handshake that succeeds", &odd), piece)];
        // A server with several certificates then presents another one than the client expects.
        let hello_seen = tls.alpn_offered.is_some() || tls.weak_offers.is_some();
        if hello_seen && tls.server_name.is_none() {
            let odd = Odd::absent("no server name (SNI)");
            let name = What::of(Field::ServerName).deviates(&hop, "a server name (SNI)", &odd);
            all.push(about(name, piece));
        }
        all
    };
    // Other exchanges take place at the same time: if there are handshakes with the name of this exchange's host, only they explain it.
    let host = exchange
        .hops
        .last()
        .and_then(|h| Url::parse(&h.url).ok())
        .and_then(|url| url.host_str().map(str::to_owned));
    let is_for_host = |e: &&Evidence| {
        let tls = e.fact.as_connection().and_then(|c| c.tls.as_ref());
        host.is_some() && tls.and_then(|t| t.server_name.as_ref()) == host.as_ref()
    };
    let (own, other): (Vec<&Evidence>, Vec<&Evidence>) =
        view.evidence.iter().filter(during).partition(is_for_host);
    let explaining = if own.is_empty() { other } else { own };
    explaining.into_iter().map(of_connection).find(|all| !all.is_empty()).unwrap_or_default()
}

/// The proxy that logs for this exchange that its upstream's transport failed.
fn failing_proxy(view: View<'_>, exchange: &Evidence) -> Party {
    let failing = view.evidence.iter().filter(|e| exchange.token.is_some() && e.token == exchange.token);
    let mut failing = failing.filter_map(|e| match (&e.side, &e.fact) {
        (Side::Proxy { name }, Fact::AccessLog(log)) => {
            let fields = log.fields.as_ref()?;
            let reason = fields.upstream_transport_failure_reason.as_deref().unwrap_or("-");
            // Envoy, "Access logging": UF is an upstream connection failure.
            let failed = !matches!(reason, "" | "-") || fields.response_flags.iter().any(|f| f == "UF");
            failed.then_some(name)
        }
        _ => None,
    });
    failing.next().map_or_else(some_proxy, |name| proxy(name))
}

fn about(deviation: Deviation, piece: &Evidence) -> Deviation {
    Deviation { evidence: Some(EvidenceId::clone(&piece.id)), ..deviation }
}

/// Which end refused the other, and how.
fn failed(tls: &TlsFacts, opener: &Party) -> Option<String> {
    let text = tls.failure.as_ref()?;
    let client = if opener.role.is_proxy() { "proxy" } else { "client" };
    Some(match tls.failure_kind.as_ref()? {
        TlsFailure::AlertSent { alert } => format!("the server refuses the {client} with the alert {alert}"),
        TlsFailure::AlertReceived { alert } => {
            format!("the {client} refuses the server with the alert {alert}")
        }
        TlsFailure::PeerVanished => format!("the {client} closes the connection during the handshake"),
        TlsFailure::Other => text.clone(),
    })
}
