//! Gateway, Sidecar and PeerAuthentication.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::common::{
    LabelSelector, MatchLabels, NotCarriedOut, Port, Refusal, is_dns_label, port_number, refuse_set,
    unsupported, wildcard_domain,
};
use super::protocol::Protocol;

/// istio.io/api networking/v1alpha3, Gateway.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Gateway {
    #[serde(default)]
    pub(crate) servers: Vec<Server>,
    #[serde(default)]
    pub(crate) selector: BTreeMap<String, String>,
}

/// Server.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Server {
    #[serde(default)]
    pub(crate) port: Option<Port>,
    #[serde(default)]
    pub(crate) bind: String,
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
    #[serde(default)]
    pub(crate) tls: Option<ServerTls>,
    #[serde(default, alias = "default_endpoint")]
    pub(crate) default_endpoint: NotCarriedOut,
    /// A name for statistics; it changes nothing else.
    #[serde(default, rename = "name")]
    pub(crate) _name: String,
}

/// ServerTLSSettings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ServerTls {
    #[serde(default, alias = "https_redirect")]
    pub(crate) https_redirect: bool,
    #[serde(default)]
    pub(crate) mode: ServerTlsMode,
    #[serde(default, alias = "server_certificate")]
    pub(crate) server_certificate: String,
    #[serde(default, alias = "private_key")]
    pub(crate) private_key: String,
    #[serde(default, alias = "ca_certificates")]
    pub(crate) ca_certificates: String,
    #[serde(default, alias = "credential_name")]
    pub(crate) credential_name: String,
    #[serde(default, alias = "credential_names")]
    pub(crate) credential_names: Vec<String>,
    #[serde(default, alias = "tls_certificates")]
    pub(crate) tls_certificates: NotCarriedOut,
    #[serde(default, alias = "ca_crl")]
    pub(crate) ca_crl: String,
    #[serde(default, alias = "subject_alt_names")]
    pub(crate) subject_alt_names: Vec<String>,
    #[serde(default, alias = "verify_certificate_spki")]
    pub(crate) verify_certificate_spki: NotCarriedOut,
    #[serde(default, alias = "verify_certificate_hash")]
    pub(crate) verify_certificate_hash: NotCarriedOut,
    #[serde(default, alias = "min_protocol_version")]
    pub(crate) min_protocol_version: NotCarriedOut,
    #[serde(default, alias = "max_protocol_version")]
    pub(crate) max_protocol_version: NotCarriedOut,
    #[serde(default, alias = "cipher_suites")]
    pub(crate) cipher_suites: NotCarriedOut,
}

/// ServerTLSSettings.TLSmode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum ServerTlsMode {
    #[default]
    Passthrough,
    Simple,
    Mutual,
    AutoPassthrough,
    IstioMutual,
    OptionalMutual,
}

impl Gateway {
    /// # Errors
    /// What istiod's `ValidateGateway` (pkg/config/validation/validation.go) refuses, and what is not carried out.
    pub(crate) fn validate(&self, name: &str) -> Result<(), Refusal> {
        if !is_dns_label(name) {
            return Err(format!("gateway name {name:?} is invalid").into());
        }
        if self.servers.is_empty() {
            return Err("a Gateway must have at least one server".to_owned().into());
        }
        let mut names = Vec::new();
        for server in &self.servers {
            server.validate()?;
            let name = server.port.as_ref().map(|p| p.name.as_str()).unwrap_or_default();
            if names.contains(&name) {
                return Err(format!("port names of servers must be unique: {name:?} is there twice").into());
            }
            names.push(name);
        }
        Ok(())
    }
}

impl Server {
    pub(crate) fn protocol(&self) -> Protocol {
        self.port.as_ref().and_then(|p| Protocol::parse(&p.protocol)).unwrap_or(Protocol::Tcp)
    }

    /// The server's hosts for VirtualServices of `namespace`, without their namespace part. `gateway` is the Gateway's
    /// own namespace (`sanitizeServerHostNamespace` in pilot/pkg/model/gateway.go, `host.NamesForNamespace`).
    pub(crate) fn hosts_for(&self, gateway: &str, namespace: &str) -> Vec<String> {
        self.hosts
            .iter()
            .filter_map(|host| match host.split_once('/') {
                Some((".", host)) => (gateway == namespace).then(|| host.to_ascii_lowercase()),
                Some(("*", host)) => Some(host.to_ascii_lowercase()),
                Some((owner, host)) => (owner == namespace).then(|| host.to_ascii_lowercase()),
                None => Some(host.to_ascii_lowercase()),
            })
            .collect()
    }

