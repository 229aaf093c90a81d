//! Claims about conversations over TCP, about gRPC calls, and about the access log of a connection that is not HTTP.

use meshproof_model::{
    AccessLog, Evidence, EvidenceId, Fact, Field, HopResult, LogFields, Response, Side, TCP, ValueKind,
};

use super::deviation::{self, Odd, What};
use super::external::requests;
use super::words::{Server, counted, listed};
use super::{Claim, Finding, Reply, View};
use crate::grpc;
use crate::store::bounded;

impl Reply {
    /// The last response has status 200, or the conversation was held to its end.
    pub(super) fn succeeds(&self) -> Claim {
        let over_tcp = self.exchange.hops.last().is_some_and(|hop| hop.method == TCP);
        if over_tcp { self.conversed() } else { self.ends_with(200) }
    }

    /// The client cancelled its gRPC call, after this many messages had been answered.
    pub fn cancelled_after(&self, answered: usize) -> Claim {
        let expected = format!("a call that the client cancelled after {answered} messages");
        let cancelled = match self.exchange.hops.last().map(|hop| &hop.result) {
            Some(HopResult::Error(e)) => e.message == grpc::cancelled_after(answered),
            Some(HopResult::Response(_)) | None => false,
        };
        let what = What::of(Field::Response).being(ValueKind::Success);
        self.fixed(what, expected, cancelled.then_some(()).ok_or_else(|| self.came()))
    }

    /// The client held its conversation over TCP: it heard every byte that the server has to say, and the end of each direction
    /// in its turn.
    pub fn conversed(&self) -> Claim {
        let held = self.exchange.last_response().is_some_and(Response::is_conversation);
        self.fixed(
            What::of(Field::Response).being(ValueKind::Success),
            "the whole conversation, to its end".to_owned(),
            held.then_some(()).ok_or_else(|| self.came()),
        )
    }
}

/// What a proxy logged for a conversation with a server: one line. The line has no token; the address of the proxy's own end of
/// the connection, at which the server saw it, ties the two together.
#[must_use = "a claim that is not judged asserts nothing"]
pub struct ConversationLine {
    proxy: String,
    server: Server,
    reply: Reply,
    cluster: String,
}

impl ConversationLine {
    pub(crate) fn new(proxy: &str, server: &Server, reply: &Reply, cluster: &str) -> Self {
        Self {
            proxy: proxy.to_owned(),
            server: server.clone(),
            reply: reply.clone(),
            cluster: cluster.to_owned(),
        }
    }

    /// The lines of the proxy that name this address as its own end. A proxy may use the address at the same time or later for a
    /// connection with another server, so that of several lines those of this server's cluster count.
    fn lines<'a>(&self, view: View<'a>, peer: &str) -> Vec<(&'a EvidenceId, &'a AccessLog, &'a LogFields)> {
        let of_peer = |e: &'a Evidence| match (&e.side, &e.fact) {
            (Side::Proxy { name }, Fact::AccessLog(log)) if *name == self.proxy => {
                let fields = log.fields.as_ref()?;
                (fields.upstream_local_address.as_deref() == Some(peer)).then_some((&e.id, log, fields))
            }
            (_, _) => None,
        };
        let all: Vec<_> = view.evidence.iter().filter_map(of_peer).collect();
        let of_cluster = |fields: &LogFields| cluster_of(fields) == Some(self.cluster.as_str());
        if all.len() > 1 && all.iter().any(|(_, _, fields)| of_cluster(fields)) {
            return all.into_iter().filter(|(_, _, fields)| of_cluster(fields)).collect();
        }
        all
    }

    fn judge(&self, view: View<'_>) -> Finding {
        let (said, heard) = self.reply.exchange.hops.last().map_or((0, 0), |hop| {
            (hop.body_bytes.unwrap_or_default(), hop.response().map_or(0, |r| r.body_bytes))
        });
        let expected = format!(
            "one access-log line of proxy {} for the connection, without method and path, with upstream cluster {}, {said} \
             bytes received and {heard} bytes sent",
            self.proxy, self.cluster
        );
        let hop = deviation::own(&self.proxy);
        let broken = |what: What, odd: Odd, ids: Vec<EvidenceId>| {
            let deviation = what.deviates(&hop, &expected, &odd);
            Finding::broken(expected.clone(), odd.words, ids).by([deviation])
        };
        let arrived = requests(&self.server.host, &self.reply.token, view);
        let [(id, request)] = arrived.as_slice() else {
            let number = counted(arrived.len(), "conversation");
            let seen = format!("{} held {number} with this token", self.server);
            return broken(What::of(Field::Request).being(ValueKind::One), Odd::absent(seen), Vec::new());
        };
        let lines = self.lines(view, &request.peer);
        let mut ids = vec![(*id).clone()];
        ids.extend(lines.iter().map(|(id, ..)| (*id).clone()));
        let shown = |log: &AccessLog| bounded(&log.line, 600);
        let [(_, log, fields)] = lines.as_slice() else {
            let seen = format!(
                "proxy {} logged {} with {}, at which {} saw it, as its own end of the connection{}",
                self.proxy,
                counted(lines.len(), "access-log line"),
                request.peer,
                self.server,
                if lines.is_empty() {
                    String::new()
                } else {
                    format!(": {}", listed(lines.iter().map(|l| shown(l.1))))
                }
            );
            let kind = if lines.is_empty() { ValueKind::Absent } else { ValueKind::Several };
            return broken(deviation::log_line(), Odd::being(kind, seen), ids);
        };
        let cluster = cluster_of(fields);
        let wrong = if fields.method.is_some() || fields.path.is_some() {
            Some("method or path")
        } else if cluster != Some(self.cluster.as_str()) {
            Some("upstream cluster")
        } else if fields.bytes_received.is_some_and(|bytes| bytes != said) {
            Some("bytes received")
        } else if fields.bytes_sent.is_some_and(|bytes| bytes != heard) {
            Some("bytes sent")
        } else {
            None
        };
        let line = shown(log);
        match wrong {
            None => Finding::holds(expected, format!("proxy {} logged {line}", self.proxy), ids),
            Some(name) => {
                let seen = format!("proxy {} logged another {name}: {line}", self.proxy);
                broken(What::of(Field::LogField).named(name), Odd::from(seen), ids)
            }
        }
    }
}

