//! Applying a change, and waiting until it is in force.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use futures_util::future::join_all;
use meshproof_harness::manifest;
use meshproof_harness::store::{MAX_TEXT, bounded};
use meshproof_harness::target::{ConfigChange, TargetError};
use meshproof_harness::timeouts::Timeout;
use meshproof_model::Resource;
use meshproof_model::{Fact, Side};
use serde_json::Value;
use tokio::time::Instant;

use super::proof::{Proof, unseen};
use super::readiness::await_absence;
use super::ready_pod::{POLL, PROXY};
use super::state::{ClusterInstance, InForce, ScenarioProxy, environment};
use crate::api::{ApiError, PodRef};
use crate::dump as read;
use crate::manifests::{gateway, mesh};
use crate::relocate::{Ground, SIDECAR, relocate};

/// What a change waits for besides the marker.
#[derive(Default)]
struct ExpectedState {
    /// The credentials of each namespace with proxies: name in Envoy, and content.
    secrets: BTreeMap<String, Vec<(String, read::SecretContent)>>,
    /// What each workload's sidecar requires of its callers.
    inbound: BTreeMap<String, read::InboundTls>,
}

/// What a proxy does not show yet.
enum Lacking {
    /// The suite's own marker, or its Sidecar.
    Marker(String),
    /// Something that the documents' resources require.
    Document(String),
}

impl ClusterInstance {
    pub(super) async fn bring_into_force(
        &self,
        state: &mut InForce,
        change: &ConfigChange,
    ) -> Result<(), TargetError> {
        self.can_be_seen(change)?;
        let touches_sidecar = |kind: &str| kind == "Sidecar";
        if change.apply.iter().any(|r| touches_sidecar(r.kind()))
            || change.delete.iter().any(|id| touches_sidecar(&id.kind))
        {
            state.sidecar += 1;
            self.advance_sidecars(state).await?;
        }
        for resource in &change.apply {
            let known = state.documents.iter().position(|r| r.id() == resource.id());
            let applied = self.apply_documented(state, resource).await;
            match (applied, known) {
                // A refused resource changes nothing: the cluster keeps the former one.
                (Err(e), _) => return Err(e),
                (Ok(()), Some(at)) => state.documents[at] = resource.clone(),
                (Ok(()), None) => state.documents.push(resource.clone()),
            }
        }
        for id in &change.delete {
            state.documents.retain(|r| &r.id() != id);
            for resource in state.applied.remove(id).unwrap_or_default() {
                self.withdraw(state, &resource).await?;
            }
        }
        self.register(&state.documents);
        let mut kinds: Vec<&str> = change.apply.iter().map(Resource::kind).collect();
        kinds.extend(change.delete.iter().map(|id| id.kind.as_str()));
        self.advance(state, &kinds).await?;
        self.redirect_applications(state).await
    }

