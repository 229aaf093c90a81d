//! Istio, "Egress Gateways with TLS Origination": "Perform TLS origination with an egress gateway".

use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::claim::{Claims, Count, Reply};
use meshproof_harness::external::Documented;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::scenario::{Check, Configuration, Scenario};
use meshproof_harness::topology::{Gateway, Topology, Workload};
use meshproof_harness::workload::Method;
use meshproof_model::Level;

use crate::sites::{self, CNN, CNN_POLITICS};

const ORIGINATION: &str = "Perform TLS origination with an egress gateway";
const CLEANUP: &str = "Cleanup the TLS origination example";
/// The name that an impostor would claim; it is the certificate's issuer that must count.
const SLEEP_IDENTITY: &str = "spiffe://cluster.local/ns/default/sa/sleep";
const GATEWAY: &str = "istio-egressgateway";
const GATEWAY_HOST: &str = "istio-egressgateway.istio-system.svc.cluster.local";

pub(crate) static SCENARIO: Scenario = Scenario {
    id: "egress-gateway-simple",
    title: "An egress gateway opens TLS for the whole mesh",
    document: "Egress Gateways with TLS Origination",
    url: "https://istio.io/latest/docs/tasks/traffic-management/egress/egress-gateway-tls-origination/",
    features: &["sidecar", "egress-gateway", "mesh-mtls"],
    configurations: &[Configuration { id: "simple", title: "one-way TLS" }],
    checks: &[
        Check::must(
            "redirect-before-origination",
            ORIGINATION,
            "With the service entry alone, a plain request is redirected: 301 with the https URL as Location, then 200.",
        )
        .control()
        .feature("tls-passthrough")
        .why("The redirect that origination removes must have been there.")
        .observed("The workload's exchange, redirects followed."),
        Check::must(
            "single-response",
            ORIGINATION,
            "With origination, the same client request gives exactly one response, 200, and no redirect anywhere.",
        )
        .why("The application must not notice who opens TLS for it.")
        .observed("The workload's exchange, redirects followed."),
        Check::must(
            "one-upstream-request",
            ORIGINATION,
            "The external service sees exactly one request for it, on its TLS port.",
        )
        .why("A proxy that asks twice, or follows the redirect itself, hides the round trip instead of saving it.")
        .observed("The external service's requests with this token."),
        Check::must(
            "no-plaintext-leak",
            ORIGINATION,
            "Nothing of the request arrives outside TLS: no connection to the plain port, no path or host in clear bytes.",
        )
        .why("The request leaves the mesh; whoever listens on the way must learn nothing of it.")
        .observed("The external service's connections and their clear bytes, until the suite's next request."),
        Check::must(
            "sni-is-host",
            ORIGINATION,
            "The server name in the gateway's ClientHello is the host that the application asked for.",
        )
        .why("Sites that share an address choose their certificate by it.")
        .observed("The external service's handshake."),
        Check::must(
            "host-and-path-preserved",
            ORIGINATION,
            "Host, path, query and method arrive as the application sent them, through both proxies.",
        )
        .why("Origination is about the transport; the request is the application's.")
        .observed("The external service's request, for a GET and a HEAD with upper case and a query."),
        Check::must(
            "gateway-access-log",
            ORIGINATION,
            "The egress gateway logs the request once: GET /politics, 200, authority, upstream address:443, cluster outbound|443||edition.cnn.com.",
        )
        .feature("access-log")
        .why("The document asks its reader to look for this line; it is the proof that traffic leaves where it must.")
        .observed("The gateway's access log."),
        Check::must(
            "gateway-log-protocol",
            ORIGINATION,
            "The protocol between sidecar and gateway is recorded; the document's sample line shows HTTP/2.",
        )
        .level(Level::May)
        .feature("access-log")
        .why("Implementations and versions differ, and none is wrong.")
        .observed("The gateway's access log."),
        Check::must(
            "hop-to-gateway-is-mutual-tls",
            ORIGINATION,
            "Sidecar and gateway speak mesh mutual TLS with the configured server name; a plain or anonymous client of the gateway's port, or one with another CA's certificate, is refused.",
        )
        .feature("access-log")
        .why("A gateway that takes anybody's requests is a way out of the mesh for everybody.")
        .observed("The gateway's access log, and the suite's own clients: plain, anonymous, and with a certificate of another CA."),
        Check::must(
            "originated-by-gateway",
            ORIGINATION,
            "The TLS connection to the external service comes from the gateway; the sidecar opens none.",
        )
        .features(&["access-log", "upstream-local-address"])
        .why("In this example the TLS origination is done by the egress gateway, as opposed to by the sidecar.")
        .observed("The gateway's own end of the connection in its access log, held against the peer that the external service saw."),
        Check::must(
            "no-bypass",
            ORIGINATION,
            "With the gateway away, the request fails and the external service sees nothing of it.",
        )
        .why("A sidecar that goes around an absent gateway makes every egress policy worthless.")
        .observed("The workload's exchange and the external service's connections; the twin is the same request with the gateway back."),
        Check::must(
            "cleanup-restores",
            CLEANUP,
            "After the resources are deleted the mesh behaves as before they were applied.",
        )
        .why("Configuration that outlives its deletion cannot be operated.")
        .observed("The workload's exchange, the external service's plain port, and a plain client of the gateway's port."),
    ],
    fixtures: crate::fixtures!("egress-gateway-simple": "access", "gateway", "originate"),
    live: sites::CNN_ANSWERS,
    topology: || Topology {
        workloads: vec![Workload::sleep()],
        gateways: vec![Gateway::egress()],
        ..Topology::default()
    },
    run: |mesh| Box::pin(run(mesh)),
};

