//! Gateway.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::common::{
    Opaque, Port, ip_address, is_dns_label, partial_wildcard, port_number, unix_address, wildcard_domain,
};
use super::problems::Problems;
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
    #[serde(default)]
    pub(crate) default_endpoint: Opaque,
    /// A name for statistics; it changes nothing else.
    #[serde(default, rename = "name")]
    pub(crate) _name: String,
}

/// ServerTLSSettings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ServerTls {
    #[serde(default)]
    pub(crate) https_redirect: bool,
    #[serde(default)]
    pub(crate) mode: ServerTlsMode,
    #[serde(default)]
    pub(crate) server_certificate: String,
    #[serde(default)]
    pub(crate) private_key: String,
    #[serde(default)]
    pub(crate) ca_certificates: String,
    #[serde(default)]
    pub(crate) credential_name: String,
    #[serde(default)]
    pub(crate) credential_names: Vec<String>,
    #[serde(default)]
    pub(crate) tls_certificates: Vec<TlsCertificate>,
    #[serde(default)]
    pub(crate) ca_cert_credential_name: String,
    #[serde(default)]
    pub(crate) insecure_skip_verify: Option<bool>,
    #[serde(default)]
    pub(crate) ca_crl: String,
    #[serde(default)]
    pub(crate) subject_alt_names: Vec<String>,
    #[serde(default)]
    pub(crate) verify_certificate_spki: Opaque,
    #[serde(default)]
    pub(crate) verify_certificate_hash: Opaque,
    #[serde(default)]
    pub(crate) min_protocol_version: TlsProtocol,
    #[serde(default)]
    pub(crate) max_protocol_version: TlsProtocol,
    #[serde(default)]
    pub(crate) cipher_suites: Vec<String>,
}

/// ServerTLSSettings.TLSCertificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TlsCertificate {
    #[serde(default)]
    pub(crate) server_certificate: String,
    #[serde(default)]
    pub(crate) private_key: String,
    #[serde(default)]
    pub(crate) ca_certificates: String,
}

/// ServerTLSSettings.TLSProtocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) enum TlsProtocol {
    #[default]
    #[serde(rename = "TLS_AUTO")]
    Auto,
    #[serde(rename = "TLSV1_0")]
    Tls10,
    #[serde(rename = "TLSV1_1")]
    Tls11,
    #[serde(rename = "TLSV1_2")]
    Tls12,
    #[serde(rename = "TLSV1_3")]
    Tls13,
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

/// The names by which istiod prints a mode.
impl std::fmt::Display for ServerTlsMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passthrough => "PASSTHROUGH",
            Self::Simple => "SIMPLE",
            Self::Mutual => "MUTUAL",
            Self::AutoPassthrough => "AUTO_PASSTHROUGH",
            Self::IstioMutual => "ISTIO_MUTUAL",
            Self::OptionalMutual => "OPTIONAL_MUTUAL",
        })
    }
}

impl Gateway {
    /// `ValidateGateway` (pkg/config/validation/validation.go).
    pub(crate) fn validate(&self, name: &str, problems: &mut Problems) {
        if !is_dns_label(name) {
            problems.error(format!("invalid gateway name: {name:?}"));
        }
        if self.servers.is_empty() {
            problems.error("gateway must have at least one server");
        }
        for (i, server) in self.servers.iter().enumerate() {
            server.validate(&format!("spec.servers[{i}]"), problems);
        }
        let mut names = Vec::new();
        for server in &self.servers {
            let Some(port) = &server.port else { continue };
            if names.contains(&port.name) {
                problems.error(format!("port names in servers must be unique: duplicate name {}", port.name));
            }
            names.push(port.name.clone());
            let http = Protocol::parse(&port.protocol).is_some_and(Protocol::is_http);
            if !http && server.tls.as_ref().is_some_and(|t| t.https_redirect) {
                problems.warn("tls.httpsRedirect should only be used with http servers");
            }
        }
    }
}

impl Server {
    /// `validateServer`.
    fn validate(&self, place: &str, problems: &mut Problems) {
        if self.hosts.is_empty() {
            problems.error("server config must contain at least one host");
        }
        for host in &self.hosts {
            namespace_slash_host(host, true, problems);
        }
        let before = problems.webhook.len();
        self.validate_port(problems);
        let port_is_valid = problems.webhook.len() == before;
        if let Some(tls) = self.tls.as_ref().filter(|t| t.asks_for_a_key_pair_as_ca()) {
            problems.unsupported(format!(
                "{place}.tls.caCertCredentialName {:?}, a name without the suffix -cacert",
                tls.ca_cert_credential_name
            ));
        }
        if let Some(path) = self.bind.strip_prefix("unix://") {
            problems.check(unix_address(path));
        } else if !self.bind.is_empty() {
            problems.check(ip_address(&self.bind));
        }
        if let Some(tls) = &self.tls {
            tls.validate(problems);
        }
        let protocol = self.port.as_ref().and_then(|p| Protocol::parse(&p.protocol));
        if let (true, Some(protocol)) = (port_is_valid, protocol) {
            self.validate_protocol(protocol, problems);
        }
        problems.pass_over(place, &[("defaultEndpoint", self.default_endpoint.is_some())]);
    }

