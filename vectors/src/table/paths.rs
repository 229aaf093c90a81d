//! How certificates follow each other, and how a path is found among those that a server sends.

use meshproof_harness::certificates::der::{self, element, oid, sequence, set};
use meshproof_harness::certificates::{Certified, Duration};

use super::{accept, may_accept, may_refuse, refuse, should_accept};
use crate::pki::{Presented, shown};
use crate::vector::Group;

const NAMES: &str = "RFC 5280, section 6.1.3 (a) (4)";
const PATH: &str = "RFC 5280, section 6.1";
const BUILD: &str = "RFC 4158, section 2";
const ORDER: &str = "RFC 8446, section 4.4.2";

pub(super) const CHAINING: Group = Group {
    id: "chaining",
    title: "Issuers and subjects",
    control: "issuer-is-the-subject-above",
    vectors: &[
        accept(
            "issuer-is-the-subject-above",
            NAMES,
            "The issuer's name is the subject's name of the certificate above.",
            |p, host| p.below(host, p.ca("A CA")?),
        ),
        refuse(
            "issuer-is-another",
            NAMES,
            "A leaf whose issuer has another name than the CA is refused, even if the signature holds.",
            |p, host| {
                let mut leaf = p.leaf(host);
                leaf.issuer = Some(der::name("Another CA"));
                p.leaf_of(leaf)
            },
        ),
        refuse(
            "upper-issuer-is-another",
            NAMES,
            "The rule holds for every certificate of the path.",
            |p, host| {
                let upper = p.ca("Upper CA")?.issued_by(&p.root)?;
                let mut lower = p.ca("Lower CA")?;
                lower.issuer = Some(der::name("Another CA"));
                let lower = lower.issued_by(&upper)?;
                shown(&p.leaf(host).issued_by(&lower)?, &[&lower, &upper])
            },
        ),
        refuse(
            "issuer-is-empty",
            "RFC 5280, section 4.1.2.4",
            "The issuer's name is not empty.",
            |p, host| {
                let mut leaf = p.leaf(host);
                leaf.issuer = Some(sequence::<Vec<u8>>(&[]));
                p.leaf_of(leaf)
            },
        ),
        may_accept(
            "issuer-in-other-letters",
            "RFC 5280, section 7.1",
            "Names are compared without regard to case.",
            |p, host| {
                let mut leaf = p.leaf(host);
                leaf.issuer = Some(der::name("INTERMEDIATE"));
                p.leaf_of(leaf)
            },
        ),
        may_accept(
            "issuer-in-another-string-type",
            "RFC 5280, section 7.1",
            "Names are compared whatever the type of their strings.",
            |p, host| {
                let mut leaf = p.leaf(host);
                let printable = element(0x13, b"Intermediate");
                leaf.issuer = Some(sequence(&[set(&[sequence(&[oid(&[2, 5, 4, 3]), printable])])]));
                p.leaf_of(leaf)
            },
        ),
        refuse(
            "self-signed-leaf",
            PATH,
            "A self-signed certificate that is no anchor is refused.",
            |p, host| shown(&p.leaf(host).self_signed()?, &[]),
        ),
        refuse("unknown-root", PATH, "A path to a root that is no anchor is refused.", |p, host| {
            let made = p.anchored(host, p.ca("Unknown root")?)?;
            Ok(Presented { anchors: Vec::new(), ..made })
        }),
        refuse(
            "unknown-root-sent",
            PATH,
            "A root does not become an anchor when the server sends it.",
            |p, host| {
                let root = p.ca("Unknown root")?.self_signed()?;
                shown(&p.leaf(host).issued_by(&root)?, &[&root])
            },
        ),
        refuse(
            "root-of-the-same-name",
            PATH,
            "An anchor is a name and a key: a root with the name of an anchor and another key is refused.",
            |p, host| {
                let root = p.ca("Root of paths")?.self_signed()?;
                shown(&p.leaf(host).issued_by(&root)?, &[&root])
            },
        ),
        refuse(
            "leaf-issued-by-itself",
            PATH,
            "A certificate that names itself as its issuer is not an anchor for that.",
            |p, host| {
                let mut leaf = p.leaf(host);
                leaf.issuer = Some(leaf.subject.clone());
                shown(&leaf.issued_by(&p.middle)?, &[])
            },
        ),
        accept(
            "serial-shared-by-two-issuers",
            "RFC 5280, section 4.1.2.2",
            "Certificates of different issuers may have the same serial number.",
            |p, host| {
                let mut ca = p.ca("A CA")?;
                ca.serial = vec![9];
                let ca = ca.issued_by(&p.root)?;
                let mut leaf = p.leaf(host);
                leaf.serial = vec![9];
                shown(&leaf.issued_by(&ca)?, &[&ca])
            },
        ),
    ],
};

