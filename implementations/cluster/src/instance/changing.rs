//! How a change comes into force, and how that is known.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use meshproof_harness::manifest;
use meshproof_harness::store::{MAX_TEXT, bounded};
use meshproof_harness::target::{ConfigChange, TargetError};
use meshproof_harness::timeouts::Timeout;
use meshproof_model::Resource;
use meshproof_model::{Fact, Side};
use serde_json::Value;

use super::pods::{POLL, PROXY, await_absence};
use super::proof::{Proof, unseen};
use super::{ClusterInstance, Proxy, State};
use crate::api::{ApiError, PodRef};
use crate::dump as read;
use crate::manifests::{gateway, mesh};
use crate::places::APPLICATIONS;
use crate::relocate::{Ground, SIDECAR, relocate};

/// What a change waits for beside the beacon.
#[derive(Default)]
struct Expected {
    /// Of each proxy's credentials: name in Envoy, and what it must hold.
    secrets: Vec<(String, read::Held)>,
    /// What each workload's sidecar demands of its callers.
    inbound: BTreeMap<String, read::Inbound>,
}

impl ClusterInstance {
    pub(super) async fn bring_into_force(
        &self,
        state: &mut State,
        change: &ConfigChange,
    ) -> Result<(), TargetError> {
        self.can_be_seen(change)?;
        let touches_sidecar = |kind: &str| kind == "Sidecar";
        if change.apply.iter().any(|r| touches_sidecar(r.kind()))
            || change.delete.iter().any(|id| touches_sidecar(&id.kind))
        {
            state.sidecar += 1;
        }
        for resource in &change.apply {
            let known = state.documents.iter().position(|r| r.id() == resource.id());
            let applied = self.set_down(state, resource).await;
            match (applied, known) {
                // What was refused is as it was: the cluster keeps the former.
                (Err(e), _) => return Err(e),
                (Ok(()), Some(at)) => state.documents[at] = resource.clone(),
                (Ok(()), None) => state.documents.push(resource.clone()),
            }
        }
        for id in &change.delete {
            state.documents.retain(|r| &r.id() != id);
            for resource in state.applied.remove(id).unwrap_or_default() {
                self.take_away(state, &resource).await?;
            }
        }
        let mut kinds: Vec<&str> = change.apply.iter().map(Resource::kind).collect();
        kinds.extend(change.delete.iter().map(|id| id.kind.as_str()));
        self.advance(state, &kinds).await
    }

    /// Applies a document's resource in its place, and takes away what an earlier form of it had more of.
    async fn set_down(&self, state: &mut State, resource: &Resource) -> Result<(), TargetError> {
        let egress = mesh::egress(&self.plan(), state.sidecar);
        let ground = Ground {
            places: &self.places,
            labels: &self.labels,
            pins: &state.pins,
            egress: &egress,
            live: self.is_live(),
        };
        let moved = relocate(resource, &ground);
        let before = state.applied.get(&resource.id()).cloned().unwrap_or_default();
        for one in &moved {
            // Nothing that did not change is written: a write is a change to somebody.
            if before.contains(one) {
                continue;
            }
            self.apply(one).await?;
            let text = bounded(&format!("applied in the cluster:\n{}", manifest::to_yaml(one)), MAX_TEXT);
            self.seat.store.record(Side::Suite, None, Fact::Note { text });
        }
        for former in &before {
            if !moved.iter().any(|m| m.id() == former.id()) {
                self.api.delete(&former.id()).await.map_err(ApiError::blame)?;
            }
        }
        state.applied.insert(resource.id(), moved);
        Ok(())
    }

    async fn take_away(&self, state: &State, resource: &Resource) -> Result<(), TargetError> {
        let own = (resource.kind(), resource.name(), resource.namespace());
        if own == ("Sidecar", SIDECAR, self.places.of(APPLICATIONS)) {
            // The suite's own was there before the document's.
            self.apply(&mesh::sidecar(&self.plan(), state.sidecar)).await?;
            return Ok(());
        }
        self.api.delete(&resource.id()).await.map_err(ApiError::blame)
    }

    /// Sets the documents' ServiceEntries down anew, where hosts outside lead elsewhere now. Whether any changed.
    pub(super) async fn repin(&self, state: &mut State) -> Result<bool, TargetError> {
        let before = state.applied.clone();
        let entries: Vec<Resource> =
            state.documents.iter().filter(|r| r.kind() == "ServiceEntry").cloned().collect();
        for entry in &entries {
            self.set_down(state, entry).await?;
        }
        Ok(before != state.applied)
    }

