//! What a scenario is written with: targets, external services, certificates, a workload client, access-log
//! reading, evidence, checks, waiting, and the runner. It never names a scenario.

pub mod access_log;
pub mod apps;
pub mod certificates;
pub mod digest;
pub mod external;
pub mod feature;
pub mod resource;
pub mod store;
pub mod timeouts;
pub mod token;
pub mod topology;
pub mod workload;
mod http_facts;
pub mod ports;
mod tap;
mod tls;
pub mod claim;
pub mod mesh;
pub mod run_folder;
pub mod runner;
pub mod scenario;
pub mod target;
pub mod names;
