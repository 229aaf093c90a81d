//! What a scenario is written with: targets, external services, certificates, a workload client, access-log
//! reading, evidence, checks, waiting, and the runner. It never names a scenario.

pub mod external;
pub mod resource;
pub mod store;
pub mod timeouts;
pub mod token;
pub mod topology;
