//! "Istio Egress TLS Origination" (path based routing setup via a Gateway): an ingress gateway sends some paths to an
//! S3 bucket over TLS and all others to a service inside the mesh.

use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::external::Documented;
use meshproof_harness::mesh::{Mesh, Proxy, Stop};
use meshproof_harness::scenario::{Check, Configuration, Scenario};
use meshproof_harness::topology::{Gateway, PlainService, Topology, Workload};
use meshproof_model::Level;

use crate::sites::{self, BUCKET, DISCOVERY_KEYS, OPENID_CONFIGURATION};

const ROUTES: &str = "VirtualService";
const ORIGINATION: &str = "DestinationRule";
const ENTRY: &str = "ServiceEntry";
const GATEWAY_SECTION: &str = "Gateway";
const GATEWAY: &str = "istio-ingressgateway";
const WELCOME: &str = "welcome.default.svc.cluster.local";
const WELCOME_BODY: &str = "<!DOCTYPE html><title>Welcome</title><h1>Welcome to the internal service</h1>";

pub(crate) static SCENARIO: Scenario = Scenario {
    id: "path-based-routing",
    title: "An ingress gateway sends some paths to an S3 bucket over TLS",
    document: "Istio Egress TLS Origination: path based routing via a Gateway",
    url: "https://istio.io/latest/docs/tasks/traffic-management/egress/egress-tls-origination/",
    features: &["ingress-gateway"],
    configurations: &[Configuration { id: "ingress-gateway", title: "TLS ends at the load balancer before the gateway" }],
    checks: &[
        Check::must(
            "without-origination-fails",
            ROUTES,
            "Before the DestinationRule both external paths fail (4xx or 5xx), never 200, and the bucket serves nothing.",
        )
        .why("Istio does not perform TLS origination automatically; a plain request must not slip through.")
        .observed("The client's exchanges and the bucket's requests; the twins are the same requests with the DestinationRule."),
        Check::must(
            "without-origination-text",
            ROUTES,
            "Status, body and response flags of the failure are recorded; the document shows \"upstream connect error ... protocol error\".",
        )
        .level(Level::May)
        .feature("access-log")
        .why("The wording depends on the server: nginx answers 400 itself, a silent close gives UC 503, a TLS alert UPE 502.")
        .observed("The client's exchange and the gateway's access log."),
        Check::must(
            "external-paths-over-tls",
            ORIGINATION,
            "With the DestinationRule, both external paths give the bucket's documents, over TLS.",
        )
        .why("This is what the task is for.")
        .observed("The client's exchanges and the bucket's requests."),
        Check::must(
            "internal-root",
            ROUTES,
            "/ and every other path go to welcome:8080 over plain HTTP inside the mesh; the bucket sees nothing of them.",
        )
        .why("Origination for some paths must leave the others as they were.")
        .observed("The client's exchanges, the internal service's requests, the bucket's connections."),
        Check::must(
            "host-rewritten",
            ROUTES,
            "The bucket sees its own host name as Host and as server name.",
        )
        .why("A bucket that is asked for another host serves nothing, or somebody else's content.")
        .observed("The bucket's requests and handshakes."),
        Check::must(
            "forwarded-proto",
            ROUTES,
            "The bucket sees X-Forwarded-Proto: https.",
        )
        .why("The client came by HTTPS, which ended at the load balancer; the route says so.")
        .observed("The bucket's requests."),
        Check::must(
            "prefix-boundaries",
            ROUTES,
            "What begins with one of the two prefixes goes out (a prefix is text: /keys-of-old too), siblings and other spellings stay in.",
        )
        .why("A prefix that takes too little breaks clients; one that takes too much sends internal requests outside.")
        .observed("The client's exchanges, the bucket's and the internal service's requests."),
        Check::must(
            "unknown-host-not-served",
            GATEWAY_SECTION,
            "Another Host at the gateway gets 404.",
        )
        .why("The gateway serves example.com and nothing else.")
        .observed("The client's exchange; the twin is the same path with the gateway's own host."),
        Check::must(
            "export-confined",
            ENTRY,
            "ServiceEntry and DestinationRule with exportTo \".\" in the gateway's namespace do not serve another namespace's sidecar.",
        )
        .features(&["sidecar", "registry-only", "tls-passthrough"])
        .why("The bucket is opened to the gateway, not to every application.")
        .observed("An application's exchange and the bucket's connections; the twin is the same ServiceEntry exported to all."),
        Check::must(
            "catch-all-first",
            ROUTES,
            "With / listed first, as the document prints it, every path goes to welcome; with / last, the routing is the intended one.",
        )
        .why("Routes are tried in order; the document's order does not work as printed.")
        .observed("The client's exchanges, the bucket's and the internal service's requests, for both orders."),
        Check::must(
            "cleanup-restores",
            GATEWAY_SECTION,
            "After Gateway, routes and DestinationRule are deleted, the gateway's port answers as before they were applied, and the bucket sees nothing.",
        )
        .why("A gateway that goes on serving what was taken from it is a door that nobody knows to be open.")
        .observed("Clients of the gateway's port before, with and after the configuration, and the bucket's connections."),
    ],
    fixtures: crate::fixtures!("path-based-routing":
        "bucket", "exported", "gateway", "originate", "registry-only", "routes", "routes-as-printed"),
    live: &[],
    topology: || Topology {
        workloads: vec![Workload::sleep()],
        gateways: vec![Gateway::ingress()],
        services: vec![PlainService { name: "welcome", namespace: "default", port: 8080, body: WELCOME_BODY }],
    },
    run: |mesh| Box::pin(run(mesh)),
};

