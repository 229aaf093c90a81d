//! Requests and responses, and their access-log lines.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Version};
use http_body_util::Full;
use meshproof_plan::model::{
    Direction, Discovery, HeaderChanges, OriginalDestination, PathMatch, RouteAction, StringMatch,
    UpstreamProtocol, VirtualHost, WeightedCluster,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::client::{self, TestClient};
use crate::support::plans::{self, HOST};
use crate::support::server::TestServer;
use crate::support::{Bench, free};

async fn plain() -> (Bench, TestServer, std::net::SocketAddr) {
    let (mut bench, server, bind) = (Bench::start().await, TestServer::plain().await, free());
    let sidecar = plans::sidecar(bind, plans::cluster("outbound|80||edition.cnn.com", server.address, None));
    bench.apply(&plans::plan(vec![sidecar])).await;
    (bench, server, bind)
}

#[tokio::test]
async fn request_is_forwarded_unchanged_and_logged_once() {
    let (bench, server, bind) = plain().await;
    let reply = client::get(bind, "Edition.CNN.com", "/Politics?q=a%20b&q=2").await;
    assert_eq!((reply.status.as_u16(), reply.body.as_str()), (200, "hello"));
    assert_eq!(reply.header("server"), Some("istio-envoy"));
    assert!(reply.header("x-envoy-upstream-service-time").unwrap().parse::<u64>().is_ok());
    let seen = server.memory.only_request();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/Politics?q=a%20b&q=2"));
    assert_eq!(seen.host, "Edition.CNN.com");
    assert_eq!(seen.headers["x-forwarded-proto"], "http");
    let id = seen.headers["x-request-id"].to_str().unwrap();
    assert_eq!(id.len(), 36);
    assert!(!seen.headers.contains_key("x-forwarded-for") && !seen.headers.contains_key("connection"));
    let line = bench.only_line("sleep").await;
    let address = server.address;
    assert!(
        line.contains("\"GET /Politics?q=a%20b&q=2 HTTP/1.1\" 200 - via_upstream - \"-\" 0 5 "),
        "{line}"
    );
    assert!(
        line.contains(&format!(
            " \"-\" \"meshproof/test.00001\" \"{id}\" \"Edition.CNN.com\" \"{address}\" \
             outbound|80||edition.cnn.com 127.0.0.1:"
        )),
        "{line}"
    );
    assert!(line.contains(&format!(" {bind} 127.0.0.1:")) && line.ends_with(" - default"), "{line}");
}

#[tokio::test]
async fn answered_request_is_logged_before_its_client_has_the_answer() {
    let (bench, _server, bind) = plain().await;
    let mut client = TestClient::connect(bind).await;
    for n in 1..50 {
        let target = ["/", "/nothing", "/chunks", "/large", "/absent"][n % 5];
        client.get(HOST, target).await;
        let lines = bench.lines_now("sleep");
        assert_eq!(lines.len(), n, "{target}");
        assert!(lines[n - 1].contains(" - via_upstream "), "{}", lines[n - 1]);
    }
}

#[tokio::test]
async fn upstream_connections_are_reused() {
    let (bench, server, bind) = plain().await;
    for _ in 0..20 {
        client::get(bind, HOST, "/").await;
    }
    assert_eq!((server.memory.connections(), server.memory.requests().len()), (1, 20));
    assert_eq!(bench.lines("sleep").await.len(), 20);
}

#[tokio::test]
async fn bodies_of_every_kind_arrive_complete() {
    let (bench, server, bind) = plain().await;
    let mut client = TestClient::connect(bind).await;
    let mut post = client::request(HOST, "/echo");
    *post.method_mut() = Method::POST;
    *post.body_mut() = Full::new(Bytes::from(vec![b'y'; 2 << 20]));
    assert_eq!(client.send(post).await.unwrap().body.len(), 2 << 20);
    assert_eq!(client.get(HOST, "/large").await.body.len(), 3 << 20);
    let nothing = client.get(HOST, "/nothing").await;
    assert_eq!((nothing.status.as_u16(), nothing.body.as_str()), (204, ""));
    let mut chunked = client::request(HOST, "/chunks");
    chunked.headers_mut().insert("te", "trailers".parse().unwrap());
    chunked.headers_mut().insert("connection", "te".parse().unwrap());
    let reply = client.send(chunked).await.unwrap();
    assert_eq!(reply.body, "chunk 0;chunk 1;chunk 2;chunk 3;chunk 4;");
    assert_eq!(reply.trailers.unwrap()["x-sum"], "5");
    let head = client::head(bind, HOST, "/large").await;
    assert_eq!((head.header("content-length"), head.body.as_str()), (Some("3145728"), ""));
    assert_eq!(server.memory.requests()[0].body_bytes, 2 << 20);
    assert!(bench.lines("sleep").await[0].contains(" 2097152 2097152 "));
}

#[tokio::test]
async fn request_trailers_arrive() {
    let (_bench, server, bind) = plain().await;
    let mut tcp = tokio::net::TcpStream::connect(bind).await.unwrap();
    let request = format!(
        "POST /echo HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\
         Connection: close\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 4\r\n\r\n"
    );
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("body"), "{answer}");
    assert_eq!(server.memory.only_request().trailers.unwrap()["x-sum"], "4");
}

