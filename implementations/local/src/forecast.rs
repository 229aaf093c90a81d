//! What the plan in force promises for a request, in the terms of the evidence.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use meshproof_harness::certificates::describe;
use meshproof_harness::forecast::{
    Arrival, Forecast, HeaderEdits, Originated, Passage, Promise, Sender, SentRequest, ServerCheck, Transport,
};
use meshproof_harness::target::Probe;
use meshproof_model::{Feature, PeerCertificate};
use meshproof_plan::model::{
    ClientCertificate, Credential, HeaderChanges, Plan, ProxyPlan, Trust, UpstreamProtocol, UpstreamTls,
};
use meshproof_plan::resolve::Proxy;
use meshproof_plan::walk::{self, ClientRequest, Walk, Wire};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};
use url::Url;

/// A server that requests may arrive at.
#[derive(Clone, Debug)]
pub(crate) struct KnownServer {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// PEM: the chain that it presents.
    pub(crate) chain: Option<String>,
}

/// One state of a local target's configuration.
pub(crate) struct LocalForecast {
    pub(crate) plan: Plan,
    pub(crate) credentials: BTreeMap<String, Vec<Credential>>,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) servers: BTreeMap<SocketAddr, KnownServer>,
    /// PEM: what stands for the system's roots.
    pub(crate) roots: String,
    /// The servers' certificates that were verified already: each request asks anew, and verifying costs more than all
    /// else that a forecast does.
    pub(crate) verified: Verified,
}

/// What is verified once per state of the configuration.
#[derive(Default)]
pub(crate) struct Verified(Mutex<HashMap<Verification, Option<ServerCheck>>>);

/// What a verification depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Verification {
    /// The proxy that verifies, and the credential that holds its roots; none for the system's roots.
    roots: Option<(String, String)>,
    server: SocketAddr,
    names: Option<Vec<String>>,
}

impl Verified {
    fn check(&self, what: Verification, verify: impl FnOnce() -> Option<ServerCheck>) -> Option<ServerCheck> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(what).or_insert_with(verify).clone()
    }
}

/// A credential of the plan that has no Secret yet.
struct NoSecret;

impl Forecast for LocalForecast {
    fn of(&self, request: &SentRequest<'_>) -> Promise {
        match self.all(request).as_slice() {
            [only] => only.clone(),
            [] | [..] => Promise::Open,
        }
    }

    fn all(&self, request: &SentRequest<'_>) -> Vec<Promise> {
        self.ways(request).unwrap_or_else(|| vec![Promise::Open])
    }
}

impl LocalForecast {
    /// None where it is open.
    fn ways(&self, request: &SentRequest<'_>) -> Option<Vec<Promise>> {
        let Ok(url) = Url::parse(request.url) else { return None };
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return None;
        };
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let dials = match request.sender {
            Sender::Workload(name) => self.proxy(name).and_then(|p| {
                let at = host.trim_matches(['[', ']']).parse().ok();
                let addressed = p.addressed.iter().find(|(ip, number, _)| Some(*ip) == at && *number == port);
                addressed.map(|(.., bind)| *bind).or_else(|| bind_of(&p.outbound, port))
            }),
            Sender::Probe(Probe::Gateway { gateway, port }) => {
                self.proxy(gateway).and_then(|p| bind_of(&p.servers, *port))
            }
            Sender::Probe(Probe::Workload { workload }) => {
                self.proxy(workload).and_then(|p| p.inbound.first()).map(|inbound| inbound.bind)
            }
            Sender::Probe(Probe::External) => return Some(vec![self.direct(request, host, port, target)]),
        };
        let dials = dials?;
        let client = ClientRequest {
            dials,
            own_tls: request.server_name,
            http: request.http,
            method: request.method,
            authority: request.authority,
            target,
            headers: request.headers,
        };
        let promise = |walk| match walk {
            Walk::Open(_) => Promise::Open,
            Walk::Ends(end) => ends(&end),
            Walk::Arrives(arrival) => self.arrival(*arrival),
        };
        Some(walk::walks(&self.plan, &client).into_iter().map(promise).collect())
    }
}

fn bind_of(sockets: &[(u16, SocketAddr)], port: u16) -> Option<SocketAddr> {
    sockets.iter().find(|(number, _)| *number == port).map(|(_, bind)| *bind)
}

