//! Upstream clusters and how they open TLS (pilot/pkg/networking/core/cluster.go, cluster_builder.go and cluster_tls.go).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::context::Context;
use super::destination_rules::{Merged, PortPolicy, policy, tls_mode};
use super::input::{MeshConfig, ProxyKind};
use super::peer_authentication::{Accepts, accepts, of_namespace};
use super::registry::{Endpoint, Port, Resolution, Service};
use crate::mesh::{BLACK_HOLE, ClusterKind, MeshCluster, MeshEndpoint, PASSTHROUGH};
use crate::model::{
    ClientCertificate, NameCheck, Origination, ServerName, Trust, UpstreamProtocol, UpstreamTls,
};
use crate::resources::common::labels_match;
use crate::resources::destination_rule::{ClientTls, ClientTlsMode, Subset};
use crate::resources::hosts::is_wildcard;
use crate::resources::protocol::Protocol;
use crate::resources::traffic_policy::{SimpleLoadBalancer, UpgradePolicy};

/// `outbound|PORT|SUBSET|HOST` (`BuildSubsetKey` in pilot/pkg/model/push_context.go); the port is the service's.
pub(crate) fn outbound_name(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// `BuildDNSSrvSubsetKey`.
pub(crate) fn sni_name(port: u16, subset: &str, host: &str) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

/// `buildClusters` and `buildOutboundClusters`: one per service and port, and one per subset.
pub(crate) fn all(context: &Context<'_>, warnings: &mut Vec<String>) -> BTreeMap<String, MeshCluster> {
    let mut clusters = BTreeMap::new();
    for service in &context.scope.services {
        if service.resolution == Resolution::Alias {
            continue;
        }
        let rule = context.rules.for_service(context.proxy, service);
        for port in service.ports.iter().filter(|p| p.protocol != Protocol::Udp) {
            if is_forwarder(service) && !forwards(port.protocol) {
                continue;
            }
            let builder = Builder { context, service, port, rule };
            let Some(main) = builder.cluster(None, warnings) else { continue };
            clusters.insert(outbound_name(port.number, "", &service.host), main);
            if is_forwarder(service) {
                continue;
            }
            for subset in rule.iter().flat_map(|r| &r.rule.spec.subsets) {
                if let Some(cluster) = builder.cluster(Some(subset), warnings) {
                    clusters.insert(outbound_name(port.number, &subset.name, &service.host), cluster);
                }
            }
        }
    }
    clusters.insert(BLACK_HOLE.to_owned(), bare(ClusterKind::Static, UpstreamProtocol::Http1));
    if context.proxy.kind == ProxyKind::Sidecar {
        let passes = bare(ClusterKind::OriginalDestination, UpstreamProtocol::Downstream);
        clusters.insert(PASSTHROUGH.to_owned(), passes);
    }
    clusters
}

/// The clusters that an AUTO_PASSTHROUGH server leads to, by server name (`buildOutboundSniDnatClusters`).
pub(crate) fn by_server_name(context: &Context<'_>) -> BTreeMap<String, MeshCluster> {
    let mut clusters = BTreeMap::new();
    for service in context.scope.services.iter().filter(|s| !s.external) {
        let rule = context.rules.for_service(context.proxy, service);
        for port in service.ports.iter().filter(|p| p.protocol != Protocol::Udp) {
            let builder = Builder { context, service, port, rule };
            let subsets = rule.iter().flat_map(|r| &r.rule.spec.subsets).map(Some);
            for subset in std::iter::once(None).chain(subsets) {
                let Some(mut cluster) = builder.cluster(subset, &mut Vec::new()) else { continue };
                cluster.tls = None;
                cluster.tls_by_endpoint = false;
                // The proxy passes TLS on without looking into it, so only endpoints with mesh TLS may receive it.
                cluster.endpoints.retain(|e| e.mesh_tls);
                let name = subset.map_or("", |s| s.name.as_str());
                clusters.insert(sni_name(port.number, name, &service.host), cluster);
            }
        }
    }
    clusters
}

fn bare(kind: ClusterKind, protocol: UpstreamProtocol) -> MeshCluster {
    MeshCluster {
        kind,
        endpoints: Vec::new(),
        protocol,
        tls: None,
        tls_by_endpoint: false,
        port_override: None,
        namespace: String::new(),
        rules: Vec::new(),
    }
}

/// Whether requests are forwarded to whatever name they carry: DYNAMIC_DNS with a wildcard.
fn is_forwarder(service: &Service) -> bool {
    is_wildcard(&service.host) && service.resolution == Resolution::DynamicDns
}

/// The protocols that such a cluster is made for.
fn forwards(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Http | Protocol::Http2 | Protocol::Tls)
}

