//! Describes certificates for the report: the suite's own and those that a peer presented.

use jiff::Timestamp;
use meshproof_model::{CertificateKind, CredentialState, CredentialStatus, PeerCertificate};
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use crate::digest::sha256;

/// The maximum number of alternative names that are kept per certificate.
const MAX_NAMES: usize = 100;

/// Describes a certificate (DER); none if it is not a certificate.
#[must_use]
pub fn describe(der: &[u8]) -> Option<PeerCertificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let alternative_names = match certificate.subject_alternative_name() {
        Ok(Some(names)) => {
            names.value.general_names.iter().filter_map(alternative_name).take(MAX_NAMES).collect()
        }
        Ok(None) | Err(_) => Vec::new(),
    };
    Some(PeerCertificate {
        subject: rfc2253(certificate.subject()),
        issuer: rfc2253(certificate.issuer()),
        serial: serial_hex(certificate.raw_serial()),
        sha256: Some(sha256(der)),
        alternative_names,
    })
}

/// What a proxy that holds this PEM text as a credential reports of it, of the first certificate as istioctl does; that it
/// waits if it holds none.
#[must_use]
pub fn credential_status(name: &str, held: Option<&str>) -> CredentialStatus {
    let mut status = CredentialStatus {
        name: name.to_owned(),
        state: if held.is_some() { CredentialState::Active } else { CredentialState::Warming },
        kind: None,
        serial: None,
        not_before: None,
        not_after: None,
    };
    let Some((_, pem)) = held.and_then(|pem| parse_x509_pem(pem.as_bytes()).ok()) else { return status };
    let Ok(certificate) = pem.parse_x509() else { return status };
    let kind =
        if certificate.is_ca() { CertificateKind::Authority } else { CertificateKind::CertificateChain };
    status.kind = Some(kind);
    status.serial = Some(serial_hex(certificate.raw_serial()));
    status.not_before = rfc3339(certificate.validity().not_before);
    status.not_after = rfc3339(certificate.validity().not_after);
    status
}

fn rfc3339(time: ASN1Time) -> Option<String> {
    Timestamp::from_second(time.timestamp()).ok().map(|t| t.to_string())
}

fn alternative_name(name: &GeneralName<'_>) -> Option<String> {
    // The report shows names and URIs; the other forms are not used by any document.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a foreign enum of many forms, of which two are wanted"
    )]
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        _ => None,
    }
}

/// A serial number as nginx's `$ssl_client_serial` prints it (OpenSSL's `i2a_ASN1_INTEGER`): upper-case hex, whole
/// bytes, no leading zero byte; zero is `00`.
#[must_use]
pub fn serial_hex(bytes: &[u8]) -> String {
    let significant = bytes.iter().position(|b| *b != 0).map_or(&[0][..], |at| &bytes[at..]);
    significant.iter().map(|b| format!("{b:02X}")).collect()
}

/// A distinguished name as an RFC 2253 string, in the form of OpenSSL's `XN_FLAG_RFC2253`, which is what nginx's
/// `$ssl_client_s_dn` shows: the last attribute first, `,` between, no spaces (RFC 2253, section 2.1).
#[must_use]
pub fn rfc2253(name: &X509Name<'_>) -> String {
    let mut parts = name
        .iter_rdn()
        .map(|rdn| {
            rdn.iter()
                .map(|attribute| {
                    let oid = attribute.attr_type();
                    let key =
                        oid2abbrev(oid, oid_registry()).map_or_else(|_| oid.to_id_string(), str::to_owned);
                    let value = attribute.as_str().map_or_else(
                        |_| {
                            let hex: String =
                                attribute.as_slice().iter().map(|b| format!("{b:02X}")).collect();
                            format!("#{hex}")
                        },
                        escaped,
                    );
                    format!("{key}={value}")
                })
                .collect::<Vec<_>>()
                .join("+")
        })
        .collect::<Vec<_>>();
    parts.reverse();
    parts.join(",")
}

/// Escapes a value (RFC 2253, section 2.4); bytes outside ASCII and controls become `\XX`, as OpenSSL does it.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b'#' if at == 0 => out.push_str("\\#"),
            b' ' if at == 0 || at == last => out.push_str("\\ "),
            0x20..0x7f => out.push(char::from(byte)),
            0..0x20 | 0x7f.. => out.push_str(&format!("\\{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::{Authority, KeyAlgorithm};

    #[test]
    fn a_serial_is_printed_in_whole_bytes_without_leading_zero_bytes() {
        assert_eq!(serial_hex(&[0]), "00");
        assert_eq!(serial_hex(&[]), "00");
        assert_eq!(serial_hex(&[1]), "01");
        assert_eq!(serial_hex(&[0, 0xab, 0x0c]), "AB0C");
    }

    #[test]
    fn a_credential_is_described_by_its_first_certificate_as_istioctl_does() {
        let ca = Authority::new(KeyAlgorithm::EcdsaP256).unwrap();
        let client = ca.client("client.example.com").issue().unwrap();
        let bundle = format!("{}{}", client.certificate_pem(), ca.certificate_pem());
        let status = credential_status("kubernetes://both", Some(&bundle));
        assert_eq!((status.state, status.serial.as_deref()), (CredentialState::Active, Some("01")));
        assert_eq!(status.kind, Some(CertificateKind::CertificateChain));
        let year = |time: &Option<String>| time.as_deref().unwrap()[..4].parse::<i32>().unwrap();
        assert_eq!(year(&status.not_after) - year(&status.not_before), 1, "{status:?}");
        assert!(status.not_after.unwrap().ends_with('Z'));

        let authority = credential_status("kubernetes://ca", Some(ca.certificate_pem()));
        assert_eq!(authority.kind, Some(CertificateKind::Authority));
        let waiting = credential_status("kubernetes://none", None);
        assert_eq!((waiting.state, waiting.kind), (CredentialState::Warming, None));
        let broken = credential_status("kubernetes://broken", Some("no certificate"));
        assert_eq!((broken.state, broken.serial), (CredentialState::Active, None));
    }

    #[test]
    fn a_value_with_special_characters_is_escaped_as_openssl_escapes_it() {
        assert_eq!(escaped(r#" a,b+c"d\e<f>g;h "#), r#"\ a\,b\+c\"d\\e\<f\>g\;h\ "#);
        assert_eq!(escaped("#1#"), "\\#1#");
        assert_eq!(escaped("é"), "\\C3\\A9");
    }

    #[test]
    fn bytes_that_are_no_certificate_are_described_as_nothing() {
        assert_eq!(describe(b"not DER"), None);
        assert_eq!(describe(&[0x30, 0x82, 0xff, 0xff]), None);
    }
}