pub(super) const BUILDING: Group = Group {
    id: "path-building",
    title: "Finding a path",
    control: "path-of-two-cas",
    vectors: &[
        accept("path-of-two-cas", PATH, "A path may have several CAs.", |p, host| {
            p.below_two(host, p.ca("Upper CA")?, Some(p.ca("Lower CA")?))
        }),
        accept("path-of-five-cas", PATH, "A path may have many CAs.", |p, host| {
            let chain = p.tower(5)?;
            shown(&p.leaf(host).issued_by(&chain[0])?, &chain.iter().collect::<Vec<_>>())
        }),
        may_accept("path-of-ten-cas", PATH, "No rule limits the length of a path.", |p, host| {
            let chain = p.tower(10)?;
            shown(&p.leaf(host).issued_by(&chain[0])?, &chain.iter().collect::<Vec<_>>())
        }),
        may_accept("path-of-twenty-cas", PATH, "No rule limits the length of a path.", |p, host| {
            let chain = p.tower(20)?;
            shown(&p.leaf(host).issued_by(&chain[0])?, &chain.iter().collect::<Vec<_>>())
        }),
        refuse(
            "lower-ca-not-sent",
            PATH,
            "A path with a gap is no path: the issuer of the leaf is missing.",
            |p, host| {
                let chain = p.tower(2)?;
                shown(&p.leaf(host).issued_by(&chain[0])?, &[&chain[1]])
            },
        ),
        refuse(
            "upper-ca-not-sent",
            PATH,
            "A path with a gap is no path: the issuer of the lower CA is missing.",
            |p, host| {
                let chain = p.tower(2)?;
                shown(&p.leaf(host).issued_by(&chain[0])?, &[&chain[0]])
            },
        ),
        accept("root-sent", ORDER, "A server may send the root as well.", |p, host| {
            shown(&p.leaf(host).issued_by(&p.middle)?, &[&p.middle, &p.root])
        }),
        should_accept(
            "cas-in-wrong-order",
            ORDER,
            "Clients should be prepared for a chain in another order.",
            |p, host| {
                let chain = p.tower(3)?;
                shown(&p.leaf(host).issued_by(&chain[0])?, &[&chain[2], &chain[0], &chain[1]])
            },
        ),
        should_accept(
            "unrelated-certificate-sent",
            ORDER,
            "Clients should be prepared for certificates that are not on the path.",
            |p, host| {
                let other = p.ca("Unrelated root")?.self_signed()?;
                shown(&p.leaf(host).issued_by(&p.middle)?, &[&other, &p.middle])
            },
        ),
        should_accept(
            "certificate-sent-twice",
            ORDER,
            "Clients should be prepared for certificates that are not needed.",
            |p, host| shown(&p.leaf(host).issued_by(&p.middle)?, &[&p.middle, &p.middle]),
        ),
        should_accept(
            "two-cas-of-one-name",
            BUILD,
            "Of two CAs with the same name, the one with the right key is on the path.",
            |p, host| {
                let (right, wrong) = (p.ca("Twin")?.issued_by(&p.root)?, p.ca("Twin")?.issued_by(&p.root)?);
                shown(&p.leaf(host).issued_by(&right)?, &[&wrong, &right])
            },
        ),
        should_accept(
            "expired-ca-beside-its-successor",
            BUILD,
            "Of two certificates of one CA, the one that is valid is on the path.",
            |p, host| {
                let key = p.key()?;
                let ca =
                    |b: meshproof_harness::certificates::Blueprint| b.for_key(key.clone()).issued_by(&p.root);
                let old = ca(p.ca("Renewed CA")?.valid(-Duration::days(365), -Duration::minutes(5)))?;
                let new = ca(p.ca("Renewed CA")?)?;
                shown(&p.leaf(host).issued_by(&new)?, &[&old, &new])
            },
        )
        .only_full(),
        should_accept(
            "cross-signed-by-unknown-and-known",
            BUILD,
            "Of two issuers of one CA, the one that is known is on the path.",
            |p, host| {
                let unknown = p.ca("Unknown root")?.self_signed()?;
                let key = p.key()?;
                let by_unknown = p.ca("Cross-signed CA")?.for_key(key.clone()).issued_by(&unknown)?;
                let by_known = p.ca("Cross-signed CA")?.for_key(key).issued_by(&p.root)?;
                shown(&p.leaf(host).issued_by(&by_known)?, &[&by_unknown, &by_known])
            },
        )
        .only_full(),
        should_accept(
            "constrained-ca-beside-another",
            BUILD,
            "Of two certificates of one CA, the one whose constraints permit the name is on the path.",
            |p, host| {
                let key = p.key()?;
                let names = [meshproof_harness::certificates::blueprint::Name::dns("permitted.example")];
                let constraints =
                    meshproof_harness::certificates::blueprint::Extension::constraints(&names, &[]);
                let narrow =
                    p.ca("Two-fold CA")?.with(constraints).for_key(key.clone()).issued_by(&p.root)?;
                let wide = p.ca("Two-fold CA")?.for_key(key).issued_by(&p.root)?;
                shown(&p.leaf(host).issued_by(&wide)?, &[&narrow, &wide])
            },
        )
        .only_full(),
        refuse(
            "two-cas-that-issue-each-other",
            PATH,
            "Two CAs that vouch for each other lead to no anchor.",
            |p, host| {
                let [first, second] = p.loop_of_two()?;
                shown(&p.leaf(host).issued_by(&first)?, &[&first, &second])
            },
        ),
        should_accept(
            "loop-beside-the-path",
            BUILD,
            "A loop among the certificates does not hide the path.",
            |p, host| {
                let key = p.key()?;
                let by_root = p.ca("First of a loop")?.for_key(key.clone()).issued_by(&p.root)?;
                let second = p.ca("Second of a loop")?.issued_by(&by_root)?;
                let by_second = p.ca("First of a loop")?.for_key(key).issued_by(&second)?;
                shown(&p.leaf(host).issued_by(&by_root)?, &[&by_second, &second, &by_root])
            },
        )
        .only_full(),
        refuse(
            "many-cas-of-one-name",
            PATH,
            "Many CAs with the same name and keys that do not fit lead to no anchor.",
            |p, host| {
                let crowd = (0..20)
                    .map(|_| p.ca("Crowd")?.issued_by(&p.root))
                    .collect::<Result<Vec<Certified>, _>>()?;
                let right = p.ca("Crowd")?.issued_by(&p.root)?;
                shown(&p.leaf(host).issued_by(&right)?, &crowd.iter().collect::<Vec<_>>())
            },
        )
        .costly(),
        may_refuse(
            "many-cas-that-issue-each-other",
            PATH,
            "Many certificates of one name and one key lead to no anchor.",
            |p, host| {
                let key = p.key()?;
                let unknown = p.ca("Itself")?.for_key(key.clone()).self_signed()?;
                let many = (0..25_u8)
                    .map(|n| {
                        let mut one = p.ca("Itself")?.for_key(key.clone());
                        one.serial = vec![0x30, n];
                        one.issued_by(&unknown)
                    })
                    .collect::<Result<Vec<Certified>, _>>()?;
                shown(&p.leaf(host).issued_by(&unknown)?, &many.iter().collect::<Vec<_>>())
            },
        )
        .costly(),
    ],
};
