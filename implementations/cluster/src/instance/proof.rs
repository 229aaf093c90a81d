//! How it is known of a proxy that a change is in force.
//!
//! Envoy's configuration dump is preferred wherever it can be read, also where istiod writes a distribution status: `Reconciled` says
//! that proxies acknowledged a version, not that its clusters have warmed or its secrets have come, and a refusal counted as an
//! acknowledgement (Istio, issue 30498). Istio 1.23 took that status out (releasenotes/notes/drop-distribution.yaml). Where there is
//! no dump, a canary request tells, and the status is waited for before it where somebody still writes it.

use std::time::Duration;

use bytes::Bytes;
use meshproof_harness::store::bounded;
use meshproof_harness::target::{ConfigChange, TargetError};
use meshproof_harness::timeouts::Timeout;
use meshproof_harness::token;
use meshproof_model::Resource;
use meshproof_model::{Fact, Side};
use meshproof_nginx::PodService;
use serde_json::Value;

use super::pods::POLL;
use super::readiness::await_pod;
use super::starting::READY;
use super::{ClusterInstance, Proxy, State, environment};
use crate::api::{Api, ApiError, ExecLimits, PodRef};
use crate::dump::MAX_DUMP;
use crate::manifests::{mesh, nginx};
use crate::relocate::NOWHERE;

/// Envoy's admin interface, on the pod's own loopback (Istio, pkg/bootstrap, `proxyAdminPort`).
const ADMIN: u16 = 15_000;
const DUMP: &str = "config_dump?include_eds";
/// How often a dump is asked for before it counts as one that cannot be read.
const TRIES: usize = 3;
/// How much of the reason is told.
const MAX_REASON: usize = 300;
/// A canary request that takes longer has found no way: it goes to a pod nearby.
const CANARY_PATIENCE: &str = "2";
/// How often a canary is sent; each is a program run in a pod.
const CANARY_POLL: Duration = Duration::from_millis(500);
/// What exec takes beyond the requests.
const OVERHEAD: Duration = Duration::from_secs(20);
/// The part of the timeout `applied` in which a canary must be answered; in the rest it is found out who is to blame.
const PART: f64 = 0.9;

/// How one proxy shows what is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Its configuration dump, over a forwarded port.
    Forwarded,
    /// The same, read by the agent beside it.
    Agent,
    /// A canary request; and why not its dump.
    Canary(String),
}

impl Proof {
    /// Finds out what there is to be had at a proxy's pod, the strongest first.
    pub(super) async fn of(api: &Api, pod: &PodRef) -> Self {
        let mut reason = String::new();
        for _ in 0..TRIES {
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

    /// Everything that an Envoy says of its configuration, its endpoints too.
    ///
    /// # Errors
    /// It cannot be read; by a canary it never can.
    pub(super) async fn dump(&self, api: &Api, pod: &PodRef) -> Result<Value, ApiError> {
        let bytes = match self {
            Self::Forwarded => api.pod_get(pod, ADMIN, &format!("/{DUMP}"), MAX_DUMP).await?,
            Self::Agent => {
                let argv = ["pilot-agent", "request", "GET", DUMP].map(str::to_owned);
                let time = api.timeouts().get(Timeout::ClusterAnswer);
                let limits = ExecLimits { stdout: MAX_DUMP, stderr: 4096, time };
                let told = api.exec(pod, &argv, Bytes::new(), limits).await?;
                if told.code != Some(0) {
                    let words = bounded(&String::from_utf8_lossy(&told.stderr), MAX_REASON);
                    return Err(ApiError::Exec(format!("pilot-agent in {} has no dump: {words}", pod.pod)));
                }
                told.stdout
            }
            Self::Canary(reason) => return Err(ApiError::Unavailable(reason.clone())),
        };
        let unreadable =
            |words: &str| ApiError::Unavailable(format!("the config dump of {} is {words}", pod.pod));
        let dump: Value =
            serde_json::from_slice(&bytes).map_err(|e| unreadable(&format!("not JSON ({e})")))?;
        if dump.get("configs").is_some_and(Value::is_array) {
            Ok(dump)
        } else {
            Err(unreadable("none of Envoy's (it has no `configs`)"))
        }
    }

    /// As the report has it.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Forwarded => "config dump",
            Self::Agent => "config dump by pilot-agent",
            Self::Canary(_) => "canary",
        }
    }
}

