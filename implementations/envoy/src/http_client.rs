//! An HTTP client for one listener of an Envoy on loopback: the admin interface, or the flush marker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use rustls::{ClientConfig, RootCertStore};

/// The longest body that is read, in bytes.
const MAX_BODY: usize = 16 * 1024 * 1024;
/// The longest that one response may take.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends requests to one address and keeps its connection.
pub(crate) struct HttpClient {
    address: SocketAddr,
    client: Client,
}

impl HttpClient {
    /// # Errors
    /// The client cannot be made; the cause in words.
    pub(crate) fn new(address: SocketAddr) -> Result<Self, String> {
        let client = Client::builder()
            .tls_backend_preconfigured(no_tls().map_err(|e| e.to_string())?)
            // A proxy that the environment names has no route to this machine's loopback.
            .no_proxy()
            .redirect(Policy::none())
            .timeout(RESPONSE_TIMEOUT)
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|e| causes(&e))?;
        Ok(Self { address, client })
    }

    /// Returns the status and the body of a GET.
    ///
    /// # Errors
    /// No response within ten seconds, or a body of more than 16 MiB; the cause in words.
    pub(crate) async fn get(&self, path: &str) -> Result<(StatusCode, String), String> {
        let url = format!("http://{}{path}", self.address);
        let mut response = self.client.get(url).send().await.map_err(|e| causes(&e))?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| causes(&e))? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(format!("the response to {path} is longer than {MAX_BODY} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status(), String::from_utf8_lossy(&body).into_owned()))
    }
}

/// A TLS configuration that trusts no server. These requests are plain text, and reqwest without a
/// configuration panics when no process-wide cryptographic provider is installed.
fn no_tls() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(versions.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// An error with everything that caused it: reqwest's own text leaves the causes out.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers each connection with `response` once it has read a request, then closes it.
    async fn serve(response: Vec<u8>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    // The client may have given up.
                    let _closed = stream.write_all(&response).await;
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn a_connection_that_the_server_closed_is_opened_again() {
        let response = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno".to_vec();
        let client = HttpClient::new(serve(response).await).unwrap();
        for _ in 0..3 {
            let (status, body) = client.get("/ready").await.unwrap();
            assert_eq!((status.as_u16(), body.as_str()), (503, "no"));
        }
    }

    #[tokio::test]
    async fn a_body_beyond_the_bound_is_an_error() {
        let mut response = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        response.resize(MAX_BODY + 1024, b'x');
        let error = HttpClient::new(serve(response).await).unwrap().get("/stats").await.unwrap_err();
        assert!(error.contains("/stats is longer than"), "{error}");
    }

    #[tokio::test]
    async fn a_refused_connection_is_named_as_the_cause() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = HttpClient::new(address).unwrap().get("/stats").await.unwrap_err();
        assert!(error.to_lowercase().contains("connection refused"), "{error}");
    }
}
