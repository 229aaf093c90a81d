//! What the workload's client says of a server's behaviour, good and bad.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use meshproof_harness::external::{ExternalSpec, Page, PlainPort};
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;
use meshproof_harness::workload::{HttpChoice, MAX_BODY_KEPT, MAX_BODY_READ, MAX_HOPS, RequestSpec};
use meshproof_local::external::start_embedded;
use meshproof_local::workload::{RawEnd, Route, WorkloadClient, raw};
use meshproof_model::{Exchange, ExchangeErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::*;

/// What a scripted server does once a request's head has arrived.
enum Script {
    /// Answers these bytes and closes.
    Answer(Vec<u8>),
    /// Answers these bytes and then says nothing more.
    Stall(Vec<u8>),
    /// Resets the connection.
    Reset,
}

/// Serves one connection by script; returns what the client had sent by then.
async fn scripted(script: Script) -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        let mut piece = [0; 4096];
        while !got.windows(4).any(|w| w == b"\r\n\r\n") {
            match stream.read(&mut piece).await.unwrap() {
                0 => break,
                count => got.extend_from_slice(&piece[..count]),
            }
        }
        match script {
            // Whether all of it arrives is the client's business: it stops at its bounds.
            Script::Answer(bytes) => {
                let _all_or_not = stream.write_all(&bytes).await;
            }
            Script::Stall(bytes) => {
                stream.write_all(&bytes).await.unwrap();
                // Ends when the client gives up.
                let _gone = stream.read(&mut piece).await;
            }
            Script::Reset => {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
        }
        got
    });
    (address, task)
}

fn sidecar(address: SocketAddr, request: Duration) -> WorkloadClient {
    let route = Route::capture([(80, address), (443, address)]);
    WorkloadClient::new("sleep", route, parties().ca.certificate_pem(), &timeouts(request)).unwrap()
}

async fn against(script: Script) -> Exchange {
    let (address, task) = scripted(script).await;
    let exchange = sidecar(address, LIMIT).exchange(&get("http://edition.cnn.com/politics")).await;
    task.await.unwrap();
    exchange
}

#[tokio::test]
async fn a_plain_request_is_sent_as_curl_sends_it_and_recorded_byte_for_byte() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\nX-a: 2\r\n\r\nhi";
    let (address, task) = scripted(Script::Answer(answer.to_vec())).await;
    let exchange = sidecar(address, LIMIT).exchange(&get("http://edition.cnn.com/politics?a=b")).await;
    let expected = "GET /politics?a=b HTTP/1.1\r\nHost: edition.cnn.com\r\n\
                    User-Agent: meshproof/t-1.00001\r\nAccept: */*\r\n\r\n";
    assert_eq!(String::from_utf8(task.await.unwrap()).unwrap(), expected);
    assert_eq!(exchange.hops[0].sent, expected);
    assert_eq!(exchange.hops[0].sent_bytes, expected.len() as u64);
    assert_eq!(exchange.hops[0].tls, None);
    let response = response(&exchange);
    assert_eq!((response.status, response.body.as_str(), response.body_bytes), (200, "hi", 2));
    let headers: Vec<_> = response.headers.iter().map(|h| (h.name.as_str(), h.value.as_str())).collect();
    assert_eq!(headers, [("content-length", "2"), ("x-a", "1"), ("x-a", "2")]);
}

#[tokio::test]
async fn body_and_headers_of_the_request_are_sent_and_only_its_head_is_shown() {
    let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
    let (address, task) = scripted(Script::Answer(answer.to_vec())).await;
    let request = RequestSpec {
        method: http::Method::POST,
        body: "secret body".into(),
        headers: vec![("accept".to_owned(), "text/html".to_owned()), ("x-b".to_owned(), "c".to_owned())],
        host_header: Some("other.example".to_owned()),
        ..get("http://edition.cnn.com:80/")
    };
    let exchange = sidecar(address, LIMIT).exchange(&request).await;
    task.await.unwrap();
    let sent = &exchange.hops[0].sent;
    for line in ["Host: other.example", "Accept: text/html", "X-B: c", "Content-Length: 11"] {
        assert!(sent.contains(line), "{sent}");
    }
    assert!(!sent.contains("secret body") && sent.ends_with("\r\n\r\n"));
    assert_eq!(exchange.hops[0].sent_bytes, sent.len() as u64 + 11);
}

