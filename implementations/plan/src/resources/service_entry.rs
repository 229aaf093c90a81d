//! ServiceEntry.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::common::{
    LabelSelector, NotCarriedOut, Refusal, export_to, fqdn, is_dns_label, port_number, refuse_set,
    unsupported, wildcard_domain,
};
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
    #[serde(default, alias = "workload_selector")]
    pub(crate) workload_selector: Option<LabelSelector>,
    #[serde(default, alias = "export_to")]
    pub(crate) export_to: Vec<String>,
    #[serde(default, alias = "subject_alt_names")]
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
    #[serde(default, alias = "target_port")]
    pub(crate) target_port: u32,
}

impl EntryPort {
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
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorkloadEntry {
    #[serde(default)]
    pub(crate) address: String,
    #[serde(default)]
    pub(crate) ports: BTreeMap<String, u32>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) network: NotCarriedOut,
    /// Which locality it is in decides over failover alone, of which the plan has none.
    #[serde(rename = "locality")]
    pub(crate) _locality: NotCarriedOut,
    pub(crate) weight: NotCarriedOut,
    #[serde(alias = "service_account")]
    pub(crate) service_account: NotCarriedOut,
}

impl ServiceEntry {
    /// # Errors
    /// What istiod's `ValidateServiceEntry` (pkg/config/validation/validation.go) refuses, and what is not carried out.
    pub(crate) fn validate(&self, namespace: &str) -> Result<(), Refusal> {
        if self.workload_selector.is_some() && !self.endpoints.is_empty() {
            return Err("only one of workloadSelector and endpoints may be set".to_owned().into());
        }
        if self.hosts.is_empty() {
            return Err("a ServiceEntry must have at least one host".to_owned().into());
        }
        for host in &self.hosts {
            if host == "*" {
                return Err("the host \"*\" is not allowed".to_owned().into());
            }
            wildcard_domain(host)?;
        }
        self.validate_addresses()?;
        self.validate_ports()?;
        self.validate_resolution()?;
        let many = self.resolution != Resolution::None && self.hosts.len() > 1;
        if many && self.ports.iter().any(|p| !p.protocol().is_http() && !p.protocol().is_tls()) {
            return Err("several hosts are only allowed with HTTP and TLS ports".to_owned().into());
        }
        export_to(namespace, &self.export_to, true)?;
        refuse_set(
            "spec",
            &[
                ("workloadSelector", self.workload_selector.is_some()),
                ("subjectAltNames", !self.subject_alt_names.is_empty()),
            ],
        )
    }

    fn validate_addresses(&self) -> Result<(), Refusal> {
        for address in &self.addresses {
            let ip = match address.split_once('/') {
                Some((ip, length)) => {
                    if !matches!(self.resolution, Resolution::None | Resolution::Static) {
                        return Err("CIDR addresses are only allowed with resolution NONE or STATIC"
                            .to_owned()
                            .into());
                    }
                    length.parse::<u8>().map_err(|_| format!("{address:?} is not an IP address or CIDR"))?;
                    ip
                }
                None => address.as_str(),
            };
            ip.parse::<std::net::IpAddr>()
                .map_err(|_| format!("{address:?} is not an IP address or CIDR"))?;
        }
        Ok(())
    }

    fn validate_ports(&self) -> Result<(), Refusal> {
        let mut names = Vec::new();
        let mut numbers = Vec::new();
        for port in &self.ports {
            if names.contains(&port.name.as_str()) {
                return Err(format!("port name {:?} is already defined", port.name).into());
            }
            if numbers.contains(&port.number) {
                return Err(format!("port {} is already defined", port.number).into());
            }
            names.push(port.name.as_str());
            numbers.push(port.number);
            if port.target_port != 0 {
                port_number("targetPort", port.target_port)?;
            }
            if !is_dns_label(&port.name) {
                return Err(format!("port name {:?} is invalid", port.name).into());
            }
            port_number("ports", port.number)?;
            if !port.protocol.is_empty() && Protocol::parse(&port.protocol).is_none() {
                return Err(format!("protocol {:?} is unsupported", port.protocol).into());
            }
        }
        Ok(())
    }

    fn validate_resolution(&self) -> Result<(), Refusal> {
        match self.resolution {
            Resolution::None if !self.endpoints.is_empty() => {
                return Err("no endpoints are allowed with resolution NONE".to_owned().into());
            }
            Resolution::None => {}
            Resolution::Static => {
                for endpoint in &self.endpoints {
                    if endpoint.address.starts_with("unix://") {
                        return Err(unsupported("endpoints.address: unix://"));
                    }
                    endpoint.address.parse::<std::net::IpAddr>().map_err(|_| {
                        format!("endpoint address {:?} is not an IP address", endpoint.address)
                    })?;
                }
            }
            Resolution::Dns | Resolution::DnsRoundRobin => {
                if self.endpoints.is_empty() {
                    for host in &self.hosts {
                        fqdn(host).map_err(|e| {
                            format!(
                                "with DNS resolution and no endpoints every host must be a full name: {e}"
                            )
                        })?;
                    }
                }
                if self.resolution == Resolution::DnsRoundRobin && self.endpoints.len() > 1 {
                    return Err("at most one endpoint is allowed with resolution DNS_ROUND_ROBIN"
                        .to_owned()
                        .into());
                }
                for endpoint in &self.endpoints {
                    if endpoint.address.parse::<std::net::IpAddr>().is_err()
                        && fqdn(&endpoint.address).is_err()
                    {
                        return Err(format!(
                            "endpoint address {:?} is neither a full name nor an IP address",
                            endpoint.address
                        )
                        .into());
                    }
                }
            }
            Resolution::DynamicDns => return Err(unsupported("spec.resolution: DYNAMIC_DNS")),
        }
        for endpoint in &self.endpoints {
            for (name, number) in &endpoint.ports {
                if !self.ports.iter().any(|p| p.name == *name) {
                    return Err(format!("endpoint port {name:?} is not defined by the ServiceEntry").into());
                }
                port_number("endpoints.ports", *number)?;
            }
            refuse_set(
                "spec.endpoints",
                &[
                    ("network", endpoint.network.is_some()),
                    ("weight", endpoint.weight.is_some()),
                    ("serviceAccount", endpoint.service_account.is_some()),
                ],
            )?;
        }
        Ok(())
    }
}
