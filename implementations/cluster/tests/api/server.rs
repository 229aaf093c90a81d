//! A Kubernetes API on loopback, for what a service cannot imitate: connections that are upgraded to
//! WebSocket, and streams that are reset.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use meshproof_cluster::api::ClusterClient;
use meshproof_harness::timeouts::Timeouts;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use crate::service::{ApiRequest, status};

/// The server's end of a connection that was upgraded.
pub(crate) struct Channels(WebSocketStream<TokioIo<Upgraded>>);

impl Channels {
    /// Sends bytes of one channel.
    pub(crate) async fn send(&mut self, channel: u8, bytes: impl AsRef<[u8]>) {
        let mut frame = vec![channel];
        frame.extend_from_slice(bytes.as_ref());
        // Some tests are about a client that is gone.
        let _gone = self.0.send(Message::binary(frame)).await;
    }

    /// The next frame with its channel.
    pub(crate) async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            match self.0.next().await?.ok()? {
                Message::Binary(bytes) if !bytes.is_empty() => return Some((bytes[0], bytes[1..].to_vec())),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    /// Reports the end of a program.
    pub(crate) async fn exit(&mut self, status: &Value) {
        self.send(3, status.to_string()).await;
        let _gone = self.0.close(None).await;
    }
}

/// What the server does with a request.
pub(crate) enum Reply {
    /// A whole answer.
    Whole(u16, Bytes),
    /// Upgrades the connection and hands it to the future; when that is done, the connection is dropped.
    Switch(Box<dyn FnOnce(Channels) -> BoxFuture<'static, ()> + Send>),
    /// These bytes as a chunked body, and then the connection is cut (or closed properly).
    Stream { bytes: Bytes, ends_well: bool },
}

impl Reply {
    pub(crate) fn status(code: u16, reason: &str, message: &str) -> Self {
        Self::Whole(code, status(code, reason, message).to_string().into())
    }

    pub(crate) fn switch<F>(go_on: impl FnOnce(Channels) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::Switch(Box::new(move |channels| Box::pin(go_on(channels))))
    }
}

type Replies = Arc<Mutex<dyn FnMut(&ApiRequest) -> Reply + Send>>;

/// A running server; no request may need a permission beyond the table.
pub(crate) struct FakeApiServer {
    pub(crate) api: ClusterClient,
    asked: Arc<Mutex<Vec<ApiRequest>>>,
    task: tokio::task::JoinHandle<()>,
}

impl FakeApiServer {
    pub(crate) async fn answering(reply: impl FnMut(&ApiRequest) -> Reply + Send + 'static) -> Self {
        Self::answering_within(Timeouts::default(), reply).await
    }

    pub(crate) async fn answering_within(
        timeouts: Timeouts,
        reply: impl FnMut(&ApiRequest) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<ApiRequest>>> = Arc::default();
        let (keep, reply): (_, Replies) = (Arc::clone(&asked), Arc::new(Mutex::new(reply)));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&keep), Arc::clone(&reply)));
            }
        });
        Self { api: ClusterClient::with_client(client(address), timeouts), asked, task }
    }

    pub(crate) fn asked(&self) -> Vec<ApiRequest> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for FakeApiServer {
    fn drop(&mut self) {
        self.task.abort();
        if !std::thread::panicking() {
            let beyond: Vec<String> = self.asked().iter().filter_map(ApiRequest::beyond_the_table).collect();
            assert!(beyond.is_empty(), "not in the table of permissions: {beyond:?}");
        }
    }
}

fn client(address: SocketAddr) -> kube::Client {
    let mut config = kube::Config::new(format!("http://{address}").parse().unwrap());
    config.default_retry = false;
    kube::Client::try_from(config).unwrap()
}

/// One connection. A stream that is to be cut is written by hand: hyper would close it properly.
async fn serve(mut stream: TcpStream, keep: Arc<Mutex<Vec<ApiRequest>>>, reply: Replies) {
    let mut head = vec![0; 16 * 1024];
    let Ok(count) = stream.peek(&mut head).await else { return };
    let line = String::from_utf8_lossy(&head[..count]);
    if line.lines().next().is_some_and(|l| l.contains("/log?")) {
        return serve_log(&mut stream, &keep, &reply).await;
    }
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (keep, reply) = (Arc::clone(&keep), Arc::clone(&reply));
        async move { Ok::<_, std::convert::Infallible>(respond(request, &keep, &reply).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ended = connection.with_upgrades().await;
}

fn reply_to(
    method: &str,
    target: &str,
    body: Value,
    keep: &Mutex<Vec<ApiRequest>>,
    reply: &Replies,
) -> Reply {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let asked = ApiRequest {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        accept: String::new(),
        body,
    };
    keep.lock().unwrap().push(asked.clone());
    (reply.lock().unwrap())(&asked)
}

async fn respond(
    mut request: Request<Incoming>,
    keep: &Mutex<Vec<ApiRequest>>,
    reply: &Replies,
) -> Response<BoxBody<Bytes, std::convert::Infallible>> {
    let target = request.uri().path_and_query().unwrap().to_string();
    let empty = || Full::new(Bytes::new()).boxed();
    let body = match request.method().as_str() {
        "GET" => Value::Null,
        _ => {
            let body = request.body_mut().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
            serde_json::from_slice(&body).unwrap_or_default()
        }
    };
    match reply_to(request.method().as_str(), &target, body, keep, reply) {
        Reply::Whole(code, body) => {
            // The next request, such as one for a log, gets its own connection.
            Response::builder()
                .status(code)
                .header("connection", "close")
                .body(Full::new(body).boxed())
                .unwrap()
        }
        Reply::Switch(go_on) => {
            let key = request.headers()["sec-websocket-key"].clone();
            let accept = derive_accept_key(key.as_bytes());
            tokio::spawn(async move {
                let upgraded = hyper::upgrade::on(request).await.unwrap();
                let stream =
                    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
                go_on(Channels(stream)).await;
            });
            Response::builder()
                .status(StatusCode::SWITCHING_PROTOCOLS)
                .header("connection", "Upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-accept", accept)
                .header("sec-websocket-protocol", "v5.channel.k8s.io")
                .body(empty())
                .unwrap()
        }
        Reply::Stream { .. } => panic!("only logs are streamed"),
    }
}

async fn serve_log(stream: &mut TcpStream, keep: &Mutex<Vec<ApiRequest>>, reply: &Replies) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut line = head.lines().next().unwrap_or_default().split(' ');
    let (method, target) = (line.next().unwrap(), line.next().unwrap());
    let written = match reply_to(method, target, Value::Null, keep, reply) {
        Reply::Whole(code, body) => {
            let head = format!(
                "HTTP/1.1 {code} Status\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            [head.as_bytes(), &body].concat()
        }
        Reply::Stream { bytes, ends_well } => {
            let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n", bytes.len());
            let end: &[u8] = if ends_well { b"\r\n0\r\n\r\n" } else { b"" };
            [head.as_bytes(), &bytes, end].concat()
        }
        Reply::Switch(_) => panic!("a log is not switched over"),
    };
    let _gone = stream.write_all(&written).await;
    let _gone = stream.shutdown().await;
}
