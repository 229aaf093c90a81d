//! Holds one access-log line against what the two ends saw of its request. The members are those of Istio's default log
//! (Istio, "Getting Envoy's Access Logs"; Envoy, "Access logging", command operators).

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use meshproof_model::{Feature, Field, HopResult, LogFields, ValueKind};

use super::Ledger;
use super::books::Asked;
use super::compare::bare;
use super::headers::FieldDifference;
use crate::claim::deviation::What;
use crate::forecast::{Arrival, Passage};

/// What a logged time may differ from the client's by: both round, and a proxy also counts what it does after the client has
/// its answer.
const SLACK_MS: u64 = 1000;
/// What a logged time may lack of the time that the server waited within it: both round.
const ROUNDED_MS: u64 = 5;

/// The flags that say that no server was reached (Envoy, "Access logging", `%RESPONSE_FLAGS%`).
const NOT_REACHED: &[&str] = &["NR", "NC", "UH", "UF", "UO"];

/// What a line must say.
#[derive(Clone, Copy)]
pub(super) enum Claimed<'p> {
    /// The request arrived at a server, and the client has the whole answer.
    Arrival {
        arrival: &'p Arrival,
        passage: &'p Passage,
        /// Whether it is the proxy that the client dialled.
        first: bool,
        /// Whether it is the proxy that the server sees.
        last: bool,
        /// The address at which the server saw the proxy, if one server saw it once.
        peer: Option<&'p str>,
        /// The request id that the server received, likewise.
        request_id: Option<&'p str>,
        /// How long the server waited before it answered, in milliseconds.
        waited_ms: u64,
    },
    /// The request arrived at a server, whose answer ended early or came too late: how each proxy puts that is its own affair.
    Cut {
        arrival: &'p Arrival,
        /// Whether it is the proxy that the client dialled.
        first: bool,
    },
    /// A proxy answered for a server that never received the request.
    Failure {
        /// Whether it is the proxy that the client dialled.
        first: bool,
        /// Whether it is the proxy that was to reach the server.
        at_upstream: bool,
    },
}

/// A member of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Member {
    StartTime,
    Path,
    Protocol,
    ResponseCode,
    BytesReceived,
    BytesSent,
    Duration,
    Authority,
    UpstreamHost,
    UpstreamCluster,
    UpstreamLocalAddress,
    RequestId,
    /// A line of a request that nothing happened to has none.
    ResponseFlags,
}

impl Member {
    const fn name(self) -> &'static str {
        match self {
            Self::StartTime => "start time",
            Self::Path => "path",
            Self::Protocol => "protocol",
            Self::ResponseCode => "response code",
            Self::BytesReceived => "bytes received",
            Self::BytesSent => "bytes sent",
            Self::Duration => "duration",
            Self::Authority => "authority",
            Self::UpstreamHost => "upstream host",
            Self::UpstreamCluster => "upstream cluster",
            Self::UpstreamLocalAddress => "upstream local address",
            Self::RequestId => "request id",
            Self::ResponseFlags => "response flag",
        }
    }
}

/// Another value of a field than the expected one.
fn of_log(name: &str, expected: String, seen: String) -> FieldDifference {
    FieldDifference::of(What::of(Field::LogField).named(name), ValueKind::Other, expected, seen)
}

/// The members that a line has.
pub(super) fn members(fields: &LogFields) -> BTreeSet<Member> {
    let all = [
        (Member::StartTime, fields.start_time.is_some()),
        (Member::Path, fields.path.is_some()),
        (Member::Protocol, fields.protocol.is_some()),
        (Member::ResponseCode, fields.response_code.is_some()),
        (Member::BytesReceived, fields.bytes_received.is_some()),
        (Member::BytesSent, fields.bytes_sent.is_some()),
        (Member::Duration, fields.duration_ms.is_some()),
        (Member::Authority, fields.authority.is_some()),
        (Member::UpstreamHost, fields.upstream_host.is_some()),
        (Member::UpstreamCluster, fields.upstream_cluster.is_some()),
        (Member::UpstreamLocalAddress, fields.upstream_local_address.is_some()),
        (Member::RequestId, fields.request_id.is_some()),
        (Member::ResponseFlags, !fields.response_flags.is_empty()),
    ];
    all.into_iter().filter(|(_, present)| *present).map(|(member, _)| member).collect()
}

