//! The expected answers are those of webpki, except for differences that are listed with their reasons.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use meshproof_harness::certificates::Certified;
use meshproof_vectors::{Expected, Group, Matrix, Presented, Vector};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// The vectors on which webpki differs, with the reason.
const DIFFERENCES: &[(&str, &str)] = &[
    ("address-malformed", "webpki reads only the kind of name that it compares"),
    ("constraint-with-a-leading-dot", "webpki takes a leading dot for a domain without its own name"),
    ("constraints-empty", "webpki takes an empty extension for no constraints"),
    ("constraints-on-a-leaf", "webpki passes over constraints on a leaf"),
    ("generalized-time-before-2050", "webpki reads both types of time for every year"),
    ("issuer-in-another-string-type", "webpki compares names byte by byte (Mozilla::pkix, likewise)"),
    ("issuer-in-other-letters", "webpki compares names byte by byte (Mozilla::pkix, likewise)"),
    ("key-usage-empty", "webpki does not read the key usage; the reference adds section 6.1.4 (n)"),
    ("key-usage-malformed", "webpki does not read the key usage; the reference adds section 6.1.4 (n)"),
    (
        "key-usage-not-critical-without-certificates",
        "webpki does not read the key usage; the reference adds section 6.1.4 (n)",
    ),
    (
        "key-usage-without-certificates",
        "webpki does not read the key usage; the reference adds section 6.1.4 (n)",
    ),
    ("leaf-key-usage-certificates-only", "webpki does not read the key usage"),
    ("leaf-key-usage-encipherment-only", "webpki does not read the key usage"),
    ("name-not-in-ascii", "webpki passes over names that it cannot compare"),
    ("name-with-a-space", "webpki passes over names that it cannot compare"),
    ("path-length-of-the-root-exceeded", "webpki uses only name, key and constraints of an anchor"),
    ("path-length-self-issued", "webpki counts self-issued certificates"),
    ("path-of-ten-cas", "webpki follows at most six CAs"),
    ("path-of-twenty-cas", "webpki follows at most six CAs"),
    ("policies-critical", "webpki does not know policies"),
    ("purpose-of-a-ca-any", "webpki does not take anyExtendedKeyUsage for serverAuth"),
    ("purpose-of-the-root-client", "webpki uses only name, key and constraints of an anchor"),
    ("root-expired", "webpki uses only name, key and constraints of an anchor"),
    ("root-is-no-ca", "webpki uses only name, key and constraints of an anchor"),
    ("root-key-usage-without-certificates", "webpki uses only name, key and constraints of an anchor"),
    ("root-unknown-critical-extension", "webpki uses only name, key and constraints of an anchor"),
    ("rsa-parameters-absent", "webpki knows this form as an alternative of the algorithm"),
    ("serial-negative", "webpki does not look at serial numbers"),
    ("serial-of-21-bytes", "webpki does not look at serial numbers"),
    ("serial-with-leading-zeros", "webpki does not look at serial numbers"),
    ("serial-zero", "webpki does not look at serial numbers"),
    ("subject-empty-names-not-critical", "webpki does not look at the subject"),
    ("unknown-extension-twice", "webpki notices only extensions that it knows twice"),
    (
        "upper-key-usage-without-certificates",
        "webpki does not read the key usage; the reference adds section 6.1.4 (n)",
    ),
];

fn webpki_accepts(presented: &Presented, common: &Certified, host: &str) -> Result<(), String> {
    let chain: Vec<CertificateDer<'_>> =
        CertificateDer::pem_slice_iter(presented.chain.certificate_pem().as_bytes())
            .collect::<Result<_, _>>()
            .unwrap();
    let roots: Vec<CertificateDer<'_>> =
        presented.anchors.iter().chain([common]).map(|c| CertificateDer::from(c.der().to_vec())).collect();
    // A root that cannot be read is left out, as a verifier of a bundle may do.
    let anchors: Vec<_> = roots.iter().filter_map(|r| anchor_from_trusted_cert(r).ok()).collect();
    let leaf = EndEntityCert::try_from(&chain[0]).map_err(|e| e.to_string())?;
    leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        &chain[1..],
        UnixTime::now(),
        KeyUsage::server_auth(),
        None,
        None,
    )
    .map_err(|e| format!("{e:?}"))?;
    let name = ServerName::try_from(host).unwrap();
    leaf.verify_is_valid_for_subject_name(&name).map_err(|e| format!("{e:?}"))
}

fn all() -> Vec<Vector> {
    Group::all().iter().flat_map(Group::vectors).collect()
}

#[test]
fn the_expected_answers_are_those_of_webpki_but_for_the_listed_differences() {
    let matrix = Matrix::new("vectors.example").unwrap();
    let mut differences = BTreeMap::new();
    for vector in all() {
        let presented = matrix.make(&vector).unwrap();
        let verdict = webpki_accepts(&presented, matrix.anchor(), &matrix.host(&vector));
        let expected = vector.expected == Expected::Accepted;
        if verdict.is_ok() != expected {
            differences.insert(vector.id, format!("{:?} {verdict:?}", vector.level));
        }
    }
    let found: BTreeSet<&str> = differences.keys().copied().collect();
    let listed: BTreeSet<&str> = DIFFERENCES.iter().map(|(id, _)| *id).collect();
    assert_eq!(found, listed, "{differences:#?}");
}

#[test]
fn ids_are_unique_and_short_enough_for_a_label_and_controls_exist_and_are_accepted() {
    let all = all();
    let ids: BTreeSet<&str> = all.iter().map(|v| v.id).collect();
    assert_eq!(ids.len(), all.len());
    assert!(all.len() >= 120, "{}", all.len());
    for vector in &all {
        assert!(vector.id.len() <= 63, "{}", vector.id);
        assert!(vector.rule.ends_with('.'), "{}", vector.id);
        match vector.expected {
            Expected::Accepted => assert_eq!(vector.control, None),
            Expected::Refused => {
                let control = all.iter().find(|v| Some(v.id) == vector.control).unwrap();
                assert_eq!(control.expected, Expected::Accepted, "{}", vector.id);
                assert!(vector.only_full || !control.only_full, "{}", vector.id);
            }
        }
    }
}

#[test]
fn a_file_of_x509_limbo_is_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/limbo/limbo-half.json");
    let Ok(text) = std::fs::read_to_string(path) else {
        assert!(std::env::var_os("MESHPROOF_REQUIRE_VECTORS").is_none(), "{path} is missing");
        return eprintln!("ignored: {path} is not there");
    };
    let vectors = meshproof_vectors::limbo::read(&text).unwrap();
    let asked = vectors.iter().filter(|v| v.not_asked.is_none()).count();
    assert!(asked >= 60, "{asked} of {}", vectors.len());
}
