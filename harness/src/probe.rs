//! Requests of the suite itself.

/// A request that bypasses the workload's sidecar, to find out what a server does on its own.
#[derive(Clone, Debug)]
pub enum Probe {
    /// To an external service's port directly, from outside the mesh. The URL says which.
    External,
    /// To a gateway's Service port directly, like a client inside the network without a mesh identity.
    Gateway {
        /// The gateway's name.
        gateway: String,
        /// The port of its Service.
        port: u16,
    },
    /// To a workload's served port directly, without a mesh identity.
    Workload {
        /// The workload's name.
        workload: String,
    },
}