#[tokio::test]
async fn body_is_asked_for_with_100_continue_before_it_is_sent() {
    let (_bench, server, bind) = plain().await;
    let mut tcp = tokio::net::TcpStream::connect(bind).await.unwrap();
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\
         Connection: close\r\n\r\n"
    );
    tcp.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    tcp.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    tcp.write_all(b"body").await.unwrap();
    let mut rest = String::new();
    tcp.read_to_string(&mut rest).await.unwrap();
    assert!(rest.starts_with("HTTP/1.1 200 OK") && rest.ends_with("\r\n\r\nbody"), "{rest}");
    assert!(!server.memory.only_request().headers.contains_key("expect"));
}

#[tokio::test]
async fn upgraded_connection_carries_bytes_both_ways_and_is_logged_at_its_end() {
    let (bench, _server, bind) = plain().await;
    let mut tcp = tokio::net::TcpStream::connect(bind).await.unwrap();
    let head = format!(
        "GET /echo-socket HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    tcp.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(tcp.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("upgrade: websocket"), "{answer}");
    tcp.write_all(b"ping").await.unwrap();
    let mut echo = [0; 4];
    tcp.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"ping");
    assert_eq!(bench.lines("sleep").await.len(), 0);
    drop(tcp);
    let line = bench.only_line("sleep").await;
    assert!(line.contains("\"GET /echo-socket HTTP/1.1\" 101 - via_upstream - \"-\" 4 4 "), "{line}");
}

#[tokio::test]
async fn http2_downstream_and_upstream_carry_authority_and_no_host_header() {
    let (mut bench, server, bind) = (Bench::start().await, TestServer::plain().await, free());
    let mut cluster = plans::cluster("outbound|80||edition.cnn.com", server.address, None);
    cluster.protocol = UpstreamProtocol::Http2;
    bench.apply(&plans::plan(vec![plans::sidecar(bind, cluster)])).await;
    let reply = client::get_http2(bind, HOST, "/politics").await;
    assert_eq!(reply.status.as_u16(), 200);
    assert_eq!(client::get(bind, HOST, "/again").await.status.as_u16(), 200);
    let seen = server.memory.requests();
    assert_eq!((seen[0].version, seen[0].host.as_str()), (Version::HTTP_2, HOST));
    assert!(seen.iter().all(|s| s.version == Version::HTTP_2 && !s.headers.contains_key("host")));
    assert_eq!(server.memory.connections(), 1);
    assert!(bench.lines("sleep").await[0].contains("\"GET /politics HTTP/2\" 200 "));
}

#[tokio::test]
async fn client_protocol_is_kept_if_the_cluster_says_so() {
    let (mut bench, server, bind) = (Bench::start().await, TestServer::plain().await, free());
    let mut cluster = plans::cluster("outbound|80||edition.cnn.com", server.address, None);
    cluster.protocol = UpstreamProtocol::Downstream;
    bench.apply(&plans::plan(vec![plans::sidecar(bind, cluster)])).await;
    client::get_http2(bind, HOST, "/").await;
    client::get(bind, HOST, "/").await;
    let versions: Vec<Version> = server.memory.requests().iter().map(|s| s.version).collect();
    assert_eq!(versions, [Version::HTTP_2, Version::HTTP_11]);
}

fn answering(text: &str) -> RouteAction {
    RouteAction::DirectResponse { status: 200, body: text.to_owned() }
}

fn hosts(domains: &[&str], text: &str) -> VirtualHost {
    VirtualHost {
        name: text.to_owned(),
        domains: domains.iter().map(|d| (*d).to_owned()).collect(),
        routes: vec![plans::route(PathMatch::Any, answering(text))],
        require_tls: false,
    }
}

