//! The documents, one file a scenario. A scenario says what its document promises, in the document's order; what a
//! target does to make it happen is not its business.

mod credentials;
mod egress_gateway_mutual;
mod egress_gateway_simple;
mod external_web_service;
mod origination_scope;
mod path_based_routing;
pub mod select;
mod sidecar_origination;
mod sites;
mod tls_verification;
mod traffic_fidelity;

use meshproof_harness::scenario::Scenario;

/// Every scenario, in the order of the catalogue.
pub static ALL: &[&Scenario] = &[
    &sidecar_origination::SCENARIO,
    &egress_gateway_simple::SCENARIO,
    &egress_gateway_mutual::SCENARIO,
    &path_based_routing::SCENARIO,
    &external_web_service::SCENARIO,
    &tls_verification::SCENARIO,
    &credentials::SCENARIO,
    &origination_scope::SCENARIO,
    &traffic_fidelity::SCENARIO,
];

/// The fixtures of a scenario, by file stem, built in.
macro_rules! fixtures {
    ($folder:literal: $($stem:literal),+ $(,)?) => {
        &[$(($stem, include_str!(concat!("../../fixtures/", $folder, "/", $stem, ".yaml")))),+]
    };
}
use fixtures;
