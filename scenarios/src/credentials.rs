//! Istio, "Egress Gateways with TLS Origination", and the reference of ClientTLSSettings: the life of a credential at an
//! egress gateway, while it is missing, replaced, revoked, or holds a CA alone.

use meshproof_harness::certificates::{Authority, Issued, KeyAlgorithm};
use meshproof_harness::claim::{Claim, Claims};
use meshproof_harness::external::{Documented, ExternalSpec, PlainPort};
use meshproof_harness::feature::Feature;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::scenario::{Check, Configuration, Scenario};
use meshproof_harness::topology::{Gateway, Topology, Workload};

use crate::sites;

const ORIGINATION: &str = "Configure mutual TLS origination for egress traffic";
const HOST: &str = "my-nginx.mesh-external.svc.cluster.local";
const URL: &str = "http://my-nginx.mesh-external.svc.cluster.local/";
const NAMESPACE: &str = "istio-system";
const SECRET: &str = "client-credential";

pub(crate) static SCENARIO: Scenario = Scenario {
    id: "credentials",
    title: "A gateway's credential is missing, replaced, revoked, or a CA alone",
    document: "Egress Gateways with TLS Origination",
    url: "https://istio.io/latest/docs/tasks/traffic-management/egress/egress-gateway-tls-origination/",
    features: &[Feature::Sidecar, Feature::EgressGateway, Feature::MeshMtls, Feature::MutualOrigination],
    configurations: &[Configuration { id: "egress-gateway", title: "origination at the egress gateway" }],
    checks: &[
        Check::must(
            "missing-credential-refused",
            ORIGINATION,
            "While the secret is missing the request fails, the server sees no request and the gateway does not call the credential ACTIVE; when it appears, the request works without a restart.",
        )
        .why("A proxy that goes on without the credential shows an anonymous client to the server.")
        .observed("The workload's exchanges and nginx's requests; the twin is the same request with the secret."),
        Check::must(
            "credential-rotation",
            ORIGINATION,
            "Three rotations in a row are each taken up without a restart and without a failed request.",
        )
        .why("Certificates are replaced while traffic flows; a proxy that keeps the old one fails when it expires.")
        .observed("The serial that nginx saw after each rotation, and every exchange in between."),
        Check::must(
            "rotation-under-load",
            ORIGINATION,
            "A rotation while requests go on is taken up, and none of them fails: neither those in flight nor those that come meanwhile.",
        )
        .feature(Feature::ReconfigureWithoutRestart)
        .why("A certificate is replaced every few hours; an outage each time, however short, is somebody's failed request.")
        .observed("The workload's requests, some of them at the server while the secret is replaced, and the serials that the server saw on new connections before and after."),
        Check::must(
            "revoked-by-crl-refused",
            ORIGINATION,
            "A server whose certificate the credential's revocation list names is refused: the request does not reach it.",
        )
        .why("A key that is known to be lost must stop working before it expires.")
        .observed("The workload's exchange and nginx's requests; the twin is the same credential with an empty list."),
        Check::must(
            "ca-only-credential",
            ORIGINATION,
            "For SIMPLE, a secret that holds a CA and no key pair is enough, and the CA that it holds decides.",
        )
        .why("One-way TLS to a private CA needs no client certificate.")
        .observed("The workload's exchanges and nginx's requests, with the server's CA and with another."),
        Check::must(
            "credential-name-ends-in-cacert",
            ORIGINATION,
            "A CA-only secret whose name itself ends in -cacert works like any other, and its CA decides.",
        )
        .why("Istio asks for a credential's CA under NAME-cacert; a name that ends so already is easily cut short.")
        .observed("The workload's exchange and nginx's requests."),
    ],
    fixtures: crate::fixtures!("credentials":
        "gateway", "route", "originate", "originate-ca-only", "originate-name-ends-in-cacert"),
    live: &[],
    topology: || Topology {
        workloads: vec![Workload::sleep()],
        gateways: vec![Gateway::egress()],
        ..Topology::default()
    },
    run: |mesh| Box::pin(run(mesh)),
};

async fn supply(mesh: &Mesh, client: &Issued, ca: &Authority, crl: Option<&str>) -> Result<(), Stop> {
    let (key, certificate) = (client.key(), client.certificate_pem());
    let mut entries =
        vec![("tls.key", key.0.as_str()), ("tls.crt", certificate), ("ca.crt", ca.certificate_pem())];
    entries.extend(crl.map(|crl| ("ca.crl", crl)));
    mesh.create_secret(NAMESPACE, SECRET, &entries).await
}

