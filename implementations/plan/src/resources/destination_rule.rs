//! DestinationRule.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::common::{
    MatchLabels, PortSelector, export_to, is_dns_label, label_syntax, selector, wildcard_domain,
};
use super::problems::Problems;
use super::traffic_policy::{
    ConnectionPool, LoadBalancer, OutlierDetection, ProxyProtocol, ProxyProtocolVersion, Tunnel,
};

/// istio.io/api networking/v1alpha3, DestinationRule.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DestinationRule {
    #[serde(default)]
    pub(crate) host: String,
    #[serde(default)]
    pub(crate) traffic_policy: Option<TrafficPolicy>,
    #[serde(default)]
    pub(crate) subsets: Vec<Subset>,
    #[serde(default)]
    pub(crate) export_to: Vec<String>,
    #[serde(default)]
    pub(crate) workload_selector: Option<MatchLabels>,
}

/// TrafficPolicy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TrafficPolicy {
    #[serde(default)]
    pub(crate) load_balancer: Option<LoadBalancer>,
    #[serde(default)]
    pub(crate) connection_pool: Option<ConnectionPool>,
    #[serde(default)]
    pub(crate) outlier_detection: Option<OutlierDetection>,
    #[serde(default)]
    pub(crate) tls: Option<ClientTls>,
    #[serde(default)]
    pub(crate) port_level_settings: Vec<PortTrafficPolicy>,
    #[serde(default)]
    pub(crate) tunnel: Option<Tunnel>,
    #[serde(default)]
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    #[serde(default)]
    pub(crate) retry_budget: Option<RetryBudget>,
}

/// TrafficPolicy.RetryBudget: how many requests may be repeated at a time.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RetryBudget {
    #[serde(default, rename = "percent")]
    _percent: Option<f64>,
    #[serde(default, rename = "minRetryConcurrency")]
    _min_retry_concurrency: u32,
}

/// TrafficPolicy.PortTrafficPolicy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PortTrafficPolicy {
    #[serde(default)]
    pub(crate) port: Option<PortSelector>,
    #[serde(default)]
    pub(crate) load_balancer: Option<LoadBalancer>,
    #[serde(default)]
    pub(crate) connection_pool: Option<ConnectionPool>,
    #[serde(default)]
    pub(crate) outlier_detection: Option<OutlierDetection>,
    #[serde(default)]
    pub(crate) tls: Option<ClientTls>,
}

/// Subset.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Subset {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) traffic_policy: Option<TrafficPolicy>,
}

/// ClientTLSSettings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClientTls {
    #[serde(default)]
    pub(crate) mode: ClientTlsMode,
    #[serde(default)]
    pub(crate) client_certificate: String,
    #[serde(default)]
    pub(crate) private_key: String,
    #[serde(default)]
    pub(crate) ca_certificates: String,
    #[serde(default)]
    pub(crate) credential_name: String,
    #[serde(default)]
    pub(crate) subject_alt_names: Vec<String>,
    #[serde(default)]
    pub(crate) sni: String,
    #[serde(default)]
    pub(crate) insecure_skip_verify: Option<bool>,
    #[serde(default)]
    pub(crate) ca_crl: String,
}

impl ClientTls {
    pub(crate) fn skips_verification(&self) -> bool {
        self.insecure_skip_verify == Some(true)
    }

    /// `ValidateTLS` (pkg/config/validation/agent/validation.go).
    fn validate(&self, namespace: &str, problems: &mut Problems) {
        if let Some(reference) = self.credential_name.strip_prefix("configmap://") {
            match reference.split('/').collect::<Vec<_>>().as_slice() {
                [owner, name] if !owner.is_empty() && !name.is_empty() => {
                    if *owner != namespace {
                        problems.error(format!(
                            "invalid configmap:// credentialName: namespace must match the configuration \
                             namespace {namespace:?}"
                        ));
                    }
                }
                _ => problems.error(format!(
                    "invalid configmap:// credentialName: invalid resource name {:?}. Expected namespace and \
                     name",
                    self.credential_name
                )),
            }
        }
        if self.skips_verification() {
            let ca_or_names = !self.ca_certificates.is_empty() || !self.subject_alt_names.is_empty();
            if self.mode == ClientTlsMode::Simple && (ca_or_names || !self.credential_name.is_empty()) {
                problems.error(
                    "cannot specify CaCertificates or CredentialName or SubjectAltNames when \
                     InsecureSkipVerify is set true",
                );
            }
            if self.mode == ClientTlsMode::Mutual && ca_or_names {
                problems.error(
                    "cannot specify CaCertificates or SubjectAltNames when InsecureSkipVerify is set true",
                );
            }
        }
        let originates = matches!(self.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual);
        if originates && !self.credential_name.is_empty() {
            let files = [&self.client_certificate, &self.private_key, &self.ca_certificates, &self.ca_crl];
            if files.into_iter().any(|f| !f.is_empty()) {
                problems.error(
                    "cannot specify client certificates or CA certificate or CA CRL If credentialName is set",
                );
            }
            return;
        }
        if self.mode == ClientTlsMode::Mutual {
            if self.client_certificate.is_empty() {
                problems.error("client certificate required for mutual tls");
            }
            if self.private_key.is_empty() {
                problems.error("private key required for mutual tls");
            }
        }
    }
}

