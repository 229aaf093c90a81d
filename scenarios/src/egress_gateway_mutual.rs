//! Istio, "Egress Gateways with TLS Origination": "Perform mutual TLS origination with an egress gateway".

mod hop;
mod secrets;
mod servers;

use meshproof_harness::certificates::{
    Authority, Issued, KeyAlgorithm, KeyPool, ROOT_COMMON_NAME, ROOT_ORGANIZATION,
};
use meshproof_harness::claim::Claims;
use meshproof_harness::feature::Feature;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::secret::Secret;
use meshproof_harness::topology::{Gateway, Topology, Workload};

use crate::sites;

const HOST: &str = "my-nginx.mesh-external.svc.cluster.local";
const URL: &str = "http://my-nginx.mesh-external.svc.cluster.local/";
const URL_TLS: &str = "https://my-nginx.mesh-external.svc.cluster.local/";
const GATEWAY: &str = "istio-egressgateway";
const GATEWAY_HOST: &str = "istio-egressgateway.istio-system.svc.cluster.local";
const GATEWAY_NAMESPACE: &str = "istio-system";
const SECRET: &str = "client-credential";
const WELCOME: &str = "Welcome to nginx!";

pub(crate) fn topology() -> Topology {
    Topology::default().workload(Workload::sleep()).gateway(Gateway::egress())
}

/// The two authorities, and the certificates of the server and of its client.
struct Parties {
    ca: Authority,
    another_ca: Authority,
    server: Issued,
    client: Issued,
}

impl Parties {
    async fn new(algorithm: KeyAlgorithm) -> Result<Self, Stop> {
        let keys = KeyPool::new();
        // An RSA key costs tens of milliseconds. All four that the scenario needs are made side by side, and a party that gets
        // another certificate keeps its key.
        keys.prepare(algorithm, 4).await?;
        let root = || Authority::with_keys(&keys, ROOT_COMMON_NAME, ROOT_ORGANIZATION, algorithm);
        let (ca, another_ca) = (root()?, root()?);
        let server = ca.server(HOST).without_san().issue()?;
        let client = ca.client("client.example.com").issue()?;
        Ok(Self { ca, another_ca, server, client })
    }

    /// The Secret of this name as the document creates it, with this client certificate.
    fn secret(&self, namespace: &str, name: &str, client: &Issued) -> Secret {
        Secret::new(namespace, name).key_pair(client).ca(&self.ca)
    }
}

pub(crate) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    let algorithm =
        if mesh.configuration() == "rsa-2048" { KeyAlgorithm::Rsa2048 } else { KeyAlgorithm::EcdsaP256 };
    let (sleep, gateway) = (mesh.workload("sleep"), mesh.proxy(GATEWAY));

    mesh.step("Generate client and server certificates and keys");
    let parties = Parties::new(algorithm).await?;
    let Parties { ca, server, client, .. } = &parties;

    mesh.step("Deploy a mutual TLS server");
    let nginx = mesh.deploy_external(sites::nginx(HOST, server).requiring_clients_of(ca)).await?;
    let anonymous = nginx.probe(None).get(URL_TLS).await?;
    mesh.check(
        "server-demands-certificate",
        anonymous.only_response().is(400).body_contains("No required SSL certificate was sent"),
    )?;
    let direct = nginx.probe(Some(client)).get(URL_TLS).await?;
    mesh.check("server-accepts-client", direct.ok().body_contains(WELCOME))?;
    let untouched = sleep.get(URL).await?;

    mesh.step("Configure mutual TLS origination for egress traffic");
    mesh.create_secret(parties.secret(GATEWAY_NAMESPACE, SECRET, client)).await?;
    mesh.apply(&["gateway"]).await?;
    mesh.apply(&["route"]).await?;
    mesh.apply(&["originate"]).await?;
    let credentials = gateway.credentials().await?;
    mesh.check(
        "credential-active",
        credentials
            .active("kubernetes://client-credential", client.certificate_pem())
            .and(credentials.active("kubernetes://client-credential-cacert", ca.certificate_pem())),
    )?;
    let welcome = sleep.get(URL).await?;
    mesh.check("welcome-page", welcome.ok().body_contains(WELCOME))?;
    mesh.check("client-certificate-presented", nginx.received(&welcome).client_certificate(client))?;
    mesh.check(
        "gateway-access-log",
        gateway
            .logged(&welcome)
            .method("GET")
            .path("/")
            .status(200)
            .authority(HOST)
            .upstream_host(mesh.upstream(HOST, 443)),
    )?;

    hop::to_the_gateway(mesh, &nginx, &welcome).await?;

    servers::another_server_name(mesh, &nginx, &welcome).await?;
    servers::another_ca(mesh, &parties, &welcome).await?;
    // Only implementations with the feature accept the manifests.
    if mesh.has_feature(Feature::SanValidation) {
        servers::another_san(mesh, &parties).await?;
    }
    secrets::of_an_unrelated_ca(mesh, &parties, &welcome).await?;
    secrets::in_the_wrong_namespace(mesh, &parties).await?;
    secrets::in_every_format(mesh, &parties).await?;

    mesh.create_secret(parties.secret(GATEWAY_NAMESPACE, SECRET, client)).await?;
    if mesh.declares("no-bypass") {
        hop::without_the_gateway(mesh, &nginx).await?;
    }

    mesh.step("Cleanup the mutual TLS origination example");
    let last = sleep.get(URL).await?;
    mesh.delete_secret(GATEWAY_NAMESPACE, SECRET).await?;
    hop::cleaned_up(mesh, &nginx, &last).await?;
    let restored = sleep.get(URL).await?;
    let credentials = gateway.credentials().await?;
    mesh.check(
        "cleanup-restores",
        restored
            .ends_as(&untouched)
            .and(nginx.during(&restored).nothing())
            .and(credentials.gone("kubernetes://client-credential"))
            .provided("the same request before the deletion", last.ends_with(200)),
    )
}
