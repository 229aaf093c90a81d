//! Saboteurs that carry out a route's rules in part.

use meshproof_plan::model::{
    Discovery, Forward, HeaderChanges, PathMatch, Route, RouteAction, RouteMatch, StringMatch, VirtualHost,
    WeightedCluster,
};

use crate::support::client::TestReply;
use crate::support::plans::{self, HOST};
use crate::support::server::{SeenRequest, TestServer};
use crate::support::{Bench, authority::TestAuthority, client, free, reference};

/// A sidecar with these hosts and two servers, whose clusters are `first` and `second`.
struct Two {
    bench: Bench,
    bind: std::net::SocketAddr,
    first: TestServer,
    second: TestServer,
}

impl Two {
    async fn new(saboteur: Option<&str>, hosts: Vec<VirtualHost>) -> Self {
        let (first, second) = (TestServer::plain().await, TestServer::plain().await);
        let (mut bench, bind) = (Bench::with(reference(saboteur), "").await, free());
        let listener = plans::outbound(bind, vec![plans::any_http(hosts)]);
        let cluster = |name, server: &TestServer| plans::cluster(name, server.address, None);
        let clusters = vec![cluster("first", &first), cluster("second", &second)];
        bench.apply(&plans::plan(vec![plans::proxy("sleep", vec![listener], clusters)])).await;
        Self { bench, bind, first, second }
    }

    fn numbers(&self) -> [usize; 2] {
        [&self.first, &self.second].map(|server| server.memory.requests().len())
    }
}

