//! Istio, "Egress Gateways with TLS Origination": "Perform mutual TLS origination with an egress gateway".

use meshproof_harness::certificates::{
    Authority, Issued, KeyAlgorithm, KeyPool, ROOT_COMMON_NAME, ROOT_ORGANIZATION,
};
use meshproof_harness::claim::{Claim, Claims};
use meshproof_harness::external::Documented;
use meshproof_harness::feature::Feature;
use meshproof_harness::mesh::{External, Mesh, Stop};
use meshproof_harness::scenario::{Check, Configuration, Scenario};
use meshproof_harness::topology::{Gateway, Topology, Workload};

use crate::sites;

const DEPLOY: &str = "Deploy a mutual TLS server";
const ORIGINATION: &str = "Configure mutual TLS origination for egress traffic";
const CERTIFICATES: &str = "Generate client and server certificates and keys";
const CLEANUP: &str = "Cleanup the mutual TLS origination example";
const HOST: &str = "my-nginx.mesh-external.svc.cluster.local";
const GATEWAY: &str = "istio-egressgateway";
const SECRET: &str = "client-credential";
/// The one that is lent from the wrong namespace.
const LENT: &str = "lent-credential";
const BESIDE_GATEWAY: &str = "istio-system";

pub(crate) static SCENARIO: Scenario = Scenario {
    id: "egress-gateway-mutual",
    title: "An egress gateway opens mutual TLS with a certificate of its own",
    document: "Egress Gateways with TLS Origination",
    url: "https://istio.io/latest/docs/tasks/traffic-management/egress/egress-gateway-tls-origination/",
    features: &[Feature::Sidecar, Feature::EgressGateway, Feature::MeshMtls, Feature::MutualOrigination],
    configurations: &[
        Configuration { id: "rsa-2048", title: "RSA keys of 2048 bits, as the document makes them" },
        Configuration { id: "ecdsa-p256", title: "ECDSA keys on P-256" },
    ],
    checks: &[
        Check::must(
            "server-demands-certificate",
            DEPLOY,
            "nginx, asked directly without a certificate, refuses: 400 \"No required SSL certificate was sent\".",
        )
        .control()
        .why("A server that takes anybody would make every later success worthless.")
        .observed("The suite's own client, past the mesh."),
        Check::must(
            "server-accepts-client",
            DEPLOY,
            "nginx, asked directly with the client certificate, answers 200.",
        )
        .control()
        .why("What the gateway is to do must be possible.")
        .observed("The suite's own client, past the mesh."),
        Check::must(
            "credential-active",
            ORIGINATION,
            "The gateway reports client-credential and its CA as ACTIVE, with the serial that was issued.",
        )
        .feature(Feature::CredentialStatus)
        .why("The document asks its reader to verify this before the first request.")
        .observed("The gateway's own word on its credentials."),
        Check::must(
            "welcome-page",
            ORIGINATION,
            "http://my-nginx.mesh-external.svc.cluster.local/ gives 200 and \"Welcome to nginx!\".",
        )
        .why("This is what the task is for.")
        .observed("The workload's exchange."),
        Check::must(
            "client-certificate-presented",
            ORIGINATION,
            "nginx verified the client: CN=client.example.com, O=client organization, the very serial that was issued.",
        )
        .why("A success with another certificate, or none, is not mutual TLS.")
        .observed("nginx's view of the handshake."),
        Check::must(
            "sni-as-configured",
            ORIGINATION,
            "The server name in the gateway's ClientHello is the DestinationRule's sni, whether it is the host or another name.",
        )
        .why("The document sets it, and servers that share an address choose by it.")
        .observed("nginx's view of the handshake."),
        Check::must(
            "server-of-another-ca-refused",
            ORIGINATION,
            "A server whose certificate comes from another CA than the credential's is refused: the request does not reach it.",
        )
        .why("Mutual TLS is mutual: a gateway that shows its certificate to anybody has verified nobody.")
        .observed("The workload's exchange and the server's requests; the twin is the server of the right CA."),
        Check::must(
            "gateway-access-log",
            ORIGINATION,
            "The egress gateway logs one line: GET /, 200, authority my-nginx.mesh-external.svc.cluster.local, upstream address:443.",
        )
        .feature(Feature::AccessLog)
        .why("The document asks its reader to look for this line.")
        .observed("The gateway's access log."),
        Check::must(
            "san-match-accepted",
            CERTIFICATES,
            "With subjectAltNames set to the name in the server's certificate, the request succeeds.",
        )
        .feature(Feature::SanValidation)
        .why("SAN validation must not refuse the right server.")
        .observed("The workload's exchange and nginx's requests."),
        Check::must(
            "san-mismatch-refused",
            CERTIFICATES,
            "With subjectAltNames set to another name, the request fails and nginx sees no request.",
        )
        .feature(Feature::SanValidation)
        .why("SAN validation that does not refuse the wrong server protects nobody.")
        .observed("The workload's exchange and nginx's requests; the twin is san-match-accepted."),
        Check::must(
            "untrusted-client-refused",
            ORIGINATION,
            "With a credential of an unrelated CA, nginx refuses and the application never sees 200.",
        )
        .why("It shows that nginx's verdict reaches the application, and that the gateway uses the credential it was given.")
        .observed("nginx's refusal and the workload's exchange; the twin is the documented credential."),
        Check::must(
            "credential-in-wrong-namespace",
            ORIGINATION,
            "A secret beside the application instead of beside the gateway is not used: the request fails.",
        )
        .why("The secret must be created in the same namespace as the egress gateway; else anybody could lend it theirs.")
        .observed("The workload's exchange and nginx's requests; the twin is the same secret beside the gateway."),
        Check::must(
            "credential-formats",
            ORIGINATION,
            "Each of the Secret formats works: tls.crt/tls.key/ca.crt; cert/key/cacert; NAME with NAME-cacert.",
        )
        .why("To support integration with various tools, Istio supports a few different Secret formats.")
        .observed("The workload's exchanges and the serial that nginx saw, another for each format."),
        Check::must(
            "cleanup-restores",
            CLEANUP,
            "After the resources are deleted the request fails as before, and the credential is gone from the gateway.",
        )
        .why("A credential that outlives its deletion cannot be revoked.")
        .observed("The workload's exchange, nginx's connections, the gateway's own word on its credentials."),
    ],
    fixtures: crate::fixtures!("egress-gateway-mutual":
        "gateway", "route", "originate", "originate-another-sni", "originate-lent", "originate-san-match", "originate-san-mismatch"),
    live: &[],
    topology: || Topology {
        workloads: vec![Workload::sleep()],
        gateways: vec![Gateway::egress()],
        ..Topology::default()
    },
    run: |mesh| Box::pin(run(mesh)),
};

