//! What a variant is made of.

use std::sync::Arc;

use http::{Request, response};
use hyper::body::Incoming;
use meshproof_harness::external::ExternalSpec;
use meshproof_local::data_plane::{Boot, LogSink, Update};
use meshproof_model::Resource;
use meshproof_plan::model::Plan;
use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;

use super::placement::Placement;
use crate::hooks::{
    BodyFilter, LocalReply, OutgoingHead, PlaneHooks, ProxyFacts, ProxyHooks, SendHook, TlsConnectionFacts,
    WantedConfig,
};
use crate::log_entry::LogEntry;
use crate::tls::verify::UpstreamVerifier;

/// One variant: a line in a table.
pub(super) struct Definition {
    /// In kebab-case; stable.
    pub(super) name: &'static str,
    /// What it does, in one sentence.
    pub(super) description: &'static str,
    pub(super) behaviour: VariantBehaviour,
    /// The placements at which it is listed as a variant of its own (`NAME@PLACEMENT`), besides everywhere.
    pub(super) placements: &'static [Placement],
}

impl Definition {
    pub(super) const fn new(
        name: &'static str,
        description: &'static str,
        behaviour: VariantBehaviour,
    ) -> Self {
        Self { name, description, behaviour, placements: &[] }
    }

    /// Lists the variant at these placements too, each as a variant of its own.
    pub(super) const fn also_at(self, placements: &'static [Placement]) -> Self {
        Self { placements, ..self }
    }
}

/// What a variant does. Most need one hook, and are one function; `Plane` and `Proxy` may implement any
/// number of hooks and keep state.
#[derive(Clone, Copy)]
pub(super) enum VariantBehaviour {
    // The whole data plane
    /// Changes the resources before the plan is made.
    Resources(fn(&mut Vec<Resource>)),
    /// Changes an external service before it is deployed.
    ExternalService(fn(&mut ExternalSpec)),
    /// Changes the plan.
    Plan(fn(&mut Plan)),
    /// Changes the plan or the credentials.
    Configuration(fn(&mut WantedConfig, &Update<'_>, &Boot)),
    /// Any hooks, made once per data plane.
    Plane(fn() -> Box<dyn PlaneHooks>),

    // Each proxy
    /// Changes or answers a request as it arrives.
    Arrived(fn(&mut Request<Incoming>) -> Option<LocalReply>),
    /// Changes the head of a request on its way upstream.
    RequestHead(fn(&mut OutgoingHead<'_>)),
    /// Replaces the step that sends a request.
    Sending(&'static dyn SendHook),
    /// Changes the TLS parameters of an upstream connection.
    ClientTls(fn(&TlsConnectionFacts<'_>, &mut ClientConfig)),
    /// Replaces the verification of the server's certificate.
    Verifier(fn(&TlsConnectionFacts<'_>, Arc<UpstreamVerifier>) -> Arc<dyn ServerCertVerifier>),
    /// Changes the head of a response.
    ResponseHead(fn(&mut response::Parts)),
    /// Filters the body of a response.
    ResponseBody(fn() -> Box<dyn BodyFilter>),
    /// Changes what an access-log line says.
    LogEntry(fn(&mut LogEntry)),
    /// Replaces the writing of an access-log line: proxy, line, and where it goes.
    LogLine(fn(&str, String, &Arc<dyn LogSink>)),
    /// Any hooks, made once per proxy.
    Proxy(fn(&ProxyFacts<'_>) -> Arc<dyn ProxyHooks>),
}
