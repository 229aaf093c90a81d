//! What real requests can prove about a configuration: which workloads, gateways, servers and Secrets it takes, and what each
//! request must do by the plan.

use std::collections::{BTreeMap, BTreeSet};

use meshproof_model::Resource;
use meshproof_plan::ProxyKind;
use meshproof_plan::model::{ClientCertificate, DownstreamTls, NameCheck, Trust};
use meshproof_plan::walk::without_port;

use crate::Verified;
use crate::findings::handshakes::checks_another_host;
use crate::flows::{Observed, flow};
use crate::raw::{self, ClusterName};
use crate::trace::{End, Layer, Scheme, Trace, Tracer};
use crate::world::World;

/// How many requests are proved at most. The rest is named.
const MAX_EXCHANGES: usize = 200;

/// A workload with a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its name, which is also its label `app`.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The ports that it dials.
    pub dials: Vec<u16>,
}

/// A gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its name, which is also that of its Service.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The labels of its pods.
    pub labels: BTreeMap<String, String>,
    /// The ports of its Service.
    pub ports: Vec<u16>,
}

/// Who sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A workload, through its sidecar.
    Workload(String),
    /// A client outside the mesh, to a port of a gateway.
    Outside {
        /// The gateway.
        gateway: String,
        /// The port of its Service.
        port: u16,
    },
}

/// What a request must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A proxy opens TLS to the server.
    Originated {
        /// Which proxy.
        by: String,
        /// The server name of the ClientHello; none: it is not looked at.
        server_name: Option<String>,
        /// The names that the server's certificate must hold one of; empty: none is checked.
        names: Vec<String>,
        /// Whether the certificate is checked at all.
        verified: bool,
        /// The Secret with the CA that is trusted; none: the system's CAs.
        trust: Option<String>,
        /// The Secret with the client certificate.
        client: Option<String>,
    },
    /// A proxy opens TLS, and the server's certificate does not hold the name that the proxy checks.
    RefusesName {
        /// The Secret with the CA that is trusted; none: the system's CAs.
        trust: Option<String>,
        /// The Secret with the client certificate.
        client: Option<String>,
    },
    /// It arrives in plain text.
    PlainText,
    /// It arrives inside the client's own TLS, which no proxy opens.
    OwnTls,
    /// A proxy answers it with this status, and no server receives it.
    Answered(u16),
    /// It does not arrive; the status that the client gets, where there is one.
    Fails(Option<u16>),
}

/// How a gateway ends the TLS of its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Termination {
    /// The host that the client asks for, which the gateway's certificate must hold.
    pub host: String,
    /// Whether clients must have a certificate of the CA in the Secret.
    pub requires_client: bool,
    /// A name that the certificate of a client must hold.
    pub client_name: Option<String>,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Fit for the id of a check: `1-sleep-edition-cnn-com`.
    pub id: String,
    /// The request as the flows show it.
    pub request: String,
    /// The proxy as the flows show it.
    pub from: String,
    /// Who sends it.
    pub sender: Sender,
    /// The URL.
    pub url: String,
    /// How the gateway ends the client's TLS, where it does.
    pub terminated: Option<Termination>,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// The server that it is for.
    pub server: String,
    /// What must happen.
    pub expected: Expected,
    /// The codes of the findings that say so.
    pub findings: Vec<String>,
}

/// Everything that a proof takes.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    /// With sidecars.
    pub workloads: Vec<Workload>,
    /// The gateways.
    pub gateways: Vec<Gateway>,
    /// Istio's resources, without those that istiod refuses or the plan does not carry out.
    pub resources: Vec<Resource>,
    /// Secrets with a client certificate and a CA that are made up: namespace and name.
    pub secrets: BTreeSet<(String, String)>,
    /// Secrets with a certificate for the gateway's own clients that are made up: namespace and name.
    pub certificates: BTreeSet<(String, String)>,
    /// The requests.
    pub exchanges: Vec<Exchange>,
    /// What is not proved, with the reason.
    pub skipped: Vec<String>,
}

