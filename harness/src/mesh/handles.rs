//! The parties that a scenario asks about: external services and proxies.

use meshproof_model::{Fact, Side};

use super::{Client, Mesh, Origin, Stop};
use crate::claim::{
    Claim, Claims, ConnectionLine, Credentials, Logged, Reply, ServerCertificate, Sighting, Window,
    connections_of, opened_by, recorded,
};
use crate::feature::Feature;
use crate::target::Probe;
use crate::workload::RequestSpec;

/// An external service that a scenario deployed.
#[derive(Clone)]
pub struct External<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) host: String,
}

impl<'a> External<'a> {
    /// What it saw of a request.
    pub fn saw(&self, reply: &Reply) -> Sighting {
        Sighting::new(&self.host, None, reply)
    }

    /// What it saw of a request on one of its ports.
    pub fn saw_on(&self, port: u16, reply: &Reply) -> Sighting {
        Sighting::new(&self.host, Some(port), reply)
    }

    /// Exactly one request with the reply's token arrived, over TLS.
    pub fn received(&self, reply: &Reply) -> Sighting {
        self.saw(reply).exactly(1).over_tls()
    }

    /// Exactly one request with the reply's token arrived, over TLS, and no other request until the suite's next one.
    pub fn received_only(&self, reply: &Reply) -> Claim {
        self.received(reply).and(self.during(reply).only_request())
    }

    /// No request arrived until the suite's next one, with a token or without. Connections that failed in their handshake do not
    /// count.
    pub fn never_received(&self, reply: &Reply) -> Claim {
        self.during(reply).no_request()
    }

    /// What it saw from the moment of a request until the suite's next one.
    pub fn during(&self, reply: &Reply) -> Window {
        Window::new(&self.host, reply)
    }

    /// All of the requests of this reply came, over no more TLS connections than these.
    pub fn saw_all_over(&self, most: usize, reply: &Reply) -> Claim {
        connections_of(&self.host, reply, reply.exchange.hops.len(), most)
    }

    /// Its connection for this request was opened by that proxy.
    pub fn connection_opened_by(&self, proxy: &str, reply: &Reply) -> Claim {
        opened_by(proxy, &self.host, reply)
    }

    /// The certificate that an application must see in its own TLS with it: this one, where the suite deployed it.
    #[must_use]
    pub fn certificate(&self, issued: &crate::certificates::Issued) -> ServerCertificate {
        if self.mesh.is_live() {
            ServerCertificate::Public { host: self.host.clone() }
        } else {
            ServerCertificate::Own { sha256: issued.sha256().to_owned() }
        }
    }

    /// A text of the page that the suite put there; none where the host is the real one.
    #[must_use]
    pub fn own<'t>(&self, text: &'t str) -> Option<&'t str> {
        (!self.mesh.is_live()).then_some(text)
    }

    /// Asks it directly from outside the mesh, with a client certificate or without.
    pub fn probe(&self, identity: Option<&crate::certificates::Issued>) -> Client<'a> {
        // What the server demands is the question, not whether its certificate pleases the client.
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
    /// What it logged of a request: exactly one line.
    pub fn logged(&self, reply: &Reply) -> Logged {
        Logged::new(self.name, reply)
    }

    /// What it logged of a connection that it passed through.
    pub fn passed_through(&self, reply: &Reply, server_name: &str) -> ConnectionLine {
        ConnectionLine::new(self.name, reply, server_name)
    }

    /// Asks the gateway's port directly, as somebody without a mesh identity would.
    pub fn probe(&self, port: u16) -> Client<'a> {
        let probe = Probe::Gateway { gateway: self.name.to_owned(), port };
        let request = RequestSpec { accept_any_server: true, ..RequestSpec::get("", "") };
        Client { mesh: self.mesh, from: Origin::Probe(probe), request }
    }

    /// Asks the workload's served port directly, as somebody without a mesh identity would.
    pub fn probe_inbound(&self) -> Client<'a> {
        let probe = Probe::Workload { workload: self.name.to_owned() };
        let request = RequestSpec { accept_any_server: true, ..RequestSpec::get("", "") };
        Client { mesh: self.mesh, from: Origin::Probe(probe), request }
    }

    /// The protocol that it logged, whatever it is: for a check that records and never fails.
    pub fn protocol_recorded(&self, reply: &Reply) -> Claim {
        recorded(self.name, reply, "protocol", |log, _| log.fields.as_ref()?.protocol.clone())
    }

    /// How a request failed, in the client's and the proxy's words: for a check that records and never fails.
    pub fn failure_recorded(&self, reply: &Reply) -> Claim {
        recorded(self.name, reply, "failure", |log, reply| {
            let fields = log.fields.as_ref()?;
            let body = reply.exchange.last_response().map(|r| crate::store::bounded(r.body.trim(), 200));
            let flags = fields.response_flags.join(",");
            Some(format!("{}, flags {flags:?}, body {:?}", fields.response_code?, body.unwrap_or_default()))
        })
    }

    /// What it says of its credentials; recorded as evidence. Nothing without the feature `credential-status`.
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
