//! Saboteurs that use Secrets wrongly, with a server that requires a client certificate.

use meshproof_harness::certificates::credential_status;
use meshproof_model::CredentialState;
use meshproof_model::Resource;
use meshproof_plan::model::Plan;
use serde_json::json;

use crate::support::authority::{CertificateSpec, IssuedPem, TestAuthority};
use crate::support::client;
use crate::support::plans::{self, HOST};
use crate::support::server::{TestServer, TestServerTls};
use crate::support::{Bench, free, reference};

/// An originating sidecar before a server that may require client certificates.
struct MutualOrigination {
    bench: Bench,
    bind: std::net::SocketAddr,
    plan: Plan,
    server: TestServer,
    ca: TestAuthority,
    clients: TestAuthority,
}

impl MutualOrigination {
    /// `required`: the server refuses clients without a certificate.
    async fn new(saboteur: Option<&str>, required: bool) -> Self {
        let (ca, clients) = (TestAuthority::new("servers"), TestAuthority::new("clients"));
        let mut tls = TestServerTls::of(ca.server(HOST));
        tls.client_ca = required.then(|| clients.pem());
        let server = TestServer::start(Some(tls)).await;
        let (bench, bind) = (Bench::with(reference(saboteur), "").await, free());
        let plan = plans::originating(bind, server.address, plans::mutual("c"));
        Self { bench, bind, plan, server, ca, clients }
    }

    fn client(&self, serial: u64) -> IssuedPem {
        self.clients.issue(&CertificateSpec { serial, ..CertificateSpec::default() })
    }

    fn give(&mut self, issued: &IssuedPem) {
        let credential = plans::credential("c", &self.ca.pem(), Some(issued));
        self.bench.credential("sleep", credential);
    }

    async fn status(&mut self) -> u16 {
        let plan = self.plan.clone();
        self.bench.apply(&plan).await;
        client::get(self.bind, HOST, "/").await.status.as_u16()
    }
}

#[tokio::test]
async fn client_certificate_is_missing_or_a_different_one() {
    for (saboteur, status) in
        [(None, 200), (Some("no-client-certificate"), 503), (Some("other-client-certificate"), 503)]
    {
        let mut mutual = MutualOrigination::new(saboteur, true).await;
        let issued = mutual.client(1);
        mutual.give(&issued);
        assert_eq!(mutual.status().await, status, "{saboteur:?}");
    }
}

#[tokio::test]
async fn missing_secret_is_ignored_or_taken_from_elsewhere_or_reported_as_active() {
    for (saboteur, status, state) in [
        (None, 503, CredentialState::Warming),
        (Some("anonymous-without-secret"), 200, CredentialState::Warming),
        (Some("credential-from-any-namespace"), 200, CredentialState::Active),
        (Some("default-namespace-credential-status"), 503, CredentialState::Active),
    ] {
        let mut mutual = MutualOrigination::new(saboteur, false).await;
        let issued = mutual.client(1);
        mutual.bench.resources = vec![Resource(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "c", "namespace": "elsewhere"},
            "stringData": {"tls.crt": issued.certificate, "tls.key": issued.key, "ca.crt": mutual.ca.pem()},
        }))];
        assert_eq!(mutual.status().await, status, "{saboteur:?}");
        let reported = mutual.bench.plane.credentials("sleep").await.unwrap();
        // This saboteur's plan does not ask for the missing Secret.
        if saboteur != Some("anonymous-without-secret") {
            assert_eq!(reported[0].state, state, "{saboteur:?}");
        }
    }
}

#[tokio::test]
async fn status_of_a_credential_tells_another_validity_than_the_certificate_has() {
    for (saboteur, agrees) in [(None, true), (Some("credential-status-of-another-validity"), false)] {
        let mut mutual = MutualOrigination::new(saboteur, true).await;
        let issued = mutual.client(1);
        mutual.give(&issued);
        assert_eq!(mutual.status().await, 200);
        let reported = mutual.bench.plane.credentials("sleep").await.unwrap();
        let of_client = reported.iter().find(|status| !status.name.ends_with("-cacert")).unwrap();
        let wanted = credential_status(&of_client.name, Some(&issued.certificate));
        assert_eq!(of_client == &wanted, agrees, "{saboteur:?}: {of_client:?}");
    }
}

#[tokio::test]
async fn first_version_of_a_secret_stays_in_use() {
    for (saboteur, versions, after) in [(None, 2, 503), (Some("stale-credential"), 1, 200)] {
        let mut mutual = MutualOrigination::new(saboteur, true).await;
        for serial in [1, 2] {
            let issued = mutual.client(serial);
            mutual.give(&issued);
            assert_eq!(mutual.status().await, 200);
        }
        let mut shown: Vec<_> =
            mutual.server.memory.hellos().into_iter().map(|h| h.client_certificate).collect();
        shown.dedup();
        assert_eq!(shown.len(), versions, "{saboteur:?}");
        mutual.bench.credentials.clear();
        assert_eq!(mutual.status().await, after, "{saboteur:?}");
    }
}

#[tokio::test]
async fn requests_are_refused_while_a_credential_is_replaced() {
    for (saboteur, status) in [(None, 200), (Some("outage-while-rotating"), 503)] {
        let mut mutual = MutualOrigination::new(saboteur, true).await;
        let issued = mutual.client(1);
        mutual.give(&issued);
        assert_eq!(mutual.status().await, 200);
        let issued = mutual.client(2);
        mutual.give(&issued);
        let (plan, bind) = (mutual.plan.clone(), mutual.bind);
        // The change begins first.
        let ((), meanwhile) = tokio::join!(biased; mutual.bench.apply(&plan), client::get(bind, HOST, "/"));
        assert_eq!(meanwhile.status.as_u16(), status, "{saboteur:?}");
        assert_eq!(mutual.status().await, 200, "{saboteur:?}");
    }
}
