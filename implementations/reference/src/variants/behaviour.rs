//! Turns what a variant does into hooks.

use std::sync::Arc;

use http::{Request, response};
use hyper::body::Incoming;
use meshproof_harness::external::ExternalSpec;
use meshproof_local::data_plane::{Boot, LogSink, Update};
use meshproof_model::Resource;
use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;

use super::definition::VariantBehaviour;
use super::placement::AtPlacement;
use super::registry::Variant;
use crate::hooks::{
    BodyFilter, LocalReply, NoHooks, OutgoingHead, PlaneHooks, ProxyFacts, ProxyHooks, SendHook,
    TlsConnectionFacts, WantedConfig,
};
use crate::log_entry::LogEntry;
use crate::tls::verify::UpstreamVerifier;

/// The hooks of a variant, for one data plane; without a variant, those of the honest reference.
pub(crate) fn hooks(variant: Option<Variant>) -> Box<dyn PlaneHooks> {
    let Some(variant) = variant else { return Box::new(NoHooks) };
    let behaviour = variant.behaviour();
    let anywhere: Box<dyn PlaneHooks> =
        if let VariantBehaviour::Plane(make) = behaviour { make() } else { Box::new(behaviour) };
    match variant.placement() {
        None => anywhere,
        Some(placement) => Box::new(AtPlacement::new(placement, anywhere)),
    }
}

impl PlaneHooks for VariantBehaviour {
    fn resources(&self, resources: &mut Vec<Resource>) {
        if let Self::Resources(change) = self {
            change(resources);
        }
    }

    fn external_service(&self, spec: &mut ExternalSpec) {
        if let Self::ExternalService(change) = self {
            change(spec);
        }
    }

    fn configuration(&self, wanted: &mut WantedConfig, update: &Update<'_>, boot: &Boot) {
        if let Self::Plan(change) = self {
            change(&mut wanted.plan);
        } else if let Self::Configuration(change) = self {
            change(wanted, update, boot);
        }
    }

    fn proxy(&self, proxy: &ProxyFacts<'_>) -> Arc<dyn ProxyHooks> {
        if let Self::Proxy(make) = self { make(proxy) } else { Arc::new(*self) }
    }
}

impl ProxyHooks for VariantBehaviour {
    fn arrived(&self, request: &mut Request<Incoming>) -> Option<LocalReply> {
        if let Self::Arrived(see) = self { see(request) } else { None }
    }

    fn request_head(&self, head: &mut OutgoingHead<'_>) {
        if let Self::RequestHead(change) = self {
            change(head);
        }
    }

    fn sending(&self) -> Option<&dyn SendHook> {
        if let Self::Sending(hook) = self { Some(*hook) } else { None }
    }

    fn client_tls(&self, connection: &TlsConnectionFacts<'_>, config: &mut ClientConfig) {
        if let Self::ClientTls(change) = self {
            change(connection, config);
        }
    }

    fn verifier(
        &self,
        connection: &TlsConnectionFacts<'_>,
        honest: Arc<UpstreamVerifier>,
    ) -> Arc<dyn ServerCertVerifier> {
        if let Self::Verifier(replace) = self { replace(connection, honest) } else { honest }
    }

    fn response_head(&self, head: &mut response::Parts) {
        if let Self::ResponseHead(change) = self {
            change(head);
        }
    }

    fn response_body(&self, _head: &response::Parts) -> Option<Box<dyn BodyFilter>> {
        if let Self::ResponseBody(make) = self { Some(make()) } else { None }
    }

    fn log_entry(&self, entry: &mut LogEntry) {
        if let Self::LogEntry(change) = self {
            change(entry);
        }
    }

    fn log_line(&self, proxy: &str, line: String, logs: &Arc<dyn LogSink>) {
        if let Self::LogLine(write) = self {
            write(proxy, line, logs);
        } else {
            NoHooks.log_line(proxy, line, logs);
        }
    }
}