/// What the clusters of one service's port are made from.
struct Builder<'a> {
    context: &'a Context<'a>,
    service: &'a Service,
    port: &'a Port,
    rule: Option<&'a Merged>,
}

impl Builder<'_> {
    fn sidecar(&self) -> bool {
        self.context.proxy.kind == ProxyKind::Sidecar
    }

    /// `convertResolution`; a load balancer PASSTHROUGH overrides it (`applyLoadBalancer`).
    fn kind(&self, policy: &PortPolicy) -> ClusterKind {
        let passes =
            policy.load_balancer.as_ref().and_then(|b| b.simple) == Some(SimpleLoadBalancer::Passthrough);
        if is_forwarder(self.service) {
            return ClusterKind::DynamicDns;
        }
        if passes {
            return ClusterKind::OriginalDestination;
        }
        match self.service.resolution {
            Resolution::ClientSide | Resolution::Alias | Resolution::DynamicDns => ClusterKind::Endpoints,
            Resolution::Dns if self.service.races => ClusterKind::LogicalDns,
            Resolution::Dns => ClusterKind::StrictDns,
            Resolution::DnsRoundRobin => ClusterKind::LogicalDns,
            // A headless Service as well: PILOT_ENABLE_EDS_FOR_HEADLESS_SERVICES is off by default.
            Resolution::Passthrough if self.sidecar() => ClusterKind::OriginalDestination,
            Resolution::Passthrough => ClusterKind::Endpoints,
        }
    }

    /// `buildCluster` with `applyDestinationRule` or `buildSubsetCluster`. None where a name has no endpoint: requests for
    /// it get 503, `NC`.
    fn cluster(&self, subset: Option<&Subset>, warnings: &mut Vec<String>) -> Option<MeshCluster> {
        let spec = self.rule.map(|r| &r.rule.spec);
        let policy = policy(spec, subset, self.port.number);
        let kind = self.kind(&policy);
        let wanted = |e: &&Endpoint| subset.is_none_or(|s| labels_match(&s.labels, &e.labels));
        let mut behind: Vec<&Endpoint> = match kind {
            ClusterKind::OriginalDestination | ClusterKind::Static | ClusterKind::DynamicDns => Vec::new(),
            ClusterKind::Endpoints => {
                // FromServiceEndpoints leaves host names out.
                let usable = |e: &&Endpoint| e.port == 0 || e.address.parse::<IpAddr>().is_ok();
                let all = self.context.registry.endpoints_by_port_name(self.service, &self.port.name);
                all.filter(usable).filter(wanted).collect()
            }
            ClusterKind::StrictDns | ClusterKind::LogicalDns => {
                self.context.registry.endpoints(self.service, self.port.number).filter(wanted).collect()
            }
        };
        // By locality (`generate` in endpoint_builder.go, `buildLocalityLbEndpoints` in cluster_builder.go).
        behind.sort_by(|a, b| a.locality.cmp(&b.locality));
        if behind.is_empty() && matches!(kind, ClusterKind::StrictDns | ClusterKind::LogicalDns) {
            return None;
        }
        let protocol = self.protocol(&policy);
        let name = subset.map_or("", |s| s.name.as_str());
        let (tls, tls_by_endpoint) = match &policy.tls {
            Some(tls) => (self.configured_tls(tls, name, protocol, warnings), false),
            None => {
                let tls = self.automatic_tls(spec, subset, name, protocol);
                // An original destination has no labels to decide by.
                let by_endpoint = tls.is_some() && kind != ClusterKind::OriginalDestination;
                (tls, by_endpoint)
            }
        };
        let mode = tls_mode(spec, subset, self.port.number);
        let endpoints = behind.into_iter().map(|e| MeshEndpoint {
            address: e.address.clone(),
            port: e.port,
            local: e.local,
            mesh_tls: self.accepts_mesh_tls(e, mode),
        });
        let port_override = match kind {
            ClusterKind::OriginalDestination => self.service.overrides.get(&self.port.number).copied(),
            ClusterKind::Endpoints
            | ClusterKind::StrictDns
            | ClusterKind::LogicalDns
            | ClusterKind::Static
            | ClusterKind::DynamicDns => None,
        };
        Some(MeshCluster {
            kind,
            endpoints: endpoints.collect(),
            protocol,
            tls,
            tls_by_endpoint,
            port_override,
            namespace: self.service.namespace.clone(),
            rules: self.rule.map(|r| r.from.clone()).unwrap_or_default(),
        })
    }

    /// HTTP/2 when the port says so (`setUpstreamProtocol` in cluster_builder.go) or the rule upgrades it
    /// (`shouldH2Upgrade` in cluster_traffic_policy.go). So between sidecar and egress gateway it is the name of the
    /// gateway's Service port that decides: Istio's charts name port 80 `http2`, hence the HTTP/2 in the document's first
    /// log sample, and port 443 `https`, which is not HTTP/2, hence the HTTP/1.1 in its second. The ALPN that both sides
    /// agree on follows the protocol and never decides it. A sidecar's cluster for a port without protocol follows the
    /// client before any upgrade is looked at; gateways do not sniff.
    fn protocol(&self, policy: &PortPolicy) -> UpstreamProtocol {
        let pool = policy.connection_pool.as_ref().and_then(|p| p.http.as_ref());
        let mesh = self.context.input.mesh;
        if pool.is_some_and(|p| p.use_client_protocol) {
            return UpstreamProtocol::Downstream;
        }
        if self.port.protocol == Protocol::Sniffed && self.sidecar() {
            return UpstreamProtocol::Downstream;
        }
        let upgrade = match pool.map(|p| p.h2_upgrade_policy) {
            Some(UpgradePolicy::Upgrade) => true,
            Some(UpgradePolicy::DoNotUpgrade) => false,
            Some(UpgradePolicy::Default) | None => self.port.protocol.is_http() && mesh.h2_upgrade,
        };
        if self.port.protocol == Protocol::Http2 {
            // A proxy takes HTTP/1.1 there as well.
            let mut behind = self.context.registry.endpoints(self.service, self.port.number);
            let leads_to_proxies = behind.all(|e| e.identity.is_some());
            return if !upgrade && !mesh.http2 && leads_to_proxies {
                UpstreamProtocol::Http1
            } else {
                UpstreamProtocol::Http2
            };
        }
        if upgrade { UpstreamProtocol::Http2 } else { UpstreamProtocol::Http1 }
    }

    /// `buildUpstreamTLSSettings` and `buildUpstreamClusterTLSContext`.
    fn configured_tls(
        &self,
        tls: &ClientTls,
        subset: &str,
        protocol: UpstreamProtocol,
        warnings: &mut Vec<String>,
    ) -> Option<UpstreamTls> {
        let accounts = self.context.registry.accounts(self.service);
        let mutual = match tls.mode {
            ClientTlsMode::Disable => return None,
            ClientTlsMode::IstioMutual => {
                let peer_identities =
                    if tls.subject_alt_names.is_empty() { accounts } else { tls.subject_alt_names.clone() };
                let sni = if tls.sni.is_empty() { self.default_sni(subset) } else { tls.sni.clone() };
                let alpn = mesh_alpn(self.port.protocol, protocol);
                return Some(UpstreamTls::MeshMutual { sni, peer_identities, alpn });
            }
            ClientTlsMode::Simple => false,
            ClientTlsMode::Mutual => true,
        };
        // A sidecar is not given a Secret by a rule that other workloads share; TLS is left out altogether. ConfigMaps are
        // for everyone.
        let secret = !tls.credential_name.is_empty() && !tls.credential_name.starts_with("configmap://");
        let selects = self.rule.is_some_and(Merged::selects_workloads);
        if secret && self.sidecar() && !selects {
            warnings.push(format!(
                "{}: credentialName {:?} for {} has no effect on a sidecar in a DestinationRule without \
                 workloadSelector; the sidecar opens no TLS",
                self.context.proxy.name, tls.credential_name, self.service.host
            ));
            return None;
        }
        let from_entry = if self.service.kubernetes { Vec::new() } else { accounts };
        Some(UpstreamTls::Originate(origination(tls, mutual, from_entry, protocol)))
    }

    /// `istioMtlsSni` in `applyDestinationRule` (cluster_builder.go): a forwarder of whatever name is given none.
    fn default_sni(&self, subset: &str) -> String {
        if is_forwarder(self.service) {
            return String::new();
        }
        sni_name(self.port.number, subset, &self.service.host)
    }

    /// Auto mTLS (`BestEffortInferServiceMTLSMode` in push_context.go): mesh TLS, for those endpoints that can.
    fn automatic_tls(
        &self,
        spec: Option<&crate::resources::destination_rule::DestinationRule>,
        subset: Option<&Subset>,
        name: &str,
        protocol: UpstreamProtocol,
    ) -> Option<UpstreamTls> {
        let mesh = self.context.input.mesh;
        if self.service.external || !mesh.auto_mtls {
            return None;
        }
        let top = match subset {
            Some(subset) => subset.traffic_policy.as_ref(),
            None => spec.and_then(|s| s.traffic_policy.as_ref()),
        };
        let balancer = top.and_then(|p| p.load_balancer.as_ref()).and_then(|b| b.simple);
        let passes = self.service.resolution == Resolution::Passthrough
            || balancer == Some(SimpleLoadBalancer::Passthrough);
        if passes {
            let mut all = self.context.registry.endpoints(self.service, self.port.number).peekable();
            if all.peek().is_none() || all.any(|e| !e.mesh_tls) {
                return None;
            }
        }
        let policies = &self.context.resources.peer_authentications;
        // What proxies cannot do is no reason here: a policy of a workload may still demand mesh TLS.
        let able = MeshConfig { mesh_tls: true, ..mesh.clone() };
        if of_namespace(policies, &self.service.namespace, &able) == Accepts::Plain {
            return None;
        }
        Some(UpstreamTls::MeshMutual {
            sni: self.default_sni(name),
            peer_identities: self.context.registry.accounts(self.service),
            alpn: mesh_alpn(self.port.protocol, protocol),
        })
    }

    /// `checkMtlsEnabled` (pilot/pkg/xds/endpoints/mtls_checker.go): a rule's TLS mode decides for all endpoints, here also
    /// the top-level one under settings for the port without TLS; else what each workload accepts. Without the label of a
    /// proxy an endpoint never does (`buildEnvoyLbEndpoint` in endpoint_builder.go).
    fn accepts_mesh_tls(&self, endpoint: &Endpoint, mode: Option<ClientTlsMode>) -> bool {
        if let Some(mode) = mode {
            return endpoint.mesh_tls && mode == ClientTlsMode::IstioMutual;
        }
        let policies = &self.context.resources.peer_authentications;
        endpoint.mesh_tls
            && accepts(
                policies,
                &endpoint.namespace,
                &endpoint.labels,
                endpoint.workload_port,
                self.context.input.mesh,
            ) != Accepts::Plain
    }
}

