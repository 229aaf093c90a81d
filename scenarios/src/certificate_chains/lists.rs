//! Revocation lists (RFC 5280, section 6.3). Envoy needs a list of every CA on the path once there is one list at all.

use meshproof_harness::certificates::{CertificateError, Duration};
use meshproof_harness::secret::Secret;

use super::listed::{Listed, REVOKED, at};
use super::pki::Pki;
use crate::presented::Cases;

pub(super) fn add(cases: &mut Cases, pki: &Pki) -> Result<(), CertificateError> {
    let (listed, [first, second, _]) = (&pki.listed, &pki.roots);
    let direct = at("not-listed");
    cases.accepts("revoked-leaf-refused", &direct, &pki.leaf(&direct).issued_by(first)?.with_chain(&[]));
    cases.refuses("revoked-leaf-refused", &at("revoked"), &listed.revoked.with_chain(&[]), &direct);
    let below = at("not-listed-below");
    let leaf = pki.leaf(&below).issued_by(&listed.intermediate)?;
    cases.accepts("revoked-leaf-refused", &below, &leaf.with_chain(&[&listed.intermediate]));
    let revoked = listed.revoked_below.with_chain(&[&listed.intermediate]);
    cases.refuses("revoked-leaf-refused", &at("revoked-below"), &revoked, &below);

    let host = at("intermediate-revoked");
    let leaf = pki.leaf(&host).issued_by(&listed.revoked_intermediate)?;
    let leaf = leaf.with_chain(&[&listed.revoked_intermediate]);
    cases.refuses("revoked-intermediate-refused", &host, &leaf, &below);

    // The serial number that the first root's list names, from another CA.
    let host = at("serial-of-another-ca");
    let mut same = pki.leaf(&host);
    same.serial = REVOKED.to_vec();
    cases.accepts("list-of-another-ca", &host, &same.issued_by(second)?.with_chain(&[]));

    let in_separate = |label: &str| format!("{label}.separate-list.origin.example");
    let accepted = in_separate("not-listed");
    cases.accepts(
        "list-of-separate-ca-secret",
        &accepted,
        &pki.leaf(&accepted).issued_by(first)?.with_chain(&[]),
    );
    let refused = in_separate("revoked");
    let mut same = pki.leaf(&refused);
    same.serial = REVOKED.to_vec();
    let same = same.issued_by(first)?.with_chain(&[]);
    cases.refuses("list-of-separate-ca-secret", &refused, &same, &accepted);

    let host = "not-listed.stale-list.origin.example";
    cases.records("outdated-list", host, &pki.leaf(host).issued_by(first)?.with_chain(&[]));
    Ok(())
}

pub(super) fn secrets(pki: &Pki, namespace: &str) -> Result<Vec<Secret>, CertificateError> {
    let Listed { intermediate, revoked_intermediate, revoked, revoked_below } = &pki.listed;
    let [first, second, _] = &pki.roots;
    let named = |name: &str| Secret::new(namespace, name);
    let with_client = |name: &str| match &pki.client {
        Some(client) => named(name).key_pair(client),
        None => named(name),
    };
    let of_first = first.revocation_list(&[revoked, revoked_intermediate])?;
    // The list that decides is never the first one.
    let lists = [
        second.revocation_list(&[])?,
        of_first.clone(),
        revoked_intermediate.revocation_list(&[])?,
        intermediate.revocation_list(&[revoked_below])?,
    ];
    let outdated = first.revocation_list_until(&[], -Duration::days(1))?;
    Ok(vec![
        with_client("listed").ca_bundle([first, second]).revocation_list(&lists.concat()),
        with_client("separate-list").ca_bundle([second]),
        named("separate-list-cacert").ca_bundle([first]).revocation_list(&of_first),
        with_client("stale-list").ca_bundle([first]).revocation_list(&outdated),
    ])
}
