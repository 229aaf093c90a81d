//! Extensions in general, and the identifiers of keys.

use meshproof_harness::certificates::blueprint::{
    ALTERNATIVE_NAMES, AUTHORITY_KEY, Extension, Name, SUBJECT_KEY,
};
use meshproof_harness::certificates::der::{element, integer, octets, oid, sequence};

use super::{accept, may_accept, may_refuse, refuse};
use crate::vector::Group;

const SECTION: &str = "RFC 5280, section 4.2";
const UNKNOWN_BELOW: &str = "RFC 5280, section 6.1.5 (e)";
const UNKNOWN_ABOVE: &str = "RFC 5280, section 6.1.4 (o)";
const AUTHORITY: &str = "RFC 5280, section 4.2.1.1";
const SUBJECT: &str = "RFC 5280, section 4.2.1.2";

/// An extension of a private enterprise.
const UNKNOWN: &[u64] = &[1, 3, 6, 1, 4, 1, 55555, 3];
/// `id-pe-authorityInfoAccess`.
const ACCESS: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 1];
/// `id-ce-certificatePolicies`.
const POLICIES: &[u64] = &[2, 5, 29, 32];
/// `id-ce-policyConstraints`.
const POLICY_CONSTRAINTS: &[u64] = &[2, 5, 29, 36];

fn unknown() -> Extension {
    Extension::new(UNKNOWN, octets(b"whatever"))
}

pub(super) const EXTENSIONS: Group = Group {
    id: "extensions",
    title: "Extensions",
    control: "unknown-extension",
    vectors: &[
        accept(
            "unknown-extension",
            SECTION,
            "An unknown extension that is not critical is passed over.",
            |p, host| p.below(host, p.ca("A CA")?.besides(unknown())),
        ),
        accept(
            "leaf-unknown-extension",
            SECTION,
            "An unknown extension of the leaf that is not critical is passed over.",
            |p, host| p.leaf_of(p.leaf(host).besides(unknown())),
        ),
        refuse(
            "leaf-unknown-critical-extension",
            UNKNOWN_BELOW,
            "A leaf with an unknown critical extension is refused.",
            |p, host| p.leaf_of(p.leaf(host).besides(unknown().critical())),
        ),
        refuse(
            "ca-unknown-critical-extension",
            UNKNOWN_ABOVE,
            "A CA with an unknown critical extension is refused.",
            |p, host| p.below(host, p.ca("A CA")?.besides(unknown().critical())),
        ),
        refuse(
            "upper-ca-unknown-critical-extension",
            UNKNOWN_ABOVE,
            "The rule holds for every certificate below the anchor.",
            |p, host| {
                p.below_two(host, p.ca("Upper CA")?.besides(unknown().critical()), Some(p.ca("Lower CA")?))
            },
        ),
        may_refuse(
            "root-unknown-critical-extension",
            SECTION,
            "A certificate with an unknown critical extension is not used as an anchor.",
            |p, host| p.anchored(host, p.ca("Root with an unknown extension")?.besides(unknown().critical())),
        ),
        refuse("leaf-names-twice", SECTION, "A certificate has no extension twice.", |p, host| {
            p.leaf_of(p.leaf(host).besides(Extension::names(&[Name::dns(host)])))
        })
        .only_full(),
        refuse(
            "ca-basic-constraints-twice",
            SECTION,
            "A CA's certificate has no extension twice.",
            |p, host| p.below(host, p.ca("A CA")?.besides(Extension::authority(None))),
        )
        .only_full(),
        may_refuse(
            "unknown-extension-twice",
            SECTION,
            "The rule holds for unknown extensions as well.",
            |p, host| p.leaf_of(p.leaf(host).besides(unknown()).besides(unknown())),
        ),
        accept(
            "names-critical",
            "RFC 5280, section 4.2.1.6",
            "Alternative names may be critical.",
            |p, host| p.leaf_of(p.leaf(host).with(Extension::names(&[Name::dns(host)]).critical())),
        ),
        accept(
            "subject-empty-names-critical",
            "RFC 5280, section 4.2.1.6",
            "With an empty subject, critical alternative names identify the server.",
            |p, host| {
                let mut leaf = p.leaf(host).with(Extension::names(&[Name::dns(host)]).critical());
                leaf.subject = sequence::<Vec<u8>>(&[]);
                p.leaf_of(leaf)
            },
        ),
        may_refuse(
            "subject-empty-names-not-critical",
            "RFC 5280, section 4.2.1.6",
            "With an empty subject, alternative names are critical.",
            |p, host| {
                let mut leaf = p.leaf(host);
                leaf.subject = sequence::<Vec<u8>>(&[]);
                p.leaf_of(leaf)
            },
        ),
        refuse(
            "names-malformed",
            "RFC 5280, section 4.2.1.6",
            "Alternative names that cannot be read identify no server.",
            |p, host| p.leaf_of(p.leaf(host).with(Extension::new(ALTERNATIVE_NAMES, vec![0x30, 0x7f, 0x82]))),
        ),
        may_refuse(
            "information-access-critical",
            "RFC 5280, section 4.2.2.1",
            "The access to the issuer's information is not critical.",
            |p, host| {
                let location = Name::Uri("http://ca.example/issuer.der".to_owned()).der();
                let access = sequence(&[sequence(&[oid(&[1, 3, 6, 1, 5, 5, 7, 48, 2]), location])]);
                p.leaf_of(p.leaf(host).besides(Extension::new(ACCESS, access).critical()))
            },
        ),
        may_accept(
            "policies-critical",
            "RFC 5280, section 4.2.1.4",
            "Without a policy of its own, a verifier accepts any.",
            |p, host| {
                let policies = sequence(&[sequence(&[oid(&[2, 23, 140, 1, 2, 1])])]);
                p.leaf_of(p.leaf(host).besides(Extension::new(POLICIES, policies).critical()))
            },
        ),
        may_refuse(
            "policy-required",
            "RFC 5280, section 6.1.5 (g)",
            "Where a CA requires a policy, a leaf without one is refused.",
            |p, host| {
                let at_once = sequence(&[element(0x80, &[0])]);
                p.below(
                    host,
                    p.ca("CA with a policy")?.besides(Extension::new(POLICY_CONSTRAINTS, at_once).critical()),
                )
            },
        ),
        may_refuse(
            "extensions-empty",
            "RFC 5280, section 4.1",
            "The list of extensions is not empty.",
            |p, host| {
                let empty = p.leaf(host).without(SUBJECT_KEY).without(AUTHORITY_KEY);
                let bare = empty.extensions.clone().iter().fold(empty, |leaf, e| leaf.without(e.oid));
                p.leaf_of(bare)
            },
        ),
    ],
};

