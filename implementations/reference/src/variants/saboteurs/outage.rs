//! The saboteur that refuses requests while a credential is replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::hooks::{BoxFuture, LocalReply, PlaneHooks, ProxyFacts, ProxyHooks};
use crate::variants::definition::{Definition, VariantBehaviour};

pub(super) const TABLE: &[Definition] = &[Definition::new(
    "outage-while-rotating",
    "Refuses requests while a credential is being replaced.",
    VariantBehaviour::Plane(|| Box::new(OutageWhileRotating::default())),
)];

/// How long an outage waits for a request to refuse.
const NOTICED: Duration = Duration::from_millis(500);

const NONE: u8 = 0;
const ONGOING: u8 = 1;
const NOTICED_BY_CLIENT: u8 = 2;

#[derive(Default)]
struct OutageWhileRotating(Arc<Outage>);

#[derive(Default)]
struct Outage {
    stage: AtomicU8,
    noticed: Notify,
}

impl PlaneHooks for OutageWhileRotating {
    fn proxy(&self, _proxy: &ProxyFacts<'_>) -> Arc<dyn ProxyHooks> {
        Arc::clone(&self.0) as Arc<dyn ProxyHooks>
    }

    fn before_change(&self, rotating: &[&str]) -> Option<BoxFuture<'_, ()>> {
        if rotating.is_empty() {
            return None;
        }
        Some(Box::pin(async {
            let noticed = self.0.noticed.notified();
            tokio::pin!(noticed);
            noticed.as_mut().enable();
            self.0.stage.store(ONGOING, Ordering::SeqCst);
            let _ = timeout(NOTICED, noticed).await;
            self.0.stage.store(NONE, Ordering::SeqCst);
        }))
    }
}

impl ProxyHooks for Outage {
    fn arrived(&self, _request: &mut Request<Incoming>) -> Option<LocalReply> {
        let refuses =
            match self.stage.compare_exchange(ONGOING, NOTICED_BY_CLIENT, Ordering::SeqCst, Ordering::SeqCst)
            {
                Ok(_) => {
                    self.noticed.notify_waiters();
                    true
                }
                Err(stage) => stage == NOTICED_BY_CLIENT,
            };
        refuses.then_some(LocalReply { status: StatusCode::SERVICE_UNAVAILABLE, details: Some("outage") })
    }
}
