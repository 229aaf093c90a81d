//! Everything that local targets share: the client of workloads, the external services, ports, and one scenario's mesh on this
//! machine, whose proxies are a data plane that is given plans.
//!
//! It needs no root, no redirection of packets and no name server: a workload reaches its sidecar through capture addresses on
//! loopback, and host names lead to loopback addresses by a table.

pub mod apps;
pub mod child;
mod client;
pub mod data_plane;
pub mod external;
mod forecast;
mod http_facts;
mod instance;
pub mod ports;
pub mod real_hosts;
mod seat;
pub mod serve;
mod tap;
mod target;
pub mod tls;
pub mod workload;

pub use target::LocalTarget;
