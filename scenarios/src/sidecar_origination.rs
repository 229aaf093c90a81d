//! Istio, "TLS Origination for Egress Traffic": the sidecar opens TLS for an application that sends plain HTTP.
//!
//! The document exists in two editions that reach the same end by different configuration. `port-rewrite` (the older one):
//! a VirtualService sends port 80 to port 443, whose protocol is HTTP, and a DestinationRule opens TLS there.
//! `target-port` (the newer one): the ServiceEntry's port 80 has the target port 443, and the DestinationRule opens TLS on
//! port 80.

mod cleanup;
mod port_443;

use meshproof_harness::claim::Claims;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::topology::{Topology, Workload};

use crate::sites::{self, CNN, CNN_POLITICS};

const POLITICS: &str = "http://edition.cnn.com/politics";
const SECURE: &str = "https://edition.cnn.com/politics";

pub(crate) fn topology() -> Topology {
    Topology::default().workload(Workload::sleep())
}

pub(crate) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    let (access, originate, cluster) = match mesh.configuration() {
        "port-rewrite" => ("port-rewrite-access", "port-rewrite-originate", "outbound|443||edition.cnn.com"),
        _ => ("target-port-access", "target-port-originate", "outbound|80||edition.cnn.com"),
    };
    let sleep = mesh.workload("sleep");

    mesh.step("Before you begin");
    let certificate = mesh.public_authority().server(CNN).issue()?;
    let cnn = mesh.deploy_external(sites::cnn(&certificate)).await?;
    let untouched = sleep.get(POLITICS).await?;

    mesh.step("Configuring access to an external service");
    mesh.apply(&[access]).await?;
    let before = sleep.get(POLITICS).await?;
    mesh.check(
        "redirect-before-origination",
        before.statuses(&[301, 200]).and(before.hop(0).redirects(301, SECURE)),
    )?;
    let seen_in_clear = cnn.during(&before).saw_in_clear("/politics");
    mesh.check("plaintext-seen-before-origination", seen_in_clear.clone())?;
    mesh.check(
        "https-end-to-end-before-origination",
        before.hop(1).answers(200, "HTTP/2").certificate(cnn.certificate(&certificate)).and_outside(
            cnn.saw_on(443, &before).exactly(1).server_name(CNN).alpn_offered(&["h2", "http/1.1"]),
        ),
    )?;

    mesh.step("TLS origination for egress traffic");
    mesh.apply(&[originate]).await?;
    let after = sleep.get(POLITICS).await?;
    mesh.check("single-response", after.ok().shows(cnn.own(CNN_POLITICS)))?;
    mesh.check("one-upstream-request", cnn.received_only(&after))?;
    mesh.check(
        "no-plaintext-leak",
        cnn.during(&after)
            .no_plaintext(&["/politics", CNN])
            .provided("the same request without origination", seen_in_clear)
            .provided("the request itself", after.ends_with(200)),
    )?;
    mesh.check("sni-is-host", cnn.saw_on(443, &after).server_name(CNN))?;
    mesh.check("host-and-path-preserved", sites::request_preserved(mesh, &cnn).await?)?;
    let headers =
        cnn.own("content-length").map_or(&["content-type"][..], |_| &["content-type", "content-length"]);
    mesh.check("response-headers-unchanged", after.answers_with_the_headers_of(&before, headers))?;
    mesh.check("duration", after.duration_recorded_beside(&before))?;
    mesh.check(
        "clear-hop-to-the-sidecar",
        after.wrote_in_clear("/politics").and_outside(cnn.saw(&after).exactly(1).over_tls()),
    )?;
    mesh.check("client-unchanged", after.sent_just_what_it_sent_first_in(&before))?;
    if mesh.configuration() == "target-port" {
        let https = sleep.get(SECURE).await?;
        let passed_through = https.hop(0).answers(200, "HTTP/2").certificate(cnn.certificate(&certificate));
        mesh.check("https-clients-unaffected", passed_through.and_outside(cnn.saw(&https).exactly(1)))?;
    } else {
        port_443::declared_as_http(mesh, &certificate).await?;
    }
    mesh.check(
        "sidecar-access-log",
        mesh.proxy("sleep")
            .logged(&after)
            .method("GET")
            .path("/politics")
            .status(200)
            .authority(CNN)
            .upstream_host(mesh.upstream(CNN, 443))
            .upstream_cluster(cluster),
    )?;

    cleanup::in_the_printed_order(mesh, &untouched, &after).await
}
