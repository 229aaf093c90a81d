//! Traffic that a seeded generator makes, through each proxy that opens TLS. HTTP's own documents say what a proxy must
//! preserve; Istio's "TLS Origination for Egress Traffic" promises that only the transport changes.

mod quiet;
mod refused;
mod routes;
mod rules;

use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::claim::Claims;
use meshproof_harness::external::HttpVersions;
use meshproof_harness::external_server::{ExternalServer, Site};
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
/// Another site of that server, whose routes have rules of their own.
const RULED: &str = "ruled.origin.example";
/// Hosts that rules with a wildcard are for, and one that another rule names.
const WILD: [&str; 3] =
    ["exact.wild.origin.example", "other.wild.origin.example", "one.longer.wild.origin.example"];
/// A host whose server has a certificate of an unknown CA, and one whose server has that of another host.
const REFUSED: [&str; 2] = ["untrusted.origin.example", "misnamed.origin.example"];

/// The host that the wildcard is below, which no rule is for.
const APEX: &str = "wild.origin.example";

/// A server that answers as each request asks it to, over TLS alone.
fn server(mesh: &Mesh, host: &str, versions: HttpVersions) -> Result<ExternalServer, Stop> {
    let certificate = mesh.public_authority().server(host).with_san([host, RULED]).issue()?;
    Ok(sites::origin(host, &certificate).closed_in_clear().http_versions(versions).embedded())
}

/// The servers that must be refused.
fn servers_to_refuse(mesh: &Mesh) -> Result<[ExternalServer; 2], Stop> {
    let [untrusted, misnamed] = REFUSED;
    let unknown = Authority::named("A private CA", "not among the roots", KeyAlgorithm::EcdsaP256)?;
    let site = |host, certificate| Site::at(host).certificate(certificate).embedded();
    Ok([
        site(untrusted, &unknown.server(untrusted).issue()?),
        site(misnamed, &mesh.public_authority().server(ANY).issue()?),
    ])
}

pub(crate) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    mesh.step("TLS origination for egress traffic");
    let any = server(mesh, ANY, HttpVersions::Both)?;
    // Its plain port is open: nothing may arrive there.
    let http1 = server(mesh, HTTP1, HttpVersions::Http1)?.redirecting_to_https();
    let http2 = server(mesh, HTTP2, HttpVersions::Http2)?;
    let [a, b, c] = SITES;
    let shared = mesh.public_authority().server(a).with_san([a, b, c, RULED]).issue()?;
    let sites = sites::origin(a, &shared).closed_in_clear().also_for(&[b, c, RULED]).embedded();
    let good = [any, http1, http2, sites];
    mesh.deploy_externals(good.into_iter().chain(servers_to_refuse(mesh)?).collect()).await?;
    let has_rules = mesh.has_feature(Feature::RouteRules);
    mesh.apply(&["origins", mesh.configuration()]).await?;
    if has_rules {
        mesh.apply(&[rules::manifest(Placement::of(mesh))]).await?;
    }
    let client = Placement::of(mesh).client(mesh);

    mesh.step("Generated traffic");
    let http2 = mesh.has_feature(Feature::Http2);
    // Between the sidecar and the egress gateway runs HTTP/2, because Istio's gateway calls its port 80 `http2`.
    let upgrades = mesh.has_feature(Feature::WebSocket) && Placement::of(mesh) != Placement::EgressGateway;
    let [exact, wild, longer] = WILD;
    let [untrusted, misnamed] = REFUSED;
    let mut hosts = vec![ANY, HTTP1, a, b, c];
    if has_rules {
        hosts.extend([exact, wild, longer, RULED]);
    }
    hosts.extend(http2.then_some(HTTP2));
    let grammar = Grammar {
        hosts: &hosts,
        web_socket: if upgrades { &[ANY, HTTP1, c] } else { &[] },
        streams: &[HTTP2],
        refused: &[untrusted, misnamed, APEX],
        http2,
    };
    let generated = client.generated(grammar).await?;
    mesh.check("exchanges-preserved", generated.accounted_for(Aspect::Preservation))?;
    mesh.check("interim-answer-passed-over", generated.accounted_for(Aspect::Interim))?;
    mesh.check("truncation-visible", generated.accounted_for(Aspect::Truncation))?;
    mesh.check("events-streamed", generated.events_arrive_one_by_one())?;
    let named = client.clone().header("connection", "x-this-hop").header("x-this-hop", "1");
    let reply = named.get(&format!("http://{ANY}{}", sites::REPORT)).await?;
    let received = mesh.external(ANY).received(&reply).no_header_beginning_with(&["x-this-hop"]);
    let removed = generated.accounted_for(Aspect::ConnectionFields);
    mesh.check("connection-fields-removed", reply.ok().and(received).and(removed))?;
    refused::story(mesh, &client, grammar).await?;
    // Silence takes seconds.
    if mesh.asks_for(&["silence-kept", "verified-after-silence"]) {
        quiet::story(mesh, &client, grammar).await?;
    }
    if has_rules {
        routes::story(mesh, &client).await?;
        rules::story(mesh, &client).await?;
    }
    Ok(())
}
