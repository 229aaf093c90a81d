//! Servers that differ only in the certificates that they present, as one external service that chooses by the server name: the
//! cost grows with handshakes and not with servers.

mod asked;
mod case;

use std::collections::BTreeMap;

use meshproof_harness::certificates::Issued;
use meshproof_harness::claim::{Claim, Reply};
use meshproof_harness::external::PrivateKeyPem;
use meshproof_harness::external_server::{ExternalServer, Site};
use meshproof_harness::mesh::{Client, Mesh, Stop};

pub(crate) use self::asked::{Asked, url};
use self::case::{Case, Outcome, PAGE, TEXT};

/// Hosts, the certificates that are presented for them, and the checks that they belong to.
#[derive(Default)]
pub(crate) struct Cases {
    /// By host: the chain in PEM, and its key.
    chains: Vec<(String, String, PrivateKeyPem)>,
    cases: Vec<Case>,
    /// Hosts that are asked without a case.
    asked: Vec<String>,
}

impl Cases {
    fn case(&mut self, check: &'static str, host: &str, certificate: &Issued, outcome: Outcome) {
        self.presents(host, certificate);
        self.cases.push(Case { check, host: host.to_owned(), outcome });
    }

    /// The certificate must be accepted.
    pub(crate) fn accepts(&mut self, check: &'static str, host: &str, certificate: &Issued) {
        self.case(check, host, certificate, Outcome::Accepted);
    }

    /// The certificate must be refused. The control is another host, which differs in one thing and must be accepted.
    pub(crate) fn refuses(&mut self, check: &'static str, host: &str, certificate: &Issued, unlike: &str) {
        let outcome = Outcome::Refused { shown_for: host.to_owned(), unlike: unlike.to_owned() };
        self.case(check, host, certificate, outcome);
    }

    /// The certificate may be accepted or refused: which, is recorded.
    pub(crate) fn records(&mut self, check: &'static str, host: &str, certificate: &Issued) {
        self.case(check, host, certificate, Outcome::Recorded);
    }

    /// A host without a check of its own, for controls and for rewritten requests.
    pub(crate) fn presents(&mut self, host: &str, certificate: &Issued) {
        self.presents_chain(host, certificate.certificate_pem(), certificate.key());
    }

    /// The same, with the chain in PEM.
    pub(crate) fn presents_chain(&mut self, host: &str, chain: &str, key: PrivateKeyPem) {
        self.chains.push((host.to_owned(), chain.to_owned(), key));
    }

    /// A host that is asked and judged by the caller.
    pub(crate) fn asks(&mut self, host: &str, certificate: &Issued) {
        self.asks_chain(host, certificate.certificate_pem(), certificate.key());
    }

    /// The same, with the chain in PEM.
    pub(crate) fn asks_chain(&mut self, host: &str, chain: &str, key: PrivateKeyPem) {
        self.presents_chain(host, chain, key);
        self.asked.push(host.to_owned());
    }

    /// A request must be refused for which the certificate of `shown_for` is presented.
    pub(crate) fn refuses_as_well(&mut self, check: &'static str, host: &str, shown_for: &str, unlike: &str) {
        let outcome = Outcome::Refused { shown_for: shown_for.to_owned(), unlike: unlike.to_owned() };
        self.cases.push(Case { check, host: host.to_owned(), outcome });
    }

    /// A request for a host whose certificate is presented anyway must be accepted.
    pub(crate) fn accepts_as_well(&mut self, check: &'static str, host: &str) {
        self.cases.push(Case { check, host: host.to_owned(), outcome: Outcome::Accepted });
    }

    /// The external service at `host`, which presents `certificate` to clients that ask for no name of the cases.
    pub(crate) fn server(&self, host: &str, certificate: &Issued) -> ExternalServer {
        // Each request is to show a handshake of its own.
        let server = Site::at(host).certificate(certificate).text(PAGE, TEXT).one_request_per_connection();
        self.chains
            .iter()
            .fold(server, |server, (name, chain, key)| server.chain_for(name, chain, key.clone()))
    }

    /// Sends one request to each host.
    pub(crate) async fn ask<'a>(
        &self,
        mesh: &'a Mesh,
        server: &str,
        client: Client<'_>,
        identity: Option<Issued>,
    ) -> Result<Asked<'a>, Stop> {
        let mut hosts: Vec<String> = self.cases.iter().map(|case| case.host.clone()).collect();
        hosts.extend(self.asked.iter().cloned());
        hosts.sort();
        hosts.dedup();
        let (usual, unusual): (Vec<String>, Vec<String>) =
            hosts.into_iter().partition(|host| host.chars().all(|c| !c.is_ascii_uppercase()));
        let urls: Vec<String> = usual.iter().map(|host| url(host)).collect();
        let replies = client.get_all(&urls).await?;
        let mut replies: BTreeMap<String, Reply> = usual.into_iter().zip(replies).collect();
        for host in unusual {
            // A URL would put the host into lower case.
            let lower = url(&host.to_ascii_lowercase());
            let reply = client.clone().host(&host).get(&lower).await?;
            replies.insert(host, reply);
        }
        Ok(Asked { server: mesh.external(server), identity, replies })
    }

    /// Judges every check of the cases.
    pub(crate) fn judge(&self, mesh: &Mesh, asked: &Asked<'_>) -> Result<(), Stop> {
        let mut checks: Vec<&'static str> = self.cases.iter().map(|case| case.check).collect();
        checks.sort_unstable();
        checks.dedup();
        for check in checks {
            let own = self.cases.iter().filter(|case| case.check == check);
            mesh.check(check, Claim::all(own.map(|case| asked.claim(case))))?;
        }
        Ok(())
    }
}
