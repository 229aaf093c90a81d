//! DestinationRule.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::common::{
    MatchLabels, NotCarriedOut, PortSelector, Refusal, export_to, is_dns_label, port_number, refuse_set,
    unsupported, wildcard_domain,
};

/// istio.io/api networking/v1alpha3, DestinationRule.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DestinationRule {
    #[serde(default)]
    pub(crate) host: String,
    #[serde(default, alias = "traffic_policy")]
    pub(crate) traffic_policy: Option<TrafficPolicy>,
    #[serde(default)]
    pub(crate) subsets: Vec<Subset>,
    #[serde(default, alias = "export_to")]
    pub(crate) export_to: Vec<String>,
    #[serde(default, alias = "workload_selector")]
    pub(crate) workload_selector: Option<MatchLabels>,
}

/// TrafficPolicy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TrafficPolicy {
    #[serde(default, alias = "load_balancer")]
    pub(crate) load_balancer: Option<LoadBalancer>,
    #[serde(default, alias = "connection_pool")]
    pub(crate) connection_pool: Option<ConnectionPool>,
    #[serde(default, alias = "outlier_detection")]
    pub(crate) outlier_detection: NotCarriedOut,
    #[serde(default)]
    pub(crate) tls: Option<ClientTls>,
    #[serde(default, alias = "port_level_settings")]
    pub(crate) port_level_settings: Vec<PortTrafficPolicy>,
    #[serde(default)]
    pub(crate) tunnel: NotCarriedOut,
    #[serde(default, alias = "proxy_protocol")]
    pub(crate) proxy_protocol: NotCarriedOut,
    #[serde(default, alias = "retry_budget")]
    pub(crate) retry_budget: NotCarriedOut,
}

/// TrafficPolicy.PortTrafficPolicy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PortTrafficPolicy {
    #[serde(default)]
    pub(crate) port: Option<PortSelector>,
    #[serde(default, alias = "load_balancer")]
    pub(crate) load_balancer: Option<LoadBalancer>,
    #[serde(default, alias = "connection_pool")]
    pub(crate) connection_pool: Option<ConnectionPool>,
    #[serde(default, alias = "outlier_detection")]
    pub(crate) outlier_detection: NotCarriedOut,
    #[serde(default)]
    pub(crate) tls: Option<ClientTls>,
}

/// LoadBalancerSettings. With one address a host, how it is chosen makes no difference.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LoadBalancer {
    #[serde(default)]
    pub(crate) simple: Option<SimpleLoadBalancer>,
    #[serde(default, alias = "consistent_hash")]
    pub(crate) consistent_hash: NotCarriedOut,
    #[serde(default, alias = "locality_lb_setting")]
    pub(crate) locality_lb_setting: NotCarriedOut,
    #[serde(default, alias = "warmup_duration_secs")]
    pub(crate) warmup_duration_secs: NotCarriedOut,
    #[serde(default)]
    pub(crate) warmup: NotCarriedOut,
}

/// LoadBalancerSettings.SimpleLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum SimpleLoadBalancer {
    Unspecified,
    LeastConn,
    Random,
    Passthrough,
    RoundRobin,
    LeastRequest,
}

/// ConnectionPoolSettings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ConnectionPool {
    #[serde(default)]
    pub(crate) tcp: NotCarriedOut,
    #[serde(default)]
    pub(crate) http: Option<HttpPool>,
}

/// ConnectionPoolSettings.HTTPSettings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HttpPool {
    #[serde(default, alias = "h2_upgrade_policy")]
    pub(crate) h2_upgrade_policy: UpgradePolicy,
    #[serde(default, alias = "use_client_protocol")]
    pub(crate) use_client_protocol: bool,
    #[serde(default, alias = "http1_max_pending_requests")]
    pub(crate) http1_max_pending_requests: NotCarriedOut,
    #[serde(default, alias = "http2_max_requests")]
    pub(crate) http2_max_requests: NotCarriedOut,
    #[serde(default, alias = "max_requests_per_connection")]
    pub(crate) max_requests_per_connection: NotCarriedOut,
    #[serde(default, alias = "max_retries")]
    pub(crate) max_retries: NotCarriedOut,
    #[serde(default, alias = "idle_timeout")]
    pub(crate) idle_timeout: NotCarriedOut,
    #[serde(default, alias = "max_concurrent_streams")]
    pub(crate) max_concurrent_streams: NotCarriedOut,
}

