//! Connections that are passed through.

use std::time::Duration;

use meshproof_plan::model::{
    ChainMatch, Discovery, FilterChain, OriginalDestination, Plan, Transport, UpstreamProtocol,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::authority::TestAuthority;
use crate::support::client;
use crate::support::plans::{self, HOST};
use crate::support::server::TestServer;
use crate::support::{Bench, free};

fn passing(bind: std::net::SocketAddr, destinations: &[(&str, std::net::SocketAddr)]) -> Plan {
    let mut through = plans::cluster("PassthroughCluster", bind, None);
    through.protocol = UpstreamProtocol::Downstream;
    through.discovery = Discovery::OriginalDestination(
        destinations
            .iter()
            .map(|(host, address)| OriginalDestination {
                host: (*host).to_owned(),
                port: 443,
                address: *address,
            })
            .collect(),
    );
    let mut hole = plans::cluster("BlackHoleCluster", bind, None);
    hole.discovery = Discovery::Nowhere;
    let blocked =
        ChainMatch { transport: Transport::Tls, server_names: vec!["*.blocked.example".to_owned()] };
    let chains: Vec<FilterChain> = vec![
        plans::chain(blocked, None, plans::tcp("BlackHoleCluster")),
        plans::chain(plans::on(Transport::Tls), None, plans::tcp("PassthroughCluster")),
    ];
    let mut listener = plans::outbound(bind, chains);
    listener.port = 443;
    plans::plan(vec![plans::proxy("sleep", vec![listener], vec![through, hole])])
}

#[tokio::test]
async fn applications_own_tls_reaches_its_original_destination_and_is_logged_when_it_ends() {
    let ca = TestAuthority::new("public");
    let server = TestServer::tls(ca.server(HOST)).await;
    let (mut bench, bind) = (Bench::start().await, free());
    bench.apply(&passing(bind, &[(HOST, server.address)])).await;
    let stream = client::tls(bind, HOST, None).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let mut client = client::TestClient::over(hyper_util::rt::TokioIo::new(stream)).await;
    assert_eq!(client.get(HOST, "/secret").await.body, "hello");
    // The connection is still open, and settling does not wait for it.
    let waited = tokio::time::timeout(Duration::from_secs(1), bench.lines("sleep")).await.unwrap();
    assert_eq!(waited.len(), 0);
    client.close().await;
    let line = bench.only_line("sleep").await;
    assert!(line.contains("] \"- - -\" 0 - - - \"-\" ") && !line.contains("secret"), "{line}");
    let fields: Vec<&str> = line.split("\"-\"").nth(1).unwrap().split_whitespace().collect();
    assert!(fields[0].parse::<u64>().unwrap() > 200 && fields[1].parse::<u64>().unwrap() > 500, "{line}");
    let tail = format!("\"{}\" PassthroughCluster 127.0.0.1:", server.address);
    assert!(line.contains(&tail) && line.ends_with(&format!(" {HOST} -")), "{line}");
    assert_eq!(server.memory.hellos()[0].sni.as_deref(), Some(HOST));
    let issued = server.memory.only_request();
    assert_eq!((issued.target.as_str(), shown.is_empty()), ("/secret", false));
}

#[tokio::test]
async fn bytes_pass_unchanged_in_both_directions_also_after_a_half_close() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let echo = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        // The server speaks first, and answers only after the client has sent everything.
        tcp.write_all(b"220 ready\r\n").await.unwrap();
        let mut all = Vec::new();
        tcp.read_to_end(&mut all).await.unwrap();
        tcp.write_all(&all).await.unwrap();
    });
    let (mut bench, bind) = (Bench::start().await, free());
    let chains = vec![plans::chain(ChainMatch::default(), None, plans::tcp("tcp"))];
    let proxy = plans::proxy(
        "sleep",
        vec![plans::outbound(bind, chains)],
        vec![plans::cluster("tcp", address, None)],
    );
    bench.apply(&plans::plan(vec![proxy])).await;
    let mut tcp = TcpStream::connect(bind).await.unwrap();
    let mut greeting = [0; 11];
    tcp.read_exact(&mut greeting).await.unwrap();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    tcp.write_all(&sent).await.unwrap();
    tcp.shutdown().await.unwrap();
    let mut back = Vec::new();
    tcp.read_to_end(&mut back).await.unwrap();
    assert!(back == sent);
    drop(tcp);
    assert!(bench.only_line("sleep").await.contains(" 1000000 1000011 "));
    echo.await.unwrap();
}

#[tokio::test]
async fn blocked_unknown_and_unmatched_connections_are_closed() {
    let (mut bench, bind) = (Bench::start().await, free());
    bench.apply(&passing(bind, &[])).await;
    assert!(client::tls(bind, "www.blocked.example", None).await.is_err());
    assert!(client::tls(bind, "unknown.example", None).await.is_err());
    let mut plain = TcpStream::connect(bind).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut nothing = Vec::new();
    // Closed with what was sent unread: an end or a reset.
    let _ = plain.read_to_end(&mut nothing).await;
    assert!(nothing.is_empty());
    let lines = bench.lines("sleep").await;
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("\"- - -\" 0 UH ") && lines[0].contains(" BlackHoleCluster "), "{}", lines[0]);
    assert!(lines[1].contains("\"- - -\" 0 UF ") && lines[1].ends_with(" unknown.example -"), "{}", lines[1]);
}
