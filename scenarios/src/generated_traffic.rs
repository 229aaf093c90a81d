//! Traffic that a seeded generator makes, through each proxy that opens TLS. HTTP's own documents say what a proxy must
//! preserve; Istio's "TLS Origination for Egress Traffic" promises that only the transport changes.

use meshproof_harness::claim::Claims;
use meshproof_harness::external::HttpVersions;
use meshproof_harness::external_server::ExternalServer;
use meshproof_harness::feature::Feature;
use meshproof_harness::mesh::{Mesh, Stop};

use crate::placement::Placement;
use crate::sites;

const ANY: &str = "any.origin.example";
const HTTP1: &str = "http1.origin.example";
const HTTP2: &str = "http2.origin.example";

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
    mesh.deploy_externals(vec![any, http1, http2]).await?;
    mesh.apply(&["origins", mesh.configuration()]).await?;
    let client = Placement::of(mesh).client(mesh);

    mesh.step("Generated traffic");
    let hosts: &[&str] = if mesh.has_feature(Feature::Http2) { &[ANY, HTTP1, HTTP2] } else { &[ANY, HTTP1] };
    let generated = client.generated(hosts).await?;
    mesh.check("exchanges-preserved", generated.all_accounted_for())?;
    mesh.check("events-streamed", generated.events_arrive_one_by_one())?;
    let named = client.header("connection", "x-this-hop").header("x-this-hop", "1");
    let reply = named.get(&format!("http://{ANY}{}", sites::REPORT)).await?;
    let received = mesh.external(ANY).received(&reply).no_header_beginning_with(&["x-this-hop"]);
    mesh.check("connection-fields-removed", reply.ok().and(received))
}
