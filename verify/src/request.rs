//! A request, and what happens to it.

use meshproof_model::ResourceId;
use meshproof_plan::model::Origination;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scheme {
    Http,
    /// TLS of the client's own.
    Https,
    /// Bytes that are neither.
    Tcp,
}

/// A request as its client sends it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ask {
    pub(crate) scheme: Scheme,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) method: String,
    /// Name in lower case, and value.
    pub(crate) headers: Vec<(String, String)>,
}

impl Ask {
    pub(crate) fn new(scheme: Scheme, host: &str, port: u16, path: &str) -> Self {
        let (host, path, method) = (host.to_owned(), path.to_owned(), "GET".to_owned());
        Self { scheme, host, port, path, method, headers: Vec::new() }
    }

    /// What distinguishes it from other requests for the same URL, in words.
    pub(crate) fn conditions(&self) -> Vec<String> {
        let method = (self.method != "GET").then(|| format!("method {}", self.method));
        method
            .into_iter()
            .chain(self.headers.iter().map(|(name, value)| format!("{name}: {value}")))
            .collect()
    }

    pub(crate) fn authority(&self) -> String {
        match (self.scheme, self.port) {
            (Scheme::Http, 80) | (Scheme::Https, 443) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }
}

impl std::fmt::Display for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.scheme {
            Scheme::Http => write!(f, "http://{}{}", self.authority(), self.path),
            Scheme::Https => write!(f, "https://{}{}", self.authority(), self.path),
            Scheme::Tcp => write!(f, "tcp://{}:{}", self.host, self.port),
        }
    }
}

/// A layer of encryption around the request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Layer {
    /// The client's own.
    Own(String),
    /// Mutual TLS of the mesh.
    Mesh(String),
    /// Opened by a proxy, by its number.
    Originated { by: usize, server_name: Option<String>, origination: Box<Origination> },
}

impl Layer {
    pub(crate) fn server_name(&self) -> Option<&str> {
        match self {
            Self::Own(name) | Self::Mesh(name) => Some(name),
            Self::Originated { server_name, .. } => server_name.as_deref(),
        }
    }
}

/// One proxy on the way.
#[derive(Clone, Debug)]
pub(crate) struct Hop {
    pub(crate) proxy: usize,
    /// The VirtualService's route that decided.
    pub(crate) route: Option<RouteOf>,
    pub(crate) cluster: String,
    /// Whether the proxy handled it as HTTP.
    pub(crate) http: bool,
    /// Host after any rewrite.
    pub(crate) authority: String,
}

/// A decision on the way.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    pub(crate) proxy: Option<usize>,
    pub(crate) text: String,
    /// What was written that made it.
    pub(crate) because: Option<(ResourceId, String)>,
}

/// The outcome of a request.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) hops: Vec<Hop>,
    pub(crate) decisions: Vec<Decision>,
    pub(crate) end: End,
}

/// Where a request ends.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// At a server.
    Arrives {
        address: String,
        port: u16,
        /// The outermost last; empty: plain text.
        layers: Vec<Layer>,
        /// Outside the mesh.
        external: bool,
    },
    /// A proxy does not pass it on.
    Fails { proxy: usize, status: Option<u16>, why: Why },
    /// A proxy answers.
    Answered { proxy: usize, status: u16 },
    /// The files do not say.
    Unknown(String),
}

/// Why a proxy does not pass a request on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The route names a cluster that does not exist.
    NoCluster(String),
    /// The cluster has no address.
    NoEndpoint(String),
    /// No chain of a gateway's listener takes a connection with this server name (none: plain text).
    NoChain { port: u16, server_name: Option<String> },
    /// A gateway has no listener there.
    NoListener(u16),
    /// No route.
    NoRoute,
    /// Traffic to unknown hosts is not allowed.
    Blocked,
    /// The gateway expects another kind of TLS, or none.
    OtherTls { port: u16, expects: &'static str, gets: &'static str },
    /// The Secret of a credential is not where the proxy reads it, or lacks a key.
    Credential { name: String, lacks: &'static str },
}

/// The route of a VirtualService that took a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RouteOf {
    pub(crate) service: ResourceId,
    /// Its place in `spec.http`.
    pub(crate) index: usize,
}

impl RouteOf {
    pub(crate) fn pointer(&self) -> String {
        format!("/spec/http/{}", self.index)
    }
}

impl std::fmt::Display for RouteOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, http[{}]", self.service, self.index)
    }
}
