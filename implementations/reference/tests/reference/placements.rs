//! A variant at one placement leaves the proxies elsewhere honest.

use meshproof_plan::model::UpstreamTls;

use crate::support::authority::TestAuthority;
use crate::support::client;
use crate::support::plans::{self, EXTERNAL, HOST};
use crate::support::server::TestServer;
use crate::support::{Bench, free, reference};

/// The status of a request through sidecar and egress gateway, and how many lines each of them logs.
async fn through_gateway(variant: &str) -> (u16, usize, usize) {
    let ca = TestAuthority::new("public");
    let server = TestServer::tls(ca.server(HOST)).await;
    let mut bench = Bench::with(reference(Some(variant)), &ca.pem()).await;
    let (bind, gateway) = (free(), free());
    let external = plans::cluster(EXTERNAL, server.address, Some(UpstreamTls::Originate(plans::simple())));
    bench.apply(&plans::through_gateway(bind, gateway, external)).await;
    let status = client::get(bind, HOST, "/").await.status.as_u16();
    (status, bench.lines("sleep").await.len(), bench.lines("istio-egressgateway").await.len())
}

#[tokio::test]
async fn hooks_apply_at_their_placement_only() {
    assert_eq!(through_gateway("no-access-log").await, (200, 0, 0));
    assert_eq!(through_gateway("no-access-log@sidecar").await, (200, 0, 1));
    assert_eq!(through_gateway("no-access-log@egress-gateway").await, (200, 1, 0));
    assert_eq!(through_gateway("no-access-log@ingress-gateway").await, (200, 1, 1));
}

#[tokio::test]
async fn changes_of_the_plan_apply_at_their_placement_only() {
    // The gateway originates, so that only there plain text reaches the TLS port.
    assert_ne!(through_gateway("plaintext-upstream").await.0, 200);
    assert_eq!(through_gateway("plaintext-upstream@sidecar").await.0, 200);
    assert_ne!(through_gateway("plaintext-upstream@egress-gateway").await.0, 200);
}
