//! Access-log lines: all of them, and only once settled.

use meshproof_plan::model::{Action, ChainMatch, Discovery, OriginalDestination};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{
    ANSWERED, answering, bind, chain, cluster, everything_to, get, installed, listener, plan, server, start,
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
        assert!(line.contains(&format!("\"test\"")) && line.contains(&format!("\"{}\" c ", one.at)), "{line}");
        assert!(line.ends_with(" - default"), "{line}");
    }
    running.plane.stop().await.unwrap();
}

#[tokio::test]
async fn of_many_requests_at_once_every_line_is_delivered() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let at = bind();
    running.apply(&answering(at, "x")).await.unwrap();
    for round in 1..=5 {
        let requests = (0..40).map(|n| async move { get(at, &format!("/{n}")).await.unwrap() });
        futures_util::future::join_all(requests).await;
        running.plane.settle().await.unwrap();
        assert_eq!(running.lines.all().len(), round * 40);
    }
    running.plane.stop().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_was_passed_on_is_logged_when_its_client_is_done() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let (one, at) = (server("one").await, bind());
    for round in 1..=10 {
        // The counter of connections must survive that there is no such chain for a while.
        running.apply(&answering(at, "x")).await.unwrap();
        let bytes = chain(ChainMatch::default(), Action::Tcp { cluster: "c".to_owned() });
        running.apply(&plan(vec![listener(at, vec![bytes])], vec![cluster("c", &[one.at], None)])).await.unwrap();
        get(at, "/").await.unwrap();
        running.plane.settle().await.unwrap();
        let lines = running.lines.all();
        assert_eq!(lines.len(), round, "{lines:?}");
        assert!(lines[round - 1].contains("\"- - -\" 0 - "), "{lines:?}");
    }
    running.plane.stop().await.unwrap();
}

#[tokio::test]
async fn bytes_for_a_host_that_leads_nowhere_are_closed_and_logged_under_the_clusters_name() {
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
    let closed = tokio::time::timeout(ANSWERED, stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok() && rest.is_empty(), "{rest:?}");
    drop(stream);
    running.plane.settle().await.unwrap();
    let lines = running.lines.all();
    assert!(lines.len() == 1 && lines[0].contains(" PassthroughCluster "), "{lines:?}");
    assert!(lines[0].contains(" UF"), "{lines:?}");
    running.plane.stop().await.unwrap();
}
