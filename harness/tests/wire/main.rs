//! The suite's own ends of the wire, held against each other: certificates, external services, the workload's client,
//! the applications in the mesh.

mod apps;
mod certificates;
mod embedded;
mod nginx;
mod support;
mod workload;
