//! Istio, "TLS Origination for Egress Traffic": origination is about the transport. What the application sends and what the
//! server answers is theirs; HTTP's own documents (RFC 9110, 9112, 9113, 6455) say what a proxy owes them.

use meshproof_harness::certificates::Issued;
use meshproof_harness::claim::Claims;
use meshproof_harness::digest::{sample, sha256};
use meshproof_harness::external::{Documented, ExternalSpec, HttpVersions, PlainPort};
use meshproof_harness::mesh::{Client, External, Mesh, Stop};
use meshproof_harness::scenario::{Check, Configuration, Scenario};
use meshproof_harness::topology::{Topology, Workload};
use meshproof_harness::workload::{Delivery, Method};
use meshproof_model::Level;

use crate::sites;

const ORIGINATION: &str = "TLS origination for egress traffic";
const BODIES: &str = "TLS origination for egress traffic; RFC 9112, sections 6 and 7";
const SEMANTICS: &str = "TLS origination for egress traffic; RFC 9110, sections 6.4, 8.6 and 9.3.2";
const FIELDS: &str = "TLS origination for egress traffic; RFC 9110, sections 5.1 and 5.3";
const EXPECT: &str = "TLS origination for egress traffic; RFC 9110, section 10.1.1";
const WEB_SOCKET: &str = "TLS origination for egress traffic; RFC 6455, section 4";
const PERSISTENCE: &str = "TLS origination for egress traffic; RFC 9112, section 9.3";
const UPGRADE: &str =
    "Destination Rule: ConnectionPoolSettings.HTTPSettings, h2UpgradePolicy; RFC 9113, section 3.2";
const TRAILERS: &str =
    "Destination Rule: ConnectionPoolSettings.HTTPSettings, h2UpgradePolicy; RFC 9110, section 6.5";

/// The server as it sees the request, and the application as it sees the answer.
const BOTH_ENDS: &str = "The workload's exchange and the external service's request: lengths and SHA-256 digests of what was sent.";

pub(crate) static SCENARIO: Scenario = Scenario {
    id: "traffic-fidelity",
    title: "What goes through origination arrives whole",
    document: "TLS Origination for Egress Traffic",
    url: "https://istio.io/latest/docs/tasks/traffic-management/egress/egress-tls-origination/",
    features: &["sidecar"],
    configurations: &[Configuration { id: "sidecar", title: "origination at the sidecar" }],
    checks: &[
        Check::must(
            "hitless-origination",
            ORIGINATION,
            "Turning origination on, by the one VirtualService that leads to a port whose TLS is in place, loses no request.",
        )
        .feature("reconfigure-without-restart")
        .why("Istio promises it to whoever makes before breaking (\"Traffic Management Best Practices\": Avoid 503 errors while reconfiguring service routes).")
        .observed("The workload's requests, some of them at the server while the change is made."),
        Check::must(
            "large-body",
            BODIES,
            "A response body larger than any buffer on the way arrives whole.",
        )
        .why("A body that is cut off or spliced is noticed by nobody but the application.")
        .observed(BOTH_ENDS),
        Check::must(
            "chunked-body",
            BODIES,
            "A response body without a length arrives whole.",
        )
        .why("Where no length was announced, only the last chunk tells a whole body from a broken one.")
        .observed(BOTH_ENDS),
        Check::must(
            "request-body-preserved",
            BODIES,
            "A request's body arrives whole, with its length announced and without; method, Host and target arrive byte for byte.",
        )
        .why("Signatures over requests (S3's, for one) cover every byte of them.")
        .observed(BOTH_ENDS),
        Check::must(
            "request-headers-preserved",
            FIELDS,
            "The application's own headers arrive, known and unknown ones, with their values byte for byte: several of one name in their order, a long one whole.",
        )
        .why("RFC 9110 has proxies forward fields that they do not know; credentials, tenants and traces travel in them.")
        .observed("The headers of the external service's request. Several fields of one name may arrive as one, with commas between."),
        Check::must(
            "head-and-204",
            SEMANTICS,
            "HEAD arrives as HEAD and its answer keeps its Content-Length without a body; a 204 has neither body nor length.",
        )
        .why("Whoever takes these for answers with a body waits for it, or takes the next answer for it.")
        .observed("The workload's exchanges and the external service's request."),
        Check::must(
            "expect-continue",
            EXPECT,
            "An application that waits for 100 Continue before it sends its body gets it, and the body arrives whole.",
        )
        .why("A proxy that says nothing costs a timeout a request; one that refuses breaks every upload by curl.")
        .observed("The workload's interim and final responses, and the external service's request."),
        Check::must(
            "websocket-upgrade",
            WEB_SOCKET,
            "A WebSocket handshake is answered with 101, and messages go both ways after it.",
        )
        .feature("web-socket")
        .why("Istio's proxies allow the upgrade on every HTTP port.")
        .observed("The workload's handshake and the message that came back, and the external service's request inside TLS."),
        Check::must(
            "connection-reuse",
            PERSISTENCE,
            "Ten requests over one connection of the application take no handshake each: at most five TLS connections.",
        )
        .level(Level::Should)
        .why("RFC 9112 recommends persistent connections; a handshake is two round trips and an asymmetric operation.")
        .observed("The external service's connections by the requests that came on them. Five leaves room for a pool."),
        Check::must(
            "header-hygiene",
            ORIGINATION,
            "No header that only the mesh understands reaches the external service: x-envoy-*, x-istio-*, x-forwarded-client-cert.",
        )
        .level(Level::Should)
        .why("They tell strangers about workloads and topology. Istio sends some of them unless told otherwise (ProxyConfig.ProxyHeaders), hence no MUST.")
        .observed("The headers of the external service's request."),
        Check::must(
            "http1-only-origin",
            BODIES,
            "A server that speaks HTTP/1.1 alone is spoken to in HTTP/1.1.",
        )
        .why("Without a word on the version in the configuration, HTTP/1.1 is what a port named HTTP means.")
        .observed("The workload's exchange and the version of the external service's request."),
        Check::must(
            "http2-origin",
            UPGRADE,
            "With h2UpgradePolicy UPGRADE, a server that speaks HTTP/2 alone is offered h2 and spoken to in HTTP/2.",
        )
        .feature("http2")
        .why("Servers that speak HTTP/2 alone exist, gRPC's among them; ALPN is how TLS agrees on it.")
        .observed("The workload's HTTP/1.1 exchange, and the version and ALPN of the external service's request."),
        Check::must(
            "response-trailers",
            TRAILERS,
            "With HTTP/2 on both sides of the proxy, the trailers of a response arrive.",
        )
        .feature("http2")
        .level(Level::Should)
        .why("gRPC puts its status there. RFC 9110 lets an intermediary drop trailers, and HTTP/1.1 proxies do: hence HTTP/2, and no MUST.")
        .observed("The workload's HTTP/2 exchange with prior knowledge."),
    ],
    fixtures: crate::fixtures!("traffic-fidelity": "access", "originate", "http2"),
    live: &[],
    topology: || Topology { workloads: vec![Workload::sleep()], ..Topology::default() },
    run: |mesh| Box::pin(run(mesh)),
};

