//! Canary requests: how a proxy whose configuration dump cannot be read shows that a change is in force.

use std::time::Duration;

use bytes::Bytes;
use meshproof_harness::store::bounded;
use meshproof_harness::target::{ConfigChange, TargetError};
use meshproof_harness::timeouts::Timeout;
use meshproof_harness::token;
use meshproof_harness::workload::RequestSpec;
use meshproof_model::{Fact, Resource, Side};
use meshproof_nginx::PodService;
use serde_json::Value;

use super::proof::{Proof, beyond_a_canary, unseen};
use super::readiness::{READY, await_pod};
use super::state::{ClusterInstance, InForce, ScenarioProxy, environment};
use crate::api::{ApiError, ExecLimits, PodRef};
use crate::curl::Route;
use crate::manifests::{mesh, nginx};
use crate::relocate::NOWHERE;

/// How many seconds a canary request may take: it goes to a pod nearby.
const CANARY_SECONDS: &str = "2";
/// How often a canary is sent; each is a program run in a pod.
const CANARY_POLL: Duration = Duration::from_millis(500);
/// What exec takes beyond the requests.
const OVERHEAD: Duration = Duration::from_secs(20);
/// The part of the timeout `applied` in which a canary must be answered; the rest is left to find out who is
/// to blame.
const PART: f64 = 0.9;

/// istiod's status of an object's distribution: none where there is none, else whether every proxy has
/// acknowledged this generation (istio.io/api, meta/v1alpha1/status.proto: condition `Reconciled`;
/// `observedGeneration` is a number that protobuf's JSON writes as text).
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

