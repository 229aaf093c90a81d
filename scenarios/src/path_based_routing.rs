//! "Istio Egress TLS Origination" (path based routing setup via a Gateway): an ingress gateway sends some paths to an
//! S3 bucket over TLS and all others to a service inside the mesh.

mod outside;
mod paths;

use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::mesh::{Client, Mesh, Stop};
use meshproof_harness::topology::{Gateway, PlainService, Topology, Workload};

use crate::sites::{self, BUCKET, BUCKETS, DISCOVERY_KEYS, OPENID_CONFIGURATION};

const WELCOME: &str = "welcome.default.svc.cluster.local";
const WELCOME_BODY: &str = "<!DOCTYPE html><title>Welcome</title><h1>Welcome to the internal service</h1>";
const OPENID: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/oauth/discovery/keys";

pub(crate) fn topology() -> Topology {
    let welcome = PlainService::new("welcome", 8080, WELCOME_BODY);
    Topology::default().workload(Workload::sleep()).gateway(Gateway::ingress()).service(welcome)
}

/// A client of the gateway, which stands for the load balancer in front of it.
fn client(mesh: &Mesh) -> Client<'_> {
    mesh.proxy("istio-ingressgateway").probe(80)
}

/// Requests for these paths of the gateway's own host, sent side by side.
async fn ask<const N: usize>(mesh: &Mesh, paths: [&str; N]) -> Result<[Reply; N], Stop> {
    let urls = paths.map(|path| format!("http://example.com{path}"));
    client(mesh).get_each(urls.each_ref().map(String::as_str)).await
}

pub(crate) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    mesh.step("ServiceEntry");
    // The real service has such a certificate for all buckets of a region.
    let certificate = mesh.public_authority().server(BUCKET).with_san([BUCKETS]).issue()?;
    let bucket = mesh.deploy_external(sites::bucket(&certificate)).await?;
    let welcome = mesh.service(WELCOME);
    mesh.apply(&["bucket"]).await?;
    let [unopened] = ask(mesh, [OPENID]).await?;

    mesh.step("Gateway and VirtualService");
    mesh.apply(&["gateway"]).await?;
    mesh.apply(&["routes"]).await?;
    let [openid_before, keys_before] = ask(mesh, [OPENID, KEYS]).await?;
    mesh.check(
        "without-origination-text",
        mesh.proxy("istio-ingressgateway").failure_recorded(&openid_before),
    )?;

    mesh.step("DestinationRule");
    mesh.apply(&["originate"]).await?;
    let [openid] = ask(mesh, [OPENID]).await?;
    let [keys] = ask(mesh, [KEYS]).await?;
    let both_work =
        openid.ok().body_contains(OPENID_CONFIGURATION).and(keys.ok().body_contains(DISCOVERY_KEYS));
    let both_over_tls = bucket.received(&openid).and(bucket.received(&keys));
    mesh.check("external-paths-over-tls", both_work.clone().and(both_over_tls))?;
    mesh.check(
        "without-origination-fails",
        openid_before
            .fails()
            .and(keys_before.fails())
            .and(bucket.during(&openid_before).served_nothing())
            .and(bucket.during(&keys_before).served_nothing())
            .provided("the same requests with the DestinationRule", both_work.clone()),
    )?;
    let of_bucket = |reply| bucket.saw(reply).host(BUCKET).server_name(BUCKET);
    mesh.check("host-rewritten", of_bucket(&openid).and(of_bucket(&keys)))?;
    let forwarded = |reply| bucket.saw(reply).header("x-forwarded-proto", "https");
    mesh.check("forwarded-proto", forwarded(&openid).and(forwarded(&keys)))?;

    paths::inside(mesh, &bucket).await?;
    paths::at_the_boundaries(mesh, &bucket).await?;
    paths::of_another_host(mesh, &bucket).await?;

    outside::behind_a_load_balancer(mesh, &bucket).await?;
    outside::in_another_namespace(mesh, &bucket, &certificate).await?;

    mesh.step("The routes in the document's order");
    mesh.apply(&["routes-as-printed"]).await?;
    let printed = ask(mesh, [OPENID, KEYS, "/"]).await?;
    let all_inside = Claim::all(printed.iter().map(|reply| {
        let inside = welcome.saw(reply).exactly(1).and(bucket.during(reply).nothing());
        reply.ok().body_contains(WELCOME_BODY).and(inside).of("with / first")
    }));
    mesh.apply(&["routes"]).await?;
    let [again] = ask(mesh, [OPENID]).await?;
    let intended = again.ok().body_contains(OPENID_CONFIGURATION).and(both_work).of("with / last");
    mesh.check("catch-all-first", all_inside.and(intended))?;

    mesh.step("Clean up");
    mesh.delete(&["originate", "routes", "gateway", "bucket"]).await?;
    let [closed] = ask(mesh, [OPENID]).await?;
    mesh.check(
        "cleanup-restores",
        closed
            .ends_as(&unopened)
            .and(bucket.during(&closed).nothing())
            .provided("the same request before the deletion", again.ends_with(200)),
    )
}
