//! Upstream clusters and how they open TLS.

use std::collections::BTreeSet;

use super::destination_rules::{DestinationRules, PortPolicy, policy};
use super::input::{Input, Proxy, ProxyKind};
use super::peer_authentication::{Accepts, accepts};
use super::registry::{Addressing, Endpoint, Port, Scope, Service};
use crate::model::{
    ClientCertificate, Cluster, Discovery, NameCheck, Origination, ServerName, Trust, UpstreamProtocol,
    UpstreamTls,
};
use crate::resources::Resources;
use crate::resources::common::labels_match;
use crate::resources::destination_rule::{ClientTls, ClientTlsMode, UpgradePolicy};
use crate::resources::protocol::Protocol;

/// The cluster that passes on what the registry does not know.
pub(crate) const PASSTHROUGH: &str = "PassthroughCluster";
/// The cluster that leads nowhere.
pub(crate) const BLACK_HOLE: &str = "BlackHoleCluster";

/// `outbound|PORT|SUBSET|HOST` (`BuildSubsetKey` in pilot/pkg/model/push_context.go); the port is the service's.
pub(crate) fn outbound_name(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// What a cluster is asked for by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) subset: String,
}

impl Key {
    pub(crate) fn name(&self) -> String {
        outbound_name(self.port, &self.subset, &self.host)
    }
}

/// What the clusters of one proxy are made from.
pub(crate) struct Builder<'a> {
    pub(crate) input: &'a Input<'a>,
    pub(crate) resources: &'a Resources<'a>,
    pub(crate) rules: &'a DestinationRules,
    pub(crate) proxy: &'a Proxy,
    pub(crate) scope: &'a Scope,
}

