//! Saboteurs that compare the names in a server's certificate wrongly.

use std::sync::Arc;

use rustls::{CertificateError, Error};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use super::verification::compared_by;
use crate::hooks::{ProxyHooks, RequestFacts};
use crate::pool::UpstreamDestination;
use crate::tls::verify::{RequiredNames, TrustedChains, UpstreamVerifier};
use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::placement::Placement;
use crate::variants::verifier::Presented;

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "wide-wildcard",
        "Lets the asterisk of a wildcard certificate stand for any number of labels.",
        VariantBehaviour::Verifier(|_, honest| {
            compared_by(honest, |honest, server| {
                or_by(honest, server, |host, name| {
                    name.strip_prefix('*').is_some_and(|rest| rest.len() > 1 && host.ends_with(rest))
                })
            })
        }),
    ),
    Definition::new(
        "suffix-names",
        "Accepts a certificate whose name ends as the host does, or the host as the name.",
        VariantBehaviour::Verifier(|_, honest| {
            compared_by(honest, |honest, server| {
                or_by(honest, server, |host, name| host.ends_with(name) || name.ends_with(host))
            })
        }),
    ),
    Definition::new(
        "prefix-names",
        "Accepts a certificate whose name begins as the host does, or the host as the name.",
        VariantBehaviour::Verifier(|_, honest| {
            compared_by(honest, |honest, server| {
                or_by(honest, server, |host, name| host.starts_with(name) || name.starts_with(host))
            })
        }),
    ),
    Definition::new(
        "common-name-fallback",
        "Accepts a certificate that has the host only as its common name.",
        VariantBehaviour::Verifier(|_, honest| {
            compared_by(honest, |honest, server| {
                honest.verify_names(server.end_entity).or_else(|error| {
                    let common_name = common_name(server.end_entity).unwrap_or_default();
                    if required(honest).contains(&common_name) { Ok(()) } else { Err(error) }
                })
            })
        }),
    ),
    Definition::new(
        "common-name-without-dns-names",
        "Accepts a certificate that has the host as its common name where none of its alternative names is a DNS name.",
        VariantBehaviour::Verifier(|_, honest| {
            compared_by(honest, |honest, server| {
                honest.verify_names(server.end_entity).or_else(|error| {
                    let common_name = common_name(server.end_entity).unwrap_or_default();
                    let fits = !has_dns_name(server.end_entity) && required(honest).contains(&common_name);
                    if fits && has_names(server.end_entity) { Ok(()) } else { Err(error) }
                })
            })
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "first-name-only",
        "Compares only the first name of a certificate, letter by letter.",
        VariantBehaviour::Verifier(|_, honest| {
            compared_by(honest, |honest, server| {
                if unchecked(honest) {
                    return Ok(());
                }
                let first = texts(server.end_entity).into_iter().next().unwrap_or_default();
                if required(honest).contains(&first) { Ok(()) } else { Err(not_valid()) }
            })
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "names-anywhere",
        "Accepts a certificate that has the host anywhere in a name of any kind.",
        VariantBehaviour::Verifier(|_, honest| {
            compared_by(honest, |honest, server| or_by(honest, server, |host, name| name.contains(host)))
        }),
    ),
    Definition::new(
        "name-of-any-certificate",
        "Accepts a chain in which any certificate has the name of the host.",
        VariantBehaviour::Verifier(|_, honest| {
            compared_by(honest, |honest, server| {
                honest.verify_names(server.end_entity).or_else(|error| {
                    let named = server.intermediates.iter().any(|c| honest.verify_names(c).is_ok());
                    if named { Ok(()) } else { Err(error) }
                })
            })
        }),
    ),
    Definition::new(
        "similar-mesh-identities",
        "Accepts in mesh mutual TLS an identity that begins as the configured one does, or is the beginning of it.",
        VariantBehaviour::Verifier(|_, honest| {
            compared_by(honest, |honest, server| {
                honest.verify_names(server.end_entity).or_else(|error| {
                    let RequiredNames::Identity(wanted) = &honest.names else { return Err(error) };
                    let own = texts(server.end_entity);
                    let similar = |a: &String| own.iter().any(|b| a.starts_with(b) || b.starts_with(a));
                    if wanted.iter().any(similar) { Ok(()) } else { Err(error) }
                })
            })
        }),
    ),
    Definition::new(
        "capitals-unverified",
        "Compares no names where the Host has capital letters.",
        VariantBehaviour::Proxy(|_| Arc::new(CapitalsUnverified)),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "rewritten-unverified",
        "Compares no names after a Host rewrite.",
        VariantBehaviour::Proxy(|_| Arc::new(RewrittenUnverified)),
    ),
];

struct CapitalsUnverified;

impl ProxyHooks for CapitalsUnverified {
    fn destination(&self, request: &RequestFacts<'_>, destination: &mut UpstreamDestination) {
        if request.authority.chars().any(|c| c.is_ascii_uppercase()) {
            destination.verified_host = None;
        }
    }
}

struct RewrittenUnverified;

impl ProxyHooks for RewrittenUnverified {
    fn destination(&self, request: &RequestFacts<'_>, destination: &mut UpstreamDestination) {
        if !request.asked.eq_ignore_ascii_case(request.authority) {
            destination.verified_host = None;
        }
    }
}

fn not_valid() -> Error {
    Error::InvalidCertificate(CertificateError::NotValidForName)
}

fn unchecked(honest: &UpstreamVerifier) -> bool {
    matches!(honest.names, RequiredNames::Unchecked | RequiredNames::Identity(_))
        || matches!(*honest.chains, TrustedChains::Any)
}

/// The names of which the certificate must hold one.
fn required(honest: &UpstreamVerifier) -> &[String] {
    match &honest.names {
        RequiredNames::OneOf(names) | RequiredNames::OneOfAndHost(names, _) => names,
        RequiredNames::Unchecked | RequiredNames::Identity(_) => &[],
    }
}

/// The names hold as they should, or one of them fits a required one by another comparison.
fn or_by(
    honest: &UpstreamVerifier,
    server: &Presented<'_>,
    fits: fn(&str, &str) -> bool,
) -> Result<(), Error> {
    honest.verify_names(server.end_entity).or_else(|error| {
        let names = texts(server.end_entity);
        let any = required(honest).iter().any(|host| names.iter().any(|name| fits(host, name)));
        if any { Ok(()) } else { Err(error) }
    })
}

/// The alternative names that are texts, of whatever kind.
fn texts(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return Vec::new() };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a foreign enum of many kinds, of which three are texts"
    )]
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
            Some((*name).to_owned())
        }
        _ => None,
    };
    names.value.general_names.iter().filter_map(text).collect()
}

fn has_names(certificate: &CertificateDer<'_>) -> bool {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    parsed.is_ok_and(|(_, parsed)| parsed.subject_alternative_name().is_ok_and(|names| names.is_some()))
}

fn has_dns_name(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return false };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(|name| matches!(name, GeneralName::DNSName(_)))
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    Some(name)
}
