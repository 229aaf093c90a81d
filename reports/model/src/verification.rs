//! What `meshproof verify` says about a user's configuration: where requests go, and what is wrong.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::Report;

/// The schema of [`Verification`], by name and version.
pub const SCHEMA: &str = "meshproof.verification/1";

/// The whole answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verification {
    /// [`SCHEMA`].
    pub schema: String,
    /// The version of meshproof.
    pub meshproof: String,
    /// The files that were read, as they were named; empty where a cluster was.
    pub files: Vec<String>,
    /// The cluster and namespace whose resources in force were read, in words; absent where files were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// How many resources they hold.
    pub resources: usize,
    /// What is wrong, the most severe first.
    pub findings: Vec<Finding>,
    /// What is worth knowing and is not wrong. The same form as findings, with the severity `note`.
    pub notes: Vec<Finding>,
    /// Where requests go.
    pub flows: Vec<Flow>,
    /// What was not read and is taken to be there: Services of gateways, sidecars.
    pub assumed: Vec<String>,
    /// What was not looked at, each with the reason.
    pub passed_over: Vec<String>,
    /// What real requests showed: the report of the proof, with its checks and their evidence. Absent where no request was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Box<Report>>,
    /// The requests that the proof could not send, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_proved: Vec<String>,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Requests succeed, and not as safely as the configuration says, or a part of it has no effect.
    Warning,
    /// Requests fail, or leave the mesh in plain text although the configuration says that TLS is opened.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// `MP0001`; never reused.
    pub code: String,
    /// The code's name: `double-tls`.
    pub name: String,
    /// How much it matters.
    pub severity: Severity,
    /// Which resource: `DestinationRule default/partner`.
    pub resource: String,
    /// Where.
    pub at: Place,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What happens to which request, in one sentence.
    pub effect: String,
    /// How to fix it, if there is one way.
    pub fix: Option<Fix>,
    /// What a real request showed about it; absent without proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
}

/// A place in a file, or in a resource that was read from a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// As it was named. Of a cluster's resource: `ServiceEntry shop/partner`.
    pub file: String,
    /// From 1; 0 where there is no file.
    pub line: usize,
    /// From 1, in characters; 0 where there is no file.
    pub column: usize,
    /// The field of a cluster's resource: `spec.ports[0].protocol`. Absent in files, and for a whole resource.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl Place {
    /// Whether it is in a file, with a line.
    #[must_use]
    pub fn is_in_file(&self) -> bool {
        self.line > 0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_in_file() {
            write!(f, "{}:{}:{}", self.file, self.line, self.column)
        } else if self.field.is_empty() {
            f.write_str(&self.file)
        } else {
            write!(f, "{} {}", self.file, self.field)
        }
    }
}

/// A change that removes the cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fix {
    /// What to do, in one sentence.
    pub summary: String,
    /// The resource to patch, or to create: `DestinationRule default/partner`.
    pub resource: String,
    /// YAML: a JSON patch (RFC 6902), as `kubectl patch --type json` takes it, or a whole resource. Empty where only the
    /// author can know the values.
    pub patch: String,
    /// Whether the plan was made again with the patch and no longer shows the fault.
    pub confirmed: bool,
}

/// Where one kind of request goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flow {
    /// The proxy that takes the request first: `sleep.default`.
    pub from: String,
    /// `http://edition.cnn.com/politics`, `https://HOST/`, `tcp://HOST:3306`.
    pub request: String,
    /// What distinguishes it from other requests for the same URL: `method POST`, `x-user: 1`. Absent: a plain GET.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<String>,
    /// The proxies that it passes, in order, each with the cluster that it chooses.
    pub hops: Vec<FlowHop>,
    /// Its outcome.
    pub outcome: Outcome,
    /// Whether it leaves the mesh without TLS.
    pub plain_text: bool,
}

impl Flow {
    /// The request with what distinguishes it from others for the same URL.
    #[must_use]
    pub fn shown(&self) -> String {
        if self.conditions.is_empty() {
            self.request.clone()
        } else {
            format!("{} ({})", self.request, self.conditions.join(", "))
        }
    }
}

/// One proxy on a request's way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowHop {
    /// `istio-egressgateway.istio-system`.
    pub proxy: String,
    /// The route that decided, as `VirtualService default/news, http[0]`; empty: no VirtualService did.
    pub route: String,
    /// `outbound|443||edition.cnn.com`.
    pub cluster: String,
}

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Outcome {
    /// A proxy opens TLS to the server.
    Originated {
        /// Which proxy.
        by: String,
        /// Where it connects to: `HOST:PORT`.
        to: String,
        /// The server name of the ClientHello; absent: none is sent.
        server_name: Option<String>,
        /// Whom the proxy trusts, in words.
        trust: String,
        /// Which names the certificate must hold, in words.
        names: String,
        /// The client certificate, in words; absent: none.
        client_certificate: Option<String>,
        /// Whether the request is inside TLS of the client's own: TLS inside TLS.
        inside_clients_tls: bool,
    },
    /// The client's own TLS is passed on to the server.
    OwnTls {
        /// `HOST:PORT`.
        to: String,
    },
    /// It arrives without TLS.
    PlainText {
        /// `HOST:PORT`.
        to: String,
    },
    /// It arrives at a service of the mesh.
    Mesh {
        /// `HOST:PORT`.
        to: String,
        /// Whether in mutual TLS of the mesh.
        encrypted: bool,
    },
    /// It does not arrive.
    Fails {
        /// Where it ends; absent: no proxy has anything to do with it.
        at: Option<String>,
        /// The status; absent: the connection is closed.
        status: Option<u16>,
        /// Why, in words.
        why: String,
    },
    /// A proxy answers itself: a redirect, a fixed response.
    Answered {
        /// Which proxy.
        by: String,
        /// The status.
        status: u16,
    },
    /// The files do not say.
    Unknown {
        /// What is missing, in words.
        why: String,
    },
}