    /// Applies a document's resource in the run's namespaces, and deletes what only its earlier form
    /// consisted of.
    async fn apply_documented(&self, state: &mut InForce, resource: &Resource) -> Result<(), TargetError> {
        let namespace = self.places.of(resource.namespace());
        let egress = mesh::egress(&self.context(), namespace, state.sidecar);
        let marker = mesh::marker_hosts(&self.context(), state.sidecar);
        let ground = Ground {
            places: &self.places,
            labels: &self.labels,
            pins: &state.pins,
            egress: &egress,
            marker: &marker,
            live: self.is_live(),
        };
        let moved = relocate(resource, &ground);
        let before = state.applied.get(&resource.id()).cloned().unwrap_or_default();
        for one in &moved {
            // An unchanged resource is not written: the mesh would see each write as a change.
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

    /// The suite's own Sidecars in their next revision, in each namespace where no document's is in force.
    async fn advance_sidecars(&self, state: &InForce) -> Result<(), TargetError> {
        let documented = |namespace: &str| {
            state
                .applied
                .values()
                .flatten()
                .any(|r| (r.kind(), r.name(), r.namespace()) == ("Sidecar", SIDECAR, namespace))
        };
        let own = self.places.of_sidecars().filter(|namespace| !documented(namespace));
        let made: Vec<Resource> = own.map(|n| mesh::sidecar(&self.context(), n, state.sidecar)).collect();
        self.apply_all(&made).await.map(drop)
    }

    async fn withdraw(&self, state: &InForce, resource: &Resource) -> Result<(), TargetError> {
        let namespace = resource.namespace();
        if (resource.kind(), resource.name()) == ("Sidecar", SIDECAR)
            && self.places.of_sidecars().any(|of_sidecars| of_sidecars == namespace)
        {
            // The suite's own Sidecar was there before the document's.
            return self.apply(&mesh::sidecar(&self.context(), namespace, state.sidecar)).await.map(drop);
        }
        self.api.delete(&resource.id()).await.map_err(ApiError::blame)
    }

    /// Applies the documents' ServiceEntries again after external hosts have moved. Returns whether any
    /// changed.
    pub(super) async fn repin(&self, state: &mut InForce) -> Result<bool, TargetError> {
        let before = state.applied.clone();
        let entries: Vec<Resource> =
            state.documents.iter().filter(|r| r.kind() == "ServiceEntry").cloned().collect();
        for entry in &entries {
            self.apply_documented(state, entry).await?;
        }
        Ok(before != state.applied)
    }

    /// Applies the marker's next revision, and returns when every proxy shows it and everything else that the
    /// changed kinds require.
    pub(super) async fn advance(&self, state: &mut InForce, kinds: &[&str]) -> Result<(), TargetError> {
        state.revision += 1;
        let context = self.context();
        let installed = self.seat.topology.gateways.first().map(|g| &g.labels);
        let selector = match (installed, self.places.gateways_installed()) {
            (Some(labels), true) => Some(labels),
            (Some(_), false) => Some(&self.labels),
            (None, _) => None,
        };
        let canary = if self.by_canary().next().is_some() { Some(self.canary().await?) } else { None };
        self.apply_all(&mesh::marker(&context, state.revision, selector, canary)).await?;
        let expected = ExpectedState {
            secrets: if kinds.contains(&"Secret") || kinds.contains(&"DestinationRule") {
                let of = |n: &str| (n.to_owned(), credentials(state, |r| self.places.of(r.namespace()) == n));
                self.places.of_proxies().into_iter().map(of).collect()
            } else {
                BTreeMap::new()
            },
            inbound: if kinds.contains(&"PeerAuthentication") {
                self.required_inbound(state)
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

    /// What sidecars must require by the documents in force; where none says so, what they required at the
    /// start.
    fn required_inbound(&self, state: &InForce) -> BTreeMap<String, read::InboundTls> {
        let documented = state.documents.iter().filter(|r| r.kind() == "PeerAuthentication");
        let mode = documented
            .filter_map(|r| r.spec().pointer("/mtls/mode").and_then(Value::as_str))
            .find_map(|mode| match mode {
                "STRICT" => Some(read::InboundTls::Strict),
                "PERMISSIVE" => Some(read::InboundTls::Permissive),
                "DISABLE" => Some(read::InboundTls::Plain),
                _ => None,
            });
        state.inbound.iter().map(|(name, first)| (name.clone(), mode.unwrap_or(*first))).collect()
    }

    /// Polls one proxy's dump until it shows everything. Bounded by the caller's timeout `applied`. A marker that does not
    /// come into force is an error: it is the suite's own configuration, and other settings of the mesh may exclude it.
    async fn await_proxy_state(
        &self,
        state: &InForce,
        proxy: &ScenarioProxy,
        pod: &PodRef,
        proof: &Proof,
        expected: &ExpectedState,
    ) -> Result<(), TargetError> {
        let limit = self.seat.timeouts.get(Timeout::Applied);
        let mut last = Lacking::Marker("nothing".to_owned());
        let begun = Instant::now();
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
                    None => {
                        let known = if read::captures_dns(&dumped) {
                            read::virtual_addresses(&dumped)
                        } else {
                            BTreeMap::new()
                        };
                        *proxy.virtual_addresses.lock().unwrap_or_else(PoisonError::into_inner) = known;
                        return Ok(());
                    }
                    Some(Lacking::Marker(seen)) if self.rejections.stands(&proxy.name, begun) => {
                        let what = format!("{} refused configuration, and nothing replaced it", proxy.name);
                        return Err(self.not_in_force(proxy, &what, &seen));
                    }
                    Some(lacking) => last = lacking,
                }
                tokio::time::sleep(POLL).await;
            }
        };
        // Slightly sooner than the caller's own limit, so that the message says what was missing.
        match tokio::time::timeout(limit.mul_f64(0.95), waiting).await {
            Ok(result) => result,
            Err(_) => {
                let what = format!("{} to show the change", proxy.name);
                match last {
                    Lacking::Document(last) => {
                        let refused = self.rejections.quoted([proxy.name.as_str()]);
                        let last = Some(format!("{last}{refused}"));
                        Err(TargetError::TimedOut { timeout: Timeout::Applied, limit, what, last })
                    }
                    Lacking::Marker(last) => {
                        let words = format!(
                            "Timed out after {limit:?} (timeout `{}`) waiting for {what}",
                            Timeout::Applied
                        );
                        Err(self.not_in_force(proxy, &words, &last))
                    }
                }
            }
        }
    }

    /// The error of a marker that a proxy did not show.
    fn not_in_force(&self, proxy: &ScenarioProxy, what: &str, seen: &str) -> TargetError {
        let refused = self.rejections.quoted([proxy.name.as_str()]);
        environment(format!(
            "{what}. The suite's own marker is not in force there: {seen}{refused}. Check whether istiod is ready and not \
             overloaded, and which EnvoyFilters, Sidecars and other resources of the whole mesh apply to the namespace {}",
            proxy.namespace
        ))
    }

    /// A proxy without the suite's CA among its system roots refuses servers that it should accept, which is
    /// not its own fault.
    fn distrust(&self, proxy: &ScenarioProxy, dumped: &Value) -> Option<String> {
        if self.is_live() {
            return None;
        }
        let roots = String::from_utf8_lossy(&read::system_roots(dumped)?).into_owned();
        let ours = self.seat.public_roots.trim();
        (!roots.contains(ours)).then(|| {
            format!(
                "{} verifies servers by system roots that lack the suite's CA: mount it over {}, or run with \
                 gateways of the \
                 scenario's own (without --gateways installed)",
                proxy.name,
                crate::manifests::SYSTEM_ROOTS
            )
        })
    }

    fn lacks(
        &self,
        state: &InForce,
        proxy: &ScenarioProxy,
        dumped: &Value,
        expected: &ExpectedState,
    ) -> Option<Lacking> {
        let context = self.context();
        let host = mesh::marker_host(&context, state.revision);
        let seen = read::marker(dumped, dumped, &host, &mesh::marker_subset(state.revision));
        if !seen.all() {
            return Some(Lacking::Marker(format!("of revision {} it shows {seen:?}", state.revision)));
        }
        if !proxy.is_gateway {
            let has = |revision| read::has_cluster_of(dumped, &mesh::sidecar_host(&context, revision));
            if !has(state.sidecar) || has(state.sidecar + 1) {
                return Some(Lacking::Marker("the former Sidecar is still in force".to_owned()));
            }
        }
        self.lacks_of_documents(proxy, dumped, expected).map(Lacking::Document)
    }

    /// What a proxy lacks of what the changed kinds of the documents' resources require.
    fn lacks_of_documents(
        &self,
        proxy: &ScenarioProxy,
        dumped: &Value,
        expected: &ExpectedState,
    ) -> Option<String> {
        for (name, wanted) in expected.secrets.get(&proxy.namespace).into_iter().flatten() {
            match read::secret(dumped, name) {
                // Nothing in force uses it.
                None => {}
                Some(Some(held)) if held == *wanted => {}
                Some(Some(_)) => return Some(format!("it has another content of {name}")),
                Some(None) => return Some(format!("it waits for {name}")),
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
                && spoken.iter().any(|(_, mutual)| *mutual == (*mode == read::InboundTls::Plain))
            {
                return Some(format!("it still connects to {workload} as before the change"));
            }
        }
        // While a cluster is warming, its former version is in force. One whose credential does not arrive
        // warms for as long as Envoy waits for a first answer, 15 s, and is then in force without it (Istio,
        // pilot/pkg/security/model/authentication.go, `SDSAdsConfig`; Envoy, core/v3/config_source.proto,
        // `initial_fetch_timeout`).
        read::warming(dumped).first().map(|name| format!("{name} is still warming"))
    }

    pub(super) async fn set_gateway(
        &self,
        state: &mut InForce,
        name: &str,
        running: bool,
    ) -> Result<(), TargetError> {
        let proxy = self.proxy(name).filter(|p| p.is_gateway);
        let documented = self.seat.topology.gateways.iter().find(|g| g.name == name);
        let (Some(proxy), Some(gateway)) = (proxy, documented) else {
            return Err(environment(format!("the scenario has no gateway {name}")));
        };
        if self.places.gateways_installed() {
            return Err(TargetError::Unable(
                "the suite does not remove a gateway of the installation; run with gateways of the \
                 scenario's own"
                    .to_owned(),
            ));
        }
        // Only the dumps of its clients show where they send requests.
        let client = self.by_canary().find(|(proxy, _)| !proxy.is_gateway);
        if let Some((client, reason)) = client {
            return Err(unseen("a gateway's pods", &client.name, &reason));
        }
        let app = gateway.labels.get("app").unwrap_or(&gateway.name);
        self.apply(&gateway::deployment(&self.context(), gateway, u32::from(running))).await?;
        if running {
            self.attach(proxy, app, PROXY, Timeout::Applied).await?;
        } else {
            await_absence(&self.api, &proxy.namespace, app).await?;
            // Its last lines are still read.
            let gone = proxy.lock().take();
            if let Some(gone) = gone {
                let limit = self.seat.timeouts.get(Timeout::EvidenceSettled);
                let _end = tokio::time::timeout(limit, gone.follower.wait()).await;
            }
        }
        self.advance(state, &[]).await?;
        let wanted: Vec<String> = proxy.address().into_iter().collect();
        let others = self.proxies.iter().filter(|p| !p.is_gateway);
        let others = others.filter_map(|p| Some((p.pod()?, p.proof()?)));
        let waits = others.map(|(pod, proof)| self.await_endpoints(pod, proof, &proxy.host, &wanted));
        join_all(waits).await.into_iter().collect()
    }

    /// Returns when a sidecar has exactly these endpoints for a host, or no cluster for it.
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
            let what = format!("{} to apply the endpoints of {host}", pod.pod);
            Err(TargetError::TimedOut { timeout: Timeout::Applied, limit, what, last: None })
        })
    }
}

