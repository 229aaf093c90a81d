//! An upstream server that records what it received.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{Acceptor, WebPkiClientVerifier};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::LazyConfigAcceptor;

use super::authority::IssuedPem;

/// What a TLS handshake showed.
#[derive(Clone, Debug, Default)]
pub struct SeenHello {
    pub sni: Option<String>,
    pub alpn: Vec<String>,
    pub client_certificate: Option<Vec<u8>>,
    pub completed: bool,
    /// The server answered the first ClientHello with a HelloRetryRequest.
    pub retried: bool,
    /// The session was resumed.
    pub resumed: bool,
    /// The first cipher suite that was offered.
    pub first_cipher: String,
    /// The key exchange that was agreed on.
    pub group: String,
}

/// A request as received.
#[derive(Clone, Debug)]
pub struct SeenRequest {
    pub method: String,
    pub target: String,
    pub host: String,
    pub version: Version,
    pub headers: HeaderMap,
    pub body_bytes: usize,
    pub trailers: Option<HeaderMap>,
}

#[derive(Default)]
pub struct ServerRecord {
    pub connections: AtomicUsize,
    pub hellos: Mutex<Vec<SeenHello>>,
    pub requests: Mutex<Vec<SeenRequest>>,
    /// `/held` is answered when this is notified.
    pub release: Notify,
    pub holding: AtomicUsize,
}

impl ServerRecord {
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.requests.lock().unwrap().clone()
    }

    #[track_caller]
    pub fn only_request(&self) -> SeenRequest {
        let all = self.requests();
        assert_eq!(all.len(), 1, "{all:#?}");
        all[0].clone()
    }

    pub fn hellos(&self) -> Vec<SeenHello> {
        self.hellos.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

pub struct TestServer {
    pub address: SocketAddr,
    pub memory: Arc<ServerRecord>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Versions of TLS.
pub type Versions = &'static [&'static rustls::SupportedProtocolVersion];

/// 1.2 alone.
pub const TLS12: Versions = &[&rustls::version::TLS12];
/// 1.3 alone.
pub const TLS13: Versions = &[&rustls::version::TLS13];

/// How a server does TLS.
#[derive(Clone)]
pub struct TestServerTls {
    pub issued: IssuedPem,
    pub client_ca: Option<String>,
    pub alpn: &'static [&'static str],
    pub versions: Versions,
}

impl TestServerTls {
    pub fn of(issued: IssuedPem) -> Self {
        Self { issued, client_ca: None, alpn: &["http/1.1"], versions: rustls::ALL_VERSIONS }
    }

    pub fn config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.versions)
            .unwrap();
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = CertificateDer::pem_slice_iter(self.issued.certificate.as_bytes());
        let chain = chain.map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(self.issued.key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = self.alpn.iter().map(|a| a.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

impl TestServer {
    pub async fn plain() -> Self {
        Self::start(None).await
    }

    pub async fn tls(issued: IssuedPem) -> Self {
        Self::start(Some(TestServerTls::of(issued))).await
    }

    pub async fn start(tls: Option<TestServerTls>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let memory = Arc::new(ServerRecord::default());
        let config = tls.map(|t| t.config());
        let kept = memory.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                kept.connections.fetch_add(1, Ordering::SeqCst);
                let (memory, config) = (kept.clone(), config.clone());
                connections.spawn(async move {
                    match config {
                        None => serve(memory, TokioIo::new(tcp)).await,
                        Some(config) => handshake(memory, config, tcp).await,
                    }
                });
            }
        });
        Self { address, memory, task }
    }
}