/// Where the line differs from what was seen. `of_format`: the members that the proxy's other lines have.
pub(super) fn differences(
    ledger: &Ledger,
    asked: &Asked<'_>,
    claimed: Claimed<'_>,
    fields: &LogFields,
    of_format: &BTreeSet<Member>,
) -> Vec<FieldDifference> {
    let mut found = Vec::new();
    let mut is = |name: &str, want: &[&str], have: Option<&str>| {
        if let Some(have) = have
            && !want.contains(&have)
        {
            found.push(of_log(name, format!("{name} {}", want.join(" or ")), format!("{name} {have}")));
        }
    };
    is("method", &[&asked.hop.method], fields.method.as_deref());
    let sent_target = target(&asked.hop.url);
    let protocol = protocol(&asked.hop.sent);
    // HAProxy and others write HTTP/2.0.
    let logged_protocol = fields.protocol.as_deref().map(|p| if p == "HTTP/2.0" { "HTTP/2" } else { p });
    let (paths, authority): (Vec<&str>, String) = match claimed {
        // A proxy may log the path before or after its own rewrite (`X-ENVOY-ORIGINAL-PATH?:PATH`).
        Claimed::Arrival { arrival, .. } | Claimed::Cut { arrival, .. } => {
            (vec![sent_target, &arrival.target], bare(&arrival.authority))
        }
        Claimed::Failure { .. } => (Vec::new(), String::new()),
    };
    let long = |text: &str| crate::store::bounded(text, 4096);
    if !paths.is_empty() && !paths.iter().any(|path| long(path).len() > 4000) {
        is("path", &dedup(&paths), fields.path.as_deref());
    }
    let first = match claimed {
        Claimed::Arrival { first, .. } | Claimed::Cut { first, .. } | Claimed::Failure { first, .. } => first,
    };
    if first && let Some(protocol) = protocol {
        is("protocol", &[protocol], logged_protocol);
    } else {
        // Between the proxies, they choose.
        is("protocol", &["HTTP/1.1", "HTTP/2"], logged_protocol);
    }
    if let Claimed::Arrival { passage, last, peer, request_id, .. } = claimed {
        if last {
            if let Some(request_id) = request_id {
                is("request id", &[request_id], fields.request_id.as_deref());
            }
            // The Host after any rewrite: `%REQ(:AUTHORITY)%` is the request as it was forwarded.
            let logged = fields.authority.as_deref().map(bare);
            is("authority", &[&authority], logged.as_deref());
        }
        if peer.is_some() {
            is("upstream host", &[&passage.upstream], fields.upstream_host.as_deref());
            if let Some(peer) = peer.filter(|_| ledger.has(Feature::UpstreamLocalAddress)) {
                is("upstream local address", &[peer], fields.upstream_local_address.as_deref());
            }
        }
        let logged = fields.upstream_cluster.as_deref().map(cluster);
        is("upstream cluster", &[&cluster(&passage.cluster)], logged.as_deref());
        if let Some(name) = passage.server_name.as_deref() {
            is("server name", &[name], fields.requested_server_name.as_deref());
        } else if first && asked.hop.url.starts_with("http://") {
            // Without TLS from the client there is no ClientHello to have one (Envoy, `%REQUESTED_SERVER_NAME%`).
            is("server name", &["-"], fields.requested_server_name.as_deref());
        }
        if let Some(flag) = fields.response_flags.iter().find(|flag| NOT_REACHED.contains(&flag.as_str())) {
            is("response flag", &["-"], Some(flag));
        }
    }
    if let (HopResult::Response(response), false) =
        (&asked.hop.result, matches!(claimed, Claimed::Cut { .. }))
    {
        let status = response.status.to_string();
        let logged = fields.response_code.map(|c| c.to_string());
        match claimed {
            Claimed::Arrival { .. } | Claimed::Cut { .. } | Claimed::Failure { first: true, .. } => {
                is("response code", &[&status], logged.as_deref());
            }
            // A proxy after the first may have closed the connection without an answer.
            Claimed::Failure { first: false, .. } => {
                let success = fields.response_code.is_some_and(|code| (200..400).contains(&code));
                is("response code", &[&status], logged.as_deref().filter(|_| success));
            }
        }
        // After an upgrade the bytes are the conversation's.
        if response.status != 101 && !matches!(claimed, Claimed::Failure { first: false, .. }) {
            let sent = response.body_bytes.to_string();
            is("bytes sent", &[&sent], fields.bytes_sent.map(|n| n.to_string()).as_deref());
            // A proxy need not read the body of a request that it refuses.
            if let Some(body) = asked.hop.body_bytes.filter(|_| matches!(claimed, Claimed::Arrival { .. })) {
                let received = body.to_string();
                is("bytes received", &[&received], fields.bytes_received.map(|n| n.to_string()).as_deref());
            }
        }
    }
    found.extend(times(ledger, asked, claimed, fields));
    if let Claimed::Failure { at_upstream: true, .. } = claimed
        && of_format.contains(&Member::ResponseFlags)
        && fields.response_code.is_some_and(|code| code >= 500)
        && fields.response_flags.is_empty()
    {
        let what = What::of(Field::LogField).named("response flag");
        let expected = "a response flag that says why the server was not reached";
        found.push(FieldDifference::of(what, ValueKind::Absent, expected, "no response flag"));
    }
    if let Claimed::Arrival { request_id, .. } = claimed {
        let own = members(fields);
        // Not every request has an id, and few have flags.
        let due =
            |m: &&Member| **m != Member::ResponseFlags && (**m != Member::RequestId || request_id.is_some());
        let missing = of_format.difference(&own).filter(due);
        found.extend(missing.map(|m| {
            let (name, article) = (m.name(), if m.name().starts_with(['a', 'u']) { "an" } else { "a" });
            let what = What::of(Field::LogField).named(name);
            FieldDifference::of(what, ValueKind::Absent, format!("{article} {name}"), format!("no {name}"))
        }));
    }
    found
}

