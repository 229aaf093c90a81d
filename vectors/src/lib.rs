//! Certificate paths, each with the answer that a verifier must give, and the rule that decides it. Pure: no sockets, no async
//! runtime. The paths are made afresh each time; [`limbo`] reads those of others.

pub mod limbo;
mod matrix;
mod pki;
mod rsa;
mod table;
mod vector;

pub use matrix::Matrix;
pub use pki::Presented;
pub use vector::{Expected, Group, Vector};
