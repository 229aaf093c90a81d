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
}
