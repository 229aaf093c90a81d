//! Saboteurs that verify servers only for a while, or have no patience.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::Method;
use meshproof_plan::model::{Trust, UpstreamTls};
use rustls::Error;
use rustls::client::danger::ServerCertVerifier;

use crate::failure::UpstreamFailure;
use crate::hooks::{BoxFuture, ProxyHooks, SendHook, SendResult, TlsConnectionFacts, UpstreamAccess};
use crate::io::Counts;
use crate::request_body::OutgoingRequest;
use crate::tls::verify::UpstreamVerifier;
use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::placement::Placement;
use crate::variants::verifier::{Judge, JudgedBy, Presented};

/// How long nothing may happen.
const SILENCE: Duration = Duration::from_millis(500);

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "verify-while-busy",
        "Verifies no server on the first connection after half a second without one.",
        VariantBehaviour::Proxy(|_| Arc::new(VerifyWhileBusy::default())),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "verify-forty-times",
        "Verifies only the first forty servers that the proxy connects to.",
        VariantBehaviour::Proxy(|_| Arc::new(VerifyFortyTimes::default())),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "verify-until-a-failure",
        "Verifies no server any more once it has refused one.",
        VariantBehaviour::Proxy(|_| Arc::new(VerifyUntilAFailure::default())),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "verify-for-reading-alone",
        "Verifies servers only for requests with the method GET.",
        VariantBehaviour::Sending(&VerifyForReadingAlone),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "impatient-with-servers",
        "Gives up a request that is not answered within half a second.",
        VariantBehaviour::Sending(&ImpatientWithServers),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "close-silent-web-sockets",
        "Closes a WebSocket connection on which nothing was said for half a second.",
        VariantBehaviour::Proxy(|_| Arc::new(CloseSilentWebSockets)),
    )
    .also_at(&[Placement::Sidecar, Placement::IngressGateway]),
];

fn trusting_any() -> Arc<dyn ServerCertVerifier> {
    Arc::new(UpstreamVerifier::trusting_any())
}

#[derive(Default)]
struct VerifyWhileBusy(Mutex<Option<Instant>>);

impl ProxyHooks for VerifyWhileBusy {
    fn verifier(
        &self,
        _connection: &TlsConnectionFacts<'_>,
        honest: Arc<UpstreamVerifier>,
    ) -> Arc<dyn ServerCertVerifier> {
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(Instant::now());
        if before.is_some_and(|before| before.elapsed() > SILENCE) { trusting_any() } else { honest }
    }
}

#[derive(Default)]
struct VerifyFortyTimes(AtomicU64);

impl ProxyHooks for VerifyFortyTimes {
    fn verifier(
        &self,
        _connection: &TlsConnectionFacts<'_>,
        honest: Arc<UpstreamVerifier>,
    ) -> Arc<dyn ServerCertVerifier> {
        if self.0.fetch_add(1, Ordering::Relaxed) < 40 { honest } else { trusting_any() }
    }
}

#[derive(Default)]
struct VerifyUntilAFailure(Arc<AtomicBool>);

impl ProxyHooks for VerifyUntilAFailure {
    fn verifier(
        &self,
        _connection: &TlsConnectionFacts<'_>,
        honest: Arc<UpstreamVerifier>,
    ) -> Arc<dyn ServerCertVerifier> {
        if self.0.load(Ordering::Relaxed) {
            return trusting_any();
        }
        Arc::new(JudgedBy(Noting { honest, failed: Arc::clone(&self.0) }))
    }
}

/// Notes when it refuses a server.
struct Noting {
    honest: Arc<UpstreamVerifier>,
    failed: Arc<AtomicBool>,
}

impl Judge for Noting {
    fn honest(&self) -> Arc<UpstreamVerifier> {
        Arc::clone(&self.honest)
    }

    fn judge(&self, server: &Presented<'_>) -> Result<(), Error> {
        let judged = server.judged_by(&self.honest);
        self.failed.fetch_or(judged.is_err(), Ordering::Relaxed);
        judged
    }
}

struct VerifyForReadingAlone;

#[async_trait]
impl SendHook for VerifyForReadingAlone {
    async fn send(&self, upstream: &dyn UpstreamAccess, request: OutgoingRequest) -> SendResult {
        let facts = upstream.facts();
        let mut cluster = facts.cluster.clone();
        match &mut cluster.tls {
            Some(UpstreamTls::Originate(origination)) if request.method() != Method::GET => {
                origination.trust = Trust::Anybody;
            }
            Some(UpstreamTls::Originate(_) | UpstreamTls::MeshMutual { .. }) | None => {
                return upstream.send(request).await;
            }
        }
        upstream.send_to(cluster, facts.authority, request).await
    }
}

struct ImpatientWithServers;

#[async_trait]
impl SendHook for ImpatientWithServers {
    async fn send(&self, upstream: &dyn UpstreamAccess, request: OutgoingRequest) -> SendResult {
        let answered = tokio::time::timeout(SILENCE, upstream.send(request)).await;
        answered.unwrap_or_else(|_| Err(UpstreamFailure::Timeout.into()))
    }
}

struct CloseSilentWebSockets;

impl ProxyHooks for CloseSilentWebSockets {
    fn upgraded(&self, counts: Arc<Counts>) -> Option<BoxFuture<'static, ()>> {
        Some(Box::pin(async move {
            let mut before = counts.both();
            loop {
                tokio::time::sleep(SILENCE).await;
                let now = counts.both();
                if now == before {
                    return;
                }
                before = now;
            }
        }))
    }
}