impl Verified {
    /// What real requests can prove.
    #[must_use]
    pub fn proof(&self) -> Proof {
        let world = &self.judged.world;
        let copy = crate::copy::copy(world, &self.judged.resources);
        // What is not Istio's (Services, workloads) is the same in the copy.
        let others = self.judged.resources.iter().filter(|r| !r.api_version().contains(".istio.io/"));
        let all: Vec<Resource> = others.cloned().chain(copy.resources.iter().cloned()).collect();
        let copied = World::new(&all, &world.scope);
        let mut proof = Proof { resources: copy.resources, skipped: copy.left_out, ..Proof::default() };
        let mut skipped = Skipped::default();
        let names = names(world);
        let dials: Vec<u16> = crate::assumed::dialled_ports(world.resources()).into_iter().collect();
        for (index, proxy) in world.state.proxies.iter().enumerate() {
            let Some(Ok(name)) = names.get(&index).cloned() else { continue };
            let namespace = proxy.namespace.clone();
            match proxy.kind {
                ProxyKind::Sidecar => {
                    proof.workloads.push(Workload { name, namespace, dials: dials.clone() })
                }
                ProxyKind::Gateway => {
                    let ports = served_ports(world, index);
                    proof.gateways.push(Gateway { name, namespace, labels: proxy.labels.clone(), ports });
                }
            }
        }
        if self.judged.observed.iter().any(|o| !o.hidden && o.ask.scheme == Scheme::Tcp) {
            proof.skipped.push("TCP connections: a proof sends HTTP requests".to_owned());
        }
        proof.certificates = certificates(&copied);
        let mut seen = BTreeSet::new();
        for one in self.judged.observed.iter().filter(|o| !o.hidden) {
            if one.ask.scheme == Scheme::Tcp || !seen.insert((one.proxy, &one.ask)) {
                continue;
            }
            let shown = format!("{} from {}", shown(one), world.configs[one.proxy].name);
            let [trace] = one.traces.as_slice() else {
                skipped.add(shown, "it takes one of several ways at random (weights, faults)".to_owned());
                continue;
            };
            if proof.exchanges.len() >= MAX_EXCHANGES {
                skipped.add(shown, format!("more than {MAX_EXCHANGES} requests"));
                continue;
            }
            if !is_the_same(world, &copied, one) {
                skipped.add(shown, "it depends on what is left out on this machine".to_owned());
                continue;
            }
            match self.exchange(&names, one, trace, &mut proof) {
                Ok(exchange) => proof.exchanges.push(exchange),
                Err(reason) => skipped.add(shown, reason),
            }
        }
        // A server is one for all requests.
        let of_secrets: BTreeSet<String> =
            proof.exchanges.iter().filter(|e| e.expected.needs_secret()).map(|e| e.server.clone()).collect();
        proof.exchanges.retain(|e| {
            let kept = e.expected != Expected::OwnTls || !of_secrets.contains(&e.server);
            if !kept {
                let reason = "another request needs this server with the CA of a Secret, which this client does not have";
                skipped.add(format!("{} from {}", e.request, e.from), reason.to_owned());
            }
            kept
        });
        proof.skipped.extend(skipped.lines());
        proof
    }