pub(super) const KEY_IDENTIFIERS: Group = Group {
    id: "key-identifiers",
    title: "Key identifiers",
    control: "key-identifiers-agree",
    vectors: &[
        accept(
            "key-identifiers-agree",
            AUTHORITY,
            "The identifier of the issuer's key is that of the CA.",
            |p, host| p.below(host, p.ca("A CA")?),
        ),
        may_accept(
            "leaf-without-authority-key",
            AUTHORITY,
            "The identifier helps to find the path; the algorithm of section 6.1 does not use it.",
            |p, host| p.leaf_of(p.leaf(host).without(AUTHORITY_KEY)),
        ),
        may_accept(
            "ca-without-authority-key",
            AUTHORITY,
            "The identifier helps to find the path; the algorithm of section 6.1 does not use it.",
            |p, host| p.below(host, p.ca("A CA")?.without(AUTHORITY_KEY)),
        ),
        may_accept(
            "ca-without-subject-key",
            SUBJECT,
            "The identifier helps to find the path; the algorithm of section 6.1 does not use it.",
            |p, host| p.below(host, p.ca("A CA")?.without(SUBJECT_KEY)),
        ),
        may_accept(
            "authority-key-of-another",
            AUTHORITY,
            "An identifier of another key does not matter where the signature holds.",
            |p, host| {
                let other = Extension::new(AUTHORITY_KEY, sequence(&[element(0x80, &[7; 20])]));
                p.leaf_of(p.leaf(host).without(AUTHORITY_KEY).besides(other))
            },
        ),
        may_accept(
            "authority-serial-of-another",
            AUTHORITY,
            "A serial number of another certificate does not matter where the signature holds.",
            |p, host| {
                let name = element(0xa1, &Name::Directory(p.root.subject().to_vec()).der());
                let serial = element(0x82, &integer(&[0x55])[2..]);
                let other = Extension::new(AUTHORITY_KEY, sequence(&[name, serial]));
                p.leaf_of(p.leaf(host).without(AUTHORITY_KEY).besides(other))
            },
        ),
        may_refuse(
            "authority-key-critical",
            AUTHORITY,
            "The identifier of the issuer's key is not critical.",
            |p, host| {
                let other = Extension::new(AUTHORITY_KEY, sequence(&[element(0x80, &[7; 20])])).critical();
                p.leaf_of(p.leaf(host).without(AUTHORITY_KEY).besides(other))
            },
        ),
        may_refuse(
            "subject-key-critical",
            SUBJECT,
            "The identifier of the own key is not critical.",
            |p, host| {
                let own = Extension::new(SUBJECT_KEY, octets(&[7; 20])).critical();
                p.leaf_of(p.leaf(host).without(SUBJECT_KEY).besides(own))
            },
        ),
    ],
};
