//! Saboteurs of what takes time on a connection.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use meshproof_plan::model::{Action, PathMatch, RouteAction, UpstreamTls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::support::plans::{self, EXTERNAL, HOST};
use crate::support::server::{TestServer, TestServerTls};
use crate::support::{Bench, PATIENCE, authority::TestAuthority, client, free, reference};

/// A sidecar before a server in plain text.
pub(super) async fn before(saboteur: Option<&str>, server: SocketAddr) -> (Bench, SocketAddr) {
    let ca = TestAuthority::new("public");
    let (mut bench, bind) = (Bench::with(reference(saboteur), &ca.pem()).await, free());
    let cluster = plans::cluster("outbound|80||edition.cnn.com", server, None);
    bench.apply(&plans::plan(vec![plans::sidecar(bind, cluster)])).await;
    (bench, bind)
}

/// A listening socket.
pub(super) async fn listening() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Reads until what was read ends so.
pub(super) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    let reading = async {
        while !read.ends_with(end.as_bytes()) {
            match stream.read_u8().await {
                Ok(byte) => read.push(byte),
                Err(_) => break,
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("in time");
    String::from_utf8(read).unwrap()
}

/// Sends a head and reads everything until the end of the connection.
pub(super) async fn whole(bind: SocketAddr, head: &str) -> String {
    let mut client = TcpStream::connect(bind).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut answer)).await.expect("in time").unwrap();
    String::from_utf8(answer).unwrap()
}

fn get(options: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{options}\r\n")
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";

#[tokio::test]
async fn an_answer_in_pieces_is_collected_first() {
    for (saboteur, collected) in [(None, false), (Some("collect-answers"), true)] {
        let (socket, address) = listening().await;
        let (_bench, bind) = before(saboteur, address).await;
        let (go_on, wait) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = socket.accept().await.unwrap();
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(CHUNKED.as_bytes()).await.unwrap();
            wait.await.unwrap();
            stream.write_all(b"6\r\nsecond\r\n0\r\n\r\n").await.unwrap();
            stream
        });
        let mut client = TcpStream::connect(bind).await.unwrap();
        client.write_all(get("").as_bytes()).await.unwrap();
        // What is never sent before the rest cannot come within any time.
        let limit = if collected { Duration::from_millis(100) } else { PATIENCE };
        let mut first = [0; 4096];
        let mut seen = String::new();
        while !seen.contains("first") {
            match timeout(limit, client.read(&mut first)).await {
                Ok(read) => seen.push_str(std::str::from_utf8(&first[..read.unwrap()]).unwrap()),
                Err(_) => break,
            }
        }
        assert_eq!(seen.contains("first"), !collected, "{saboteur:?}: {seen}");
        go_on.send(()).unwrap();
        let rest = read_until(&mut client, "\r\n0\r\n\r\n").await;
        assert!(format!("{seen}{rest}").contains("second"), "{saboteur:?}: {rest}");
        drop(serving.await.unwrap());
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_looks_complete() {
    for (saboteur, complete) in [(None, false), (Some("hide-breaks"), true)] {
        let (socket, address) = listening().await;
        let (_bench, bind) = before(saboteur, address).await;
        tokio::spawn(async move {
            let (mut stream, _) = socket.accept().await.unwrap();
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(CHUNKED.as_bytes()).await.unwrap();
        });
        let answer = whole(bind, &get("Connection: close\r\n")).await;
        assert!(answer.contains("first"), "{saboteur:?}: {answer}");
        assert_eq!(answer.ends_with("0\r\n\r\n"), complete, "{saboteur:?}: {answer}");
    }
}

#[tokio::test]
async fn two_streams_of_a_connection_get_each_others_answers() {
    for (saboteur, crossed) in [(None, false), (Some("cross-streams"), true)] {
        let server = TestServer::plain().await;
        let (_bench, bind) = before(saboteur, server.address).await;
        let io = TokioIo::new(TcpStream::connect(bind).await.unwrap());
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        let driving = tokio::spawn(connection);
        let ask = |name: &'static str| {
            let mut sender = sender.clone();
            let request = Request::builder()
                .uri(format!("http://{HOST}/named"))
                .header("x-name", name)
                .body(Full::<Bytes>::default())
                .unwrap();
            async move {
                let answer = sender.send_request(request).await.unwrap();
                answer.headers().get("x-name").cloned()
            }
        };
        let mut seen = false;
        // They cross only if they are in flight together, which the second attempt and later ones make likely.
        for _ in 0..50 {
            let (first, second) = tokio::join!(ask("first"), ask("second"));
            let is = |found: Option<HeaderValue>, name: &'static str| {
                found == Some(HeaderValue::from_static(name))
            };
            seen |= is(first, "second") && is(second, "first");
        }
        driving.abort();
        assert_eq!(seen, crossed, "{saboteur:?}");
    }
}

