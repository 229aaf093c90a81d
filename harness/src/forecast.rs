//! What the configuration in force promises for a request, in the terms of the evidence. A target that works out the
//! configuration itself can say it; the ledger holds the evidence against it.

use std::fmt;

use meshproof_model::{Feature, PeerCertificate};

use crate::probe::Probe;

/// Who sends a request.
#[derive(Clone, Copy, Debug)]
pub enum Sender<'a> {
    /// A workload, through its sidecar.
    Workload(&'a str),
    /// The suite itself, past every proxy but the one that is asked.
    Probe(&'a Probe),
}

/// A request as its client sent it.
#[derive(Clone, Copy, Debug)]
pub struct SentRequest<'a> {
    /// Who sent it.
    pub sender: Sender<'a>,
    /// `GET`.
    pub method: &'a str,
    /// `http://edition.cnn.com/politics`.
    pub url: &'a str,
    /// Host or `:authority`.
    pub authority: &'a str,
    /// The server name of the client's own TLS.
    pub server_name: Option<&'a str>,
    /// Whether it is HTTP, and not a conversation over TCP.
    pub http: bool,
    /// Name in lower case, and value.
    pub headers: &'a [(String, String)],
}

/// One state of the configuration.
pub trait Forecast: Send + Sync {
    /// What it promises for this request.
    fn of(&self, request: &SentRequest<'_>) -> Promise;

    /// The same where it leaves a choice, as a route with weights does: one of these must come true.
    fn all(&self, request: &SentRequest<'_>) -> Vec<Promise> {
        vec![self.of(request)]
    }
}

/// What must become of a request.
#[derive(Clone, Debug)]
pub enum Promise {
    /// A server receives it, once.
    Arrives(Box<Arrival>),
    /// No server receives it.
    Ends {
        /// The status of the proxy's answer; absent: it refuses in any way.
        status: Option<u16>,
        /// Why, in a few words.
        why: String,
        /// The proxies that handle it as HTTP, in order, and so log a line for it; the last one ends it.
        proxies: Vec<String>,
    },
    /// The configuration leaves it open, or the target does not work it out.
    Open,
}

/// How a request must arrive.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The features that this way needs.
    pub needs: Vec<Feature>,
    /// The proxies on its way, in order.
    pub proxies: Vec<Passage>,
    /// The server's host, as the evidence names it.
    pub host: String,
    /// The server's port, as the documents number it.
    pub port: u16,
    /// The transport on the last connection.
    pub transport: Transport,
    /// Host or `:authority`.
    pub authority: String,
    /// Path and query.
    pub target: String,
    /// Changes to the request's headers.
    pub request_headers: Vec<HeaderEdits>,
    /// Changes to the answer's headers, in the order in which they are made.
    pub answer_headers: Vec<HeaderEdits>,
    /// The time limit of the routes on the way, in milliseconds: a request that is not answered by then fails, best with 504.
    pub timeout_ms: Option<u64>,
}

/// A proxy on a request's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The proxy's name.
    pub proxy: String,
    /// The cluster that it sends to, as its access log names it.
    pub cluster: String,
    /// The `address:port` that it connects to.
    pub upstream: String,
    /// The server name with which the proxy before it opens TLS to it; absent if that is not known.
    pub server_name: Option<String>,
    /// Whether it handles HTTP, and so logs a line for each request.
    pub http: bool,
}

/// The transport on the last connection to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Plain text.
    Clear,
    /// The client's own TLS, which the proxies pass on.
    OwnTls,
    /// Mutual TLS of the mesh.
    Mesh,
    /// TLS that a proxy opens for the client.
    Originated(Originated),
}

impl Transport {
    /// Whether the server sees TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        match self {
            Self::Clear => false,
            Self::OwnTls | Self::Mesh | Self::Originated(_) => true,
        }
    }
}

/// TLS that a proxy opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Originated {
    /// The proxy.
    pub by: String,
    /// The ClientHello's server name.
    pub server_name: Option<String>,
    /// The client certificate that the proxy presents to a server that requests one.
    pub client_certificate: Option<PeerCertificate>,
    /// Whether the proxy accepts the certificate that the server presents.
    pub server: ServerCheck,
}

/// Whether a server's certificate is acceptable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerCheck {
    /// It is.
    Accepted,
    /// It must be refused, for this reason.
    Refused(String),
    /// TLS libraries differ, or it is not known.
    Open,
}

/// Changes to headers, in this order: remove, set, add. Names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Removed.
    pub remove: Vec<String>,
    /// Replaced or added.
    pub set: Vec<(String, String)>,
    /// Added beside what is there.
    pub add: Vec<(String, String)>,
}

impl HeaderEdits {
    /// Carries them out.
    pub fn apply(&self, headers: &mut Vec<(String, String)>) {
        headers.retain(|(name, _)| !self.remove.contains(name));
        for (name, value) in &self.set {
            headers.retain(|(n, _)| n != name);
            headers.push((name.clone(), value.clone()));
        }
        headers.extend(self.add.iter().cloned());
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clear => f.write_str("in plain text"),
            Self::OwnTls => f.write_str("inside the client's own TLS"),
            Self::Mesh => f.write_str("over mutual TLS of the mesh"),
            Self::Originated(o) => write!(f, "over TLS opened by {}", o.by),
        }
    }
}
