//! Saboteurs of long uploads, old versions, pipelines and streams, and of what is between two versions of HTTP.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::external::HttpVersions;
use meshproof_harness::external_server::Site;
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;
use meshproof_harness::traffic::{
    AnswerFraming, AnswerSpec, ClientHttp, GeneratedConnection, GeneratedExchange,
};
use meshproof_local::external::start_embedded;
use meshproof_local::workload::{Route, WorkloadClient};
use meshproof_plan::model::{Cluster, NameCheck, Origination, UpstreamProtocol, UpstreamTls};
use tokio::net::TcpStream;

use super::streams::{before, listening, read_until, whole};
use crate::situation::{Situation, SituationOutcome, differs};
use crate::support::plans::{self, EXTERNAL, HOST};
use crate::support::server::TestServer;
use crate::support::{Bench, free, reference};
use tokio::io::AsyncWriteExt as _;

#[tokio::test]
async fn a_long_upload_without_a_length_is_cut() {
    const LONG: usize = 5 << 20;
    for (saboteur, arrived) in [(None, LONG), (Some("cut-long-uploads"), 4 << 20)] {
        let server = TestServer::plain().await;
        let (_bench, bind) = before(saboteur, server.address).await;
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        whole(bind, &format!("{head}{LONG:x}\r\n{}\r\n0\r\n\r\n", "a".repeat(LONG))).await;
        assert_eq!(server.memory.only_request().body_bytes, arrived, "{saboteur:?}");
    }
}

#[tokio::test]
async fn the_second_request_of_a_pipeline_is_lost() {
    for (saboteur, lost) in [(None, false), (Some("lose-pipelined-requests"), true)] {
        let server = TestServer::plain().await;
        let (_bench, bind) = before(saboteur, server.address).await;
        let mut client = TcpStream::connect(bind).await.unwrap();
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        client.write_all((get("/first") + &get("/second")).as_bytes()).await.unwrap();
        read_until(&mut client, "hello").await;
        // Another request on the connection shows that the second one is not only late.
        client.write_all(get("/third").as_bytes()).await.unwrap();
        read_until(&mut client, "hello").await;
        if !lost {
            read_until(&mut client, "hello").await;
        }
        let targets: Vec<String> = server.memory.requests().into_iter().map(|r| r.target).collect();
        let expected: &[&str] = if lost { &["/first", "/third"] } else { &["/first", "/second", "/third"] };
        assert_eq!(targets, expected, "{saboteur:?}");
    }
}

#[tokio::test]
async fn cookies_stay_divided() {
    for (saboteur, expected) in [(None, vec!["a=1; b=2"]), (Some("keep-divided-cookies"), vec!["a=1", "b=2"])]
    {
        let server = TestServer::plain().await;
        let (_bench, bind) = before(saboteur, server.address).await;
        let io = TokioIo::new(TcpStream::connect(bind).await.unwrap());
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        let driving = tokio::spawn(connection);
        let request =
            Request::builder().uri(format!("http://{HOST}/")).header("cookie", "a=1").header("cookie", "b=2");
        sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        driving.abort();
        let seen = server.memory.only_request();
        let cookies: Vec<&str> = seen.headers.get_all("cookie").iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!(cookies, expected, "{saboteur:?}");
    }
}

#[tokio::test]
async fn an_offer_of_http2_or_another_host_is_sent() {
    let offering = |s: &mut Situation| {
        s.headers =
            vec![("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "AAM")];
    };
    let upgrade = |saw: &SituationOutcome| {
        let value = saw.tls_requests[0].headers.get("upgrade");
        value.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    differs("pass-h2c-upgrade", offering, upgrade, "", "h2c").await;
    let named = |s: &mut Situation| {
        s.origination.names = NameCheck::OneOf(vec!["other.example".to_owned(), HOST.to_owned()]);
    };
    let host = |saw: &SituationOutcome| saw.tls_requests[0].host.clone();
    differs("host-from-subject-alt-names", named, host, HOST, "other.example").await;
}

#[tokio::test]
async fn a_failure_has_no_flag_or_a_broken_answer_no_line() {
    let distrust = |s: &mut Situation| s.trusted = false;
    let flagged = |saw: &SituationOutcome| saw.lines[0].contains(" 503 UF ").to_string();
    differs("log-no-flags-of-failures", distrust, flagged, "true", "false").await;
    for (saboteur, count) in [(None, 1), (Some("log-no-broken-answers"), 0)] {
        let (socket, address) = listening().await;
        let (bench, bind) = before(saboteur, address).await;
        tokio::spawn(async move {
            let (mut stream, _) = socket.accept().await.unwrap();
            read_until(&mut stream, "\r\n\r\n").await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
                .await
                .unwrap();
        });
        whole(bind, &format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(bench.lines("sleep").await.len(), count, "{saboteur:?}");
    }
}

#[tokio::test]
async fn a_stream_that_the_server_resets_takes_the_others_with_it() {
    for (saboteur, statuses) in [(None, [200, 503, 200]), (Some("end-streams-together"), [503; 3])] {
        let public = Authority::new(KeyAlgorithm::EcdsaP256).unwrap();
        let site = Site::at(HOST).certificate(&public.server(HOST).issue().unwrap());
        let (store, timeouts) = (Store::default(), Timeouts::default());
        let spec = site.http_versions(HttpVersions::Http2).into_parts().0;
        let server = start_embedded(spec, store.clone(), &timeouts).await.unwrap();
        let mut bench = Bench::with(reference(saboteur), public.certificate_pem()).await;
        let bind = free();
        let origination = Origination { alpn: vec!["h2".to_owned()], ..plans::simple() };
        let tls = Some(UpstreamTls::Originate(origination));
        let cluster = plans::cluster(EXTERNAL, server.address(443).unwrap(), tls);
        let cluster = Cluster { protocol: UpstreamProtocol::Http2, ..cluster };
        bench.apply(&plans::plan(vec![plans::sidecar(bind, cluster)])).await;
        let route = Route::default().and(HOST, 80, bind);
        let client = WorkloadClient::new("sleep", route, public.certificate_pem(), &timeouts).unwrap();
        let post = |answer: AnswerSpec| GeneratedExchange {
            method: "POST".to_owned(),
            answer,
            ..GeneratedExchange::plain(HOST)
        };
        let late = || post(AnswerSpec { delay_ms: 300, ..AnswerSpec::plain() });
        let reset = post(AnswerSpec { framing: AnswerFraming::NoAnswer, ..AnswerSpec::plain() });
        let connection = GeneratedConnection {
            client: ClientHttp::Http2,
            exchanges: vec![late(), reset, late()],
            ..GeneratedConnection::of(late())
        };
        let answers = client.in_line(&connection.requests().unwrap()).await;
        let seen: Vec<u16> =
            answers.iter().map(|a| a.exchange.last_response().map_or(0, |r| r.status)).collect();
        assert_eq!(seen, statuses, "{saboteur:?}");
    }
}