const API: &str = "api.example.com";
const PAGE: &str = "http://api.example.com/bytes/1000";

/// Serves over TLS in these versions; on the plain port too, where origination is to be turned on.
async fn deploy<'a>(
    mesh: &'a Mesh,
    host: &str,
    plain: PlainPort,
    http: HttpVersions,
) -> Result<External<'a>, Stop> {
    let certificate: Issued = mesh.public_authority().server(host).issue()?;
    let mut spec = ExternalSpec { plain, ..sites::origin(host, &certificate) };
    spec.tls.iter_mut().for_each(|tls| tls.http = http);
    // A stock nginx has no trailers, echoes nothing, and tells no digests.
    mesh.deploy_external(spec, Documented::Embedded).await
}

async fn run(mesh: &Mesh) -> Result<(), Stop> {
    let client = || -> Client<'_> { mesh.workload("sleep") };
    mesh.step("Before you begin");
    let api = deploy(mesh, API, PlainPort::Serve, HttpVersions::Both).await?;
    let http1 = deploy(mesh, "http1.example.com", PlainPort::Closed, HttpVersions::Http1).await?;
    mesh.apply(&["access"]).await?;
    let before = client().get(PAGE).await?;

    mesh.step(ORIGINATION);
    let change = mesh.apply(&["originate"]);
    let load = client().under_load("http://api.example.com", change).await?;
    let page = client().get(PAGE).await?;
    let turned_on = api.saw(&before).exactly(1).in_clear().and(api.saw(&page).exactly(1).over_tls());
    mesh.check("hitless-origination", load.loses_nothing().provided("turning it on", turned_on))?;

    let large = client().get("http://api.example.com/bytes/3000000").await?;
    let whole = large.only_response().is(200).body_is(&sample(3_000_000));
    mesh.check("large-body", whole.and(api.saw(&large).exactly(1).over_tls()))?;
    let chunked = client().get("http://api.example.com/chunked/200000").await?;
    let whole = chunked.only_response().is(200).body_is(&sample(200_000));
    mesh.check("chunked-body", whole.and(api.saw(&chunked).exactly(1).over_tls()))?;

    let body = sample(300_000);
    let target = "/echo?Part=1&q=a%20b+%C3%A9&empty=";
    let url = format!("http://{API}{target}");
    let post = client().method(Method::POST).body(&body, Delivery::Whole).get(&url).await?;
    let put = client().method(Method::PUT).body(&body, Delivery::Pieces).get(&url).await?;
    let arrived = |reply, method| {
        let request = api.saw(reply).exactly(1).over_tls();
        request.method(method).authority(API).target(target).body_is(&body)
    };
    mesh.check(
        "request-body-preserved",
        post.only_response()
            .is(200)
            .and(arrived(&post, "POST"))
            .of("with a length")
            .and(put.only_response().is(200).and(arrived(&put, "PUT")).of("in chunks")),
    )?;

    // As long as the cookies that browsers keep (RFC 6265, section 6.1).
    let long: String = (0..64).map(|n: u8| sha256(&[n])).collect();
    let credential = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
    let mixed = "MiXed; A=\"b  c\"/d %20";
    let with_headers = client()
        .header("authorization", credential)
        .header("x-tenant", mixed)
        .header("x-hop", "second")
        .header("x-hop", "First")
        .header("x-hop", "third")
        .header("x-long", &long)
        .get(PAGE)
        .await?;
    mesh.check(
        "request-headers-preserved",
        with_headers.only_response().is(200).and(
            api.saw(&with_headers)
                .exactly(1)
                .over_tls()
                .header_values("authorization", &[credential])
                .header_values("x-tenant", &[mixed])
                .header_values("x-hop", &["second", "First", "third"])
                .header_values("x-long", &[&long]),
        ),
    )?;

    let head = client().method(Method::HEAD).get(PAGE).await?;
    let nothing = client().get("http://api.example.com/no-content").await?;
    mesh.check(
        "head-and-204",
        head.only_response()
            .is(200)
            .header("content-length", "1000")
            .no_body()
            .and(api.saw(&head).exactly(1).over_tls().method("HEAD"))
            .of("HEAD")
            .and(
                nothing
                    .only_response()
                    .is(204)
                    .no_body()
                    .lacks_headers(&["content-length", "transfer-encoding"])
                    .and(api.saw(&nothing).exactly(1).over_tls())
                    .of("204"),
            ),
    )?;
    let expecting = client().method(Method::POST).body(&body, Delivery::Expecting).get(&url).await?;
    mesh.check(
        "expect-continue",
        expecting
            .only_response()
            .is(200)
            .after_interim(100)
            .and(api.saw(&expecting).exactly(1).over_tls().body_is(&body)),
    )?;
    let socket = client().web_socket("is anybody there?").get("http://api.example.com/websocket").await?;
    mesh.check(
        "websocket-upgrade",
        socket
            .only_response()
            .is(101)
            .message("is anybody there?")
            .and(api.saw(&socket).exactly(1).over_tls()),
    )?;
    let many = client().times(10).get(PAGE).await?;
    mesh.check("connection-reuse", many.statuses(&[200; 10]).and(api.saw_all_over(5, &many)))?;
    mesh.check(
        "header-hygiene",
        api.saw(&page).over_tls().no_header_beginning_with(&[
            "x-envoy-",
            "x-istio-",
            "x-forwarded-client-cert",
        ]),
    )?;
    let reply = client().get("http://http1.example.com/bytes/1000").await?;
    mesh.check(
        "http1-only-origin",
        reply
            .only_response()
            .is(200)
            .body_is(&sample(1000))
            .and(http1.saw(&reply).exactly(1).over_tls().version("HTTP/1.1")),
    )?;

    mesh.step("Settings for HTTP/2 servers");
    let http2 = deploy(mesh, "http2.example.com", PlainPort::Closed, HttpVersions::Http2).await?;
    mesh.apply(&["http2"]).await?;
    let reply = client().get("http://http2.example.com/bytes/1000").await?;
    mesh.check(
        "http2-origin",
        reply
            .only_response()
            .is(200)
            .body_is(&sample(1000))
            .and(http2.saw(&reply).exactly(1).over_tls().version("HTTP/2").alpn(Some("h2"))),
    )?;
    let trailers = client().http2().get("http://http2.example.com/trailers/1000").await?;
    let sum = sha256(&sample(1000));
    mesh.check(
        "response-trailers",
        trailers
            .only_response()
            .is(200)
            .version("HTTP/2")
            .body_is(&sample(1000))
            .trailer("x-body-sha256", &sum)
            .and(http2.saw(&trailers).exactly(1).over_tls()),
    )
}
