//! The plan: Istio resources to what each proxy must do. Pure: it opens no socket and needs no async runtime.

pub mod model;
pub mod mutation;
mod rejected;
pub mod resolve;
mod resources;
pub mod walk;

pub use rejected::Rejected;
pub use resolve::{
    Endpoint, Inbound, Input, MeshConfig, OutboundPolicy, Proxy, ProxyKind, Resolution, Service, ServicePort,
    resolve,
};
