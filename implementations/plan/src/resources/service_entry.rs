//! ServiceEntry.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use super::common::{
    LabelSelector, export_to, fqdn, ip_subnet, label_syntax, partial_wildcard, port_name, port_number,
    selector, unix_address, wildcard_domain,
};
use super::problems::Problems;
use super::protocol::Protocol;

/// istio.io/api networking/v1alpha3, ServiceEntry.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ServiceEntry {
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
    #[serde(default)]
    pub(crate) addresses: Vec<String>,
    #[serde(default)]
    pub(crate) ports: Vec<EntryPort>,
    #[serde(default)]
    pub(crate) location: Location,
    #[serde(default)]
    pub(crate) resolution: Resolution,
    #[serde(default)]
    pub(crate) endpoints: Vec<WorkloadEntry>,
    #[serde(default)]
    pub(crate) workload_selector: Option<LabelSelector>,
    #[serde(default)]
    pub(crate) export_to: Vec<String>,
    #[serde(default)]
    pub(crate) subject_alt_names: Vec<String>,
}

/// ServicePort.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EntryPort {
    #[serde(default)]
    pub(crate) number: u32,
    #[serde(default)]
    pub(crate) protocol: String,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) target_port: u32,
}

impl EntryPort {
    pub(crate) fn number(&self) -> u16 {
        u16::try_from(self.number).unwrap_or_default()
    }

    pub(crate) fn protocol(&self) -> Protocol {
        Protocol::parse(&self.protocol).unwrap_or(Protocol::Sniffed)
    }
}

/// Whether the service is in the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Location {
    #[default]
    MeshExternal,
    MeshInternal,
}

/// How an address is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Resolution {
    #[default]
    None,
    Static,
    Dns,
    DnsRoundRobin,
    DynamicDns,
}

/// WorkloadEntry, inline.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorkloadEntry {
    #[serde(default)]
    pub(crate) address: String,
    #[serde(default)]
    pub(crate) ports: BTreeMap<String, u32>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) network: String,
    /// Decides over failover, which the plan does not have.
    #[serde(default)]
    pub(crate) locality: String,
    #[serde(default)]
    pub(crate) weight: u32,
    #[serde(default)]
    pub(crate) service_account: String,
}

/// The names by which istiod prints a resolution.
impl std::fmt::Display for Resolution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "NONE",
            Self::Static => "STATIC",
            Self::Dns => "DNS",
            Self::DnsRoundRobin => "DNS_ROUND_ROBIN",
            Self::DynamicDns => "DYNAMIC_DNS",
        })
    }
}

impl ServiceEntry {
    /// `ValidateServiceEntry` (pkg/config/validation/validation.go).
    pub(crate) fn validate(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        problems: &mut Problems,
    ) {
        if let Some(chosen) = &self.workload_selector {
            let warning = "service entry: workload selector specified without labels, will be applied to all \
                           services in namespace";
            selector(&chosen.labels, warning, problems);
            if !self.endpoints.is_empty() {
                problems.error("only one of WorkloadSelector or Endpoints is allowed in Service Entry");
            }
        }
        self.validate_hosts(problems);
        let cidr = self.addresses.iter().any(|a| a.contains('/'));
        for address in &self.addresses {
            problems.check(ip_subnet(address));
        }
        if cidr && !matches!(self.resolution, Resolution::None | Resolution::Static) {
            problems.error("CIDR addresses are allowed only for NONE/STATIC resolution types");
        }
        self.validate_ports(self.allocates_address(labels), problems);
        self.validate_resolution(problems);
        let opaque = |p: &EntryPort| {
            let protocol = Protocol::parse(&p.protocol);
            !protocol.is_some_and(|p| p.is_http() || p.is_tls())
        };
        if self.resolution != Resolution::None && self.hosts.len() > 1 && self.ports.iter().any(opaque) {
            problems.error("multiple hosts provided with non-HTTP, non-TLS ports");
        }
        export_to(namespace, &self.export_to, true, false, problems);
    }

    fn validate_hosts(&self, problems: &mut Problems) {
        if self.hosts.is_empty() {
            problems.error("service entry must have at least one host");
        }
        for host in &self.hosts {
            if host == "*" {
                problems.error(format!("invalid host {host}"));
                continue;
            }
            problems.check(wildcard_domain(host));
            if self.resolution != Resolution::DynamicDns
                && let Err(text) = partial_wildcard(host)
            {
                problems.warn(text);
            }
        }
    }

    /// `shouldV2AutoAllocateIPFromPieces` (pilot/pkg/networking/serviceentry/ip_autoallocation.go): whether istiod would
    /// give an entry without addresses one of its own.
    fn allocates_address(&self, labels: &BTreeMap<String, String>) -> bool {
        let refused = labels.get("networking.istio.io/enable-autoallocate-ip");
        self.resolution != Resolution::None && !refused.is_some_and(|v| v.eq_ignore_ascii_case("false"))
    }

    fn validate_ports(&self, allocates_address: bool, problems: &mut Problems) {
        let mut names = Vec::new();
        let mut numbers = Vec::new();
        for port in &self.ports {
            if names.contains(&port.name.as_str()) {
                problems.error(format!("service entry port name {:?} already defined", port.name));
            }
            if numbers.contains(&port.number) {
                problems.error(format!("service entry port {} already defined", port.number));
            }
            names.push(port.name.as_str());
            numbers.push(port.number);
            if port.target_port != 0
                && let Err(text) = port_number(port.target_port)
            {
                problems.error(text);
            }
            if self.addresses.is_empty() && !allocates_address && matches!(port.protocol.as_str(), "" | "TCP")
            {
                problems.warn(
                    "addresses are required for ports serving TCP (or unset) protocol when IP Autoallocation is \
                     not enabled",
                );
            }
            problems.check(port_name(&port.name));
            if !port.protocol.is_empty() && Protocol::parse(&port.protocol).is_none() {
                problems.error(format!("unsupported protocol: {}", port.protocol));
            }
            problems.check(port_number(port.number));
        }
    }