async fn run(mesh: &Mesh) -> Result<(), Stop> {
    mesh.step("A server that demands client certificates");
    let ca = Authority::new(KeyAlgorithm::EcdsaP256)?;
    let server = ca.server(HOST).issue()?;
    let spec = sites::nginx(HOST, &server, ca.certificate_pem());
    let nginx = mesh.deploy_external(spec, Documented::Nginx).await?;
    mesh.apply(&["gateway"]).await?;
    mesh.apply(&["route", "originate"]).await?;

    mesh.step("The secret is missing, then appears");
    let missing = mesh.workload("sleep").get(URL).await?;
    let while_missing = mesh.proxy("istio-egressgateway").credentials().await?;
    let client = ca.client("client.example.com").serial(1).issue()?;
    supply(mesh, &client, &ca, None).await?;
    let appeared = mesh.workload("sleep").get(URL).await?;
    let appeared_works: Claim =
        appeared.only_response().is(200).and(nginx.saw(&appeared).exactly(1).client_certificate(&client));
    mesh.check(
        "missing-credential-refused",
        missing
            .fails()
            .and(nginx.during(&missing).no_request())
            .and(while_missing.gone("kubernetes://client-credential"))
            .provided("the same request with the secret", appeared_works),
    )?;

    mesh.step("Three rotations");
    let mut rotations = Vec::new();
    for serial in 2..5u64 {
        let client = ca.client("client.example.com").serial(serial).issue()?;
        supply(mesh, &client, &ca, None).await?;
        for _ in 0..2 {
            let reply = mesh.workload("sleep").get(URL).await?;
            let right = nginx.saw(&reply).exactly(1).client_certificate(&client);
            rotations.push(reply.only_response().is(200).and(right).of(&format!("rotation {}", serial - 1)));
        }
    }
    mesh.check("credential-rotation", Claim::all(rotations))?;

    mesh.step("A revocation list");
    let empty = ca.revocation_list([])?;
    supply(mesh, &client, &ca, Some(&empty)).await?;
    let listed_nobody = mesh.workload("sleep").get(URL).await?;
    let list = ca.revocation_list([&server])?;
    supply(mesh, &client, &ca, Some(&list)).await?;
    let revoked = mesh.workload("sleep").get(URL).await?;
    mesh.check(
        "revoked-by-crl-refused",
        revoked
            .fails()
            .and(nginx.during(&revoked).no_request())
            .provided("the same with an empty list", listed_nobody.ends_with(200)),
    )?;

    mesh.step("A CA alone");
    let mut open = sites::nginx(HOST, &server, ca.certificate_pem());
    if let Some(tls) = &mut open.tls {
        tls.client_ca = None;
    }
    let nginx = mesh.deploy_external(open, Documented::Nginx).await?;
    mesh.create_secret(NAMESPACE, "origin-ca", &[("ca.crt", ca.certificate_pem())]).await?;
    mesh.apply(&["originate-ca-only"]).await?;
    let right = mesh.workload("sleep").get(URL).await?;
    let stranger = Authority::new(KeyAlgorithm::EcdsaP256)?;
    mesh.create_secret(NAMESPACE, "origin-ca", &[("ca.crt", stranger.certificate_pem())]).await?;
    let wrong = mesh.workload("sleep").get(URL).await?;
    mesh.check(
        "ca-only-credential",
        wrong.fails().and(nginx.during(&wrong).no_request()).of("with another CA").provided(
            "with the server's CA",
            right.only_response().is(200).and(nginx.saw(&right).exactly(1).over_tls()),
        ),
    )?;
    mesh.create_secret(NAMESPACE, "origin-cacert", &[("ca.crt", ca.certificate_pem())]).await?;
    mesh.apply(&["originate-name-ends-in-cacert"]).await?;
    let suffix = mesh.workload("sleep").get(URL).await?;
    mesh.create_secret(NAMESPACE, "origin-cacert", &[("ca.crt", stranger.certificate_pem())]).await?;
    let wrong = mesh.workload("sleep").get(URL).await?;
    mesh.check(
        "credential-name-ends-in-cacert",
        wrong.fails().and(nginx.during(&wrong).no_request()).of("with another CA").provided(
            "with the server's CA",
            suffix.only_response().is(200).and(nginx.saw(&suffix).exactly(1).over_tls()),
        ),
    )?;

    mesh.step("A rotation under load");
    // Only the embedded server withholds answers until it is told to go on. Last, so that a target which has no such server is
    // asked everything else.
    let spec = ExternalSpec { plain: PlainPort::Serve, ..sites::nginx(HOST, &server, ca.certificate_pem()) };
    mesh.apply(&["originate"]).await?;
    let patient = mesh.deploy_external(spec, Documented::Embedded).await?;
    let [old, new] = [5, 6].map(|serial| ca.client("client.example.com").serial(serial).issue());
    let (old, new) = (old?, new?);
    supply(mesh, &old, &ca, None).await?;
    let before = mesh.workload("sleep").get(URL).await?;
    let change = supply(mesh, &new, &ca, None);
    let load = mesh.workload("sleep").under_load(&format!("http://{HOST}"), change).await?;
    let after = mesh.workload("sleep").get(URL).await?;
    mesh.check(
        "rotation-under-load",
        load.loses_nothing()
            .and(patient.saw(&after).exactly(1).client_certificate(&new))
            .provided("the certificate before", patient.saw(&before).exactly(1).client_certificate(&old)),
    )
}