const URL: &str = "http://my-nginx.mesh-external.svc.cluster.local/";
const URL_TLS: &str = "https://my-nginx.mesh-external.svc.cluster.local/";

/// The two authorities, the server, its client, and the client that the server does not know.
const PARTIES: usize = 5;

/// Generic secret with the keys that the document uses.
async fn documented_secret(
    mesh: &Mesh,
    namespace: &str,
    client: &Issued,
    ca: &Authority,
) -> Result<(), Stop> {
    secret_of(mesh, namespace, SECRET, client, ca).await
}

async fn secret_of(
    mesh: &Mesh,
    namespace: &str,
    name: &str,
    client: &Issued,
    ca: &Authority,
) -> Result<(), Stop> {
    let (key, certificate) = (client.key(), client.certificate_pem());
    let entries = [("tls.key", key.0.as_str()), ("tls.crt", certificate), ("ca.crt", ca.certificate_pem())];
    mesh.create_secret(namespace, name, &entries).await
}

async fn run(mesh: &Mesh) -> Result<(), Stop> {
    let algorithm =
        if mesh.configuration() == "rsa-2048" { KeyAlgorithm::Rsa2048 } else { KeyAlgorithm::EcdsaP256 };
    mesh.step(CERTIFICATES);
    // RSA keys cost tens of milliseconds each: all that are needed are made side by side, and whoever gets another certificate
    // keeps the key.
    let keys = KeyPool::new();
    keys.prepare(algorithm, PARTIES).await?;
    let root = || Authority::with_keys(&keys, ROOT_COMMON_NAME, ROOT_ORGANIZATION, algorithm);
    let ca = root()?;
    let another_ca = root()?;
    let server = ca.server(HOST).without_san().issue()?;
    let client = ca.client("client.example.com").issue()?;

    mesh.step(DEPLOY);
    let spec = sites::nginx(HOST, &server, ca.certificate_pem());
    let nginx = mesh.deploy_external(spec, Documented::Nginx).await?;
    let nobody = nginx.probe(None).get(URL_TLS).await?;
    mesh.check(
        "server-demands-certificate",
        nobody.only_response().is(400).body_contains("No required SSL certificate was sent"),
    )?;
    let direct = nginx.probe(Some(&client)).get(URL_TLS).await?;
    mesh.check("server-accepts-client", direct.only_response().is(200).body_contains("Welcome to nginx!"))?;
    let untouched = mesh.workload("sleep").get(URL).await?;

    mesh.step(ORIGINATION);
    let gateway = mesh.proxy(GATEWAY);
    documented_secret(mesh, BESIDE_GATEWAY, &client, &ca).await?;
    mesh.apply(&["gateway"]).await?;
    mesh.apply(&["route"]).await?;
    mesh.apply(&["originate"]).await?;
    let credentials = gateway.credentials().await?;
    mesh.check(
        "credential-active",
        credentials
            .active("kubernetes://client-credential", Some(client.serial()))
            .and(credentials.active("kubernetes://client-credential-cacert", None)),
    )?;
    let welcome = mesh.workload("sleep").get(URL).await?;
    mesh.check("welcome-page", welcome.only_response().is(200).body_contains("Welcome to nginx!"))?;
    mesh.check("client-certificate-presented", nginx.saw(&welcome).exactly(1).client_certificate(&client))?;
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

    mesh.step("Another server name, another CA");
    mesh.apply(&["originate-another-sni"]).await?;
    let renamed = mesh.workload("sleep").get(URL).await?;
    mesh.check(
        "sni-as-configured",
        nginx
            .saw(&welcome)
            .server_name(HOST)
            .and(nginx.saw(&renamed).exactly(1).server_name("nginx.example.com")),
    )?;
    mesh.apply(&["originate"]).await?;
    let foreign = another_ca.server(HOST).without_san().key_of(&server).issue()?;
    let impostor =
        mesh.deploy_external(sites::nginx(HOST, &foreign, ca.certificate_pem()), Documented::Nginx).await?;
    let deceived = mesh.workload("sleep").get(URL).await?;
    mesh.check(
        "server-of-another-ca-refused",
        deceived
            .fails()
            .and(impostor.during(&deceived).no_request())
            .provided("the server of the right CA", welcome.ends_with(200)),
    )?;
    let nginx =
        mesh.deploy_external(sites::nginx(HOST, &server, ca.certificate_pem()), Documented::Nginx).await?;

    let nginx = match mesh.has_feature(Feature::SanValidation) {
        true => san_validation(mesh, &ca, &server).await?,
        false => nginx,
    };

    mesh.step("A credential of an unrelated CA");
    let stranger = another_ca.client("client.example.com").issue()?;
    documented_secret(mesh, BESIDE_GATEWAY, &stranger, &ca).await?;
    let untrusted = mesh.workload("sleep").get(URL).await?;
    mesh.check(
        "untrusted-client-refused",
        untrusted
            .fails()
            .and(nginx.during(&untrusted).refused_client(&stranger))
            .provided("the documented credential", welcome.ends_with(200)),
    )?;

    mesh.step("A credential in the wrong namespace");
    // Of a name that the gateway never held: istiod withdraws no secret that it has sent (pilot/pkg/xds/sds.go, `Generate`,
    // leaves out what is gone), so a proxy may go on with one that was deleted.
    let lent = |namespace: &'static str| secret_of(mesh, namespace, LENT, &client, &ca);
    mesh.apply(&["originate-lent"]).await?;
    lent("default").await?;
    let misplaced = mesh.workload("sleep").get(URL).await?;
    lent(BESIDE_GATEWAY).await?;
    let beside = mesh.workload("sleep").get(URL).await?;
    mesh.check(
        "credential-in-wrong-namespace",
        misplaced.fails().and(nginx.during(&misplaced).no_request()).provided(
            "the same secret beside the gateway",
            beside.only_response().is(200).and(nginx.saw(&beside).exactly(1).client_certificate(&client)),
        ),
    )?;
    mesh.delete_secret("default", LENT).await?;
    mesh.apply(&["originate"]).await?;
    mesh.delete_secret(BESIDE_GATEWAY, LENT).await?;

    mesh.step("The Secret formats that Istio supports");
    let mut formats = Vec::new();
    for (number, format) in (2u64..).zip(Format::ALL) {
        let client = ca.client("client.example.com").serial(number).key_of(&client).issue()?;
        format.create(mesh, &client, &ca).await?;
        let mut works = works_with(mesh, &nginx, &client).await?;
        if format == Format::SeparateCa {
            // That CA must be the one that decides.
            mesh.create_secret(
                BESIDE_GATEWAY,
                "client-credential-cacert",
                &[("ca.crt", another_ca.certificate_pem())],
            )
            .await?;
            let refused = mesh.workload("sleep").get(URL).await?;
            works = works.and(refused.fails().and(nginx.during(&refused).no_request()).of("with another CA"));
        }
        formats.push(works.of(format.name()));
        format.delete(mesh).await?;
    }
    mesh.check("credential-formats", Claim::all(formats))?;

    mesh.step(CLEANUP);
    documented_secret(mesh, BESIDE_GATEWAY, &client, &ca).await?;
    let last = mesh.workload("sleep").get(URL).await?;
    mesh.delete_secret(BESIDE_GATEWAY, SECRET).await?;
    mesh.delete(&["originate", "route", "gateway"]).await?;
    let restored = mesh.workload("sleep").get(URL).await?;
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

/// Asked only of implementations with the feature, because the others refuse the manifests.
async fn san_validation<'a>(mesh: &'a Mesh, ca: &Authority, server: &Issued) -> Result<External<'a>, Stop> {
    mesh.step("SAN validation for the destination");
    let named = ca.server(HOST).key_of(server).issue()?;
    let spec = sites::nginx(HOST, &named, ca.certificate_pem());
    let nginx = mesh.deploy_external(spec, Documented::Nginx).await?;
    mesh.apply(&["originate-san-match"]).await?;
    let matched = mesh.workload("sleep").get(URL).await?;
    let match_works: Claim = matched.only_response().is(200).into();
    mesh.check("san-match-accepted", match_works.clone().and(nginx.saw(&matched).exactly(1)))?;
    mesh.apply(&["originate-san-mismatch"]).await?;
    let mismatched = mesh.workload("sleep").get(URL).await?;
    // And the other way round: the right name configured, a server that holds another. Only who reads the certificate
    // tells it from the first.
    mesh.apply(&["originate-san-match"]).await?;
    let other = ca.server("another-nginx.mesh-external.svc.cluster.local").key_of(server).issue()?;
    let elsewhere =
        mesh.deploy_external(sites::nginx(HOST, &other, ca.certificate_pem()), Documented::Nginx).await?;
    let misnamed = mesh.workload("sleep").get(URL).await?;
    mesh.check(
        "san-mismatch-refused",
        mismatched
            .fails()
            .and(nginx.during(&mismatched).no_request())
            .and(
                misnamed
                    .fails()
                    .and(elsewhere.during(&misnamed).no_request())
                    .of("a server with another name"),
            )
            .provided("the same with the right name", match_works),
    )?;
    let nginx =
        mesh.deploy_external(sites::nginx(HOST, &named, ca.certificate_pem()), Documented::Nginx).await?;
    mesh.apply(&["originate"]).await?;
    Ok(nginx)
}

