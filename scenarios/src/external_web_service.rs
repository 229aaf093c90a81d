//! Istio blog, "Consuming External Web Services": the Bookinfo details service fetches a book from an external
//! service, first by its own HTTPS, then by plain HTTP for which its sidecar opens TLS.

use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::external::Documented;
use meshproof_harness::feature::Feature;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::scenario::{Check, Configuration, Scenario};
use meshproof_harness::topology::{Topology, Workload};

use crate::sites::{self, BOOK_TITLE, BOOKS, REAL_TITLE};

const HTTPS: &str = "Bookinfo with HTTPS access to a Google Books web service";
const ENABLE: &str = "Enable HTTPS access to a Google Books web service";
const CAVEAT: &str = "TLS origination by Istio";
const ORIGINATION: &str = "Bookinfo with TLS origination to a Google Books web service";
const MESH_MTLS: &str = "Relation to Istio mutual TLS";
const CLEANUP: &str = "Cleanup of TLS origination to a Google Books web service";

pub(crate) static SCENARIO: Scenario = Scenario {
    id: "external-web-service",
    title: "A Bookinfo service calls an external web service, by HTTPS and by originated TLS",
    document: "Consuming External Web Services",
    url: "https://istio.io/latest/blog/2018/egress-https/",
    features: &[Feature::Sidecar],
    configurations: &[Configuration { id: "bookinfo-details", title: "details v2 and the books service" }],
    checks: &[
        Check::must(
            "blocked-by-default",
            HTTPS,
            "Under REGISTRY_ONLY without a ServiceEntry, http and https to the service fail; the application keeps answering with its error message.",
        )
        .features(&[Feature::RegistryOnly, Feature::TlsPassthrough])
        .why("Nothing outside may be reached that was not allowed, and one failing service must not take others down.")
        .observed("The workload's exchanges and the external service's connections; the twins are the same requests once allowed."),
        Check::must(
            "https-by-application",
            ENABLE,
            "With the ServiceEntry and routing by server name, the application's own HTTPS works end to end.",
        )
        .feature(Feature::TlsPassthrough)
        .why("The first of the two patterns: encryption is the application's own.")
        .observed("The application's answer, its handshake, the external service's request."),
        Check::must(
            "only-sni-visible",
            CAVEAT,
            "For the application's own HTTPS the sidecar logs the server name and no path.",
        )
        .features(&[Feature::TlsPassthrough, Feature::AccessLog])
        .why("Istio can only know the server name of encrypted requests; a log that shows more has looked inside.")
        .observed("The sidecar's access log, from the request until the suite's next one."),
        Check::must(
            "disabled-and-enabled-on-the-fly",
            ENABLE,
            "The ServiceEntry deleted, the request fails; created again, it works.",
        )
        .features(&[Feature::ReconfigureWithoutRestart, Feature::RegistryOnly, Feature::TlsPassthrough])
        .why("Operators decide dynamically which domains may be reached, without redeploying anything.")
        .observed("The workload's exchanges and the external service's connections."),
        Check::must(
            "http-by-application-originated",
            ORIGINATION,
            "With DO_NOT_ENCRYPT=true, the plain request on port 80 gives the book, over TLS upstream.",
        )
        .why("The second pattern: the application sends plain HTTP, the sidecar opens TLS.")
        .observed("The application's answer, its own exchange, the external service's request."),
        Check::must(
            "single-response",
            ORIGINATION,
            "The plain request gives exactly one response, 200, and no redirect anywhere.",
        )
        .why("The application must not notice who opens TLS for it.")
        .observed("The workload's exchange, redirects followed."),
        Check::must(
            "one-upstream-request",
            ORIGINATION,
            "The external service sees exactly one request for it, on its TLS port.",
        )
        .why("A proxy that asks twice, or follows a redirect itself, hides the round trip instead of saving it.")
        .observed("The external service's requests with this token."),
        Check::must(
            "no-plaintext-leak",
            ORIGINATION,
            "Nothing of the request arrives outside TLS: no connection to the plain port, no path or host in clear bytes.",
        )
        .why("Which books somebody reads is nobody else's business.")
        .observed("The external service's connections and their clear bytes, until the suite's next request."),
        Check::must(
            "sni-is-host",
            ORIGINATION,
            "The server name in the originated ClientHello is the host that the application asked for.",
        )
        .why("Sites that share an address choose their certificate by it.")
        .observed("The external service's handshake."),
        Check::must(
            "path-visible-in-log",
            ORIGINATION,
            "The sidecar logs GET /books/v1/volumes?q=isbn:0486424618, 200, authority, upstream address.",
        )
        .feature(Feature::AccessLog)
        .why("Monitoring and policy by path are the reason to let Istio open TLS.")
        .observed("The sidecar's access log."),
        Check::must(
            "independent-of-mesh-mtls",
            MESH_MTLS,
            "Origination works the same with mesh mutual TLS STRICT and off.",
        )
        .feature(Feature::MeshMtls)
        .why("TLS to external services is unrelated to the mutual TLS inside the mesh.")
        .observed("The application's answer through the mesh; clients of the application's port: a plain one, refused under STRICT and served without, and under STRICT one without a certificate and one with another CA's."),
        Check::must(
            "cleanup-restores",
            CLEANUP,
            "After the resources are deleted the service is blocked again.",
        )
        .feature(Feature::RegistryOnly)
        .why("Configuration that outlives its deletion cannot be operated.")
        .observed("The workload's exchange and the external service's connections."),
    ],
    fixtures: crate::fixtures!("external-web-service":
        "access", "route-by-server-name", "originate", "registry-only", "mesh-mtls-strict", "mesh-mtls-off"),
    live: sites::BOOKS_ANSWERS,
    topology: || Topology {
        workloads: vec![
            Workload { name: "sleep", namespace: "default", dials: &[80, 443, 9080], serves: None },
            Workload { name: "details", namespace: "default", dials: &[80, 443], serves: Some(9080) },
        ],
        ..Topology::default()
    },
    run: |mesh| Box::pin(run(mesh)),
};

