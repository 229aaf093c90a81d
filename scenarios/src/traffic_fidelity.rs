//! Istio, "TLS Origination for Egress Traffic": origination changes the transport, and not what the application sends or the
//! server answers. HTTP's own documents (RFC 9110, 9112, 9113, 6455) say what a proxy must preserve.

mod calls;
mod repeats;

use meshproof_harness::claim::{Claims, Reply};
use meshproof_harness::digest::{sample, sha256};
use meshproof_harness::external::HttpVersions;
use meshproof_harness::external_server::ExternalServer;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::workload::{Delivery, Method};

use crate::placement::Placement;
use crate::sites;

const API: &str = "api.example.com";
const PAGE: &str = "http://api.example.com/bytes/1000";

/// The manifests of a placement: the ways to the servers, what turns origination on, and what the HTTP/2 server needs.
struct Manifests {
    ways: &'static [&'static str],
    originate: &'static str,
    http2: &'static [&'static str],
}

fn manifests(placement: Placement) -> Manifests {
    match placement {
        Placement::Sidecar => {
            Manifests { ways: &["access"], originate: "originate-at-sidecar", http2: &["http2"] }
        }
        Placement::EgressGateway => Manifests {
            ways: &["access", "egress-gateway", "routes-at-gateway"],
            originate: "originate-at-gateway",
            http2: &["http2", "http2-through-egress-gateway", "http2-route-at-gateway"],
        },
        Placement::IngressGateway => Manifests {
            ways: &["access", "ingress-gateway", "routes-at-gateway"],
            originate: "originate-at-gateway",
            http2: &["http2", "http2-route-at-gateway"],
        },
    }
}

/// A server for this host. It is the embedded one, because a stock nginx sends no trailers, echoes nothing, and reports no digests.
fn server(mesh: &Mesh, host: &str) -> Result<ExternalServer, Stop> {
    let certificate = mesh.public_authority().server(host).issue()?;
    Ok(sites::origin(host, &certificate).closed_in_clear().embedded())
}

pub(crate) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    let placement = Placement::of(mesh);
    let client = || placement.client(mesh);
    let Manifests { ways, originate, http2: for_http2 } = manifests(placement);
    mesh.step("Before you begin");
    let api = mesh.deploy_external(server(mesh, API)?.serving_in_clear()).await?;
    let http1 = server(mesh, "http1.example.com")?.http_versions(HttpVersions::Http1);
    let http1 = mesh.deploy_external(http1).await?;
    mesh.apply(ways).await?;
    let before = client().get(PAGE).await?;

    mesh.step("TLS origination for egress traffic");
    let load = client().under_load("http://api.example.com", mesh.apply(&[originate])).await?;
    let page = client().get(PAGE).await?;
    let turned_on = api.saw(&before).exactly(1).in_clear().and(api.received(&page));
    mesh.check(
        "hitless-origination",
        load.loses_nothing().provided("the requests before and after the change", turned_on),
    )?;

    let whole = |reply: &Reply, bytes| reply.ok().body_is(&sample(bytes)).and(api.received(reply));
    let large = client().get("http://api.example.com/bytes/5242880").await?;
    mesh.check("large-body", whole(&large, 5_242_880))?;
    let chunked = client().get("http://api.example.com/chunked/200000").await?;
    mesh.check("chunked-body", whole(&chunked, 200_000))?;

    let body = sample(300_000);
    let target = "/echo?Part=1&q=a%20b+%C3%A9&empty=";
    let url = format!("http://{API}{target}");
    let post = client().method(Method::POST).body(&body, Delivery::Whole).get(&url).await?;
    let put = client().method(Method::PUT).body(&body, Delivery::Pieces).get(&url).await?;
    let arrived = |reply: &Reply, method| {
        let request = api.received(reply).method(method).authority(API).target(target).body_is(&body);
        reply.ok().and(request)
    };
    mesh.check(
        "request-body-preserved",
        arrived(&post, "POST").of("with a length").and(arrived(&put, "PUT").of("in chunks")),
    )?;

    // As long as the cookies that browsers keep (RFC 6265, section 6.1).
    let long: String = (0..64).map(|n: u8| sha256(&[n])).collect();
    let (credential, mixed) = ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "MiXed; A=\"b  c\"/d %20");
    let with_headers = client()
        .header("authorization", credential)
        .header("x-tenant", mixed)
        .header("x-hop", "second")
        .header("x-hop", "First")
        .header("x-hop", "third")
        .header("x-long", &long);
    let with_headers = with_headers.get(PAGE).await?;
    let received = api
        .received(&with_headers)
        .header_values("authorization", &[credential])
        .header_values("x-tenant", &[mixed])
        .header_values("x-hop", &["second", "First", "third"])
        .header_values("x-long", &[&long]);
    mesh.check("request-headers-preserved", with_headers.ok().and(received))?;

    let head = client().method(Method::HEAD).get(PAGE).await?;
    let nothing = client().get("http://api.example.com/no-content").await?;
    let head_answered = head.ok().header("content-length", "1000").no_body();
    let nothing_answered =
        nothing.only_response().is(204).no_body().lacks_headers(&["content-length", "transfer-encoding"]);
    mesh.check(
        "head-and-204",
        head_answered
            .and(api.received(&head).method("HEAD"))
            .of("HEAD")
            .and(nothing_answered.and(api.received(&nothing)).of("204")),
    )?;
    let expecting = client().method(Method::POST).body(&body, Delivery::Expecting).get(&url).await?;
    let continued = expecting.ok().after_interim(100);
    mesh.check("expect-continue", continued.and(api.received(&expecting).body_is(&body)))?;
    let socket = client().web_socket("is anybody there?").get("http://api.example.com/websocket").await?;
    let upgraded = socket.only_response().is(101).message("is anybody there?");
    mesh.check("websocket-upgrade", upgraded.and(api.received(&socket)))?;
    let many = client().times(10).get(PAGE).await?;
    mesh.check("connection-reuse", many.statuses(&[200; 10]).and(api.saw_all_over(5, &many)))?;
    let mesh_internal = &["x-envoy-", "x-istio-", "x-forwarded-client-cert"];
    mesh.check("header-hygiene", api.saw(&page).over_tls().no_header_beginning_with(mesh_internal))?;
    let reply = client().get("http://http1.example.com/bytes/1000").await?;
    let answered = |reply: &Reply| reply.ok().body_is(&sample(1000));
    mesh.check("http1-only-origin", answered(&reply).and(http1.received(&reply).version("HTTP/1.1")))?;

    repeats::story(mesh, &client(), &api).await?;

    mesh.step("Settings for HTTP/2 servers");
    let http2 = server(mesh, "http2.example.com")?;
    let http2 = mesh.deploy_external(http2.http_versions(HttpVersions::Http2)).await?;
    mesh.apply(for_http2).await?;
    let reply = client().get("http://http2.example.com/bytes/1000").await?;
    let spoken = http2.received(&reply).version("HTTP/2").alpn(Some("h2"));
    mesh.check("http2-origin", answered(&reply).and(spoken))?;
    let trailers = client().http2().get("http://http2.example.com/trailers/1000").await?;
    let sent = answered(&trailers).version("HTTP/2").trailer("x-body-sha256", &sha256(&sample(1000)));
    mesh.check("response-trailers", sent.and(http2.received(&trailers)))?;
    calls::story(mesh, &client(), &http2).await?;
    calls::versions(mesh, &client(), server(mesh, "either.example.com")?).await
}
