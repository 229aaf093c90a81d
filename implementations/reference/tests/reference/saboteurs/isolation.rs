//! Saboteurs that use for one destination what is configured for another.

use std::net::SocketAddr;

use meshproof_plan::model::{NameCheck, Origination, PathMatch, Plan, RouteAction, Trust, UpstreamTls};

use crate::support::authority::{CertificateSpec, TestAuthority};
use crate::support::plans::{self, HOST};
use crate::support::server::{TestServer, TestServerTls};
use crate::support::{Bench, client, free, reference};

const OTHER: &str = "other.example";

/// A sidecar that sends each of two hosts to the same server by a cluster of its own.
fn two_clusters(bind: SocketAddr, server: SocketAddr, first: Origination, second: Origination) -> Plan {
    let tls = |o| Some(UpstreamTls::Originate(o));
    let hosts =
        vec![plans::host(HOST, vec![plans::to("first")]), plans::host(OTHER, vec![plans::to("second")])];
    let clusters =
        vec![plans::cluster("first", server, tls(first)), plans::cluster("second", server, tls(second))];
    plans::plan(vec![plans::proxy(
        "sleep",
        vec![plans::outbound(bind, vec![plans::any_http(hosts)])],
        clusters,
    )])
}

/// One-way TLS without a verified name.
fn one_way() -> Origination {
    Origination { names: NameCheck::ChainOnly, ..plans::simple() }
}

/// The statuses for both hosts. `required`: the server refuses clients without a certificate.
async fn statuses(saboteur: Option<&str>, second: Origination, required: bool) -> (u16, u16) {
    let (ca, clients) = (TestAuthority::new("servers"), TestAuthority::new("clients"));
    let mut tls = TestServerTls::of(ca.server(HOST));
    let (mut bench, bind) = (Bench::with(reference(saboteur), &ca.pem()).await, free());
    tls.client_ca = required.then(|| clients.pem());
    let server = TestServer::start(Some(tls)).await;
    let issued = clients.issue(&CertificateSpec::default());
    bench.credential("sleep", plans::credential("c", &ca.pem(), Some(&issued)));
    bench.apply(&two_clusters(bind, server.address, plans::mutual("c"), second)).await;
    client::get(bind, HOST, "/").await;
    let second = client::get(bind, OTHER, "/").await.status.as_u16();
    // Again, because a connection for the second host may be taken for the first one.
    (client::get(bind, HOST, "/").await.status.as_u16(), second)
}

#[tokio::test]
async fn another_hosts_certificate_or_secret_is_used() {
    for (saboteur, second) in [(None, 503), (Some("client-certificate-for-every-host"), 200)] {
        assert_eq!(statuses(saboteur, one_way(), true).await, (200, second), "{saboteur:?}");
    }
    for (saboteur, second) in [(None, 503), (Some("another-secret-for-missing"), 200)] {
        assert_eq!(statuses(saboteur, plans::mutual("missing"), true).await, (200, second), "{saboteur:?}");
    }
}

#[tokio::test]
async fn a_secret_of_the_same_name_is_taken_from_another_namespace() {
    for (saboteur, expected) in [(None, [503, 200]), (Some("secret-of-another-namespace"), [200, 200])] {
        let (ca, clients) = (TestAuthority::new("servers"), TestAuthority::new("clients"));
        let mut tls = TestServerTls::of(ca.server(HOST));
        tls.client_ca = Some(clients.pem());
        let (mut bench, server) =
            (Bench::with(reference(saboteur), &ca.pem()).await, TestServer::start(Some(tls)).await);
        // The server knows the issuer of one of the two certificates alone.
        let mut binds = Vec::new();
        let mut proxies = Vec::new();
        for (name, issuer) in [("payments", &ca), ("sleep", &clients)] {
            let issued = issuer.issue(&CertificateSpec::default());
            bench.credential(name, plans::credential("c", &ca.pem(), Some(&issued)));
            let hosts = vec![plans::host(HOST, vec![plans::to("c")])];
            let bind = free();
            let cluster =
                plans::cluster("c", server.address, Some(UpstreamTls::Originate(plans::mutual("c"))));
            let listener = plans::outbound(bind, vec![plans::any_http(hosts)]);
            proxies.push(plans::proxy(name, vec![listener], vec![cluster]));
            binds.push(bind);
        }
        bench.apply(&plans::plan(proxies)).await;
        for (bind, status) in binds.into_iter().zip(expected) {
            assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), status, "{saboteur:?}");
        }
    }
}

