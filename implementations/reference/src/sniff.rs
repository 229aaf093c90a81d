//! Finds out what a connection begins with: a ClientHello with its server name, HTTP in plain text, or anything else.

use std::io;

use bytes::{Bytes, BytesMut};
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest ClientHello that is read, in bytes; Envoy's TLS inspector stops at 64 KiB
/// (`source/extensions/filters/listener/tls_inspector`).
const MAX_HELLO: usize = 64 * 1024;

/// The content type of a TLS handshake record, RFC 8446 section 5.1.
const HANDSHAKE: u8 = 22;

/// What a connection begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FirstBytes {
    /// It begins with a TLS handshake record.
    pub(crate) tls: bool,
    /// It begins with an HTTP request in plain text. Only found out where a chain depends on it.
    pub(crate) http: bool,
    /// The ClientHello's server name, in lower case.
    pub(crate) server_name: Option<String>,
}

impl FirstBytes {
    /// Of a connection that begins with a ClientHello.
    pub(crate) const fn of_tls(server_name: Option<String>) -> Self {
        Self { tls: true, http: false, server_name }
    }
}

/// Whether plain text is HTTP: the preface of HTTP/2, or the request line of HTTP/1 (Envoy's
/// `source/extensions/filters/listener/http_inspector`). None: more bytes are needed.
fn begins_http(read: &[u8]) -> Option<bool> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    if read.starts_with(PREFACE) {
        return Some(true);
    }
    let Some(end) = read.iter().position(|b| *b == b'\n') else {
        // The method's letters tell most other protocols from HTTP at once.
        let method = read.split(|b| *b == b' ').next().unwrap_or_default();
        return if method.iter().all(|b| is_token(*b)) { None } else { Some(false) };
    };
    if PREFACE.starts_with(read) {
        return None;
    }
    let line = read.get(..end).unwrap_or_default();
    let parts: Vec<&[u8]> = line.strip_suffix(b"\r").unwrap_or(line).split(|b| *b == b' ').collect();
    let [method, target, version] = parts.as_slice() else { return Some(false) };
    let known = *version == b"HTTP/1.1" || *version == b"HTTP/1.0";
    Some(known && !method.is_empty() && method.iter().all(|b| is_token(*b)) && !target.is_empty())
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Reads as much as is needed to tell, and returns what was read. The result is `None` for a connection that
/// ends without a byte. `http`: whether HTTP in plain text is distinguished from other plain text.
///
/// # Errors
/// Reading from the socket failed.
pub(crate) async fn sniff(
    stream: &mut (impl AsyncRead + Unpin),
    http: bool,
) -> io::Result<(Option<FirstBytes>, Bytes)> {
    let mut read = BytesMut::with_capacity(2048);
    if stream.read_buf(&mut read).await? == 0 {
        return Ok((None, read.freeze()));
    }
    if read.first() != Some(&HANDSHAKE) {
        let mut is_http = if http { begins_http(&read) } else { Some(false) };
        while is_http.is_none() && read.len() < MAX_HELLO && stream.read_buf(&mut read).await? > 0 {
            is_http = begins_http(&read);
        }
        let first = FirstBytes { http: is_http.unwrap_or_default(), ..FirstBytes::default() };
        return Ok((Some(first), read.freeze()));
    }
    let mut acceptor = Acceptor::default();
    let mut fed = 0;
    loop {
        while let Some(mut unread) = read.get(fed..).filter(|u| !u.is_empty()) {
            match acceptor.read_tls(&mut unread) {
                Ok(n) if n > 0 => fed += n,
                Ok(_) | Err(_) => break,
            }
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let server_name = accepted.client_hello().server_name().map(str::to_ascii_lowercase);
                    return Ok((Some(FirstBytes::of_tls(server_name)), read.freeze()));
                }
                // Whatever terminates this TLS connection reports what is wrong with it.
                Err(_) => return Ok((Some(FirstBytes::of_tls(None)), read.freeze())),
            }
        }
        if read.len() >= MAX_HELLO || stream.read_buf(&mut read).await? == 0 {
            return Ok((Some(FirstBytes::of_tls(None)), read.freeze()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(name: &str) -> Vec<u8> {
        let config = rustls::ClientConfig::builder_with_provider(meshproof_local::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = rustls_pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = rustls::ClientConnection::new(config.into(), name).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[tokio::test]
    async fn client_hello_read_byte_by_byte_yields_its_server_name_and_all_bytes() {
        let sent = hello("Edition.CNN.com");
        let mut reader = one_byte_at_a_time(&sent);
        let (first, read) = sniff(&mut reader, false).await.unwrap();
        assert_eq!(first, Some(FirstBytes::of_tls(Some("edition.cnn.com".to_owned()))));
        assert_eq!(read, sent);
    }

    #[tokio::test]
    async fn istio_server_name_with_underscores_and_digits_is_accepted() {
        let sent = hello("outbound_.80_.cnn_.istio-egressgateway.istio-system.svc.cluster.local");
        let (first, _) = sniff(&mut sent.as_slice(), false).await.unwrap();
        assert_eq!(
            first.unwrap().server_name.as_deref(),
            Some("outbound_.80_.cnn_.istio-egressgateway.istio-system.svc.cluster.local")
        );
    }

    #[tokio::test]
    async fn plain_http_is_not_tls_and_a_silent_connection_yields_nothing() {
        let (first, read) = sniff(&mut &b"GET / HTTP/1.1\r\n"[..], false).await.unwrap();
        assert_eq!((first, &read[..]), (Some(FirstBytes::default()), &b"GET / HTTP/1.1\r\n"[..]));
        assert_eq!(sniff(&mut &b""[..], false).await.unwrap().0, None);
    }

    #[tokio::test]
    async fn endless_client_hello_is_read_up_to_its_limit() {
        // A handshake message of nearly 64 KiB, one byte per record: six times as much on the wire.
        let message = [1, 0, 0xff, 0xff].into_iter().chain(std::iter::repeat_n(0, 0xffff));
        let endless: Vec<u8> = message.flat_map(|byte| [22, 3, 1, 0, 1, byte]).collect();
        assert!(endless.len() > 5 * MAX_HELLO);
        let (first, read) = sniff(&mut endless.as_slice(), false).await.unwrap();
        assert_eq!(first, Some(FirstBytes::of_tls(None)));
        assert!(read.len() <= 2 * MAX_HELLO, "{}", read.len());
    }

    /// A reader that returns one byte per read.
    fn one_byte_at_a_time(bytes: &[u8]) -> impl AsyncRead + Unpin + '_ {
        struct OneByteReader<'a>(&'a [u8]);
        impl AsyncRead for OneByteReader<'_> {
            fn poll_read(
                mut self: std::pin::Pin<&mut Self>,
                _cx: &mut std::task::Context<'_>,
                buf: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<io::Result<()>> {
                if let Some((first, rest)) = self.0.split_first() {
                    buf.put_slice(&[*first]);
                    self.0 = rest;
                }
                std::task::Poll::Ready(Ok(()))
            }
        }
        OneByteReader(bytes)
    }
}
