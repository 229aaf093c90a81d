//! What a scenario is written with: targets, external services, certificates, a workload client, access-log
//! reading, evidence, checks, waiting, and the runner. It never names a scenario.

pub mod access_log;
pub mod backoff;
pub mod catalogue;
pub mod certificates;
pub mod claim;
pub mod client_hello;
pub mod conversation;
pub mod delivery;
pub mod digest;
mod encoding;
pub mod external;
pub mod external_server;
pub mod feature;
pub mod fixtures;
pub mod forecast;
pub mod grpc;
pub mod holding;
pub mod ledger;
pub mod lines;
pub mod load;
pub mod manifest;
pub mod mesh;
mod probe;
pub mod redact;
mod report_size;
pub mod run_folder;
pub mod runner;
pub mod scenario;
pub mod secret;
pub mod select;
pub mod served;
pub mod store;
pub mod target;
pub mod timeouts;
pub mod token;
pub mod topology;
pub mod trace;
pub mod traffic;
mod turn;
pub mod workload;

pub use meshproof_model::names;
