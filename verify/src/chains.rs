//! Which chain of a listener takes a connection.

use meshproof_plan::model::FilterChain;
use meshproof_plan::walk;

use crate::request::{Layer, Scheme};

/// A chain in words.
pub(crate) fn chain_text(chain: &FilterChain, port: u16) -> String {
    if chain.matches.server_names.is_empty() {
        format!("port {port}")
    } else {
        format!("port {port}, by the server name {}", chain.matches.server_names.join(", "))
    }
}

/// Whether a chain takes a connection: what is outermost on it, and what its client speaks.
pub(crate) fn takes(chain: &FilterChain, outer: Option<&Layer>, scheme: Scheme) -> bool {
    walk::takes(chain, outer.is_some(), outer.and_then(Layer::server_name), scheme != Scheme::Tcp)
}