#[tokio::test]
async fn exact_domain_wins_over_longest_suffix_over_any() {
    let (mut bench, bind) = (Bench::start().await, free());
    let hosts = vec![
        hosts(&["*"], "any"),
        hosts(&["*.com"], "com"),
        hosts(&["*.cnn.com"], "cnn"),
        hosts(&["edition.cnn.com", "edition.cnn.com:80"], "exact"),
    ];
    let listener = plans::outbound(bind, vec![plans::any_http(hosts)]);
    bench.apply(&plans::plan(vec![plans::proxy("sleep", vec![listener], vec![])])).await;
    for (host, expected) in [
        ("edition.cnn.com", "exact"),
        ("EDITION.cnn.com:80", "exact"),
        ("www.cnn.com", "cnn"),
        ("cnn.com", "com"),
        ("example.org", "any"),
    ] {
        assert_eq!(client::get(bind, host, "/").await.body, expected, "{host}");
    }
}

#[tokio::test]
async fn first_matching_route_is_taken_and_no_match_is_404_nr() {
    let (mut bench, bind) = (Bench::start().await, free());
    let mut by_header = plans::route(PathMatch::Any, answering("header"));
    by_header.matches.headers.insert("x-version".to_owned(), StringMatch::Regex("v[12]".to_owned()));
    let mut by_query = plans::route(PathMatch::Any, answering("query"));
    by_query.matches.query.insert("debug".to_owned(), StringMatch::Present);
    let routes = vec![
        by_header,
        by_query,
        plans::route(PathMatch::Prefix("/a".to_owned()), answering("prefix")),
        plans::route(PathMatch::Exact("/ab".to_owned()), answering("never")),
        plans::route(PathMatch::Regex("/r/[0-9]+".to_owned()), answering("regex")),
        plans::route(
            PathMatch::Exact("/old".to_owned()),
            RouteAction::Redirect {
                status: 308,
                scheme: Some("https".to_owned()),
                authority: None,
                path: None,
                prefix: None,
                port: Some(443),
            },
        ),
    ];
    let listener = plans::outbound(bind, vec![plans::any_http(vec![plans::host(HOST, routes)])]);
    bench.apply(&plans::plan(vec![plans::proxy("sleep", vec![listener], vec![])])).await;
    let mut client = TestClient::connect(bind).await;
    for (target, expected) in
        [("/ab?x", "prefix"), ("/z?debug", "query"), ("/r/12", "regex"), ("/r/12x", ""), ("/z", "")]
    {
        assert_eq!(client.get(HOST, target).await.body, expected, "{target}");
    }
    let mut versioned = client::request(HOST, "/z");
    versioned.headers_mut().insert("x-version", "v2".parse().unwrap());
    assert_eq!(client.send(versioned).await.unwrap().body, "header");
    let moved = client.get(HOST, "/old?q=1").await;
    assert_eq!(
        (moved.status.as_u16(), moved.header("location")),
        (308, Some("https://edition.cnn.com/old?q=1"))
    );
    assert_eq!(client.get("unknown.example", "/").await.status.as_u16(), 404);
    let lines = bench.lines("sleep").await;
    assert!(lines[0].contains(" 200 - direct_response ") && lines[0].ends_with(" default"), "{}", lines[0]);
    assert!(lines.last().unwrap().contains(" 404 NR route_not_found "), "{lines:?}");
}

#[tokio::test]
async fn headers_host_and_path_are_changed_as_the_route_says() {
    let (mut bench, server, bind) = (Bench::start().await, TestServer::plain().await, free());
    let name = "outbound|80||bucket.example";
    let mut forward = plans::forward(name);
    forward.host_rewrite = Some("bucket.example".to_owned());
    forward.path_rewrite = Some("/new".to_owned());
    let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
    forward.request_headers = HeaderChanges {
        remove: vec!["x-gone".to_owned()],
        set: vec![pair("x-forwarded-proto", "https")],
        add: vec![pair("x-more", "2")],
    };
    forward.response_headers =
        HeaderChanges { set: vec![pair("x-from", "route")], ..HeaderChanges::default() };
    let route = plans::route(PathMatch::Prefix("/old".to_owned()), RouteAction::Forward(forward));
    let chains = vec![plans::any_http(vec![plans::host(HOST, vec![route])])];
    let listener = plans::listener(bind, 80, Direction::Gateway, chains);
    let cluster = plans::cluster(name, server.address, None);
    bench.apply(&plans::plan(vec![plans::proxy("istio-egressgateway", vec![listener], vec![cluster])])).await;
    let mut request = client::request(HOST, "/old/x?q=1");
    request.headers_mut().insert("x-gone", "1".parse().unwrap());
    request.headers_mut().insert("x-more", "1".parse().unwrap());
    let reply = client::send(bind, request).await;
    assert_eq!(reply.header("x-from"), Some("route"));
    let seen = server.memory.only_request();
    assert_eq!((seen.host.as_str(), seen.target.as_str()), ("bucket.example", "/new/x?q=1"));
    assert_eq!(seen.headers["x-forwarded-proto"], "https");
    assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(seen.headers.get_all("x-more").iter().count(), 2);
    assert!(!seen.headers.contains_key("x-gone"));
    let line = bench.only_line("istio-egressgateway").await;
    assert!(line.contains("\"GET /old/x?q=1 ") && line.contains("\"127.0.0.1\" "), "{line}");
    assert!(line.contains("\"bucket.example\""), "{line}");
}

