//! Claims on what a client offers and presents in its handshake with an external service.

use meshproof_model::{Deviation, Evidence, EvidenceId, Field, Party, Role, Side, ValueKind};

use super::deviation::{self, Odd, What};
use super::matcher::About;
use super::words::counted;
use super::{Claim, Finding, Sighting, View};

/// No ClientHello of the scenario offered an external service what RFC 9325 forbids: a version below TLS 1.2, or a cipher suite with NULL
/// encryption, export keys or RC4. Inconclusive if no external service can observe the offers.
pub fn nothing_weak_offered() -> Claim {
    Claim::new(|view: View<'_>| {
        let expected = "no offer of a TLS version below 1.2 or of a weak cipher suite".to_owned();
        let offers = |e: &Evidence| {
            let Side::Service { host } = &e.side else { return None };
            let offered = e.fact.as_connection()?.tls.as_ref()?.weak_offers.clone()?;
            Some((e.id.clone(), host.clone(), offered))
        };
        let all: Vec<(EvidenceId, String, Vec<String>)> = view.evidence.iter().filter_map(offers).collect();
        match all.iter().find(|(_, _, offered)| !offered.is_empty()) {
            Some((id, host, offered)) => {
                let seen = format!("a ClientHello offered external service {host} {}", offered.join(", "));
                let hop = (deviation::some_proxy(), Party::named(Role::ExternalService, host));
                let weak = What::of(Field::WeakOffer).being(ValueKind::Absent);
                let odd = Odd::being(ValueKind::Present, offered.join(", "));
                let deviation = weak.deviates(&hop, &expected, &odd);
                let deviation = Deviation { evidence: Some(id.clone()), ..deviation };
                Finding::broken(expected, seen, vec![id.clone()]).by([deviation])
            }
            None if all.is_empty() => {
                Finding::undecided(expected, "no external service observed a ClientHello", Vec::new())
            }
            None => {
                let seen = format!("{} offered nothing weak", counted(all.len(), "ClientHello"));
                Finding::holds(expected, seen, Vec::new())
            }
        }
    })
}

impl Sighting {
    /// The client presented no certificate. This means something only if the server requests one.
    pub fn no_client_certificate(self) -> Self {
        let what = What::of(Field::ClientCertificate).being(ValueKind::Absent);
        self.demand(About::Handshake, what, "no client certificate".to_owned(), |r| {
            match r.tls.as_ref().and_then(|t| t.peer_certificate.as_ref()) {
                None => Ok(()),
                Some(seen) => Err(format!("client certificate {} with serial {}", seen.subject, seen.serial)),
            }
        })
    }

    /// A client certificate with this SPIFFE identity, which the server verified.
    pub fn client_identity(self, spiffe: &str) -> Self {
        let spiffe = spiffe.to_owned();
        let expected = format!("a verified client certificate of {spiffe}");
        self.demand(About::Handshake, What::of(Field::ClientCertificate), expected, move |r| {
            let tls = r.tls.as_ref();
            let Some(seen) = tls.and_then(|t| t.peer_certificate.as_ref()) else {
                return Err(Odd::absent("no client certificate"));
            };
            let verified = tls.and_then(|t| t.peer_verification.as_deref()).unwrap_or("NONE");
            if seen.alternative_names.contains(&spiffe) && verified == "SUCCESS" {
                return Ok(());
            }
            let names = seen.alternative_names.join(", ");
            Err(Odd::from(format!("a client certificate of {names} (verification: {verified})")))
        })
    }
}
