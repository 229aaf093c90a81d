//! Writes the matrix to standard output in the JSON format of x509-limbo, for verifiers that read it:
//! `cargo run -p meshproof-vectors --example dump > vectors.json`.

#![allow(clippy::print_stdout, reason = "the output is what the example is for")]

use meshproof_harness::certificates::{CertificateError, Certified};
use meshproof_vectors::{Expected, Group, Matrix};
use serde_json::json;

fn main() -> Result<(), CertificateError> {
    let matrix = Matrix::new("vectors.example")?;
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
    println!("{}", json!({"version": 1, "testcases": cases}));
    Ok(())
}
