//! Reads vectors in the JSON format of x509-limbo (C2SP, `limbo-schema.json`).

use std::collections::BTreeSet;

use meshproof_harness::certificates::blueprint::pem_contents;
use meshproof_harness::certificates::{CertificateError, Certified, can_sign_handshakes};
use meshproof_model::Level;
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use x509_parser::parse_x509_certificate;

use crate::matrix::Matrix;
use crate::vector::{Expected, Group};

/// Why a file is not one of vectors.
#[derive(Debug, thiserror::Error)]
pub enum LimboError {
    /// The file is not in the format.
    #[error("it is not a file of x509-limbo vectors: {0}")]
    Format(#[from] serde_json::Error),
    /// There is no vector in it.
    #[error("it holds no vectors")]
    Empty,
    /// None of its vectors can be asked of a proxy.
    #[error("none of its vectors can be asked of a proxy: {0}")]
    NothingToAsk(&'static str),
}

#[derive(Deserialize)]
struct File {
    testcases: Vec<TestCase>,
}

#[derive(Deserialize)]
struct TestCase {
    id: String,
    #[serde(default)]
    features: Option<Vec<String>>,
    #[serde(default)]
    description: String,
    validation_kind: String,
    #[serde(default)]
    trusted_certs: Vec<String>,
    #[serde(default)]
    untrusted_intermediates: Vec<String>,
    peer_certificate: String,
    #[serde(default)]
    peer_certificate_key: Option<String>,
    #[serde(default)]
    validation_time: Option<String>,
    #[serde(default)]
    signature_algorithms: Option<Vec<serde_json::Value>>,
    #[serde(default)]
    key_usage: Option<Vec<String>>,
    #[serde(default)]
    extended_key_usage: Option<Vec<String>>,
    expected_result: String,
    #[serde(default)]
    expected_peer_name: Option<PeerName>,
    #[serde(default)]
    max_chain_depth: Option<u64>,
    #[serde(default)]
    crls: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct PeerName {
    kind: String,
    value: String,
}

/// One vector of such a file.
#[derive(Clone, Debug)]
pub struct LimboVector {
    /// As a check is called: `rfc5280-nc-excluded-dns-match`.
    pub id: String,
    /// As the file calls it: `rfc5280::nc::excluded-dns-match`.
    pub name: String,
    /// What the file says about it.
    pub description: String,
    /// The answer.
    pub expected: Expected,
    /// MAY for what the file calls pedantic, incompatible with the Web PKI, or a rule of the Web PKI; otherwise MUST.
    pub level: Level,
    /// PEM: the chain as it is sent.
    pub chain: String,
    /// PEM: the leaf's key.
    pub key: String,
    /// PEM: the anchors.
    pub anchors: String,
    /// PEM: revocation lists; empty: none.
    pub lists: String,
    /// The name that the certificate must hold, if one is compared.
    pub peer_name: Option<String>,
    /// Why it cannot be asked of a proxy, if it cannot.
    pub not_asked: Option<&'static str>,
}

/// Reads the vectors of a file. Those that are about verifying clients are left out.
///
/// # Errors
/// The text is not in the format, or holds no vectors.
pub fn read(text: &str) -> Result<Vec<LimboVector>, LimboError> {
    let file: File = serde_json::from_str(text)?;
    let mut known = BTreeSet::new();
    let vectors: Vec<LimboVector> = file
        .testcases
        .into_iter()
        .filter(|case| case.validation_kind == "SERVER")
        .map(vector)
        .filter(|vector| known.insert(vector.id.clone()))
        .collect();
    match vectors.first() {
        None => Err(LimboError::Empty),
        Some(first) => match first.not_asked {
            Some(why) if vectors.iter().all(|v| v.not_asked.is_some()) => Err(LimboError::NothingToAsk(why)),
            Some(_) | None => Ok(vectors),
        },
    }
}

/// The suite's own vectors in the format, made afresh for hosts of this domain.
///
/// # Errors
/// A key or a certificate could not be made.
pub fn write(domain: &str) -> Result<String, CertificateError> {
    let matrix = Matrix::new(domain)?;
    let mut cases = Vec::new();
    for group in Group::all() {
        for vector in group.vectors() {
            let presented = matrix.make(&vector)?;
            let chain = presented.chain.certificate_pem();
            let mut blocks: Vec<String> =
                chain.split_inclusive("-----END CERTIFICATE-----\n").map(str::to_owned).collect();
            let leaf = blocks.remove(0);
            let anchors: Vec<String> =
                presented.anchors.iter().chain([matrix.anchor()]).map(Certified::pem).collect();
            let result = match vector.expected {
                Expected::Accepted => "SUCCESS",
                Expected::Refused => "FAILURE",
            };
            cases.push(json!({
                "id": format!("{}::{}", group.id, vector.id),
                "features": [],
                "importance": format!("{:?}", vector.level),
                "description": format!("{} ({})", vector.rule, vector.source),
                "validation_kind": "SERVER",
                "trusted_certs": anchors,
                "untrusted_intermediates": blocks,
                "peer_certificate": leaf,
                "peer_certificate_key": presented.chain.key().0,
                "expected_result": result,
                "expected_peer_name": {"kind": "DNS", "value": matrix.host(&vector)},
            }));
        }
    }
    Ok(json!({"version": 1, "testcases": cases}).to_string())
}

fn vector(case: TestCase) -> LimboVector {
    let expected = if case.expected_result == "SUCCESS" { Expected::Accepted } else { Expected::Refused };
    let chain: Vec<&str> = std::iter::once(&case.peer_certificate)
        .chain(&case.untrusted_intermediates)
        .map(|pem| pem.trim())
        .collect();
    let features = case.features.as_deref().unwrap_or_default();
    let differs = |f: &String| f.starts_with("pedantic-") || f == "rfc5280-incompatible-with-webpki";
    // The group `webpki` is about the requirements of the CA/Browser Forum, which bind CAs.
    let level = if case.id.starts_with("webpki::") || features.iter().any(differs) {
        Level::May
    } else {
        Level::Must
    };
    let anchors: Vec<&str> = case.trusted_certs.iter().map(|pem| pem.trim()).collect();
    LimboVector {
        id: as_check_id(&case.id),
        not_asked: not_asked(&case),
        description: case.description.split_whitespace().collect::<Vec<_>>().join(" "),
        expected,
        level,
        chain: chain.join("\n") + "\n",
        key: case.peer_certificate_key.unwrap_or_default(),
        anchors: anchors.join("\n") + "\n",
        lists: case.crls.unwrap_or_default().concat(),
        peer_name: case.expected_peer_name.map(|name| name.value),
        name: case.id,
    }
}

/// Small letters, digits and hyphens.
fn as_check_id(name: &str) -> String {
    let parts = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

fn not_asked(case: &TestCase) -> Option<&'static str> {
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    let for_servers = case.extended_key_usage.as_ref().is_none_or(|purposes| {
        purposes.is_empty() || purposes.iter().any(|p| p.eq_ignore_ascii_case("serverAuth"))
    });
    if case.max_chain_depth.is_some() {
        Some("the verifier would have to be given a maximum depth")
    } else if case.signature_algorithms.as_ref().is_some_and(|list| !list.is_empty()) {
        Some("the verifier would have to be given signature algorithms")
    } else if some(&case.key_usage) || !for_servers {
        Some("the verifier would have to be given a usage of the key")
    } else if case.expected_peer_name.as_ref().is_some_and(|n| n.kind != "DNS" && n.kind != "IP") {
        Some("a proxy compares no names of this kind")
    } else if case.trusted_certs.is_empty() {
        Some("a proxy without anchors opens no TLS")
    } else {
        let certificates = || {
            std::iter::once(&case.peer_certificate)
                .chain(&case.untrusted_intermediates)
                .chain(&case.trusted_certs)
        };
        // A path that is refused for its dates in any case proves nothing about another rule.
        let another_time = case.validation_time.is_some() && !certificates().all(|pem| is_valid_now(pem));
        match case.peer_certificate_key.as_deref() {
            _ if another_time => Some("it is about another time than now"),
            None | Some("") => Some("it comes without the leaf's key"),
            Some(key) if !can_sign_handshakes(key) => Some("no TLS library here signs with the leaf's key"),
            Some(_) => None,
        }
    }
}

fn is_valid_now(pem: &str) -> bool {
    let der = pem_contents(pem);
    let now = OffsetDateTime::now_utc().unix_timestamp();
    parse_x509_certificate(&der).is_ok_and(|(_, parsed)| {
        let validity = parsed.validity();
        validity.not_before.timestamp() <= now && now <= validity.not_after.timestamp()
    })
}
