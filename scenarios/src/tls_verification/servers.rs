//! The servers, and what is special about the certificate of each.

use meshproof_harness::certificates::{
    Authority, CertificateError, Issued, KeyAlgorithm, KeyPool, self_signed,
};
use meshproof_harness::external::TlsVersions;

/// The server that must be accepted.
pub(super) const TRUSTED: &str = "trusted.origin.example";

/// The server whose certificate comes from a CA that is not configured.
pub(super) const UNKNOWN_CA: &str = "unknown-ca.origin.example";

/// The server whose certificate is that of the trusted server.
pub(super) const NEIGHBOUR: &str = "neighbour.origin.example";

/// The two CAs: the one that the proxy must trust, and another.
pub(super) struct Authorities<'a> {
    pub(super) trusted: &'a Authority,
    pub(super) other: &'a Authority,
}

/// Makes a server's certificate, given the CAs and the server's host.
pub(super) type MakeCertificate = fn(&Authorities<'_>, &str) -> Result<Issued, CertificateError>;

/// The servers that must be refused: the check, the host, the certificate.
pub(super) const REFUSED: [(&str, &str, MakeCertificate); 7] = [
    ("unknown-ca-refused", UNKNOWN_CA, |cas, host| cas.other.server(host).issue()),
    ("self-signed-refused", "self-signed.origin.example", |_, host| {
        self_signed(&KeyPool::fresh(), host, KeyAlgorithm::EcdsaP256)
    }),
    ("expired-certificate-refused", "expired.origin.example", |cas, host| {
        cas.trusted.server(host).expired().issue()
    }),
    ("not-yet-valid-refused", "not-yet-valid.origin.example", |cas, host| {
        cas.trusted.server(host).not_yet_valid().issue()
    }),
    ("wrong-host-refused", "wrong-host.origin.example", |cas, _| {
        cas.trusted.server("somewhere-else.example").issue()
    }),
    // The name of a server that the same proxy accepts.
    ("wrong-host-refused", NEIGHBOUR, |cas, _| cas.trusted.server(TRUSTED).issue()),
    ("server-auth-eku-required", "client-only.origin.example", |cas, host| {
        cas.trusted.server(host).client_auth_only().issue()
    }),
];

/// Those of them that speak TLS 1.2 alone: a certificate is verified in either version. Another server has the same fault in TLS 1.3.
pub(super) const OF_TLS12: [&str; 2] = ["self-signed.origin.example", "wrong-host.origin.example"];

/// The servers that support one version of TLS only: the check, the host, the version.
pub(super) const VERSIONS: [(&str, &str, TlsVersions, &str); 2] = [
    ("tls12-only-origin", "tls12.origin.example", TlsVersions::Tls12, "TLSv1.2"),
    ("tls13-origin", "tls13.origin.example", TlsVersions::Tls13, "TLSv1.3"),
];
