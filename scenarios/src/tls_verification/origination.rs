//! How TLS is opened in a configuration: by which proxy, and with a client certificate or without.

use std::collections::BTreeMap;

use meshproof_harness::certificates::{Authority, Issued};
use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::external_server::ExternalServer;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::secret::Secret;

use super::servers::Authorities;
use crate::placement::Placement;
use crate::sites::{self, REPORT};

/// The replies by host.
pub(super) type Replies = BTreeMap<&'static str, Reply>;

/// TLS as a configuration has it opened.
pub(super) struct Origination<'a> {
    pub(super) mesh: &'a Mesh,
    placement: Placement,
    pub(super) cas: Authorities<'a>,
    /// The certificate that the proxy must present; none with one-way TLS.
    client: Option<Issued>,
}

impl<'a> Origination<'a> {
    /// One-way TLS trusts the system's roots. Mutual TLS trusts the private CA of its credential, and no root of the system.
    pub(super) fn new(mesh: &'a Mesh, private: &'a Authority) -> Result<Self, Stop> {
        let (placement, public) = (Placement::of(mesh), mesh.public_authority());
        Ok(if mesh.configuration().ends_with("-mutual") {
            let client = private.client("client.example.com").issue()?;
            let cas = Authorities { trusted: private, other: public };
            Self { mesh, placement, cas, client: Some(client) }
        } else {
            let cas = Authorities { trusted: public, other: private };
            Self { mesh, placement, cas, client: None }
        })
    }

    pub(super) fn is_mutual(&self) -> bool {
        self.client.is_some()
    }

    /// A server with this certificate, which requires client certificates if TLS is mutual.
    pub(super) fn server(&self, host: &str, certificate: &Issued) -> ExternalServer {
        let server = sites::origin(host, certificate);
        if self.is_mutual() { server.requiring_clients_of(self.cas.trusted) } else { server }
    }

    /// The ways to the servers, and the credential.
    pub(super) async fn prepare(&self) -> Result<(), Stop> {
        let ways: &[&str] = match self.placement {
            Placement::Sidecar => &["servers", "alias-at-sidecar"],
            Placement::EgressGateway => &["servers", "egress-gateway", "routes-at-gateway"],
            Placement::IngressGateway => &["servers", "ingress-gateway", "routes-at-gateway"],
        };
        if let Some(client) = &self.client {
            let secret = Secret::new(self.placement.namespace(), "client-credential");
            self.mesh.create_secret(secret.key_pair(client).ca(self.cas.trusted)).await?;
        }
        self.mesh.apply(ways).await
    }

    /// The DestinationRule, with verification of the servers or without.
    pub(super) async fn originate(&self, verified: bool) -> Result<(), Stop> {
        let manifest = match (self.is_mutual(), self.placement, verified) {
            (false, _, true) => "originate",
            (false, _, false) => "originate-unverified",
            (true, Placement::Sidecar, true) => "mutual-at-sidecar",
            (true, Placement::Sidecar, false) => "mutual-at-sidecar-unverified",
            (true, _, true) => "mutual-at-gateway",
            (true, _, false) => "mutual-at-gateway-unverified",
        };
        self.mesh.apply(&[manifest]).await
    }

    /// The same request for each of these hosts, side by side.
    pub(super) async fn ask<const N: usize>(&self, hosts: [&'static str; N]) -> Result<Replies, Stop> {
        let urls = hosts.map(|host| format!("http://{host}{REPORT}?of=today"));
        let client = self.placement.client(self.mesh);
        let replies = client.get_each(urls.each_ref().map(String::as_str)).await?;
        Ok(hosts.into_iter().zip(replies).collect())
    }

    /// The server's own page came, by one request to this server: under its name, in TLS that was opened under its name, and
    /// with the client certificate if TLS is mutual.
    pub(super) fn accepted(&self, host: &str, replies: &Replies) -> Claim {
        let reply = &replies[host];
        let received = self.mesh.external(host).received(reply).host(host).server_name(host);
        let received = match &self.client {
            Some(client) => received.client_certificate(client),
            None => received.no_client_certificate(),
        };
        reply.ok().body_contains(host).and(received)
    }

    pub(super) fn refused(&self, host: &str, replies: &Replies) -> Claim {
        let (server, reply) = (self.mesh.external(host), &replies[host]);
        let unseen = server.never_received(reply).and(server.during(reply).no_plaintext(&[REPORT]));
        server.certificate_refused(reply).and(unseen).and(reply.fails()).of(host)
    }
}
