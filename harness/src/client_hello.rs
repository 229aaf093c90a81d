//! Reads the ClientHello of a TLS client (RFC 8446, section 4.1.2).

use rustls::server::Acceptor;

/// The fields of a ClientHello that are evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server name, as the client wrote it (RFC 6066, section 3).
    pub server_name: Option<String>,
    /// The ALPN protocols in the client's order (RFC 7301, section 3.1), as lossy UTF-8. Empty: it offered none.
    pub alpn: Vec<String>,
}

impl ClientHello {
    /// Reads the ClientHello at the beginning of what a client sent. None: the bytes contain no complete ClientHello.
    #[must_use]
    pub fn read(mut sent: &[u8]) -> Option<Self> {
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut sent).ok()?;
        let accepted = acceptor.accept().ok()??;
        Some(Self::from(&accepted.client_hello()))
    }
}

impl From<&rustls::server::ClientHello<'_>> for ClientHello {
    fn from(hello: &rustls::server::ClientHello<'_>) -> Self {
        let alpn = hello.alpn().into_iter().flatten();
        Self { server_name: hello.server_name().map(str::to_owned), alpn: alpn.map(alpn_name).collect() }
    }
}

/// An ALPN protocol identifier as text.
#[must_use]
pub fn alpn_name(protocol: &[u8]) -> String {
    String::from_utf8_lossy(protocol).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn sent(server_name: &str, alpn: &[&str]) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = server_name.to_owned().try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn server_name_and_alpn_are_read_in_the_clients_order() {
        let hello = ClientHello::read(&sent("edition.cnn.com", &["h2", "http/1.1"])).unwrap();
        assert_eq!(hello.server_name.as_deref(), Some("edition.cnn.com"));
        assert_eq!(hello.alpn, ["h2", "http/1.1"]);
    }

    #[test]
    fn a_client_hello_without_server_name_and_alpn_is_read() {
        assert_eq!(ClientHello::read(&sent("127.0.0.1", &[])), Some(ClientHello::default()));
    }

    #[test]
    fn incomplete_and_other_bytes_are_no_client_hello() {
        let whole = sent("edition.cnn.com", &[]);
        for bytes in [&whole[..whole.len() - 1], b"", b"GET / HTTP/1.1\r\n\r\n"] {
            assert_eq!(ClientHello::read(bytes), None);
        }
    }
}