#[tokio::test]
async fn trailers_of_a_request_are_altered() {
    for (saboteur, expected) in [(None, "5"), (Some("alter-request-trailers"), "altered")] {
        let server = TestServer::plain().await;
        let (_bench, bind) = before(saboteur, server.address).await;
        let request = format!(
            "POST /echo HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
             5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n"
        );
        assert!(whole(bind, &request).await.contains("hello"));
        let seen = server.memory.only_request();
        assert_eq!(seen.trailers.unwrap()["x-sum"], expected, "{saboteur:?}");
    }
}

#[tokio::test]
async fn fields_of_an_interim_answer_join_the_final_one() {
    for (saboteur, joined) in [(None, false), (Some("hints-as-headers"), true)] {
        let (socket, address) = listening().await;
        let (_bench, bind) = before(saboteur, address).await;
        tokio::spawn(async move {
            let (mut stream, _) = socket.accept().await.unwrap();
            read_until(&mut stream, "\r\n\r\n").await;
            let hints = "HTTP/1.1 103 Early Hints\r\nLink: </hinted>\r\n\r\n";
            let answer = format!("{hints}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let answer = whole(bind, &get("Connection: close\r\n")).await;
        let last = answer.rsplit_once("HTTP/1.1 200 OK").unwrap().1;
        assert_eq!(last.contains("/hinted"), joined, "{saboteur:?}: {answer}");
    }
}

#[tokio::test]
async fn a_quiet_web_socket_is_closed() {
    for (saboteur, closed) in
        [(None, false), (Some("close-quiet-web-sockets"), true), (Some("close-silent-web-sockets"), true)]
    {
        let server = TestServer::plain().await;
        let (_bench, bind) = before(saboteur, server.address).await;
        let mut client = TcpStream::connect(bind).await.unwrap();
        let head = format!(
            "GET /echo-socket HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        );
        client.write_all(head.as_bytes()).await.unwrap();
        read_until(&mut client, "\r\n\r\n").await;
        client.write_all(b"ping").await.unwrap();
        assert_eq!(read_until(&mut client, "ping").await, "ping", "{saboteur:?}");
        let mut more = [0; 4];
        if closed {
            let end = timeout(PATIENCE, client.read(&mut more)).await.expect("it is closed");
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        } else {
            assert!(timeout(Duration::from_millis(50), client.read(&mut more)).await.is_err());
            client.write_all(b"pong").await.unwrap();
            assert_eq!(read_until(&mut client, "pong").await, "pong");
        }
    }
}

#[tokio::test]
async fn hosts_at_one_address_get_the_server_name_of_the_first() {
    for (saboteur, last) in [(None, "other.example"), (Some("server-name-of-first-site"), HOST)] {
        let ca = TestAuthority::new("public");
        let (mut bench, bind) = (Bench::with(reference(saboteur), &ca.pem()).await, free());
        let server = TestServer::start(Some(TestServerTls::of(ca.server(HOST)))).await;
        let tls = Some(UpstreamTls::Originate(plans::simple()));
        let mut sidecar = plans::sidecar(bind, plans::cluster(EXTERNAL, server.address, tls));
        if let Action::Http(routes) = &mut sidecar.listeners[0].chains[0].action {
            let forward = RouteAction::Forward(plans::forward(EXTERNAL));
            routes.virtual_hosts = vec![plans::host("*", vec![plans::route(PathMatch::Any, forward)])];
        }
        bench.apply(&plans::plan(vec![sidecar])).await;
        for host in [HOST, "other.example"] {
            client::get(bind, host, "/").await;
        }
        let hellos = server.memory.hellos();
        assert_eq!(hellos.last().unwrap().sni.as_deref(), Some(last), "{saboteur:?}");
    }
}

#[tokio::test]
async fn a_head_that_comes_in_two_segments_is_too_slow() {
    for (saboteur, refused) in [(None, false), (Some("impatient-heads"), true)] {
        let server = TestServer::plain().await;
        let (_bench, bind) = before(saboteur, server.address).await;
        let mut client = TcpStream::connect(bind).await.unwrap();
        let head = get("Connection: close\r\n");
        let (first, second) = head.split_at(8);
        client.write_all(first.as_bytes()).await.unwrap();
        // Longer than the saboteur waits.
        let mut early = [0; 1];
        let read = timeout(Duration::from_millis(100), client.read(&mut early)).await;
        assert_eq!(read.is_ok(), refused, "{saboteur:?}: {read:?}");
        if !refused {
            client.write_all(second.as_bytes()).await.unwrap();
            assert!(read_until(&mut client, "hello").await.starts_with("HTTP/1.1 200"));
        }
    }
}

#[tokio::test]
async fn an_http_1_0_request_is_answered_by_the_proxy() {
    for (saboteur, status) in [(None, "426"), (Some("answer-old-clients"), "200")] {
        let server = TestServer::plain().await;
        let (_bench, bind) = before(saboteur, server.address).await;
        let answer = whole(bind, &format!("GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n")).await;
        assert!(answer.split_whitespace().nth(1) == Some(status), "{saboteur:?}: {answer}");
        assert!(server.memory.requests().is_empty());
    }
}
