//! The evidence of one connection and of its requests, completed as they go on.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use meshproof_harness::trace::ConnectionTrace;
use meshproof_model::{Connection, EvidenceId, Fact, Header, ServerRequest, Side, TlsFacts};

use super::port::{Port, Shared};
use crate::tap::Watch;

/// How many bytes outside TLS are kept of one connection.
const MAX_CLEAR: usize = 4096;

/// The store's entry for one connection.
pub(super) struct ConnectionRecord {
    shared: Arc<Shared>,
    id: EvidenceId,
    pub(super) number: u64,
    pub(super) port: u16,
    pub(super) peer: String,
    trace: ConnectionTrace,
}

impl ConnectionRecord {
    pub(super) fn new(
        shared: &Arc<Shared>,
        number: u64,
        port: &Port,
        local: Option<SocketAddr>,
        peer: SocketAddr,
    ) -> Self {
        let trace = shared.store.trace().connection(
            || match &shared.side {
                Side::Service { host } => format!("service {host}:{}", port.documented),
                Side::Workload { .. } | Side::Proxy { .. } | Side::Suite => port.documented.to_string(),
            },
            local,
            Some(peer),
        );
        let peer = peer.to_string();
        let fact = Fact::Connection(Connection {
            number,
            port: port.documented,
            tls_port: port.tls.is_some(),
            peer: peer.clone(),
            clear_bytes: String::new(),
            tls: None,
        });
        let id = shared.store.record(shared.side.clone(), None, fact);
        Self { shared: shared.clone(), id, number, port: port.documented, peer, trace }
    }

    fn amend(&self, change: impl FnOnce(&mut Connection)) {
        self.shared.store.amend(&self.id, |fact| {
            if let Fact::Connection(connection) = fact {
                change(connection);
            }
        });
    }

    pub(super) fn set_tls(&self, facts: &TlsFacts) {
        self.amend(|c| c.tls = Some(facts.clone()));
    }
}

/// What happens to the bytes that arrive outside TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Clear {
    /// They go into the record as they come.
    Show,
    /// They may be a ClientHello: it is not known yet.
    Hold,
    /// They are TLS.
    Ignore,
}

/// Watches what arrives on a connection.
pub(super) struct ClearBytes {
    record: Arc<ConnectionRecord>,
    state: Mutex<(Clear, Vec<u8>)>,
}

impl ClearBytes {
    pub(super) fn new(record: &Arc<ConnectionRecord>, clear: Clear) -> Arc<Self> {
        Arc::new(Self { record: Arc::clone(record), state: Mutex::new((clear, Vec::new())) })
    }

    pub(super) fn turn(&self, clear: Clear) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = clear;
        if clear == Clear::Show {
            self.show(&state.1);
        }
    }

    /// What is kept of the bytes that have arrived.
    pub(super) fn kept(&self) -> Vec<u8> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    fn show(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.record.amend(|c| c.clear_bytes = text);
    }
}

impl Watch for Arc<ClearBytes> {
    fn received(&self, bytes: &[u8]) {
        self.record.trace.received(bytes);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_CLEAR - state.1.len();
        if state.0 == Clear::Ignore || room == 0 {
            return;
        }
        state.1.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if state.0 == Clear::Show {
            self.show(&state.1);
        }
    }

    fn sent(&self, bytes: &[u8]) {
        self.record.trace.sent(bytes);
    }
}

/// The store's entry of a request.
#[derive(Clone)]
pub(super) struct RequestRecord {
    pub(super) shared: Arc<Shared>,
    pub(super) id: EvidenceId,
}

impl RequestRecord {
    pub(super) fn amend(&self, change: impl FnOnce(&mut ServerRequest)) {
        self.shared.store.amend(&self.id, |fact| {
            if let Fact::Request(request) = fact {
                change(request);
            }
        });
    }

    pub(super) fn body_ended(&self, bytes: u64, sha256: String, trailers: Vec<Header>) {
        self.amend(|r| {
            r.trailers = trailers;
            r.body_bytes = Some(bytes);
            r.body_sha256 = (bytes > 0).then_some(sha256);
        });
    }
}
