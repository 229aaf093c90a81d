//! Sidecar.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::common::{LabelSelector, fqdn, ip_address, port_name, port_number, selector, unix_address};
use super::gateway::{ServerTls, namespace_slash_host};
use super::problems::Problems;
use super::protocol::Protocol;
use super::traffic_policy::ConnectionPool;
use super::virtual_service::Destination;

/// istio.io/api networking/v1alpha3, Sidecar.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Sidecar {
    #[serde(default)]
    pub(crate) workload_selector: Option<LabelSelector>,
    #[serde(default)]
    pub(crate) ingress: Vec<IngressListener>,
    #[serde(default)]
    pub(crate) egress: Vec<EgressListener>,
    #[serde(default)]
    pub(crate) inbound_connection_pool: Option<ConnectionPool>,
    #[serde(default)]
    pub(crate) outbound_traffic_policy: Option<OutboundTrafficPolicy>,
}

/// IstioEgressListener.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EgressListener {
    #[serde(default)]
    pub(crate) port: Option<SidecarPort>,
    #[serde(default)]
    pub(crate) bind: String,
    #[serde(default)]
    pub(crate) capture_mode: CaptureMode,
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
}

/// SidecarPort.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SidecarPort {
    #[serde(default)]
    pub(crate) number: u32,
    #[serde(default)]
    pub(crate) protocol: String,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) target_port: u32,
}

/// CaptureMode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum CaptureMode {
    #[default]
    Default,
    Iptables,
    None,
}

/// IstioIngressListener.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IngressListener {
    #[serde(default)]
    pub(crate) port: Option<SidecarPort>,
    #[serde(default)]
    pub(crate) bind: String,
    #[serde(default)]
    pub(crate) capture_mode: CaptureMode,
    #[serde(default)]
    pub(crate) default_endpoint: String,
    #[serde(default)]
    pub(crate) tls: Option<ServerTls>,
    #[serde(default)]
    pub(crate) connection_pool: Option<ConnectionPool>,
}

/// OutboundTrafficPolicy.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OutboundTrafficPolicy {
    #[serde(default)]
    pub(crate) mode: OutboundMode,
    #[serde(default)]
    pub(crate) egress_proxy: Option<Destination>,
}

/// OutboundTrafficPolicy.Mode; the first is what an absent mode means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum OutboundMode {
    #[default]
    RegistryOnly,
    AllowAny,
    AllowAnyDynamicDns,
}

impl Sidecar {
    /// `ValidateSidecar` (pkg/config/validation/validation.go).
    pub(crate) fn validate(&self, namespace: &str, problems: &mut Problems) {
        if let Some(chosen) = &self.workload_selector {
            let warning = "sidecar: workload selector specified without labels, will be applied to all services \
                           in namespace";
            selector(&chosen.labels, warning, problems);
        }
        let nothing = self.egress.is_empty()
            && self.ingress.is_empty()
            && self.outbound_traffic_policy.is_none()
            && self.inbound_connection_pool.is_none();
        if nothing {
            problems.error("sidecar: empty configuration provided");
            return;
        }
        let mut ports = Vec::new();
        for listener in &self.ingress {
            listener.validate(&mut ports, problems);
        }
        if let Some(pool) = &self.inbound_connection_pool {
            pool.validate("spec.inboundConnectionPool", problems);
        }
        self.validate_egress(namespace, problems);
        if let Some(policy) = &self.outbound_traffic_policy {
            policy.validate(problems);
        }
        problems.pass_over("spec", &[("inboundConnectionPool", self.inbound_connection_pool.is_some())]);
        if !self.ingress.is_empty() {
            problems.unsupported("spec.ingress");
        }
    }

    fn validate_egress(&self, namespace: &str, problems: &mut Problems) {
        let mut numbers = Vec::new();
        let mut sockets = Vec::new();
        for (i, listener) in self.egress.iter().enumerate() {
            match &listener.port {
                None if i + 1 < self.egress.len() => problems.error(
                    "sidecar: the egress listener with empty port should be the last listener in the list",
                ),
                None => {}
                Some(port) => {
                    listener.validate_port(port, problems);
                    if port.number == 0 {
                        if sockets.contains(&listener.bind) {
                            problems.error("sidecar: unix domain socket values for listeners must be unique");
                        }
                        sockets.push(listener.bind.clone());
                    } else {
                        if numbers.contains(&port.number) {
                            problems.error("sidecar: ports on IP bound listeners must be unique");
                        }
                        numbers.push(port.number);
                    }
                }
            }
            if listener.hosts.is_empty() {
                problems.error("sidecar: egress listener must contain at least one host");
            }
            listener.validate_hosts(namespace, problems);
        }
    }
}

