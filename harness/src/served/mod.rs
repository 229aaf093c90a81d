//! The suite's own external services and workload client in another process, `meshproof serve`: on this machine, or in a pod of a
//! cluster.
//!
//! The process speaks JSON lines on standard input and standard output, as an adapter does. The suite asks, the process answers each
//! question once, in any order. Between the answers it sends evidence at the moment at which it is recorded. So when it has answered
//! `settle`, all evidence has arrived before the answer. Certificates and keys travel in this stream and are never written to a file.
//! When its input ends, the process ends, and with it every server and connection.

mod session;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use meshproof_model::{Evidence, Exchange, ExternalService};
use serde::{Deserialize, Serialize};

pub use session::{Served, ServedError, Setup};

use crate::external::ExternalSpec;
use crate::workload::RequestSpec;

/// The version of the protocol. The suite and the image in a cluster may be of different versions.
pub const PROTOCOL: u32 = 1;

/// The most bytes of a line: a body of a request or an answer, encoded, and what belongs to it.
pub const MAX_LINE: usize = 32 * 1024 * 1024;

/// A question of the suite.
#[derive(Debug, Serialize, Deserialize)]
pub struct Question {
    /// The answer has the same number.
    pub id: u64,
    /// What it asks for.
    pub ask: Ask,
}

/// What the suite asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Ask {
    /// The first question. Answer: `hello`.
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
        /// The client to send with; absent: nothing is sent.
        client: Option<Sender>,
        /// Timeouts by their names, in milliseconds.
        timeouts_ms: BTreeMap<String, u64>,
    },
    /// Starts an external service. Answer: `serving`.
    Serve {
        /// What it does.
        spec: Box<ExternalSpec>,
        /// Where it listens.
        listen: Listen,
    },
    /// Sends requests. Answer: `sent`.
    Send {
        /// In their order.
        requests: Vec<RequestSpec>,
        /// Over one connection, where that is possible: over HTTP/2 at once, otherwise one after the other.
        in_line: bool,
        /// Where they are sent.
        to: Vec<Towards>,
    },
    /// Answer `settled` once the evidence of every exchange and every connection that has ended was sent.
    Settle,
    /// What has arrived at a client in another process. No answer.
    Arrived {
        /// The token of the request.
        token: String,
        /// How many bytes of the answer's body.
        bytes: u64,
    },
    /// Stops every service. Answer: `stopped`; then the process ends.
    Stop,
}

/// A client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sender {
    /// The workload that it is the client of.
    pub name: String,
    /// PEM: the authorities that it trusts.
    pub roots: String,
}

/// Where a service listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Listen {
    /// On loopback, on ports that are free.
    Loopback,
    /// On every address, on the documents' own ports.
    Everywhere,
}

/// Where requests are sent. The first entry whose host and port are absent or those of the URL is used; no name is resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Towards {
    /// In lower case; absent: any.
    pub host: Option<String>,
    /// Absent: any.
    pub port: Option<u16>,
    /// The address to connect to.
    pub address: IpAddr,
    /// The port to connect to; absent: the URL's.
    pub at_port: Option<u16>,
}

/// What the process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// The answer to a question.
    Answer {
        /// The question's number.
        id: u64,
        /// The answer.
        answer: Answer,
    },
    /// A piece of evidence, or a piece with a known id that has changed. Its times are by the clock of the process.
    Evidence(Box<Evidence>),
    /// A server sends an answer piece by piece, and waits to hear how much of it has arrived.
    Watches {
        /// The token of the request.
        token: String,
    },
    /// It waits no longer.
    Watched {
        /// The token of the request.
        token: String,
    },
    /// A client has so many bytes of an answer's body.
    Arrived {
        /// The token of the request.
        token: String,
        /// How many bytes.
        bytes: u64,
    },
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Answer {
    /// It is ready.
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
        /// Of meshproof.
        version: String,
        /// Its clock now, in microseconds.
        now_us: u64,
    },
    /// The service listens.
    Serving {
        /// For the report.
        service: ExternalService,
        /// The documents' ports, each with its address.
        addresses: Vec<(u16, SocketAddr)>,
    },
    /// The exchanges, in the order of the requests.
    Sent {
        /// One per request.
        exchanges: Vec<Ended>,
    },
    /// All evidence was sent.
    Settled,
    /// Nothing listens any more.
    Stopped,
    /// The environment's or the suite's fault, in words.
    Failed {
        /// What went wrong.
        reason: String,
    },
}

/// An exchange, and when it ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ended {
    /// What happened.
    pub exchange: Exchange,
    /// By the clock of the process, in microseconds.
    pub ended_us: u64,
}