    fn validate_port(&self, problems: &mut Problems) {
        let Some(port) = &self.port else {
            problems.error("port is required");
            return;
        };
        if Protocol::parse(&port.protocol).is_none() {
            problems.error(format!(
                "invalid protocol {:?}, supported protocols are HTTP, HTTP2, GRPC, GRPC-WEB, MONGO, REDIS, \
                 MYSQL, TCP",
                port.protocol
            ));
        }
        if port.number > 0 || !self.bind.starts_with("unix://") {
            problems.check(port_number(port.number));
        }
        if port.target_port.is_some_and(|t| t > 0) {
            problems.error("targetPort has no impact on Gateways");
        }
        if port.name.is_empty() {
            problems
                .error(format!("port name must be set: number:{} protocol:{:?}", port.number, port.protocol));
        }
    }

    /// Whether the protocol and the TLS settings go together.
    fn validate_protocol(&self, protocol: Protocol, problems: &mut Problems) {
        match &self.tls {
            None if protocol.is_tls() => {
                problems.error("server must have TLS settings for HTTPS/TLS protocols");
            }
            Some(tls) if !protocol.is_tls() => {
                let passes = matches!(tls.mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough);
                let files = [&tls.ca_certificates, &tls.private_key, &tls.server_certificate];
                if !protocol.is_http() {
                    problems.error("server cannot have TLS settings for non HTTPS/TLS ports");
                } else if !passes || files.into_iter().any(|f| !f.is_empty()) {
                    problems.error("server cannot have TLS settings for plain text HTTP ports");
                }
            }
            None | Some(_) => {}
        }
    }
}

impl ServerTls {
    /// Whether the CA's Secret is asked for by a name that stands for a key pair (`isCAOnlySecret` in pilot/pkg/xds/sds.go).
    fn asks_for_a_key_pair_as_ca(&self) -> bool {
        let name = self.ca_cert_credential_name.as_str();
        let verifies = matches!(self.mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual);
        let credential = !(self.credential_name.is_empty() && self.credential_names.is_empty());
        let asks_for_a_ca = name.is_empty() || name.ends_with("-cacert") || name.starts_with("configmap://");
        verifies && credential && !asks_for_a_ca
    }

    /// `validateTLSOptions`.
    fn validate(&self, problems: &mut Problems) {
        let old = matches!(self.min_protocol_version, TlsProtocol::Tls10 | TlsProtocol::Tls11);
        if old && self.cipher_suites.is_empty() {
            problems.warn(
                "TLS version below TLSV1_2 require setting compatible ciphers as by default they no longer \
                 include compatible ciphers.",
            );
        }
        self.validate_ciphers(problems);
        if self.mode == ServerTlsMode::IstioMutual {
            let own = [
                ("server certificate", !self.server_certificate.is_empty()),
                ("private key", !self.private_key.is_empty()),
                ("CA bundle", !self.ca_certificates.is_empty()),
                ("tlsCertificates", !self.tls_certificates.is_empty()),
                ("credentialName", !self.credential_name.is_empty()),
                ("credentialNames", !self.credential_names.is_empty()),
            ];
            for (name, _) in own.into_iter().filter(|(_, set)| *set) {
                problems.error(format!("ISTIO_MUTUAL TLS cannot have associated {name}"));
            }
            return;
        }
        let credential = !self.credential_name.is_empty() || !self.credential_names.is_empty();
        let passes = matches!(self.mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough);
        let files = [&self.ca_crl, &self.server_certificate, &self.private_key, &self.ca_certificates];
        let any_file = files.into_iter().any(|f| !f.is_empty());
        if passes && (any_file || credential || !self.tls_certificates.is_empty()) {
            problems.warn(format!("{} mode does not use certificates, they will be ignored", self.mode));
        }
        let sources = [
            !self.server_certificate.is_empty() && !self.private_key.is_empty(),
            !self.credential_name.is_empty(),
            !self.credential_names.is_empty(),
            !self.tls_certificates.is_empty(),
        ];
        if sources.into_iter().filter(|set| *set).count() > 1 {
            problems.error(
                "only one of credential_name, credential_names, server_certificate/private_key, \
                 tls_certificates should be specified",
            );
        }
        if !passes {
            if credential {
                return;
            }
            self.validate_files(problems);
        }
        if !self.ca_crl.is_empty() && !self.credential_name.is_empty() {
            problems
                .error("CRL is not supported with credentialName. CRL has to be specified in the credential");
        }
        if !self.ca_crl.is_empty() && self.mode == ServerTlsMode::Simple {
            problems.error("CRL is not supported with SIMPLE TLS");
        }
    }

