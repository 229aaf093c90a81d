//! Saboteurs that get secrets wrong, at a server that demands a client certificate.

use meshproof_harness::resource::Resource;
use meshproof_model::CredentialState;
use meshproof_plan::model::Plan;
use meshproof_reference::{Reference, Saboteur};
use serde_json::json;

use crate::support::authority::{Authority, Issued, Says};
use crate::support::client;
use crate::support::plans::{self, HOST};
use crate::support::server::{Server, Tls};
use crate::support::{Bench, free};

struct Demanding {
    bench: Bench,
    bind: std::net::SocketAddr,
    plan: Plan,
    server: Server,
    ca: Authority,
    clients: Authority,
}

impl Demanding {
    /// `demands`: the server refuses whoever shows no certificate.
    async fn new(saboteur: Option<Saboteur>, demands: bool) -> Self {
        let (ca, clients) = (Authority::new("servers"), Authority::new("clients"));
        let mut tls = Tls::of(ca.server(HOST));
        tls.client_ca = demands.then(|| clients.pem());
        let server = Server::start(Some(tls)).await;
        let reference = saboteur.map_or_else(Reference::new, Reference::sabotaged);
        let (bench, bind) = (Bench::with(reference, "").await, free());
        let plan = plans::originating(bind, server.address, plans::mutual("c"));
        Self { bench, bind, plan, server, ca, clients }
    }

    fn client(&self, serial: u64) -> Issued {
        self.clients.issue(&Says { serial, ..Says::default() })
    }

    fn give(&mut self, issued: &Issued) {
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
async fn client_certificate_is_left_out_or_another() {
    for (saboteur, status) in [
        (None, 200),
        (Some(Saboteur::NoClientCertificate), 503),
        (Some(Saboteur::OtherClientCertificate), 503),
    ] {
        let mut demanding = Demanding::new(saboteur, true).await;
        let issued = demanding.client(1);
        demanding.give(&issued);
        assert_eq!(demanding.status().await, status, "{saboteur:?}");
    }
}

#[tokio::test]
async fn missing_secret_is_done_without_or_found_elsewhere_or_called_active() {
    for (saboteur, status, state) in [
        (None, 503, CredentialState::Warming),
        (Some(Saboteur::AnonymousWithoutSecret), 200, CredentialState::Warming),
        (Some(Saboteur::CredentialFromAnyNamespace), 200, CredentialState::Active),
        (Some(Saboteur::DefaultNamespaceCredentialStatus), 503, CredentialState::Active),
    ] {
        let mut demanding = Demanding::new(saboteur, false).await;
        let issued = demanding.client(1);
        demanding.bench.resources = vec![Resource(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "c", "namespace": "elsewhere"},
            "stringData": {"tls.crt": issued.certificate, "tls.key": issued.key, "ca.crt": demanding.ca.pem()},
        }))];
        assert_eq!(demanding.status().await, status, "{saboteur:?}");
        let reported = demanding.bench.plane.credentials("sleep").await.unwrap();
        // Without the secret, the sabotaged plan asks for none.
        if saboteur != Some(Saboteur::AnonymousWithoutSecret) {
            assert_eq!(reported[0].state, state, "{saboteur:?}");
        }
    }
}

#[tokio::test]
async fn first_version_of_a_secret_is_kept_for_ever() {
    for (saboteur, versions, after) in [(None, 2, 503), (Some(Saboteur::StaleCredential), 1, 200)] {
        let mut demanding = Demanding::new(saboteur, true).await;
        for serial in [1, 2] {
            let issued = demanding.client(serial);
            demanding.give(&issued);
            assert_eq!(demanding.status().await, 200);
        }
        let mut shown: Vec<_> =
            demanding.server.memory.hellos().into_iter().map(|h| h.client_certificate).collect();
        shown.dedup();
        assert_eq!(shown.len(), versions, "{saboteur:?}");
        demanding.bench.credentials.clear();
        assert_eq!(demanding.status().await, after, "{saboteur:?}");
    }
}

#[tokio::test]
async fn requests_are_refused_while_a_credential_is_replaced() {
    for (saboteur, status) in [(None, 200), (Some(Saboteur::OutageWhileRotating), 503)] {
        let mut demanding = Demanding::new(saboteur, true).await;
        let issued = demanding.client(1);
        demanding.give(&issued);
        assert_eq!(demanding.status().await, 200);
        let issued = demanding.client(2);
        demanding.give(&issued);
        let (plan, bind) = (demanding.plan.clone(), demanding.bind);
        // The change is begun first.
        let ((), meanwhile) =
            tokio::join!(biased; demanding.bench.apply(&plan), client::get(bind, HOST, "/"));
        assert_eq!(meanwhile.status.as_u16(), status, "{saboteur:?}");
        assert_eq!(demanding.status().await, 200, "{saboteur:?}");
    }
}