const POLITICS: &str = "http://edition.cnn.com/politics";
const SECURE: &str = "https://edition.cnn.com/politics";

async fn run(mesh: &Mesh) -> Result<(), Stop> {
    mesh.step("Before you begin");
    let certificate = mesh.public_authority().server(CNN).issue()?;
    let cnn = mesh.deploy_external(sites::cnn(&certificate), Documented::Site).await?;
    let untouched = mesh.workload("sleep").get(POLITICS).await?;
    let gateway = mesh.proxy(GATEWAY);
    let unopened = gateway.probe(80).get(POLITICS).await?;

    mesh.step("Define a ServiceEntry for edition.cnn.com");
    mesh.apply(&["access"]).await?;
    let before = mesh.workload("sleep").get(POLITICS).await?;
    let redirected = before.statuses(&[301, 200]).and(before.hop(0).redirects(301, SECURE));
    mesh.check("redirect-before-origination", redirected)?;

    mesh.step(ORIGINATION);
    mesh.apply(&["gateway"]).await?;
    mesh.apply(&["originate"]).await?;
    let after = mesh.workload("sleep").get(POLITICS).await?;
    mesh.check("single-response", after.only_response().is(200).shows(cnn.own(CNN_POLITICS)))?;
    mesh.check(
        "one-upstream-request",
        cnn.saw(&after).exactly(1).over_tls().and(cnn.during(&after).only_request()),
    )?;
    mesh.check(
        "no-plaintext-leak",
        cnn.during(&after)
            .no_plaintext(&["/politics", CNN])
            .provided("the same request without origination", cnn.during(&before).saw_in_clear("/politics"))
            .provided("the request itself", after.ends_with(200)),
    )?;
    mesh.check("sni-is-host", cnn.saw_on(443, &after).server_name(CNN))?;
    mesh.check(
        "gateway-access-log",
        gateway
            .logged(&after)
            .method("GET")
            .path("/politics")
            .status(200)
            .authority(CNN)
            .upstream_host(mesh.upstream(CNN, 443))
            .upstream_cluster("outbound|443||edition.cnn.com"),
    )?;
    mesh.check("gateway-log-protocol", gateway.protocol_recorded(&after))?;
    mesh.check(
        "originated-by-gateway",
        cnn.connection_opened_by(GATEWAY, &after)
            .and(cnn.during(&after).no_other_connection())
            .and(mesh.proxy("sleep").logged(&after).upstream_host(mesh.upstream(GATEWAY_HOST, 80))),
    )?;
    let target = "/Politics/Today~1?Edition=World&q=a%20b+c&empty=";
    let url = format!("http://{CNN}{target}");
    let get = mesh.workload("sleep").get(&url).await?;
    let head = mesh.workload("sleep").method(Method::HEAD).get(&url).await?;
    mesh.check(
        "host-and-path-preserved",
        cnn.saw(&get)
            .exactly(1)
            .method("GET")
            .authority(CNN)
            .target(target)
            .over_tls()
            .and(cnn.saw(&head).exactly(1).method("HEAD").authority(CNN).target(target).over_tls()),
    )?;

    mesh.step("Ask the gateway without a mesh identity");
    let plain = gateway.probe(80).get(POLITICS).await?;
    let anonymous = gateway.probe(80).get(SECURE).await?;
    let impostor = Authority::new(KeyAlgorithm::EcdsaP256)?.mesh_identity(SLEEP_IDENTITY).issue()?;
    let stranger = gateway.probe(80).identity(&impostor).get(SECURE).await?;
    let unserved = |reply: &Reply| gateway.logged(reply).count(Count::Exactly(0));
    mesh.check(
        "hop-to-gateway-is-mutual-tls",
        plain
            .is_refused()
            .of("a plain client of the gateway's port")
            .and(anonymous.is_refused().of("an anonymous TLS client of the gateway's port"))
            .and(stranger.is_refused().of("a client with a certificate of another CA"))
            .and(cnn.during(&stranger).nothing().or_unobserved(unserved(&stranger)))
            .and(cnn.during(&plain).nothing().or_unobserved(unserved(&plain)))
            .and(cnn.during(&anonymous).nothing().or_unobserved(unserved(&anonymous)))
            .provided("the sidecar's own request", after.ends_with(200))
            .and(gateway.logged(&after).requested_server_name(CNN)),
    )?;

    mesh.step("Take the gateway away");
    let at_gateway = mesh.upstream(GATEWAY_HOST, 80);
    mesh.set_running(GATEWAY, false).await?;
    let away = mesh.workload("sleep").get(POLITICS).await?;
    let kept_in = mesh.proxy("sleep").logged(&away).no_upstream_but(&at_gateway).where_logged();
    mesh.set_running(GATEWAY, true).await?;
    let back = mesh.workload("sleep").get(POLITICS).await?;
    mesh.check(
        "no-bypass",
        away.fails()
            .and(cnn.during(&away).nothing().or_unobserved(kept_in))
            .provided("the same request with the gateway back", back.only_response().is(200)),
    )?;

    mesh.step(CLEANUP);
    mesh.delete(&["originate", "gateway", "access"]).await?;
    let restored = mesh.workload("sleep").get(POLITICS).await?;
    let closed = gateway.probe(80).get(POLITICS).await?;
    let as_before = restored.ends_as(&untouched);
    // Without origination a plain request is redirected: only that tells the two apart from here.
    let redirected = as_before.clone().provided("the redirect", restored.hop(0).redirects(301, SECURE));
    mesh.check(
        "cleanup-restores",
        as_before
            .and(cnn.during(&restored).saw_in_clear("/politics").or_unobserved(redirected))
            .and(closed.ends_as(&unopened).of("a plain client of the gateway's port")),
    )
}