impl LocalForecast {
    fn proxy(&self, name: &str) -> Option<&Proxy> {
        self.proxies.iter().find(|p| p.name == name)
    }

    /// A request that passes no proxy.
    fn direct(&self, request: &SentRequest<'_>, host: &str, port: u16, target: &str) -> Promise {
        let transport = if request.server_name.is_some() { Transport::OwnTls } else { Transport::Clear };
        Promise::Arrives(Box::new(Arrival {
            needs: Vec::new(),
            proxies: Vec::new(),
            host: host.to_owned(),
            port,
            transport,
            authority: request.authority.to_owned(),
            target: target.to_owned(),
            request_headers: Vec::new(),
            answer_headers: Vec::new(),
            timeout_ms: None,
        }))
    }

    fn arrival(&self, arrival: walk::Arrival<'_>) -> Promise {
        let Some(server) = self.servers.get(&arrival.address) else { return Promise::Open };
        let transport = match &arrival.wire {
            Wire::Clear => Transport::Clear,
            Wire::OwnTls => Transport::OwnTls,
            Wire::Mesh => Transport::Mesh,
            Wire::Originated { by, origination, server_name, names } => {
                let client_certificate = match &origination.client_certificate {
                    None => None,
                    Some(ClientCertificate::Files { .. }) => return Promise::Open,
                    Some(ClientCertificate::Credential(name)) => match self.presented(by, name) {
                        Some(certificate) => Some(certificate),
                        None => return without_secret(name, &arrival.way),
                    },
                };
                let check = match self.check(by, &origination.trust, arrival.address, names.as_deref()) {
                    Ok(check) => check,
                    Err(NoSecret) => return without_secret("of the trusted CA", &arrival.way),
                };
                Transport::Originated(Originated {
                    by: by.name.clone(),
                    server_name: server_name.clone(),
                    client_certificate,
                    server: check,
                })
            }
        };
        let passage = |(step, before): (&walk::Step<'_>, Option<&walk::Step<'_>>)| Passage {
            proxy: step.proxy.name.clone(),
            cluster: step.cluster.name.clone(),
            upstream: step.upstream.to_string(),
            server_name: before.and_then(|before| match &before.cluster.tls {
                Some(UpstreamTls::MeshMutual { sni, .. }) => Some(sni.clone()),
                Some(UpstreamTls::Originate(_)) | None => None,
            }),
            http: step.http,
        };
        let before = std::iter::once(None).chain(arrival.way.iter().map(Some));
        Promise::Arrives(Box::new(Arrival {
            needs: needs(&arrival),
            proxies: arrival.way.iter().zip(before).map(passage).collect(),
            host: server.host.clone(),
            port: server.port,
            transport,
            authority: arrival.authority,
            target: arrival.target,
            request_headers: arrival.request_headers.into_iter().map(edits).collect(),
            answer_headers: arrival.response_headers.into_iter().map(edits).collect(),
            timeout_ms: arrival.timeout_ms,
        }))
    }

    fn credential(&self, proxy: &ProxyPlan, name: &str) -> Option<&Credential> {
        self.credentials.get(&proxy.name)?.iter().find(|c| c.name == name)
    }

    /// The leaf that the proxy presents.
    fn presented(&self, proxy: &ProxyPlan, name: &str) -> Option<PeerCertificate> {
        let pem = self.credential(proxy, name)?.certificate.as_deref()?;
        describe(&CertificateDer::from_pem_slice(pem.as_bytes()).ok()?)
    }

    /// Whether the proxy accepts the server's certificate.
    fn check(
        &self,
        proxy: &ProxyPlan,
        trust: &Trust,
        address: SocketAddr,
        names: Option<&[String]>,
    ) -> Result<ServerCheck, NoSecret> {
        let (roots, has_list, credential) = match trust {
            Trust::Anybody => return Ok(ServerCheck::Accepted),
            Trust::File(_) => return Ok(ServerCheck::Open),
            Trust::SystemRoots => (self.roots.as_str(), false, None),
            Trust::Credential(name) => {
                let credential = self.credential(proxy, name).ok_or(NoSecret)?;
                (credential.ca.as_deref().ok_or(NoSecret)?, credential.crl.is_some(), Some(name))
            }
        };
        let chain = self.servers.get(&address).and_then(|server| server.chain.as_ref());
        let Some(chain) = chain else { return Ok(ServerCheck::Open) };
        let verification = Verification {
            roots: credential.map(|name| (proxy.name.clone(), name.clone())),
            server: address,
            names: names.map(<[String]>::to_vec),
        };
        let check = self.verified.check(verification, || verify(chain, roots, names));
        let check = check.unwrap_or(ServerCheck::Open);
        // A revocation list may refuse what the chain alone allows.
        Ok(if has_list && check == ServerCheck::Accepted { ServerCheck::Open } else { check })
    }
}