impl Builder<'_> {
    /// The cluster, or none where there is no such service, port or subset: a request for it then gets 503, `NC`.
    pub(crate) fn outbound(&self, key: &Key, warnings: &mut Vec<String>) -> Option<Cluster> {
        let service = self.scope.service(&key.host)?;
        let port = service.port(key.port)?;
        let rule = self.rules.for_service(self.proxy, service);
        let subset =
            if key.subset.is_empty() { None } else { Some(rule.and_then(|r| r.subset(&key.subset))?) };
        let policy = policy(rule.map(|r| &r.rule.spec), subset, key.port);
        let protocol = self.upstream_protocol(port, &policy);
        let wanted = |e: &&Endpoint| subset.is_none_or(|s| labels_match(&s.labels, &e.labels));
        let endpoints: Vec<&Endpoint> = match &port.addressing {
            Addressing::Endpoints(all) => all.iter().filter(wanted).collect(),
            Addressing::Original => Vec::new(),
        };
        let discovery = match &port.addressing {
            Addressing::Endpoints(_) => Discovery::Endpoints(endpoints.iter().map(|e| e.address).collect()),
            Addressing::Original => Discovery::OriginalDestination(self.input.endpoints.to_vec()),
        };
        let tls = match &policy.tls {
            Some(tls) => {
                let selects = rule.is_some_and(super::destination_rules::Merged::selects_workloads);
                self.configured_tls(tls, selects, key, service, port, protocol, warnings)
            }
            None => self.automatic_tls(key, service, port, &endpoints, protocol, warnings),
        };
        Some(Cluster { name: key.name(), discovery, protocol, tls })
    }

    /// HTTP/2 when the port says so (`setUpstreamProtocol` in cluster_builder.go) or the rule upgrades it
    /// (`shouldH2Upgrade` in cluster_traffic_policy.go). So between sidecar and egress gateway it is the name of the
    /// gateway's Service port that decides: Istio's charts name port 80 `http2`, hence the HTTP/2 in the document's first
    /// log sample, and port 443 `https`, which is not HTTP/2, hence the HTTP/1.1 in its second. The ALPN that both sides
    /// agree on follows the protocol and never decides it.
    fn upstream_protocol(&self, port: &Port, policy: &PortPolicy) -> UpstreamProtocol {
        let pool = policy.connection_pool.as_ref().and_then(|p| p.http.as_ref());
        if pool.is_some_and(|p| p.use_client_protocol) {
            return UpstreamProtocol::Downstream;
        }
        let upgrade = pool.is_some_and(|p| p.h2_upgrade_policy == UpgradePolicy::Upgrade);
        match port.protocol {
            // A proxy takes HTTP/1.1 there as well.
            Protocol::Http2 if !upgrade && !self.input.mesh.http2 && port.leads_to_proxies() => {
                UpstreamProtocol::Http1
            }
            Protocol::Http2 => UpstreamProtocol::Http2,
            _ if upgrade => UpstreamProtocol::Http2,
            // Gateways do not sniff (setUpstreamProtocol).
            Protocol::Sniffed if self.proxy.kind == ProxyKind::Sidecar => UpstreamProtocol::Downstream,
            Protocol::Sniffed | Protocol::Http | Protocol::Https | Protocol::Tls | Protocol::Tcp => {
                UpstreamProtocol::Http1
            }
        }
    }

    /// `buildUpstreamTLSSettings` and `buildUpstreamClusterTLSContext` (pilot/pkg/networking/core/cluster_tls.go).
    #[allow(clippy::too_many_arguments, reason = "they are the facts that Istio's function decides on")]
    fn configured_tls(
        &self,
        tls: &ClientTls,
        selects_workloads: bool,
        key: &Key,
        service: &Service,
        port: &Port,
        protocol: UpstreamProtocol,
        warnings: &mut Vec<String>,
    ) -> Option<UpstreamTls> {
        let mutual = match tls.mode {
            ClientTlsMode::Disable => return None,
            ClientTlsMode::IstioMutual => {
                let peer_identities = if tls.subject_alt_names.is_empty() {
                    identities(port)
                } else {
                    tls.subject_alt_names.clone()
                };
                let sni = if tls.sni.is_empty() { default_sni(key) } else { tls.sni.clone() };
                let alpn = mesh_alpn(port.protocol, protocol);
                return Some(UpstreamTls::MeshMutual { sni, peer_identities, alpn });
            }
            ClientTlsMode::Simple => false,
            ClientTlsMode::Mutual => true,
        };
        // A sidecar is not given a credential by a rule that other workloads share; TLS is left out altogether.
        if !tls.credential_name.is_empty() && self.proxy.kind == ProxyKind::Sidecar && !selects_workloads {
            warnings.push(format!(
                "{}: credentialName {:?} for {} has no effect on a sidecar in a DestinationRule without \
                 workloadSelector; the sidecar opens no TLS",
                self.proxy.name, tls.credential_name, service.host
            ));
            return None;
        }
        Some(UpstreamTls::Originate(origination(tls, mutual, port.protocol, protocol)))
    }

    /// Auto mTLS (`BestEffortInferServiceMTLSMode` in push_context.go, then by endpoint): mesh TLS to workloads that have
    /// a sidecar and do not forbid it. A gateway's pods do not carry `security.istio.io/tlsMode: istio` (only the sidecar
    /// injection template sets it), so no proxy opens mesh TLS to a gateway unless a rule says so.
    fn automatic_tls(
        &self,
        key: &Key,
        service: &Service,
        port: &Port,
        endpoints: &[&Endpoint],
        protocol: UpstreamProtocol,
        warnings: &mut Vec<String>,
    ) -> Option<UpstreamTls> {
        if service.external {
            return None;
        }
        let meshed = endpoints.iter().filter(|e| self.accepts_mesh_tls(e)).count();
        if meshed == 0 {
            return None;
        }
        if meshed < endpoints.len() {
            warnings.push(format!(
                "{}: only some endpoints of {} accept mesh TLS; the plan sends plain text to all",
                self.proxy.name, service.host
            ));
            return None;
        }
        Some(UpstreamTls::MeshMutual {
            sni: default_sni(key),
            peer_identities: identities(port),
            alpn: mesh_alpn(port.protocol, protocol),
        })
    }

    fn accepts_mesh_tls(&self, endpoint: &Endpoint) -> bool {
        let Some(identity) = &endpoint.identity else { return false };
        let behind = self.input.proxies.iter().find(|p| {
            p.identity == *identity
                && (p.inbound.iter().any(|i| i.bind == endpoint.address)
                    || p.servers.iter().any(|(_, bind)| *bind == endpoint.address))
        });
        let behind = behind.or_else(|| self.input.proxies.iter().find(|p| p.identity == *identity));
        match behind {
            None => true,
            Some(proxy) => match proxy.kind {
                ProxyKind::Gateway => false,
                ProxyKind::Sidecar => {
                    let inbound = proxy.inbound.iter().find(|i| i.bind == endpoint.address);
                    let port = inbound.map_or(0, |i| i.port);
                    accepts(&self.resources.peer_authentications, proxy, port, self.input.mesh)
                        != Accepts::Plain
                }
            },
        }
    }

    /// The cluster that passes on what the registry does not know (`buildDefaultPassthroughCluster`).
    pub(crate) fn passthrough(&self) -> Cluster {
        Cluster {
            name: PASSTHROUGH.to_owned(),
            discovery: Discovery::OriginalDestination(self.input.endpoints.to_vec()),
            protocol: UpstreamProtocol::Downstream,
            tls: None,
        }
    }
}

