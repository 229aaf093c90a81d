//! The shapes of document 004, read back with another library than the one that wrote them.

use std::collections::BTreeSet;

use meshproof_harness::certificates::{Authority, Issued, KeyAlgorithm, KeyPool, describe, self_signed};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::support::HOST;

fn der(pem: &str) -> Vec<u8> {
    Pem::iter_from_buffer(pem.as_bytes()).next().unwrap().unwrap().contents
}

fn with<T>(pem: &str, look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let der = der(pem);
    let (rest, certificate) = X509Certificate::from_der(&der).unwrap();
    assert!(rest.is_empty());
    look(&certificate)
}

fn oids(pem: &str) -> BTreeSet<String> {
    with(pem, |c| c.extensions().iter().map(|e| e.oid.to_id_string()).collect())
}

fn ecdsa() -> Authority {
    Authority::new(KeyAlgorithm::EcdsaP256).unwrap()
}

#[test]
fn the_root_is_the_documents_root_with_rsa_2048_if_requested() {
    let keys = KeyPool::new();
    let root = Authority::with_keys(&keys, "example.com", "example Inc.", KeyAlgorithm::Rsa2048).unwrap();
    assert_eq!(root.facts().subject, "CN=example.com,O=example Inc.");
    assert_eq!(root.facts().issuer, root.facts().subject);
    with(root.certificate_pem(), |c| {
        let PublicKey::RSA(key) = c.public_key().parsed().unwrap() else { panic!("not RSA") };
        assert_eq!(key.key_size(), 2048);
        let constraints = c.basic_constraints().unwrap().unwrap();
        assert!(
            constraints.critical && constraints.value.ca && constraints.value.path_len_constraint.is_none()
        );
        let days = (c.validity().not_after.timestamp() - c.validity().not_before.timestamp()) / 86_400;
        assert_eq!(days, 365);
        assert!(c.validity().is_valid());
        assert!(c.key_usage().unwrap().is_none(), "openssl req -x509 writes no keyUsage");
    });
}

#[test]
fn a_server_certificate_has_every_extension_of_the_documents_san_conf_and_no_other() {
    let root = ecdsa();
    let server = root.server(HOST).issue().unwrap();
    assert_eq!(server.subject(), format!("O=some organization,CN={HOST}"));
    assert_eq!(server.facts().issuer, "CN=example.com,O=example Inc.");
    assert_eq!(server.serial(), "00");
    assert_eq!(server.facts().alternative_names, [HOST]);
    with(server.certificate_pem(), |c| {
        let usage = c.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.digital_signature() && usage.value.key_encipherment());
        assert_eq!(usage.value.flags, 0b101, "digitalSignature and keyEncipherment alone");
        let extended = c.extended_key_usage().unwrap().unwrap();
        assert!(!extended.critical && extended.value.server_auth && extended.value.client_auth);
        let constraints = c.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && !constraints.value.ca);
        let names = c.subject_alternative_name().unwrap().unwrap();
        assert!(names.critical, "subjectAltName = critical, @alt_names");
        assert_eq!(names.value.general_names, [GeneralName::DNSName(HOST)]);
        assert_eq!(c.extensions().len(), 4);
    });
}

#[test]
fn a_server_certificate_without_san_and_a_client_certificate_have_no_extensions() {
    let root = ecdsa();
    let server = root.server(HOST).without_san().issue().unwrap();
    assert_eq!(oids(server.certificate_pem()), BTreeSet::new());
    assert_eq!(server.facts().alternative_names, Vec::<String>::new());
    let client = root.client("client.example.com").issue().unwrap();
    assert_eq!(oids(client.certificate_pem()), BTreeSet::new());
    assert_eq!(client.subject(), "O=client organization,CN=client.example.com");
    assert_eq!(client.serial(), "01");
}

#[test]
fn a_serial_that_was_set_is_the_serial_that_was_issued() {
    let root = ecdsa();
    assert_eq!(root.client("c").serial(0xab_cdef).issue().unwrap().serial(), "ABCDEF");
    assert_eq!(root.server(HOST).serial(u64::MAX).issue().unwrap().serial(), "FFFFFFFFFFFFFFFF");
    assert_eq!(
        root.mesh_identity("spiffe://cluster.local/ns/a/sa/b").serial(9).issue().unwrap().serial(),
        "09"
    );
}

#[test]
fn expired_and_not_yet_valid_certificates_are_just_that() {
    let root = ecdsa();
    let now = x509_parser::time::ASN1Time::now();
    let expired = root.server(HOST).expired().issue().unwrap();
    with(expired.certificate_pem(), |c| assert!(c.validity().not_after < now));
    let early = root.server(HOST).not_yet_valid().issue().unwrap();
    with(early.certificate_pem(), |c| assert!(c.validity().not_before > now));
    let client = root.client("c").expired().issue().unwrap();
    with(client.certificate_pem(), |c| assert!(c.validity().not_after < now));
    let fine = root.server(HOST).issue().unwrap();
    with(fine.certificate_pem(), |c| assert!(c.validity().is_valid()));
}

#[test]
fn a_certificate_for_clients_only_lacks_server_auth() {
    let issued = ecdsa().server(HOST).client_auth_only().issue().unwrap();
    with(issued.certificate_pem(), |c| {
        let usage = c.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
    });
}

