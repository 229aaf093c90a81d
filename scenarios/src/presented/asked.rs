//! The outcomes of the requests.

use std::collections::BTreeMap;
use std::time::Duration;

use meshproof_harness::certificates::Issued;
use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::mesh::External;

use super::case::{Case, Outcome, PAGE, TEXT};

/// The URL of a host's page.
pub(crate) fn url(host: &str) -> String {
    format!("http://{host}{PAGE}")
}

/// The replies by host.
pub(crate) struct Asked<'a> {
    pub(super) server: External<'a>,
    /// The certificate that the proxy must present; none with one-way TLS.
    pub(super) identity: Option<Issued>,
    pub(super) replies: BTreeMap<String, Reply>,
}

impl Asked<'_> {
    pub(super) fn claim(&self, case: &Case) -> Claim {
        let host = case.host.as_str();
        match &case.outcome {
            Outcome::Accepted => self.accepted(host),
            Outcome::Refused { shown_for, unlike } => self
                .refused_as(host, shown_for)
                .provided(&format!("the same request to {unlike}"), self.accepted(unlike)),
            Outcome::Recorded => self.accepted(host).or_recorded(self.refused(host)),
        }
        .of(host)
    }

    /// The host whose answer took longest, and its reply.
    pub(crate) fn slowest(&self) -> Option<(&str, &Reply)> {
        self.replies.iter().max_by_key(|(_, reply)| reply.took()).map(|(host, reply)| (host.as_str(), reply))
    }

    /// Of the hosts whose requests ended as that of `host`, the one in the middle by the time of its answer. Where a proxy tries again
    /// after a pause, it does so for all that are refused.
    pub(crate) fn typical_like(&self, host: &str) -> Option<&str> {
        let succeeded = |reply: &Reply| reply.exchange.last_response().is_some_and(|r| r.status < 400);
        let like = succeeded(self.reply(host)?);
        let mut same: Vec<(&String, &Reply)> =
            self.replies.iter().filter(|(_, reply)| succeeded(reply) == like).collect();
        same.sort_by_key(|(_, reply)| reply.took());
        same.get(same.len() / 2).map(|(host, _)| host.as_str())
    }

    /// The hosts whose answers took longer than this.
    pub(crate) fn slower_than(&self, limit: Duration) -> impl Iterator<Item = &str> {
        self.replies.iter().filter(move |(_, reply)| reply.took() > limit).map(|(host, _)| host.as_str())
    }

    fn reply(&self, host: &str) -> Option<&Reply> {
        self.replies.get(host)
    }

    /// The page came by one request, in TLS that was opened under the host's name.
    pub(crate) fn accepted(&self, host: &str) -> Claim {
        let Some(reply) = self.reply(host) else { return Claim::all([]) };
        let received = self.server.received(reply);
        let received = match &self.identity {
            Some(client) => received.client_certificate(client),
            None => received.no_client_certificate(),
        };
        reply.ok().body_contains(TEXT).and(received)
    }

    /// The client got a failure and no request arrived, although the server presented the certificate.
    pub(crate) fn refused(&self, host: &str) -> Claim {
        self.refused_as(host, host)
    }

    fn refused_as(&self, host: &str, server_name: &str) -> Claim {
        let Some(reply) = self.reply(host) else { return Claim::all([]) };
        let refused = self.server.certificate_refused(reply);
        refused.and(reply.fails()).and(self.server.during(reply).reached_as(server_name))
    }
}