    fn exchange(
        &self,
        names: &BTreeMap<usize, Result<String, String>>,
        one: &Observed,
        trace: &Trace,
        proof: &mut Proof,
    ) -> Result<Exchange, String> {
        let world = &self.judged.world;
        let named = |proxy: usize| match names.get(&proxy) {
            Some(Ok(name)) => Ok(name.clone()),
            Some(Err(reason)) => Err(reason.clone()),
            None => Err("its proxy is not part of the proof".to_owned()),
        };
        let from = named(one.proxy)?;
        let sender = if world.is_sidecar(one.proxy) {
            Sender::Workload(from.clone())
        } else {
            Sender::Outside { gateway: from.clone(), port: one.ask.port }
        };
        if one.ask.method != "GET" {
            return Err(format!("its method is {}", one.ask.method));
        }
        let mut server = one.ask.host.clone();
        let expected = match &trace.end {
            End::Arrives { address, port, layers, external: true } => {
                server.clone_from(address);
                match (layers.as_slice(), port) {
                    ([], 80 | 443) => Expected::PlainText,
                    ([Layer::Own(_)], 443) => Expected::OwnTls,
                    // The server reads a ClientHello where it expects a request.
                    ([Layer::Own(_), Layer::Originated { .. }], 443) => Expected::Fails(None),
                    ([Layer::Own(_)], 80) => Expected::Fails(None),
                    ([Layer::Originated { by, server_name, origination }], 443) => {
                        if let Trust::File(path) = &origination.trust {
                            return Err(format!("the CA is in {path} on the proxy's own disk"));
                        }
                        let namespace = world.proxy(*by).namespace.clone();
                        let mut secret = |name: &String| {
                            let found = secret_of(name, &namespace);
                            if proof.certificates.contains(&found) {
                                return Err(format!(
                                    "its Secret {} is also that of a gateway's own certificate",
                                    found.1
                                ));
                            }
                            let plain = found.1.clone();
                            proof.secrets.insert(found);
                            Ok(plain)
                        };
                        let trust = match &origination.trust {
                            Trust::Credential(name) if name.starts_with("configmap://") => {
                                return Err("the CA is in a ConfigMap".to_owned());
                            }
                            Trust::Credential(name) => Some(secret(name)?),
                            Trust::SystemRoots | Trust::File(_) | Trust::Anybody => None,
                        };
                        let client = match &origination.client_certificate {
                            Some(ClientCertificate::Credential(name)) => Some(secret(name)?),
                            Some(ClientCertificate::Files { certificate, .. }) => {
                                return Err(format!(
                                    "the client certificate is in {certificate} on the proxy's own disk"
                                ));
                            }
                            None => None,
                        };
                        let hop = trace.hops.last();
                        let host = hop.map(|h| without_port(&h.authority).to_owned());
                        // A real server of the destination has no certificate for another host.
                        let refuses = hop.and_then(|h| ClusterName::parse(&h.cluster)).is_some_and(|c| {
                            checks_another_host(world, host.as_deref().unwrap_or_default(), origination, c)
                        });
                        let names = match &origination.names {
                            NameCheck::FromHost => host.into_iter().collect(),
                            NameCheck::OneOf(names) => names.clone(),
                            NameCheck::OneOfAndHost(names) => {
                                let mut all: Vec<String> = host.into_iter().collect();
                                all.extend(names.iter().cloned());
                                all
                            }
                            NameCheck::ChainOnly => Vec::new(),
                        };
                        if refuses {
                            Expected::RefusesName { trust, client }
                        } else {
                            Expected::Originated {
                                by: named(*by)?,
                                server_name: server_name.clone(),
                                names,
                                verified: origination.trust != Trust::Anybody,
                                trust,
                                client,
                            }
                        }
                    }
                    ([.., Layer::Mesh(_)], _) => {
                        return Err("it reaches the server inside mutual TLS of the mesh".to_owned());
                    }
                    ([Layer::Originated { .. }], 80) => {
                        return Err("it opens TLS to port 80, where stand-ins serve plain HTTP".to_owned());
                    }
                    ([], _) | ([Layer::Originated { .. } | Layer::Own(_)], _) => {
                        return Err(format!("its server listens on port {port}; stand-ins have 80 and 443"));
                    }
                    (_, _) => return Err("it arrives in several layers of TLS".to_owned()),
                }
            }
            End::Fails { status, .. } => Expected::Fails(*status),
            End::Arrives { .. } => return Err("its server is inside the mesh".to_owned()),
            End::Answered { status, .. } => Expected::Answered(*status),
            End::Unknown(why) => return Err(why.clone()),
        };
        let alias = |s: &meshproof_plan::Service| {
            s.external_name.is_some() && s.host.split('.').next() == one.ask.host.split('.').next()
        };
        if !one.ask.host.contains('.') || world.state.services.iter().any(alias) {
            return Err("its host is a Service of the cluster, which is not created here".to_owned());
        }
        let by_gateway = match one.ask.scheme {
            Scheme::Https if !world.is_sidecar(one.proxy) => {
                Tracer::new(world).ends_tls_of(one.proxy, &one.ask)
            }
            Scheme::Http | Scheme::Https | Scheme::Tcp => None,
        };
        let of_config_map = |trust: &Trust| trust.credential().is_some_and(|n| n.starts_with("configmap://"));
        if by_gateway.and_then(|tls| tls.client_ca.as_ref()).is_some_and(of_config_map) {
            return Err("the CA of its clients is in a ConfigMap".to_owned());
        }
        let terminated = by_gateway.map(|tls| Termination {
            host: one.ask.host.clone(),
            requires_client: tls.require_client_certificate,
            client_name: tls.client_ca.as_ref().and(tls.client_names.first().cloned()),
        });
        // A route to a service that the files do not hold fails for that reason alone.
        let unknown = trace.hops.last().and_then(|h| ClusterName::parse(&h.cluster));
        if matches!(expected, Expected::Fails(_)) && unknown.is_some_and(|c| !world.knows(c.host)) {
            return Err(format!("its destination is not {}", world.scope.among()));
        }
        let url = one.ask.to_string();
        let about = |f: &&meshproof_model::verification::Finding| {
            f.effect.starts_with(&url) && f.effect.contains(&world.configs[one.proxy].name)
        };
        let findings: Vec<String> =
            self.verification.findings.iter().filter(about).map(|f| f.code.clone()).collect();
        let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let host: String = one.ask.host.chars().map(fit).take(60).collect();
        Ok(Exchange {
            id: format!("{}-{from}-{host}", proof.exchanges.len() + 1),
            request: shown(one),
            from: world.configs[one.proxy].name.clone(),
            sender,
            url,
            terminated,
            headers: one.ask.headers.clone(),
            server,
            expected,
            findings,
        })
    }
}