/// What a change needs to be seen that no canary shows; in words.
fn beyond_a_canary(change: &ConfigChange) -> Option<&'static str> {
    let names_a_credential = |resource: &Resource| resource.0.to_string().contains("\"credentialName\"");
    let kinds =
        change.apply.iter().map(Resource::kind).chain(change.delete.iter().map(|id| id.kind.as_str()));
    for kind in kinds {
        match kind {
            "Secret" => return Some("a credential"),
            "PeerAuthentication" => return Some("what a proxy demands of its callers"),
            _ => {}
        }
    }
    change.apply.iter().any(names_a_credential).then_some("a credential")
}

/// What istiod says of an object's distribution: none where it says nothing, else whether every proxy has acknowledged this
/// generation (istio.io/api, meta/v1alpha1/status.proto: condition `Reconciled`; `observedGeneration` is a number that
/// protobuf's JSON writes as text).
fn reconciled(object: &Value) -> Option<bool> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let condition = conditions.iter().find(|c| c["type"] == "Reconciled")?;
    let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok());
    let generation = object.pointer("/metadata/generation").and_then(number);
    let observed = object.pointer("/status/observedGeneration").and_then(number);
    let of_this = match (observed, generation) {
        (Some(observed), Some(generation)) => observed >= generation,
        (None, _) | (_, None) => true,
    };
    Some(condition["status"] == "True" && of_this)
}

/// What curl says of requests that all were answered so, each with status 200; see [`ClusterInstance::ask`].
fn answered(bodies: &[&str]) -> String {
    bodies.iter().map(|body| format!("{body}\n200\n")).collect()
}

impl ClusterInstance {
    /// Says how a proxy's convergence is known, and refuses where it cannot be.
    pub(super) fn note_proof(&self, proxy: &Proxy, proof: &Proof, believes: bool) -> Result<(), TargetError> {
        self.noted.convergence(&proxy.name, proof.name());
        let Proof::Canary(reason) = proof else { return Ok(()) };
        let installed = proxy.is_gateway && self.places.gateways_installed();
        // A live run replaces nobody's authorities.
        if !self.is_live() && (installed || !believes) {
            return Err(environment(format!(
                "the configuration dump of {} cannot be read, so that nobody can tell whether it believes the suite's CA ({reason}); \
                 run with gateways of the scenario's own (without --gateways installed), and with an injector that honours \
                 sidecar.istio.io/userVolumeMount",
                proxy.name
            )));
        }
        let text = format!(
            "{}: its configuration dump cannot be read ({reason}); canary requests tell when a change is in force there",
            proxy.name
        );
        self.seat.store.record(Side::Suite, None, Fact::Note { text });
        Ok(())
    }

    /// The proxies of which only a canary tells, with why.
    pub(super) fn by_canary(&self) -> impl Iterator<Item = (&Proxy, String)> {
        self.proxies.iter().filter_map(|proxy| match proxy.proof() {
            Some(Proof::Canary(reason)) => Some((proxy, reason)),
            Some(Proof::Forwarded | Proof::Agent) | None => None,
        })
    }

    /// Refuses a change that could not be known to be in force.
    ///
    /// # Errors
    /// [`TargetError::Unable`], before anything is applied.
    pub(super) fn can_be_seen(&self, change: &ConfigChange) -> Result<(), TargetError> {
        match (beyond_a_canary(change), self.by_canary().next()) {
            (Some(what), Some((proxy, reason))) => Err(unseen(what, &proxy.name, &reason)),
            (None, _) | (_, None) => Ok(()),
        }
    }

    /// The address of the server that canaries are sent to, made when the first is needed.
    pub(super) async fn canary(&self) -> Result<&str, TargetError> {
        let made = self.canary.get_or_try_init(|| async {
            let plan = self.plan();
            let host = mesh::CANARY;
            let service = PodService::same(host, mesh::BEACON_PORT, mesh::CANARY);
            let made = nginx::plain(&plan, "", host, mesh::BEACON_PORT, &service).map_err(environment)?;
            let made: Vec<Resource> = made.into_iter().filter(|r| r.kind() != "Service").collect();
            self.apply_all(&made).await?;
            let pod = await_pod(&self.api, self.places.outside(), host, READY).await?;
            self.note_nginx(&pod);
            self.apply(&mesh::sidecar_beacon(&plan, &pod.address)).await?;
            Ok(pod.address)
        });
        made.await.map(String::as_str)
    }

