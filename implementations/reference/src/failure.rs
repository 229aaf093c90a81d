//! Why a request got no response from its upstream, in the words that Envoy uses towards the client and in
//! the access log (`source/common/router/router.cc`, `source/common/http/utility.cc` `resetReasonToString`).

use std::net::SocketAddr;

use http::StatusCode;

/// Why a request got no response from its upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamFailure {
    /// The cluster has no endpoint.
    NoHealthyUpstream,
    /// The plan does not hold the route's cluster.
    NoCluster,
    /// No connection: refused, or the TLS handshake failed, or a credential is missing.
    Connect(String),
    /// The connection ended before the response; with the transport's reason, if there is one.
    Reset(Option<String>),
    /// What came back is not HTTP.
    Protocol,
    /// The route's timeout passed.
    Timeout,
    /// The request's body could not be read from the client.
    Downstream,
}

impl UpstreamFailure {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NoHealthyUpstream | Self::NoCluster | Self::Connect(_) | Self::Reset(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Protocol => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Downstream => StatusCode::BAD_REQUEST,
        }
    }

    /// `%RESPONSE_FLAGS%`.
    pub(crate) fn flag(&self) -> &'static str {
        match self {
            Self::NoHealthyUpstream => "UH",
            Self::NoCluster => "NC",
            Self::Connect(_) => "UF",
            Self::Reset(_) => "UC",
            Self::Protocol => "UPE",
            Self::Timeout => "UT",
            Self::Downstream => "DC",
        }
    }

    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Connect(reason) => Some(reason),
            Self::Reset(reason) => reason.as_deref(),
            Self::NoHealthyUpstream | Self::NoCluster | Self::Protocol | Self::Timeout | Self::Downstream => {
                None
            }
        }
    }

    fn reset_reason(&self) -> &'static str {
        match self {
            Self::Connect(_) => "remote connection failure",
            Self::Protocol => "protocol error",
            Self::Reset(_) | Self::NoHealthyUpstream | Self::NoCluster | Self::Timeout | Self::Downstream => {
                "connection termination"
            }
        }
    }

    /// The body that the client gets.
    pub(crate) fn body(&self) -> String {
        match self {
            Self::NoHealthyUpstream => "no healthy upstream".to_owned(),
            Self::NoCluster => String::new(),
            Self::Timeout => "upstream request timeout".to_owned(),
            Self::Downstream => "downstream disconnected".to_owned(),
            Self::Connect(_) | Self::Reset(_) | Self::Protocol => {
                let mut body = format!(
                    "upstream connect error or disconnect/reset before headers. reset reason: {}",
                    self.reset_reason()
                );
                if let Some(reason) = self.reason() {
                    body.push_str(", transport failure reason: ");
                    body.push_str(reason);
                }
                body
            }
        }
    }

    /// `%RESPONSE_CODE_DETAILS%`.
    pub(crate) fn details(&self) -> String {
        match self {
            Self::NoHealthyUpstream => "no_healthy_upstream".to_owned(),
            Self::NoCluster => "cluster_not_found".to_owned(),
            Self::Timeout => "response_timeout".to_owned(),
            Self::Downstream => "downstream_remote_disconnect".to_owned(),
            Self::Connect(_) | Self::Reset(_) | Self::Protocol => {
                let reset = self.reset_reason();
                match self.reason() {
                    Some(reason) => format!("upstream_reset_before_response_started{{{reset}|{reason}}}"),
                    None => format!("upstream_reset_before_response_started{{{reset}}}"),
                }
            }
        }
    }
}

/// An attempt to send a request that brought no response, and how far it got.
pub(crate) struct FailedAttempt {
    pub(crate) failure: UpstreamFailure,
    /// The upstream address that was tried.
    pub(crate) address: Option<SocketAddr>,
    /// The proxy's own address of the connection, if one was made.
    pub(crate) local: Option<SocketAddr>,
}

impl From<UpstreamFailure> for FailedAttempt {
    fn from(failure: UpstreamFailure) -> Self {
        Self { failure, address: None, local: None }
    }
}

/// Classifies an error of an upstream connection.
pub(crate) fn of_hyper(error: &hyper::Error) -> UpstreamFailure {
    if error.is_parse() {
        return UpstreamFailure::Protocol;
    }
    let mut reason = None;
    let mut cause = std::error::Error::source(error);
    while let Some(e) = cause {
        if let Some(io) = e.downcast_ref::<std::io::Error>() {
            let tls = io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
            if tls {
                reason = Some(format!("TLS error: {io}"));
            }
        }
        cause = e.source();
    }
    UpstreamFailure::Reset(reason)
}