const OPENID: &str = "http://example.com/.well-known/openid-configuration";
const KEYS: &str = "http://example.com/oauth/discovery/keys";

/// The same host's pages, asked for side by side.
async fn at_example_com<const N: usize>(gateway: &Proxy<'_>, paths: [&str; N]) -> Result<[Reply; N], Stop> {
    let urls = paths.map(|path| format!("http://example.com{path}"));
    gateway.probe(80).get_each(urls.each_ref().map(String::as_str)).await
}

async fn run(mesh: &Mesh) -> Result<(), Stop> {
    mesh.step(ENTRY);
    let certificate = mesh.public_authority().server(BUCKET).issue()?;
    let bucket = mesh.deploy_external(sites::bucket(&certificate), Documented::Site).await?;
    let welcome = mesh.service(WELCOME);
    let gateway = mesh.proxy(GATEWAY);
    mesh.apply(&["bucket"]).await?;

    let unopened = gateway.probe(80).get(OPENID).await?;

    mesh.step("Gateway and VirtualService");
    mesh.apply(&["gateway"]).await?;
    mesh.apply(&["routes"]).await?;
    let [openid_before, keys_before] = gateway.probe(80).get_each([OPENID, KEYS]).await?;
    mesh.check("without-origination-text", gateway.failure_recorded(&openid_before))?;

    mesh.step(ORIGINATION);
    mesh.apply(&["originate"]).await?;
    let openid = gateway.probe(80).get(OPENID).await?;
    let keys = gateway.probe(80).get(KEYS).await?;
    let openid_works = openid.only_response().is(200).body_contains(OPENID_CONFIGURATION);
    let keys_work = keys.only_response().is(200).body_contains(DISCOVERY_KEYS);
    let both_work = openid_works.and(keys_work);
    mesh.check(
        "external-paths-over-tls",
        both_work
            .clone()
            .and(bucket.saw(&openid).exactly(1).over_tls())
            .and(bucket.saw(&keys).exactly(1).over_tls()),
    )?;
    mesh.check(
        "without-origination-fails",
        openid_before
            .fails()
            .and(keys_before.fails())
            .and(bucket.during(&openid_before).served_nothing())
            .and(bucket.during(&keys_before).served_nothing())
            .provided("the same with the DestinationRule", both_work.clone()),
    )?;
    mesh.check(
        "host-rewritten",
        bucket
            .saw(&openid)
            .host(BUCKET)
            .server_name(BUCKET)
            .and(bucket.saw(&keys).host(BUCKET).server_name(BUCKET)),
    )?;
    mesh.check(
        "forwarded-proto",
        bucket
            .saw(&openid)
            .header("x-forwarded-proto", "https")
            .and(bucket.saw(&keys).header("x-forwarded-proto", "https")),
    )?;
    let inside = ["/", "/index.html", "/about/us?page=2"];
    let internal = at_example_com(&gateway, inside).await?.into_iter().zip(inside).map(|(reply, path)| {
        let arrived = welcome.saw(&reply).exactly(1).in_clear().target(path);
        let outside = bucket.during(&reply).no_use();
        reply.only_response().is(200).body_contains(WELCOME_BODY).and(arrived).and(outside)
    });
    mesh.check("internal-root", Claim::all(internal))?;

    mesh.step("Paths beside and below the two prefixes");
    let mut boundaries = Vec::new();
    for path in [
        "/.well-known/openid-configuration/v2",
        "/oauth/discovery/keys/sample",
        "/oauth/discovery/keys-of-old",
    ] {
        let reply = gateway.probe(80).get(&format!("http://example.com{path}")).await?;
        let outside = bucket.saw(&reply).exactly(1).over_tls().target(path);
        boundaries.push(reply.only_response().is(200).and(outside).and(welcome.saw(&reply).none()));
    }
    let beside = [
        "/.well-known/security.txt",
        "/oauth/discovery",
        "/oauth/token",
        "/internal/oauth/discovery/keys",
        "/OAUTH/discovery/keys",
    ];
    let beside = at_example_com(&gateway, beside).await?.into_iter().zip(beside).map(|(reply, path)| {
        let inside = welcome.saw(&reply).exactly(1).target(path);
        reply.only_response().is(200).and(inside).and(bucket.during(&reply).no_use())
    });
    boundaries.extend(beside);
    mesh.check("prefix-boundaries", Claim::all(boundaries))?;

    mesh.step("Another host");
    let elsewhere = [
        "http://example.net/",
        "http://notexample.com/",
        "http://example.com.example.net/",
        "http://example.net/oauth/discovery/keys",
    ];
    let unknown =
        gateway.probe(80).get_each(elsewhere).await?.into_iter().zip(elsewhere).map(|(reply, url)| {
            let unseen = welcome.saw(&reply).none().and(bucket.during(&reply).no_use());
            reply.only_response().is(404).and(unseen).of(url)
        });
    let known = gateway.probe(80).get("http://example.com/").await?;
    mesh.check(
        "unknown-host-not-served",
        Claim::all(unknown).provided("the gateway's own host", known.ends_with(200)),
    )?;

    mesh.step("Another namespace");
    mesh.apply(&["registry-only"]).await?;
    let https = format!("https://{BUCKET}/oauth/discovery/keys");
    let confined = mesh.workload("sleep").get(&https).await?;
    mesh.apply(&["exported"]).await?;
    let exported = mesh.workload("sleep").get(&https).await?;
    mesh.apply(&["bucket"]).await?;
    mesh.delete(&["registry-only"]).await?;
    mesh.check(
        "export-confined",
        confined.fails().and(bucket.during(&confined).nothing()).provided(
            "the same with the ServiceEntry exported to all",
            exported.only_response().is(200).and(exported.hop(0).certificate(certificate.sha256())),
        ),
    )?;

    mesh.step("The routes in the document's order");
    mesh.apply(&["routes-as-printed"]).await?;
    let replies = gateway.probe(80).get_each([OPENID, KEYS, "http://example.com/"]).await?;
    let mut order: Vec<Claim> = replies
        .iter()
        .map(|reply| {
            let inside = welcome.saw(reply).exactly(1).and(bucket.during(reply).no_use());
            reply.only_response().is(200).body_contains(WELCOME_BODY).and(inside).of("with / first")
        })
        .collect();
    mesh.apply(&["routes"]).await?;
    let again = gateway.probe(80).get(OPENID).await?;
    order.push(
        again.only_response().is(200).body_contains(OPENID_CONFIGURATION).and(both_work).of("with / last"),
    );
    mesh.check("catch-all-first", Claim::all(order))?;

    mesh.step("Clean up");
    mesh.delete(&["originate", "routes", "gateway", "bucket"]).await?;
    let closed = gateway.probe(80).get(OPENID).await?;
    mesh.check(
        "cleanup-restores",
        closed
            .ends_as(&unopened)
            .and(bucket.during(&closed).nothing())
            .provided("the same request before the deletion", again.ends_with(200)),
    )
}
