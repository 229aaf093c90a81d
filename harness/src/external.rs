//! The specification of an external service, a server outside the mesh to which TLS is originated. Several kinds of server
//! implement it; all record the same facts.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::conversation::TcpProtocol;

/// The specification of an external service, for every kind of server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExternalSpec {
    /// The host name that it answers for: `edition.cnn.com`.
    pub host: String,
    /// Further hosts that it answers for, at the same address. The evidence names them by `host`.
    pub aliases: Vec<String>,
    /// Whether it serves plain HTTP on port 80, and how.
    pub plain: PlainPort,
    /// Whether it serves HTTPS on port 443, and how.
    pub tls: Option<TlsPort>,
    /// Whether it listens on IPv6, and on IPv6 alone. Only the embedded server does.
    pub ipv6: bool,
    /// Further ports, which do not speak HTTP. Only the embedded server has them.
    pub tcp: Vec<TcpPort>,
    /// The answers by path, on the TLS port (and on the plain port if it serves content). Other paths get 404.
    pub pages: Vec<Page>,
    /// Whether a connection takes one request after another (with the embedded service: one of
    /// HTTP/1.1). In a pod none does.
    pub keep_alive: bool,
}

/// A port that does not speak HTTP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TcpPort {
    /// As the documents number it: 5432.
    pub number: u16,
    /// What is spoken.
    pub protocol: TcpProtocol,
    /// How TLS is spoken; it begins with the first byte. None: plain text.
    pub tls: Option<TlsPort>,
}

/// The kind of server to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExternalChoice {
    /// The suite's choice: nginx if the scenario's document names it and it is installed; otherwise the embedded server.
    #[default]
    Auto,
    /// The embedded server for everything.
    Embedded,
    /// A real nginx for everything; a missing one is an environment error.
    Nginx,
    /// A real nginx in a container for everything; a missing container engine is an environment error.
    Container,
    /// No server: the documents' own hosts on the internet. The suite cannot observe what they receive.
    Live,
}

/// What the document itself uses as its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Documented {
    /// A site on the internet: every kind of server is suitable.
    Site,
    /// A real nginx.
    Nginx,
    /// A server whose evidence or behaviour a stock nginx cannot give (the ALPN that a client offers, a trailer): the
    /// embedded server, regardless of the choice.
    Embedded,
}

/// What the plain port does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlainPort {
    /// Closed: no process listens.
    Closed,
    /// 301 to the same URL with `https`.
    RedirectToHttps,
    /// The same pages as the TLS port.
    Serve,
}

/// What the TLS port does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TlsPort {
    /// PEM: the server's chain.
    pub certificate: String,
    /// PEM: its key.
    pub key: PrivateKeyPem,
    /// PEM: client certificates of these CAs are requested, and required if `refusal` says so; absent: the server requests no certificate.
    pub client_ca: Option<String>,
    /// What a client without an acceptable certificate gets.
    pub refusal: Refusal,
    /// The protocol versions that it offers.
    pub versions: TlsVersions,
    /// The ALPN protocols that it offers.
    pub http: HttpVersions,
    /// Further certificates, for clients that ask for these server names. Only the embedded server has them.
    pub by_name: Vec<NamedCertificate>,
}

/// The certificate of a server that holds several names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NamedCertificate {
    /// The server name that clients ask for, in lower case.
    pub server_name: String,
    /// PEM: the chain, as it is sent. It may be one that a client must refuse, or that no client can read.
    pub certificate: String,
    /// PEM: its key.
    pub key: PrivateKeyPem,
}

/// What a client without an acceptable certificate gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// As nginx does it: the handshake succeeds, the answer is 400 with "No required SSL certificate was sent" or
    /// "The SSL certificate error".
    #[default]
    Http400,
    /// As Go and rustls servers do it: a TLS alert. (A real nginx cannot; it answers 400.)
    Alert,
    /// The answer that every client gets: a certificate is asked for, and none is needed.
    None,
}

/// The TLS versions that a server offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsVersions {
    /// 1.2 and 1.3.
    #[default]
    Both,
    /// Only 1.2.
    Tls12,
    /// Only 1.3.
    Tls13,
}

/// The HTTP versions that a server offers by ALPN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HttpVersions {
    /// `h2` and `http/1.1`.
    #[default]
    Both,
    /// Only `http/1.1`.
    Http1,
    /// Only `h2`.
    Http2,
}

/// One page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page {
    /// The path, without the query; the query is ignored when looking up.
    pub path: String,
    /// `text/html`.
    pub content_type: Cow<'static, str>,
    /// The body.
    pub body: String,
}

/// A private key in PEM. Never shown. It is written as JSON only for the stream to `meshproof serve` ([`crate::served`]), which is no
/// log and no report.
#[derive(Clone, Serialize, Deserialize)]
pub struct PrivateKeyPem(pub String);

impl std::fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(private key withheld)")
    }
}