/// ClientTLSSettings.TLSmode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum ClientTlsMode {
    #[default]
    Disable,
    Simple,
    Mutual,
    IstioMutual,
}

impl DestinationRule {
    /// `ValidateDestinationRule` (pkg/config/validation/validation.go).
    pub(crate) fn validate(&self, namespace: &str, problems: &mut Problems) {
        problems.check(wildcard_domain(&self.host));
        if let Some(policy) = &self.traffic_policy {
            policy.validate(namespace, "spec.trafficPolicy", problems);
        }
        let mut names = Vec::new();
        for (i, subset) in self.subsets.iter().enumerate() {
            if names.contains(&subset.name.as_str()) {
                problems.error(format!("duplicate subset names: {}", subset.name));
            }
            names.push(subset.name.as_str());
            problems.check(subset_name(&subset.name));
            label_syntax(&subset.labels, problems);
            if let Some(policy) = &subset.traffic_policy {
                policy.validate(namespace, &format!("spec.subsets[{i}].trafficPolicy"), problems);
            }
        }
        let selects = self.workload_selector.is_some();
        export_to(namespace, &self.export_to, false, selects, problems);
        if let Some(chosen) = &self.workload_selector {
            selector(&chosen.match_labels, "workload selector specified without labels", problems);
        }
    }
}

/// `validateSubsetName`.
///
/// # Errors
/// Empty, or no DNS label.
pub(crate) fn subset_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("subset name cannot be empty".to_owned());
    }
    if is_dns_label(name) { Ok(()) } else { Err(format!("subset name is invalid: {name}")) }
}

impl TrafficPolicy {
    /// `validateTrafficPolicy`.
    fn validate(&self, namespace: &str, place: &str, problems: &mut Problems) {
        // An empty list is no list to protocol buffers.
        let nothing = self.load_balancer.is_none()
            && self.connection_pool.is_none()
            && self.outlier_detection.is_none()
            && self.tls.is_none()
            && self.port_level_settings.is_empty()
            && self.tunnel.is_none()
            && self.proxy_protocol.is_none()
            && self.retry_budget.is_none();
        if nothing {
            problems.error("traffic policy must have at least one field");
            return;
        }
        if self.tunnel.is_some() && self.proxy_protocol.is_some() {
            problems.error("tunnel and proxyProtocol must not be set together");
            return;
        }
        let parts = Parts {
            load_balancer: self.load_balancer.as_ref(),
            pool: self.connection_pool.as_ref(),
            outliers: self.outlier_detection.as_ref(),
            tls: self.tls.as_ref(),
        };
        parts.validate(namespace, place, problems);
        for (i, settings) in self.port_level_settings.iter().enumerate() {
            let place = format!("{place}.portLevelSettings[{i}]");
            if settings.port.is_none() {
                problems.error("portTrafficPolicy must have valid port");
            }
            let parts = Parts {
                load_balancer: settings.load_balancer.as_ref(),
                pool: settings.connection_pool.as_ref(),
                outliers: settings.outlier_detection.as_ref(),
                tls: settings.tls.as_ref(),
            };
            if parts.is_empty() {
                problems.error("port traffic policy must have at least one field");
            } else {
                parts.validate(namespace, &place, problems);
            }
        }
        if let Some(tunnel) = &self.tunnel {
            tunnel.validate(problems);
            problems.unsupported(format!("{place}.tunnel"));
        }
        if let Some(protocol) = &self.proxy_protocol
            && !matches!(protocol.version, ProxyProtocolVersion::V1 | ProxyProtocolVersion::V2)
        {
            problems.error("proxy protocol version is invalid");
        }
        if self.proxy_protocol.is_some() {
            problems.unsupported(format!("{place}.proxyProtocol"));
        }
        problems.pass_over(place, &[("retryBudget", self.retry_budget.is_some())]);
    }
}

/// What a policy and settings for a port have in common.
struct Parts<'a> {
    load_balancer: Option<&'a LoadBalancer>,
    pool: Option<&'a ConnectionPool>,
    outliers: Option<&'a OutlierDetection>,
    tls: Option<&'a ClientTls>,
}

impl Parts<'_> {
    fn is_empty(&self) -> bool {
        self.load_balancer.is_none() && self.pool.is_none() && self.outliers.is_none() && self.tls.is_none()
    }

    fn validate(&self, namespace: &str, place: &str, problems: &mut Problems) {
        if let Some(outliers) = self.outliers {
            outliers.validate(problems);
        }
        if let Some(pool) = self.pool {
            pool.validate(&format!("{place}.connectionPool"), problems);
        }
        if let Some(balancer) = self.load_balancer {
            balancer.validate(&format!("{place}.loadBalancer"), self.outliers.is_some(), problems);
        }
        if let Some(tls) = self.tls {
            tls.validate(namespace, problems);
        }
        problems.pass_over(place, &[("outlierDetection", self.outliers.is_some())]);
    }
}