impl OutboundTrafficPolicy {
    /// `validateSidecarOutboundTrafficPolicy`.
    fn validate(&self, problems: &mut Problems) {
        if self.mode == OutboundMode::AllowAnyDynamicDns {
            problems.error(
                "sidecar: ALLOW_ANY_DYNAMIC_DNS mode is only supported in MeshConfig, not in Sidecar resource",
            );
            return;
        }
        let Some(proxy) = &self.egress_proxy else { return };
        if self.mode != OutboundMode::AllowAny {
            problems
                .error("sidecar: egress_proxy must be set only with ALLOW_ANY outbound_traffic_policy mode");
            return;
        }
        problems.check(fqdn(&proxy.host));
        if proxy.port.is_none() {
            problems.error("sidecar: egress_proxy port must be non-nil");
        }
    }
}

impl EgressListener {
    /// `validateSidecarEgressPortBindAndCaptureMode`.
    fn validate_port(&self, port: &SidecarPort, problems: &mut Problems) {
        port.validate(problems);
        if port.number == 0 {
            match self.bind.strip_prefix("unix://") {
                Some(path) => problems.check(unix_address(path)),
                None => {
                    problems.error("sidecar: ports with 0 value must have a unix domain socket bind address")
                }
            }
            if self.capture_mode == CaptureMode::Iptables {
                problems.error("sidecar: captureMode must be DEFAULT/NONE for unix domain socket listeners");
            }
            problems.unsupported("spec.egress.bind: unix://");
            return;
        }
        problems.check(port_number(port.number));
        if !self.bind.is_empty() {
            problems.check(ip_address(&self.bind));
        }
        if Protocol::parse(&port.protocol) == Some(Protocol::HttpProxy) {
            problems.unsupported("spec.egress.port.protocol: HTTP_PROXY");
        }
    }

    fn validate_hosts(&self, namespace: &str, problems: &mut Problems) {
        let mut seen: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for host in &self.hosts {
            if let Some((owner, name)) = host.split_once('/').filter(|(owner, _)| !owner.starts_with('~')) {
                let owner = if owner == "." { namespace } else { owner };
                let names = seen.entry(owner).or_default();
                let twice = if name == "*" {
                    !names.is_empty()
                } else {
                    names.contains(&name) || names.contains(&"*")
                };
                if twice {
                    problems.warn(format!("duplicated egress host: {host}"));
                }
                names.push(name);
            }
            namespace_slash_host(host, false, problems);
        }
        if seen.get("*").is_some_and(|names| names.contains(&"*")) && seen.len() != 1 {
            problems.warn("`*/*` host select all resources, no other hosts can be added");
        }
    }
}

impl SidecarPort {
    fn validate(&self, problems: &mut Problems) {
        if self.target_port > 0 {
            problems.error("targetPort has no impact on Sidecars");
        }
        if !self.name.is_empty() {
            problems.check(port_name(&self.name));
        }
        if !self.protocol.is_empty() && Protocol::parse(&self.protocol).is_none() {
            problems.error(format!("unsupported protocol: {}", self.protocol));
        }
    }
}

impl IngressListener {
    fn validate(&self, ports: &mut Vec<u32>, problems: &mut Problems) {
        let Some(port) = &self.port else {
            problems.error("sidecar: port is required for ingress listeners");
            return;
        };
        port.validate(problems);
        problems.check(port_number(port.number));
        if !self.bind.is_empty() {
            problems.check(ip_address(&self.bind));
        }
        if ports.contains(&port.number) {
            problems.error("sidecar: ports on IP bound listeners must be unique");
        }
        ports.push(port.number);
        if let Some(path) = self.default_endpoint.strip_prefix("unix://") {
            problems.check(unix_address(path));
        } else if !self.default_endpoint.is_empty() {
            self.validate_endpoint(problems);
        }
        if self.tls.is_some() && !Protocol::parse(&port.protocol).is_some_and(Protocol::is_tls) {
            problems.error("server cannot have TLS settings for non HTTPS/TLS ports");
        }
        if let Some(pool) = &self.connection_pool {
            pool.validate("spec.ingress.connectionPool", problems);
        }
    }

    fn validate_endpoint(&self, problems: &mut Problems) {
        let endpoint = &self.default_endpoint;
        let Some((host, port)) = endpoint.rsplit_once(':') else {
            problems.error(format!("address {endpoint}: missing port in address"));
            return;
        };
        if !matches!(host, "" | "127.0.0.1" | "0.0.0.0" | "[::1]" | "[::]") {
            problems.error(
                "sidecar: defaultEndpoint must be of form \
                 127.0.0.1:<port>,0.0.0.0:<port>,[::1]:port,[::]:port,unix://filepath or unset",
            );
        }
        match port.parse() {
            Ok(number) => problems.check(port_number(number)),
            Err(_) => problems.error(format!("sidecar: defaultEndpoint port ({port}) is not a number")),
        }
    }
}
