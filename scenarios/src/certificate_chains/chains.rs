//! Chains: intermediates, bundles, roots, dates, key types, and connections on which a proxy may forget to verify.

use meshproof_harness::certificates::blueprint::Name;
use meshproof_harness::certificates::{Blueprint, CertificateError, Duration, KeyAlgorithm};

use super::pki::{Pki, chains};
use crate::presented::Cases;

/// Small enough that no period of grace hides it, and large enough for clocks that differ.
const MARGIN: Duration = Duration::minutes(10);
const YEAR: Duration = Duration::days(365);

pub(super) fn add(cases: &mut Cases, pki: &Pki) -> Result<(), CertificateError> {
    intermediates(cases, pki)?;
    roots(cases, pki)?;
    dates(cases, pki)?;
    connections(cases, pki)?;
    for (label, algorithm) in [
        ("rsa-2048", KeyAlgorithm::Rsa2048),
        ("p-384", KeyAlgorithm::EcdsaP384),
        ("ed25519", KeyAlgorithm::Ed25519),
    ] {
        let host = chains(label);
        let leaf = Blueprint::server(&host, pki.key_of(algorithm)?);
        cases.records("key-types", &host, &leaf.issued_by(&pki.roots[0])?.with_chain(&[]));
    }
    Ok(())
}

fn intermediates(cases: &mut Cases, pki: &Pki) -> Result<(), CertificateError> {
    let (upper, [first, ..]) = (&pki.intermediate, &pki.roots);
    let lower = pki.authority("Lower intermediate")?.issued_by(upper)?;
    let unrelated = pki.authority("Unrelated intermediate")?.issued_by(&pki.stranger)?;
    let one = chains("one-intermediate");
    let below = |host: &str| pki.leaf(host).issued_by(upper);
    let twice_below = |host: &str| pki.leaf(host).issued_by(&lower);
    cases.accepts("chain-with-intermediates", &one, &below(&one)?.with_chain(&[upper]));
    let two = chains("two-intermediates");
    cases.accepts("chain-with-intermediates", &two, &twice_below(&two)?.with_chain(&[&lower, upper]));
    let host = chains("root-sent-as-well");
    cases.accepts("chain-with-intermediates", &host, &below(&host)?.with_chain(&[upper, first]));

    let host = chains("wrong-order");
    cases.accepts("chain-in-any-order", &host, &twice_below(&host)?.with_chain(&[upper, &lower]));
    let host = chains("unrelated-certificate");
    cases.accepts("chain-in-any-order", &host, &below(&host)?.with_chain(&[&unrelated, upper]));

    let host = chains("no-intermediate");
    cases.refuses("missing-intermediate-refused", &host, &below(&host)?.with_chain(&[]), &one);
    let host = chains("one-of-two-missing");
    cases.refuses("missing-intermediate-refused", &host, &twice_below(&host)?.with_chain(&[&lower]), &two);

    let host = chains("name-of-the-intermediate");
    let named = pki.authority("Intermediate with a name")?.names(&[Name::dns(&*host)]);
    let named = named.issued_by(first)?;
    let leaf = pki.leaf(&chains("another")).issued_by(&named)?;
    cases.refuses("only-the-leaf-counts", &host, &leaf.with_chain(&[&named]), &one);

    // The new root is none of the client's. The old one vouches for its key.
    let host = chains("cross-signed");
    let new = pki.authority("New root")?;
    let crossed = new.issued_by(first)?;
    let issuer = pki.authority("Intermediate of the new root")?.issued_by(&crossed)?;
    cases.accepts(
        "cross-signed-root",
        &host,
        &pki.leaf(&host).issued_by(&issuer)?.with_chain(&[&issuer, &crossed]),
    );
    Ok(())
}