/// The cluster that leads nowhere (`buildBlackHoleCluster`).
pub(crate) fn black_hole() -> Cluster {
    Cluster {
        name: BLACK_HOLE.to_owned(),
        discovery: Discovery::Nowhere,
        protocol: UpstreamProtocol::Http1,
        tls: None,
    }
}

/// The identities that a service's addresses have (`serviceAccounts`).
fn identities(port: &Port) -> Vec<String> {
    let all: BTreeSet<String> = match &port.addressing {
        Addressing::Endpoints(endpoints) => endpoints.iter().filter_map(|e| e.identity.clone()).collect(),
        Addressing::Original => BTreeSet::new(),
    };
    all.into_iter().collect()
}

/// `BuildDNSSrvSubsetKey`.
fn default_sni(key: &Key) -> String {
    format!("outbound_.{}_.{}_.{}", key.port, key.subset, key.host)
}

/// What Istio's ALPN filter offers in mesh TLS, by the protocol of the request (`mtlsHTTP11ALPN`, `mtlsHTTP2ALPN` in
/// pilot/pkg/xds/filters/filters.go), and what the cluster itself offers for anything but HTTP
/// (`ALPNInMeshWithMxc` in pilot/pkg/networking/util/util.go).
fn mesh_alpn(port: Protocol, upstream: UpstreamProtocol) -> Vec<String> {
    let list: &[&str] = match (port, upstream) {
        (Protocol::Tcp | Protocol::Tls, UpstreamProtocol::Http1) => &["istio-peer-exchange", "istio"],
        (_, UpstreamProtocol::Http1) => &["istio-http/1.1", "istio", "http/1.1"],
        (_, UpstreamProtocol::Http2) => &["istio-h2", "istio", "h2"],
        // By the request: the data plane offers those of these that fit it.
        (_, UpstreamProtocol::Downstream) => &["istio-h2", "istio-http/1.1", "istio", "h2", "http/1.1"],
    };
    list.iter().map(|&s| s.to_owned()).collect()
}

/// `constructUpstreamTLS` and `setAutoSniAndAutoSanValidation` (cluster_tls.go).
fn origination(tls: &ClientTls, mutual: bool, port: Protocol, upstream: UpstreamProtocol) -> Origination {
    let credential = (!tls.credential_name.is_empty()).then(|| tls.credential_name.clone());
    let trust = if tls.skips_verification() {
        Trust::Anybody
    } else if let Some(name) = &credential {
        Trust::Credential(name.clone())
    } else if matches!(tls.ca_certificates.as_str(), "" | "system") {
        Trust::SystemRoots
    } else {
        Trust::File(tls.ca_certificates.clone())
    };
    let client_certificate = mutual.then(|| match &credential {
        Some(name) => ClientCertificate::Credential(name.clone()),
        None => ClientCertificate::Files {
            certificate: tls.client_certificate.clone(),
            key: tls.private_key.clone(),
        },
    });
    // Bytes have no Host, so that there is nothing to take a server name, or a name to verify, from.
    let opaque = port == Protocol::Tcp;
    let sni = match (tls.sni.as_str(), opaque) {
        ("", false) => ServerName::FromHost,
        ("", true) => ServerName::Absent,
        (name, _) => ServerName::Fixed(name.to_owned()),
    };
    let names = if !tls.subject_alt_names.is_empty() {
        NameCheck::OneOf(tls.subject_alt_names.clone())
    } else if sni == ServerName::FromHost && !tls.skips_verification() {
        NameCheck::FromHost
    } else {
        NameCheck::ChainOnly
    };
    // Only an HTTP/2 cluster offers ALPN, and `istio.alpn_override: "false"` (AddALPNOverrideToMetadata) keeps the ALPN
    // filter's mesh-internal values away from servers outside.
    let alpn = match upstream {
        UpstreamProtocol::Http2 => vec!["h2".to_owned()],
        UpstreamProtocol::Http1 | UpstreamProtocol::Downstream => Vec::new(),
    };
    Origination {
        sni,
        trust,
        names,
        client_certificate,
        alpn,
        min_version: None,
        max_version: None,
        credential,
    }
}
