//! The target against a Kubernetes API that misbehaves. Every request that a test makes must be in the table
//! of permissions.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]
#![allow(clippy::wildcard_enum_match_arm, reason = "what a test does not expect fails it")]

mod canary;
mod cleaning;
mod doctor;
mod fake_cluster;
mod in_force;
mod instance;
mod readiness;
mod refusals;
mod retries;
mod server;
mod service;
mod settings;
mod streams;
mod suite_image;
mod suite_pods;
mod watches;
