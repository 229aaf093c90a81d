//! The credentials of a proxy, as `istioctl proxy-config secret` shows them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of one credential, as a proxy reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CredentialStatus {
    /// `kubernetes://client-credential`, `kubernetes://client-credential-cacert`.
    pub name: String,
    /// Whether it is in use.
    pub state: CredentialState,
    /// What its first certificate is, if the proxy reports it.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<CertificateKind>,
    /// The serial number of its first certificate in the form of [`PeerCertificate::serial`](crate::PeerCertificate::serial), if
    /// the credential has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The beginning of the first certificate's validity (RFC 3339, UTC, whole seconds), if the proxy reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// The end of the first certificate's validity, in the same form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
}

/// The states that `istioctl proxy-config secret` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum CredentialState {
    /// Delivered and in use.
    Active,
    /// Requested, not yet delivered.
    Warming,
}

/// The types that `istioctl proxy-config secret` shows. The certificate decides, not its use (istioctl,
/// pkg/writer/compare/sds/util.go, `secretMetaFromCert`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CertificateKind {
    /// Its basic constraints say that it is a CA's.
    #[serde(rename = "CA")]
    Authority,
    /// Any other, X.509 v1 certificates of CAs included.
    #[serde(rename = "Cert Chain")]
    CertificateChain,
}

impl CertificateKind {
    /// As istioctl prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authority => "CA",
            Self::CertificateChain => "Cert Chain",
        }
    }
}
