//! Claims on what a client offers and presents in its handshake with an external service.

use super::Sighting;

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
