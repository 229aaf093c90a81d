//! A client that keeps its connection.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::PATIENCE;
use super::authority::IssuedPem;

#[derive(Debug)]
pub struct TestReply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
    pub trailers: Option<HeaderMap>,
}

impl TestReply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }
}

pub struct TestClient {
    sender: http1::SendRequest<Full<Bytes>>,
    task: tokio::task::JoinHandle<hyper::Result<()>>,
}

impl Drop for TestClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn request(host: &str, target: &str) -> Request<Full<Bytes>> {
    Request::builder()
        .uri(target)
        .header("host", host)
        .header("user-agent", "meshproof/test.00001")
        .body(Full::default())
        .unwrap()
}

impl TestClient {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TokioIo::new(TcpStream::connect(address).await.unwrap())).await
    }

    pub async fn over<I>(io: I) -> Self
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(io).await.unwrap();
        let task = tokio::spawn(connection.with_upgrades());
        Self { sender, task }
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<TestReply> {
        timeout(PATIENCE, async {
            self.sender.ready().await?;
            let response = self.sender.send_request(request).await?;
            read(response).await
        })
        .await
        .expect("an answer in time")
    }

    pub async fn get(&mut self, host: &str, target: &str) -> TestReply {
        self.send(request(host, target)).await.unwrap()
    }

    pub async fn closed(&mut self) {
        timeout(PATIENCE, async {
            while self.sender.ready().await.is_ok() {
                tokio::task::yield_now().await
            }
        })
        .await
        .expect("the connection is closed in time");
    }

    /// Closes the connection; returns when it is closed.
    pub async fn close(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    pub fn sender(&mut self) -> &mut http1::SendRequest<Full<Bytes>> {
        &mut self.sender
    }
}

async fn read(response: http::Response<hyper::body::Incoming>) -> hyper::Result<TestReply> {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned();
    let body = String::from_utf8_lossy(&collected.to_bytes()).into_owned();
    Ok(TestReply { status: parts.status, headers: parts.headers, body, trailers })
}

/// One request on a connection of its own.
pub async fn get(address: SocketAddr, host: &str, target: &str) -> TestReply {
    TestClient::connect(address).await.get(host, target).await
}

pub async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> TestReply {
    TestClient::connect(address).await.send(request).await.unwrap()
}

pub async fn head(address: SocketAddr, host: &str, target: &str) -> TestReply {
    let mut request = request(host, target);
    *request.method_mut() = Method::HEAD;
    send(address, request).await
}

/// One request over HTTP/2 with prior knowledge.
pub async fn get_http2(address: SocketAddr, authority: &str, target: &str) -> TestReply {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let task = tokio::spawn(connection);
    let uri = format!("http://{authority}{target}");
    let request = Request::builder().uri(uri).body(Full::<Bytes>::default()).unwrap();
    let reply = timeout(PATIENCE, async { read(sender.send_request(request).await?).await });
    let reply = reply.await.unwrap().unwrap();
    task.abort();
    reply
}

/// A request over TLS to any server, with a client certificate or without.
pub async fn get_over_mesh(
    address: SocketAddr,
    host: &str,
    identity: Option<&IssuedPem>,
) -> std::io::Result<TestReply> {
    let stream = tls(address, host, identity).await?;
    let mut client = TestClient::over(TokioIo::new(stream)).await;
    client.send(request(host, "/")).await.map_err(std::io::Error::other)
}

/// The same with a client certificate, and with a server name that may differ from the request's host.
pub async fn get_over_mesh_as(
    address: SocketAddr,
    name: &str,
    host: &str,
    identity: &IssuedPem,
) -> std::io::Result<TestReply> {
    let stream = tls(address, name, Some(identity)).await?;
    let mut client = TestClient::over(TokioIo::new(stream)).await;
    client.send(request(host, "/")).await.map_err(std::io::Error::other)
}

/// A TLS connection to any server, with a client certificate or without.
pub async fn tls(
    address: SocketAddr,
    name: &str,
    identity: Option<&IssuedPem>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let builder = rustls::ClientConfig::builder_with_provider(meshproof_local::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(meshproof_local::tls::accept_any_server());
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            let chain = CertificateDer::pem_slice_iter(issued.certificate.as_bytes());
            let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
        }
    };
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, tcp)).await.unwrap()
}