/// Where the line of a proxy contradicts that of the proxy before it, about the connection between the two.
pub(super) fn between(before: &LogFields, after: &LogFields) -> Vec<FieldDifference> {
    let pairs = [
        ("downstream remote address", &before.upstream_local_address, &after.downstream_remote_address),
        ("downstream local address", &before.upstream_host, &after.downstream_local_address),
    ];
    let differing = pairs.into_iter().filter_map(|(name, one, other)| {
        let (one, other) = (one.as_deref()?, other.as_deref()?);
        (one != other).then(|| of_log(name, format!("{name} {one}"), format!("{name} {other}")))
    });
    differing.collect()
}

/// Where a line differs from what the client saw, whatever the configuration promises. `own`: it is of the client's own proxy.
pub(super) fn without_promise(asked: &Asked<'_>, fields: &LogFields, own: bool) -> Vec<FieldDifference> {
    let mut found = Vec::new();
    let mut is = |name: &str, want: &str, have: Option<&str>| {
        if let Some(have) = have.filter(|have| *have != want) {
            found.push(of_log(name, format!("{name} {want}"), format!("{name} {have}")));
        }
    };
    is("method", &asked.hop.method, fields.method.as_deref());
    if let (true, HopResult::Response(response)) = (own, &asked.hop.result) {
        let logged = fields.response_code.map(|code| code.to_string());
        is("response code", &response.status.to_string(), logged.as_deref());
    }
    found
}

/// Where the line of a passed-on connection differs from what was seen of a request inside it.
pub(super) fn of_connection(
    ledger: &Ledger,
    asked: &Asked<'_>,
    passage: &Passage,
    fields: &LogFields,
) -> Vec<FieldDifference> {
    let mut found: Vec<FieldDifference> =
        of_upstream(passage, fields).into_iter().chain(times_of_connection(ledger, asked, fields)).collect();
    // Bytes have no Host (Envoy, "Access logging": `%REQ()%` is for HTTP).
    if let Some(authority) = &fields.authority {
        found.push(of_log("authority", "no authority".to_owned(), format!("authority {authority}")));
    }
    let answered = asked.hop.response().map_or(0, |r| r.body_bytes);
    // The proxy opens TLS itself: its client's side is what the client said and heard.
    if asked.is_conversation() && asked.hop.tls.is_none() && asked.hop.response().is_some() {
        let sent = asked.hop.body_bytes.unwrap_or_default();
        for (name, exact, logged) in
            [("bytes sent", answered, fields.bytes_sent), ("bytes received", sent, fields.bytes_received)]
        {
            if let Some(logged) = logged.filter(|logged| *logged != exact) {
                found.push(of_log(name, format!("{exact} {name}"), format!("{logged} {name}")));
            }
        }
        return found.into_iter().chain(of_cluster(passage, fields)).collect();
    }
    // TLS adds to the bytes inside it.
    for (name, least, logged) in [
        ("bytes sent", answered, fields.bytes_sent),
        ("bytes received", asked.hop.body_bytes.unwrap_or_default(), fields.bytes_received),
    ] {
        if let Some(logged) = logged.filter(|logged| *logged <= least) {
            found.push(of_log(name, format!("more than {least} {name}"), format!("{logged} {name}")));
        }
    }
    found.extend(of_cluster(passage, fields));
    found
}

