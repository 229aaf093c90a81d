//! Istio reference, "Gateway", `ServerTLSSettings`: an ingress gateway ends the TLS of its clients, and opens TLS anew for a
//! service outside the mesh.

use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::digest::sample;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::secret::Secret;
use meshproof_harness::topology::{Gateway, Topology};
use meshproof_harness::workload::{Delivery, Method};

use crate::sites;

const HOST: &str = "www.shop.example";
const ADMIN: &str = "admin.shop.example";
const ORIGIN: &str = "origin.shop.example";
const SECURE: &str = "https://www.shop.example/private/report?of=today";
const PLAIN: &str = "http://www.shop.example/private/report?of=today";
/// The path of a challenge of ACME (RFC 8555, section 8.3), for which some gateways make an exception.
const ACME: &str = "/.well-known/acme-challenge/token";
const BUYER: &str = "spiffe://shop.example/buyer";
const SELLER: &str = "spiffe://shop.example/seller";

pub(crate) fn topology() -> Topology {
    Topology::default().gateway(Gateway::ingress().ports([80, 443]))
}

pub(crate) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    let gateway = mesh.proxy("istio-ingressgateway");
    let public = mesh.public_authority();
    let credential = || Secret::new("istio-system", "shop-certificate");
    let client = || gateway.probe(443);

    mesh.step("A gateway that ends TLS");
    let certificate = public.server(ORIGIN).issue()?;
    let origin = mesh.deploy_external(sites::origin(ORIGIN, &certificate)).await?;
    let own = public.server(HOST).issue()?;
    mesh.create_secret(credential().key_pair(&own)).await?;
    mesh.apply(&["origin", "gateway", "routes", "originate"]).await?;
    let served = |reply: &Reply| {
        let received = origin.received(reply).host(ORIGIN).server_name(ORIGIN);
        reply.ok().body_contains(ORIGIN).and(received)
    };
    let refused = |reply: &Reply| reply.is_refused().and(origin.during(reply).nothing());
    let secure = client().get(SECURE).await?;
    let presented = secure.hop(0).certificate(own.sha256());
    mesh.check("own-certificate-presented", served(&secure).and(presented))?;

    mesh.step("A plain request");
    let plain = gateway.probe(80).get(PLAIN).await?;
    let post = gateway.probe(80).method(Method::POST).body(&sample(100), Delivery::Whole);
    let post = post.get(PLAIN).await?;
    let acme = gateway.probe(80).get(&format!("http://{HOST}{ACME}")).await?;
    let secure_acme = format!("https://{HOST}{ACME}");
    let redirected = [(&plain, SECURE), (&post, SECURE), (&acme, secure_acme.as_str())]
        .map(|(reply, to)| reply.hop(0).redirects(301, to).and(origin.during(reply).nothing()));
    mesh.check(
        "plain-requests-redirected",
        Claim::all(redirected).provided("the same request over TLS", served(&secure)),
    )?;

    mesh.step("Server names that the Gateway does not have");
    let mut others = Vec::new();
    for name in [ADMIN, "shop.example", "www.shop.example.elsewhere.example"] {
        let reply = client().server_name(name).get(SECURE).await?;
        others.push(reply.is_cut_off().and(origin.during(&reply).nothing()).of(name));
    }
    let others = Claim::all(others);
    mesh.check(
        "other-server-names-refused",
        others.provided("the same request with the right name", served(&secure)),
    )?;

    mesh.step("Another certificate in the Secret");
    let next = public.server(HOST).serial(2).issue()?;
    mesh.create_secret(credential().key_pair(&next)).await?;
    let renewed = client().get(SECURE).await?;
    let presented = renewed.hop(0).certificate(next.sha256());
    mesh.check("replaced-certificate-presented", served(&renewed).and(presented))?;

    mesh.step("The host of another server");
    let clients = Authority::new(KeyAlgorithm::EcdsaP256)?;
    let buyer = clients.mesh_identity(BUYER).issue()?;
    let admins = Secret::new("istio-system", "admin-certificate").key_pair(&public.server(ADMIN).issue()?);
    mesh.create_secret(admins.ca(&clients)).await?;
    mesh.apply(&["other-server"]).await?;
    let url = format!("https://{ADMIN}/private/report");
    let admin = client().identity(&buyer).get(&url).await?;
    let fronted = client().server_name(HOST).get(&url).await?;
    mesh.check(
        "hosts-of-other-servers-not-served",
        refused(&fronted).provided("a client with a certificate, with that server's name", served(&admin)),
    )?;

    mesh.step("Clients with certificates");
    let seller = clients.mesh_identity(SELLER).serial(77).issue()?;
    let expired = clients.mesh_identity(BUYER).expired().issue()?;
    let stranger = Authority::new(KeyAlgorithm::EcdsaP256)?.mesh_identity(BUYER).issue()?;
    mesh.create_secret(credential().key_pair(&next).ca(&clients)).await?;
    mesh.apply(&["gateway-mutual"]).await?;
    let bought = client().identity(&buyer).get(SECURE).await?;
    let sold = client().identity(&seller).get(SECURE).await?;
    let anonymous = client().get(SECURE).await?;
    let late = client().identity(&expired).get(SECURE).await?;
    let server = clients.mesh_identity(BUYER).server_auth_only().issue()?;
    let misused = client().identity(&server).get(SECURE).await?;
    let strange = client().identity(&stranger).get(SECURE).await?;
    let all = refused(&anonymous)
        .of("without a certificate")
        .and(refused(&strange).of("with a certificate of another CA"))
        .and(refused(&late).of("with an expired certificate"))
        .and(refused(&misused).of("with a certificate for servers alone"));
    mesh.check("clients-verified", all.provided("a client of the CA in the Secret", served(&bought)))?;

    mesh.step("A client whose certificate is revoked");
    let list = clients.revocation_list([&seller])?;
    mesh.create_secret(credential().key_pair(&next).ca(&clients).revocation_list(&list)).await?;
    let trusted = client().identity(&buyer).get(SECURE).await?;
    let revoked = client().identity(&seller).get(SECURE).await?;
    mesh.check(
        "revoked-clients-refused",
        refused(&revoked)
            .provided("another client of the CA", served(&trusted))
            .and(served(&sold).of("the same client, before")),
    )?;

    mesh.step("Clients that may have certificates");
    mesh.create_secret(credential().key_pair(&next).ca(&clients)).await?;
    mesh.apply(&["gateway-optional"]).await?;
    let anonymous = client().get(SECURE).await?;
    let bought = client().identity(&buyer).get(SECURE).await?;
    let strange = client().identity(&stranger).get(SECURE).await?;
    let served_both = served(&anonymous).of("without a certificate").and(served(&bought).of("of the CA"));
    mesh.check(
        "optional-clients-verified",
        served_both.and(refused(&strange).of("with a certificate of another CA")),
    )?;

    mesh.step("One of the clients by its name");
    mesh.apply(&["gateway-one-client"]).await?;
    let named = client().identity(&buyer).get(SECURE).await?;
    let unnamed = client().identity(&seller).get(SECURE).await?;
    mesh.check(
        "client-names-verified",
        refused(&unnamed)
            .provided("the client that is named", served(&named))
            .and(served(&sold).of("the other client, before")),
    )
}