#[tokio::test]
async fn weights_distribute_requests_exactly() {
    let (mut bench, bind) = (Bench::start().await, free());
    let servers = [TestServer::plain().await, TestServer::plain().await];
    let mut forward = plans::forward("a");
    forward.clusters = vec![WeightedCluster::new("a", 75), WeightedCluster::new("b", 25)];
    let route = plans::route(PathMatch::Any, RouteAction::Forward(forward));
    let listener = plans::outbound(bind, vec![plans::any_http(vec![plans::host(HOST, vec![route])])]);
    let clusters =
        vec![plans::cluster("a", servers[0].address, None), plans::cluster("b", servers[1].address, None)];
    bench.apply(&plans::plan(vec![plans::proxy("sleep", vec![listener], clusters)])).await;
    let mut client = TestClient::connect(bind).await;
    for _ in 0..100 {
        client.get(HOST, "/").await;
    }
    assert_eq!([servers[0].memory.requests().len(), servers[1].memory.requests().len()], [75, 25]);
}

#[tokio::test]
async fn upstream_failures_are_answered_and_logged_in_envoys_words() {
    let (mut bench, bind, dead) = (Bench::start().await, free(), free());
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_at = silent.local_addr().unwrap();
    // Accepts and closes.
    let closer = tokio::spawn(async move {
        while let Ok((mut tcp, _)) = silent.accept().await {
            let _ = tcp.read(&mut [0; 1024]).await;
        }
    });
    let babbler = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let babbler_at = babbler.local_addr().unwrap();
    let talker = tokio::spawn(async move {
        while let Ok((mut tcp, _)) = babbler.accept().await {
            let _ = tcp.read(&mut [0; 1024]).await;
            let _ = tcp.write_all(&[0x15, 3, 1, 0, 2, 2, 40]).await;
        }
    });
    let held = TestServer::plain().await;
    let mut empty = plans::cluster("empty", dead, None);
    empty.discovery = Discovery::Endpoints(vec![]);
    let mut nowhere = plans::cluster("BlackHoleCluster", dead, None);
    nowhere.discovery = Discovery::Nowhere;
    let mut passed = plans::cluster("PassthroughCluster", dead, None);
    passed.discovery = Discovery::OriginalDestination(vec![OriginalDestination {
        host: "known.example".to_owned(),
        port: 80,
        address: held.address,
    }]);
    let mut slow = plans::forward("slow");
    slow.timeout_ms = Some(50);
    let mut hosts: Vec<VirtualHost> = ["dead", "silent", "babbler", "empty", "BlackHoleCluster", "absent"]
        .iter()
        .map(|name| plans::host(&name.to_ascii_lowercase(), vec![plans::to(name)]))
        .collect();
    hosts.push(plans::host("slow", vec![plans::route(PathMatch::Any, RouteAction::Forward(slow))]));
    hosts.push(VirtualHost {
        name: "allow_any".to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![plans::to("PassthroughCluster")],
        require_tls: false,
    });
    let clusters = vec![
        plans::cluster("dead", dead, None),
        plans::cluster("silent", silent_at, None),
        plans::cluster("babbler", babbler_at, None),
        empty,
        nowhere,
        passed,
        plans::cluster("slow", held.address, None),
    ];
    let listener = plans::outbound(bind, vec![plans::any_http(hosts)]);
    bench.apply(&plans::plan(vec![plans::proxy("sleep", vec![listener], clusters)])).await;

    let upstream = "upstream connect error or disconnect/reset before headers. reset reason: ";
    for (host, status, flag, body) in [
        (
            "dead",
            503,
            "UF",
            "remote connection failure, transport failure reason: delayed connect error: Connection refused",
        ),
        ("silent", 503, "UC", "connection termination"),
        ("babbler", 502, "UPE", "protocol error"),
        ("empty", 503, "UH", "no healthy upstream"),
        ("blackholecluster", 503, "UH", "no healthy upstream"),
        ("absent", 503, "NC", ""),
        (
            "unknown.example",
            503,
            "UF",
            "remote connection failure, transport failure reason: DNS resolution failed",
        ),
    ] {
        let reply = client::get(bind, host, "/").await;
        assert_eq!(reply.status.as_u16(), status, "{host}: {reply:?}");
        assert_eq!(reply.body.strip_prefix(upstream).unwrap_or(&reply.body), body, "{host}");
        let line = bench.lines("sleep").await.pop().unwrap();
        assert!(line.contains(&format!(" {status} {flag} ")), "{host}: {line}");
    }
    let late = client::get(bind, "slow", "/held").await;
    assert_eq!((late.status.as_u16(), late.body.as_str()), (504, "upstream request timeout"));
    let line = bench.lines("sleep").await.pop().unwrap();
    assert!(line.contains(" 504 UT response_timeout "), "{line}");
    assert_eq!(client::get(bind, "Known.example:8080", "/").await.status.as_u16(), 200);
    closer.abort();
    talker.abort();
}