    /// Makes the beacon's next revision and returns when every proxy shows it, and what else the kinds that changed call for.
    pub(super) async fn advance(&self, state: &mut State, kinds: &[&str]) -> Result<(), TargetError> {
        state.revision += 1;
        let plan = self.plan();
        let installed = self.seat.topology.gateways.first().map(|g| &g.labels);
        let selector = match (installed, self.places.gateways_installed()) {
            (Some(labels), true) => Some(labels),
            (Some(_), false) => Some(&self.labels),
            (None, _) => None,
        };
        let canary = if self.by_canary().next().is_some() { Some(self.canary().await?) } else { None };
        self.apply_all(&mesh::beacon(&plan, state.revision, selector, canary)).await?;
        let expected = Expected {
            secrets: if kinds.contains(&"Secret") || kinds.contains(&"DestinationRule") {
                credentials(state)
            } else {
                Vec::new()
            },
            inbound: if kinds.contains(&"PeerAuthentication") {
                self.demands(state)
            } else {
                BTreeMap::new()
            },
        };
        let (state, expected) = (&*state, &expected);
        let waits = self.proxies.iter().filter_map(|p| Some((p, p.pod()?, p.proof()?)));
        let waits = waits.map(|(proxy, pod, proof)| async move {
            match &proof {
                Proof::Forwarded | Proof::Agent => {
                    self.await_proxy_state(state, proxy, &pod, &proof, expected).await
                }
                Proof::Canary(reason) => self.await_canary(state, proxy, reason).await,
            }
        });
        join_all(waits).await.into_iter().collect()
    }

    /// What sidecars must demand by the documents in force; where none says a word, what they demanded in the beginning.
    fn demands(&self, state: &State) -> BTreeMap<String, read::Inbound> {
        let documented = state.documents.iter().filter(|r| r.kind() == "PeerAuthentication");
        let mode = documented
            .filter_map(|r| r.spec().pointer("/mtls/mode").and_then(Value::as_str))
            .find_map(|mode| match mode {
                "STRICT" => Some(read::Inbound::Strict),
                "PERMISSIVE" => Some(read::Inbound::Permissive),
                "DISABLE" => Some(read::Inbound::Plain),
                _ => None,
            });
        state.inbound.iter().map(|(name, first)| (name.clone(), mode.unwrap_or(*first))).collect()
    }

    /// Polls one proxy's dump until it shows everything. Bounded by the caller's timeout `applied`.
    async fn await_proxy_state(
        &self,
        state: &State,
        proxy: &Proxy,
        pod: &PodRef,
        proof: &Proof,
        expected: &Expected,
    ) -> Result<(), TargetError> {
        let limit = self.seat.timeouts.get(Timeout::Applied);
        let mut last = "nothing".to_owned();
        let waiting = async {
            loop {
                let dumped = proof.dump(&self.api, pod).await.map_err(ApiError::blame)?;
                if let Some(words) = read::refusals(&dumped) {
                    return Err(TargetError::Refused(format!("{}: {words}", proxy.name)));
                }
                if let Some(words) = self.distrust(proxy, &dumped) {
                    return Err(TargetError::Environment(words));
                }
                match self.lacks(state, proxy, &dumped, expected) {
                    None => return Ok(()),
                    Some(lacking) => last = lacking,
                }
                tokio::time::sleep(POLL).await;
            }
        };
        // A little sooner than who waits for all of it, so that the words say what was missing.
        match tokio::time::timeout(limit.mul_f64(0.95), waiting).await {
            Ok(result) => result,
            Err(_) => Err(TargetError::Gone(format!(
                "{} did not show the change within the timeout `applied` ({limit:?}): {last}",
                proxy.name
            ))),
        }
    }

    /// A proxy that does not have the suite's CA among its system's roots refuses what it should believe: no fault of its own.
    fn distrust(&self, proxy: &Proxy, dumped: &Value) -> Option<String> {
        if self.is_live() {
            return None;
        }
        let roots = String::from_utf8_lossy(&read::system_roots(dumped)?).into_owned();
        let ours = self.seat.public_roots.trim();
        (!roots.contains(ours)).then(|| {
            format!(
                "{} verifies servers by system roots without the suite's CA: mount it over {}, or run with gateways of the \
                 scenario's own (without --gateways installed)",
                proxy.name,
                crate::manifests::SYSTEM_ROOTS
            )
        })
    }