    fn validate_resolution(&self, problems: &mut Problems) {
        let count = self.endpoints.len();
        match self.resolution {
            Resolution::None => {
                if count > 0 {
                    problems.error("no endpoints should be provided for resolution type none");
                }
                if self.workload_selector.is_some() {
                    problems.warn("workloadSelector should not be set when resolution mode is NONE");
                }
            }
            Resolution::Static => {
                for endpoint in &self.endpoints {
                    endpoint.validate(Some(&self.ports), false, problems);
                }
            }
            Resolution::Dns | Resolution::DnsRoundRobin => {
                if count == 0
                    && let Some(text) = self.hosts.iter().find_map(|h| fqdn(h).err())
                {
                    problems.error(format!(
                        "hosts must be FQDN or contain only prefix wildcards if no endpoints are provided for \
                         resolution mode {}, {text}",
                        self.resolution
                    ));
                }
                if self.resolution == Resolution::DnsRoundRobin && count > 1 {
                    problems.error(format!(
                        "there must only be 0 or 1 endpoint for resolution mode {}",
                        self.resolution
                    ));
                }
                for endpoint in &self.endpoints {
                    endpoint.validate_name(&self.ports, problems);
                }
                let tcp = |p: &EntryPort| p.protocol().is_tcp();
                if !self.addresses.is_empty() && self.hosts.len() > 1 && self.ports.iter().any(tcp) {
                    problems.warn(
                        "service entry can not have more than one host specified simultaneously with address and \
                         tcp port",
                    );
                }
            }
            Resolution::DynamicDns => self.validate_dynamic(problems),
        }
    }

    fn validate_dynamic(&self, problems: &mut Problems) {
        let resolution = self.resolution;
        if self.hosts.is_empty() {
            problems.error(format!(
                "at least one wildcard host must be provided for resolution type {resolution}"
            ));
        }
        for _ in self.hosts.iter().filter(|h| !h.starts_with('*')) {
            problems.error(format!("host must be wildcarded for resolution mode {resolution}"));
        }
        if !self.addresses.is_empty() {
            problems.error(format!(
                "addresses cannot be set for resolution type {resolution}. HTTP route domains will only be \
                 generatedfrom the hosts field values"
            ));
        }
        if !self.endpoints.is_empty() {
            problems.error(format!(
                "endpoints cannot be set for resolution type {resolution}. Destination IP address determined \
                 from hostsfield values"
            ));
        }
        for port in &self.ports {
            let known =
                ["http", "tls", "grpc", "http2"].iter().any(|p| port.protocol.eq_ignore_ascii_case(p));
            if !known {
                problems.error(format!(
                    "only HTTP, TLS, GRPC, and HTTP2 protocols are supported for resolution type {resolution}"
                ));
            }
        }
    }
}

impl WorkloadEntry {
    /// `ValidateWorkloadEntry`: `ports` are those of the ServiceEntry that it is written in; `names` allows host names.
    pub(crate) fn validate(&self, ports: Option<&[EntryPort]>, names: bool, problems: &mut Problems) {
        let address = &self.address;
        let mut unix = false;
        if address.is_empty() {
            if self.network.is_empty() {
                problems.error("address is required");
                return;
            }
            problems.warn(format!("address is unset with network {:?}", self.network));
        } else if let Some(path) = address.strip_prefix("unix://") {
            unix = true;
            problems.check(unix_address(path));
            if !self.ports.is_empty() {
                problems.error(format!("unix endpoint {address} must not include ports"));
            }
        } else if address.parse::<IpAddr>().is_err() {
            if !names {
                problems.error(format!("endpoint address {address:?} is not a valid IP address"));
            } else if fqdn(address).is_err() {
                problems.error(format!("endpoint address {address:?} is not a valid FQDN or an IP address"));
            }
        }
        self.validate_ports(ports, problems);
        if unix && ports.is_some_and(|p| p.len() != 1) {
            problems.error("exactly 1 service port required for unix endpoints");
        }
    }

    fn validate_name(&self, ports: &[EntryPort], problems: &mut Problems) {
        let address = &self.address;
        if address.parse::<IpAddr>().is_err() && fqdn(address).is_err() {
            problems.error(format!("endpoint address {address:?} is not a valid FQDN or an IP address"));
        }
        self.validate_ports(Some(ports), problems);
    }

    fn validate_ports(&self, ports: Option<&[EntryPort]>, problems: &mut Problems) {
        for (name, number) in &self.ports {
            if ports.is_some_and(|all| !all.iter().any(|p| p.name == *name)) {
                problems.error(format!("endpoint port {number} is not defined by the service entry"));
            }
            problems.check(port_name(name));
            problems.check(port_number(*number));
        }
        label_syntax(&self.labels, problems);
        let passed_over = [
            ("network", !self.network.is_empty()),
            ("locality", !self.locality.is_empty()),
            ("weight", self.weight != 0),
        ];
        problems.pass_over("spec.endpoints", &passed_over);
    }
}