#[tokio::test]
async fn a_port_without_a_listener_is_connection_refused() {
    let address = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        listener.local_addr().unwrap()
    };
    let client = sidecar(address, LIMIT);
    for url in ["http://edition.cnn.com/", "https://edition.cnn.com/"] {
        assert_eq!(error_kind(&client.exchange(&get(url)).await), ExchangeErrorKind::ConnectionRefused);
    }
    assert_eq!(raw(address, b"", LIMIT).await.end, RawEnd::Refused);
}

#[tokio::test]
async fn a_reset_and_an_early_close_are_connection_closed() {
    assert_eq!(error_kind(&against(Script::Reset).await), ExchangeErrorKind::ConnectionClosed);
    assert_eq!(error_kind(&against(Script::Answer(Vec::new())).await), ExchangeErrorKind::ConnectionClosed);
    let half_head = against(Script::Answer(b"HTTP/1.1 200 OK\r\nCont".to_vec())).await;
    assert_eq!(error_kind(&half_head), ExchangeErrorKind::ConnectionClosed);
    let half_body =
        against(Script::Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal".to_vec())).await;
    assert_eq!(error_kind(&half_body), ExchangeErrorKind::ConnectionClosed);
}

#[tokio::test]
async fn a_close_in_the_middle_of_a_handshake_is_connection_closed_and_not_a_tls_error() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let client = sidecar(listener.local_addr().unwrap(), LIMIT);
    let closing = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = [0; 4096];
        assert!(stream.read(&mut hello).await.unwrap() > 0);
    });
    let exchange = client.exchange(&get("https://edition.cnn.com/")).await;
    closing.await.unwrap();
    assert_eq!(error_kind(&exchange), ExchangeErrorKind::ConnectionClosed, "{exchange:#?}");
    let tls = exchange.hops[0].tls.as_ref().unwrap();
    assert_eq!(tls.server_name.as_deref(), Some(HOST), "read from the ClientHello that was sent");
    assert_eq!(tls.alpn_offered.as_ref().unwrap().len(), 2);
    assert!(tls.failure.is_some() && tls.version.is_none());
}

#[tokio::test]
async fn plain_text_from_a_tls_port_is_a_tls_error() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let client = sidecar(listener.local_addr().unwrap(), LIMIT);
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _gone = stream.read_to_end(&mut rest).await;
    });
    let exchange = client.exchange(&get("https://edition.cnn.com/")).await;
    serving.await.unwrap();
    assert_eq!(error_kind(&exchange), ExchangeErrorKind::Tls);
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_error() {
    assert_eq!(
        error_kind(&against(Script::Answer(b"SSH-2.0-x\r\n\r\n".to_vec())).await),
        ExchangeErrorKind::Protocol
    );
    let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(200_000));
    assert_eq!(error_kind(&against(Script::Answer(huge.into_bytes())).await), ExchangeErrorKind::Protocol);
}

#[tokio::test]
async fn a_server_that_stalls_runs_into_the_timeout_request() {
    for script in [Vec::new(), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nslow".to_vec()] {
        let (address, task) = scripted(Script::Stall(script)).await;
        let limit = Duration::from_millis(100);
        let exchange = sidecar(address, limit).exchange(&get("http://edition.cnn.com/")).await;
        assert_eq!(error_kind(&exchange), ExchangeErrorKind::Timeout);
        assert!(error(&exchange).message.contains("request"), "named");
        assert!(exchange.duration_us >= 100_000);
        assert!(
            exchange.hops[0].sent.starts_with("GET / HTTP/1.1\r\n"),
            "what was sent is known nevertheless"
        );
        // The connection is gone, too.
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_body_beyond_the_bounds_is_cut_and_reading_stops() {
    for (length, read) in [(100_000, 100_000), (64 * 1024 * 1024, MAX_BODY_READ)] {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + usize::try_from(length).unwrap(), b'z');
        let exchange = against(Script::Answer(answer)).await;
        let response = response(&exchange);
        assert_eq!((response.body.len(), response.body_truncated), (MAX_BODY_KEPT, true));
        assert!(response.body_bytes >= read && response.body_bytes < read + 1024 * 1024);
    }
}

#[tokio::test]
async fn a_circle_of_redirects_ends_after_the_bound() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let client = sidecar(listener.local_addr().unwrap(), LIMIT);
    let circling = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            let answer = b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    });
    let request = RequestSpec { follow_redirects: true, ..get("http://edition.cnn.com/first") };
    let exchange = client.exchange(&request).await;
    circling.abort();
    assert_eq!(exchange.hops.len(), MAX_HOPS);
    assert_eq!(exchange.hops[1].url, "http://edition.cnn.com/again");
    assert_eq!(response(&exchange).status, 302);
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_spoken_in_plain_text() {
    let (address, task) = scripted(Script::Answer(Vec::new())).await;
    let request = RequestSpec { http: HttpChoice::Http2, ..get("http://edition.cnn.com/") };
    let exchange = sidecar(address, LIMIT).exchange(&request).await;
    assert!(task.await.unwrap().starts_with(b"PRI * HTTP/2.0\r\n\r\n"));
    assert!(exchange.hops[0].sent.starts_with("PRI * HTTP/2.0\r\n\r\n"));
    assert_ne!(error_kind(&exchange), ExchangeErrorKind::Other, "{exchange:#?}");
}

