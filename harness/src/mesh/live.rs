//! Runs against the documents' own hosts on the internet. The suite cannot observe what such a host receives, and the host's
//! faults are not the mesh's. So the suite sends requests from outside the mesh, before the document begins and after it
//! ends, and compares the answers with the document.

use meshproof_model::Verdict;

use super::{Client, Mesh, Origin, Stop};
use crate::catalogue::Promise;
use crate::claim::{Claims, Finding};
use crate::external::ExternalChoice;
use crate::target::{Probe, TargetError};
use crate::workload::RequestSpec;

fn host_of(promise: &Promise) -> &str {
    let rest = promise.url.split_once("://").map_or(promise.url.as_str(), |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

impl Mesh {
    /// Whether external services are the documents' own hosts.
    pub(super) fn is_live(&self) -> bool {
        self.setting.seat.external == ExternalChoice::Live
    }

    /// Whether a scenario can deploy hosts that its document does not have: there are none on the internet.
    #[must_use]
    pub fn can_invent_hosts(&self) -> bool {
        !self.is_live()
    }

    /// Checks from outside the mesh that this host answers as the document says.
    ///
    /// # Errors
    /// The environment's: the host answers something else or nothing. The suite's: the scenario does not say what the host
    /// answers. The message says how to fix it.
    pub(super) async fn ask_real_host(&self, host: &str) -> Result<(), Stop> {
        let promises = || self.setting.catalogue.live.iter().filter(|p| host_of(p) == host);
        if promises().next().is_none() {
            return Err(Stop::Suite(format!(
                "the scenario does not say what the real host {host} answers, so it cannot be run with --live"
            )));
        }
        for promise in promises() {
            let request = RequestSpec { follow_redirects: true, ..RequestSpec::get("", "") };
            let client = Client { mesh: self, from: Origin::Probe(Probe::External), request };
            let reply = client.get(&promise.url).await?;
            let last = reply.exchange.hops.len().saturating_sub(1);
            let status = promise.statuses.last().copied().unwrap_or_default();
            let mut kept =
                reply.statuses(&promise.statuses).and(reply.hop(last).answers(status, &promise.version));
            if let (Some(location), Some(first)) = (&promise.location, promise.statuses.first()) {
                kept = kept.and(reply.hop(0).redirects(*first, location));
            }
            if let Some(text) = &promise.body {
                kept = kept.and(reply.last_body_contains(text));
            }
            let finding = self.view(|view| kept.judge(view));
            if finding.verdict != Verdict::Passed {
                return Err(TargetError::Environment(format!(
                    "the real host {host} did not answer as the document says: {} Check name resolution and the internet \
                     connection (of the cluster with --target cluster, otherwise of this machine), or run without --live",
                    finding.reason()
                ))
                .into());
            }
        }
        Ok(())
    }

    /// After the last step: if a real host no longer answers as the document says, the reason why failures are not the
    /// mesh's.
    pub(super) async fn real_hosts_changed(&self) -> Option<String> {
        let hosts = self.state().unobserved.clone();
        for host in hosts {
            if let Err(stop) = self.ask_real_host(&host).await {
                return Some(format!("at the end of the scenario, {stop}"));
            }
        }
        None
    }
}

/// A finding made while a real host did not answer as the document says: only a pass counts.
pub(super) fn in_doubt(finding: Finding, changed: &str) -> Finding {
    match finding.verdict {
        Verdict::Passed | Verdict::Skipped | Verdict::Error => finding,
        Verdict::Failed | Verdict::Inconclusive => Finding {
            verdict: Verdict::Error,
            seen: format!("{} This is not the implementation's fault, because {changed}", finding.reason()),
            ..finding
        },
    }
}