impl From<ConversationLine> for Claim {
    fn from(line: ConversationLine) -> Self {
        let host = line.server.host.clone();
        Self::on_the_side_of(&host, move |view| line.judge(view).about(&line.reply.id))
    }
}

/// Envoy ends the name with a semicolon where the cluster's statistics have another one.
fn cluster_of(fields: &LogFields) -> Option<&str> {
    fields.upstream_cluster.as_deref().map(|name| name.trim_end_matches(';'))
}

#[cfg(test)]
mod tests {
    use meshproof_model::Exchange;

    use super::*;
    use crate::claim::words::ServerPlace;

    const PEER: &str = "127.0.0.1:40000";

    fn logged(id: &str, cluster: &str) -> Evidence {
        let fields = LogFields {
            upstream_local_address: Some(PEER.to_owned()),
            upstream_cluster: Some(cluster.to_owned()),
            ..LogFields::default()
        };
        let log = AccessLog {
            line: "a line".to_owned(),
            fields: Some(fields),
            format: None,
            unreadable: None,
            lacks: Vec::new(),
        };
        Evidence {
            id: EvidenceId(id.to_owned()),
            at_us: 0,
            step: 0,
            side: Side::Proxy { name: "sleep".to_owned() },
            token: None,
            fact: Fact::AccessLog(log),
        }
    }

    fn lines_of(evidence: &[Evidence]) -> Vec<String> {
        let exchange = Exchange { url: String::new(), hops: Vec::new(), duration_us: 1 };
        let id = EvidenceId("e0".to_owned());
        let reply =
            Reply { id, token: "t".to_owned(), exchange, client: "workload sleep".to_owned(), mark: 0 };
        let server = Server { host: "database.example".to_owned(), place: ServerPlace::Outside };
        let line = ConversationLine::new("sleep", &server, &reply, "outbound|7000||database.example");
        let view = View { evidence, marks: &[], changes: &[], unobserved: &[] };
        line.lines(view, PEER).into_iter().map(|(id, ..)| id.0.clone()).collect()
    }

    #[test]
    fn a_port_that_the_proxy_uses_for_another_server_as_well_is_not_a_second_line() {
        let (own, other) =
            (logged("own", "outbound|7000||database.example;"), logged("other", "outbound|80||a.example"));
        assert_eq!(lines_of(&[other.clone(), own.clone()]), ["own"]);
        assert_eq!(lines_of(&[own.clone(), own]), ["own", "own"]);
        // Alone, it is a line with a wrong cluster.
        assert_eq!(lines_of(&[other]), ["other"]);
    }
}