#[tokio::test]
async fn a_port_without_a_route_and_a_broken_url_are_the_suites_own_errors() {
    let client = sidecar(([127, 0, 0, 1], 9).into(), LIMIT);
    for url in ["http://edition.cnn.com:8080/", "not a url", "ftp://edition.cnn.com/", "http://"] {
        let exchange = client.exchange(&get(url)).await;
        assert_eq!(error_kind(&exchange), ExchangeErrorKind::ClientFailed, "{url}");
        assert_eq!((exchange.hops.len(), exchange.hops[0].sent_bytes), (1, 0));
    }
    let unsendable = RequestSpec { headers: vec![("x".into(), "a\nb".into())], ..get("http://a/") };
    assert_eq!(error_kind(&client.exchange(&unsendable).await), ExchangeErrorKind::ClientFailed);
}

#[tokio::test]
async fn a_server_name_may_differ_from_the_urls_host() {
    let store = Store::new();
    let spec = site(PlainPort::Closed, Some(open_port(&parties().server)));
    let service = start_embedded(spec, store.clone(), &Timeouts::default()).await.unwrap();
    let client = sidecar(service.address(443).unwrap(), LIMIT);
    let request =
        RequestSpec { server_name: Some(HOST.to_owned()), ..get("https://gateway.example/politics") };
    let exchange = client.exchange(&request).await;
    assert_eq!(response(&exchange).status, 200, "{exchange:#?}");
    let [seen] = requests(&store).try_into().unwrap();
    assert_eq!(seen.authority, "gateway.example");
    assert_eq!(seen.tls.unwrap().server_name.as_deref(), Some(HOST));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn each_request_has_its_own_connection() {
    let store = Store::new();
    let spec = ExternalSpec {
        pages: vec![Page { path: "/".to_owned(), content_type: "text/plain".into(), body: "x".to_owned() }],
        ..site(PlainPort::Serve, None)
    };
    let service = start_embedded(spec, store.clone(), &Timeouts::default()).await.unwrap();
    let client = client_of(&*service);
    for _ in 0..3 {
        assert_eq!(response(&client.exchange(&get("http://edition.cnn.com/")).await).status, 200);
    }
    let numbers: Vec<_> = requests(&store).iter().map(|r| r.connection).collect();
    assert_eq!(numbers, [1, 2, 3]);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_raw_probe_tells_closed_open_and_reset_apart() {
    let (address, task) = scripted(Script::Answer(b"bye".to_vec())).await;
    let reply = raw(address, b"\r\n\r\n", LIMIT).await;
    assert_eq!((reply.received.as_slice(), reply.end), (&b"bye"[..], RawEnd::Closed));
    task.await.unwrap();
    let (address, task) = scripted(Script::Reset).await;
    assert_eq!(raw(address, b"\r\n\r\n", LIMIT).await.end, RawEnd::Reset);
    task.await.unwrap();
    let (address, task) = scripted(Script::Stall(b"some".to_vec())).await;
    let reply = raw(address, b"\r\n\r\n", Duration::from_millis(50)).await;
    assert_eq!((reply.received.as_slice(), reply.end), (&b"some"[..], RawEnd::Open));
    task.await.unwrap();
}

#[tokio::test]
async fn roots_that_are_none_are_a_client_error() {
    let made = WorkloadClient::new("sleep", Route::default(), "nothing here", &timeouts(LIMIT));
    assert!(made.unwrap_err().to_string().contains("trust roots"));
}