fn roots(cases: &mut Cases, pki: &Pki) -> Result<(), CertificateError> {
    for (label, root) in ["first-root", "second-root", "third-root"].into_iter().zip(&pki.roots) {
        let host = chains(label);
        cases.accepts("every-root-counts", &host, &pki.leaf(&host).issued_by(root)?.with_chain(&[]));
    }
    let first = chains("first-root");
    let host = chains("system-root");
    let public = pki.leaf(&host).issued_by(&pki.public)?.with_chain(&[]);
    cases.refuses("system-roots-replaced", &host, &public, &first);
    if let Some(mesh) = &pki.mesh {
        let host = chains("mesh-root");
        cases.refuses(
            "mesh-root-inside-only",
            &host,
            &pki.leaf(&host).issued_by(mesh)?.with_chain(&[]),
            &first,
        );
    }
    if pki.one_way {
        let at = |label: &str| format!("{label}.system.origin.example");
        let accepted = at("one-intermediate");
        let below = pki.authority("Public intermediate")?.issued_by(&pki.public)?;
        let leaf = |host: &str| pki.leaf(host).issued_by(&below);
        cases.accepts("chain-to-system-root", &accepted, &leaf(&accepted)?.with_chain(&[&below]));
        let host = at("no-intermediate");
        cases.refuses("chain-to-system-root", &host, &leaf(&host)?.with_chain(&[]), &accepted);
        let host = at("root-of-a-secret");
        let own = pki.leaf(&host).issued_by(&pki.roots[0])?;
        cases.refuses("chain-to-system-root", &host, &own.with_chain(&[]), &accepted);
        if let Some(mesh) = &pki.mesh {
            let host = at("mesh-root");
            let meshed = pki.leaf(&host).issued_by(mesh)?;
            cases.refuses("mesh-root-inside-only", &host, &meshed.with_chain(&[]), &accepted);
        }
    }
    Ok(())
}

fn dates(cases: &mut Cases, pki: &Pki) -> Result<(), CertificateError> {
    let first = &pki.roots[0];
    let leaf =
        |host: &str, from, until| Ok(pki.leaf(host).valid(from, until).issued_by(first)?.with_chain(&[]));
    let soon = chains("expires-in-minutes");
    cases.accepts("expired-by-minutes-refused", &soon, &leaf(&soon, -YEAR, MARGIN)?);
    let host = chains("expired-minutes-ago");
    cases.refuses("expired-by-minutes-refused", &host, &leaf(&host, -YEAR, -MARGIN)?, &soon);
    let just = chains("valid-for-minutes");
    cases.accepts("early-by-minutes-refused", &just, &leaf(&just, -MARGIN, YEAR)?);
    let host = chains("valid-in-minutes");
    cases.refuses("early-by-minutes-refused", &host, &leaf(&host, MARGIN, YEAR)?, &just);
    let host = chains("intermediate-expired");
    let old = pki.authority("Old intermediate")?.valid(-YEAR, -MARGIN).issued_by(first)?;
    let below = pki.leaf(&host).issued_by(&old)?.with_chain(&[&old]);
    cases.refuses("expired-by-minutes-refused", &host, &below, &chains("one-intermediate"));
    let host = chains("intermediate-early");
    let new = pki.authority("New intermediate")?.valid(MARGIN, YEAR).issued_by(first)?;
    let below = pki.leaf(&host).issued_by(&new)?.with_chain(&[&new]);
    cases.refuses("early-by-minutes-refused", &host, &below, &chains("one-intermediate"));
    Ok(())
}

fn connections(cases: &mut Cases, pki: &Pki) -> Result<(), CertificateError> {
    cases.accepts_as_well("verified-after-host-rewrite", &chains("rewritten"));
    let host = chains("rewritten-to-another");
    let shown_for = chains("name-of-another");
    cases.refuses_as_well("verified-after-host-rewrite", &host, &shown_for, &chains("rewritten"));
    if pki.http2 {
        let at = |label: &str| format!("{label}.http2.origin.example");
        let (accepted, stranger, named) = (at("accepted"), at("unknown-ca"), at("name-of-another"));
        cases.accepts("verified-over-http2", &accepted, &pki.own(&accepted)?);
        let unknown = pki.leaf(&stranger).issued_by(&pki.stranger)?.with_chain(&[]);
        cases.refuses("verified-over-http2", &stranger, &unknown, &accepted);
        cases.refuses("verified-over-http2", &named, &pki.own(&accepted)?, &accepted);
    }
    Ok(())
}
