//! Saboteurs that use for one destination what is configured for another.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use meshproof_local::data_plane::MeshCertificate;
use meshproof_plan::model::{
    Action, ClientCertificate, Cluster, Credential, Discovery, PathMatch, Plan, RouteMatch, Trust,
    UpstreamTls,
};

use super::plan::originates;
use crate::hooks::{ProxyHooks, RequestFacts, SendHook, SendResult, UpstreamAccess, WantedConfig};
use crate::pool::UpstreamDestination;
use crate::request_body::OutgoingRequest;
use crate::tls::inputs::{PemKeyPair, TlsInputs, TrustedRoots};
use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::placement::Placement;
use crate::variants::sessions::{ResumedSessions, Sharing};

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "client-certificate-for-every-host",
        "Presents the client certificate of one host to every host that asks for one.",
        VariantBehaviour::Proxy(|_| Arc::new(ForEveryHost::default())),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "another-secret-for-missing",
        "Uses another Secret of the proxy in place of a missing one.",
        VariantBehaviour::Configuration(|wanted, _, _| another_secret(wanted)),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "secret-of-another-namespace",
        "Uses for a Secret the one of the same name in another namespace.",
        VariantBehaviour::Configuration(|wanted, _, _| secret_of_another_namespace(wanted)),
    ),
    Definition::new(
        "borrow-missing-secret",
        "Uses for a missing Secret the one of the same name that another proxy has.",
        VariantBehaviour::Configuration(|wanted, _, _| secret_of_another_proxy(wanted)),
    ),
    Definition::new(
        "mesh-certificate-for-missing-secret",
        "Presents its mesh certificate, and verifies no server, while the Secret is missing.",
        VariantBehaviour::Proxy(|facts| Arc::new(MeshCertificateForMissing(facts.identity.cloned()))),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "system-roots-for-missing-ca",
        "Trusts the system's roots while the Secret with the CA is missing.",
        VariantBehaviour::Configuration(|wanted, _, _| system_roots(wanted)),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "pool-across-hosts",
        "Uses one pool of connections for all hosts on an address.",
        VariantBehaviour::Proxy(|_| Arc::new(PoolAcrossHosts::default())),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "pool-across-policies",
        "Uses the connections of a rule without a client certificate for every rule on the same address.",
        VariantBehaviour::Proxy(|_| Arc::new(PoolAcrossPolicies::default())),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "resume-unverified-sessions",
        "Resumes TLS sessions that began when another policy was in force, such as one without verification.",
        VariantBehaviour::Proxy(|_| Arc::new(ResumedSessions::new(Sharing::AnyTrust))),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "resume-sessions-of-another-identity",
        "Resumes TLS sessions that began with another client certificate, or without one.",
        VariantBehaviour::Proxy(|_| Arc::new(ResumedSessions::new(Sharing::AnyIdentity))),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "exact-match-as-prefix",
        "Takes an exact path as a prefix.",
        VariantBehaviour::Plan(|plan| {
            for matches in matches_of(plan) {
                if let PathMatch::Exact(path) = &matches.path {
                    matches.path = PathMatch::Prefix(path.clone());
                }
            }
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "match-decoded-paths",
        "Decodes %2F and joins several slashes before it matches a prefix.",
        VariantBehaviour::Plan(|plan| {
            for matches in matches_of(plan) {
                if let PathMatch::Prefix(path) = &matches.path
                    && path.len() > 1
                {
                    let path = path.replace('.', r"\.").replace('/', "(?:/|%2F)+");
                    matches.path = PathMatch::Regex(format!("{path}.*"));
                }
            }
        }),
    ),
];

/// The conditions of every route.
fn matches_of(plan: &mut Plan) -> impl Iterator<Item = &mut RouteMatch> {
    let listeners = plan.proxies.iter_mut().flat_map(|proxy| &mut proxy.listeners);
    let routes =
        listeners.flat_map(|listener| &mut listener.chains).filter_map(|chain| match &mut chain.action {
            Action::Http(routes) => Some(routes),
            Action::Tcp { .. } | Action::TcpWeighted(_) => None,
        });
    let hosts = routes.flat_map(|routes| &mut routes.virtual_hosts);
    hosts.flat_map(|host| &mut host.routes).map(|route| &mut route.matches)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first client certificate that was configured.
#[derive(Default)]
struct ForEveryHost(Mutex<Option<PemKeyPair>>);

impl ProxyHooks for ForEveryHost {
    fn tls_inputs(&self, tls: &UpstreamTls, inputs: &mut TlsInputs) {
        if let UpstreamTls::Originate(_) = tls {
            let mut first = locked(&self.0);
            match &mut inputs.client {
                Ok(Some(pair)) => *first = first.take().or_else(|| Some(pair.clone())),
                Ok(none @ None) => none.clone_from(&first),
                Err(_) => {}
            }
        }
    }
}

struct MeshCertificateForMissing(Option<MeshCertificate>);

impl ProxyHooks for MeshCertificateForMissing {
    fn tls_inputs(&self, _tls: &UpstreamTls, inputs: &mut TlsInputs) {
        if let (Err(_), Some(own)) = (&inputs.client, &self.0) {
            let (certificate, key) = (own.certificate.clone(), own.key.clone());
            inputs.client = Ok(Some(PemKeyPair { certificate, key }));
            inputs.roots = Ok(TrustedRoots::Any);
        }
    }
}

/// Every proxy uses the Secret of the last proxy that has one of the name.
fn secret_of_another_namespace(wanted: &mut WantedConfig) {
    let mut known: HashMap<String, Credential> = HashMap::new();
    for credential in wanted.credentials.values_mut().rev().flatten() {
        *credential = known.entry(credential.name.clone()).or_insert_with(|| credential.clone()).clone();
    }
}

fn secret_of_another_proxy(wanted: &mut WantedConfig) {
    let all: Vec<Credential> = wanted.credentials.values().flatten().cloned().collect();
    for proxy in &wanted.plan.proxies {
        let held = wanted.credentials.entry(proxy.name.clone()).or_default();
        let missing = |c: &&Credential| !held.iter().any(|own| own.name == c.name);
        let lent: Vec<Credential> = all.iter().filter(missing).cloned().collect();
        held.extend(lent);
    }
}

fn another_secret(wanted: &mut WantedConfig) {
    for proxy in &wanted.plan.proxies {
        let Some(held) = wanted.credentials.get_mut(&proxy.name) else { continue };
        let Some(other) = held.iter().find(|c| c.key.is_some()).cloned() else { continue };
        for cluster in &proxy.clusters {
            let Some(UpstreamTls::Originate(o)) = &cluster.tls else { continue };
            if let Some(ClientCertificate::Credential(name)) = &o.client_certificate
                && !held.iter().any(|c| c.name == *name)
            {
                let mut taken = other.clone();
                taken.name.clone_from(name);
                held.push(taken);
            }
        }
    }
}

fn system_roots(wanted: &mut WantedConfig) {
    for proxy in &mut wanted.plan.proxies {
        let held = wanted.credentials.get(&proxy.name).map_or(&[][..], Vec::as_slice);
        for cluster in &mut proxy.clusters {
            let Some(UpstreamTls::Originate(o)) = &mut cluster.tls else { continue };
            if let Trust::Credential(name) = &o.trust
                && o.client_certificate.is_none()
                && !held.iter().any(|c| c.name == *name)
            {
                o.trust = Trust::SystemRoots;
            }
        }
    }
}

/// The destination of the first request to each address.
#[derive(Default)]
struct PoolAcrossHosts(Mutex<HashMap<SocketAddr, UpstreamDestination>>);

impl ProxyHooks for PoolAcrossHosts {
    fn destination(&self, request: &RequestFacts<'_>, destination: &mut UpstreamDestination) {
        if originates(request.cluster) {
            let mut first = locked(&self.0);
            let first = first.entry(destination.address).or_insert_with(|| destination.clone());
            destination.server_name.clone_from(&first.server_name);
            destination.verified_host.clone_from(&first.verified_host);
        }
    }
}

/// The first cluster without a client certificate for each address.
#[derive(Default)]
struct PoolAcrossPolicies(Mutex<HashMap<SocketAddr, Cluster>>);

impl PoolAcrossPolicies {
    /// The cluster whose connections serve this cluster's address, if it is another one.
    fn other(&self, cluster: &Cluster) -> Option<Cluster> {
        let Discovery::Endpoints(addresses) = &cluster.discovery else { return None };
        let (address, Some(UpstreamTls::Originate(o))) = (addresses.first()?, &cluster.tls) else {
            return None;
        };
        let mut known = locked(&self.0);
        if o.client_certificate.is_none() && o.trust == Trust::SystemRoots {
            known.entry(*address).or_insert_with(|| cluster.clone());
        }
        known.get(address).filter(|other| other.name != cluster.name).cloned()
    }
}

impl ProxyHooks for PoolAcrossPolicies {
    fn sending(&self) -> Option<&dyn SendHook> {
        Some(self)
    }
}

#[async_trait]
impl SendHook for PoolAcrossPolicies {
    async fn send(&self, upstream: &dyn UpstreamAccess, request: OutgoingRequest) -> SendResult {
        let facts = upstream.facts();
        match self.other(facts.cluster) {
            Some(cluster) => upstream.send_to(cluster, facts.authority, request).await,
            None => upstream.send(request).await,
        }
    }
}
