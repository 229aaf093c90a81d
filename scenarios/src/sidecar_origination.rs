//! Istio, "TLS Origination for Egress Traffic": the sidecar opens TLS for an application that sends plain HTTP.
//!
//! The document exists in two editions that reach the same end by different configuration. `port-rewrite` (the older):
//! a VirtualService sends port 80 to port 443, whose protocol is HTTP, and a DestinationRule opens TLS there.
//! `target-port` (the newer): the ServiceEntry's port 80 has the target port 443, and the DestinationRule opens TLS on
//! port 80.

use meshproof_harness::claim::Claims;
use meshproof_harness::external::Documented;
use meshproof_harness::feature::Feature;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::scenario::{Check, Configuration, Scenario};
use meshproof_harness::topology::{Topology, Workload};
use meshproof_harness::workload::Method;

use crate::sites::{self, CNN, CNN_POLITICS};

const ACCESS: &str = "Configuring access to an external service";
const ORIGINATION: &str = "TLS origination for egress traffic";
const CLEANUP: &str = "Cleanup";

pub(crate) static SCENARIO: Scenario = Scenario {
    id: "sidecar-origination",
    title: "The sidecar opens TLS for an application that sends plain HTTP",
    document: "TLS Origination for Egress Traffic",
    url: "https://istio.io/latest/docs/tasks/traffic-management/egress/egress-tls-origination/",
    features: &[Feature::Sidecar],
    configurations: &[
        Configuration { id: "port-rewrite", title: "a VirtualService sends port 80 to port 443" },
        Configuration { id: "target-port", title: "the ServiceEntry's port 80 has the target port 443" },
    ],
    checks: &[
        Check::must(
            "redirect-before-origination",
            ACCESS,
            "Without origination, a plain request is redirected: 301 with the https URL as Location, then 200.",
        )
        .control()
        .feature(Feature::TlsPassthrough)
        .why("The redirect that origination removes must have been there.")
        .observed("The workload's exchange, redirects followed."),
        Check::must(
            "plaintext-seen-before-origination",
            ACCESS,
            "Without origination, the external service's plain port sees the path in clear text.",
        )
        .control()
        .why("That nothing is seen in clear later means something only if the suite can see clear text at all.")
        .observed("The external service's requests on its plain port."),
        Check::must(
            "https-end-to-end-before-origination",
            ACCESS,
            "The application's own HTTPS is passed through: its ALPN offer, the external service's certificate, HTTP/2.",
        )
        .feature(Feature::TlsPassthrough)
        .why("A proxy that ends the application's TLS breaks what end-to-end encryption promises.")
        .observed("The workload's handshake, held against the external service's."),
        Check::must(
            "single-response",
            ORIGINATION,
            "With origination, the same client request gives exactly one response, 200, and no redirect anywhere.",
        )
        .why("The redundant round trip is the first of the two issues that origination is to resolve.")
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
        .why("The path in clear text is the second of the two issues that origination is to resolve.")
        .observed("The external service's connections and their clear bytes, until the suite's next request."),
        Check::must(
            "sni-is-host",
            ORIGINATION,
            "The server name in the originated ClientHello is the host that the application asked for.",
        )
        .why("Sites that share an address choose their certificate by it.")
        .observed("The external service's handshake."),
        Check::must(
            "host-and-path-preserved",
            ORIGINATION,
            "Host, path, query and method arrive as the application sent them.",
        )
        .why("Origination is about the transport; the request is the application's.")
        .observed("The external service's request, for a GET and a HEAD with upper case and a query."),
        Check::must(
            "client-unchanged",
            ORIGINATION,
            "The application sends the same bytes in both steps, and with origination nothing more.",
        )
        .why("Origination is promised by configuration alone, without a changed line of code.")
        .observed("The bytes that the workload wrote, but for the correlation token."),
        Check::must(
            "https-clients-unaffected",
            ORIGINATION,
            "With origination in force, an application's own HTTPS still works end to end: HTTP/2 200.",
        )
        .only_in(&["target-port"])
        .feature(Feature::TlsPassthrough)
        .why("Applications that use HTTPS share the service entry with those that do not.")
        .observed("The workload's handshake and response."),
        Check::must(
            "sidecar-access-log",
            ORIGINATION,
            "The sidecar logs the request once: method, path, 200, authority, upstream host, upstream cluster.",
        )
        .feature(Feature::AccessLog)
        .why("Better telemetry is the document's reason to let the mesh open TLS.")
        .observed("The sidecar's access log."),
        Check::must(
            "cleanup-restores",
            CLEANUP,
            "After the resources are deleted the mesh behaves as before they were applied.",
        )
        .why("Configuration that outlives its deletion cannot be operated.")
        .observed("The workload's exchange and the external service's plain port."),
    ],
    fixtures: crate::fixtures!("sidecar-origination":
        "port-rewrite-access", "port-rewrite-originate", "target-port-access", "target-port-originate"),
    live: sites::CNN_ANSWERS,
    topology: || Topology { workloads: vec![Workload::sleep()], ..Topology::default() },
    run: |mesh| Box::pin(run(mesh)),
};