/// ConnectionPoolSettings.HTTPSettings.H2UpgradePolicy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum UpgradePolicy {
    #[default]
    Default,
    DoNotUpgrade,
    Upgrade,
}

/// Subset.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Subset {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default, alias = "traffic_policy")]
    pub(crate) traffic_policy: Option<TrafficPolicy>,
}

/// ClientTLSSettings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClientTls {
    #[serde(default)]
    pub(crate) mode: ClientTlsMode,
    #[serde(default, alias = "client_certificate")]
    pub(crate) client_certificate: String,
    #[serde(default, alias = "private_key")]
    pub(crate) private_key: String,
    #[serde(default, alias = "ca_certificates")]
    pub(crate) ca_certificates: String,
    #[serde(default, alias = "credential_name")]
    pub(crate) credential_name: String,
    #[serde(default, alias = "subject_alt_names")]
    pub(crate) subject_alt_names: Vec<String>,
    #[serde(default)]
    pub(crate) sni: String,
    #[serde(default, alias = "insecure_skip_verify")]
    pub(crate) insecure_skip_verify: Option<bool>,
    #[serde(default, alias = "ca_crl")]
    pub(crate) ca_crl: String,
}

impl ClientTls {
    pub(crate) fn skips_verification(&self) -> bool {
        self.insecure_skip_verify == Some(true)
    }

