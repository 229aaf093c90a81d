//! What a scenario makes claims about: servers and proxies.

use meshproof_model::{Fact, Side};

use super::{Client, Mesh, Origin, Stop};
use crate::claim::{
    Claim, Claims, ConnectionLine, ConversationLine, Credentials, Logged, Reply, Server, ServerCertificate,
    Sighting, Window, certificate_refused, complete, connections_of, opened_by, received_some, recorded,
    request_ids_recorded,
};
use crate::feature::Feature;
use crate::target::Probe;
use crate::workload::RequestSpec;

/// A server whose evidence the suite reads: an external service, or a service of the mesh.
#[derive(Clone)]
pub struct External<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) server: Server,
}

impl<'a> External<'a> {
    /// What it received of a request.
    pub fn saw(&self, reply: &Reply) -> Sighting {
        Sighting::new(&self.server, None, reply)
    }

    /// What it received of a request on one of its ports.
    pub fn saw_on(&self, port: u16, reply: &Reply) -> Sighting {
        Sighting::new(&self.server, Some(port), reply)
    }

    /// It received at least one of these requests, and those that it received over TLS with this server name.
    pub fn received_some(&self, replies: &[Reply], server_name: &str) -> Claim {
        received_some(&self.server, replies, server_name, None)
    }

    /// The same, and it received at most so many.
    pub fn received_at_most(&self, most: usize, replies: &[Reply], server_name: &str) -> Claim {
        received_some(&self.server, replies, server_name, Some(most))
    }

    /// Exactly one request with the reply's token arrived, over TLS.
    pub fn received(&self, reply: &Reply) -> Sighting {
        self.saw(reply).exactly(1).over_tls()
    }

    /// Exactly one request with the reply's token arrived, over TLS, and no other request until the suite's next one.
    pub fn received_only(&self, reply: &Reply) -> Claim {
        self.received(reply).and(self.during(reply).only_request())
    }

    /// No request arrived until the suite's next one, with a token or without. Connections whose handshake failed do not count.
    pub fn never_received(&self, reply: &Reply) -> Claim {
        self.during(reply).no_request()
    }

    /// No request with the reply's token arrived, because the proxy refused the server's certificate.
    pub fn certificate_refused(&self, reply: &Reply) -> Claim {
        certificate_refused(&self.server, reply)
    }

    /// What it received from the moment of a request until the suite's next one.
    pub fn during(&self, reply: &Reply) -> Window {
        Window::new(&self.server, reply)
    }

    /// All requests of this reply arrived, over at most this many TLS connections.
    pub fn saw_all_over(&self, most: usize, reply: &Reply) -> Claim {
        connections_of(&self.server, reply, reply.exchange.hops.len(), most)
    }

    /// That proxy opened the connection on which this request arrived.
    pub fn connection_opened_by(&self, proxy: &str, reply: &Reply) -> Claim {
        opened_by(proxy, &self.server, reply)
    }

    /// The certificate that an application must receive in its own TLS with the server: this one, if the suite deployed it.
    #[must_use]
    pub fn certificate(&self, issued: &crate::certificates::Issued) -> ServerCertificate {
        if self.mesh.is_live() {
            ServerCertificate::Public { host: self.server.host.clone() }
        } else {
            ServerCertificate::Own { sha256: issued.sha256().to_owned() }
        }
    }

    /// A text of the page that the suite serves there; none for a real host.
    #[must_use]
    pub fn own<'t>(&self, text: &'t str) -> Option<&'t str> {
        (!self.mesh.is_live()).then_some(text)
    }

    /// A client that sends requests directly from outside the mesh, with a client certificate or without.
    pub fn probe(&self, identity: Option<&crate::certificates::Issued>) -> Client<'a> {
        // The question is what the server requires, not whether the client accepts its certificate.
        let request = RequestSpec {
            identity: identity.map(Into::into),
            accept_any_server: true,
            ..RequestSpec::get("", "")
        };
        Client { mesh: self.mesh, from: Origin::Probe(Probe::External), request }
    }
}

/// A proxy of the implementation.
#[derive(Clone, Copy)]
pub struct Proxy<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) name: &'static str,
}

impl<'a> Proxy<'a> {
    /// What it logged for a request: exactly one line.
    pub fn logged(&self, reply: &Reply) -> Logged {
        Logged::new(self.name, reply)
    }

    /// What it logged for a connection that it passed through.
    pub fn passed_through(&self, reply: &Reply, server_name: &str) -> ConnectionLine {
        ConnectionLine::new(self.name, reply, server_name)
    }

    /// What it logged for a conversation over TCP with a server to which it opened the connection.
    pub fn logged_conversation(&self, with: &External<'_>, reply: &Reply, cluster: &str) -> ConversationLine {
        ConversationLine::new(self.name, &with.server, reply, cluster)
    }

    /// A client without a mesh identity that sends requests directly to the gateway's port.
    pub fn probe(&self, port: u16) -> Client<'a> {
        let probe = Probe::Gateway { gateway: self.name.to_owned(), port };
        let request = RequestSpec { accept_any_server: true, ..RequestSpec::get("", "") };
        Client { mesh: self.mesh, from: Origin::Probe(probe), request }
    }

    /// A client without a mesh identity that sends requests directly to the port that the workload serves.
    pub fn probe_inbound(&self) -> Client<'a> {
        let probe = Probe::Workload { workload: self.name.to_owned() };
        let request = RequestSpec { accept_any_server: true, ..RequestSpec::get("", "") };
        Client { mesh: self.mesh, from: Origin::Probe(probe), request }
    }

    /// It logged every value of the documents' sample lines for a request.
    pub fn logged_in_full(&self, reply: &Reply) -> Claim {
        complete(self.name, reply)
    }

    /// Records the request ids under which it and another proxy logged a request: for a check that never fails.
    pub fn request_id_recorded_beside(&self, other: &Self, reply: &Reply) -> Claim {
        request_ids_recorded(self.name, other.name, reply)
    }

    /// Records the protocol that it logged: for a check that never fails.
    pub fn protocol_recorded(&self, reply: &Reply) -> Claim {
        recorded(self.name, reply, "protocol", |log, _| log.fields.as_ref()?.protocol.clone())
    }

    /// Records how a request failed, at the client and at the proxy: for a check that never fails.
    pub fn failure_recorded(&self, reply: &Reply) -> Claim {
        recorded(self.name, reply, "failure", |log, reply| {
            let fields = log.fields.as_ref()?;
            let body = reply.exchange.last_response().map(|r| crate::store::bounded(r.body.trim(), 200));
            let flags = fields.response_flags.join(",");
            Some(format!("{}, flags {flags:?}, body {:?}", fields.response_code?, body.unwrap_or_default()))
        })
    }

    /// The credentials that it reports, recorded as evidence. Empty without the feature `credential-status`.
    ///
    /// # Errors
    /// The implementation is gone.
    pub async fn credentials(&self) -> Result<Credentials, Stop> {
        let mut seen = Vec::new();
        if self.mesh.has_feature(Feature::CredentialStatus) {
            for status in self.mesh.instance.credentials(self.name).await? {
                let side = Side::Proxy { name: self.name.to_owned() };
                let id = self.mesh.setting.seat.store.record(side, None, Fact::Credential(status.clone()));
                seen.push((id, status));
            }
        }
        Ok(Credentials::new(self.name, self.mesh.has_feature(Feature::CredentialStatus), seen))
    }
}
