//! Certificates.

use meshproof_local::data_plane::MeshCertificate;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};

/// A CA.
pub struct TestAuthority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct IssuedPem {
    pub certificate: String,
    pub key: String,
}

/// The contents of a certificate.
pub struct CertificateSpec<'a> {
    pub name: &'a str,
    pub dns: &'a [&'a str],
    pub uri: Option<&'a str>,
    pub serial: u64,
    pub usage: Option<ExtendedKeyUsagePurpose>,
    pub years: (i32, i32),
}

impl Default for CertificateSpec<'_> {
    fn default() -> Self {
        Self { name: "a subject", dns: &[], uri: None, serial: 7, usage: None, years: (2020, 2096) }
    }
}

impl TestAuthority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub fn pem(&self) -> String {
        self.pem.clone()
    }

    pub fn issue(&self, says: &CertificateSpec<'_>) -> IssuedPem {
        let key = KeyPair::generate().unwrap();
        let certificate = params(says).signed_by(&key, &self.issuer).unwrap();
        IssuedPem { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    pub fn server(&self, host: &str) -> IssuedPem {
        self.issue(&CertificateSpec { name: host, dns: &[host], ..CertificateSpec::default() })
    }

    pub fn identity(&self, uri: &str) -> MeshCertificate {
        let issued = self.issue(&CertificateSpec { uri: Some(uri), ..CertificateSpec::default() });
        MeshCertificate { certificate: issued.certificate, key: issued.key }
    }

    /// A revocation list that names one serial number.
    pub fn revoking(&self, serial: u64) -> String {
        CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2096, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: rcgen::date_time_ymd(2021, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&self.issuer)
        .unwrap()
        .pem()
        .unwrap()
    }
}

/// A self-signed certificate.
pub fn self_signed(says: &CertificateSpec<'_>) -> IssuedPem {
    signed_by_itself(params(says))
}

/// A self-signed CA certificate, as `openssl req -x509` makes it.
pub fn self_signed_ca(says: &CertificateSpec<'_>) -> IssuedPem {
    let mut params = params(says);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    signed_by_itself(params)
}

fn signed_by_itself(params: CertificateParams) -> IssuedPem {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    IssuedPem { certificate: certificate.pem(), key: key.serialize_pem() }
}

fn params(says: &CertificateSpec<'_>) -> CertificateParams {
    let mut params =
        CertificateParams::new(says.dns.iter().map(|d| (*d).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, says.name);
    params.serial_number = Some(SerialNumber::from(says.serial));
    params.subject_alt_names.extend(says.uri.map(|u| SanType::URI(u.try_into().unwrap())));
    params.extended_key_usages = says.usage.clone().into_iter().collect();
    params.not_before = rcgen::date_time_ymd(says.years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(says.years.1, 1, 1);
    params
}