/// The features without which a request cannot take this way.
fn needs(arrival: &walk::Arrival<'_>) -> Vec<Feature> {
    let mut needs = Vec::new();
    for step in &arrival.way {
        if step.http && step.cluster.protocol == UpstreamProtocol::Http2 {
            needs.push(Feature::Http2);
        }
        if matches!(step.cluster.tls, Some(UpstreamTls::MeshMutual { .. })) {
            needs.push(Feature::MeshMtls);
        }
    }
    match &arrival.wire {
        Wire::Clear | Wire::Mesh => {}
        Wire::OwnTls if arrival.way.is_empty() => {}
        Wire::OwnTls => needs.push(Feature::TlsPassthrough),
        Wire::Originated { origination, server_name, names, .. } => {
            if origination.client_certificate.is_some() {
                needs.push(Feature::MutualOrigination);
            }
            let by_server_name = names.as_ref().is_none_or(|names| names.iter().eq(server_name.iter()));
            if !by_server_name {
                needs.push(Feature::SanValidation);
            }
        }
    }
    needs
}

fn ends(end: &walk::End<'_>) -> Promise {
    let before = end.way.iter().filter(|step| step.http).map(|step| step.proxy.name.clone());
    // Only a proxy that handles HTTP answers with a status.
    let last = end.proxy.filter(|_| end.status.is_some()).map(|proxy| proxy.name.clone());
    Promise::Ends { status: end.status, why: end.why.clone(), proxies: before.chain(last).collect() }
}

fn without_secret(name: &str, way: &[walk::Step<'_>]) -> Promise {
    let proxies = way.iter().filter(|step| step.http).map(|step| step.proxy.name.clone()).collect();
    Promise::Ends { status: Some(503), why: format!("there is no Secret for the credential {name}"), proxies }
}

fn edits(changes: &HeaderChanges) -> HeaderEdits {
    HeaderEdits { remove: changes.remove.clone(), set: changes.set.clone(), add: changes.add.clone() }
}

/// Verifies a chain as RFC 5280, section 6, and RFC 9525 ask for. Only those reasons count as refusals on which TLS
/// libraries agree: the dates, the issuer, the purpose and the name. Absent: the input cannot be read.
fn verify(chain: &str, roots: &str, names: Option<&[String]>) -> Option<ServerCheck> {
    let chain: Vec<CertificateDer<'_>> =
        CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().ok()?;
    let (leaf, intermediates) = chain.split_first()?;
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
        store.add(root.ok()?).ok()?;
    }
    let leaf = ParsedCertificate::try_from(leaf).ok()?;
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let on_chain = rustls::client::verify_server_cert_signed_by_trust_anchor(
        &leaf,
        &store,
        intermediates,
        UnixTime::now(),
        algorithms.all,
    );
    if let Err(e) = on_chain {
        return Some(refusal(&e));
    }
    let Some(names) = names else { return Some(ServerCheck::Accepted) };
    let mut last = ServerCheck::Open;
    for name in names {
        // A URI (SPIFFE) name is no server name here.
        let Ok(server_name) = ServerName::try_from(name.as_str()) else { return Some(ServerCheck::Open) };
        match rustls::client::verify_server_name(&leaf, &server_name) {
            Ok(()) => return Some(ServerCheck::Accepted),
            Err(e) => last = refusal(&e),
        }
    }
    Some(last)
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the enumeration is rustls's and grows; what is not listed is open"
)]
fn refusal(error: &rustls::Error) -> ServerCheck {
    let rustls::Error::InvalidCertificate(reason) = error else { return ServerCheck::Open };
    let words = match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet",
        CertificateError::UnknownIssuer => "no trusted CA issued it",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it does not hold the name of the host"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not for servers (extended key usage)"
        }
        _ => return ServerCheck::Open,
    };
    ServerCheck::Refused(words.to_owned())
}
