//! What a scenario is written with: targets, external services, certificates, a workload client, access-log
//! reading, evidence, checks, waiting, and the runner. It never names a scenario.

pub mod access_log;
pub mod apps;
pub mod catalogue;
pub mod certificates;
pub mod claim;
pub mod digest;
pub mod external;
pub mod external_server;
pub mod feature;
pub mod fixtures;
mod http_facts;
pub mod mesh;
pub mod names;
pub mod ports;
pub mod resource;
pub mod run_folder;
pub mod runner;
pub mod scenario;
pub mod secret;
pub mod select;
pub mod store;
mod tap;
pub mod target;
pub mod timeouts;
mod tls;
pub mod token;
pub mod topology;
pub mod workload;
