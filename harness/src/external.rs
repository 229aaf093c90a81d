//! External services as a scenario asks for them: the servers outside the mesh that TLS is originated to. One specification,
//! several kinds of server that carry it out; all record the same facts.

/// What an external service must be, whatever kind of server it is.
#[derive(Clone, Debug)]
pub struct ExternalSpec {
    /// The host name that it answers for: `edition.cnn.com`.
    pub host: String,
    /// Whether it serves plain HTTP on port 80, and how.
    pub plain: PlainPort,
    /// Whether it serves HTTPS on port 443, and how.
    pub tls: Option<TlsPort>,
    /// What it answers by path, on the TLS port (and on the plain port where that serves content). Other paths: 404.
    pub pages: Vec<Page>,
    /// Whether a connection takes one request after another (with the embedded service: one of
    /// HTTP/1.1). In a pod none does.
    pub keep_alive: bool,
}

/// Which kind of server is to be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExternalChoice {
    /// The suite's choice: nginx for the scenarios whose document names it, where it is installed; else the embedded one.
    #[default]
    Auto,
    /// The embedded one for everything.
    Embedded,
    /// A real nginx for everything; a missing one is an environment error.
    Nginx,
    /// A real nginx in a container for everything; a missing container engine is an environment error.
    Container,
    /// None: the documents' own hosts on the internet, which show nothing of what they saw.
    Live,
}

/// What the document itself uses as its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Documented {
    /// Some site on the internet: any server will do.
    Site,
    /// A real nginx.
    Nginx,
    /// A server whose evidence or behaviour a stock nginx cannot give (the ALPN that a client offers, a trailer): the
    /// embedded one, whatever was chosen.
    Embedded,
}

/// What the plain port does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainPort {
    /// Nobody listens.
    Closed,
    /// 301 to the same URL with `https`.
    RedirectToHttps,
    /// The same pages as the TLS port.
    Serve,
}

/// What the TLS port does.
#[derive(Clone, Debug)]
pub struct TlsPort {
    /// PEM: the server's chain.
    pub certificate: String,
    /// PEM: its key.
    pub key: PrivateKeyPem,
    /// PEM: client certificates of these CAs are asked for, and required where `refusal` says so; absent: none is asked for.
    pub client_ca: Option<String>,
    /// What a client without an acceptable certificate gets.
    pub refusal: Refusal,
    /// Protocol versions on offer.
    pub versions: TlsVersions,
    /// ALPN on offer.
    pub http: HttpVersions,
}

/// What a client without an acceptable certificate gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// TLS versions on offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersions {
    /// 1.2 and 1.3.
    #[default]
    Both,
    /// 1.2 alone.
    Tls12,
    /// 1.3 alone.
    Tls13,
}

/// HTTP versions on offer by ALPN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersions {
    /// `h2` and `http/1.1`.
    #[default]
    Both,
    /// `http/1.1` alone.
    Http1,
    /// `h2` alone.
    Http2,
}

/// One page.
#[derive(Clone, Debug)]
pub struct Page {
    /// The path, without the query; the query is ignored when looking up.
    pub path: String,
    /// `text/html`.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

/// A private key in PEM. Never shown.
#[derive(Clone)]
pub struct PrivateKeyPem(pub String);

impl std::fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(private key withheld)")
    }
}