#[test]
fn alternative_names_may_be_others_than_the_host() {
    let issued = ecdsa().server(HOST).with_san(["a.example", "*.b.example"]).issue().unwrap();
    assert_eq!(issued.facts().alternative_names, ["a.example", "*.b.example"]);
}

#[test]
fn a_name_outside_ascii_is_refused_and_not_a_panic() {
    assert!(ecdsa().server(HOST).with_san(["bücher.example"]).issue().is_err());
    assert!(ecdsa().mesh_identity("spiffe://bücher").issue().is_err());
}

#[test]
fn a_self_signed_certificate_is_its_own_issuer_and_verifies_with_its_own_key() {
    let issued = self_signed(&KeyPool::fresh(), HOST, KeyAlgorithm::EcdsaP256).unwrap();
    assert_eq!(issued.facts().issuer, issued.facts().subject);
    assert_eq!(issued.facts().alternative_names, [HOST]);
}

#[test]
fn a_mesh_identity_has_no_subject_and_one_critical_uri() {
    let spiffe = "spiffe://cluster.local/ns/default/sa/sleep";
    let root = Authority::new(KeyAlgorithm::EcdsaP256).unwrap();
    let issued = root.mesh_identity(spiffe).issue().unwrap();
    assert_eq!(issued.subject(), "");
    assert_eq!(issued.facts().alternative_names, [spiffe]);
    with(issued.certificate_pem(), |c| {
        assert!(c.subject_alternative_name().unwrap().unwrap().critical);
        assert!(matches!(c.public_key().parsed().unwrap(), PublicKey::EC(_)));
    });
}

#[test]
fn a_revocation_list_names_the_revoked_and_no_other() {
    let root = ecdsa();
    let revoked = root.server(HOST).serial(0x1234).issue().unwrap();
    let _kept = root.server(HOST).serial(0x1235).issue().unwrap();
    let list = der(&root.revocation_list([&revoked]).unwrap());
    let (_, list) = CertificateRevocationList::from_der(&list).unwrap();
    let serials: Vec<_> = list.iter_revoked_certificates().map(|r| r.serial().to_string()).collect();
    assert_eq!(serials, [0x1234.to_string()]);
    assert!(list.next_update().unwrap() > x509_parser::time::ASN1Time::now());
    let empty = der(&root.revocation_list([] as [&Issued; 0]).unwrap());
    let (_, empty) = CertificateRevocationList::from_der(&empty).unwrap();
    assert_eq!(empty.iter_revoked_certificates().count(), 0);
}

#[test]
fn a_leaf_points_at_nothing_that_would_need_the_root_to_have_a_key_identifier() {
    // Document 004's leaves have no authorityKeyIdentifier; a client finds the issuer by name alone.
    let server = ecdsa().server(HOST).issue().unwrap();
    with(server.certificate_pem(), |c| {
        let points = |e: &ParsedExtension<'_>| matches!(e, ParsedExtension::AuthorityKeyIdentifier(_));
        assert!(!c.extensions().iter().any(|e| points(e.parsed_extension())));
    });
}

#[test]
fn parties_of_one_pool_never_share_a_key_and_pools_do() {
    let public = |issued: &Issued| with(issued.certificate_pem(), |c| c.public_key().raw.to_vec());
    let issue = || {
        let keys = KeyPool::new();
        let alg = KeyAlgorithm::EcdsaP256;
        let ca = Authority::with_keys(&keys, "example.com", "example Inc.", alg).unwrap();
        let other = Authority::with_keys(&keys, "stranger.com", "stranger Inc.", alg).unwrap();
        [
            ca.server(HOST).issue().unwrap(),
            ca.client("c").issue().unwrap(),
            ca.client("c").issue().unwrap(),
            other.client("c").issue().unwrap(),
            ca.mesh_identity("spiffe://a").issue().unwrap(),
        ]
        .map(|issued| public(&issued))
    };
    let first = issue();
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 5, "within a pool");
    assert_eq!(first, issue(), "between pools");
    let fresh = Authority::new(KeyAlgorithm::EcdsaP256).unwrap();
    let one = public(&fresh.client("c").issue().unwrap());
    assert!(!first.contains(&one));
}

#[test]
fn no_debug_output_shows_a_private_key() {
    let root = ecdsa();
    let issued = root.client("c").issue().unwrap();
    let shown = format!("{root:?} {issued:?} {:?} {:?}", issued.key(), KeyPool::new());
    assert!(!shown.contains("PRIVATE KEY") && !shown.contains(&issued.key().0), "{shown}");
}

#[test]
fn what_is_no_certificate_is_described_as_nothing() {
    assert_eq!(describe(&[]), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_issued_with_rsa_keys_that_were_prepared() {
    let keys = KeyPool::new();
    keys.prepare(KeyAlgorithm::Rsa2048, 4).await.unwrap();
    let root = Authority::with_keys(&keys, "example.com", "example Inc.", KeyAlgorithm::Rsa2048).unwrap();
    root.server(HOST).issue().unwrap();
    root.client("client.example.com").issue().unwrap();
}
