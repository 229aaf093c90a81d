//! What the key of a certificate may be used for.

use meshproof_harness::certificates::blueprint::{
    CLIENT_AUTH, EXTENDED_KEY_USAGE as PURPOSES, Extension, KEY_USAGE as USAGE, SERVER_AUTH, usage,
};
use meshproof_harness::certificates::der::sequence;

use super::{accept, may_accept, may_refuse, refuse};
use crate::vector::Group;

const SECTION: &str = "RFC 5280, section 4.2.1.3";
const PREPARE: &str = "RFC 5280, section 6.1.4 (n)";
const TLS: &str = "RFC 8446, section 4.4.2.2";
const PURPOSE: &str = "RFC 5280, section 4.2.1.12";
const BR: &str = "CA/Browser Forum Baseline Requirements, section 7.1.2";

/// `anyExtendedKeyUsage`.
const ANY: &[u64] = &[2, 5, 29, 37, 0];
/// `id-kp-codeSigning`.
const CODE: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 3];
/// A purpose of a private enterprise.
const UNKNOWN: &[u64] = &[1, 3, 6, 1, 4, 1, 55555, 1];

pub(super) const KEY_USAGE: Group = Group {
    id: "key-usage",
    title: "Key usage",
    control: "key-usage-of-a-ca",
    vectors: &[
        accept("key-usage-of-a-ca", SECTION, "A key that may sign certificates signs them.", |p, host| {
            p.below(host, p.ca("A CA")?.with(Extension::key_usage(&[usage::CERTIFICATES])))
        }),
        refuse(
            "key-usage-without-certificates",
            PREPARE,
            "With a key usage, a CA needs keyCertSign.",
            |p, host| {
                p.below(host, p.ca("A CA")?.with(Extension::key_usage(&[usage::SIGNATURE, usage::LISTS])))
            },
        ),
        refuse(
            "upper-key-usage-without-certificates",
            PREPARE,
            "The rule holds for every certificate above the leaf.",
            |p, host| {
                let upper = p.ca("Upper CA")?.with(Extension::key_usage(&[usage::SIGNATURE]));
                p.below_two(host, upper, Some(p.ca("Lower CA")?))
            },
        ),
        refuse(
            "key-usage-not-critical-without-certificates",
            PREPARE,
            "The key usage counts even if it is not critical.",
            |p, host| {
                let usage = Extension { critical: false, ..Extension::key_usage(&[usage::SIGNATURE]) };
                p.below(host, p.ca("A CA")?.with(usage))
            },
        ),
        refuse("key-usage-empty", SECTION, "A key usage without any bit allows nothing.", |p, host| {
            p.below(host, p.ca("A CA")?.with(Extension::key_usage(&[])))
        }),
        accept(
            "key-usage-absent-at-a-ca",
            PREPARE,
            "Without a key usage, a CA's key may sign certificates.",
            |p, host| p.below(host, p.ca("A CA")?.without(USAGE)),
        ),
        refuse(
            "key-usage-malformed",
            SECTION,
            "A certificate of a CA whose key usage cannot be read is refused.",
            |p, host| {
                p.below(host, p.ca("A CA")?.with(Extension::new(USAGE, vec![0x04, 0x02, 0x07]).critical()))
            },
        ),
        accept(
            "leaf-key-usage-absent",
            SECTION,
            "Without a key usage, a leaf's key may sign handshakes.",
            |p, host| p.leaf_of(p.leaf(host).without(USAGE)),
        ),
        accept("leaf-key-usage-not-critical", SECTION, "A key usage need not be critical.", |p, host| {
            p.leaf_of(
                p.leaf(host).with(Extension { critical: false, ..Extension::key_usage(&[usage::SIGNATURE]) }),
            )
        }),
        may_refuse(
            "leaf-key-usage-encipherment-only",
            TLS,
            "With a key usage, a server needs digitalSignature.",
            |p, host| p.leaf_of(p.leaf(host).with(Extension::key_usage(&[usage::ENCIPHERMENT]))),
        ),
        may_refuse(
            "leaf-key-usage-certificates-only",
            TLS,
            "A key that may sign certificates only signs no handshake.",
            |p, host| p.leaf_of(p.leaf(host).with(Extension::key_usage(&[usage::CERTIFICATES]))),
        ),
        may_refuse("root-key-usage-without-certificates", BR, "A root may sign certificates.", |p, host| {
            p.anchored(
                host,
                p.ca("Root without keyCertSign")?.with(Extension::key_usage(&[usage::SIGNATURE])),
            )
        }),
    ],
};