    fn lacks(&self, state: &State, proxy: &Proxy, dumped: &Value, expected: &Expected) -> Option<String> {
        let plan = self.plan();
        let host = mesh::beacon_host(&plan, state.revision);
        let seen = read::beacon(dumped, dumped, &host, mesh::BEACON_TIMEOUT + state.revision);
        if !seen.all() {
            return Some(format!("of revision {} it shows {seen:?}", state.revision));
        }
        if !proxy.is_gateway {
            let has = |revision| read::has_cluster_of(dumped, &mesh::sidecar_host(&plan, revision));
            if !has(state.sidecar) || has(state.sidecar + 1) {
                return Some("the former Sidecar is in force".to_owned());
            }
        }
        if proxy.is_gateway {
            for (name, wanted) in &expected.secrets {
                match read::secret(dumped, name) {
                    // Nothing that is in force asks for it.
                    None => {}
                    Some(Some(held)) if held == *wanted => {}
                    Some(Some(_)) => return Some(format!("it holds another {name}")),
                    Some(None) => return Some(format!("it waits for {name}")),
                }
            }
        }
        for (workload, mode) in &expected.inbound {
            let Some(server) = self.proxy(workload) else { continue };
            let shown = server.serves.and_then(|port| read::inbound(dumped, port));
            if server.name == proxy.name && shown != Some(*mode) {
                return Some(format!("its listener is {shown:?}, not {mode:?}"));
            }
            let spoken = read::endpoints(dumped, &server.host);
            if server.name != proxy.name
                && spoken.iter().any(|(_, mutual)| *mutual == (*mode == read::Inbound::Plain))
            {
                return Some(format!("it speaks to {workload} as before"));
            }
        }
        // A cluster that is warming leaves its former in force. One that waits for a credential which does not come warms for as long
        // as Envoy waits for a first answer, 15 s, and is in force without it then (Istio, pilot/pkg/security/model/authentication.go,
        // `SDSAdsConfig`; Envoy, core/v3/config_source.proto, `initial_fetch_timeout`).
        read::warming(dumped).first().map(|name| format!("{name} is still warming"))
    }

    pub(super) async fn set_gateway(
        &self,
        state: &mut State,
        name: &str,
        running: bool,
    ) -> Result<(), TargetError> {
        let proxy = self.proxy(name).filter(|p| p.is_gateway);
        let documented = self.seat.topology.gateways.iter().find(|g| g.name == name);
        let (Some(proxy), Some(gateway)) = (proxy, documented) else {
            return Err(super::environment(format!("the scenario has no gateway {name}")));
        };
        if self.places.gateways_installed() {
            return Err(TargetError::Unable(
                "an installation's own gateway is not taken away; run with gateways of the scenario's own"
                    .to_owned(),
            ));
        }
        // Where its clients are told to go shows in their dumps alone.
        let client = self.by_canary().find(|(proxy, _)| !proxy.is_gateway);
        if let Some((client, reason)) = client {
            return Err(unseen("a gateway's pods", &client.name, &reason));
        }
        let app = gateway.labels.get("app").map_or(gateway.name, String::as_str);
        self.apply(&gateway::deployment(&self.plan(), gateway, u32::from(running))).await?;
        if running {
            self.attach(proxy, app, PROXY, Timeout::Applied).await?;
        } else {
            await_absence(&self.api, &proxy.namespace, app).await?;
            // Its last lines are read to their end.
            let gone = proxy.lock().take();
            if let Some(gone) = gone {
                let limit = self.seat.timeouts.get(Timeout::EvidenceSettled);
                let _how = tokio::time::timeout(limit, gone.follower.wait()).await;
            }
        }
        self.advance(state, &[]).await?;
        let wanted: Vec<String> = proxy.address().into_iter().collect();
        let others = self.proxies.iter().filter(|p| !p.is_gateway);
        let others = others.filter_map(|p| Some((p.pod()?, p.proof()?)));
        let waits = others.map(|(pod, proof)| self.await_endpoints(pod, proof, &proxy.host, &wanted));
        join_all(waits).await.into_iter().collect()
    }