    /// # Errors
    /// What istiod's `ValidateTLS` (pkg/config/validation/agent/validation.go) refuses.
    fn validate(&self) -> Result<(), Refusal> {
        let originates = matches!(self.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual);
        let credential = !self.credential_name.is_empty();
        if self.skips_verification() {
            let ca_or_names = !self.ca_certificates.is_empty() || !self.subject_alt_names.is_empty();
            if self.mode == ClientTlsMode::Simple && (ca_or_names || credential) {
                return Err(
                    "with insecureSkipVerify, caCertificates, credentialName and subjectAltNames must \
                            not be set"
                        .to_owned()
                        .into(),
                );
            }
            if self.mode == ClientTlsMode::Mutual && ca_or_names {
                return Err("with insecureSkipVerify, caCertificates and subjectAltNames must not be set"
                    .to_owned()
                    .into());
            }
        }
        if originates && credential {
            let files = [&self.client_certificate, &self.private_key, &self.ca_certificates, &self.ca_crl];
            if files.into_iter().any(|f| !f.is_empty()) {
                return Err(
                    "with credentialName, client certificates, CA certificates and revocation lists must \
                            not be set"
                        .to_owned()
                        .into(),
                );
            }
        } else if self.mode == ClientTlsMode::Mutual {
            if self.client_certificate.is_empty() {
                return Err("mutual TLS requires a client certificate".to_owned().into());
            }
            if self.private_key.is_empty() {
                return Err("mutual TLS requires a private key".to_owned().into());
            }
        }
        if !self.ca_crl.is_empty() {
            return Err(unsupported("tls.caCrl"));
        }
        for scheme in ["configmap://", "builtin://", "kubernetes-gateway://", "invalid://"] {
            if self.credential_name.starts_with(scheme) {
                return Err(unsupported(&format!("tls.credentialName: {scheme}")));
            }
        }
        Ok(())
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
    /// # Errors
    /// What istiod's `ValidateDestinationRule` (pkg/config/validation/validation.go) refuses, and what is not carried out.
    pub(crate) fn validate(&self, namespace: &str) -> Result<(), Refusal> {
        wildcard_domain(&self.host)?;
        if let Some(policy) = &self.traffic_policy {
            policy.validate("spec.trafficPolicy")?;
        }
        let mut names = Vec::new();
        for subset in &self.subsets {
            if names.contains(&subset.name.as_str()) {
                return Err(format!("subset {:?} is defined twice", subset.name).into());
            }
            if !is_dns_label(&subset.name) {
                return Err(format!("subset name {:?} is invalid", subset.name).into());
            }
            names.push(subset.name.as_str());
            if let Some(policy) = &subset.traffic_policy {
                policy.validate("spec.subsets.trafficPolicy")?;
            }
        }
        export_to(namespace, &self.export_to, false)?;
        let beyond = |e: &String| e != "." && e != namespace;
        if self.workload_selector.is_some() && self.export_to.iter().any(beyond) {
            return Err("with workloadSelector, exportTo cannot go beyond the own namespace"
                .to_owned()
                .into());
        }
        Ok(())
    }
}

impl TrafficPolicy {
    fn validate(&self, place: &str) -> Result<(), Refusal> {
        let nothing = self.load_balancer.is_none()
            && self.connection_pool.is_none()
            && self.outlier_detection.is_none()
            && self.tls.is_none()
            && self.port_level_settings.is_empty()
            && self.tunnel.is_none()
            && self.proxy_protocol.is_none()
            && self.retry_budget.is_none();
        if nothing {
            return Err(format!("{place}: a traffic policy must have at least one field").into());
        }
        if self.tunnel.is_some() && self.proxy_protocol.is_some() {
            return Err(format!("{place}: tunnel and proxyProtocol must not be set together").into());
        }
        validate_parts(
            place,
            self.load_balancer.as_ref(),
            self.connection_pool.as_ref(),
            &self.outlier_detection,
            self.tls.as_ref(),
        )?;
        for settings in &self.port_level_settings {
            let place = format!("{place}.portLevelSettings");
            let Some(port) = &settings.port else {
                return Err(format!("{place}: port is required").into());
            };
            port_number(&place, port.number)?;
            let nothing = settings.load_balancer.is_none()
                && settings.connection_pool.is_none()
                && settings.outlier_detection.is_none()
                && settings.tls.is_none();
            if nothing {
                return Err(format!("{place}: a port's traffic policy must have at least one field").into());
            }
            validate_parts(
                &place,
                settings.load_balancer.as_ref(),
                settings.connection_pool.as_ref(),
                &settings.outlier_detection,
                settings.tls.as_ref(),
            )?;
        }
        refuse_set(
            place,
            &[
                ("tunnel", self.tunnel.is_some()),
                ("proxyProtocol", self.proxy_protocol.is_some()),
                ("retryBudget", self.retry_budget.is_some()),
            ],
        )
    }
}

fn validate_parts(
    place: &str,
    load_balancer: Option<&LoadBalancer>,
    pool: Option<&ConnectionPool>,
    outlier_detection: &NotCarriedOut,
    tls: Option<&ClientTls>,
) -> Result<(), Refusal> {
    if let Some(tls) = tls {
        tls.validate()?;
    }
    refuse_set(place, &[("outlierDetection", outlier_detection.is_some())])?;
    if let Some(balancer) = load_balancer {
        refuse_set(
            &format!("{place}.loadBalancer"),
            &[
                ("simple: PASSTHROUGH", balancer.simple == Some(SimpleLoadBalancer::Passthrough)),
                ("consistentHash", balancer.consistent_hash.is_some()),
                ("localityLbSetting", balancer.locality_lb_setting.is_some()),
                ("warmupDurationSecs", balancer.warmup_duration_secs.is_some()),
                ("warmup", balancer.warmup.is_some()),
            ],
        )?;
    }
    if let Some(pool) = pool {
        refuse_set(&format!("{place}.connectionPool"), &[("tcp", pool.tcp.is_some())])?;
        if let Some(http) = &pool.http {
            refuse_set(
                &format!("{place}.connectionPool.http"),
                &[
                    ("http1MaxPendingRequests", http.http1_max_pending_requests.is_some()),
                    ("http2MaxRequests", http.http2_max_requests.is_some()),
                    ("maxRequestsPerConnection", http.max_requests_per_connection.is_some()),
                    ("maxRetries", http.max_retries.is_some()),
                    ("idleTimeout", http.idle_timeout.is_some()),
                    ("maxConcurrentStreams", http.max_concurrent_streams.is_some()),
                ],
            )?;
        }
    }
    Ok(())
}