/// Whether curl's output is that of requests that were all answered with status 200 and these bodies, where one is expected; see
/// [`ClusterInstance::ask`].
fn answered(output: &str, bodies: &[Option<&str>]) -> bool {
    let mut rest = output;
    for body in bodies {
        let Some((seen, after)) = rest.split_once("\n200\n") else { return false };
        let is_status = |line: &str| line.len() == 3 && line.bytes().all(|byte| byte.is_ascii_digit());
        if body.is_some_and(|body| body != seen) || seen.lines().any(is_status) {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

impl ClusterInstance {
    /// Notes by what a proxy's convergence is known, and refuses where it cannot be known.
    pub(super) fn note_proof(
        &self,
        proxy: &ScenarioProxy,
        proof: &Proof,
        trusts_suite_ca: bool,
    ) -> Result<(), TargetError> {
        self.noted.convergence(&proxy.name, proof.name());
        let Proof::Canary(reason) = proof else { return Ok(()) };
        let installed = proxy.is_gateway && self.places.gateways_installed();
        // A live run replaces no authorities.
        if !self.is_live() && (installed || !trusts_suite_ca) {
            return Err(environment(format!(
                "the configuration dump of {} cannot be read, so it is unknown whether the proxy trusts the \
                 suite's CA ({reason}); \
                 run with gateways of the scenario's own (without --gateways installed), and with an \
                 injector that honours \
                 sidecar.istio.io/userVolumeMount",
                proxy.name
            )));
        }
        let text = format!(
            "{}: its configuration dump cannot be read ({reason}); canary requests show when a change is in \
             force there",
            proxy.name
        );
        self.seat.store.record(Side::Suite, None, Fact::Note { text });
        Ok(())
    }

    /// The proxies whose only proof is a canary, each with the reason.
    pub(super) fn by_canary(&self) -> impl Iterator<Item = (&ScenarioProxy, String)> {
        self.proxies.iter().filter_map(|proxy| match proxy.proof() {
            Some(Proof::Canary(reason)) => Some((proxy, reason)),
            Some(Proof::Forwarded | Proof::Agent) | None => None,
        })
    }

    /// Refuses a change that no proof could show to be in force.
    ///
    /// # Errors
    /// [`TargetError::Unable`], before anything is applied.
    pub(super) fn can_be_seen(&self, change: &ConfigChange) -> Result<(), TargetError> {
        match (beyond_a_canary(change), self.by_canary().next()) {
            (Some(what), Some((proxy, reason))) => Err(unseen(what, &proxy.name, &reason)),
            (None, _) | (_, None) => Ok(()),
        }
    }

    /// The address of the server that canary requests lead to, created when the first one is needed.
    pub(super) async fn canary(&self) -> Result<&str, TargetError> {
        let made = self.canary.get_or_try_init(|| async {
            let context = self.context();
            let host = mesh::CANARY;
            let service = PodService::same(host, mesh::MARKER_PORT, mesh::CANARY);
            let made = nginx::plain(&context, "", host, mesh::MARKER_PORT, &service).map_err(environment)?;
            let made: Vec<Resource> = made.into_iter().filter(|r| r.kind() != "Service").collect();
            self.apply_all(&made).await?;
            let pod = await_pod(&self.api, self.places.outside(), host, READY).await?;
            self.note_nginx(&pod);
            self.apply(&mesh::sidecar_marker(&context, &pod.address)).await?;
            Ok(pod.address)
        });
        made.await.map(String::as_str)
    }

    /// Sends canaries to one proxy until the marker of the revision answers: by the proxy itself, which takes
    /// the VirtualService (and the Gateway), and by the server behind it, which takes the ServiceEntry and
    /// the DestinationRule's subset. Where a control plane writes a distribution status, that is waited for
    /// first.
    pub(super) async fn await_canary(
        &self,
        state: &InForce,
        proxy: &ScenarioProxy,
        reason: &str,
    ) -> Result<(), TargetError> {
        let limit = self.seat.timeouts.get(Timeout::Applied);
        let mut last = "nothing".to_owned();
        let waiting = async {
            loop {
                let status = self.distribution(state.revision).await?;
                if status == Some(false) {
                    last = "its distribution status says that not every proxy has acknowledged it".to_owned();
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

    /// Finds out who is to blame for a canary without an answer.
    async fn unanswered(
        &self,
        state: &InForce,
        proxy: &ScenarioProxy,
        reason: &str,
        limit: Duration,
        last: &str,
    ) -> TargetError {
        let timed_out = |last: String| TargetError::TimedOut {
            timeout: Timeout::Applied,
            limit,
            what: format!("{} to answer the canary request of revision {}", proxy.name, state.revision),
            last: Some(last),
        };
        let asked = async {
            let address = self.canary().await?;
            self.ask(&self.probe, address, &[format!("http://{}:{}/", mesh::CANARY, mesh::MARKER_PORT)]).await
        };
        match asked.await {
            Ok(output) if answered(&output, &[Some(mesh::CANARY)]) => {
                timed_out(format!("{last} (its configuration dump cannot be read: {reason})"))
            }
            Ok(output) => environment(format!(
                "{}. The suite's own server, to which it leads, does not answer either ({output:?}): see `kubectl get pods \
                 -n {}`",
                timed_out(last.to_owned()),
                self.places.outside()
            )),
            Err(e) => e,
        }
    }

    /// How a proxy's answers differ from those of this revision; none where they do not.
    async fn lacks_by_canary(
        &self,
        state: &InForce,
        proxy: &ScenarioProxy,
    ) -> Result<Option<String>, TargetError> {
        let context = self.context();
        let host = mesh::marker_host(&context, state.revision);
        let at = |host: &str, path: &str| format!("http://{host}:{}{path}", mesh::MARKER_PORT);
        let mut urls = vec![at(&host, "/"), at(&host, mesh::CANARY_PATH)];
        // The marker itself answers with a body of the proxy's own.
        let mut expected = vec![None, Some(mesh::CANARY)];
        if !proxy.is_gateway {
            urls.push(at(&mesh::sidecar_host(&context, state.sidecar), "/"));
            expected.push(Some(mesh::CANARY));
        }
        let (client, address) = if proxy.is_gateway {
            (Some(self.probe.clone()), proxy.address().unwrap_or_default())
        } else {
            // The sidecar captures any address; without a route nothing answers at this one.
            (proxy.client(), NOWHERE.to_owned())
        };
        let client = client.ok_or_else(|| environment(format!("the proxy {} is not running", proxy.name)))?;
        let output = self.ask(&client, &address, &urls).await?;
        Ok((!answered(&output, &expected))
            .then(|| format!("to revision {} it answers {output:?}", state.revision)))
    }

    /// Sends a GET for each URL to one address, and returns body and status of each, one per line (000 where
    /// no answer came).
    async fn ask(&self, client: &PodRef, address: &str, urls: &[String]) -> Result<String, TargetError> {
        if self.uses_suite_image() {
            return self.ask_by_suite(client, address, urls).await;
        }
        let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let mut argv: Vec<String> = [
            "curl",
            "-q",
            "-s",
            "--globoff",
            "--noproxy",
            "*",
            "--max-time",
            CANARY_SECONDS,
            "-w",
            "\n%{http_code}\n",
        ]
        .map(str::to_owned)
        .to_vec();
        argv.extend(["--connect-to".to_owned(), format!("::{address}:")]);
        argv.extend(["-A".to_owned(), token::user_agent(&self.flush_token()), "--".to_owned()]);
        argv.extend_from_slice(urls);
        let limits = ExecLimits { stdout: 4096, stderr: 4096, time: OVERHEAD };
        let output = self.api.exec(client, &argv, Bytes::new(), limits).await.map_err(ApiError::blame)?;
        Ok(bounded(&String::from_utf8_lossy(&output.stdout), 1000))
    }

    /// The same by the suite's own client.
    async fn ask_by_suite(
        &self,
        client: &PodRef,
        address: &str,
        urls: &[String],
    ) -> Result<String, TargetError> {
        let token = self.flush_token();
        let requests: Vec<RequestSpec> = urls.iter().map(|url| RequestSpec::get(url, &token)).collect();
        let route = Route { address: Some(address), ..Route::default() };
        let mut output = String::new();
        for ended in self.send_by_suite(client, &requests, route, false).await? {
            let answer = ended.exchange.last_response();
            let (body, status) = answer.map_or(("", 0), |response| (response.body.as_str(), response.status));
            output.push_str(&format!("{body}\n{status:03}\n"));
        }
        Ok(bounded(&output, 1000))
    }

    /// istiod's status of the marker's distribution: none where no resource of it has one.
    async fn distribution(&self, revision: u64) -> Result<Option<bool>, TargetError> {
        let marker = mesh::marker(&self.context(), revision, None, None);
        let mut all = None;
        for resource in &marker {
            let found = self.api.get(resource.kind(), resource.namespace(), resource.name()).await;
            if let Some(says) = found.map_err(ApiError::blame)?.as_ref().and_then(reconciled) {
                all = Some(all.unwrap_or(true) && says);
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn canaries_are_answered_if_each_has_status_200_and_the_expected_body() {
        let expected = [None, Some("canary")];
        assert!(answered("fault filter abort\n200\ncanary\n200\n", &expected));
        for output in
            ["", "a\n200\n", "a\n200\nother\n200\n", "\n000\ncanary\n200\n", "a\n404\nb\n200\ncanary\n200\n"]
        {
            assert!(!answered(output, &expected), "{output:?}");
        }
    }

    #[test]
    fn a_distribution_status_counts_only_where_there_is_one_and_for_its_own_generation() {
        let object = |status: &str, observed: Value| {
            json!({ "metadata": { "generation": 3 }, "status": { "observedGeneration": observed,
                    "conditions": [{ "type": "PassedValidation", "status": "True" }, { "type": "Reconciled",
                        "status": status }] } })
        };
        assert_eq!(reconciled(&object("True", json!("3"))), Some(true));
        assert_eq!(reconciled(&object("True", json!(3))), Some(true));
        assert_eq!(reconciled(&object("True", json!("2"))), Some(false), "of the generation before");
        assert_eq!(reconciled(&object("False", json!("3"))), Some(false));
        assert_eq!(reconciled(&json!({ "metadata": { "generation": 3 } })), None);
        let other = json!({ "status": { "conditions": [{ "type": "PassedValidation", "status": "True" }] } });
        assert_eq!(reconciled(&other), None);
    }
}