    fn validate(&self) -> Result<(), Refusal> {
        if self.hosts.is_empty() {
            return Err("a server must have at least one host".to_owned().into());
        }
        for host in &self.hosts {
            namespace_slash_host(host, false)?;
        }
        let Some(port) = &self.port else {
            return Err("a server must have a port".to_owned().into());
        };
        let Some(protocol) = Protocol::parse(&port.protocol) else {
            return Err(format!("protocol {:?} is unsupported", port.protocol).into());
        };
        port_number("servers.port", port.number)?;
        if port.target_port.is_some_and(|t| t > 0) {
            return Err("targetPort has no effect on a Gateway".to_owned().into());
        }
        if port.name.is_empty() {
            return Err("a server's port must have a name".to_owned().into());
        }
        match &self.tls {
            None if protocol.is_tls() => {
                return Err("an HTTPS or TLS server must have TLS settings".to_owned().into());
            }
            None => {}
            Some(tls) => {
                tls.validate()?;
                if !protocol.is_tls() {
                    let redirect_alone = protocol.is_http()
                        && tls.mode == ServerTlsMode::Passthrough
                        && tls.ca_certificates.is_empty()
                        && tls.private_key.is_empty()
                        && tls.server_certificate.is_empty();
                    if !redirect_alone {
                        return Err("a server of a plain-text port cannot have TLS settings"
                            .to_owned()
                            .into());
                    }
                }
            }
        }
        self.refuse(protocol)
    }

    fn refuse(&self, protocol: Protocol) -> Result<(), Refusal> {
        refuse_set(
            "spec.servers",
            &[
                ("bind", !self.bind.is_empty()),
                ("defaultEndpoint", self.default_endpoint.is_some()),
                ("port.protocol: TCP", protocol == Protocol::Tcp),
            ],
        )?;
        let Some(tls) = &self.tls else { return Ok(()) };
        refuse_set(
            "spec.servers.tls",
            &[
                ("httpsRedirect", tls.https_redirect),
                ("subjectAltNames", !tls.subject_alt_names.is_empty()),
                ("verifyCertificateSpki", tls.verify_certificate_spki.is_some()),
                ("verifyCertificateHash", tls.verify_certificate_hash.is_some()),
                ("minProtocolVersion", tls.min_protocol_version.is_some()),
                ("maxProtocolVersion", tls.max_protocol_version.is_some()),
                ("cipherSuites", tls.cipher_suites.is_some()),
            ],
        )?;
        match tls.mode {
            ServerTlsMode::IstioMutual if protocol == Protocol::Tls => {
                Err(unsupported("spec.servers: ISTIO_MUTUAL with protocol TLS"))
            }
            ServerTlsMode::Passthrough | ServerTlsMode::IstioMutual => Ok(()),
            ServerTlsMode::Simple
            | ServerTlsMode::Mutual
            | ServerTlsMode::AutoPassthrough
            | ServerTlsMode::OptionalMutual => {
                Err(unsupported("spec.servers.tls.mode other than ISTIO_MUTUAL and PASSTHROUGH"))
            }
        }
    }
}

impl ServerTls {
    /// `validateTLSOptions`.
    fn validate(&self) -> Result<(), Refusal> {
        let credential = !self.credential_name.is_empty() || !self.credential_names.is_empty();
        match self.mode {
            ServerTlsMode::IstioMutual => {
                let own = [&self.server_certificate, &self.private_key, &self.ca_certificates];
                if credential || self.tls_certificates.is_some() || own.into_iter().any(|f| !f.is_empty()) {
                    return Err("ISTIO_MUTUAL cannot have certificates or credentials of its own"
                        .to_owned()
                        .into());
                }
                Ok(())
            }
            ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => Ok(()),
            ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => {
                if credential || self.tls_certificates.is_some() {
                    return Ok(());
                }
                if self.mode != ServerTlsMode::Simple && self.ca_certificates.is_empty() {
                    return Err("MUTUAL requires a CA for clients".to_owned().into());
                }
                if self.server_certificate.is_empty() || self.private_key.is_empty() {
                    return Err("TLS requires a server certificate and a private key".to_owned().into());
                }
                if self.mode == ServerTlsMode::Simple && !self.ca_crl.is_empty() {
                    return Err("a revocation list is not supported with SIMPLE".to_owned().into());
                }
                Ok(())
            }
        }
    }
}

/// istiod: `agent.ValidateNamespaceSlashWildcardHostname`; `required` asks for the namespace part (Sidecar).
fn namespace_slash_host(host: &str, required: bool) -> Result<(), Refusal> {
    let Some((namespace, name)) = host.split_once('/') else {
        return if required {
            Err(format!("host {host:?} must be of the form NAMESPACE/NAME").into())
        } else {
            Ok(wildcard_domain(host)?)
        };
    };
    if namespace.is_empty() || name.is_empty() {
        return Err(format!("host {host:?}: neither namespace nor name may be empty").into());
    }
    if !(matches!(namespace, "*" | ".") || (required && namespace == "~") || is_dns_label(namespace)) {
        return Err(format!("host {host:?}: namespace {namespace:?} is invalid").into());
    }
    Ok(wildcard_domain(name)?)
}

