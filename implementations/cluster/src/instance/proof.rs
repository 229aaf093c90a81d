//! By what it is known that a change is in force at a proxy.
//!
//! Envoy's configuration dump is preferred wherever it can be read, even where istiod writes a distribution
//! status: `Reconciled` says that proxies acknowledged a version, not that its clusters have warmed or its
//! secrets have arrived, and a refusal counted as an acknowledgement (Istio, issue 30498). Istio 1.23 removed
//! that status (releasenotes/notes/drop-distribution.yaml). Without a dump a canary request shows it, after
//! the status where some control plane still writes one.

use bytes::Bytes;
use meshproof_harness::store::bounded;
use meshproof_harness::target::{ConfigChange, TargetError};
use meshproof_harness::timeouts::Timeout;
use meshproof_model::Resource;
use serde_json::Value;

use super::ready_pod::POLL;
use crate::api::{ApiError, ClusterClient, ExecLimits, PodRef};
use crate::dump::MAX_DUMP;

/// Envoy's admin interface, on the pod's own loopback (Istio, pkg/bootstrap, `proxyAdminPort`).
const ADMIN: u16 = 15_000;
const DUMP: &str = "config_dump?include_eds";
/// How often a dump is requested before it counts as one that cannot be read.
const MAX_ATTEMPTS: usize = 3;
/// How many bytes of the reason are shown.
const MAX_REASON: usize = 300;

/// How one proxy shows which configuration is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// By its configuration dump, over a forwarded port.
    Forwarded,
    /// The same, read by the agent beside it.
    Agent,
    /// By the answer to a canary request; with the reason why its dump cannot be read.
    Canary(String),
}

impl Proof {
    /// Finds the strongest proof that a proxy's pod offers.
    pub(super) async fn of(api: &ClusterClient, pod: &PodRef) -> Self {
        let mut reason = String::new();
        for _ in 0..MAX_ATTEMPTS {
            match Self::Forwarded.dump(api, pod).await {
                Ok(_) => return Self::Forwarded,
                Err(e) => reason = e.to_string(),
            }
            if Self::Agent.dump(api, pod).await.is_ok() {
                return Self::Agent;
            }
            tokio::time::sleep(POLL).await;
        }
        Self::Canary(bounded(&reason, MAX_REASON))
    }

    /// Envoy's whole configuration, with its endpoints.
    ///
    /// # Errors
    /// It cannot be read; where a canary is the proof, it never can.
    pub(super) async fn dump(&self, api: &ClusterClient, pod: &PodRef) -> Result<Value, ApiError> {
        let bytes = match self {
            Self::Forwarded => api.pod_get(pod, ADMIN, &format!("/{DUMP}"), MAX_DUMP).await?,
            Self::Agent => {
                let argv = ["pilot-agent", "request", "GET", DUMP].map(str::to_owned);
                let time = api.timeouts().get(Timeout::ClusterAnswer);
                let limits = ExecLimits { stdout: MAX_DUMP, stderr: 4096, time };
                let output = api.exec(pod, &argv, Bytes::new(), limits).await?;
                if output.code != Some(0) {
                    let words = bounded(&String::from_utf8_lossy(&output.stderr), MAX_REASON);
                    return Err(ApiError::Exec(format!(
                        "pilot-agent in {} cannot read the config dump: {words}",
                        pod.pod
                    )));
                }
                output.stdout
            }
            Self::Canary(reason) => return Err(ApiError::Unavailable(reason.clone())),
        };
        let unreadable =
            |words: &str| ApiError::Unavailable(format!("the config dump of {} is {words}", pod.pod));
        // A dump may have tens of megabytes, which take longer to parse than an async task may block its
        // thread.
        let parsed = tokio::task::spawn_blocking(move || serde_json::from_slice(&bytes)).await;
        let dump: Value = match parsed {
            Ok(parsed) => parsed.map_err(|e| unreadable(&format!("not JSON ({e})")))?,
            Err(e) => return Err(unreadable(&format!("not parsed ({e})"))),
        };
        if dump.get("configs").is_some_and(Value::is_array) {
            Ok(dump)
        } else {
            Err(unreadable("not one of Envoy's (it has no `configs`)"))
        }
    }

    /// As the report names it.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Forwarded => "config dump",
            Self::Agent => "config dump by pilot-agent",
            Self::Canary(_) => "canary",
        }
    }
}

/// What the change needs to show that no canary can; in words.
pub(super) fn beyond_a_canary(change: &ConfigChange) -> Option<&'static str> {
    let names_a_credential = |resource: &Resource| resource.0.to_string().contains("\"credentialName\"");
    let kinds =
        change.apply.iter().map(Resource::kind).chain(change.delete.iter().map(|id| id.kind.as_str()));
    for kind in kinds {
        match kind {
            "Secret" => return Some("a credential"),
            "PeerAuthentication" => return Some("what a proxy requires of its callers"),
            _ => {}
        }
    }
    change.apply.iter().any(names_a_credential).then_some("a credential")
}

/// Why a change is skipped where a canary is the only proof.
pub(super) fn unseen(what: &str, proxy: &str, reason: &str) -> TargetError {
    TargetError::Unable(format!(
        "nothing shows that a change of {what} is in force: the configuration dump of {proxy} cannot be read ({reason}), and a \
         canary request does not show it"
    ))
}

#[cfg(test)]
mod tests {
    use meshproof_model::ResourceId;

    use super::*;
    use meshproof_harness::manifest;

    fn change(yaml: &str) -> ConfigChange {
        ConfigChange { apply: manifest::read("t", yaml, "default").unwrap(), delete: Vec::new() }
    }

    #[test]
    fn no_canary_shows_credentials_or_what_is_required_of_callers() {
        let rule = |tls: &str| {
            change(&format!(
                "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: a}}, \
                 spec: {{host: a.example, trafficPolicy: {{portLevelSettings: [{{port: {{number: 443}}, tls: \
                 {tls}}}]}}}}}}"
            ))
        };
        assert_eq!(beyond_a_canary(&rule("{mode: SIMPLE}")), None);
        assert_eq!(beyond_a_canary(&rule("{mode: MUTUAL, credentialName: c}")), Some("a credential"));
        let withdrawn =
            ResourceId { kind: "Secret".into(), namespace: "istio-system".into(), name: "c".into() };
        let withdrawn = ConfigChange { apply: Vec::new(), delete: vec![withdrawn] };
        assert_eq!(beyond_a_canary(&withdrawn), Some("a credential"));
        let strict = "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: a}, \
            spec: {mtls: {mode: STRICT}}}";
        assert!(beyond_a_canary(&change(strict)).unwrap().contains("callers"));
    }
}
