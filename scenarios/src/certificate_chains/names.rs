//! Names: which host a certificate is for (RFC 9525, section 6.3; RFC 5280, section 4.2.1.6).

use meshproof_harness::certificates::blueprint::{ALTERNATIVE_NAMES, Name};
use meshproof_harness::certificates::{CertificateError, Issued};

use super::pki::{Pki, chains};
use crate::presented::Cases;

/// The URI and the address that the DestinationRule for `identity.example` asks for.
pub(super) const URI: &str = "spiffe://partner.example/ns/payments/sa/api";
/// See [`URI`].
pub(super) const ADDRESS: [u8; 4] = [192, 0, 2, 7];

pub(super) fn add(cases: &mut Cases, pki: &Pki) -> Result<(), CertificateError> {
    let own = chains("first-root");
    let with = |names: &[Name]| named(pki, names);
    let dns = |name: &str| with(&[Name::dns(name)]);

    let (second, last) = (chains("second-name"), chains("last-name"));
    let others = ["a.example", "b.example", "c.example"].map(Name::dns);
    let [a, b, c] = others.clone();
    cases.accepts("every-name-counts", &second, &with(&[a.clone(), Name::dns(&*second), b.clone()])?);
    cases.accepts("every-name-counts", &last, &with(&[a, b, c, Name::dns(&*last)])?);
    let host = chains("none-of-several-names");
    cases.refuses("similar-name-refused", &host, &with(&others)?, &second);

    let wildcard = chains("below-a-wildcard");
    cases.accepts("wildcard-name", &wildcard, &dns("*.chains.origin.example")?);
    for (label, name) in [
        ("wildcard-above", "*.origin.example"),
        ("wildcard-far-above", "*.example"),
        ("wildcard-beside", "*.http2.origin.example"),
        ("wildcard-below", "*.wildcard-below.chains.origin.example"),
        ("wildcard-within", "wildcard-within.*.origin.example"),
    ] {
        cases.refuses("wildcard-covers-one-label", &chains(label), &dns(name)?, &wildcard);
    }
    cases.records("partial-wildcard", &chains("partial"), &dns("par*.chains.origin.example")?);

    for (label, name) in [
        ("name-of-another", "another.chains.origin.example"),
        ("ending", "chains.origin.example"),
        ("ending-in-letters", "letters.chains.origin.example"),
        ("beginning", "beginning.chains.origin.example.org"),
        ("shorter", "shorter.chains"),
        ("longer", "not-longer.chains.origin.example"),
        ("below", "www.below.chains.origin.example"),
    ] {
        cases.refuses("similar-name-refused", &chains(label), &dns(name)?, &own);
    }

    let capitals = chains("capitals");
    cases.accepts("case-of-names-ignored", &capitals, &dns("CAPITALS.Chains.Origin.Example")?);
    cases.presents(&chains("loud"), &dns(&chains("loud"))?);
    cases.accepts_as_well("case-of-names-ignored", "LOUD.chains.origin.EXAMPLE");
    cases.presents(&chains("loud-impostor"), &dns(&chains("another"))?);
    let loud = "LOUD-impostor.chains.origin.EXAMPLE";
    cases.refuses_as_well("upper-case-host-verified", loud, loud, "LOUD.chains.origin.EXAMPLE");

    let host = chains("common-name-alone");
    let bare = pki.leaf(&host).without(ALTERNATIVE_NAMES).common_name(&host);
    let bare = bare.issued_by(&pki.roots[0])?.with_chain(&[]);
    cases.refuses("common-name-does-not-count", &host, &bare, &own);
    let host = chains("common-name-beside-another");
    let beside = pki.leaf("another.example").common_name(&host).issued_by(&pki.roots[0])?.with_chain(&[]);
    cases.refuses("common-name-does-not-count", &host, &beside, &own);

    // Whatever the kind of its alternative names: where it has any, the common name does not count (RFC 9525, section 2).
    let others = [
        ("common-name-beside-a-uri", Name::Uri(URI.to_owned())),
        ("common-name-beside-an-address", Name::Ip(ADDRESS.to_vec())),
        ("common-name-beside-an-email", Name::Email("api@example.com".to_owned())),
    ];
    for (label, other) in others {
        let host = chains(label);
        let leaf = pki.leaf("").names(&[other]).common_name(&host);
        let leaf = leaf.issued_by(&pki.roots[0])?.with_chain(&[]);
        cases.refuses("common-name-does-not-count", &host, &leaf, &own);
    }

    let host = chains("beside-other-kinds");
    let uri = Name::Uri(URI.to_owned());
    let kinds = [uri, Name::Ip(ADDRESS.to_vec()), Name::dns(&*host)];
    cases.accepts("names-of-other-kinds", &host, &with(&kinds)?);
    let host = chains("in-a-uri");
    cases.refuses("names-of-other-kinds", &host, &with(&[Name::Uri(format!("https://{host}"))])?, &own);
    let host = chains("in-an-address");
    cases.refuses("names-of-other-kinds", &host, &with(&[Name::Email(format!("api@{host}"))])?, &own);

    Ok(())
}

/// A certificate of the first root with these names.
pub(super) fn named(pki: &Pki, names: &[Name]) -> Result<Issued, CertificateError> {
    Ok(pki.leaf("").names(names).issued_by(&pki.roots[0])?.with_chain(&[]))
}
