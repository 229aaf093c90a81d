//! RFC 5280, section 6: which certificate paths a proxy accepts that opens TLS. Each path is one that a rule decides; one server
//! presents them all, each under a name of its own.

mod checks;
mod file;
mod matrix;

use std::sync::Arc;

use meshproof_harness::certificates::{Authority, Issued, KeyAlgorithm};
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::scenario::{Story, StoryFn};
use meshproof_harness::secret::Secret;
use meshproof_vectors::limbo::LimboVector;

pub(crate) use self::checks::declare;
use crate::placement::Placement;

const SERVER: &str = "paths.example";
const DOMAIN: &str = "vectors.example";
/// The Secret of the path's anchors.
const SECRET: &str = "paths";

/// Which paths are asked.
#[derive(Clone, Debug)]
pub enum Paths {
    /// A part of the suite's own in each configuration: each rule at each placement, each path in one configuration.
    Covering,
    /// All of the suite's own in each configuration.
    Full,
    /// Those of a file.
    File(Arc<Vec<LimboVector>>),
}

/// The story, which depends on what is asked.
pub(crate) struct PathValidation(pub(crate) Paths);

impl<'a> StoryFn<'a> for PathValidation {
    type Told = Story<'a>;

    fn tell(&self, mesh: &'a Mesh) -> Story<'a> {
        let paths = self.0.clone();
        Box::pin(async move { story(mesh, &paths).await })
    }
}

async fn story(mesh: &Mesh, paths: &Paths) -> Result<(), Stop> {
    let way = Way::new(mesh)?;
    match paths {
        Paths::Covering | Paths::Full => matrix::story(&way, matches!(paths, Paths::Full)).await,
        Paths::File(vectors) => file::story(&way, vectors).await,
    }
}

/// How requests reach the server in this configuration.
struct Way<'a> {
    mesh: &'a Mesh,
    placement: Placement,
    clients: Authority,
    /// What the proxy presents; none with one-way TLS.
    client: Option<Issued>,
}

impl<'a> Way<'a> {
    fn new(mesh: &'a Mesh) -> Result<Self, Stop> {
        let clients = Authority::new(KeyAlgorithm::EcdsaP256)?;
        let mutual = mesh.configuration().ends_with("-mutual");
        let client = if mutual { Some(clients.client("client.example.com").issue()?) } else { None };
        Ok(Self { mesh, placement: Placement::of(mesh), clients, client })
    }

    /// The ways to the server, without those that lead to the paths themselves.
    fn ways(&self) -> &'static [&'static str] {
        match self.placement {
            Placement::Sidecar => &["servers"],
            Placement::EgressGateway => &["servers", "egress-gateway"],
            Placement::IngressGateway => &["servers", "ingress-gateway"],
        }
    }

    fn routes(&self) -> &'static str {
        match self.placement {
            Placement::Sidecar => "routes-at-sidecar",
            Placement::EgressGateway | Placement::IngressGateway => "routes-at-gateway",
        }
    }

    fn origination(&self) -> &'static str {
        match (&self.client, self.placement) {
            (None, Placement::Sidecar) => "simple-at-sidecar",
            (None, Placement::EgressGateway | Placement::IngressGateway) => "simple-at-gateway",
            (Some(_), Placement::Sidecar) => "mutual-at-sidecar",
            (Some(_), Placement::EgressGateway | Placement::IngressGateway) => "mutual-at-gateway",
        }
    }

    /// A Secret with the client's certificate, if it needs one.
    fn secret(&self, name: &str) -> Secret {
        let secret = Secret::new(self.placement.namespace(), name);
        match &self.client {
            Some(client) => secret.key_pair(client),
            None => secret,
        }
    }
}