    /// `FilterCipherSuites` (pkg/config/security/security.go): each once, without those that Envoy would refuse.
    pub(crate) fn usable_cipher_suites(&self) -> Vec<String> {
        let mut usable: Vec<String> = Vec::new();
        for suite in self.cipher_suites.iter().filter(|s| is_cipher_suite(s)) {
            if !usable.contains(suite) {
                usable.push(suite.clone());
            }
        }
        usable
    }

    /// Cipher suites that istiod leaves out.
    fn validate_ciphers(&self, problems: &mut Problems) {
        let mut known = BTreeSet::new();
        let mut unknown = BTreeSet::new();
        let mut repeated = BTreeSet::new();
        for suite in self.cipher_suites.iter().map(String::as_str) {
            if !is_cipher_suite(suite) {
                unknown.insert(suite);
            } else if !known.insert(suite) {
                repeated.insert(suite);
            }
        }
        for (kind, suites) in [("invalid", unknown), ("duplicate", repeated)] {
            if !suites.is_empty() {
                let listed = suites.into_iter().collect::<Vec<_>>().join(" ");
                problems.warn(format!("ignoring {kind} cipher suites: [{listed}]"));
            }
        }
    }

    fn validate_files(&self, problems: &mut Problems) {
        let prefix = if self.mode == ServerTlsMode::Simple { "SIMPLE TLS" } else { "MUTUAL TLS" };
        if self.mode != ServerTlsMode::Simple && self.ca_certificates.is_empty() {
            problems.error(format!("{prefix} requires a client CA bundle"));
        }
        if self.tls_certificates.len() > 2 {
            problems.warn(format!("{prefix} can support up to 2 server certificates"));
        }
        let own = [(&self.server_certificate, &self.private_key)];
        let listed: Vec<(&String, &String)> = if self.tls_certificates.is_empty() {
            own.to_vec()
        } else {
            self.tls_certificates.iter().map(|c| (&c.server_certificate, &c.private_key)).collect()
        };
        for (certificate, key) in listed {
            if certificate.is_empty() {
                problems.error(format!("{prefix} requires a server certificate"));
            }
            if key.is_empty() {
                problems.error(format!("{prefix} requires a private key"));
            }
        }
    }
}

/// `agent.ValidateNamespaceSlashWildcardHostname`. A Gateway's host needs no namespace, and may be an IP address.
pub(super) fn namespace_slash_host(host: &str, gateway: bool, problems: &mut Problems) {
    let Some((namespace, name)) = host.split_once('/') else {
        if gateway {
            hostname_part(host, true, problems);
        } else {
            problems.error("host must be of form namespace/dnsName");
        }
        return;
    };
    if namespace.is_empty() || name.is_empty() {
        problems.error("config namespace and dnsName in host entry cannot be empty");
    }
    let plain = if gateway { namespace } else { namespace.strip_prefix('~').unwrap_or(namespace) };
    let allowed = matches!(plain, "*" | ".") || is_dns_label(plain) || (!gateway && plain.is_empty());
    if !allowed {
        let kind = if gateway { "gateway" } else { "sidecar" };
        problems.error(format!("invalid namespace value {namespace:?} in {kind}"));
    }
    hostname_part(name, gateway, problems);
}

/// `validateSidecarOrGatewayHostnamePart`.
fn hostname_part(name: &str, gateway: bool, problems: &mut Problems) {
    if name != "*" && !name.contains('.') {
        problems.error("short names (non FQDN) are not allowed");
    }
    if let Err(text) = wildcard_domain(name) {
        if !gateway {
            problems.error(text.clone());
        }
        if name.parse::<std::net::IpAddr>().is_err() {
            problems.error(text);
        }
    }
    problems.check(partial_wildcard(name));
}

/// `IsValidCipherSuite` (pkg/config/security/security.go): BoringSSL's names, and anything that begins with an operator.
fn is_cipher_suite(suite: &str) -> bool {
    let operator = !suite.starts_with(char::is_alphanumeric);
    operator
        || matches!(
            suite,
            "ALL"
                | "ECDHE-ECDSA-AES128-GCM-SHA256"
                | "ECDHE-RSA-AES128-GCM-SHA256"
                | "ECDHE-ECDSA-AES256-GCM-SHA384"
                | "ECDHE-RSA-AES256-GCM-SHA384"
                | "ECDHE-ECDSA-CHACHA20-POLY1305"
                | "ECDHE-RSA-CHACHA20-POLY1305"
                | "ECDHE-ECDSA-AES128-SHA"
                | "ECDHE-RSA-AES128-SHA"
                | "ECDHE-ECDSA-AES256-SHA"
                | "ECDHE-RSA-AES256-SHA"
                | "AES128-GCM-SHA256"
                | "AES256-GCM-SHA384"
                | "AES128-SHA"
                | "AES256-SHA"
                | "DES-CBC3-SHA"
        )
}