    /// Returns when a sidecar knows just these addresses behind a host, or none of its clusters leads there.
    async fn await_endpoints(
        &self,
        pod: PodRef,
        proof: Proof,
        host: &str,
        wanted: &[String],
    ) -> Result<(), TargetError> {
        let limit = self.seat.timeouts.get(Timeout::Applied);
        let waiting = async {
            loop {
                let dumped = proof.dump(&self.api, &pod).await.map_err(ApiError::blame)?;
                let known = read::endpoints(&dumped, host);
                let right = known.iter().all(|(address, _)| wanted.contains(address));
                let all = wanted.iter().all(|w| known.iter().any(|(address, _)| address == w));
                if right && (all || !read::has_cluster_of(&dumped, host)) {
                    return Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| {
            Err(TargetError::Gone(format!(
                "{} did not take up the endpoints of {host} within the timeout `applied` ({limit:?})",
                pod.pod
            )))
        })
    }
}

/// What gateways must hold of the Secrets in force, by Envoy's name: of NAME the certificate, of NAME-cacert the CA, which is in the
/// Secret of that name or else in NAME (Istio, pilot/pkg/credentials/kube/secrets.go, `GetCaCert`; keys by `ExtractCertInfo` and
/// `ExtractRoot`).
fn credentials(state: &State) -> Vec<(String, read::Held)> {
    let secrets: Vec<&Resource> = state
        .documents
        .iter()
        .filter(|r| r.kind() == "Secret" && r.namespace() == crate::places::GATEWAYS)
        .collect();
    let entry = |secret: &Resource, keys: &[&str]| -> Option<Vec<u8>> {
        let data = secret.0.get("stringData")?;
        keys.iter()
            .find_map(|key| data.get(*key).and_then(Value::as_str))
            .map(|text| text.as_bytes().to_vec())
    };
    let mut expected: Vec<(String, read::Held)> = Vec::new();
    for secret in &secrets {
        let name = secret.name();
        if let Some(text) = entry(secret, &["cert", "tls.crt"]) {
            expected.push((format!("kubernetes://{name}"), read::Held { text, crl: Vec::new() }));
        }
    }
    for secret in &secrets {
        let Some(text) = entry(secret, &["cacert", "ca.crt"]) else { continue };
        let crl = entry(secret, &["crl", "ca.crl"]).unwrap_or_default();
        let name = secret.name();
        // A CA in a Secret of its own decides before one beside a certificate.
        let own = format!("{name}-cacert");
        if !secrets.iter().any(|s| s.name() == own) {
            expected
                .push((format!("kubernetes://{own}"), read::Held { text: text.clone(), crl: crl.clone() }));
        }
        if name.ends_with("-cacert") {
            expected.push((format!("kubernetes://{name}"), read::Held { text, crl }));
        }
    }
    expected
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn state(secrets: &[(&str, &str, Value)]) -> State {
        let secret = |(name, namespace, data): &(&str, &str, Value)| {
            Resource(json!({"apiVersion": "v1", "kind": "Secret",
                            "metadata": {"name": name, "namespace": namespace}, "stringData": data}))
        };
        State { documents: secrets.iter().map(secret).collect(), ..State::default() }
    }

    fn names(state: &State) -> Vec<(String, String)> {
        let text = |held: read::Held| String::from_utf8(held.text).unwrap();
        credentials(state).into_iter().map(|(name, held)| (name, text(held))).collect()
    }

    fn pair(name: &str, text: &str) -> (String, String) {
        (format!("kubernetes://{name}"), text.to_owned())
    }

    #[test]
    fn a_secret_beside_the_gateway_gives_a_certificate_and_a_ca() {
        let generic = state(&[("c", "istio-system", json!({"tls.crt": "A", "tls.key": "K", "ca.crt": "B"}))]);
        assert_eq!(names(&generic), [pair("c", "A"), pair("c-cacert", "B")]);
        let elsewhere = state(&[("c", "default", json!({"tls.crt": "A"}))]);
        assert_eq!(names(&elsewhere), []);
    }

    #[test]
    fn a_ca_in_a_secret_of_its_own_decides() {
        let both = state(&[
            ("c", "istio-system", json!({"tls.crt": "A", "ca.crt": "B"})),
            ("c-cacert", "istio-system", json!({"ca.crt": "C"})),
        ]);
        assert_eq!(names(&both), [pair("c", "A"), pair("c-cacert-cacert", "C"), pair("c-cacert", "C")]);
    }
}
