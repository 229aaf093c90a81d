//! Which names a CA may issue for.

use meshproof_harness::certificates::blueprint::{Extension, NAME_CONSTRAINTS as CONSTRAINTS, Name};
use meshproof_harness::certificates::der::{self, sequence};
use meshproof_harness::certificates::{Blueprint, CertificateError};

use super::{accept, may_accept, may_refuse, refuse};
use crate::pki::{Pki, Presented};
use crate::vector::Group;

const SECTION: &str = "RFC 5280, section 4.2.1.10";
const CHECK: &str = "RFC 5280, section 6.1.3 (b) and (c)";
const PREPARE: &str = "RFC 5280, section 6.1.4 (g)";

fn dns(names: &[&str]) -> Vec<Name> {
    names.iter().map(|name| Name::dns(*name)).collect()
}

/// A CA that may issue for these names alone.
fn permitting(p: &Pki, names: &[Name]) -> Result<Blueprint, CertificateError> {
    Ok(p.ca("CA for some names")?.with(Extension::constraints(names, &[])))
}

/// A CA that may not issue for these names.
fn excluding(p: &Pki, names: &[Name]) -> Result<Blueprint, CertificateError> {
    Ok(p.ca("CA for all names but some")?.with(Extension::constraints(&[], names)))
}

/// A leaf with these names below a CA.
fn leaf(p: &Pki, ca: Blueprint, names: &[Name]) -> Result<Presented, CertificateError> {
    let ca = ca.issued_by(&p.root)?;
    crate::pki::shown(&p.leaf("").names(names).issued_by(&ca)?, &[&ca])
}

/// An address and a mask, as constraints have them.
fn network(address: [u8; 4], mask: [u8; 4]) -> Name {
    Name::Ip([address, mask].concat())
}

/// The domain of a host: what is after its first label.
fn domain(host: &str) -> &str {
    host.split_once('.').map_or(host, |(_, domain)| domain)
}