/// What proxies of a namespace must have of its Secrets in force, by Envoy's name: the certificate as NAME, the CA as
/// NAME-cacert, which is in the Secret of that name or else in NAME (Istio,
/// pilot/pkg/credentials/kube/secrets.go, `GetCaCert`; keys by `ExtractCertInfo` and `ExtractRoot`).
fn credentials(
    state: &InForce,
    in_namespace: impl Fn(&Resource) -> bool,
) -> Vec<(String, read::SecretContent)> {
    let secrets: Vec<&Resource> =
        state.documents.iter().filter(|r| r.kind() == "Secret" && in_namespace(r)).collect();
    let entry = |secret: &Resource, keys: &[&str]| -> Option<Vec<u8>> {
        let data = secret.0.get("stringData")?;
        keys.iter()
            .find_map(|key| data.get(*key).and_then(Value::as_str))
            .map(|text| text.as_bytes().to_vec())
    };
    let mut expected: Vec<(String, read::SecretContent)> = Vec::new();
    for secret in &secrets {
        let name = secret.name();
        if let Some(text) = entry(secret, &["cert", "tls.crt"]) {
            expected.push((format!("kubernetes://{name}"), read::SecretContent { text, crl: Vec::new() }));
        }
    }
    for secret in &secrets {
        let Some(text) = entry(secret, &["cacert", "ca.crt"]) else { continue };
        let crl = entry(secret, &["crl", "ca.crl"]).unwrap_or_default();
        let name = secret.name();
        // A CA in a Secret of its own takes precedence over one beside a certificate.
        let own = format!("{name}-cacert");
        if !secrets.iter().any(|s| s.name() == own) {
            expected.push((
                format!("kubernetes://{own}"),
                read::SecretContent { text: text.clone(), crl: crl.clone() },
            ));
        }
        if name.ends_with("-cacert") {
            expected.push((format!("kubernetes://{name}"), read::SecretContent { text, crl }));
        }
    }
    expected
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn state(secrets: &[(&str, &str, Value)]) -> InForce {
        let secret = |(name, namespace, data): &(&str, &str, Value)| {
            Resource(json!({"apiVersion": "v1", "kind": "Secret",
                            "metadata": {"name": name, "namespace": namespace}, "stringData": data}))
        };
        InForce { documents: secrets.iter().map(secret).collect(), ..InForce::default() }
    }

    fn names(state: &InForce) -> Vec<(String, String)> {
        let text = |held: read::SecretContent| String::from_utf8(held.text).unwrap();
        credentials(state, |r| r.namespace() == "istio-system")
            .into_iter()
            .map(|(name, held)| (name, text(held)))
            .collect()
    }

    fn pair(name: &str, text: &str) -> (String, String) {
        (format!("kubernetes://{name}"), text.to_owned())
    }

    #[test]
    fn a_secret_in_a_proxys_namespace_gives_a_certificate_and_a_ca() {
        let generic = state(&[("c", "istio-system", json!({"tls.crt": "A", "tls.key": "K", "ca.crt": "B"}))]);
        assert_eq!(names(&generic), [pair("c", "A"), pair("c-cacert", "B")]);
        let elsewhere = state(&[("c", "default", json!({"tls.crt": "A"}))]);
        assert_eq!(names(&elsewhere), []);
    }

    #[test]
    fn a_ca_in_a_secret_of_its_own_takes_precedence() {
        let both = state(&[
            ("c", "istio-system", json!({"tls.crt": "A", "ca.crt": "B"})),
            ("c-cacert", "istio-system", json!({"ca.crt": "C"})),
        ]);
        assert_eq!(names(&both), [pair("c", "A"), pair("c-cacert-cacert", "C"), pair("c-cacert", "C")]);
    }
}
