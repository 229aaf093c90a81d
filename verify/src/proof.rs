//! What real requests can prove about a configuration: which workloads, gateways, servers and Secrets it takes, and what each
//! request must do by the plan.

use std::collections::{BTreeMap, BTreeSet};

use meshproof_model::{Resource, ResourceId};
use meshproof_plan::ProxyKind;
use meshproof_plan::model::{ClientCertificate, NameCheck, Trust};
use meshproof_plan::walk::without_port;

use crate::Verified;
use crate::flows::Observed;
use crate::raw::ClusterName;
use crate::trace::{End, Layer, Scheme, Trace};
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
    /// It arrives in plain text.
    PlainText,
    /// It does not arrive; the status that the client gets, where there is one.
    Fails(Option<u16>),
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
    /// Secrets that are made up: namespace and name.
    pub secrets: BTreeSet<(String, String)>,
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
        let mut proof = Proof::default();
        let unsupported: BTreeSet<&ResourceId> = world
            .verdicts
            .iter()
            .filter(|v| !v.unsupported.is_empty() || v.refused.is_some())
            .map(|v| &v.resource)
            .collect();
        proof.resources = self
            .judged
            .resources
            .iter()
            .filter(|r| r.api_version().contains(".istio.io/") && !unsupported.contains(&r.id()))
            .filter(|r| world.scope.reaches(world, r))
            .cloned()
            .collect();
        let names = names(world);
        let dials: Vec<u16> = crate::assumed::dialled_ports(world.resources()).into_iter().collect();
        for (index, proxy) in world.state.proxies.iter().enumerate() {
            let Some(name) = names.get(&index).cloned() else { continue };
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
        if self.judged.observed.iter().any(|o| !o.hidden && o.ask.scheme != Scheme::Http) {
            let what = "TLS of clients' own and TCP connections: a proof sends plain HTTP requests";
            proof.skipped.push(what.to_owned());
        }
        let mut seen = BTreeSet::new();
        for one in self.judged.observed.iter().filter(|o| !o.hidden) {
            let [trace] = one.traces.as_slice() else { continue };
            if one.ask.scheme != Scheme::Http || !seen.insert((one.proxy, one.ask.to_string())) {
                continue;
            }
            let shown = format!("{} from {}", one.ask, world.configs[one.proxy].name);
            if proof.exchanges.len() >= MAX_EXCHANGES {
                proof.skipped.push(format!("{shown}: more than {MAX_EXCHANGES} requests"));
                continue;
            }
            let number = proof.exchanges.len() + 1;
            match self.exchange(world, &names, one, trace, number, &mut proof.secrets) {
                Ok(Some(exchange)) => proof.exchanges.push(exchange),
                Ok(None) => {}
                Err(reason) => proof.skipped.push(format!("{shown}: {reason}")),
            }
        }
        proof
    }

    fn exchange(
        &self,
        world: &World,
        names: &BTreeMap<usize, String>,
        one: &Observed,
        trace: &Trace,
        number: usize,
        secrets: &mut BTreeSet<(String, String)>,
    ) -> Result<Option<Exchange>, String> {
        let named = |proxy: usize| {
            let reason = "a workload with such labels cannot be made up on this machine";
            names.get(&proxy).cloned().ok_or_else(|| reason.to_owned())
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
                    ([Layer::Originated { by, server_name, origination }], 443) => {
                        if let Trust::File(path) = &origination.trust {
                            return Err(format!("the CA is in {path} on the proxy's own disk"));
                        }
                        let namespace = world.proxy(*by).namespace.clone();
                        let mut secret = |name: &String| {
                            let plain = name.strip_prefix("kubernetes://").unwrap_or(name);
                            let plain = plain.rsplit('/').next().unwrap_or(plain).to_owned();
                            secrets.insert((namespace.clone(), plain.clone()));
                            plain
                        };
                        let trust = match &origination.trust {
                            Trust::Credential(name) if name.starts_with("configmap://") => {
                                return Err("the CA is in a ConfigMap".to_owned());
                            }
                            Trust::Credential(name) => Some(secret(name)),
                            Trust::SystemRoots | Trust::File(_) | Trust::Anybody => None,
                        };
                        let client = match &origination.client_certificate {
                            Some(ClientCertificate::Credential(name)) => Some(secret(name)),
                            Some(ClientCertificate::Files { certificate, .. }) => {
                                return Err(format!(
                                    "the client certificate is in {certificate} on the proxy's own disk"
                                ));
                            }
                            None => None,
                        };
                        let host = trace.hops.last().map(|h| without_port(&h.authority).to_owned());
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
                        Expected::Originated {
                            by: named(*by)?,
                            server_name: server_name.clone(),
                            names,
                            verified: origination.trust != Trust::Anybody,
                            trust,
                            client,
                        }
                    }
                    (_, port) => {
                        return Err(format!("its server listens on port {port}; stand-ins have 80 and 443"));
                    }
                }
            }
            End::Fails { status, .. } => Expected::Fails(*status),
            End::Arrives { .. } | End::Answered { .. } | End::Unknown(_) => return Ok(None),
        };
        let alias = |s: &meshproof_plan::Service| {
            s.external_name.is_some() && s.host.split('.').next() == one.ask.host.split('.').next()
        };
        if !one.ask.host.contains('.') || world.state.services.iter().any(alias) {
            return Err("its host is a Service of the cluster, which is not created here".to_owned());
        }
        // A route to a service that the files do not hold fails for that reason alone.
        let unknown = trace.hops.last().and_then(|h| ClusterName::parse(&h.cluster));
        if matches!(expected, Expected::Fails(_)) && unknown.is_some_and(|c| !world.knows(c.host)) {
            return Err(format!("its destination is not {}", world.scope.among()));
        }
        let shown = one.ask.to_string();
        let verification = &self.verification;
        let findings = verification
            .findings
            .iter()
            .filter(|f| f.effect.starts_with(&shown) && f.effect.contains(&world.configs[one.proxy].name))
            .map(|f| f.code.clone())
            .collect();
        let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let host: String = one.ask.host.chars().map(fit).take(60).collect();
        Ok(Some(Exchange {
            id: format!("{number}-{from}-{host}"),
            request: shown.clone(),
            from: world.configs[one.proxy].name.clone(),
            sender,
            url: shown,
            headers: one.ask.headers.clone(),
            server,
            expected,
            findings,
        }))
    }
}

/// The names of proxies on one machine: unique, and for sidecars the value of their only label that is looked at, `app`.
fn names(world: &World) -> BTreeMap<usize, String> {
    let mut found: BTreeMap<usize, String> = BTreeMap::new();
    for (index, proxy) in world.state.proxies.iter().enumerate() {
        let short = proxy.name.split('.').next().unwrap_or_default().to_owned();
        let name = match proxy.kind {
            ProxyKind::Gateway => short,
            ProxyKind::Sidecar => match proxy.labels.iter().collect::<Vec<_>>().as_slice() {
                [] => short,
                [(key, value)] if *key == "app" => (*value).clone(),
                _ => continue,
            },
        };
        let fits = !name.is_empty()
            && name.len() <= 63
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if fits && !found.values().any(|n| *n == name) {
            found.insert(index, name);
        }
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