impl Expected {
    /// Whether a proxy trusts the server by a Secret, or shows it the certificate of one.
    fn needs_secret(&self) -> bool {
        match self {
            Self::Originated { trust, client, .. } | Self::RefusesName { trust, client } => {
                trust.is_some() || client.is_some()
            }
            Self::PlainText | Self::OwnTls | Self::Answered(_) | Self::Fails(_) => false,
        }
    }
}

/// The Secrets with which gateways end their clients' TLS: namespace and name.
fn certificates(world: &World) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for gateway in (0..world.configs.len()).filter(|proxy| !world.is_sidecar(*proxy)) {
        let chains = world.plans[gateway].listeners.iter().flat_map(|listener| &listener.chains);
        for tls in chains.filter_map(|chain| chain.tls.as_ref()).filter_map(DownstreamTls::own) {
            let certificates = tls.certificates.iter().filter_map(ClientCertificate::credential);
            let names = certificates.chain(tls.client_ca.as_ref().and_then(Trust::credential));
            found.extend(names.map(|name| secret_of(name, &world.proxy(gateway).namespace)));
        }
    }
    found
}

fn secret_of(name: &str, namespace: &str) -> (String, String) {
    let (owner, plain) = raw::secret_of(name, namespace);
    (owner.to_owned(), plain.to_owned())
}

/// A request with what distinguishes it from others for the same URL.
fn shown(one: &Observed) -> String {
    let conditions = one.ask.conditions();
    if conditions.is_empty() {
        one.ask.to_string()
    } else {
        format!("{} ({})", one.ask, conditions.join(", "))
    }
}

/// Requests that are not proved, by the reason.
#[derive(Default)]
struct Skipped(Vec<(String, Vec<String>)>);