fn by(forward: Forward) -> Route {
    plans::route(PathMatch::Any, RouteAction::Forward(forward))
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_timeout_is_ignored() {
    let timed = || Forward { timeout_ms: Some(50), ..plans::forward("first") };
    for (saboteur, status) in [(None, 504), (Some("ignore-timeouts"), 200)] {
        let two = Two::new(saboteur, vec![plans::host(HOST, vec![by(timed())])]).await;
        assert_eq!(client::get(two.bind, HOST, "/late").await.status.as_u16(), status, "{saboteur:?}");
    }
}

#[tokio::test]
async fn weights_are_ignored() {
    let weighted = |first, second| Forward {
        clusters: vec![WeightedCluster::new("first", first), WeightedCluster::new("second", second)],
        ..Forward::default()
    };
    for (saboteur, weights, numbers) in
        [(None, [1, 1], [1, 1]), (Some("first-destination-alone"), [1, 1], [2, 0])]
    {
        let routes = vec![by(weighted(weights[0], weights[1]))];
        let two = Two::new(saboteur, vec![plans::host(HOST, routes)]).await;
        for _ in 0..2 {
            client::get(two.bind, HOST, "/").await;
        }
        assert_eq!(two.numbers(), numbers, "{saboteur:?}");
    }
}

#[tokio::test]
async fn unequal_weights_are_made_equal() {
    let weighted = Forward {
        clusters: vec![WeightedCluster::new("first", 99), WeightedCluster::new("second", 1)],
        ..Forward::default()
    };
    for (saboteur, is_even) in [(None, false), (Some("equal-weights"), true)] {
        let two = Two::new(saboteur, vec![plans::host(HOST, vec![by(weighted.clone())])]).await;
        for _ in 0..60 {
            client::get(two.bind, HOST, "/").await;
        }
        // The second gets 1 or 30 of 60 requests, give or take a few.
        assert_eq!(two.numbers()[1] > 15, is_even, "{saboteur:?}: {:?}", two.numbers());
    }
}

#[tokio::test]
async fn conditions_are_ignored() {
    let exact = |text: &str| StringMatch::Exact(text.to_owned());
    let headers = RouteMatch { headers: [("x-kind".to_owned(), exact("a"))].into(), ..RouteMatch::default() };
    let query = RouteMatch { query: [("v".to_owned(), exact("2"))].into(), ..RouteMatch::default() };
    for (saboteur, on_headers, on_query) in [
        (None, [0, 1], [0, 1]),
        (Some("ignore-header-conditions"), [1, 0], [0, 1]),
        (Some("ignore-query-conditions"), [0, 1], [1, 0]),
    ] {
        for (matches, numbers) in [(&headers, on_headers), (&query, on_query)] {
            let first = Route { matches: matches.clone(), ..by(plans::forward("first")) };
            let two =
                Two::new(saboteur, vec![plans::host(HOST, vec![first, by(plans::forward("second"))])]).await;
            client::get(two.bind, HOST, "/").await;
            assert_eq!(two.numbers(), numbers, "{saboteur:?}");
        }
    }
}

/// One request by a route with changes of its own and of its destination.
async fn edited(saboteur: Option<&str>) -> (SeenRequest, TestReply) {
    let changes = |by: &str| HeaderChanges {
        remove: vec!["accept".to_owned(), "etag".to_owned()],
        set: vec![(format!("x-{by}"), "1".to_owned())],
        add: pairs(&[("x-many", by), ("set-cookie", by)]),
    };
    let to = WeightedCluster {
        request_headers: changes("destination"),
        response_headers: changes("destination"),
        ..WeightedCluster::new("first", 1)
    };
    let forward = Forward {
        clusters: vec![to],
        request_headers: changes("route"),
        response_headers: changes("route"),
        ..Forward::default()
    };
    let two = Two::new(saboteur, vec![plans::host(HOST, vec![by(forward)])]).await;
    let mut request = client::request(HOST, "/fields");
    request.headers_mut().insert("accept", "*/*".parse().unwrap());
    let reply = client::TestClient::connect(two.bind).await.send(request).await.unwrap();
    drop(two.bench);
    (two.first.memory.only_request(), reply)
}

#[tokio::test]
async fn headers_are_not_changed_as_a_route_or_a_destination_says() {
    let (request, reply) = edited(None).await;
    assert_eq!(request.headers.get_all("x-many").iter().count(), 2);
    assert!(request.headers.contains_key("x-route") && request.headers.contains_key("x-destination"));
    assert!(!request.headers.contains_key("accept"));
    assert!(reply.header("x-route").is_some() && reply.header("etag").is_none());
    let (request, reply) = edited(Some("ignore-response-edits")).await;
    assert!(request.headers.contains_key("x-route"));
    assert!(reply.header("x-route").is_none() && reply.header("etag").is_some());
    let (request, _) = edited(Some("add-as-set")).await;
    assert_eq!(request.headers.get_all("x-many").iter().count(), 1);
    let (request, reply) = edited(Some("remove-nothing")).await;
    assert!(request.headers.contains_key("accept") && reply.header("etag").is_some());
    let (request, reply) = edited(Some("ignore-edits-of-destinations")).await;
    assert!(request.headers.contains_key("x-route") && !request.headers.contains_key("x-destination"));
    assert!(reply.header("x-route").is_some() && reply.header("x-destination").is_none());
}

#[tokio::test]
async fn a_wider_rule_takes_the_requests_of_a_narrower_one() {
    let hosts = |narrow: &str| {
        let of = |domain: &str, cluster| VirtualHost {
            domains: vec![domain.to_owned()],
            ..plans::host(domain, vec![plans::to(cluster)])
        };
        vec![of(narrow, "first"), of("*.wild.example", "second")]
    };
    for (saboteur, narrow, numbers) in [
        (None, "a.wild.example", [1, 0]),
        (Some("wildcard-before-exact"), "a.wild.example", [0, 1]),
        (Some("shortest-wildcard"), "a.wild.example", [1, 0]),
        (None, "*.deep.wild.example", [1, 0]),
        (Some("shortest-wildcard"), "*.deep.wild.example", [0, 1]),
        (Some("wildcard-before-exact"), "*.deep.wild.example", [1, 0]),
    ] {
        let two = Two::new(saboteur, hosts(narrow)).await;
        client::get(two.bind, &narrow.replace('*', "a"), "/").await;
        assert_eq!(two.numbers(), numbers, "{saboteur:?} {narrow}");
    }
}

#[tokio::test]
async fn a_wildcard_takes_the_host_that_it_is_below() {
    for (saboteur, status) in [(None, 404), (Some("wildcard-takes-apex"), 200)] {
        let wild = VirtualHost {
            domains: vec!["*.wild.example".to_owned()],
            ..plans::host("*.wild.example", vec![plans::to("first")])
        };
        let two = Two::new(saboteur, vec![wild]).await;
        assert_eq!(client::get(two.bind, "a.wild.example", "/").await.status, 200, "{saboteur:?}");
        assert_eq!(client::get(two.bind, "wild.example", "/").await.status, status, "{saboteur:?}");
    }
}

#[tokio::test]
async fn what_was_deleted_and_created_again_is_forgotten() {
    for (saboteur, status, originated) in [
        (None, 200, true),
        (Some("forget-recreated-hosts"), 404, false),
        (Some("forget-recreated-rules"), 200, false),
    ] {
        let ca = TestAuthority::new("public");
        let (plain, tls) = (TestServer::plain().await, TestServer::tls(ca.server(HOST)).await);
        let (mut bench, bind) = (Bench::with(reference(saboteur), &ca.pem()).await, free());
        let with = plans::originating(bind, tls.address, plans::simple());
        let listener =
            plans::outbound(bind, vec![plans::any_http(vec![plans::host("other.example", vec![])])]);
        let without = plans::plan(vec![plans::proxy("sleep", vec![listener], vec![])]);
        bench.apply(&with).await;
        assert_eq!(client::get(bind, HOST, "/").await.status, 200, "{saboteur:?}");
        bench.apply(&without).await;
        let mut again = with.clone();
        let hellos = tls.memory.hellos().len();
        if saboteur == Some("forget-recreated-rules") {
            // Without TLS, the request would only fail at the other port.
            again.proxies[0].clusters[0].discovery = Discovery::Endpoints(vec![plain.address]);
        }
        bench.apply(&again).await;
        assert_eq!(client::get(bind, HOST, "/").await.status, status, "{saboteur:?}");
        assert_eq!(tls.memory.hellos().len() > hellos, originated, "{saboteur:?}");
    }
}
