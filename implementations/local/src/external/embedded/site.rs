//! Where the requests of a connection arrive.

use std::sync::Arc;

use meshproof_model::TlsFacts;

use super::ending::Wishes;
use super::port::{Port, Shared};
use super::record::ConnectionRecord;

/// Where the requests of a connection arrive, and the facts about the connection.
pub(super) struct Site<'a> {
    pub(super) port: &'a Arc<Port>,
    pub(super) record: &'a Arc<ConnectionRecord>,
    pub(super) shared: &'a Arc<Shared>,
    /// What answers ask of the connection.
    pub(super) wishes: &'a Arc<Wishes>,
    /// The error that every request of this connection gets instead of an answer.
    pub(super) refusal: Option<&'static str>,
    pub(super) tls: Option<TlsFacts>,
}