pub(super) const NAME_CONSTRAINTS: Group = Group {
    id: "name-constraints",
    title: "Name constraints",
    control: "permitted-domain",
    vectors: &[
        accept("permitted-domain", CHECK, "A name below a permitted domain is accepted.", |p, host| {
            p.below(host, permitting(p, &dns(&[domain(host)]))?)
        }),
        accept("permitted-host", CHECK, "A permitted name itself is accepted.", |p, host| {
            p.below(host, permitting(p, &dns(&[host]))?)
        }),
        accept("permitted-among-several", CHECK, "One of several permitted domains is enough.", |p, host| {
            p.below(host, permitting(p, &dns(&["a.example", domain(host), "b.example"]))?)
        }),
        accept(
            "permitted-without-regard-to-case",
            CHECK,
            "DNS names are compared without regard to case.",
            |p, host| p.below(host, permitting(p, &dns(&[&domain(host).to_ascii_uppercase()]))?),
        ),
        refuse(
            "permitted-is-another-domain",
            CHECK,
            "A name outside the permitted domains is refused.",
            |p, host| p.below(host, permitting(p, &dns(&["permitted.example"]))?),
        ),
        refuse(
            "permitted-is-below-the-host",
            CHECK,
            "A permitted name does not permit the names above it.",
            |p, host| p.below(host, permitting(p, &dns(&[&format!("www.{host}")]))?),
        ),
        refuse("permitted-ends-within-a-label", CHECK, "A domain is compared by whole labels.", |p, host| {
            p.below(host, permitting(p, &dns(&[&domain(host)[1..]]))?)
        }),
        refuse(
            "permitted-for-one-name-of-two",
            CHECK,
            "Every name of the leaf must be permitted.",
            |p, host| leaf(p, permitting(p, &dns(&[domain(host)]))?, &dns(&[host, "other.example"])),
        ),
        refuse("excluded-domain", CHECK, "A name below an excluded domain is refused.", |p, host| {
            p.below(host, excluding(p, &dns(&[domain(host)]))?)
        })
        .unlike("excluded-is-another-domain"),
        refuse("excluded-host", CHECK, "An excluded name itself is refused.", |p, host| {
            p.below(host, excluding(p, &dns(&[host]))?)
        })
        .unlike("excluded-is-another-domain"),
        accept(
            "excluded-is-another-domain",
            CHECK,
            "A name outside the excluded domains is accepted.",
            |p, host| p.below(host, excluding(p, &dns(&["excluded.example"]))?),
        ),
        refuse(
            "excluded-without-regard-to-case",
            CHECK,
            "DNS names are compared without regard to case.",
            |p, host| p.below(host, excluding(p, &dns(&[&domain(host).to_ascii_uppercase()]))?),
        )
        .unlike("excluded-is-another-domain"),
        refuse(
            "excluded-and-permitted",
            CHECK,
            "An excluded name is refused even if it is permitted as well.",
            |p, host| {
                let both = Extension::constraints(&dns(&[domain(host)]), &dns(&[host]));
                p.below(host, p.ca("CA for some names")?.with(both))
            },
        ),
        refuse("excluded-for-one-name-of-two", CHECK, "No name of the leaf may be excluded.", |p, host| {
            leaf(p, excluding(p, &dns(&["excluded.example"]))?, &dns(&[host, "www.excluded.example"]))
        })
        .unlike("excluded-is-another-domain"),
        refuse("excluded-is-every-name", SECTION, "The empty domain contains every name.", |p, host| {
            p.below(host, excluding(p, &dns(&[""]))?)
        })
        .unlike("excluded-is-another-domain"),
        refuse(
            "constraints-of-an-upper-ca",
            PREPARE,
            "Constraints hold for the whole path below.",
            |p, host| {
                p.below_two(host, permitting(p, &dns(&["permitted.example"]))?, Some(p.ca("Lower CA")?))
            },
        ),
        refuse(
            "constraints-narrowed-below",
            PREPARE,
            "Of two CAs, both must permit the name: the lower one does not.",
            |p, host| {
                let upper = permitting(p, &dns(&[domain(host)]))?;
                p.below_two(host, upper, Some(permitting(p, &dns(&["permitted.example"]))?))
            },
        ),
        refuse(
            "constraints-widened-below",
            PREPARE,
            "Of two CAs, both must permit the name: the upper one does not.",
            |p, host| {
                let upper = permitting(p, &dns(&["permitted.example"]))?;
                p.below_two(host, upper, Some(permitting(p, &dns(&[domain(host)]))?))
            },
        ),
        refuse(
            "constraints-not-critical",
            PREPARE,
            "Constraints count even if they are not critical.",
            |p, host| {
                let constraints = Extension::constraints(&dns(&["permitted.example"]), &[]);
                p.below(host, p.ca("CA for some names")?.with(Extension { critical: false, ..constraints }))
            },
        ),
        accept(
            "permitted-address-only",
            CHECK,
            "Constraints for addresses do not concern DNS names.",
            |p, host| p.below(host, permitting(p, &[network([192, 0, 2, 0], [255, 255, 255, 0])])?),
        ),
        accept("permitted-address", CHECK, "An address in a permitted network is accepted.", |p, host| {
            let ca = permitting(p, &[network([192, 0, 2, 0], [255, 255, 255, 0])])?;
            leaf(p, ca, &[Name::dns(host), Name::Ip(vec![192, 0, 2, 7])])
        })
        .only_full(),
        refuse(
            "permitted-is-another-network",
            CHECK,
            "An address outside the permitted networks is refused.",
            |p, host| {
                let ca = permitting(p, &[network([192, 0, 2, 0], [255, 255, 255, 0])])?;
                leaf(p, ca, &[Name::dns(host), Name::Ip(vec![198, 51, 100, 7])])
            },
        )
        .unlike("permitted-address-only"),
        refuse("excluded-network", CHECK, "An address in an excluded network is refused.", |p, host| {
            let ca = excluding(p, &[network([192, 0, 2, 0], [255, 255, 255, 0])])?;
            leaf(p, ca, &[Name::dns(host), Name::Ip(vec![192, 0, 2, 7])])
        })
        .unlike("excluded-is-another-domain"),
        accept(
            "wildcard-below-permitted",
            CHECK,
            "A wildcard whose names are all permitted is accepted.",
            |p, host| {
                leaf(p, permitting(p, &dns(&[domain(host)]))?, &[Name::dns(format!("*.{}", domain(host)))])
            },
        ),
        refuse(
            "wildcard-beyond-permitted",
            "CVE-2025-61727; RFC 5280, section 6.1.3 (b)",
            "A wildcard that stands for names outside the permitted domain is refused.",
            |p, host| leaf(p, permitting(p, &dns(&[host]))?, &[Name::dns(format!("*.{}", domain(host)))]),
        )
        .unlike("wildcard-below-permitted")
        .only_full(),
        refuse(
            "wildcard-with-excluded",
            "CVE-2025-61727; RFC 5280, section 6.1.3 (c)",
            "A wildcard that stands for an excluded name among others is refused.",
            |p, host| leaf(p, excluding(p, &dns(&[host]))?, &[Name::dns(format!("*.{}", domain(host)))]),
        )
        .unlike("wildcard-below-permitted")
        .only_full(),
        may_refuse(
            "constraints-on-a-leaf",
            SECTION,
            "Only certificates of CAs have constraints.",
            |p, host| p.leaf_of(p.leaf(host).with(Extension::constraints(&dns(&[domain(host)]), &[]))),
        ),
        may_refuse(
            "constraints-of-the-root",
            "RFC 5280, section 6.2",
            "Constraints of the anchor hold, if the verifier uses them.",
            |p, host| {
                let constraints = Extension::constraints(&dns(&["permitted.example"]), &[]);
                p.anchored(host, p.ca("Root for some names")?.with(constraints))
            },
        ),
        may_refuse(
            "constraint-with-a-leading-dot",
            SECTION,
            "A DNS name in a constraint has no leading dot.",
            |p, host| p.below(host, permitting(p, &dns(&[&format!(".{}", domain(host))]))?),
        ),
        may_accept(
            "common-name-outside-permitted",
            SECTION,
            "The common name is no DNS name that constraints would concern.",
            |p, host| {
                let ca = permitting(p, &dns(&[domain(host)]))?.issued_by(&p.root)?;
                crate::pki::shown(&p.leaf(host).common_name("other.example").issued_by(&ca)?, &[&ca])
            },
        ),
        may_refuse(
            "excluded-mail-domain",
            SECTION,
            "An e-mail address of an excluded domain is refused.",
            |p, host| {
                let ca = excluding(p, &[Name::Email("excluded.example".to_owned())])?;
                leaf(p, ca, &[Name::dns(host), Name::Email("a@excluded.example".to_owned())])
            },
        ),
        may_refuse("excluded-uri-domain", SECTION, "A URI of an excluded host is refused.", |p, host| {
            let ca = excluding(p, &[Name::Uri("excluded.example".to_owned())])?;
            leaf(p, ca, &[Name::dns(host), Name::Uri("https://excluded.example/a".to_owned())])
        }),
        may_refuse(
            "permitted-directory-is-another",
            SECTION,
            "A subject outside the permitted directory names is refused.",
            |p, host| p.below(host, permitting(p, &[Name::Directory(der::name("another subject"))])?),
        ),
        may_refuse(
            "excluded-directory",
            SECTION,
            "A subject within an excluded directory name is refused.",
            |p, host| p.below(host, excluding(p, &[Name::Directory(der::name("a server"))])?),
        ),
        may_refuse("constraints-empty", SECTION, "Constraints name at least one list.", |p, host| {
            let empty = Extension::new(CONSTRAINTS, sequence::<Vec<u8>>(&[])).critical();
            p.below(host, p.ca("CA for some names")?.with(empty))
        }),
        may_refuse(
            "constraint-address-malformed",
            SECTION,
            "A constraint for addresses has an address and a mask.",
            |p, host| {
                let ca = permitting(p, &[Name::Ip(vec![192, 0, 2])])?;
                leaf(p, ca, &[Name::dns(host), Name::Ip(vec![192, 0, 2, 7])])
            },
        ),
    ],
};