    /// Sends canaries to one proxy until the beacon of the revision answers: by the proxy itself, which takes the VirtualService (and
    /// the Gateway), and by the server behind it, which takes the ServiceEntry and the DestinationRule's subset. Where somebody
    /// writes a distribution status, that is waited for first.
    pub(super) async fn await_canary(
        &self,
        state: &State,
        proxy: &Proxy,
        reason: &str,
    ) -> Result<(), TargetError> {
        let limit = self.seat.timeouts.get(Timeout::Applied);
        let mut last = "nothing".to_owned();
        let waiting = async {
            loop {
                let status = self.distribution(state.revision).await?;
                if status == Some(false) {
                    last = "its distribution status says that not every proxy has it".to_owned();
                } else {
                    match self.lacks_by_canary(state, proxy).await? {
                        None => return Ok(status.is_some()),
                        Some(lacking) => last = lacking,
                    }
                }
                tokio::time::sleep(CANARY_POLL).await;
            }
        };
        match tokio::time::timeout(limit.mul_f64(PART), waiting).await {
            Ok(Ok(with_status)) => {
                if with_status {
                    self.noted.convergence(&proxy.name, "status and canary");
                }
                Ok(())
            }
            Ok(Err(e)) => Err(e),
            Err(_) => Err(self.unanswered(state, proxy, reason, limit, &last).await),
        }
    }

    /// Who is to blame for a canary without an answer.
    async fn unanswered(
        &self,
        state: &State,
        proxy: &Proxy,
        reason: &str,
        limit: Duration,
        last: &str,
    ) -> TargetError {
        let words = format!(
            "{} did not answer the canary request of revision {} within the timeout `applied` ({limit:?}): {last}",
            proxy.name, state.revision
        );
        let asked = async {
            let address = self.canary().await?;
            self.ask(&self.probe, address, &[format!("http://{}:{}/", mesh::CANARY, mesh::BEACON_PORT)]).await
        };
        match asked.await {
            Ok(told) if told == answered(&[mesh::CANARY]) => {
                TargetError::Gone(format!("{words} (its configuration dump cannot be read: {reason})"))
            }
            Ok(told) => environment(format!(
                "{words}; but the suite's own server, to which it leads, does not answer either ({told:?}): see `kubectl get pods -n {}`",
                self.places.outside()
            )),
            Err(e) => e,
        }
    }

    /// What a proxy's answers lack; none where they are those of this revision.
    async fn lacks_by_canary(&self, state: &State, proxy: &Proxy) -> Result<Option<String>, TargetError> {
        let plan = self.plan();
        let host = mesh::beacon_host(&plan, state.revision);
        let at = |host: &str, path: &str| format!("http://{host}:{}{path}", mesh::BEACON_PORT);
        let mut urls = vec![at(&host, "/"), at(&host, mesh::CANARY_PATH)];
        let mut expected = vec![host.as_str(), mesh::CANARY];
        if !proxy.is_gateway {
            urls.push(at(&mesh::sidecar_host(&plan, state.sidecar), "/"));
            expected.push(mesh::CANARY);
        }
        let (client, address) = if proxy.is_gateway {
            (Some(self.probe.clone()), proxy.address().unwrap_or_default())
        } else {
            // Whatever address it is, the sidecar captures it; without a route nobody answers there.
            (proxy.client(), NOWHERE.to_owned())
        };
        let client = client.ok_or_else(|| environment(format!("{} is not there to be asked", proxy.name)))?;
        let told = self.ask(&client, &address, &urls).await?;
        Ok((told != answered(&expected))
            .then(|| format!("of revision {} it answers {told:?}", state.revision)))
    }

