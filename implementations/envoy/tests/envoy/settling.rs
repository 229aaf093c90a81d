//! Access-log lines: settling delivers each of them once.

use std::pin::pin;
use std::time::Duration;

use meshproof_plan::model::{Action, ChainMatch, Discovery, OriginalDestination, Plan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::{
    ANSWERED, Client, answering, bind, chain, cluster, everything_to, get, installed, listener, plan, server,
    start, start_slow,
};

#[tokio::test]
async fn after_each_answer_settling_delivers_its_line_in_istios_format() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let (one, at) = (server("one").await, bind());
    running.apply(&everything_to(at, one.at)).await.unwrap();
    for n in 1..=40_usize {
        get(at, &format!("/{n}")).await.unwrap();
        running.plane.settle().await.unwrap();
        let lines = running.lines.all();
        assert_eq!(lines.len(), n, "{lines:?}");
        let line = &lines[n - 1];
        assert!(line.starts_with('['), "{line}");
        assert!(line.contains(&format!("\"GET /{n} HTTP/1.1\" 200 - via_upstream - \"-\" 0 3 ")), "{line}");
        assert!(line.contains("\"test\"") && line.contains(&format!("\"{}\" c ", one.at)), "{line}");
        assert!(line.ends_with(" - default"), "{line}");
    }
    running.plane.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_line_of_each_of_many_concurrent_requests_is_delivered_even_to_a_slow_sink() {
    let Some(program) = installed() else { return };
    let running = start_slow(program).await.unwrap();
    let at = bind();
    running.apply(&answering(at, "x")).await.unwrap();
    for round in 1..=3 {
        let requests = (0..40).map(|n| async move { get(at, &format!("/{n}")).await.unwrap() });
        futures_util::future::join_all(requests).await;
        running.plane.settle().await.unwrap();
        assert_eq!(running.lines.all().len(), round * 40);
    }
    running.plane.stop().await.unwrap();
}

/// How long the test watches that nothing happens.
const STILL: Duration = Duration::from_millis(100);

#[tokio::test]
async fn settling_waits_for_the_server_of_a_connection_that_the_client_has_closed() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let (lingering, at) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), bind());
    let bytes = || chain(ChainMatch::default(), Action::Tcp { cluster: "c".to_owned() });
    let there = cluster("c", &[lingering.local_addr().unwrap()], None);
    let passing = plan(vec![listener(at, vec![bytes()])], vec![there]);
    for round in 1..=2 {
        running.apply(&passing).await.unwrap();
        let mut client = TcpStream::connect(at).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let (mut server, _) = lingering.accept().await.unwrap();
        server.read_exact(&mut [0; 5]).await.unwrap();
        drop(client);
        let mut settled = pin!(running.plane.settle());
        assert!(
            timeout(STILL, settled.as_mut()).await.is_err(),
            "it settled before the server closed the connection"
        );
        drop(server);
        settled.await.unwrap();
        let lines = running.lines.all();
        assert_eq!(lines.len(), 2 * round - 1, "{lines:?}");
        let line = lines.last().unwrap();
        assert!(line.contains("\"- - -\" 0 - ") && line.contains(" 5 0 "), "{line}");
        // For a while no filter chain passes bytes on, until Envoy has removed the last one. Applying waits
        // for that, because Envoy could still serve the kept connection. The count of connections must
        // survive this.
        running.apply(&answering(at, "x")).await.unwrap();
        let mut kept = Client::connect(at).await.unwrap();
        kept.get("/").await.unwrap();
        running.apply(&Plan::default()).await.unwrap();
        running.plane.settle().await.unwrap();
        let lines = running.lines.all();
        assert_eq!(lines.len(), 2 * round, "{lines:?}");
    }
    running.plane.stop().await.unwrap();
}

#[tokio::test]
async fn a_connection_to_a_host_without_an_address_is_closed_and_logged_with_the_clusters_name() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let (one, at) = (server("one").await, bind());
    let mut passthrough = cluster("PassthroughCluster", &[], None);
    let known = OriginalDestination { host: "known.example".to_owned(), port: 80, address: one.at };
    passthrough.discovery = Discovery::OriginalDestination(vec![known]);
    let bytes = chain(ChainMatch::default(), Action::Tcp { cluster: "PassthroughCluster".to_owned() });
    running.apply(&plan(vec![listener(at, vec![bytes])], vec![passthrough])).await.unwrap();
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut rest = Vec::new();
    let closed = timeout(ANSWERED, stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok() && rest.is_empty(), "{rest:?}");
    drop(stream);
    running.plane.settle().await.unwrap();
    let lines = running.lines.all();
    assert!(lines.len() == 1 && lines[0].contains(" PassthroughCluster "), "{lines:?}");
    assert!(lines[0].contains(" UF"), "{lines:?}");
    running.plane.stop().await.unwrap();
}
