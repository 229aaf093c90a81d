//! Istio's rules, one test each: the situation as manifests, the outcome as a plan.

mod acceptance;
mod addresses;
mod answers;
mod bytes;
mod credentials;
mod destination_rules;
mod documents;
mod fuzz;
mod gateways;
mod inbound;
mod manifest;
mod mutations;
mod origination;
mod outbound;
mod refusals;
mod routes;
mod schema;
mod servers;
mod validation;
mod visibility;
mod world;