    /// GETs the addresses, all at one place, and returns of each its body and its status, a line each (000 where none came).
    async fn ask(&self, client: &PodRef, address: &str, urls: &[String]) -> Result<String, TargetError> {
        let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let mut argv: Vec<String> = [
            "curl",
            "-q",
            "-s",
            "--globoff",
            "--noproxy",
            "*",
            "--max-time",
            CANARY_PATIENCE,
            "-w",
            "\n%{http_code}\n",
        ]
        .map(str::to_owned)
        .to_vec();
        argv.extend(["--connect-to".to_owned(), format!("::{address}:")]);
        argv.extend(["-A".to_owned(), token::user_agent(&self.fence_token()), "--".to_owned()]);
        argv.extend_from_slice(urls);
        let limits = ExecLimits { stdout: 4096, stderr: 4096, time: OVERHEAD };
        let told = self.api.exec(client, &argv, Bytes::new(), limits).await.map_err(ApiError::blame)?;
        Ok(bounded(&String::from_utf8_lossy(&told.stdout), 1000))
    }

    /// What istiod says of the beacon's distribution: none where it says nothing of any of its resources.
    async fn distribution(&self, revision: u64) -> Result<Option<bool>, TargetError> {
        let beacon = mesh::beacon(&self.plan(), revision, None, None);
        let mut all = None;
        for resource in &beacon {
            let found = self.api.get(resource.kind(), resource.namespace(), resource.name()).await;
            if let Some(says) = found.map_err(ApiError::blame)?.as_ref().and_then(reconciled) {
                all = Some(all.unwrap_or(true) && says);
            }
        }
        Ok(all)
    }
}

/// Why something is skipped where only a canary tells.
pub(super) fn unseen(what: &str, proxy: &str, reason: &str) -> TargetError {
    TargetError::Unable(format!(
        "a proof that a change of {what} is in force: the configuration dump of {proxy} cannot be read ({reason}), and a canary \
         request does not show it"
    ))
}

#[cfg(test)]
mod tests {
    use meshproof_model::ResourceId;
    use serde_json::json;

    use super::*;
    use meshproof_harness::manifest;

    #[test]
    fn a_distribution_status_counts_for_its_own_generation_alone_and_where_there_is_one() {
        let object = |status: &str, observed: Value| {
            json!({ "metadata": { "generation": 3 }, "status": { "observedGeneration": observed,
                    "conditions": [{ "type": "PassedValidation", "status": "True" }, { "type": "Reconciled", "status": status }] } })
        };
        assert_eq!(reconciled(&object("True", json!("3"))), Some(true));
        assert_eq!(reconciled(&object("True", json!(3))), Some(true));
        assert_eq!(reconciled(&object("True", json!("2"))), Some(false), "of the generation before");
        assert_eq!(reconciled(&object("False", json!("3"))), Some(false));
        assert_eq!(reconciled(&json!({ "metadata": { "generation": 3 } })), None);
        let other = json!({ "status": { "conditions": [{ "type": "PassedValidation", "status": "True" }] } });
        assert_eq!(reconciled(&other), None);
    }

    fn change(yaml: &str) -> ConfigChange {
        ConfigChange { apply: manifest::read("t", yaml, "default").unwrap(), delete: Vec::new() }
    }

    #[test]
    fn credentials_and_demands_of_callers_show_in_no_canary() {
        let rule = |tls: &str| {
            change(&format!(
                "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: a}}, \
                 spec: {{host: a.example, trafficPolicy: {{portLevelSettings: [{{port: {{number: 443}}, tls: {tls}}}]}}}}}}"
            ))
        };
        assert_eq!(beyond_a_canary(&rule("{mode: SIMPLE}")), None);
        assert_eq!(beyond_a_canary(&rule("{mode: MUTUAL, credentialName: c}")), Some("a credential"));
        let withdrawn =
            ResourceId { kind: "Secret".into(), namespace: "istio-system".into(), name: "c".into() };
        let withdrawn = ConfigChange { apply: Vec::new(), delete: vec![withdrawn] };
        assert_eq!(beyond_a_canary(&withdrawn), Some("a credential"));
        let strict = "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: a}, spec: {mtls: {mode: STRICT}}}";
        assert!(beyond_a_canary(&change(strict)).unwrap().contains("callers"));
    }
}
