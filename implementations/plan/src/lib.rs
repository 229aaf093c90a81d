//! The plan: Istio resources to what each proxy must do, and the local target.

pub mod data_plane;
pub mod model;