pub(super) const EXTENDED_KEY_USAGE: Group = Group {
    id: "extended-key-usage",
    title: "Extended key usage",
    control: "purpose-server",
    vectors: &[
        accept(
            "purpose-server",
            PURPOSE,
            "A certificate for servers is accepted from a server.",
            |p, host| p.leaf_of(p.leaf(host).with(Extension::purposes(&[SERVER_AUTH]))),
        ),
        accept(
            "purpose-server-among-others",
            PURPOSE,
            "The purpose may be the last of several.",
            |p, host| p.leaf_of(p.leaf(host).with(Extension::purposes(&[UNKNOWN, CLIENT_AUTH, SERVER_AUTH]))),
        ),
        accept("purpose-critical", PURPOSE, "The purposes may be critical.", |p, host| {
            p.leaf_of(p.leaf(host).with(Extension::purposes(&[SERVER_AUTH]).critical()))
        }),
        accept(
            "purpose-absent",
            PURPOSE,
            "Without purposes, a certificate is for every purpose.",
            |p, host| p.leaf_of(p.leaf(host).without(PURPOSES)),
        ),
        refuse("purpose-client", PURPOSE, "A certificate for clients is no server's.", |p, host| {
            p.leaf_of(p.leaf(host).with(Extension::purposes(&[CLIENT_AUTH])))
        }),
        refuse("purpose-code", PURPOSE, "A certificate for signing code is no server's.", |p, host| {
            p.leaf_of(p.leaf(host).with(Extension::purposes(&[CODE])))
        }),
        refuse(
            "purpose-unknown",
            PURPOSE,
            "A certificate for a private purpose is no server's.",
            |p, host| p.leaf_of(p.leaf(host).with(Extension::purposes(&[UNKNOWN]))),
        ),
        may_refuse(
            "purpose-any",
            BR,
            "A server's certificate does not name anyExtendedKeyUsage.",
            |p, host| p.leaf_of(p.leaf(host).with(Extension::purposes(&[ANY]))),
        ),
        may_refuse("purposes-empty", PURPOSE, "The list of purposes is not empty.", |p, host| {
            p.leaf_of(p.leaf(host).with(Extension::new(PURPOSES, sequence::<Vec<u8>>(&[]))))
        }),
        accept("purpose-of-a-ca-server", PURPOSE, "A CA may be limited to servers.", |p, host| {
            p.below(host, p.ca("CA for servers")?.with(Extension::purposes(&[SERVER_AUTH])))
        }),
        may_refuse(
            "purpose-of-a-ca-client",
            BR,
            "A CA that is limited to clients issues no server's certificate.",
            |p, host| p.below(host, p.ca("CA for clients")?.with(Extension::purposes(&[CLIENT_AUTH]))),
        )
        .unlike("purpose-of-a-ca-server"),
        may_refuse(
            "purpose-of-a-ca-code",
            BR,
            "A CA that is limited to code issues no server's certificate.",
            |p, host| p.below(host, p.ca("CA for code")?.with(Extension::purposes(&[CODE]))),
        )
        .unlike("purpose-of-a-ca-server"),
        may_accept(
            "purpose-of-a-ca-any",
            PURPOSE,
            "A CA for any purpose issues servers' certificates.",
            |p, host| p.below(host, p.ca("CA for anything")?.with(Extension::purposes(&[ANY]))),
        ),
        may_refuse(
            "purpose-of-the-root-client",
            BR,
            "A root that is limited to clients vouches for no server.",
            |p, host| p.anchored(host, p.ca("Root for clients")?.with(Extension::purposes(&[CLIENT_AUTH]))),
        ),
    ],
};
