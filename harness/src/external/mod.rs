//! External services: the servers outside the mesh that TLS is originated to. One specification, several kinds of
//! server that carry it out: the embedded one on rustls, and a real nginx, as a process or in a container. All record
//! the same facts.

mod accepting;
#[cfg(feature = "container")]
mod container;
#[cfg(not(feature = "container"))]
#[path = "no_container.rs"]
mod container;
pub(crate) mod embedded;
mod nginx;
mod pod;

use std::net::SocketAddr;

use meshproof_model::ExternalService;

#[cfg(feature = "container")]
pub use container::{DEFAULT_IMAGE, IMAGE_VARIABLE};
pub use container::{
    LeftContainer, check_container, left_containers, prepare_container, start_nginx_container,
};
pub use embedded::start_embedded;
pub use nginx::{find_nginx, start_nginx};
pub use pod::{POD_CONTROL, POD_FOLDER, PodFiles, PodLine, PodLog, PodService};

/// Whether this build has nginx in a container (the feature `container`).
pub const CONTAINERS: bool = cfg!(feature = "container");

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
    /// None: the documents' own hosts on the internet, which show nothing of what they saw. Only a cluster reaches them.
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
    /// PEM: client certificates of these CAs are required; absent: none is asked for.
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

/// An external service that runs. Dropping it does not stop it; `stop` does.
#[async_trait::async_trait]
pub trait RunningService: Send + Sync {
    /// Kind and version, for the report.
    fn describe(&self) -> ExternalService;

    /// Where the documents' port (80, 443) leads on this machine; none where nobody listens.
    fn address(&self, port: u16) -> Option<SocketAddr>;

    /// Returns when every request that has been answered, and every connection that has been accepted and has ended, is in the
    /// store.
    ///
    /// # Errors
    /// The service died.
    async fn settle(&self) -> Result<(), ExternalError>;

    /// Stops listening and ends what is open. Nothing is left when it returns.
    ///
    /// # Errors
    /// Something could not be ended.
    async fn stop(&self) -> Result<(), ExternalError>;
}

/// What may go wrong with an external service. Always the environment's or the suite's fault.
#[derive(Debug, thiserror::Error)]
pub enum ExternalError {
    /// A program is missing.
    #[error("{program} is not installed or not on PATH: {mend}")]
    Missing {
        /// `nginx`.
        program: String,
        /// What to do about it.
        mend: String,
    },
    /// This build has no containers.
    #[error(
        "this meshproof was built without containers: build it with them (cargo run --release --features container -- run \
         --external container), or do without: --external nginx or --external embedded"
    )]
    NotBuilt,
    /// No container engine answers.
    #[error("no container engine (Docker or Podman) answers ({reason}): {mend}")]
    Engine {
        /// In the client library's words.
        reason: String,
        /// What to do about it.
        mend: String,
    },
    /// An image is missing.
    #[error("the container image {name} is not on this machine: {mend}")]
    Image {
        /// As it was asked for.
        name: String,
        /// What to do about it.
        mend: String,
    },
    /// It did not start.
    #[error("{service} did not start: {reason}")]
    Start {
        /// `nginx for my-nginx.mesh-external.svc.cluster.local`.
        service: String,
        /// With the program's own words.
        reason: String,
    },
    /// It ended on its own.
    #[error("{service} died: {reason}")]
    Died {
        /// Which.
        service: String,
        /// With the program's own words.
        reason: String,
    },
    /// Anything else.
    #[error("{service}: {reason}")]
    Other {
        /// Which.
        service: String,
        /// Why.
        reason: String,
    },
}
