//! HTTP: serving downstream connections and forwarding their requests upstream.

mod context;
mod forward;
mod headers;
mod local_reply;
mod redirect;
mod send;
mod server;
mod upgrade;

pub(crate) use server::serve;
