//! What an application encrypts itself passes the sidecar untouched, also while the rules of other hosts change.

use meshproof_harness::claim::Claims;
use meshproof_harness::digest::sample;
use meshproof_harness::external_server::Site;
use meshproof_harness::feature::Feature;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::workload::{Delivery, Method};

const HOST: &str = "own-tls.example";

pub(super) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    if !mesh.has_feature(Feature::TlsPassthrough) {
        return Ok(());
    }
    mesh.step("TLS of the application's own");
    let certificate = mesh.public_authority().server(HOST).issue()?;
    let server = mesh.deploy_external(Site::at(HOST).certificate(&certificate).embedded()).await?;
    mesh.apply(&["own-tls"]).await?;
    let sleep = mesh.workload("sleep");
    let large = sleep.get(&format!("https://{HOST}/bytes/1000000")).await?;
    let body = sample(300_000);
    let post = sleep.clone().method(Method::POST).body(&body, Delivery::Whole);
    let posted = post.get(&format!("https://{HOST}/echo")).await?;
    let in_segments = sleep.clone().in_segments(40).get(&format!("https://{HOST}/bytes/1000")).await?;
    mesh.check(
        "own-tls-preserved",
        large
            .ok()
            .body_is(&sample(1_000_000))
            .and(server.received(&large))
            .of("a long answer")
            .and(posted.ok().and(server.received(&posted).body_is(&body)).of("a long request"))
            .and(in_segments.ok().and(server.received(&in_segments)).of("a ClientHello in segments")),
    )?;

    mesh.step("Rules of other hosts change");
    let origin = format!("https://{HOST}");
    let removed = sleep.under_load(&origin, mesh.delete(&["originate-at-sidecar"])).await?;
    let added = sleep.under_load(&origin, mesh.apply(&["originate-at-sidecar"])).await?;
    let after = sleep.get(&format!("https://{HOST}/bytes/1000")).await?;
    mesh.check(
        "own-tls-survives-changes",
        removed
            .loses_nothing()
            .and(added.loses_nothing())
            .provided("the requests before and after the changes", large.ok().and(after.ok())),
    )
}