#[tokio::test]
async fn a_missing_secret_is_taken_from_another_proxy() {
    for (saboteur, status) in [(None, 503), (Some("borrow-missing-secret"), 200)] {
        let (ca, clients) = (TestAuthority::new("servers"), TestAuthority::new("clients"));
        let mut tls = TestServerTls::of(ca.server(HOST));
        tls.client_ca = Some(clients.pem());
        let (mut bench, server) =
            (Bench::with(reference(saboteur), &ca.pem()).await, TestServer::start(Some(tls)).await);
        let issued = clients.issue(&CertificateSpec::default());
        bench.credential("payments", plans::credential("c", &ca.pem(), Some(&issued)));
        let bind = free();
        let originate = Some(UpstreamTls::Originate(plans::mutual("c")));
        bench
            .apply(&plans::plan(vec![plans::sidecar(bind, plans::cluster("c", server.address, originate))]))
            .await;
        assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), status, "{saboteur:?}");
    }
}

#[tokio::test]
async fn missing_secret_is_replaced_by_what_the_proxy_has() {
    for (saboteur, second) in [(None, 503), (Some("mesh-certificate-for-missing-secret"), 200)] {
        assert_eq!(statuses(saboteur, plans::mutual("missing"), false).await, (200, second), "{saboteur:?}");
    }
    let ca_missing = || Origination { trust: Trust::Credential("missing".to_owned()), ..one_way() };
    for (saboteur, second) in [(None, 503), (Some("system-roots-for-missing-ca"), 200)] {
        assert_eq!(statuses(saboteur, ca_missing(), false).await, (200, second), "{saboteur:?}");
    }
}

#[tokio::test]
async fn connections_are_shared_among_policies_or_hosts() {
    for (saboteur, first) in [(None, 200), (Some("pool-across-policies"), 503)] {
        let mut second = one_way();
        second.names = NameCheck::OneOf(vec![HOST.to_owned()]);
        assert_eq!(statuses(saboteur, second, true).await, (first, 503), "{saboteur:?}");
    }
    for (saboteur, names) in [(None, vec![HOST, OTHER]), (Some("pool-across-hosts"), vec![HOST])] {
        let ca = TestAuthority::new("servers");
        let (mut bench, bind) = (Bench::with(reference(saboteur), &ca.pem()).await, free());
        let server = TestServer::tls(ca.server(HOST)).await;
        let tls = Some(UpstreamTls::Originate(one_way()));
        let hosts = vec![plans::host(HOST, vec![plans::to("c")]), plans::host(OTHER, vec![plans::to("c")])];
        let listener = plans::outbound(bind, vec![plans::any_http(hosts)]);
        let cluster = plans::cluster("c", server.address, tls);
        bench.apply(&plans::plan(vec![plans::proxy("sleep", vec![listener], vec![cluster])])).await;
        for host in [HOST, OTHER] {
            assert_eq!(client::get(bind, host, "/").await.status.as_u16(), 200);
        }
        let seen: Vec<_> = server.memory.hellos().into_iter().filter_map(|h| h.sni).collect();
        assert_eq!(seen, names, "{saboteur:?}");
    }
}