const TARGET: &str = "/books/v1/volumes?q=isbn:0486424618";
const PLAIN: &str = "http://www.googleapis.com/books/v1/volumes?q=isbn:0486424618";
const SECURE: &str = "https://www.googleapis.com/books/v1/volumes?q=isbn:0486424618";
const PAGE: &str = "http://details.default.svc.cluster.local:9080/details/0486424618";
const SECURE_PAGE: &str = "https://details.default.svc.cluster.local:9080/details/0486424618";
/// The name that an impostor would claim; it is the certificate's issuer that must count.
const SLEEP_IDENTITY: &str = "spiffe://cluster.local/ns/default/sa/sleep";
const ERROR: &str = "Error fetching product details!";

/// What the application shows for the book, asked through the mesh.
async fn page(mesh: &Mesh) -> Result<Reply, Stop> {
    mesh.workload("sleep").get(PAGE).await
}

fn shows_book(page: &Reply, title: &str) -> Claim {
    page.only_response().is(200).body_contains(title).body_lacks(ERROR).into()
}

fn shows_error(page: &Reply, title: &str) -> Claim {
    page.only_response().is(200).body_contains(ERROR).body_lacks(title).into()
}

async fn run(mesh: &Mesh) -> Result<(), Stop> {
    mesh.step("Initial setting");
    let certificate = mesh.public_authority().server(BOOKS).issue()?;
    let books = mesh.deploy_external(sites::books(&certificate), Documented::Site).await?;
    let title = books.own(BOOK_TITLE).unwrap_or(REAL_TITLE);
    let details = mesh.proxy("details");
    let direct = books.probe(None).get(PLAIN).await?;
    mesh.apply(&["registry-only"]).await?;

    mesh.step(HTTPS);
    mesh.set_variable("details", "DO_NOT_ENCRYPT", "false").await?;
    let blocked_page = page(mesh).await?;
    let blocked_https = mesh.workload("details").get(SECURE).await?;
    let blocked_http = mesh.workload("details").get(PLAIN).await?;

    mesh.step(ENABLE);
    mesh.apply(&["access", "route-by-server-name"]).await?;
    let book = page(mesh).await?;
    let https = mesh.workload("details").get(SECURE).await?;
    let end_to_end = https.hop(0).answers(200, "HTTP/2").certificate(books.certificate(&certificate));
    mesh.check(
        "https-by-application",
        shows_book(&book, title)
            .and(end_to_end)
            .and_outside(books.saw(&book).exactly(1).over_tls())
            .and_outside(books.saw(&https).exactly(1).over_tls().server_name(BOOKS).target(TARGET)),
    )?;
    mesh.check("only-sni-visible", details.passed_through(&https, BOOKS))?;
    mesh.delete(&["access"]).await?;
    let disabled = mesh.workload("details").get(SECURE).await?;
    mesh.apply(&["access"]).await?;
    let enabled = mesh.workload("details").get(SECURE).await?;
    mesh.check(
        "disabled-and-enabled-on-the-fly",
        disabled
            .fails()
            .and_outside(books.during(&disabled).nothing())
            .provided("the same with the ServiceEntry created again", enabled.ends_with(200)),
    )?;
    mesh.delete(&["access", "route-by-server-name"]).await?;

    mesh.step(ORIGINATION);
    mesh.set_variable("details", "DO_NOT_ENCRYPT", "true").await?;
    mesh.apply(&["originate"]).await?;
    let originated_page = page(mesh).await?;
    let http = mesh.workload("details").get(PLAIN).await?;
    // What speaks TLS on port 443 gives a plain request no book.
    let logged = details.logged(&http).upstream_host(mesh.upstream(BOOKS, 443));
    let on_tls_port = http.ends_with(200).and(logged.where_logged());
    mesh.check(
        "http-by-application-originated",
        shows_book(&originated_page, title)
            .and_outside(books.saw(&originated_page).exactly(1).over_tls())
            .and(books.saw(&http).over_tls().target(TARGET).host(BOOKS).or_unobserved(on_tls_port)),
    )?;
    mesh.check("single-response", http.only_response().is(200).body_contains(title))?;
    mesh.check(
        "one-upstream-request",
        books.saw(&http).exactly(1).over_tls().and(books.during(&http).only_request()),
    )?;
    mesh.check(
        "no-plaintext-leak",
        books
            .during(&http)
            .no_plaintext(&["/books/v1/volumes", BOOKS])
            .provided("a plain request from outside the mesh", books.during(&direct).saw_in_clear(TARGET))
            .provided("the request itself", http.ends_with(200)),
    )?;
    mesh.check("sni-is-host", books.saw_on(443, &http).server_name(BOOKS))?;
    mesh.check(
        "path-visible-in-log",
        details
            .logged(&http)
            .method("GET")
            .path(TARGET)
            .status(200)
            .authority(BOOKS)
            .upstream_host(mesh.upstream(BOOKS, 443)),
    )?;
    mesh.check(
        "blocked-by-default",
        shows_error(&blocked_page, title)
            .and(blocked_https.fails())
            .and(blocked_http.fails())
            .and_outside(books.during(&blocked_page).nothing())
            .and_outside(books.during(&blocked_https).nothing())
            .and_outside(books.during(&blocked_http).nothing())
            .provided("the same https once allowed", https.ends_with(200))
            .provided("the same http once allowed", http.ends_with(200)),
    )?;

    mesh.step(MESH_MTLS);
    if mesh.has_feature(Feature::MeshMtls) {
        mesh.apply(&["mesh-mtls-strict"]).await?;
        let strict = page(mesh).await?;
        let strict_plain = details.probe_inbound().get(PAGE).await?;
        let anonymous = details.probe_inbound().get(SECURE_PAGE).await?;
        let impostor = Authority::new(KeyAlgorithm::EcdsaP256)?.mesh_identity(SLEEP_IDENTITY).issue()?;
        let stranger = details.probe_inbound().identity(&impostor).get(SECURE_PAGE).await?;
        mesh.apply(&["mesh-mtls-off"]).await?;
        let off = page(mesh).await?;
        let off_plain = details.probe_inbound().get(PAGE).await?;
        mesh.delete(&["mesh-mtls-off"]).await?;
        mesh.check(
            "independent-of-mesh-mtls",
            shows_book(&strict, title)
                .and_outside(books.saw(&strict).exactly(1).over_tls())
                .and(shows_book(&off, title))
                .and_outside(books.saw(&off).exactly(1).over_tls())
                .and(strict_plain.is_refused().of("a plain client of the application under STRICT"))
                .and(anonymous.is_refused().of("an anonymous TLS client of the application under STRICT"))
                .and(stranger.is_refused().of("a client with a certificate of another CA under STRICT"))
                .provided("a plain client without mesh mutual TLS", shows_book(&off_plain, title)),
        )?;
    }

    mesh.step(CLEANUP);
    mesh.delete(&["originate"]).await?;
    let restored = mesh.workload("details").get(PLAIN).await?;
    mesh.check(
        "cleanup-restores",
        restored
            .ends_as(&blocked_http)
            .and_outside(books.during(&restored).nothing())
            .provided("the same request before the deletion", http.ends_with(200)),
    )
}
