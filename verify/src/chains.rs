//! Which chain of a listener takes a connection.

use meshproof_plan::model::{FilterChain, Transport};

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
    let transport = match chain.matches.transport {
        Transport::Any => true,
        Transport::Tls => outer.is_some(),
        Transport::Plain => outer.is_none(),
        Transport::PlainHttp => outer.is_none() && scheme != Scheme::Tcp,
    };
    let names = &chain.matches.server_names;
    transport
        && (names.is_empty()
            || outer.and_then(Layer::server_name).is_some_and(|name| {
                let name = name.to_ascii_lowercase();
                names.iter().any(|n| match n.strip_prefix('*') {
                    Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
                    None => *n == name,
                })
            }))
}
