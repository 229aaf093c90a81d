//! Which host a certificate is for.

use meshproof_harness::certificates::blueprint::{ALTERNATIVE_NAMES, Extension, Name};
use meshproof_harness::certificates::der::{element, sequence};

use super::{accept, may_refuse, refuse};
use crate::vector::Group;

const MATCH: &str = "RFC 9525, section 6.3";
const WHERE: &str = "RFC 9525, section 2";
const FORM: &str = "RFC 5280, section 4.2.1.6";

fn domain(host: &str) -> &str {
    host.split_once('.').map_or(host, |(_, domain)| domain)
}

pub(super) const HOST_NAMES: Group = Group {
    id: "host-names",
    title: "Host names",
    control: "name-is-the-host",
    vectors: &[
        accept(
            "name-is-the-host",
            MATCH,
            "A certificate is for the host that its alternative name is.",
            |p, host| p.leaf_of(p.leaf(host)),
        ),
        accept("name-in-capitals", MATCH, "Names are compared without regard to case.", |p, host| {
            p.leaf_of(p.leaf(&host.to_ascii_uppercase()))
        }),
        accept("name-after-two-hundred-others", FORM, "Every alternative name counts.", |p, host| {
            let others = (0..200).map(|n| Name::dns(format!("host-{n}.example")));
            p.leaf_of(p.leaf(host).names(&others.chain([Name::dns(host)]).collect::<Vec<_>>()))
        }),
        accept("name-beside-other-kinds", FORM, "Alternative names may be of several kinds.", |p, host| {
            let kinds = [
                Name::Email("a@example.com".to_owned()),
                Name::Uri("https://example.com/".to_owned()),
                Name::Ip(vec![192, 0, 2, 7]),
                Name::dns(host),
            ];
            p.leaf_of(p.leaf(host).names(&kinds))
        }),
        refuse("name-of-another", MATCH, "A certificate for another host is refused.", |p, host| {
            p.leaf_of(p.leaf(&format!("another.{}", domain(host))))
        }),
        refuse(
            "name-of-the-domain",
            MATCH,
            "A certificate for the domain is not for the hosts in it.",
            |p, host| p.leaf_of(p.leaf(domain(host))),
        ),
        refuse(
            "name-below-the-host",
            MATCH,
            "A certificate for a name below the host is not for the host.",
            |p, host| p.leaf_of(p.leaf(&format!("www.{host}"))),
        ),
        refuse("name-with-a-longer-label", MATCH, "Names are compared by whole labels.", |p, host| {
            p.leaf_of(p.leaf(&format!("not-{host}")))
        }),
        refuse("name-continued", MATCH, "Names are compared to their ends.", |p, host| {
            p.leaf_of(p.leaf(&format!("{host}.evil.example")))
        }),
        refuse(
            "name-after-a-dot",
            MATCH,
            "A name that begins with a dot is no domain of hosts.",
            |p, host| p.leaf_of(p.leaf(&format!(".{}", domain(host)))),
        ),
        refuse(
            "name-continued-after-a-zero-byte",
            "CVE-2009-2408; CVE-2026-47778 in Envoy",
            "A zero byte does not end a name.",
            |p, host| p.leaf_of(p.leaf(&format!("{host}\0.evil.example"))),
        )
        .only_full(),
        refuse("common-name-only", WHERE, "The common name is no host name.", |p, host| {
            p.leaf_of(p.leaf(host).without(ALTERNATIVE_NAMES).common_name(host))
        }),
        refuse("common-name-beside-another", WHERE, "The common name is no host name.", |p, host| {
            p.leaf_of(p.leaf(&format!("another.{}", domain(host))).common_name(host))
        }),
        refuse(
            "host-in-a-uri",
            FORM,
            "A host name is compared with DNS names only, not with URIs.",
            |p, host| p.leaf_of(p.leaf(host).names(&[Name::Uri(format!("https://{host}/"))])),
        ),
        refuse(
            "host-in-a-mail-address",
            FORM,
            "A host name is compared with DNS names only, not with e-mail addresses.",
            |p, host| p.leaf_of(p.leaf(host).names(&[Name::Email(format!("a@{host}"))])),
        ),
        accept("wildcard", MATCH, "An asterisk stands for the first label.", |p, host| {
            p.leaf_of(p.leaf(&format!("*.{}", domain(host))))
        }),
        refuse("wildcard-for-two-labels", MATCH, "An asterisk stands for one label only.", |p, host| {
            p.leaf_of(p.leaf(&format!("*.{}", domain(domain(host)))))
        })
        .unlike("wildcard"),
        refuse("wildcard-for-no-label", MATCH, "An asterisk does not stand for nothing.", |p, host| {
            p.leaf_of(p.leaf(&format!("*.{host}")))
        })
        .unlike("wildcard"),
        refuse("wildcard-alone", MATCH, "An asterisk alone is no name.", |p, _| p.leaf_of(p.leaf("*")))
            .unlike("wildcard"),
        refuse("wildcard-after-the-first-label", MATCH, "An asterisk is the first label only.", |p, host| {
            let (label, rest) = (host.split('.').next().unwrap_or_default(), domain(domain(host)));
            p.leaf_of(p.leaf(&format!("{label}.*.{rest}")))
        })
        .unlike("wildcard"),
        refuse("wildcards-twice", MATCH, "There is one asterisk only.", |p, host| {
            p.leaf_of(p.leaf(&format!("*.*.{}", domain(domain(host)))))
        })
        .unlike("wildcard"),
        may_refuse(
            "wildcard-for-part-of-a-label",
            MATCH,
            "An asterisk stands for a whole label. RFC 6125, section 6.4.3, allowed a part.",
            |p, host| p.leaf_of(p.leaf(&format!("wild*.{}", domain(host)))),
        )
        .unlike("wildcard"),
        may_refuse(
            "name-with-a-trailing-dot",
            FORM,
            "A DNS name in a certificate has no trailing dot.",
            |p, host| p.leaf_of(p.leaf(&format!("{host}."))),
        ),
        may_refuse(
            "name-with-a-space",
            FORM,
            "A DNS name has the preferred name syntax; other names of the certificate do not count.",
            |p, host| p.leaf_of(p.leaf(host).names(&[Name::dns(host), Name::dns("a b.example")])),
        ),
        may_refuse(
            "name-not-in-ascii",
            FORM,
            "A DNS name is an IA5String; other names of the certificate do not count.",
            |p, host| p.leaf_of(p.leaf(host).names(&[Name::dns(host), Name::dns("b\u{fc}cher.example")])),
        ),
        may_refuse("names-empty", FORM, "The list of alternative names is not empty.", |p, host| {
            p.leaf_of(
                p.leaf(host)
                    .with(Extension::new(ALTERNATIVE_NAMES, sequence::<Vec<u8>>(&[])))
                    .common_name(host),
            )
        }),
        may_refuse(
            "address-malformed",
            FORM,
            "An address has 4 or 16 bytes; the host name of the certificate does not count then.",
            |p, host| p.leaf_of(p.leaf(host).names(&[Name::dns(host), Name::Ip(vec![192, 0, 2])])),
        ),
        may_refuse("name-in-another-tag", FORM, "A name of an unknown kind is no DNS name.", |p, host| {
            let unknown = element(0x89, host.as_bytes());
            p.leaf_of(p.leaf(host).with(Extension::new(ALTERNATIVE_NAMES, sequence(&[unknown]))))
        }),
    ],
};
