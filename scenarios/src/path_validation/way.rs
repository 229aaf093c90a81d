//! How requests reach the server.

use meshproof_harness::certificates::{Authority, Issued, KeyAlgorithm};
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::secret::Secret;

use crate::placement::Placement;

pub(super) const SERVER: &str = "paths.example";
pub(super) const DOMAIN: &str = "vectors.example";
/// The Secret of the path's anchors.
pub(super) const SECRET: &str = "paths";

/// How requests reach the server in this configuration.
pub(super) struct Way<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) placement: Placement,
    pub(super) clients: Authority,
    /// What the proxy presents; none with one-way TLS.
    pub(super) client: Option<Issued>,
}

impl<'a> Way<'a> {
    pub(super) fn new(mesh: &'a Mesh) -> Result<Self, Stop> {
        let clients = Authority::new(KeyAlgorithm::EcdsaP256)?;
        let mutual = mesh.configuration().ends_with("-mutual");
        let client = if mutual { Some(clients.client("client.example.com").issue()?) } else { None };
        Ok(Self { mesh, placement: Placement::of(mesh), clients, client })
    }

    /// The ways to the server, without those that lead to the paths themselves.
    pub(super) fn ways(&self) -> &'static [&'static str] {
        match self.placement {
            Placement::Sidecar => &["servers"],
            Placement::EgressGateway => &["servers", "egress-gateway"],
            Placement::IngressGateway => &["servers", "ingress-gateway"],
        }
    }

    pub(super) fn routes(&self) -> &'static str {
        match self.placement {
            Placement::Sidecar => "routes-at-sidecar",
            Placement::EgressGateway | Placement::IngressGateway => "routes-at-gateway",
        }
    }

    pub(super) fn origination(&self) -> &'static str {
        match (&self.client, self.placement) {
            (None, Placement::Sidecar) => "simple-at-sidecar",
            (None, Placement::EgressGateway | Placement::IngressGateway) => "simple-at-gateway",
            (Some(_), Placement::Sidecar) => "mutual-at-sidecar",
            (Some(_), Placement::EgressGateway | Placement::IngressGateway) => "mutual-at-gateway",
        }
    }

    /// A Secret with the client's certificate, if it needs one.
    pub(super) fn secret(&self, name: &str) -> Secret {
        let secret = Secret::new(self.placement.namespace(), name);
        match &self.client {
            Some(client) => secret.key_pair(client),
            None => secret,
        }
    }
}
