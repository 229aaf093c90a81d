//! The fields of every certificate: validity, version, serial number.

use meshproof_harness::certificates::Duration;
use meshproof_harness::certificates::der::{element, sequence};

use super::{accept, may_refuse, refuse};
use crate::vector::Group;

const SECTION: &str = "RFC 5280, section 4.1.2.5";
const DATES: &str = "RFC 5280, section 6.1.3 (a) (2)";
const SERIAL: &str = "RFC 5280, section 4.1.2.2";
const VERSION: &str = "RFC 5280, section 4.1.2.1";

const YEAR: Duration = Duration::days(365);
const MINUTES: Duration = Duration::minutes(5);

fn validity(from: (u8, &str), until: (u8, &str)) -> Option<Vec<u8>> {
    Some(sequence(&[element(from.0, from.1.as_bytes()), element(until.0, until.1.as_bytes())]))
}

const UTC: u8 = 0x17;
const GENERAL: u8 = 0x18;

pub(super) const VALIDITY: Group = Group {
    id: "validity",
    title: "Validity",
    control: "valid-now",
    vectors: &[
        accept("valid-now", DATES, "A path is accepted while all its certificates are valid.", |p, host| {
            let ca = p.ca("A CA")?.valid(-MINUTES, MINUTES).issued_by(&p.root)?;
            crate::pki::shown(&p.leaf(host).valid(-MINUTES, MINUTES).issued_by(&ca)?, &[&ca])
        }),
        refuse("leaf-expired", DATES, "A leaf that expired minutes ago is refused.", |p, host| {
            p.leaf_of(p.leaf(host).valid(-YEAR, -MINUTES))
        }),
        refuse("leaf-early", DATES, "A leaf that becomes valid in minutes is refused.", |p, host| {
            p.leaf_of(p.leaf(host).valid(MINUTES, YEAR))
        }),
        refuse("ca-expired", DATES, "A CA whose certificate expired minutes ago is refused.", |p, host| {
            p.below(host, p.ca("Old CA")?.valid(-YEAR, -MINUTES))
        }),
        refuse(
            "ca-early",
            DATES,
            "A CA whose certificate becomes valid in minutes is refused.",
            |p, host| p.below(host, p.ca("New CA")?.valid(MINUTES, YEAR)),
        ),
        refuse(
            "upper-ca-expired",
            DATES,
            "The rule holds for every certificate below the anchor.",
            |p, host| p.below_two(host, p.ca("Old CA")?.valid(-YEAR, -MINUTES), Some(p.ca("Lower CA")?)),
        ),
        refuse(
            "validity-reversed",
            DATES,
            "A certificate whose validity ends before it begins is never valid.",
            |p, host| p.leaf_of(p.leaf(host).valid(YEAR, -YEAR)),
        ),
        accept("leaf-outlives-its-ca", DATES, "A leaf may be valid for longer than its CA.", |p, host| {
            let ca = p.ca("A CA")?.valid(-YEAR, MINUTES).issued_by(&p.root)?;
            crate::pki::shown(&p.leaf(host).valid(-YEAR, YEAR).issued_by(&ca)?, &[&ca])
        }),
        accept(
            "valid-beyond-2050",
            SECTION,
            "From 2050 on, times are of the type GeneralizedTime.",
            |p, host| {
                let mut leaf = p.leaf(host);
                leaf.raw_validity = validity((UTC, "200101000000Z"), (GENERAL, "20500101000000Z"));
                p.leaf_of(leaf)
            },
        ),
        accept(
            "valid-for-ever",
            "RFC 5280, section 4.1.2.5",
            "99991231235959Z stands for no end.",
            |p, host| {
                let mut leaf = p.leaf(host);
                leaf.raw_validity = validity((UTC, "200101000000Z"), (GENERAL, "99991231235959Z"));
                p.leaf_of(leaf)
            },
        ),
        may_refuse(
            "generalized-time-before-2050",
            SECTION,
            "Until 2049, times are of the type UTCTime.",
            |p, host| {
                let mut leaf = p.leaf(host);
                leaf.raw_validity = validity((UTC, "200101000000Z"), (GENERAL, "20400101000000Z"));
                p.leaf_of(leaf)
            },
        ),
        may_refuse(
            "time-with-fractions",
            "RFC 5280, section 4.1.2.5.2",
            "Times have no fractions of seconds.",
            |p, host| {
                let mut leaf = p.leaf(host);
                leaf.raw_validity = validity((UTC, "200101000000Z"), (GENERAL, "20500101000000.5Z"));
                p.leaf_of(leaf)
            },
        ),
        may_refuse(
            "time-without-seconds",
            "RFC 5280, section 4.1.2.5.1",
            "Times have seconds.",
            |p, host| {
                let mut leaf = p.leaf(host);
                leaf.raw_validity = validity((UTC, "2001010000Z"), (GENERAL, "20500101000000Z"));
                p.leaf_of(leaf)
            },
        ),
        may_refuse(
            "time-with-a-zone",
            "RFC 5280, section 4.1.2.5.1",
            "Times are in Greenwich Mean Time.",
            |p, host| {
                let mut leaf = p.leaf(host);
                leaf.raw_validity = validity((UTC, "200101000000+0100"), (GENERAL, "20500101000000Z"));
                p.leaf_of(leaf)
            },
        ),
        may_refuse(
            "root-expired",
            "CA/Browser Forum Baseline Requirements, section 7.1.2.1",
            "A root is used while it is valid. RFC 5280, section 6.1.1 (d), does not ask for it.",
            |p, host| p.anchored(host, p.ca("Old root")?.valid(-YEAR, -MINUTES)),
        ),
    ],
};

