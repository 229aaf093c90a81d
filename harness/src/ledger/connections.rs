//! Holds each connection of a server against the requests that may have opened it.

use meshproof_model::{Connection, Field, PeerCertificate, TlsFacts, ValueKind};

use super::Entry;
use super::books::{Account, Asked, Opened, server_name};
use super::sentences;
use crate::claim::deviation::What;
use crate::forecast::{Arrival, Transport};

/// What may have led to a connection: a request, and how it must arrive.
type Promised<'p, 'a> = (&'p Asked<'a>, &'p Arrival);

impl Account<'_> {
    /// Connections that carry something and belong to nothing, or whose handshake belongs to no request.
    pub(super) fn connections(&self) -> Vec<Entry> {
        self.connections.iter().filter_map(|opened| self.connection(opened)).collect()
    }

    fn connection(&self, opened: &Opened<'_>) -> Option<Entry> {
        let Connection { port, tls, peer, .. } = opened.connection;
        let promised: Vec<Promised<'_, '_>> = self
            .asked
            .iter()
            .flat_map(|asked| asked.arrivals().map(move |a| (asked, a)))
            .filter(|(_, a)| a.host == opened.host && a.port == *port)
            .collect();
        let (what, of, kind) = match tls {
            None => {
                let clear = What::of(Field::Transport).being(ValueKind::Tls);
                (self.in_clear(opened, &promised)?, clear, ValueKind::PlainText)
            }
            Some(facts) => self.handshake(opened, facts, &promised)?,
        };
        let server = sentences::server(self.ledger, opened.host);
        let words = format!("A client at {peer} opened a connection to {server} on port {port} {what}.");
        Some(Entry::new(words, [opened.id.clone()]).by(self.connected(opened, of, kind, &what)))
    }

    /// A connection that was opened before any request named a host: where the server name follows the request, the proxy has only
    /// the service's own host for it (Envoy, `preconnect_policy`). Or one like those of requests that were judged before.
    fn is_in_reserve(&self, opened: &Opened<'_>, facts: &TlsFacts, names: &[Option<&str>]) -> bool {
        if self.has_requests(opened) {
            return false;
        }
        let follows_request = names.iter().any(|name| *name != names[0]);
        let seen = facts.server_name.as_deref().unwrap_or_default();
        let of_retired = (opened.host.to_owned(), opened.connection.port, seen.to_ascii_lowercase());
        (follows_request && seen == opened.host) || self.ledger.retired_names.contains(&of_retired)
    }

    fn has_requests(&self, opened: &Opened<'_>) -> bool {
        let number = opened.connection.number;
        self.received.iter().any(|r| r.host == opened.host && r.request.connection == number)
    }

    fn in_clear(&self, opened: &Opened<'_>, promised: &[Promised<'_, '_>]) -> Option<String> {
        let Connection { tls_port, clear_bytes, .. } = opened.connection;
        if clear_bytes.is_empty() || self.has_requests(opened) || self.open {
            return None;
        }
        let mut in_clear = promised.iter().filter(|(_, a)| !a.transport.is_tls());
        // What comes outside TLS on a port with TLS becomes a request only if it is HTTP.
        let allowed = in_clear
            .any(|(asked, _)| !*tls_port || (asked.is_conversation() && clear_bytes.contains(asked.token)));
        let begin = crate::store::bounded(clear_bytes, 80);
        (!allowed).then(|| format!("and sent the bytes {begin:?} outside TLS, which belong to no request"))
    }

    fn handshake(
        &self,
        opened: &Opened<'_>,
        facts: &TlsFacts,
        promised: &[Promised<'_, '_>],
    ) -> Option<(String, What, ValueKind)> {
        // nginx logs nothing of a ClientHello whose handshake fails.
        let hello_unseen =
            facts.failure.is_some() && facts.server_name.is_none() && facts.alpn_offered.is_none();
        if hello_unseen
            || self.open
            || promised.is_empty()
            || promised.iter().any(|(_, a)| a.transport == Transport::Mesh)
        {
            return None;
        }
        let names: Vec<Option<&str>> = promised.iter().map(|(asked, a)| server_name(asked, a)).collect();
        let same = |name: &Option<&str>| match (name, &facts.server_name) {
            (Some(name), Some(seen)) => name.eq_ignore_ascii_case(seen),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !names.iter().any(same) && !self.is_in_reserve(opened, facts, &names) {
            let mut expected: Vec<&str> = names.into_iter().map(|n| n.unwrap_or("none")).collect();
            expected.sort_unstable();
            expected.dedup();
            let expected = expected.join(" or ");
            let of = What::of(Field::ServerName);
            return Some(match &facts.server_name {
                Some(name) => {
                    (format!("with the server name {name} instead of {expected}"), of, ValueKind::Other)
                }
                None => (format!("without a server name (SNI) instead of {expected}"), of, ValueKind::Absent),
            });
        }
        let originated: Option<Vec<_>> = promised
            .iter()
            .map(|(_, a)| match &a.transport {
                Transport::Originated(o) => Some(o),
                Transport::Clear | Transport::Mesh | Transport::OwnTls => None,
            })
            .collect();
        // A client's own TLS is its own affair.
        let originated = originated?;
        if let Some(weak) = facts.weak_offers.as_ref().filter(|weak| !weak.is_empty()) {
            let words = format!("and offered {}, which RFC 9325 forbids", weak.join(", "));
            let of = What::of(Field::WeakOffer).being(ValueKind::Absent);
            return Some((words, of, ValueKind::Present));
        }
        let shown = facts.peer_certificate.as_ref()?;
        let key = |c: &PeerCertificate| (c.subject.clone(), c.serial.clone());
        let known = originated.iter().any(|o| o.client_certificate.as_ref().map(key) == Some(key(shown)));
        (!known).then(|| {
            let PeerCertificate { subject, serial, .. } = shown;
            let words = format!(
                "and presented the client certificate {subject} serial {serial}, which is not configured for it"
            );
            let any = originated.iter().any(|o| o.client_certificate.is_some());
            let (wanted, kind) = if any {
                (ValueKind::Configured, ValueKind::Other)
            } else {
                (ValueKind::Absent, ValueKind::Present)
            };
            (words, What::of(Field::ClientCertificate).being(wanted), kind)
        })
    }
}