async fn handshake(memory: Arc<ServerRecord>, config: Arc<ServerConfig>, tcp: TcpStream) {
    let Ok(start) = LazyConfigAcceptor::new(Acceptor::default(), tcp).await else { return };
    let hello = start.client_hello();
    let seen = SeenHello {
        sni: hello.server_name().map(str::to_owned),
        alpn: hello.alpn().into_iter().flatten().map(|a| String::from_utf8_lossy(a).into_owned()).collect(),
        first_cipher: format!("{:?}", hello.cipher_suites().first()),
        ..SeenHello::default()
    };
    let index = {
        let mut all = memory.hellos.lock().unwrap();
        all.push(seen);
        all.len() - 1
    };
    let Ok(stream) = start.into_stream(config).await else { return };
    let session = stream.get_ref().1;
    let certificate = session.peer_certificates().and_then(|c| c.first()).map(|c| c.to_vec());
    let retried = session.handshake_kind() == Some(rustls::HandshakeKind::FullWithHelloRetryRequest);
    let resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    let group = session.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()));
    {
        let mut all = memory.hellos.lock().unwrap();
        all[index].group = group.unwrap_or_default();
        all[index].client_certificate = certificate;
        all[index].completed = true;
        all[index].retried = retried;
        all[index].resumed = resumed;
    }
    serve(memory, TokioIo::new(stream)).await;
}

type Body = BoxBody<Bytes, Infallible>;

async fn serve<I>(memory: Arc<ServerRecord>, io: I)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let memory = memory.clone();
        async move {
            let closes = request.uri().path() == "/closed";
            let response = answer(&memory, request).await;
            // hyper closes the connection.
            if closes { Err(std::io::Error::other("asked to close")) } else { Ok(response) }
        }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection_with_upgrades(io, service).await;
}

async fn answer(memory: &ServerRecord, mut request: Request<Incoming>) -> Response<Body> {
    let upgrade = request.headers().contains_key("upgrade").then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let collected = body.collect().await.ok();
    let trailers = collected.as_ref().and_then(|c| c.trailers().cloned());
    let body = collected.map(|c| c.to_bytes()).unwrap_or_default();
    let host = parts
        .uri
        .authority()
        .map(|a| a.to_string())
        .or_else(|| parts.headers.get("host").map(|h| h.to_str().unwrap().to_owned()))
        .unwrap_or_default();
    memory.requests.lock().unwrap().push(SeenRequest {
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().map(|p| p.to_string()).unwrap_or_default(),
        host,
        version: parts.version,
        headers: parts.headers.clone(),
        body_bytes: body.len(),
        trailers,
    });
    let full = |bytes: Bytes| Full::new(bytes).boxed();
    let mut response = Response::new(full(Bytes::from_static(b"hello")));
    match parts.uri.path() {
        "/echo" => *response.body_mut() = full(body),
        "/json" => {
            *response.body_mut() = full(body);
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
        }
        "/nothing" => {
            *response.status_mut() = StatusCode::NO_CONTENT;
            *response.body_mut() = Empty::new().boxed();
        }
        "/moved" => {
            *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
            response
                .headers_mut()
                .insert("location", HeaderValue::from_static("https://other.example/there"));
        }
        "/fields" => {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            for (name, value) in [
                ("etag", "\"1\""),
                ("www-authenticate", "Basic"),
                ("set-cookie", "a=1"),
                ("set-cookie", "b=2"),
            ] {
                response.headers_mut().append(name, HeaderValue::from_static(value));
            }
        }
        "/broken" => *response.status_mut() = StatusCode::NOT_IMPLEMENTED,
        "/named" => {
            let name = parts.headers.get("x-name").cloned();
            response.headers_mut().insert("x-name", name.unwrap_or(HeaderValue::from_static("none")));
        }
        "/large" => *response.body_mut() = full(Bytes::from(vec![b'x'; 3 << 20])),
        "/chunks" => {
            let frames = (0..5).map(|n| Ok(Frame::data(Bytes::from(format!("chunk {n};")))));
            let mut end = HeaderMap::new();
            end.insert("x-sum", HeaderValue::from_static("5"));
            end.insert("x-after", HeaderValue::from_static("1"));
            let frames = frames.chain([Ok(Frame::trailers(end))]);
            response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum, x-after"));
            *response.body_mut() = StreamBody::new(futures_util::stream::iter(frames)).boxed();
        }
        // Longer than a saboteur without patience waits.
        "/late" => tokio::time::sleep(std::time::Duration::from_millis(600)).await,
        "/held" => {
            memory.holding.fetch_add(1, Ordering::SeqCst);
            memory.release.notified().await;
        }
        "/echo-socket" => {
            let upgrade = upgrade.unwrap();
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                let (mut read, mut write) = tokio::io::split(&mut io);
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
            response.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
            *response.body_mut() = Empty::new().boxed();
        }
        _ => {}
    }
    response
}
