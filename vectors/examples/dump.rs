//! Writes the matrix to standard output in the JSON format of x509-limbo, for verifiers that read it:
//! `cargo run -p meshproof-vectors --example dump > vectors.json`.

#![allow(clippy::print_stdout, reason = "the output is what the example is for")]

fn main() -> Result<(), meshproof_harness::certificates::CertificateError> {
    println!("{}", meshproof_vectors::limbo::write("vectors.example")?);
    Ok(())
}
