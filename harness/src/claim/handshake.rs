//! Claims on what a client offers and presents in its handshake with an external service.

use meshproof_model::{Evidence, EvidenceId, Side};

use super::{Claim, Finding, Sighting, View};

/// No ClientHello of the scenario offered, at any external service, what RFC 9325 forbids: a version below TLS 1.2, or a cipher suite that
/// encrypts nothing, weakly or with RC4. Inconclusive where no service shows the offers.
pub fn nothing_weak_offered() -> Claim {
    Claim::new(|view: View<'_>| {
        let expected = "no offer of a TLS version below 1.2, or of a weak cipher suite".to_owned();
        let offers = |e: &Evidence| {
            let Side::Service { host } = &e.side else { return None };
            let offered = e.fact.as_connection()?.tls.as_ref()?.weak_offers.clone()?;
            Some((e.id.clone(), host.clone(), offered))
        };
        let all: Vec<(EvidenceId, String, Vec<String>)> = view.evidence.iter().filter_map(offers).collect();
        let weak = all.iter().find(|(_, _, offered)| !offered.is_empty());
        match weak {
            Some((id, host, offered)) => {
                Finding::broken(expected, format!("{} offered", offered.join(", ")), vec![id.clone()])
                    .at(super::external::hop_to(host))
            }
            None if all.is_empty() => {
                Finding::undecided(expected, "no service that shows what it was offered", Vec::new())
            }
            None => Finding::holds(expected, format!("none in {} ClientHellos", all.len()), Vec::new()),
        }
    })
}

impl Sighting {
    /// The client presented no certificate. The service must ask for one, or else that says nothing.
    pub fn no_client_certificate(self) -> Self {
        self.demand("no client certificate".to_owned(), |r| {
            match r.tls.as_ref().and_then(|t| t.peer_certificate.as_ref()) {
                None => Ok(()),
                Some(seen) => Err(format!("client certificate {} serial {}", seen.subject, seen.serial)),
            }
        })
    }

    /// A certificate with this SPIFFE identity, and the service verified it.
    pub fn client_identity(self, spiffe: &str) -> Self {
        let spiffe = spiffe.to_owned();
        self.demand(format!("a verified client certificate of {spiffe}"), move |r| {
            let tls = r.tls.as_ref();
            let Some(seen) = tls.and_then(|t| t.peer_certificate.as_ref()) else {
                return Err("no client certificate".to_owned());
            };
            let verified = tls.and_then(|t| t.peer_verification.as_deref()).unwrap_or("NONE");
            if seen.alternative_names.contains(&spiffe) && verified == "SUCCESS" {
                return Ok(());
            }
            Err(format!("client certificate of {} ({verified})", seen.alternative_names.join(", ")))
        })
    }
}
