//! A second egress gateway, in a team's namespace.

use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::claim::Claims;
use meshproof_harness::external_server::Site;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::secret::Secret;
use meshproof_harness::topology::Gateway;

const NAME: &str = "team-egressgateway";
const HOST: &str = "team.example";

pub(super) fn gateway() -> Gateway {
    Gateway::new(NAME).in_namespace("team")
}

pub(super) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    mesh.step("The egress gateway of a team");
    let clients = Authority::new(KeyAlgorithm::EcdsaP256)?;
    let [own, other] = [1, 2].map(|serial| clients.client("client.example.com").serial(serial).issue());
    let (own, other) = (own?, other?);
    let public = mesh.public_authority();
    let server = Site::at(HOST).certificate(&public.server(HOST).issue()?).asking_clients_of(&clients);
    let server = mesh.deploy_external(server.text("/", HOST).embedded()).await?;
    let secret =
        |namespace, certificate| Secret::new(namespace, "client-credential").key_pair(certificate).ca(public);
    mesh.create_secret(secret("istio-system", &other)).await?;
    mesh.apply(&["team-gateway"]).await?;
    // The rule is for the other gateway, too, which has its Secret.
    let missing = mesh.workload("sleep").get("http://team.example/").await?;
    let unserved = missing.fails().and(server.never_received(&missing)).of("without a Secret of its own");
    mesh.create_secret(secret("team", &own)).await?;
    let reply = mesh.workload("sleep").get("http://team.example/").await?;
    let received = server.received(&reply).server_name(HOST).client_certificate(&own);
    let served = reply.ok().and(received).and(server.connection_opened_by(NAME, &reply));
    mesh.check("second-egress-gateway", served.clone().and(unserved.provided("with it", served)))
}
