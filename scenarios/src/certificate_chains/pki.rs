//! The authorities: three roots that the proxy trusts, one that it does not, and the clients' own.

use std::sync::Arc;

use meshproof_harness::certificates::{
    Authority, Blueprint, CertificateError, Certified, Issued, KeyAlgorithm, KeyPool,
};
use meshproof_harness::claim::Claims;
use meshproof_harness::feature::Feature;
use meshproof_harness::mesh::{Mesh, Stop};

use super::listed::Listed;
use crate::presented::Asked;

pub(super) const SERVER: &str = "servers.example";

/// One key per certificate would only cost time: no check looks at the leaves' keys.
pub(super) type Key = Arc<meshproof_harness::certificates::PrivateKey>;

pub(super) struct Pki {
    keys: KeyPool,
    pub(super) key: Key,
    /// The roots that the proxy trusts, in the order of the bundle.
    pub(super) roots: [Certified; 3],
    /// Issued by the first root.
    pub(super) intermediate: Certified,
    /// A root of no Secret.
    pub(super) stranger: Certified,
    /// What stands for the system's roots.
    pub(super) public: Certified,
    /// The mesh's root, where the suite holds it.
    pub(super) mesh: Option<Certified>,
    /// The root of the clients' certificates.
    pub(super) clients: Authority,
    /// What the proxy presents, with its chain; none with one-way TLS.
    pub(super) client: Option<Issued>,
    /// Whether the configuration asks for one-way TLS.
    pub(super) one_way: bool,
    pub(super) http2: bool,
    /// The certificates that revocation lists are about.
    pub(super) listed: Listed,
}

impl Pki {
    pub(super) fn new(mesh: &Mesh) -> Result<Self, Stop> {
        let keys = KeyPool::new();
        let key = keys.key(KeyAlgorithm::EcdsaP256)?;
        let root = |name: &str| Blueprint::authority(name, keys.key(KeyAlgorithm::EcdsaP256)?).self_signed();
        let roots = [root("First root")?, root("Second root")?, root("Third root")?];
        let stranger = root("Root of strangers")?;
        let intermediate = Blueprint::authority("Intermediate", keys.key(KeyAlgorithm::EcdsaP256)?);
        let intermediate = intermediate.issued_by(&roots[0])?;
        let held = mesh.has_feature(Feature::MeshCa);
        let mesh_root = if held { Some(mesh.mesh_authority()?.certified()) } else { None };
        let clients = Authority::with_keys(&keys, "Root of clients", "clients", KeyAlgorithm::EcdsaP256)?;
        let one_way = !mesh.configuration().ends_with("-mutual");
        let client = if one_way { None } else { Some(client("the proxy", &keys, &clients)?) };
        let listed = Listed::new(&keys, &key, &roots[0])?;
        Ok(Self {
            key,
            listed,
            roots,
            intermediate,
            stranger,
            public: mesh.public_authority().certified(),
            mesh: mesh_root,
            clients,
            client,
            one_way,
            http2: mesh.has_feature(Feature::Http2),
            keys,
        })
    }

    /// A CA below another.
    pub(super) fn authority(&self, name: &str) -> Result<Blueprint, CertificateError> {
        Ok(Blueprint::authority(name, self.keys.key(KeyAlgorithm::EcdsaP256)?))
    }

    /// A server's certificate.
    pub(super) fn leaf(&self, host: &str) -> Blueprint {
        Blueprint::server(host, self.key.clone())
    }

    /// A server's certificate from the first root.
    pub(super) fn own(&self, host: &str) -> Result<Issued, CertificateError> {
        Ok(self.leaf(host).issued_by(&self.roots[0])?.with_chain(&[]))
    }

    /// A key with this algorithm.
    pub(super) fn key_of(&self, algorithm: KeyAlgorithm) -> Result<Key, CertificateError> {
        self.keys.key(algorithm)
    }

    /// Another client's certificate, with its chain.
    pub(super) fn other_client(&self) -> Result<Issued, CertificateError> {
        client("another client", &self.keys, &self.clients)
    }
}

/// A client's certificate and the intermediate that issued it. Servers know the root alone.
fn client(name: &str, keys: &KeyPool, clients: &Authority) -> Result<Issued, CertificateError> {
    let key = || keys.key(KeyAlgorithm::EcdsaP256);
    let intermediate =
        Blueprint::authority("Intermediate of clients", key()?).issued_by(&clients.certified())?;
    Ok(Blueprint::client(name, key()?).issued_by(&intermediate)?.with_chain(&[&intermediate]))
}

/// The server accepts the proxy although it knows only the root of clients.
pub(super) async fn client_chain(mesh: &Mesh, pki: &Pki, asked: &Asked<'_>) -> Result<(), Stop> {
    let Some(client) = &pki.client else { return Ok(()) };
    let server = mesh.external(SERVER);
    let url = format!("https://{SERVER}/private/report");
    let direct = server.probe(Some(client)).get(&url).await?;
    mesh.check(
        "client-chain-sent",
        asked.accepted(&chains("one-intermediate")).provided(
            "the server's view of a client that sends its whole chain",
            server.received(&direct).client_certificate(client),
        ),
    )
}

/// A host whose requests go by the usual subset.
pub(super) fn chains(label: &str) -> String {
    format!("{label}.chains.origin.example")
}