/// What Istio's ALPN filter offers in mesh TLS, by the protocol of the request (`mtlsHTTP11ALPN`, `mtlsHTTP2ALPN` in
/// pilot/pkg/xds/filters/filters.go), and what the cluster itself offers for anything but HTTP
/// (`ALPNInMeshWithMxc` in pilot/pkg/networking/util/util.go).
fn mesh_alpn(port: Protocol, upstream: UpstreamProtocol) -> Vec<String> {
    let list: &[&str] = match upstream {
        UpstreamProtocol::Http1 if port.is_tcp() && port != Protocol::Https => {
            &["istio-peer-exchange", "istio"]
        }
        UpstreamProtocol::Http1 => &["istio-http/1.1", "istio", "http/1.1"],
        UpstreamProtocol::Http2 => &["istio-h2", "istio", "h2"],
        // By the request: the data plane offers those of these that fit it.
        UpstreamProtocol::Downstream => &["istio-h2", "istio-http/1.1", "istio", "h2", "http/1.1"],
    };
    list.iter().map(|&s| s.to_owned()).collect()
}

/// `constructUpstreamTLS` and `setAutoSniAndAutoSanValidation`. `from_entry`: the ServiceEntry's `subjectAltNames`.
fn origination(
    tls: &ClientTls,
    mutual: bool,
    from_entry: Vec<String>,
    upstream: UpstreamProtocol,
) -> Origination {
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
    let sni = if tls.sni.is_empty() { ServerName::FromHost } else { ServerName::Fixed(tls.sni.clone()) };
    // auto_san_validation is decided by the rule alone; names of the ServiceEntry are checked besides.
    let from_host =
        sni == ServerName::FromHost && tls.subject_alt_names.is_empty() && !tls.skips_verification();
    let names = if tls.subject_alt_names.is_empty() { from_entry } else { tls.subject_alt_names.clone() };
    let names = match (names.is_empty(), from_host) {
        (false, true) => NameCheck::OneOfAndHost(names),
        (false, false) => NameCheck::OneOf(names),
        (true, true) => NameCheck::FromHost,
        (true, false) => NameCheck::ChainOnly,
    };
    // Only an HTTP/2 cluster offers ALPN, and `istio.alpn_override: "false"` (AddALPNOverrideToMetadata) keeps the ALPN
    // filter's mesh-internal values away from servers outside.
    let alpn = match upstream {
        UpstreamProtocol::Http2 => vec!["h2".to_owned()],
        UpstreamProtocol::Http1 | UpstreamProtocol::Downstream => Vec::new(),
    };
    let crl_file = (!tls.ca_crl.is_empty() && credential.is_none()).then(|| tls.ca_crl.clone());
    Origination {
        sni,
        trust,
        names,
        client_certificate,
        alpn,
        min_version: None,
        max_version: None,
        credential,
        crl_file,
    }
}
