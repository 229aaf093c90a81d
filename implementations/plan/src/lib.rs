//! The plan: Istio resources to what each proxy must do. Pure: it opens no socket and needs no async runtime.

pub mod cluster_state;
pub mod mesh;
pub mod model;
pub mod mutation;
pub mod re2;
mod rejected;
pub mod report;
pub mod resolve;
mod resources;
pub mod walk;

pub use rejected::{Refused, Rejected};
pub use resolve::{
    Description, Endpoint, Inbound, Input, MeshConfig, OutboundPolicy, Proxy, ProxyKind, Resolution,
    RetryPolicy, Service, ServicePort, Workload, describe, resolve,
};
pub use resources::{Verdict, hosts, protocol};