const POLITICS: &str = "http://edition.cnn.com/politics";
const SECURE: &str = "https://edition.cnn.com/politics";

async fn run(mesh: &Mesh) -> Result<(), Stop> {
    let (access, originate, cluster) = match mesh.configuration() {
        "port-rewrite" => ("port-rewrite-access", "port-rewrite-originate", "outbound|443||edition.cnn.com"),
        _ => ("target-port-access", "target-port-originate", "outbound|80||edition.cnn.com"),
    };
    mesh.step("Before you begin");
    let certificate = mesh.public_authority().server(CNN).issue()?;
    let cnn = mesh.deploy_external(sites::cnn(&certificate), Documented::Site).await?;
    let untouched = mesh.workload("sleep").get(POLITICS).await?;

    mesh.step(ACCESS);
    mesh.apply(&[access]).await?;
    let before = mesh.workload("sleep").get(POLITICS).await?;
    mesh.check(
        "redirect-before-origination",
        before.statuses(&[301, 200]).and(before.hop(0).redirects(301, SECURE)),
    )?;
    let seen_in_clear = cnn.during(&before).saw_in_clear("/politics");
    mesh.check("plaintext-seen-before-origination", seen_in_clear.clone())?;
    mesh.check(
        "https-end-to-end-before-origination",
        before.hop(1).answers(200, "HTTP/2").certificate(cnn.certificate(&certificate)).and_outside(
            cnn.saw_on(443, &before).exactly(1).server_name(CNN).alpn_offered(&["h2", "http/1.1"]),
        ),
    )?;

    mesh.step(ORIGINATION);
    mesh.apply(&[originate]).await?;
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
            .provided("the same request without origination", seen_in_clear)
            .provided("the request itself", after.ends_with(200)),
    )?;
    mesh.check("sni-is-host", cnn.saw_on(443, &after).server_name(CNN))?;
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
    mesh.check("client-unchanged", after.sent_just_what_it_sent_first_in(&before))?;
    if mesh.configuration() == "target-port" {
        let https = mesh.workload("sleep").get(SECURE).await?;
        mesh.check(
            "https-clients-unaffected",
            https
                .hop(0)
                .answers(200, "HTTP/2")
                .certificate(cnn.certificate(&certificate))
                .and_outside(cnn.saw(&https).exactly(1)),
        )?;
    }
    mesh.check(
        "sidecar-access-log",
        mesh.proxy("sleep")
            .logged(&after)
            .method("GET")
            .path("/politics")
            .status(200)
            .authority(CNN)
            .upstream_host(mesh.upstream(CNN, 443))
            .upstream_cluster(cluster),
    )?;

    mesh.step(CLEANUP);
    mesh.delete(&[originate]).await?;
    let restored = mesh.workload("sleep").get(POLITICS).await?;
    let as_before = restored.ends_as(&untouched);
    // Without origination a plain request is redirected: only that tells the two apart from here.
    let redirected = as_before.clone().provided("the redirect", restored.hop(0).redirects(301, SECURE));
    mesh.check(
        "cleanup-restores",
        as_before.and(cnn.during(&restored).saw_in_clear("/politics").or_unobserved(redirected)),
    )
}