/// How many requests are named for one reason.
const NAMED: usize = 3;

impl Skipped {
    fn add(&mut self, request: String, reason: String) {
        match self.0.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, requests)) => requests.push(request),
            None => self.0.push((reason, vec![request])),
        }
    }

    fn lines(self) -> impl Iterator<Item = String> {
        self.0.into_iter().map(|(reason, requests)| match requests.len().saturating_sub(NAMED) {
            0 => format!("{}: {reason}", requests.join(", ")),
            more => format!("{} and {more} more: {reason}", requests[..NAMED].join(", ")),
        })
    }
}

/// Whether a request does the same in the copy of the configuration.
fn is_the_same(world: &World, copied: &World, one: &Observed) -> bool {
    let name = &world.configs[one.proxy].name;
    let Some(proxy) = copied.configs.iter().position(|c| c.name == *name) else { return false };
    let traces = Tracer::new(copied).trace(proxy, &one.ask);
    let [there] = traces.as_slice() else { return false };
    let ask = one.ask.clone();
    let again = Observed { proxy, ask, meant_for: None, hidden: false, traces: Vec::new() };
    one.traces.iter().all(|trace| flow(world, one, trace) == flow(copied, &again, there))
}

/// The names of proxies on one machine, or why one cannot be there. A name is unique; a sidecar's is also its only label, `app`.
/// Labels by which nothing selects make no difference.
fn names(world: &World) -> BTreeMap<usize, Result<String, String>> {
    let selected = crate::assumed::selected_labels(world.resources());
    let mut found: BTreeMap<usize, Result<String, String>> = BTreeMap::new();
    for (index, proxy) in world.state.proxies.iter().enumerate() {
        let short = proxy.name.split('.').next().unwrap_or_default().to_owned();
        let taken = |name: &String| found.values().any(|n| n.as_ref() == Ok(name));
        let fits = |name: &String| {
            !name.is_empty()
                && name.len() <= 63
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        };
        let needed: Vec<(&String, &String)> =
            proxy.labels.iter().filter(|(key, _)| selected.iter().any(|(k, _)| k == *key)).collect();
        let name = match (proxy.kind, needed.as_slice()) {
            (ProxyKind::Gateway, _) => Some(short.clone()).filter(|n| !taken(n)),
            (ProxyKind::Sidecar, [(key, value)]) if *key == "app" => {
                Some((*value).clone()).filter(|n| !taken(n))
            }
            (ProxyKind::Sidecar, []) => {
                let own = proxy.labels.get("app").cloned().filter(|n| fits(n));
                let beside = [format!("{short}-{}", proxy.namespace), format!("{short}-{index}")];
                let free = |n: &String| !taken(n) && !selected.iter().any(|(k, v)| k == "app" && v == n);
                own.into_iter().chain([short.clone()]).chain(beside).find(free)
            }
            (ProxyKind::Sidecar, several) => {
                let several: Vec<String> = several.iter().map(|(k, v)| format!("{k}={v}")).collect();
                let reason = format!(
                    "workloads on this machine have the label app alone, and resources select by {}",
                    several.join(", ")
                );
                found.insert(index, Err(reason));
                continue;
            }
        };
        let name = match name {
            Some(name) if fits(&name) => Ok(name),
            Some(name) => Err(format!("{name:?} cannot be the name of a workload on this machine")),
            None => Err(format!("another proxy on this machine is called {short}")),
        };
        found.insert(index, name);
    }
    found
}

/// The ports of a gateway's Services that a Gateway serves.
fn served_ports(world: &World, gateway: usize) -> Vec<u16> {
    let own = world.proxy(gateway);
    let services = world.state.services.iter().filter(|s| {
        s.namespace == own.namespace
            && !s.selector.is_empty()
            && s.selector.iter().all(|(k, v)| own.labels.get(k) == Some(v))
    });
    let mut ports: Vec<u16> = services.flat_map(|s| &s.ports).map(|p| p.number).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}
