//! The suite's own ends of the wire, held against each other: certificates, external services, the workload's client,
//! the applications in the mesh.

#![allow(clippy::unwrap_used, reason = "a test's helpers report by panicking, as tests do")]

mod apps;
mod certificates;
mod container;
mod conversations;
mod directed;
mod embedded;
mod fidelity;
mod handshakes;
mod nginx;
mod nginx_process;
mod served;
mod support;
mod workload;
