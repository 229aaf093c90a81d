//! The entries of the ledger as typed deviations.

use meshproof_model::{Deviation, EvidenceId, Field, Party, Role, Side, ValueKind};

use super::books::{Account, Asked, LogLine, Opened, Received};
use super::sentences;
use crate::claim::deviation::{self, Odd, What};
use crate::forecast::Arrival;

impl Account<'_> {
    /// A server, as the end of a hop.
    fn party(&self, host: &str) -> Party {
        let is_inside = self.ledger.mesh_services.contains(host);
        Party::named(if is_inside { Role::MeshService } else { Role::ExternalService }, host)
    }

    /// The proxy that logs this address as its own end of a connection.
    fn opener(&self, peer: &str) -> Party {
        let local = |l: &&LogLine<'_>| {
            l.log.fields.as_ref().and_then(|f| f.upstream_local_address.as_deref()) == Some(peer)
        };
        let line = self.logged.iter().find(local);
        line.map_or_else(deviation::some_proxy, |l| deviation::proxy(l.proxy))
    }

    /// The hop on which a server received a request.
    pub(super) fn hop_to(&self, r: &Received<'_>) -> (Party, Party) {
        (self.opener(&r.request.peer), self.party(r.host))
    }

    /// How a request that belongs to none deviates from the requests with its token.
    pub(super) fn stray(&self, r: &Received<'_>, asked: &[&Asked<'_>]) -> Deviation {
        let arrival = asked.iter().find_map(|a| a.arrivals().next());
        let is_tls = |a: &Arrival| a.transport.is_tls();
        let (what, kind, expected) = match arrival {
            Some(a) if a.host == r.host && is_tls(a) != r.request.over_tls => {
                let kind = |tls: bool| if tls { ValueKind::Tls } else { ValueKind::PlainText };
                let what = What::of(Field::Transport).being(kind(is_tls(a)));
                (what, kind(r.request.over_tls), a.transport.to_string())
            }
            Some(a) if a.host != r.host || a.port != r.request.port => {
                (What::of(Field::Destination), ValueKind::Other, format!("{} port {}", a.host, a.port))
            }
            Some(_) if asked.iter().all(|asked| asked.hop.method != r.request.method) => {
                let methods: Vec<&str> = asked.iter().map(|asked| asked.hop.method.as_str()).collect();
                (What::of(Field::Method), ValueKind::Other, format!("method {}", methods.join(" or ")))
            }
            Some(_) => {
                (What::of(Field::Request).being(ValueKind::One), ValueKind::Other, "one request".to_owned())
            }
            None => {
                let none = What::of(Field::Request).being(ValueKind::Absent);
                (none, ValueKind::Present, "no request".to_owned())
            }
        };
        let odd = Odd::being(kind, sentences::received(self.ledger, r));
        Deviation { evidence: Some(r.id.clone()), ..what.deviates(&self.hop_to(r), &expected, &odd) }
    }

    /// A wrong number of requests at servers.
    pub(super) fn number(
        &self,
        asked: &Asked<'_>,
        kind: ValueKind,
        first: Option<&Received<'_>>,
    ) -> Deviation {
        let promised = || asked.arrivals().next().map(|a| self.party(&a.host));
        let hop = match first {
            Some(first) => self.hop_to(first),
            None => {
                let to = promised().unwrap_or(Party::unnamed(Role::ExternalService));
                (deviation::some_proxy(), to)
            }
        };
        let what = What::of(Field::Request).being(ValueKind::One);
        let odd = Odd::being(kind, sentences::described(asked));
        Deviation { evidence: Some(asked.id.clone()), ..what.deviates(&hop, "one request", &odd) }
    }

    /// A wrong handshake of a connection that belongs to no request, or bytes outside TLS.
    pub(super) fn connected(&self, opened: &Opened<'_>, of: What, kind: ValueKind, seen: &str) -> Deviation {
        let hop = (self.opener(&opened.connection.peer), self.party(opened.host));
        Deviation { evidence: Some(opened.id.clone()), ..of.deviates(&hop, "", &Odd::being(kind, seen)) }
    }
}

/// The client of a request and its proxy.
pub(super) fn client_hop(asked: &Asked<'_>) -> (Party, Party) {
    let client = match asked.side {
        Side::Workload { name } => Party::named(Role::Workload, name),
        Side::Suite | Side::Proxy { .. } | Side::Service { .. } => Party::unnamed(Role::Client),
    };
    (client, deviation::some_proxy())
}

/// An answer that the configuration does not make.
pub(super) fn answer(asked: &Asked<'_>, wanted: ValueKind) -> Deviation {
    let odd = Odd::being(deviation::outcome(asked.exchange), sentences::described(asked));
    let what = What::of(Field::Response).being(wanted);
    let deviation = what.deviates(&client_hop(asked), "another answer", &odd);
    Deviation { evidence: Some(asked.id.clone()), ..deviation }
}

/// A wrong number of access-log lines of a request.
pub(super) fn lines(proxy: &str, seen: ValueKind, evidence: &EvidenceId) -> Deviation {
    let odd = Odd::being(seen, "another number of access-log lines");
    let deviation = deviation::log_line().deviates(&deviation::own(proxy), "one access-log line", &odd);
    Deviation { evidence: Some(evidence.clone()), ..deviation }
}
