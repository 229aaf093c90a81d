//! One port of an embedded service, and what the tasks of the service share.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use meshproof_harness::conversation::TcpProtocol;
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;
use meshproof_model::Side;

use super::answer::Content;
use super::settings::TlsSettings;
use crate::external::accepting::Accepting;

/// One port of a service.
pub(crate) struct Port {
    /// As the documents name it.
    pub(crate) documented: u16,
    /// Where it listens.
    pub(super) ip: IpAddr,
    /// Its TLS settings; none for plain HTTP.
    pub(super) tls: Option<TlsSettings>,
    /// What it speaks instead of HTTP.
    pub(super) protocol: Option<TcpProtocol>,
    /// What it answers.
    pub(super) content: Arc<dyn Content>,
    /// Whether an HTTP/1.1 connection takes another request after an answer.
    pub(super) keep_alive: bool,
}

impl Port {
    /// A port that speaks plain HTTP.
    pub(crate) fn plain(documented: u16, content: Arc<dyn Content>) -> Self {
        Self {
            documented,
            ip: Ipv4Addr::LOCALHOST.into(),
            tls: None,
            protocol: None,
            content,
            keep_alive: true,
        }
    }
}

/// What the tasks of one service share.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) side: Side,
    pub(super) accepting: Arc<Accepting>,
    pub(super) timeouts: Timeouts,
}
