//! The plan: Istio resources to what each proxy must do, and the local target.

pub mod data_plane;
pub mod local;
pub mod model;
pub mod mutation;
pub mod resolve;
mod resources;

pub use resolve::{
    Endpoint, Inbound, Input, MeshConfig, OutboundPolicy, Proxy, ProxyKind, Rejected, Resolution, Service,
    ServicePort, resolve,
};
