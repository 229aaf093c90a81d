//! Which certificates issue others, and how many in a row.

use meshproof_harness::certificates::blueprint::{BASIC_CONSTRAINTS as BASIC, Extension};
use meshproof_harness::certificates::der::{integer, sequence, yes};

use super::{accept, may_accept, may_refuse, refuse};
use crate::pki::shown;
use crate::vector::Group;

const SECTION: &str = "RFC 5280, section 4.2.1.9";
const PREPARE: &str = "RFC 5280, section 6.1.4 (k)";
const LENGTH: &str = "RFC 5280, section 6.1.4 (l) and (m)";

pub(super) const BASIC_CONSTRAINTS: Group = Group {
    id: "basic-constraints",
    title: "Basic constraints",
    control: "basic-constraints-present",
    vectors: &[
        accept(
            "basic-constraints-present",
            SECTION,
            "A certificate whose basic constraints say cA TRUE issues others.",
            |p, host| p.below(host, p.ca("A CA")?),
        ),
        refuse(
            "basic-constraints-absent",
            PREPARE,
            "A certificate without basic constraints issues no others.",
            |p, host| p.below(host, p.ca("No CA")?.without(BASIC)),
        ),
        refuse(
            "basic-constraints-false",
            PREPARE,
            "A certificate whose basic constraints say cA FALSE issues no others.",
            |p, host| {
                let no_ca = Extension::new(BASIC, sequence::<Vec<u8>>(&[])).critical();
                p.below(host, p.ca("No CA")?.with(no_ca))
            },
        ),
        refuse(
            "upper-basic-constraints-false",
            PREPARE,
            "The rule holds for every certificate above the leaf.",
            |p, host| {
                let no_ca = Extension::new(BASIC, sequence::<Vec<u8>>(&[])).critical();
                p.below_two(host, p.ca("No CA")?.with(no_ca), Some(p.ca("A CA")?))
            },
        ),
        refuse(
            "server-certificate-issues",
            PREPARE,
            "An ordinary server certificate issues no others.",
            |p, host| {
                let server = p.leaf("server.vectors.example").for_key(p.key()?).issued_by(&p.middle)?;
                shown(&p.leaf(host).issued_by(&server)?, &[&server, &p.middle])
            },
        ),
        refuse(
            "version-one-issues",
            PREPARE,
            "A certificate of X.509 v1 issues no others, unless it is known to be a CA's by other means.",
            |p, host| p.below(host, p.ca("Old CA")?.version_one()),
        ),
        refuse(
            "basic-constraints-malformed",
            SECTION,
            "A certificate whose basic constraints cannot be read issues no others.",
            |p, host| {
                p.below(host, p.ca("A CA")?.with(Extension::new(BASIC, vec![0x30, 0x05, 0x01]).critical()))
            },
        ),
        may_accept(
            "basic-constraints-not-critical",
            SECTION,
            "Basic constraints of a CA count even if they are not critical.",
            |p, host| {
                let constraints = Extension { critical: false, ..Extension::authority(None) };
                p.below(host, p.ca("A CA")?.with(constraints))
            },
        ),
        accept("leaf-is-no-ca", SECTION, "A leaf may say cA FALSE.", |p, host| {
            p.leaf_of(p.leaf(host).with(Extension::new(BASIC, sequence::<Vec<u8>>(&[]))))
        }),
        may_refuse(
            "leaf-is-a-ca",
            "CA/Browser Forum Baseline Requirements, section 7.1.2.7.6",
            "A server's certificate is no CA's.",
            |p, host| p.leaf_of(p.leaf(host).with(Extension::authority(None))),
        ),
        may_accept(
            "root-without-basic-constraints",
            "RFC 5280, section 6.1.1 (d)",
            "Of an anchor, only the name and the key count.",
            |p, host| p.anchored(host, p.ca("Root without basic constraints")?.without(BASIC)),
        ),
        may_refuse(
            "root-is-no-ca",
            "CA/Browser Forum Baseline Requirements, section 7.1.2.1.4",
            "A root says cA TRUE.",
            |p, host| {
                let no_ca = Extension::new(BASIC, sequence::<Vec<u8>>(&[])).critical();
                p.anchored(host, p.ca("Root that is no CA")?.with(no_ca))
            },
        ),
    ],
};