async fn works_with(mesh: &Mesh, nginx: &External<'_>, client: &Issued) -> Result<Claim, Stop> {
    let reply = mesh.workload("sleep").get(URL).await?;
    Ok(reply.only_response().is(200).and(nginx.saw(&reply).exactly(1).client_certificate(client)))
}

/// A Secret's layout.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Tls,
    Generic,
    SeparateCa,
}

impl Format {
    const ALL: [Self; 3] = [Self::Tls, Self::Generic, Self::SeparateCa];

    fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls.crt, tls.key, ca.crt",
            Self::Generic => "cert, key, cacert",
            Self::SeparateCa => "client-credential with client-credential-cacert",
        }
    }

    async fn create(self, mesh: &Mesh, client: &Issued, ca: &Authority) -> Result<(), Stop> {
        let (key, certificate, root) = (client.key(), client.certificate_pem(), ca.certificate_pem());
        match self {
            Self::Tls => documented_secret(mesh, BESIDE_GATEWAY, client, ca).await,
            Self::Generic => {
                let entries = [("key", key.0.as_str()), ("cert", certificate), ("cacert", root)];
                mesh.create_secret(BESIDE_GATEWAY, SECRET, &entries).await
            }
            Self::SeparateCa => {
                let entries = [("tls.key", key.0.as_str()), ("tls.crt", certificate)];
                mesh.create_secret(BESIDE_GATEWAY, SECRET, &entries).await?;
                mesh.create_secret(BESIDE_GATEWAY, "client-credential-cacert", &[("ca.crt", root)]).await
            }
        }
    }

    async fn delete(self, mesh: &Mesh) -> Result<(), Stop> {
        mesh.delete_secret(BESIDE_GATEWAY, SECRET).await?;
        match self {
            Self::Tls | Self::Generic => Ok(()),
            Self::SeparateCa => mesh.delete_secret(BESIDE_GATEWAY, "client-credential-cacert").await,
        }
    }
}