/// istio.io/api networking/v1alpha3, Sidecar.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Sidecar {
    #[serde(default, alias = "workload_selector")]
    pub(crate) workload_selector: Option<LabelSelector>,
    #[serde(default)]
    pub(crate) ingress: NotCarriedOut,
    #[serde(default)]
    pub(crate) egress: Vec<EgressListener>,
    #[serde(default, alias = "inbound_connection_pool")]
    pub(crate) inbound_connection_pool: NotCarriedOut,
    #[serde(default, alias = "outbound_traffic_policy")]
    pub(crate) outbound_traffic_policy: Option<OutboundTrafficPolicy>,
}

/// IstioEgressListener.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EgressListener {
    #[serde(default)]
    pub(crate) port: NotCarriedOut,
    #[serde(default)]
    pub(crate) bind: NotCarriedOut,
    #[serde(default, alias = "capture_mode")]
    pub(crate) capture_mode: NotCarriedOut,
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
}

/// OutboundTrafficPolicy.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OutboundTrafficPolicy {
    #[serde(default)]
    pub(crate) mode: OutboundMode,
    #[serde(default, alias = "egress_proxy")]
    pub(crate) egress_proxy: NotCarriedOut,
}

/// OutboundTrafficPolicy.Mode; the first is what an absent mode means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum OutboundMode {
    #[default]
    RegistryOnly,
    AllowAny,
}

impl Sidecar {
    /// # Errors
    /// What istiod's `ValidateSidecar` (pkg/config/validation/validation.go) refuses, and what is not carried out.
    pub(crate) fn validate(&self) -> Result<(), Refusal> {
        let nothing = self.egress.is_empty()
            && self.ingress.is_none()
            && self.outbound_traffic_policy.is_none()
            && self.inbound_connection_pool.is_none();
        if nothing {
            return Err("a Sidecar must configure something".to_owned().into());
        }
        for listener in &self.egress {
            if listener.hosts.is_empty() {
                return Err("an egress listener must have at least one host".to_owned().into());
            }
            for host in &listener.hosts {
                namespace_slash_host(host, true)?;
                if host.starts_with('~') {
                    return Err(unsupported("spec.egress.hosts: ~"));
                }
            }
            refuse_set(
                "spec.egress",
                &[
                    ("port", listener.port.is_some()),
                    ("bind", listener.bind.is_some()),
                    ("captureMode", listener.capture_mode.is_some()),
                ],
            )?;
        }
        if self.egress.len() > 1 {
            return Err("an egress listener without a port must be the only one".to_owned().into());
        }
        refuse_set(
            "spec",
            &[
                ("ingress", self.ingress.is_some()),
                ("inboundConnectionPool", self.inbound_connection_pool.is_some()),
                (
                    "outboundTrafficPolicy.egressProxy",
                    self.outbound_traffic_policy.as_ref().is_some_and(|p| p.egress_proxy.is_some()),
                ),
            ],
        )
    }
}

/// istio.io/api security/v1beta1, PeerAuthentication.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PeerAuthentication {
    #[serde(default)]
    pub(crate) selector: Option<MatchLabels>,
    #[serde(default)]
    pub(crate) mtls: Option<MutualTls>,
    #[serde(default, alias = "port_level_mtls")]
    pub(crate) port_level_mtls: Option<BTreeMap<String, MutualTls>>,
}

/// PeerAuthentication.MutualTLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MutualTls {
    #[serde(default)]
    pub(crate) mode: MutualTlsMode,
}

/// PeerAuthentication.MutualTLS.Mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum MutualTlsMode {
    #[default]
    Unset,
    Disable,
    Permissive,
    Strict,
}

impl PeerAuthentication {
    /// Whether it is for its whole namespace, or the mesh.
    pub(crate) fn selects_all(&self) -> bool {
        self.selector.as_ref().is_none_or(|s| s.match_labels.is_empty())
    }

    /// # Errors
    /// What istiod's `ValidatePeerAuthentication` (pkg/config/validation/validation.go) refuses.
    pub(crate) fn validate(&self) -> Result<(), Refusal> {
        let Some(ports) = &self.port_level_mtls else { return Ok(()) };
        if self.selects_all() && !ports.is_empty() {
            return Err("portLevelMtls needs a selector".to_owned().into());
        }
        if ports.is_empty() {
            return Err("portLevelMtls must have at least one port".to_owned().into());
        }
        for port in ports.keys() {
            let number = port.parse().map_err(|_| format!("portLevelMtls: {port:?} is not a port"))?;
            port_number("portLevelMtls", number)?;
        }
        Ok(())
    }
}