fn of_cluster(passage: &Passage, fields: &LogFields) -> Option<FieldDifference> {
    let logged = cluster(fields.upstream_cluster.as_deref()?);
    let wanted = cluster(&passage.cluster);
    (logged != wanted).then(|| {
        let words = |name: &str| format!("upstream cluster {name}");
        of_log("upstream cluster", words(&wanted), words(&logged))
    })
}

fn of_upstream(passage: &Passage, fields: &LogFields) -> Option<FieldDifference> {
    let logged = fields.upstream_host.as_deref().filter(|logged| *logged != passage.upstream)?;
    let words = |host: &str| format!("upstream host {host}");
    Some(of_log("upstream host", words(&passage.upstream), words(logged)))
}

/// When a line says that its connection came, and how long it lasted. One connection may carry several requests, and its end
/// may reach the proxy late.
fn times_of_connection(ledger: &Ledger, asked: &Asked<'_>, fields: &LogFields) -> Vec<FieldDifference> {
    let mut found = Vec::new();
    let longest = asked.ended_us / 1000 + 10 * SLACK_MS;
    if let Some(logged) = fields.duration_ms.filter(|logged| *logged > longest) {
        let (most, seen) =
            (format!("a duration of at most {longest} ms"), format!("a duration of {logged} ms"));
        found.push(of_log("duration", most, seen));
    }
    found.extend(started_outside(ledger, 0, asked.ended_us, fields));
    found
}

/// A start time that is not between these times of the scenario, by the proxies' clock.
fn started_outside(ledger: &Ledger, from: u64, until: u64, fields: &LogFields) -> Option<FieldDifference> {
    let at = |us: u64| {
        let since = SignedDuration::from_micros(i64::try_from(us).unwrap_or(i64::MAX));
        ledger.started.and_then(|started| started.checked_add(since).ok())
    };
    let logged: Timestamp = fields.start_time.as_deref()?.parse().ok()?;
    let (from, until) = (at(from)?, at(until)?);
    let slack = SignedDuration::from_millis(i64::try_from(SLACK_MS).unwrap_or_default());
    let outside = logged.duration_until(from) > slack || until.duration_until(logged) > slack;
    outside.then(|| {
        of_log(
            "start time",
            format!("a start time between {from:.3} and {until:.3}"),
            format!("the start time {logged:.3}"),
        )
    })
}

/// When a line says that its request came, and how long it took.
fn times(
    ledger: &Ledger,
    asked: &Asked<'_>,
    claimed: Claimed<'_>,
    fields: &LogFields,
) -> Vec<FieldDifference> {
    let mut found = Vec::new();
    // While the server waits, every proxy on the way waits with it.
    let waited = match claimed {
        Claimed::Arrival { waited_ms, .. } => waited_ms.saturating_sub(ROUNDED_MS),
        Claimed::Cut { .. } | Claimed::Failure { .. } => 0,
    };
    let longest = asked.exchange.duration_us / 1000 + SLACK_MS;
    // What a proxy calls its server's time differs, so it has no least: to the first byte, to the last, without its own connection.
    let of_server = fields.upstream_service_time_ms;
    for (article, name, logged, least) in
        [("a", "duration", fields.duration_ms, waited), ("an", "upstream service time", of_server, 0)]
    {
        let Some(logged) = logged.filter(|logged| *logged < least || *logged > longest) else { continue };
        let bound = if logged > longest { format!("at most {longest}") } else { format!("at least {least}") };
        let words = |ms: &str| format!("{article} {name} of {ms} ms");
        found.push(of_log(name, words(&bound), words(&logged.to_string())));
    }
    found.extend(started_outside(ledger, asked.began_us, asked.ended_us, fields));
    found
}

/// The path and query of a URL as it was written.
fn target(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('#').next().unwrap_or(rest);
    rest.find(['/', '?']).map_or("/", |at| &rest[at..])
}

/// The version in the request's first line.
fn protocol(sent: &str) -> Option<&'static str> {
    let line = sent.lines().next()?;
    ["HTTP/1.1", "HTTP/1.0", "HTTP/2"].into_iter().find(|version| line.contains(&format!(" {version}")))
}

fn dedup<'t>(texts: &[&'t str]) -> Vec<&'t str> {
    let mut once: Vec<&str> = Vec::new();
    for text in texts {
        if !once.contains(text) {
            once.push(text);
        }
    }
    once
}

/// A cluster's name without the alternative spelling that newer Istio versions log (`outbound|443||host;`).
fn cluster(name: &str) -> String {
    name.trim_end_matches(';').to_owned()
}
