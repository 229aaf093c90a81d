//! What surrounds the gateway in the document's picture: a load balancer in front of it, and another namespace beside it.

use meshproof_harness::certificates::Issued;
use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::mesh::{External, Mesh, Stop};

use super::{KEYS, OPENID, WELCOME, client};
use crate::sites::BUCKET;

/// An address of the documentation range (RFC 5737): a client of the load balancer.
const BROWSER: &str = "203.0.113.7";
/// A request as an S3 client signs it (AWS Signature Version 4): the signature covers every byte of path and query.
const SIGNED: &str = "/oauth/discovery/keys/a%20b%2Fc~d+e/%C3%A9?X-Amz-Algorithm=AWS4-HMAC-SHA256\
                      &X-Amz-Credential=AKIDEXAMPLE%2F20260101%2Fap-southeast-2%2Fs3%2Faws4_request\
                      &X-Amz-SignedHeaders=host&X-Amz-Signature=5d672d79c15b13162d9279b0855cfba6&empty=";

pub(super) async fn behind_a_load_balancer(mesh: &Mesh, bucket: &External<'_>) -> Result<(), Stop> {
    mesh.step("Requests as a load balancer sends them");
    let balanced = client(mesh).header("x-forwarded-for", BROWSER).header("x-forwarded-proto", "https");
    let outside = balanced.get(&format!("http://example.com{OPENID}")).await?;
    let inside = balanced.get("http://example.com/").await?;
    let to_bucket = bucket.received(&outside).forwarded_for(BROWSER).header("x-forwarded-proto", "https");
    let to_welcome = mesh.service(WELCOME).saw(&inside).exactly(1).forwarded_for(BROWSER);
    mesh.check(
        "load-balancer-client-kept",
        outside.ok().and(inside.ok()).and(to_bucket).and(to_welcome.of("the internal service")),
    )?;

    mesh.step("A signed request");
    let reply = client(mesh).get(&format!("http://example.com{SIGNED}")).await?;
    mesh.check("signed-request-untouched", bucket.received(&reply).target(SIGNED).host(BUCKET))
}

pub(super) async fn in_another_namespace(
    mesh: &Mesh,
    bucket: &External<'_>,
    certificate: &Issued,
) -> Result<(), Stop> {
    mesh.step("Another namespace");
    let (sleep, https) = (mesh.workload("sleep"), format!("https://{BUCKET}{KEYS}"));
    mesh.apply(&["registry-only"]).await?;
    let confined = sleep.get(&https).await?;
    mesh.apply(&["exported"]).await?;
    let exported = sleep.get(&https).await?;
    mesh.apply(&["originate-exported"]).await?;
    let wrapped = sleep.get(&https).await?;
    mesh.apply(&["originate", "bucket"]).await?;
    mesh.delete(&["registry-only"]).await?;
    let whole = |reply: &Reply| -> Claim { reply.ok().and(reply.hop(0).certificate(certificate.sha256())) };
    mesh.check(
        "export-confined",
        confined
            .fails()
            .and(bucket.during(&confined).nothing())
            .provided("the same request with the ServiceEntry exported to all", whole(&exported)),
    )?;
    mesh.check(
        "rule-confined",
        whole(&exported).provided(
            "the same request with the DestinationRule exported to all, which encrypts it twice",
            wrapped.is_cut_off().and(bucket.during(&wrapped).served_nothing()),
        ),
    )
}
