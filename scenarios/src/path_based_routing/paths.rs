//! Which requests the gateway sends to the bucket and which it keeps inside the mesh.

use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::mesh::{External, Mesh, Stop};
use meshproof_harness::workload::Method;

use super::{WELCOME, WELCOME_BODY, ask, client};

/// The mesh service answered, and the bucket saw nothing of the request.
fn stays_inside(mesh: &Mesh, bucket: &External<'_>, reply: &Reply, path: &str) -> Claim {
    let arrived = mesh.service(WELCOME).saw(reply).exactly(1).in_clear().target(path);
    reply.ok().and(arrived).and(bucket.during(reply).nothing())
}

pub(super) async fn inside(mesh: &Mesh, bucket: &External<'_>) -> Result<(), Stop> {
    let paths = ["/", "/index.html", "/about/us?page=2"];
    let replies = ask(mesh, paths).await?;
    let inside = replies.iter().zip(paths).map(|(reply, path)| {
        stays_inside(mesh, bucket, reply, path).and(reply.only_response().body_contains(WELCOME_BODY))
    });
    mesh.check("internal-root", Claim::all(inside))
}

pub(super) async fn at_the_boundaries(mesh: &Mesh, bucket: &External<'_>) -> Result<(), Stop> {
    mesh.step("Paths beside and below the two prefixes");
    let mut boundaries = Vec::new();
    for path in [
        "/.well-known/openid-configuration/v2",
        "/oauth/discovery/keys/sample",
        "/oauth/discovery/keys-of-old",
    ] {
        let [reply] = ask(mesh, [path]).await?;
        let outside = bucket.received(&reply).target(path).and(mesh.service(WELCOME).saw(&reply).none());
        boundaries.push(reply.ok().and(outside));
    }
    // Whatever the bucket answers to this method.
    let posted = client(mesh).method(Method::POST).get("http://example.com/oauth/discovery/keys").await?;
    let outside = bucket.received(&posted).method("POST").target("/oauth/discovery/keys");
    boundaries.push(outside.and(mesh.service(WELCOME).saw(&posted).none()).of("POST"));
    let beside = [
        "/.well-known/security.txt",
        "/oauth/discovery",
        "/oauth/token",
        "/internal/oauth/discovery/keys",
        "/OAUTH/discovery/keys",
        // Istio's proxies leave encoded and doubled slashes alone unless configured otherwise (MeshConfig, pathNormalization).
        "/oauth/discovery%2Fkeys",
        "//oauth/discovery/keys",
        "/oauth//discovery/keys",
    ];
    let replies = ask(mesh, beside).await?;
    let inside = replies.iter().zip(beside).map(|(reply, path)| stays_inside(mesh, bucket, reply, path));
    boundaries.extend(inside);
    mesh.check("prefix-boundaries", Claim::all(boundaries))
}

pub(super) async fn of_another_host(mesh: &Mesh, bucket: &External<'_>) -> Result<(), Stop> {
    mesh.step("Another host");
    let urls = [
        "http://example.net/",
        "http://notexample.com/",
        "http://example.com.example.net/",
        "http://example.net/oauth/discovery/keys",
    ];
    let replies = client(mesh).get_each(urls).await?;
    let unknown = replies.iter().zip(urls).map(|(reply, url)| {
        let unseen = mesh.service(WELCOME).saw(reply).none().and(bucket.during(reply).nothing());
        reply.only_response().is(404).and(unseen).of(url)
    });
    let unknown = Claim::all(unknown);
    let [known] = ask(mesh, ["/"]).await?;
    mesh.check(
        "unknown-host-not-served",
        unknown.provided("the same path with the gateway's own host", known.ends_with(200)),
    )
}