/// The status for `/first`, which goes by the first origination and has its connection closed, and then for another path, which goes by
/// the second one to the same server.
async fn one_after_the_other(saboteur: Option<&str>, first: Origination, second: Origination) -> u16 {
    let (ca, clients) = (TestAuthority::new("servers"), TestAuthority::new("clients"));
    let mut tls = TestServerTls::of(ca.server(HOST));
    tls.client_ca = first.client_certificate.is_some().then(|| clients.pem());
    let (mut bench, bind) = (Bench::with(reference(saboteur), &clients.pem()).await, free());
    let server = TestServer::start(Some(tls)).await;
    let issued = clients.issue(&CertificateSpec::default());
    bench.credential("sleep", plans::credential("c", &ca.pem(), Some(&issued)));
    let to = |path, cluster| plans::route(path, RouteAction::Forward(plans::forward(cluster)));
    let routes = vec![to(PathMatch::Exact("/first".to_owned()), "first"), to(PathMatch::Any, "second")];
    let cluster = |name, o| plans::cluster(name, server.address, Some(UpstreamTls::Originate(o)));
    bench
        .apply(&plans::plan(vec![plans::proxy(
            "sleep",
            vec![plans::outbound(bind, vec![plans::any_http(vec![plans::host(HOST, routes)])])],
            vec![cluster("first", first), cluster("second", second)],
        )]))
        .await;
    assert_eq!(client::get(bind, HOST, "/first").await.status.as_u16(), 200);
    client::get(bind, HOST, "/").await.status.as_u16()
}

#[tokio::test]
async fn a_session_is_resumed_across_policies_or_identities() {
    let unverified = || Origination { trust: Trust::Anybody, ..plans::simple() };
    for (saboteur, status) in
        [(None, 503), (Some("resume-sessions"), 503), (Some("resume-unverified-sessions"), 200)]
    {
        assert_eq!(
            one_after_the_other(saboteur, unverified(), plans::simple()).await,
            status,
            "{saboteur:?}"
        );
    }
    let anonymous = || Origination { client_certificate: None, ..plans::mutual("c") };
    for (saboteur, status) in
        [(None, 503), (Some("resume-sessions"), 503), (Some("resume-sessions-of-another-identity"), 200)]
    {
        let answered = one_after_the_other(saboteur, plans::mutual("c"), anonymous()).await;
        assert_eq!(answered, status, "{saboteur:?}");
    }
}

#[tokio::test]
async fn paths_match_too_widely() {
    let exact = || PathMatch::Exact("/a/b".to_owned());
    let prefix = || PathMatch::Prefix("/a/b".to_owned());
    for (saboteur, path, target, status) in [
        (None, exact(), "/a/bc", 404),
        (Some("exact-match-as-prefix"), exact(), "/a/bc", 200),
        (None, prefix(), "//a%2Fb", 404),
        (Some("match-decoded-paths"), prefix(), "//a%2Fb", 200),
    ] {
        let (mut bench, bind) = (Bench::with(reference(saboteur), "").await, free());
        let server = TestServer::plain().await;
        let route = plans::route(path, RouteAction::Forward(plans::forward("c")));
        let listener = plans::outbound(bind, vec![plans::any_http(vec![plans::host(HOST, vec![route])])]);
        let cluster = plans::cluster("c", server.address, None);
        bench.apply(&plans::plan(vec![plans::proxy("sleep", vec![listener], vec![cluster])])).await;
        assert_eq!(client::get(bind, HOST, target).await.status.as_u16(), status, "{saboteur:?}");
    }
}

#[tokio::test]
async fn gateway_grows_careless_or_goes_on_after_it_was_stopped() {
    for (saboteur, careless, kept) in [
        (None, false, false),
        (Some("gateway-grows-careless"), true, false),
        (Some("keep-stopped-gateway"), false, true),
    ] {
        let ca = TestAuthority::new("public");
        let server = TestServer::tls(ca.server(HOST)).await;
        let (mut bench, bind, gateway) = (Bench::with(reference(saboteur), &ca.pem()).await, free(), free());
        let tls = Some(UpstreamTls::Originate(plans::simple()));
        let mut plan = plans::through_gateway(bind, gateway, plans::cluster("c", server.address, tls));
        bench.apply(&plan).await;
        let own = bench.mesh.issue(&CertificateSpec {
            uri: Some(&crate::support::identity("sleep")),
            ..CertificateSpec::default()
        });
        let served = async |issued| {
            client::get_over_mesh(gateway, HOST, issued).await.is_ok_and(|reply| reply.status == 200)
        };
        for _ in 0..6 {
            assert!(served(Some(&own)).await, "{saboteur:?}");
        }
        assert_eq!(served(None).await, careless, "{saboteur:?}");
        plan.proxies.retain(|proxy| proxy.name == "sleep");
        bench.apply(&plan).await;
        assert_eq!(served(Some(&own)).await, kept, "{saboteur:?}");
    }
}