pub(super) const VERSION_AND_SERIAL: Group = Group {
    id: "version-and-serial-number",
    title: "Version and serial number",
    control: "serial-of-twenty-bytes",
    vectors: &[
        accept("serial-of-twenty-bytes", SERIAL, "A serial number has up to 20 bytes.", |p, host| {
            let mut leaf = p.leaf(host);
            leaf.serial = vec![0x7f; 20];
            p.leaf_of(leaf)
        }),
        accept("serial-of-one-byte", SERIAL, "A serial number may be small.", |p, host| {
            let mut leaf = p.leaf(host);
            leaf.serial = vec![1];
            p.leaf_of(leaf)
        }),
        may_refuse("serial-zero", SERIAL, "A serial number is positive.", |p, host| {
            let mut leaf = p.leaf(host);
            leaf.serial = vec![0];
            p.leaf_of(leaf)
        }),
        may_refuse("serial-negative", SERIAL, "A serial number is positive.", |p, host| {
            let mut leaf = p.leaf(host);
            leaf.serial = vec![0x80];
            p.leaf_of(leaf)
        }),
        may_refuse("serial-of-21-bytes", SERIAL, "A serial number has no more than 20 bytes.", |p, host| {
            let mut leaf = p.leaf(host);
            leaf.serial = vec![0x7f; 21];
            p.leaf_of(leaf)
        }),
        may_refuse(
            "serial-with-leading-zeros",
            "ITU-T X.690, section 8.3.2",
            "An integer has as few bytes as possible.",
            |p, host| {
                let mut leaf = p.leaf(host);
                leaf.serial = vec![0, 0, 1];
                p.leaf_of(leaf)
            },
        ),
        may_refuse(
            "version-one-with-extensions",
            VERSION,
            "A certificate with extensions is of version 3.",
            |p, host| {
                let mut leaf = p.leaf(host).version_one();
                leaf.extensions_in_version_one = true;
                p.leaf_of(leaf)
            },
        ),
        may_refuse("version-two", VERSION, "A certificate with extensions is of version 3.", |p, host| {
            let mut leaf = p.leaf(host);
            leaf.version = 1;
            p.leaf_of(leaf)
        }),
        may_refuse("version-four", VERSION, "There is no version after 3.", |p, host| {
            let mut leaf = p.leaf(host);
            leaf.version = 3;
            p.leaf_of(leaf)
        }),
    ],
};