pub(super) const PATH_LENGTH: Group = Group {
    id: "path-length",
    title: "Path length",
    control: "path-length-zero-kept",
    vectors: &[
        accept(
            "path-length-zero-kept",
            LENGTH,
            "A path length of zero allows a leaf directly below.",
            |p, host| p.below(host, p.ca("Last CA")?.with(Extension::authority(Some(0)))),
        ),
        refuse(
            "path-length-zero-exceeded",
            LENGTH,
            "A path length of zero allows no CA below.",
            |p, host| {
                p.below_two(
                    host,
                    p.ca("Last CA")?.with(Extension::authority(Some(0))),
                    Some(p.ca("One too many")?),
                )
            },
        ),
        accept("path-length-one-kept", LENGTH, "A path length of one allows one CA below.", |p, host| {
            p.below_two(host, p.ca("Upper CA")?.with(Extension::authority(Some(1))), Some(p.ca("Lower CA")?))
        }),
        refuse(
            "path-length-one-exceeded",
            LENGTH,
            "A path length of one allows no second CA below.",
            |p, host| {
                let upper = p.ca("Upper CA")?.with(Extension::authority(Some(1))).issued_by(&p.root)?;
                let second = p.ca("Second CA")?.issued_by(&upper)?;
                let third = p.ca("One too many")?.issued_by(&second)?;
                shown(&p.leaf(host).issued_by(&third)?, &[&third, &second, &upper])
            },
        )
        .unlike("path-length-one-kept"),
        accept(
            "path-length-larger-below",
            LENGTH,
            "A lower CA may name a larger path length than is left: it does not count.",
            |p, host| {
                let lower = p.ca("Lower CA")?.with(Extension::authority(Some(5)));
                p.below_two(host, p.ca("Upper CA")?.with(Extension::authority(Some(1))), Some(lower))
            },
        ),
        refuse(
            "path-length-larger-below-exceeded",
            LENGTH,
            "A larger path length of a lower CA does not extend the upper one's.",
            |p, host| {
                let upper = p.ca("Upper CA")?.with(Extension::authority(Some(1))).issued_by(&p.root)?;
                let second = p.ca("Second CA")?.with(Extension::authority(Some(5))).issued_by(&upper)?;
                let third = p.ca("One too many")?.issued_by(&second)?;
                shown(&p.leaf(host).issued_by(&third)?, &[&third, &second, &upper])
            },
        )
        .unlike("path-length-larger-below"),
        accept(
            "path-length-self-issued",
            LENGTH,
            "Self-issued certificates do not count for the path length.",
            |p, host| {
                let first = p.ca("Renewed CA")?.with(Extension::authority(Some(0))).issued_by(&p.root)?;
                let renewed = p.ca("Renewed CA")?.with(Extension::authority(Some(0))).issued_by(&first)?;
                shown(&p.leaf(host).issued_by(&renewed)?, &[&renewed, &first])
            },
        )
        .only_full(),
        accept(
            "path-length-of-the-root-kept",
            LENGTH,
            "A path length of one at the root allows one CA below.",
            |p, host| {
                p.anchored(host, p.ca("Root with path length one")?.with(Extension::authority(Some(1))))
            },
        ),
        may_refuse(
            "path-length-of-the-root-exceeded",
            "RFC 5280, section 6.2",
            "A path length of zero at the root allows no CA below, if the verifier uses it.",
            |p, host| {
                p.anchored(host, p.ca("Root with path length zero")?.with(Extension::authority(Some(0))))
            },
        )
        .unlike("path-length-of-the-root-kept"),
        may_accept(
            "path-length-on-a-leaf",
            SECTION,
            "A path length on a certificate that is no CA's has no meaning.",
            |p, host| {
                let constraints = Extension::new(BASIC, sequence(&[integer(&[0])])).critical();
                p.leaf_of(p.leaf(host).with(constraints))
            },
        ),
        may_refuse("path-length-negative", SECTION, "A path length is not negative.", |p, host| {
            let constraints = Extension::new(BASIC, sequence(&[yes(), integer(&[0xff])])).critical();
            p.below(host, p.ca("A CA")?.with(constraints))
        }),
        accept("path-length-large", SECTION, "A path length may be larger than any path.", |p, host| {
            p.below(host, p.ca("A CA")?.with(Extension::authority(Some(0x7f))))
        }),
    ],
};
