//! Traffic that a seeded generator makes, through each proxy that opens TLS. HTTP's own documents say what a proxy must
//! preserve; Istio's "TLS Origination for Egress Traffic" promises that only the transport changes.

use meshproof_harness::claim::Claims;
use meshproof_harness::external::HttpVersions;
use meshproof_harness::external_server::ExternalServer;
use meshproof_harness::feature::Feature;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::traffic::{Aspect, Grammar};

use crate::placement::Placement;
use crate::sites;

const ANY: &str = "any.origin.example";
const HTTP1: &str = "http1.origin.example";
const HTTP2: &str = "http2.origin.example";
/// Sites that share one server and its address.
const SITES: [&str; 3] = ["site-a.origin.example", "site-b.origin.example", "site-c.origin.example"];

/// A server that answers as each request asks it to, over TLS alone.
fn server(mesh: &Mesh, host: &str, versions: HttpVersions) -> Result<ExternalServer, Stop> {
    let certificate = mesh.public_authority().server(host).issue()?;
    Ok(sites::origin(host, &certificate).closed_in_clear().http_versions(versions).embedded())
}

pub(crate) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    mesh.step("TLS origination for egress traffic");
    let any = server(mesh, ANY, HttpVersions::Both)?;
    let http1 = server(mesh, HTTP1, HttpVersions::Http1)?;
    let http2 = server(mesh, HTTP2, HttpVersions::Http2)?;
    let shared = mesh.public_authority().server(SITES[0]).with_san(SITES).issue()?;
    let sites = sites::origin(SITES[0], &shared).closed_in_clear().also_for(&SITES[1..]).embedded();
    mesh.deploy_externals(vec![any, http1, http2, sites]).await?;
    mesh.apply(&["origins", mesh.configuration()]).await?;
    let client = Placement::of(mesh).client(mesh);

    mesh.step("Generated traffic");
    let [a, b, c] = SITES;
    let http2 = mesh.has_feature(Feature::Http2);
    // Between the sidecar and the egress gateway runs HTTP/2, because Istio's gateway calls its port 80 `http2`.
    let upgrades = mesh.has_feature(Feature::WebSocket) && Placement::of(mesh) != Placement::EgressGateway;
    let grammar = Grammar {
        hosts: if http2 { &[ANY, HTTP1, HTTP2, a, b, c] } else { &[ANY, HTTP1, a, b, c] },
        web_socket: if upgrades { &[ANY, HTTP1, c] } else { &[] },
        http2,
    };
    let generated = client.generated(grammar).await?;
    mesh.check("exchanges-preserved", generated.accounted_for(Aspect::Preservation))?;
    mesh.check("interim-answer-passed-over", generated.accounted_for(Aspect::Interim))?;
    mesh.check("truncation-visible", generated.accounted_for(Aspect::Truncation))?;
    mesh.check("events-streamed", generated.events_arrive_one_by_one())?;
    let named = client.header("connection", "x-this-hop").header("x-this-hop", "1");
    let reply = named.get(&format!("http://{ANY}{}", sites::REPORT)).await?;
    let received = mesh.external(ANY).received(&reply).no_header_beginning_with(&["x-this-hop"]);
    mesh.check("connection-fields-removed", reply.ok().and(received))
}