#[tokio::test]
async fn idempotent_request_on_a_connection_that_its_server_closes_is_repeated() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Answers one request per connection, and closes when the next arrives.
    let fickle = tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = tcp.read(&mut [0; 4096]).await;
                let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                let _ = tcp.read(&mut [0; 4096]).await;
            });
        }
    });
    let (mut bench, bind) = (Bench::start().await, free());
    bench.apply(&plans::plan(vec![plans::sidecar(bind, plans::cluster("c", address, None))])).await;
    let mut client = TestClient::connect(bind).await;
    for _ in 0..3 {
        assert_eq!(client.get(HOST, "/").await.status.as_u16(), 200);
    }
    let mut post = client::request(HOST, "/");
    *post.method_mut() = Method::POST;
    *post.body_mut() = "x".into();
    let reply = client.send(post).await.unwrap();
    assert_eq!(reply.status.as_u16(), 503);
    assert!(bench.lines("sleep").await[3].contains(" 503 UC "));
    fickle.abort();
}

#[tokio::test]
async fn client_that_leaves_before_its_answer_is_logged_as_dc() {
    let (bench, server, bind) = plain().await;
    let mut client = TestClient::connect(bind).await;
    let pending = client.sender().send_request(client::request(HOST, "/held"));
    let memory = server.memory.clone();
    let held = crate::support::until("the server holds the request", move || {
        memory.holding.load(std::sync::atomic::Ordering::SeqCst) == 1
    });
    tokio::select! {
        _ = pending => panic!("answered"),
        () = held => {}
    }
    assert_eq!(bench.lines("sleep").await.len(), 0);
    client.close().await;
    let line = bench.only_line("sleep").await;
    assert!(line.contains(" 0 DC downstream_remote_disconnect "), "{line}");
}

#[tokio::test]
async fn hostile_heads_are_refused_and_the_proxy_serves_on() {
    let (bench, server, bind) = plain().await;
    let long = "x".repeat(200 * 1024);
    let many = "a: b\r\n".repeat(500);
    for (head, expected) in [
        (format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX: {long}\r\n\r\n"), "HTTP/1.1 431"),
        (format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{many}\r\n"), "HTTP/1.1 431"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "HTTP/1.1 400"),
        (format!("GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n"), "HTTP/1.0 426"),
        ("\0\0\0\0\r\n\r\n".to_owned(), "HTTP/1.1 400"),
    ] {
        let mut tcp = tokio::net::TcpStream::connect(bind).await.unwrap();
        // The proxy may close before all of it is written.
        let _ = tcp.write_all(head.as_bytes()).await;
        let mut answer = vec![0; 12];
        let read = tokio::time::timeout(Duration::from_secs(5), tcp.read_exact(&mut answer)).await.unwrap();
        if read.is_ok() {
            assert_eq!(String::from_utf8_lossy(&answer), expected, "{:.60}", head);
        }
    }
    assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 200);
    assert_eq!(server.memory.requests().len(), 1);
    assert!(bench.lines("sleep").await.iter().all(|l| !l.chars().any(char::is_control)));
}
